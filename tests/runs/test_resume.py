"""A run that is stopped anywhere and resumed on another number of ranks leaves what an uninterrupted
one leaves, to the last bit. AUTOLORA_KILLS=50 kills 50 runs instead of 10."""
import functools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import common
from common import Job, Skip, assert_same, cases, on_ranks

DATA, USAGE, IO, PEER, RESUBMIT = 3, 2, 6, 7, 75
KEYS = {"adapter.dropout": 0.1, "model.hidden_dropout": 0.1, "search.steps": 12,
        "search.selection_every": 2, "retrain.steps": 12, "optimizer.schedule": "linear",
        "output.checkpoint_every": 2, "output.report_seconds": 0}
ENDLESS = {**KEYS, "search.steps": 10 ** 6}


# ---- a run that can be sent something ----


class Running:
    """A run under way. Ends with the test that began it."""

    def __init__(self, job, num_ranks=1, keys=None, resume=False):
        launcher = [*common.MPIRUN, "-n", str(num_ranks)] if num_ranks > 1 else []
        self.job, self.num_ranks = job, num_ranks
        self.command = [*launcher, common.PROGRAM, "run", str(job.write(keys)),
                        *(["--resume"] if resume else [])]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ranks(self):
        """Process numbers of the ranks, in their order."""
        if self.num_ranks == 1:
            return [self.process.pid]
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "exe") != os.path.realpath(common.PROGRAM):
                    continue
                variables = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            number = [v for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")]
            if number and str(self.job.folder).encode() in command:
                found[int(number[0].split(b"=")[1])] = int(folder.name)
        return [found[rank] for rank in sorted(found)]

    def wait_for(self, is_reached, what):
        end = time.monotonic() + common.TIMEOUT
        while not is_reached():
            assert self.process.poll() is None, f"ended before {what}: {self.end()}"
            assert time.monotonic() < end, f"no {what}"
            time.sleep(0.01)

    def wait_for_steps(self, count=1):
        self.wait_for(lambda: num_reports(self.job) >= count, f"{count} reports")

    def end(self, seconds=None):
        try:
            out, err = self.process.communicate(timeout=seconds or common.TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"does not end within {seconds} s: {self.command}") from None
        return common.Outcome(self.command, self.process.returncode, out, err)

    def kill(self):
        for pid in [*self.ranks(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def num_reports(job):
    path = job.output / "progress.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def checkpoints(job):
    return sorted(job.output.glob("checkpoint-[0-9]*.h5"))


def resume(job, num_ranks=1, keys=None, **how):
    return common.start(["run", job.write(keys), "--resume"], num_ranks, **how)


def resumed(job, num_ranks=1, keys=None):
    outcome = resume(job, num_ranks, keys)
    assert outcome.code == 0, outcome
    return common.Results(job.output, outcome)


def stopped(outcome, *words):
    assert outcome.code == RESUBMIT, outcome
    assert len(outcome.messages) == 1, outcome
    for word in words:
        assert word in outcome.messages[0], outcome


@functools.lru_cache(None)
def whole(task="cola", **keys):
    """A job that was never interrupted, and its results."""
    job = Job(task, keys={**KEYS, "task.test_file": None if task == "e2e" else "test.tsv", **keys})
    if task != "e2e":
        common.WRITERS[task](job.data / "test.tsv", 15, 3)
    return job, job.results(1, output="whole")


def assert_equal_runs(found, expected, what):
    assert_same(found, expected, what, ("/modules", "/search", "/allocation", "/retrain",
                                        "/evaluation"))
    steps = found.trace["/retrain/step"].numbers
    assert steps == list(range(1, len(steps) + 1)), f"{what}: {steps}"
    tensors = [common.read_trace(results.folder / "checkpoint-final.h5")[1]
               for results in (found, expected)]
    assert tensors[0].keys() == tensors[1].keys()
    for path, tensor in tensors[1].items():
        assert tensors[0][path].texts == tensor.texts, f"{what}: {path} of checkpoint-final.h5"


# ---- killed ----


def kill_and_resume(number):
    """One rank is killed at a random moment; then the run goes on on other ranks."""
    draw = random.Random(number)
    job, expected = whole()
    job.output = job.folder / f"killed{number}"
    num_ranks = draw.randint(1, 4)
    replicas = draw.choice([n for n in (1, 2, 3, 4) if num_ranks % n == 0])
    start = time.monotonic()
    running = Running(job, num_ranks, {"parallel.replicas": replicas})
    seconds = KILL_SECONDS[num_ranks] * draw.random()
    if draw.random() < 0.8:  # most of the time, not before the first step
        running.wait_for_steps()
    moment = time.monotonic() + seconds
    while time.monotonic() < moment and running.process.poll() is None:
        time.sleep(0.001)
    victims = running.ranks()
    if victims and running.process.poll() is None:
        os.kill(draw.choice(victims), signal.SIGKILL)
    killed = time.monotonic()
    outcome = running.end(20)
    assert time.monotonic() - killed < 10, f"took {time.monotonic() - killed} s"
    is_done = (job.output / "result.json").exists()
    assert is_done or outcome.code != 0, outcome
    others = draw.choice([n for n in (1, 2, 3, 4) if n != num_ranks])
    other_replicas = draw.choice([n for n in (1, 2, 3, 4) if others % n == 0])
    what = (f"{num_ranks} ranks, {replicas} replicas, killed after {killed - start:.2f} s with {len(checkpoints(job))} "
            f"checkpoints, resumed on {others}, {other_replicas} replicas")
    print(what)
    found = resumed(job, others, {"parallel.replicas": other_replicas})
    assert_equal_runs(found, expected, what)


KILL_SECONDS = {1: 0.6, 2: 2.5, 3: 2.5, 4: 3}
test_killed_at_a_random_moment = cases(
    **{str(i): i for i in range(int(os.environ.get("AUTOLORA_KILLS", 10)))})(kill_and_resume)


def test_message_names_the_killed_rank():
    job = Job(keys=ENDLESS)
    running = Running(job, 3)
    running.wait_for_steps(2)
    os.kill(running.ranks()[1], signal.SIGKILL)
    outcome = running.end(10)
    assert outcome.code != 0, outcome
    assert "rank 1" in outcome.err, outcome


# ---- stopped after every step ----


@cases(search={}, regression={"task": "stsb"}, two_sets={"task": "mnli"}, token={"task": "ner"},
       adalora={"adapter.method": "adalora", "adapter.allocate_every": 2},
       single_level={"search.meta": False}, reference={"search.recipe": "reference"},
       bottleneck={"adapter.method": "adapter"}, full={"adapter.method": "full"}, language={"task": "e2e"},
       language_full={"task": "e2e", "adapter.method": "full"},
       lora={"adapter.method": "lora", "adapter.mean_rank": 1.5},
       sparse={"output.trace_every": 5})
def test_every_checkpoint_leads_to_the_same_end(keys):
    """Each checkpoint of a run, taken as the newest one."""
    task = keys.get("task", "cola")
    short = {"search.steps": 4, "retrain.steps": 4, "output.keep": 1000,
             "output.checkpoint_every": 1}
    job, expected = whole(task, **{**short, **{k: v for k, v in keys.items() if k != "task"}})
    number = 0
    for number, newest in enumerate(sorted(expected.folder.glob("checkpoint-0*.h5"))):
        job.output = shutil.copytree(expected.folder, job.folder / f"from{number}")
        for name in ("result.json", "checkpoint-final.h5"):
            (job.output / name).unlink()
        for path in checkpoints(job):
            if path.name > newest.name:
                path.unlink()
        num_ranks, more = on_ranks((1, 2, 3, (2, 1), (3, 1))[number % 5])
        found = resumed(job, num_ranks, more)
        assert f"from {job.output / newest.name}" in found.outcome.out, found.outcome
        assert_equal_runs(found, expected, newest.name)
    assert number >= 3


def test_given_ranks():
    """A ranks.json in the output directory itself is read, then replaced."""
    job, expected = whole()
    job.output = job.folder / "given"
    job.output.mkdir()
    keys = {"adapter.ranks_from": str(job.output / "ranks.json"), "output.wall_time": 9}
    shutil.copy(expected.folder / "ranks.json", job.output)
    stopped(job.run(2, keys), "retrain")
    (job.output / "ranks.json").unlink()
    assert resumed(job, 1, {**keys, "output.wall_time": 0}).ranks == expected.ranks


def test_files_of_a_checkpoint():
    """Any HDF5 program reads it; it does not depend on the number of ranks."""
    job, expected = whole()
    several = job.results(3, output="on3")
    names = [path.name for path in checkpoints(job)]
    assert names == ["checkpoint-000022.h5", "checkpoint-000024.h5"], "output.keep is 2"
    for name in names:
        texts, tensors = common.read_trace(several.folder / name)
        _, others = common.read_trace(expected.folder / name)
        assert all(others[path].texts == tensor.texts for path, tensor in tensors.items())
        assert {"/factors/classifier.weight", "/optimizer/first/classifier.weight",
                "/optimizer/second/classifier.weight"} <= set(tensors)
        state = json.loads(texts["state"])
        assert state["phase"] == "retrain" and state["training"]["step"] + 12 == int(name[11:17])
        assert state["trace_rows"] == {"search": 12, "allocation": 0, "evaluation":
                                       state["training"]["step"] // 3,
                                       "retrain": state["training"]["step"]}


# ---- stopped ----


@cases(term=signal.SIGTERM, usr1=signal.SIGUSR1, usr2=signal.SIGUSR2)
def test_signal_to_one_rank(number):
    job = Job(keys={**ENDLESS, "output.checkpoint_every": 0})
    for attempt, num_ranks in enumerate((3, 1, 2)):
        running = Running(job, num_ranks, resume=attempt > 0)
        running.wait_for_steps(num_reports(job) + 2)
        os.kill(running.ranks()[-1], number)
        outcome = running.end()
        newest = checkpoints(job)[-1]
        stopped(outcome, signal.Signals(number).name, "search", str(newest), "--resume")
        steps = common.read_trace(job.output / "trace.h5")[1]["/search/step"].numbers
        assert steps == list(range(1, int(newest.name[11:17]) + 1)), (steps, newest)


def test_signal_to_mpirun():
    """It hands these on to all ranks."""
    job = Job(keys=ENDLESS)
    running = Running(job, 2)
    running.wait_for_steps(2)
    running.process.send_signal(signal.SIGUSR1)
    stopped(running.end(), "SIGUSR1")


def test_second_signal_ends_at_once():
    """The others do not come to the next step, so that only the second one can end the run."""
    job = Job(keys=ENDLESS)
    running = Running(job, 2)
    running.wait_for(lambda: len(checkpoints(job)) == 2, "checkpoints")
    first, second = running.ranks()
    os.kill(second, signal.SIGSTOP)
    os.kill(first, signal.SIGUSR1)
    os.kill(first, signal.SIGUSR1)  # sent twice: one signal
    time.sleep(1)
    assert running.process.poll() is None
    time.sleep(3)
    before = [path.read_bytes() for path in checkpoints(job)]
    os.kill(first, signal.SIGUSR2)
    outcome = running.end(15)
    assert outcome.code not in (0, RESUBMIT), outcome
    assert "second signal" in outcome.err, outcome
    assert before == [path.read_bytes() for path in checkpoints(job)]
    stopped(resume(job, 1, {"output.wall_time": 9}))


def test_stop_file():
    job = Job(keys=ENDLESS)
    running = Running(job, 2)
    running.wait_for_steps()
    (job.output / "stop").touch()
    stopped(running.end(), '"stop"')
    assert not (job.output / "stop").exists(), "the next attempt would stop at once"
    (job.output / "stop").touch()
    stopped(resume(job, 1, {"output.wall_time": 9}), "wall_time")


@cases(key=({"output.wall_time": 13}, {}), slurm=({}, {"SLURM_JOB_END_TIME": 13}),
       torque=({}, {"PBS_WALLTIME": 13}))
def test_end_of_the_time(case):
    keys, environment = case
    environment = {name: str(value + (int(time.time()) if "END" in name else 0))
                   for name, value in environment.items()}
    job = Job(keys=ENDLESS)
    start = time.monotonic()
    stopped(job.run(2, keys, environment=environment), "wall_time")
    assert time.monotonic() - start < 13
    assert num_reports(job) > 0


def test_stop_within_an_evaluation():
    """The next attempt makes the evaluation, without the update before it."""
    job, expected = whole(**{"output.checkpoint_every": 1, "output.keep": 1000})
    job.output = shutil.copytree(expected.folder, job.folder / "evaluation")
    for path in [job.output / "result.json", *checkpoints(job)]:
        if path.name > "checkpoint-000014.h5":  # the third update of the retraining ends an epoch
            path.unlink()
    for num_ranks in (1, 2):
        stopped(resume(job, num_ranks, {"output.wall_time": 9}), "retrain after step 3 of 12")
        trace = common.read_trace(job.output / "trace.h5")[1]
        assert len(trace["/retrain/step"].texts) == 3 and not trace["/evaluation/step"].texts
    assert_equal_runs(resumed(job, 3), expected, "stopped within an evaluation")


# ---- what --resume does besides ----


def test_nothing_to_resume():
    job, expected = whole()
    job.output = job.folder / "new"
    assert_equal_runs(resumed(job, 2), expected, "begun with --resume")


def test_finished_run():
    job, expected = whole()
    job.output = expected.folder
    before = {path: path.read_bytes() for path in job.output.iterdir()}
    for num_ranks in (1, 3):
        outcome = resume(job, num_ranks)
        assert outcome.code == 0 and "finished" in outcome.out and outcome.err == "", outcome
    outcome = resume(job, 2, {"retrain.steps": 20})
    assert outcome.code == USAGE and "retrain.steps: 20, was 12" in outcome.err, outcome
    assert before == {path: path.read_bytes() for path in job.output.iterdir()}


def partial(name, keys=None):
    """The job of a run that stopped in retraining, with two checkpoints, and what it has to give."""
    job, expected = whole()
    job.output = shutil.copytree(expected.folder, job.folder / name)
    for gone in ("result.json", "checkpoint-final.h5"):
        (job.output / gone).unlink()
    return job, expected


def test_start_without_resume():
    """Begins anew; no checkpoint of the earlier run is left to be taken by mistake."""
    job, _ = partial("anew")
    (job.output / "checkpoint-000099.h5.tmp").write_text("half")
    stopped(job.run(1, {"output.wall_time": 9, "search.steps": 7}), "after step 1 of 7")
    assert [path.name for path in job.output.glob("checkpoint*")] == ["checkpoint-000001.h5"]


def test_other_input():
    job, expected = partial("other")
    before = {path: path.read_bytes() for path in job.output.iterdir()}
    changed = {"run.seed": 2, "optimizer.lr": 0.5, "adapter.targets": ["key"]}
    for num_ranks in (1, 2):
        outcome = resume(job, num_ranks, changed)
        assert outcome.code == USAGE and len(outcome.messages) == 1, outcome
        for word in ("run.seed: 2, was 1", "optimizer.lr: 0.5", 'adapter.targets: ["key"]'):
            assert word in outcome.err, outcome
    assert before == {path: path.read_bytes() for path in job.output.iterdir()}
    free = {"run.name": "x", "output.keep": 1, "output.flush_seconds": 0, "parallel.threads": 1,
            "parallel.stages": 2, "parallel.layout": [1, 2], "output.checkpoint_every": 1}
    checkpoints(job)[-1].unlink()
    assert_equal_runs(resumed(job, 2, free), expected, "keys that decide nothing")
    assert len(checkpoints(job)) == 1


def test_other_data():
    """The same names, but one sentence more."""
    job, expected = partial("changed")
    train = job.data / "train.tsv"
    text = train.read_text()
    train.write_text(text + "x\t1\t\ta b c\n")
    for num_ranks in (1, 2):
        outcome = resume(job, num_ranks)
        assert outcome.code == DATA and len(outcome.messages) == 1, outcome
        assert "have changed" in outcome.err and "train" in outcome.err, outcome
    train.write_text(text)
    assert_equal_runs(resumed(job, 2), expected, "the data as they were")


def test_other_weights():
    """The base model with one byte of its last tensor changed."""
    job, expected = partial("other-weights")
    path = job.model / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    outcome = resume(job, 2)
    assert outcome.code == DATA and len(outcome.messages) == 1, outcome
    assert "weights have changed" in outcome.err and "CRC-32" in outcome.err, outcome
    path.write_bytes(data)
    assert_equal_runs(resumed(job, 1), expected, "the weights as they were")


def damaged(data):
    return {"flipped": data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "cut": data[:-1],
            "half": data[:len(data) // 2], "header": data[:100], "empty": b""}


@cases(flipped="flipped", cut="cut", half="half", header="header", empty="empty")
def test_damaged_newest_checkpoint(how):
    job, expected = partial(f"newest-{how}")
    older, newest = checkpoints(job)
    newest.write_bytes(damaged(newest.read_bytes())[how])
    found = resumed(job, 2)
    assert "warning" in found.outcome.out and newest.name in found.outcome.out, found.outcome
    assert f"from {older}" in found.outcome.out, found.outcome
    assert (job.output / f"{newest.name}.damaged").exists()
    assert_equal_runs(found, expected, "the checkpoint before")


def test_all_checkpoints_damaged():
    job, expected = partial("all")
    for path in checkpoints(job):
        path.write_bytes(b"x" * 100)
    found = resumed(job, 2)
    assert found.outcome.out.count("warning: ") >= 2, found.outcome
    assert_equal_runs(found, expected, "from the beginning")


def test_checkpoint_of_another_model():
    """Whole, of the same input, but with other tensors."""
    job, _ = partial("another")
    shutil.rmtree(job.model)
    common.write_model(job.model, "bert-token")
    outcome = resume(job, 2)
    assert outcome.code == DATA and len(outcome.messages) == 1, outcome


def test_damaged_head_of_the_trace():
    """What HDF5 reads of it is kept in trace.h5.meta, and becomes as it was."""
    job, expected = partial("trace-head")
    path = job.output / "trace.h5"
    path.write_bytes(bytes(2048) + path.read_bytes()[2048:])
    checkpoints(job)[-1].unlink()
    found = resumed(job, 2)
    assert not list(job.output.glob("trace.h5.damaged*")), found.outcome
    assert found.trace["/retrain/step"].numbers == list(range(1, 13))
    assert found.ranks == expected.ranks


@cases(meta="meta", cut=-1, half=0.5, header=100, empty=None, missing="missing")
def test_damaged_trace(at):
    """It is kept, and a new one goes on."""
    job, expected = partial(f"trace-{at}")
    path = job.output / "trace.h5"
    data = path.read_bytes()
    if at == "meta":
        (job.output / "trace.h5.meta").unlink()
    elif at == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:int(at * len(data)) if at == 0.5 else at] if at else b"")
    broken = path.read_bytes() if path.exists() else None
    checkpoints(job)[-1].unlink()
    found = resumed(job, 2)
    assert "warning" in found.outcome.out and "trace.h5" in found.outcome.out, found.outcome
    if broken is not None:
        assert (job.output / "trace.h5.damaged-1").read_bytes() == broken
    assert found.trace["/retrain/step"].numbers == [11, 12]
    assert found.ranks == expected.ranks
    assert (common.without_measurements(found.result)
            == common.without_measurements(expected.result))


def test_trace_of_a_run_that_still_runs():
    """Its files are left alone."""
    job = Job(keys={**KEYS, "search.steps": 1, "retrain.steps": 10 ** 6})
    running = Running(job, 1)
    running.wait_for(lambda: len(checkpoints(job)) == 2, "checkpoints")
    for outcome in (resume(job, 1), common.start(["run", job.write()], 2)):
        assert running.process.poll() is None
        assert outcome.code == IO and "lock" in outcome.err, outcome
        assert len(checkpoints(job)) >= 2 and (job.output / "ranks.json").exists()
    running.process.send_signal(signal.SIGUSR1)
    stopped(running.end())
    assert not list(job.output.glob("trace.h5.damaged*"))


# ---- the disk ----


def test_full_disk():
    """Where the checkpoint does not fit, the one before stays."""
    job, expected = whole()
    job.output = job.folder / "small"
    job.output.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(job.output)],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skip(f"mount: {mounted.stderr.strip()}")
    try:
        stopped(job.run(2, {"output.wall_time": 9}))
        newest = checkpoints(job)[-1]
        before = newest.read_bytes()
        filler = job.output / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], capture_output=True)  # till full
        for num_ranks in (1, 3):
            outcome = resume(job, num_ranks)
            assert outcome.code == IO and "No space left" in outcome.err, outcome
            assert len(outcome.messages) == 1, outcome
            assert newest.read_bytes() == before and not list(job.output.glob("*.tmp"))
        filler.unlink()
        assert_equal_runs(resumed(job, 2), expected, "when there was room again")
    finally:
        subprocess.run(["umount", str(job.output)], check=True)


