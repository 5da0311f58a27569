"""jobs/sweep and the job scripts without a scheduler."""
import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from common import ROOT, cases, start
from project import Project, sweep, texts

# A program that takes what is asked of the real one and answers at once.
STANDIN = """#!/bin/sh
[ "$1" = run ] && [ "$3" = --resume ] || exit 99
echo "$2 threads $OMP_NUM_THREADS"
folder=${2%.json}
[ ! -e "$folder/exit_code" ] || exit 98
case $2 in
*/0001.json) exit 5 ;;
*/0002.json) kill -9 $$ ;;
*/0003.json) [ -e second ] || exit 75 ;;
esac
echo '{"score": 0.5, "metrics": {"dev": {"loss": 1.25}}, "timers": {"setup": {"mean": 1}}, "list": [1]}' \\
    > "$folder/result.json"
"""


def write_program(path, text):
    pathlib.Path(path).write_text(text)
    os.chmod(path, 0o755)


def start_project(program=STANDIN):
    project = Project()
    write_program("standin", program)
    with open(project.local, "a") as local:
        local.write("AUTOLORA=./standin\n")
    return project


def write_sweep(**description):
    pathlib.Path("inputs/base.json").write_text('{"adapter": {"rank": 8}, "run": {"seed": 3}}')
    pathlib.Path("sweep.json").write_text(json.dumps({"name": "s", "base": "inputs/base.json", **description}))
    return "sweep.json"


def rows_of(folder="outputs/sweeps/s"):
    return list(csv.DictReader(sweep("collect", folder).splitlines()))


def test_points():
    """grid x zip x points x seeds, the last one fastest; each has an input of its own."""
    start_project()
    path = write_sweep(set={"task.max_length": 9}, grid={"adapter.rank": [1, 2], "adapter.alpha": [4]},
                       zip={"optimizer.lr": [0.1, 0.2], "retrain.epochs": [1, 3]},
                       points=[{"adapter.method": "lora"}, {"search.steps": 3}], seeds=[5, 6])
    sweep("submit", path, "--dry-run")
    rows = rows_of()
    assert [row["point"] for row in rows] == [f"{i:04}" for i in range(16)]
    keys = ("adapter.rank", "adapter.alpha", "optimizer.lr", "retrain.epochs", "adapter.method", "search.steps",
            "run.seed")
    values = [tuple(row[key] for key in keys) for row in rows]
    assert values == [(rank, "4", *pair, *method, seed) for rank in "12" for pair in (("0.1", "1"), ("0.2", "3"))
                      for method in (("lora", ""), ("", "3")) for seed in "56"]
    assert {row["state"] for row in rows} == {"not submitted"}
    tree = json.loads(pathlib.Path("outputs/sweeps/s/points/0010.json").read_text())
    assert tree == {"adapter": {"rank": 2, "alpha": 4}, "optimizer": {"lr": 0.1}, "retrain": {"epochs": 1},
                    "search": {"steps": 3}, "task": {"max_length": 9},
                    "run": {"seed": 5, "name": "s-0010", "output_dir": "outputs/sweeps/s/points/0010"}}


def test_sweeps_of_the_repository():
    """Their keys are good; what is missing is the model. Points that differ in files and seeds alone are one."""
    start_project()
    paths = sorted((ROOT / "inputs" / "sweeps").glob("*.json"))
    assert paths
    for path in paths:
        base = json.loads(path.read_text())["base"]
        pathlib.Path(base).write_text((ROOT / base).read_text())
        sweep("submit", str(path), "--dry-run")
        points = {}
        for point in pathlib.Path("outputs/sweeps", path.stem, "points").glob("*.json"):
            tree = json.loads(point.read_text())
            for section, key in (("run", "name"), ("run", "output_dir"), ("run", "seed"), ("task", "data_dir"),
                                 ("model", "path"), ("adapter", "ranks_from")):
                tree.get(section, {}).pop(key, None)
            points[json.dumps(tree, sort_keys=True)] = point
        for point in points.values():
            outcome = start(["run", point, "--set", "model.path=nowhere"])
            assert outcome.code == 3 and "nowhere/config.json" in outcome.err, outcome


