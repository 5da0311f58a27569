"""The job scripts, unchanged, under a real Slurm, and as far as it goes with its qsub; runs over several hosts."""
import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parent.parent / "runs")]

from cluster import Hosts, Slurm, isolated, run, wait_until  # noqa: E402
from common import ROOT, new_folder  # noqa: E402
from project import Project, sweep, texts  # noqa: E402

SLURM = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")


def start_slurm(cores=4):
    folder = new_folder()
    return Slurm(Hosts(2, folder), cores)


def submit(*command, **variables):
    return run(*command, env={**os.environ, **variables}).split()[-1]


def test_syntax():
    """On any machine."""
    scripts = [path for path in (ROOT / "jobs").rglob("*.sh") if not path.name.startswith("local")]
    assert len(scripts) >= 7
    for path in scripts:
        run("bash", "-n", path)


def threads(name):
    return json.loads(pathlib.Path(f"outputs/{name}/result.json").read_text())["provenance"]["threads_per_rank"]


@isolated(*SLURM, "qsub")
def test_runs():
    """mpirun and srun over two nodes, and qsub; the same bits as without a scheduler."""
    slurm, project = start_slurm(), Project()
    on_two = ("sbatch", "--nodes=2", "--ntasks-per-node=2", "jobs/slurm/run.sh")
    jobs = {"mpirun": submit(*on_two, project.input("mpirun")),
            "srun": submit(*on_two, project.input("srun"), AUTOLORA_LAUNCHER="srun"),
            "set": submit("sbatch", "--ntasks=3", "--cpus-per-task=2", "--nodes=2", "jobs/slurm/run.sh", project.input("other"),
                          "--set", "run.output_dir=outputs/set"),
            "qsub": submit("qsub", "-l", "select=2:ncpus=2:mpiprocs=2,walltime=00:10:00", "-v",
                           f"INPUT={project.input('qsub')}", "jobs/pbs/run.sh"),
            "directives": submit("qsub", "-v", f"INPUT={project.input('directives')}", "jobs/pbs/run.sh")}
    expected = project.reference()
    for name, job in jobs.items():
        assert slurm.wait(job) == "COMPLETED", f"{name}: {texts('outputs/*.out')}{texts('*.[oe]*')}"
    for name, num_ranks in (("mpirun", 4), ("srun", 4), ("set", 3), ("qsub", 4), ("directives", 4)):
        project.assert_result(name, expected, num_ranks)
    for name in ("qsub", "directives"):
        seconds = json.loads(pathlib.Path(f"outputs/{name}/input.json").read_text())["output"]["wall_time"]
        limit = {"qsub": 600, "directives": 3600}[name]
        assert limit - 60 < seconds <= limit, (name, seconds)
        assert threads(name) == 1
    assert threads("set") == 2
    for name in ("mpirun", "srun", "qsub"):
        assert slurm.field(jobs[name], "NodeList") == "n[1-2]"
    assert "resumed" not in texts("outputs/*.out")
    job = submit("sbatch", "jobs/slurm/run.sh", "inputs/nowhere.json")
    assert slurm.wait(job) == "FAILED" and slurm.field(job, "ExitCode") == "2:0", texts("outputs/*.out")


LONG = {"retrain.steps": 400, "output.report_seconds": 0.05, "retrain.evaluate_every_epoch": False}


def wait_for_retraining(name):
    path = pathlib.Path(f"outputs/{name}/progress.jsonl")
    wait_until(lambda: path.exists() and "retrain" in path.read_text(), 60, lambda: texts("outputs/*.out"))