# ---- a rank that stalls ----


def stalled(job, num_ranks, which):
    """What the others say when one rank stops, which itself says nothing; all of them end."""
    running = Running(job, num_ranks)
    running.wait_for(lambda: len(checkpoints(job)) == 2, "checkpoints")
    os.kill(running.ranks()[which], signal.SIGSTOP)
    outcome = running.end(20)
    assert outcome.code == PEER, outcome
    assert f"rank {which} on {os.uname().nodename}, replica" not in outcome.err, outcome
    assert not running.ranks(), "all ranks end"
    return outcome


@cases(first=0, middle=1, last=2)
def test_stalled_rank(which):
    job = Job(keys={**ENDLESS, "output.stall_seconds": 2})
    outcome = stalled(job, 3, which)
    host, others = os.uname().nodename, [rank for rank in range(3) if rank != which]
    for rank in others:
        assert f"rank {rank} on {host}, replica 0, stage {rank}, phase search, step" in outcome.err
    assert f"waits for rank {which}" in outcome.err or "waits for all ranks" in outcome.err, outcome
    assert "microbatch" in outcome.err
    stopped(resume(job, 2, {"output.wall_time": 9}))


def test_stalled_replica():
    """Rank 2 is stage 0 of replica 1."""
    job = Job(keys={**ENDLESS, "output.stall_seconds": 2, "parallel.replicas": 2})
    outcome = stalled(job, 4, 2)
    host = os.uname().nodename
    for rank in (0, 1, 3):
        assert f"rank {rank} on {host}, replica {rank // 2}, stage {rank % 2}" in outcome.err, outcome
    stopped(resume(job, 2, {"output.wall_time": 9}))