BAD = {
    "unknown": ({"gird": {}}, "unknown key gird"), "name": ({"name": "a/b"}, "name: expected"),
    "grid": ({"grid": {"adapter.rank": 4}}, "grid: expected"), "empty": ({"grid": {"adapter.rank": []}}, "grid: expected"),
    "path": ({"set": {"rank": 4}}, "set: expected"),
    "zip": ({"zip": {"a.b": [1], "a.c": [1, 2]}}, "lists of one length"), "points": ({"points": {}}, "points: expected"),
    "seeds": ({"seeds": [1.5]}, "seeds: expected"), "resources": ({"resources": {"cores": 4}}, "resources: expected"),
    "no_time": ({"resources": {"minutes": 0}}, "resources: expected"),
    "twice": ({"grid": {"run.seed": [1]}, "seeds": [2]}, "run.seed is given twice"),
    "own": ({"set": {"run.output_dir": "x"}}, "run.output_dir is the sweep's own"),
    "base": ({"base": "nowhere.json"}, "nowhere.json: No such file"), "dir": ({"dir": "a,b"}, "dir: expected"),
}


@cases(**BAD)
def test_bad_sweeps(case):
    start_project()
    keys, message = case
    assert message in sweep("submit", write_sweep(**keys), "--dry-run", code=2)
    assert not list(pathlib.Path("outputs").iterdir())


def test_bad_files():
    start_project()
    for text, message in (("{", "not JSON"), ("[]", "expected an object"), ("{}", "name is missing")):
        pathlib.Path("sweep.json").write_text(text)
        assert message in sweep("submit", "sweep.json", code=2)
    assert "nowhere/sweep.json: No such file" in sweep("status", "nowhere", code=2)
    sweep("submit", write_sweep(seeds=[1]), "--dry-run")
    assert "another sweep" in sweep("submit", write_sweep(seeds=[2]), code=2)
    ran = subprocess.run(["../jobs/sweep", "status", "x"], cwd="inputs", capture_output=True, text=True)
    assert ran.returncode == 2 and "project's folder" in ran.stderr, ran


def test_local():
    """One point runs out of memory, one is killed, one stops in between and goes on."""
    start_project()
    resources = {"ranks": 2, "threads": 3, "memory_mb": 100}
    sweep("submit", write_sweep(seeds=[1, 2, 3, 4, 5], resources=resources), "--jobs", "2", code=1)
    folder = pathlib.Path("outputs/sweeps/s")
    assert [row["state"] for row in rows_of()] == ["done", "out of memory", "out of memory", "to be continued", "done"]
    assert (folder / "points/0004/output.txt").read_text() == f"{folder}/points/0004.json threads 3\n" * 2
    assert sweep("status", folder).endswith("\n2 done, 2 out of memory, 1 to be continued\n")
    planned = sweep("resubmit", folder, "--failed", "--dry-run")
    assert planned.count('"memory_mb": 200') == 2 and planned.count("run outputs") == 3, planned
    assert not (folder / "points/0001/resources.json").exists()
    write_program("standin", STANDIN.replace("exit 5", ":").replace("kill -9 $$", ":"))
    pathlib.Path("second").touch()
    sweep("resubmit", folder, "--failed", "--jobs", "3")
    memory = [json.loads((folder / f"points/{name}/resources.json").read_text())["memory_mb"]
              for name in ("0001", "0002", "0003")]
    assert memory == [200, 200, 100]
    assert sweep("submit", "sweep.json") == "nothing to submit\n"
    shutil.rmtree(folder / "points/0002")
    assert "points/0002  done" in sweep("submit", "sweep.json")
    sweep("collect", folder, "--out", "all.csv")
    table = pathlib.Path("all.csv").read_text().splitlines()
    assert table[0] == "point,state,run.seed,score,metrics.dev.loss"
    assert table[1:] == [f"000{i},done,{i + 1},0.5,1.25" for i in range(5)]


def test_local_stops_with_checkpoints():
    """The real program. A Ctrl-C lets it write its checkpoint; submitted again it goes on."""
    os.environ["OMPI_MCA_mpi_yield_when_idle"] = "1"
    project = Project({"output.report_seconds": 0})
    base = str(project.input("real"))
    expected = project.job.results(1, {"retrain.steps": 600, "run.seed": 2}, "expected").result
    write_sweep(base=base, set={"retrain.steps": 600}, seeds=[2, 3], resources={"ranks": 2})
    with subprocess.Popen(["jobs/sweep", "submit", "sweep.json"], stdout=subprocess.PIPE, text=True,
                          preexec_fn=os.setpgrp) as process:
        progress = pathlib.Path("outputs/sweeps/s/points/0000/progress.jsonl")
        while not (progress.exists() and "retrain" in progress.read_text()):
            assert process.poll() is None, texts("outputs/sweeps/s/points/*/output.txt")
            time.sleep(0.01)
        assert "1 running" in (status := sweep("status", "outputs/sweeps/s")), status
        assert "not submitted" in status
        second = sweep("submit", "sweep.json", "--dry-run")
        assert "0001.json" in second and "0000.json" not in second, second
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output = process.communicate()[0]
        assert process.returncode == 1 and "0000  to be continued" in output, output
    assert "1 to be continued, 1 not submitted" in sweep("status", "outputs/sweeps/s")
    sweep("submit", "sweep.json")
    assert "resumed" in texts("outputs/sweeps/s/points/0000/output.txt")
    row, other = rows_of()
    assert float(row["metrics.dev.loss"]) == expected["metrics"]["dev"]["loss"] != float(other["metrics.dev.loss"])


