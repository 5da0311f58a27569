"""What a shared machine does to a run: no memory, no folder, no locks, wrong clocks, odd names, many ranks."""
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time

import common
from common import Job, Results, Skip, assert_same, cases
from project import Project, sweep, texts
from test_errors import another_user

DONE, MEMORY, IO = 0, 5, 6
IS_LONG = "AUTOLORA_WHOLE_BUILD" in os.environ  # make check-long


def assert_one_message(outcome, code, *words):
    lines = [line for line in outcome.err.splitlines() if line.startswith("autolora:")]
    assert outcome.code == code and len(lines) == 1, outcome
    assert all(word in lines[0] for word in words), outcome


# ---- memory ----


def test_out_of_memory():
    """Of the address space; no machine has to be filled for it."""
    job = Job(keys={"adapter.method": "full", "model.init": "random"})
    shutil.rmtree(job.model)
    common.write_model(job.model, hidden_size=2048, num_attention_heads=16, intermediate_size=8192)
    for num_ranks in (1, 2):
        outcome = job.run(num_ranks, prefix=["bash", "-c", 'ulimit -v 600000; exec "$@"', "bash"])
        assert outcome.code == MEMORY and "out of memory: " in outcome.err, outcome
        assert " bytes for " in outcome.err and "Segmentation" not in outcome.err, outcome
        assert not (job.output / "result.json").exists()


# ---- the output directory ----


@cases(one=1, two=2)
def test_vanishing_output_directory(num_ranks):
    job = Job(keys={"search.steps": 2, "retrain.steps": 10 ** 6, "output.checkpoint_every": 1})

    def vanish():
        while not any(path.name > "checkpoint-000003" for path in job.output.glob("checkpoint-*.h5")):
            time.sleep(0.02)
        job.output.rename(job.folder / "elsewhere")
    thread = threading.Thread(target=vanish, daemon=True)
    thread.start()
    outcome = job.run(num_ranks)
    thread.join()
    assert_one_message(outcome, IO, str(job.output), "No such file")
    assert not job.output.exists()


@cases(none="FALSE", all="TRUE", where_possible="BEST_EFFORT")
def test_file_locking(value):
    job = Job(keys={"search.steps": 2, "retrain.steps": 2, "output.checkpoint_every": 1})
    for num_ranks in (1, 2):
        job.results(num_ranks, output=f"out{num_ranks}", environment={"HDF5_USE_FILE_LOCKING": value})


# ---- clocks ----

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
/* A year ahead, and backwards by ten hours with most calls. */
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static long calls;
    if (real == 0)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const int code = real(id, now);
    if (id == CLOCK_REALTIME)
        now->tv_sec += 86400L * 400 - 36000L * (++calls % 7);
    return code;
}
time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds != 0)
        *seconds = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict value, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    value->tv_sec = now.tv_sec;
    value->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def test_clock_that_is_wrong_and_runs_backwards():
    job = Job()
    source, library = job.folder / "clock.c", job.folder / "clock.so"
    source.write_text(CLOCK)
    compiled = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True, text=True)
    if compiled.returncode != 0:
        raise Skip(f"cc: {compiled.stderr}")
    expected = job.results(output="expected")
    if subprocess.run(["date", "+%Y"], env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True).returncode:
        raise Skip("a library cannot be put before others here (sanitizers)")
    found = job.results(output="found", environment={"LD_PRELOAD": str(library)})
    assert_same(found, expected, "under a wrong clock")
    seconds = [json.loads(line)["seconds"] for line in (job.output / "progress.jsonl").read_text().splitlines()]
    assert seconds == sorted(seconds) and 0 <= seconds[0] and seconds[-1] < 1000, seconds
    assert 0 <= found.result["seconds"] < 1000


def test_end_of_the_job_by_a_wrong_clock():
    """Were it believed, every attempt would end after a step and be queued again."""
    environment = {"SLURM_JOB_END_TIME": str(int(time.time()) - 1000)}
    for num_ranks in (1, 2):
        outcome = Job(keys={"search.steps": 2, "retrain.steps": 2}).run(num_ranks, environment=environment)
        assert_one_message(outcome, DONE, "warning", "SLURM_JOB_END_TIME", "clock")


# ---- names and languages ----


@cases(comma=("de_DE", "UTF-8"), dotless=("tr_TR", "UTF-8"), latin=("de_DE", "ISO-8859-1"))
def test_languages(case):
    """A decimal comma, an i without its dot."""
    language, encoding = case
    job = Job()
    expected = job.results(output="expected")
    folder = job.folder / "locales"
    folder.mkdir()
    name = f"{language}.{encoding}"
    try:
        made = subprocess.run(["localedef", "-i", language, "-f", encoding, str(folder / name)], capture_output=True,
                              text=True)
    except FileNotFoundError:
        raise Skip("localedef is not there") from None
    if not (folder / name).is_dir():
        raise Skip(f"localedef: {made.stderr.strip()}")
    environment = {"LOCPATH": str(folder), "LC_ALL": name, "LANG": name, "LANGUAGE": name}
    for num_ranks in (1, 2):
        found = job.results(num_ranks, output=f"out{num_ranks}", environment=environment)
        assert_same(found, expected, name)