@cases(columns=([1, 2], 2), rows=([2, 1], 2), both=([2, 2], 1))
def test_stalled_in_a_grid(case):
    """Rank 1 stops within the products that its grid makes together: of two stages the first one's."""
    grid, stages = case
    size = grid[0] * grid[1]
    job = Job(keys={**ENDLESS, "output.stall_seconds": 2, "parallel.grid": grid, "parallel.stages": stages})
    outcome = stalled(job, 4, 1)
    host = os.uname().nodename
    reports = {rank: [line for line in outcome.err.splitlines() if f"rank {rank} on {host}, replica 0" in line]
               for rank in (0, 2, 3)}
    for rank, lines in reports.items():
        assert f"stage {rank // size}, phase search, step" in lines[0] and "microbatch" in lines[0], outcome
    peer = f"waits for rank 1 on {host}" if size == 2 else "waits for all ranks"
    assert peer in reports[0][0], outcome
    stopped(resume(job, 4, {"output.wall_time": 9}))


def test_suspended_job_does_not_stall():
    """All ranks stop, as a scheduler suspends a job, and go on."""
    job = Job(keys={**ENDLESS, "output.stall_seconds": 2})
    running = Running(job, 2)
    running.wait_for_steps(2)
    ranks = running.ranks()
    for signal_number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in ranks:
            os.kill(pid, signal_number)
        time.sleep(5)
    running.wait_for_steps(num_reports(job) + 2)
    os.kill(ranks[0], signal.SIGTERM)
    stopped(running.end(), "SIGTERM")