def send(number, command, count=None):
    """A signal to the processes whose command line begins with this, or with a shell and this; to `count` of them."""
    lines = {int(folder.name): (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
             for folder in pathlib.Path("/proc").glob("[0-9]*")}
    pids = [pid for pid, line in lines.items() if re.match(rf"(/bin/bash )?{command}", line)]
    assert pids, command
    for pid in pids[:count]:
        os.kill(pid, number)


@isolated(*SLURM)
def test_time_limit():
    """Its time is nearly over: a checkpoint, the queue again, the rest."""
    slurm, project = start_slurm(), Project(LONG)
    job = submit("sbatch", "--time=2", "jobs/slurm/run.sh", project.input("limited"))
    wait_for_retraining("limited")
    # slurmctld looks at the times every 30 s, beginning with its start; on any machine the run lasts longer.
    send(signal.SIGSTOP, "bin/autolora run")
    expected = project.reference()
    time.sleep(max(0, 32 - (time.monotonic() - slurm.started)))
    send(signal.SIGCONT, "bin/autolora run")
    assert slurm.wait(job, 80) == "COMPLETED", texts("outputs/*.out")
    output = pathlib.Path(f"outputs/autolora-{job}.out").read_text()
    assert int(slurm.field(job, "Restarts")) >= 1 and "SIGUSR1" in output and "resumed" in output, output
    project.assert_result("limited", expected, 4)


@isolated(*SLURM, "qsub", "qstat")
def test_stopped():
    """USR1: the job is queued again. TERM: it is not, and goes on when it is submitted once more. Under PBS a successor
    goes on. A plain scancel is final."""
    slurm, project = start_slurm(8), Project(LONG)
    paths = {name: project.input(name) for name in ("restarted", "stopped", "succeeded", "cancelled")}
    script = "jobs/slurm/run.sh"
    commands = {"restarted": ("sbatch", "--ntasks=2", script, paths["restarted"]),
                "stopped": ("sbatch", "--ntasks=2", script, paths["stopped"]),
                "succeeded": ("qsub", "-l", "walltime=02:00:00", "-v", f"INPUT={paths['succeeded']}",
                              "jobs/pbs/run.sh"),
                "cancelled": ("sbatch", "--ntasks=2", script, paths["cancelled"])}
    how = {"stopped": ["--batch", "--signal=TERM"], "cancelled": []}
    jobs = {}
    for name, command in commands.items():  # one after the other: none ends before it is told to
        jobs[name] = submit(*command, **({"AUTOLORA_LAUNCHER": "srun"} if name == "restarted" else {}))
        wait_for_retraining(name)
        run("scancel", *how.get(name, ["--batch", "--signal=USR1"]), jobs[name])
    expected = project.reference()

    for name in ("stopped", "succeeded"):
        assert slurm.wait(jobs[name]) == "FAILED", texts("outputs/*.out")
        assert slurm.field(jobs[name], "ExitCode") == "75:0", texts("outputs/*.out") + texts("*.[oe]*")
    assert slurm.wait(jobs["cancelled"]) == "CANCELLED"
    submitted = pathlib.Path(f"run.sh.o{jobs['succeeded']}").read_text().split()[-1]
    ends = {"stopped": submit("sbatch", "--ntasks=3", script, paths["stopped"]), "succeeded": submitted,
            "restarted": jobs["restarted"]}
    for name, job in ends.items():
        assert slurm.wait(job) == "COMPLETED", texts("outputs/*.out") + texts("*.[oe]*")
        project.assert_result(name, expected)
        assert "resumed" in texts(f"outputs/autolora-{job}.out") + texts(f"run.sh.o{job}"), name
    assert slurm.field(submitted, "TimeLimit") == "02:00:00"
    restarts = {name: slurm.field(job, "Restarts") for name, job in jobs.items()}
    assert restarts == {"restarted": "1", "stopped": "0", "succeeded": "0", "cancelled": "0"}
    assert slurm.state(jobs["cancelled"]) == "CANCELLED"


@isolated(*SLURM)
def test_killed_rank():
    """The job ends; submitted again it goes on from its last checkpoint."""
    slurm, project = start_slurm(), Project({**LONG, "output.checkpoint_every": 5})
    paths = {name: project.input(name) for name in ("mpirun", "srun")}
    jobs = {name: submit("sbatch", "--nodes=2", "--ntasks=2", "jobs/slurm/run.sh", path, AUTOLORA_LAUNCHER=name)
            for name, path in paths.items()}
    for name in jobs:
        wait_for_retraining(name)
        send(signal.SIGKILL, f"bin/autolora run {paths[name]}", 1)
    for name, job in jobs.items():
        assert slurm.wait(job, 20) == "FAILED", name
        assert slurm.field(job, "ExitCode") == "137:0" and slurm.field(job, "Restarts") == "0"
    expected = project.reference()
    for name, job in {name: submit("sbatch", "jobs/slurm/run.sh", path) for name, path in paths.items()}.items():
        assert slurm.wait(job) == "COMPLETED" and "resumed" in texts(f"outputs/autolora-{job}.out"), texts("outputs/*.out")
        project.assert_result(name, expected)


# The program, but for the first attempts of some points: one does not end, one is killed as if it needed more memory
# than there is, one stops with a checkpoint.
UNLUCKY = """#!/bin/sh
case $2 in
*/0002.json) [ -e second ] || exec sleep 600 ;;
*/0003.json) [ "$SLURM_MEM_PER_NODE" -gt 100 ] || kill -9 $$ ;;
*/0005.json) [ -n "$SLURM_RESTART_COUNT" ] || exit 75 ;;
esac
exec bin/autolora "$@"
"""


@isolated(*SLURM)
def test_sweep():
    slurm, project = start_slurm(8), Project()
    pathlib.Path("unlucky").write_text(UNLUCKY)
    os.chmod("unlucky", 0o755)
    with open(project.local, "a") as local:
        local.write("AUTOLORA=./unlucky\n")
    later = pathlib.Path("later").absolute()
    values = [(rank, rate, str(project.job.data)) for rank in (2, 4) for rate in (1e-3, 1e-2, 1e-3)]
    values[4] = (4, 1e-2, str(later))
    description = {"name": "six", "base": str(project.input("base")),
                   "points": [dict(zip(("adapter.rank", "optimizer.lr", "task.data_dir"), value)) for value in values],
                   "resources": {"ranks": 2, "minutes": 10, "memory_mb": 100}}
    pathlib.Path("six.json").write_text(json.dumps(description))
    folder = "outputs/sweeps/six"

    submitted = sweep("submit", "six.json", "--scheduler", "slurm")
    array = submitted.split()[-1]
    assert submitted.count("sbatch") == 1 and sweep("submit", "six.json", "--scheduler", "slurm") == "nothing to submit\n"
    wait_until(lambda: "1 running" in (lines := sweep("status", folder)) and "waiting" not in lines, 60,
               lambda: sweep("status", folder) + slurm.logs(), 0.5)
    lines = sweep("status", folder).splitlines()
    states = [line[6:23].strip() for line in lines[:6]]
    assert states == ["done", "done", "running", "out of memory", "failed (3)", "done"], lines
    assert lines[6] == "3 done, 1 running, 1 out of memory, 1 failed (3)", lines
    assert [slurm.field(f"{array}_{i}", "Restarts") for i in range(6)] == list("000001")
    send(signal.SIGKILL, r"\S*/slurm_script")
    slurm.wait(array)

    rows = list(csv.DictReader(sweep("collect", folder).splitlines()))
    states = [row["state"] for row in rows]
    assert states == ["done", "done", "stopped early", "out of memory", "failed (3)", "done"], states
    assert [bool(row["score"]) for row in rows] == [state == "done" for state in states]
    later.symlink_to(project.job.data)
    pathlib.Path("second").touch()
    commands = sweep("resubmit", folder, "--failed", "--scheduler", "slurm", "--dry-run")
    assert commands.count("sbatch") == 3 and "--mem=200 " in commands and "--time=20 " in commands, commands
    assert sweep("resubmit", folder, "--failed", "--scheduler", "slurm").count("submitted") == 3
    wait_until(lambda: sweep("status", folder).endswith("\n6 done\n"), 60, lambda: sweep("status", folder), 0.5)
    sweep("collect", folder, "--out", "six.csv")
    with open("six.csv") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 6 and all(row["provenance.mpi_ranks"] == "2" for row in rows), rows
    for numbers, rate in (((3, 5), 1e-3), ((4,), 1e-2)):
        keys = {"adapter.rank": 4, "optimizer.lr": rate}
        dev = project.job.results(1, keys, f"rate{rate}").result["metrics"]["dev"]
        for row in (rows[i] for i in numbers):
            assert (row["adapter.rank"], float(row["optimizer.lr"])) == ("4", rate), row
            assert float(row["metrics.dev.loss"]) == dev["loss"], (row, dev)


@isolated(*SLURM, "qsub", "qstat")
def test_sweep_with_qsub():
    slurm, project = start_slurm(), Project()
    for name, seeds in (("one", [7]), ("two", [7, 8])):
        description = {"name": name, "base": str(project.input("base")), "seeds": seeds, "resources": {"ranks": 2}}
        pathlib.Path("sweep.json").write_text(json.dumps(description))
        sweep("submit", "sweep.json", "--scheduler", "pbs")
        folder = f"outputs/sweeps/{name}"
        assert sweep("submit", "sweep.json", "--scheduler", "pbs") == "nothing to submit\n", sweep("status", folder)
        wait_until(lambda: sweep("status", folder).endswith(f"\n{len(seeds)} done\n"), 60,
                   lambda: sweep("status", folder) + texts("outputs/sweeps/*/*.out") + slurm.logs(), 0.5)


@isolated()
def test_hosts():
    """Ranks on three hosts without a scheduler, as under a PBS that Open MPI does not know: a file of hosts, a remote
    shell."""
    folder = new_folder()
    hosts, project = Hosts(3, folder), Project()
    environment = {**os.environ, "OMPI_MCA_plm_rsh_agent": str(hosts.remote_shell), "AUTOLORA_THREADS": "1"}
    pathlib.Path("show").write_text('#!/bin/sh\necho "at $(hostname) $OMP_NUM_THREADS"\n')
    os.chmod("show", 0o755)
    expected = project.reference()

    def launch(path, **variables):
        (folder / "nodes").write_text("n1\nn2\nn1\nn3\n")
        return run(*hosts.on("n1"), "bash", "-c", '. jobs/launch.sh && launch "$@"', "bash", path,
                   env={**environment, "PBS_NODEFILE": str(folder / "nodes"), **variables})
    shown = launch("x", AUTOLORA="./show", AUTOLORA_THREADS="3")
    assert sorted(re.findall("at .*", shown)) == ["at n1 3", "at n1 3", "at n2 3", "at n3 3"], shown
    (folder / "calls").unlink()
    launch(project.input("hosts"))
    project.assert_result("hosts", expected, 4)
    assert sorted((folder / "calls").read_text().split()) == ["n2", "n3"]