NAMES = dict(space="with a space", quotes="quo'te\"d", line="new\nline", letters="ünïcode-日本", bytes="b\udcff\udcfe",
             command="$(touch here) `touch here`; x", percent="100%d%s%n", star="*?[a]", backslash="back\\slash",
             dash="-n")


@cases(**NAMES)
def test_names(name):
    """Of every folder, and of the input file."""
    job = Job(keys={"search.steps": 2, "retrain.steps": 2})
    expected = job.results(output="expected")
    if "\udcff" in name:  # JSON is Unicode: such names can only be below the folder where the run starts
        (job.folder / name).mkdir()
        os.chdir(job.folder / name)
        shutil.copytree(job.model, "model")
        shutil.copytree(job.data, "data")
        job.keys.update({"model.path": "model", "task.data_dir": "data"})
        job.output = pathlib.Path("out")
        base = pathlib.Path(".")
    else:
        base = job.folder / name
        base.mkdir()
        for part in ("model", "data"):
            shutil.copytree(getattr(job, part), base / name / part)
        job.keys.update({"model.path": str(base / name / "model"), "task.data_dir": str(base / name / "data")})
        job.output = base / name / name
    given = base / f"{name}.json"
    shutil.copy(job.write(), given)
    for num_ranks in (1, 2):
        outcome = common.start(["run", given], num_ranks)
        assert outcome.code == DONE and not outcome.messages, outcome
        assert_same(Results(job.output, outcome), expected, name)
    exported = base / f"{name} exported"
    for arguments in (["run", given, "--resume"], ["evaluate", job.output], ["run", job.output / "input.json"],
                      ["export", job.output, "--format", "peft", "--out", exported]):
        outcome = common.start(arguments)
        assert outcome.code == DONE and not outcome.messages, outcome
    assert (exported / "adapter_model.safetensors").is_file()
    assert not list(job.folder.rglob("here")) and not pathlib.Path("here").exists()


@cases(space="my project", quotes="it's \"mine\"", letters="ünï")
def test_project_of_an_odd_name(name):
    """The job scripts in such a folder, with such an input file."""
    project = Project(keys={"search.steps": 2, "retrain.steps": 2})
    expected = project.job.results(output="expected")
    odd = project.folder.with_name(name)
    project.folder.rename(odd)
    os.chdir(odd)
    project.job.output = pathlib.Path("outputs") / name
    given = pathlib.Path("inputs") / f"{name}.json"
    shutil.copy(project.job.write(), given)
    environment = {**os.environ, "OMPI_MCA_rmaps_base_oversubscribe": "1", "AUTOLORA_RANKS": "2"}
    ran = subprocess.run(["bash", "jobs/slurm/run.sh", str(given), "--set", f"run.name={name}"], capture_output=True,
                         text=True, env=environment)
    assert ran.returncode == 0, ran
    project.assert_result(name, expected, 2)
    shutil.rmtree(project.job.output)
    ran = subprocess.run(["bash", "jobs/pbs/run.sh"], capture_output=True, text=True,
                         env={**environment, "INPUT": str(given), "PBS_O_WORKDIR": str(odd)})
    assert ran.returncode == 0, ran
    project.assert_result(name, expected, 2)
    pathlib.Path("s.json").write_text(json.dumps({"name": "s", "base": str(given), "grid": {"adapter.rank": [1, 2]}}))
    assert "2 done" in sweep("submit", "s.json") + sweep("status", "outputs/sweeps/s"), texts("outputs/sweeps/s/*/*/*.txt")


# ---- ranks ----


def test_many_more_ranks_than_cores_and_blocks():
    """64 of them in make check-long: to start them takes most of the time."""
    num_ranks = 64 if IS_LONG else 16
    job = Job(keys={"search.steps": 2, "retrain.steps": 2})
    expected = job.results(output="expected")
    assert_same(job.results(num_ranks, output="many", timeout=110), expected, f"{num_ranks} ranks")


# ---- another user ----


def test_set_up_without_root():
    """Nothing can be installed: what is missing is said."""
    job = Job()
    folder = common.new_folder()
    shutil.copy(common.ROOT / "Makefile", folder)
    shutil.copytree(common.ROOT / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("local.sh"))
    temporary = job.folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    prefix, _ = another_user(job.folder, {"HOME": str(temporary), "TMPDIR": str(temporary)})
    if prefix:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
    sudo = folder / "sudo"
    sudo.write_text("#!/bin/sh\necho 'a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    ran = subprocess.run([*prefix, "make", "setup", "HDF5_LIBS=-lno_such_library"], cwd=folder, capture_output=True,
                         text=True, env={**environment, "HOME": str(folder), "TMPDIR": str(temporary), "PATH": f"{folder}:{os.environ['PATH']}"})
    assert ran.returncode != 0, ran
    for words in ("Missing here", "hdf5", "HDF5_LIBS", "make configure"):
        assert words in ran.stderr, ran
    assert "installing" not in ran.stdout, ran


def test_run_of_another_user():
    job = Job(keys={"search.steps": 2, "retrain.steps": 2})
    place = job.folder / "place"
    place.mkdir()
    place.chmod(0o777)
    environment = {"TMPDIR": str(place), "HOME": str(place)}
    prefix, program = another_user(job.folder, environment)
    for num_ranks in (1, 2):
        outcome = job.run(num_ranks, output=f"place/out{num_ranks}", prefix=prefix, program=program,
                          environment=environment)
        assert outcome.code == DONE and not outcome.err, outcome