# ---- schedulers that only note what they are asked ----


def fake_schedulers(**programs):
    """In place of the real ones; `asked` has the arguments."""
    folder = pathlib.Path("fake").absolute()
    folder.mkdir(exist_ok=True)
    for name, text in programs.items():
        write_program(folder / name, f'#!/bin/sh\necho "{name} $*" >> {folder}/asked\n{text}\n')
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    asked = folder / "asked"

    def take():
        lines = asked.read_text().splitlines() if asked.exists() else []
        asked.unlink(missing_ok=True)
        return lines
    return take


def test_slurm_arrays():
    """An array for each group of points with equal resources, with a list of points of its own."""
    start_project()
    asked = fake_schedulers(sbatch="echo '42;here'", squeue="cat queue 2> /dev/null")
    write_sweep(seeds=[1, 2, 3, 4], resources={"ranks": 2, "threads": 3, "minutes": 4, "memory_mb": 50})
    sweep("submit", "sweep.json", "--scheduler", "slurm", "--jobs", "2", "--", "--partition=x")
    command, = [line for line in asked() if line.startswith("sbatch")]
    folder = "outputs/sweeps/s"
    assert command == (
        f"sbatch --parsable --array=0-3%2 --ntasks=2 --cpus-per-task=3 --time=4 --signal=B:USR1@60 --mem=50 "
        f"--output={folder}/slurm-%A_%a.out --export=ALL,SWEEP_TASKS={folder}/tasks-000 --partition=x "
        "jobs/slurm/array.sh"), command
    pathlib.Path("queue").write_text("42_0 PENDING\n42_1 RUNNING\n42_2 COMPLETING\n7 RUNNING\n")
    pathlib.Path(folder, "points/0001/exit_code").write_text("75\n")  # of the attempt before
    assert [row["state"] for row in rows_of()] == ["waiting", "running", "running", "stopped early"]
    pathlib.Path("queue").write_text("42_0 PENDING\n")
    pathlib.Path(folder, "points/0001/exit_code").write_text("137\n")
    pathlib.Path(folder, "points/0002/exit_code").write_text("5\n")
    sweep("resubmit", folder, "--failed", "--scheduler", "slurm")
    commands = [line for line in asked() if line.startswith("sbatch")]
    assert len(commands) == 2 and "--array=0-1 " in commands[0] and "--mem=100 " in commands[0], commands
    assert "--array=0-0 " in commands[1] and "--mem=100 " in commands[1] and "--time=8 " in commands[1]
    assert not list(pathlib.Path(folder).glob("points/*/exit_code"))
    lists = [pathlib.Path(folder, f"tasks-00{i}").read_text().split() for i in range(3)]
    assert [[line[-4:] for line in lines] for lines in lists] == [["0000", "0001", "0002", "0003"], ["0001", "0002"],
                                                                  ["0003"]]
    os.environ["PATH"] = os.environ["PATH"].partition(":")[2]
    fake_schedulers(squeue="exit 1")
    assert {row["state"] for row in rows_of()} == {"submitted"}
    assert sweep("submit", "sweep.json", "--scheduler", "slurm") == "nothing to submit\n"


def test_failing_scheduler():
    start_project()
    fake_schedulers(sbatch="exit 1")
    assert "sbatch failed" in sweep("submit", write_sweep(), "--scheduler", "slurm", code=1)
    assert [row["state"] for row in rows_of()] == ["not submitted"]
    sweep("submit", write_sweep(name="t", seeds=[1, 2]), code=1)
    sweep("resubmit", "outputs/sweeps/t", "--failed", "--scheduler", "slurm", code=1)
    assert [row["state"] for row in rows_of("outputs/sweeps/t")] == ["done", "out of memory"]


# As a real PBS prints it, long values over several lines.
QSTAT = """case $1$2 in -f*)
    printf '%s\\n' "Job Id: $2" '    Job_Name = x' "    job_state = $(cat state)" '    Resource_List.ncpus = 6' \\
        '    Resource_List.select = 1:ncpus=2:mpiprocs=2+1:ncpus=4' "$(printf '\\t'):mpiprocs=2" \\
        '    Resource_List.walltime = 01:00:10' '    stime = Tue'
esac"""


