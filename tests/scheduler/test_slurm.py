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


@isolated(*SLURM, "qsub")
def test_runs():
    """mpirun and srun over two nodes, and qsub; the same bits as without a scheduler."""
    slurm, project = start_slurm(), Project()
    on_two = ("sbatch", "--nodes=2", "--ntasks-per-node=2", "jobs/slurm/run.sh")
    jobs = {"mpirun": submit(*on_two, project.input("mpirun")),
            "srun": submit(*on_two, project.input("srun"), AUTOLORA_LAUNCHER="srun"),
            "set": submit("sbatch", "--ntasks=3", "--time=5", "jobs/slurm/run.sh", project.input("other"),
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
    assert slurm.field(jobs["mpirun"], "NodeList") == "n[1-2]"
    assert "resumed" not in texts("outputs/*.out")
    job = submit("sbatch", "jobs/slurm/run.sh", "inputs/nowhere.json")
    assert slurm.wait(job) == "FAILED" and slurm.field(job, "ExitCode") == "2:0", texts("outputs/*.out")


LONG = {"retrain.steps": 400, "output.report_seconds": 0.05, "retrain.evaluate_every_epoch": False}


def wait_for_retraining(name):
    path = pathlib.Path(f"outputs/{name}/progress.jsonl")
    wait_until(lambda: path.exists() and "retrain" in path.read_text(), 60, lambda: texts("outputs/*.out"))


def send(number, command):
    """A signal to the processes whose command line begins with this, or with a shell and this."""
    lines = {int(folder.name): (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
             for folder in pathlib.Path("/proc").glob("[0-9]*")}
    pids = [pid for pid, line in lines.items() if re.match(rf"(/bin/bash )?{command}", line)]
    assert pids, command
    for pid in pids:
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


@isolated(*SLURM)
def test_stopped():
    """A cancelled job is not queued again, and goes on when it is submitted once more; one that got USR1 is."""
    slurm, project = start_slurm(), Project(LONG)
    paths = [project.input("cancelled"), project.input("restarted")]
    first = submit("sbatch", "--ntasks=2", "jobs/slurm/run.sh", paths[0])
    second = submit("sbatch", "--ntasks=2", "jobs/slurm/run.sh", paths[1], AUTOLORA_LAUNCHER="srun")
    for job, name, number in ((first, "cancelled", "TERM"), (second, "restarted", "USR1")):
        wait_for_retraining(name)
        run("scancel", "--batch", f"--signal={number}", job)
    assert slurm.wait(first) == "FAILED" and slurm.field(first, "ExitCode") == "75:0", texts("outputs/*.out")
    again = submit("sbatch", "--ntasks=3", "jobs/slurm/run.sh", paths[0])
    expected = project.reference()
    for job, name, restarts in ((again, "cancelled", "0"), (second, "restarted", "1")):
        assert slurm.wait(job) == "COMPLETED", texts("outputs/*.out")
        assert slurm.field(job, "Restarts") == restarts
        assert "resumed" in pathlib.Path(f"outputs/autolora-{job}.out").read_text(), texts("outputs/*.out")
        project.assert_result(name, expected)
    assert slurm.field(first, "Restarts") == "0" and slurm.state(first) == "FAILED"


# The program, but for the first attempts of some points: one is killed as if it needed more memory than there is, one
# does not end.
UNLUCKY = """#!/bin/sh
case $2 in
*/0003.json) [ "$SLURM_MEM_PER_NODE" -gt 100 ] || kill -9 $$ ;;
*/0005.json) [ -e second ] || exec sleep 600 ;;
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
    data = pathlib.Path("later").absolute()
    base = project.input("base")
    known = str(project.job.data)
    description = {"name": "six", "base": str(base), "points": [{"adapter.rank": 2}, {"adapter.rank": 4}],
                   "zip": {"optimizer.lr": [1e-3, 1e-2, 1e-3], "task.data_dir": [known, known, str(data)]},
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
    assert states == ["done", "done", "done", "out of memory", "failed (3)", "running"], lines
    assert "3 done" in lines[6] and "1 running" in lines[6], lines
    send(signal.SIGKILL, r"\S*/slurm_script")
    slurm.wait(array)

    rows = list(csv.DictReader(sweep("collect", folder).splitlines()))
    states = [row["state"] for row in rows]
    assert states == ["done"] * 3 + ["out of memory", "failed (3)", "stopped early"], states
    assert [bool(row["score"]) for row in rows] == [True] * 3 + [False] * 3
    data.symlink_to(project.job.data)
    pathlib.Path("second").touch()
    commands = sweep("resubmit", folder, "--failed", "--scheduler", "slurm", "--dry-run")
    assert commands.count("sbatch") == 3 and "--mem=200 " in commands and "--time=20 " in commands, commands
    assert sweep("resubmit", folder, "--failed", "--scheduler", "slurm").count("submitted") == 3
    wait_until(lambda: sweep("status", folder).endswith("\n6 done\n"), 60, lambda: sweep("status", folder), 0.5)
    sweep("collect", folder, "--out", "six.csv")
    with open("six.csv") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 6 and all(row["provenance.mpi_ranks"] == "2" for row in rows), rows
    for numbers, rate in (((1, 5), 1e-3), ((3,), 1e-2)):
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
    """Ranks on two hosts without a scheduler, as under a PBS that Open MPI does not know: a file of hosts, a remote
    shell."""
    folder = new_folder()
    hosts, project = Hosts(3, folder), Project()
    environment = {**os.environ, "OMPI_MCA_plm_rsh_agent": str(hosts.remote_shell), "AUTOLORA_THREADS": "1"}
    expected = project.reference()

    def launch(path, nodes):
        (folder / "nodes").write_text("".join(f"{name}\n" for name in nodes))
        ran = subprocess.run([*hosts.on("n1"), "bash", "-c", '. jobs/launch.sh && launch "$@"', "bash", path],
                             env={**environment, "PBS_NODEFILE": str(folder / "nodes")}, capture_output=True, text=True)
        return ran.returncode, ran.stdout + ran.stderr
    code, output = launch(project.input("hosts"), ["n1", "n1", "n2", "n3"])
    assert code == 0, output
    project.assert_result("hosts", expected, 4)
    assert sorted((folder / "calls").read_text().split()) == ["n2", "n3"]