def pbs_job(script, variables):
    """Runs a script as PBS would, outside of the project's folder; its exit code and output."""
    folder = pathlib.Path.cwd()
    (folder / "home").mkdir(exist_ok=True)
    (folder / "nodes").write_text("localhost\nlocalhost\n")
    environment = {**os.environ, "PBS_O_WORKDIR": str(folder), "PBS_JOBID": "7.here", "OMP_NUM_THREADS": "6",
                   "PBS_NODEFILE": str(folder / "nodes"), **variables}
    ran = subprocess.run(["bash", str(folder / script)], cwd="home", env=environment, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


STOPPING = """#!/bin/sh
echo "$* threads $OMP_NUM_THREADS"
exit 75
"""


def test_pbs_successor():
    """A run that stops submits a job that asks for the same; the program knows the end of its time."""
    start_project(STOPPING)
    pathlib.Path("state").write_text("R")
    asked = fake_schedulers(qstat=QSTAT, qsub="case $1 in -J) echo '9[].here' ;; *) echo 8.here ;; esac")
    code, output = pbs_job("jobs/pbs/run.sh", {"INPUT": "inputs/mine.json"})
    lines = [line for line in output.splitlines() if line.startswith("run ")]
    assert code == 75 and len(lines) == 2, output
    seconds = int(lines[0].partition("wall_time=")[2].split()[0])
    assert lines[0].startswith("run inputs/mine.json --set output.wall_time=") and 3600 < seconds <= 3610, lines
    assert lines[0].endswith(" --resume threads 1"), lines
    request = "select=1:ncpus=2:mpiprocs=2+1:ncpus=4:mpiprocs=2,walltime=01:00:10"
    assert [line for line in asked() if line.startswith("qsub")] == [
        f"qsub -l {request} -v INPUT=inputs/mine.json,AUTOLORA_THREADS=1 jobs/pbs/run.sh"]

    write_sweep(seeds=[1, 2], resources={"ranks": 2, "threads": 2, "minutes": 90, "memory_mb": 70})
    sweep("submit", "sweep.json", "--scheduler", "pbs")
    command, = [line for line in asked() if line.startswith("qsub")]
    tasks = "outputs/sweeps/s/tasks-000"
    assert command == (f"qsub -J 0-1 -l select=1:ncpus=4:mpiprocs=2:mem=70mb,walltime=01:30:00 -o "
                       f"{tasks}.^array_index^.out -v SWEEP_TASKS={tasks},AUTOLORA_THREADS=2 jobs/pbs/array.sh")
    assert pathlib.Path("outputs/sweeps/s/points/0001/job").read_text() == "pbs 9[1].here\n"
    code, output = pbs_job("jobs/pbs/array.sh", {"SWEEP_TASKS": tasks, "PBS_ARRAY_INDEX": "1", "AUTOLORA_THREADS": "2"})
    assert code == 75, output
    assert "threads 2" in texts("outputs/sweeps/s/points/0001/output.txt")
    assert pathlib.Path("outputs/sweeps/s/points/0001/job").read_text() == "pbs 8.here\n"
    assert (f"qsub -l {request} -v SWEEP_TASKS={tasks},SWEEP_INDEX=1,AUTOLORA_THREADS=2 jobs/pbs/array.sh"
            in asked()), output
    code, output = pbs_job("jobs/pbs/array.sh", {"SWEEP_TASKS": tasks, "PBS_ARRAY_INDEX": "2"})
    assert code == 2 and "no folder ''" in output, output
    for state, meaning in (("Q", "waiting"), ("R", "running"), ("F", "to be continued")):
        pathlib.Path("state").write_text(state)
        assert rows_of()[1]["state"] == meaning


def test_scripts_say_where_they_have_to_start():
    start_project()
    for script, variables in (("slurm/run.sh", {}), ("slurm/array.sh", {}), ("pbs/run.sh", {"PBS_O_WORKDIR": "/"})):
        ran = subprocess.run(["bash", pathlib.Path("jobs", script).absolute(), "x"], cwd="/", capture_output=True,
                             text=True, env={**os.environ, **variables})
        assert ran.returncode == 2 and "jobs/launch.sh" in ran.stderr, ran
    ran = subprocess.run(["bash", "jobs/slurm/run.sh", "x"], capture_output=True, text=True,
                         env={**os.environ, "AUTOLORA_LAUNCHER": "prun"})
    assert ran.returncode == 2 and "mpirun or srun" in ran.stderr, ran
