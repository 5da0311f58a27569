"""Hours of training on 2 ranks, which are killed and stopped at random moments and resumed, beside an undisturbed run of
the same input: both have to leave the same bits, while the memory and the open files of every rank stay as they are.

    python3 tests/endurance.py --hours 2 --folder FOLDER

After the time, what is left of both is done on one rank each, undisturbed. FOLDER/samples.csv has a line a minute and
rank: memory and open files."""
import argparse
import csv
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "runs"))
for name in ("MCA_mpi_yield_when_idle", "ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM"):
    os.environ.setdefault(f"OMPI_{name}", "1")
import common  # noqa: E402

RESUBMIT = 75
COLUMNS = ("run", "rank", "seconds", "pid", "rss_kb", "files", "iterations")
FIRST_SAMPLES = 1  # of a process, which say nothing
ROW_BYTES = 32  # of the trace: the index of its chunks stays in the memory of the rank that writes it (28 in the search, 9 after it)
TOLERANCE = 0.05  # of the memory of the last third of the time against the first third
TIME_TO_STOP = 15  # seconds for a checkpoint after a SIGTERM; mpirun always waits for all of them, and ends with code 1
PATIENCE = 300    # seconds in which a run that was sent something has to end, whatever else the machine does


class Run:
    """One of the two runs, in as many processes one after another as it takes."""

    def __init__(self, job, name, keys, log):
        self.job, self.name, self.keys, self.log = job, name, keys, log
        self.output = job.folder / name
        self.process, self.num_ranks, self.since = None, 0, 0.0

    def start(self, num_ranks=2, **keys):
        self.job.output, self.num_ranks, self.since = self.output, num_ranks, time.monotonic()
        text = self.job.write({**self.keys, **keys}, f"{self.name}.json")
        launcher = [*common.MPIRUN, "--mca", "odls_base_sigkill_timeout", str(TIME_TO_STOP), "-n", str(num_ranks)]
        self.process = subprocess.Popen(
            [*(launcher if num_ranks > 1 else []), common.PROGRAM, "run", str(text), "--resume"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def is_done(self):
        return (self.output / "result.json").exists()

    def end(self):
        return self.process.wait(PATIENCE)

    def stop(self):
        """Ends it with a checkpoint."""
        end = time.monotonic() + PATIENCE
        while self.is_running():
            assert time.monotonic() < end, f"{self.name} does not stop"
            if not self.is_done():  # one that begins takes the file away
                (self.output / "stop").touch()
            time.sleep(1)
        code = self.end()
        (self.output / "stop").unlink(missing_ok=True)
        assert code == (0 if self.is_done() else RESUBMIT), f"{self.name} stopped with exit code {code}"

    def ranks(self):
        """{number of the rank: its process}."""
        if not self.is_running():
            return {}
        if self.num_ranks == 1:
            return {0: self.process.pid}
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "exe") != os.path.realpath(common.PROGRAM):
                    continue
                if f"{self.job.folder}/{self.name}.json" not in (folder / "cmdline").read_text():
                    continue
                rank = re.search(rb"\0OMPI_COMM_WORLD_RANK=(\d+)\0", (folder / "environ").read_bytes())
            except OSError:
                continue
            if rank:
                found[int(rank[1])] = int(folder.name)
        return found

    def num_iterations(self):
        """As the newest report says."""
        try:
            last = json.loads((self.output / "progress.jsonl").read_text().splitlines()[-1])
        except (OSError, ValueError, IndexError):
            return 0
        return last["step"] + (self.keys["search.steps"] if last["phase"] == "retrain" else 0)


def sample(run):
    """A row for each rank."""
    found = []
    for rank, pid in sorted(run.ranks().items()):
        try:
            rss = re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
            files = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue  # it has ended
        if rss:
            found.append({"run": f"{run.name} on {run.num_ranks}", "rank": rank, "pid": pid,
                          "rss_kb": int(rss[1]), "files": files, "iterations": run.num_iterations()})
    return found


# ---- what happens to the disturbed run ----


class Disturber:
    """Kills one rank or stops all of them every few minutes, and starts the run again."""

    def __init__(self, run, seed, between):
        self.run, self.draw, self.between = run, random.Random(seed), between
        self.counts = {"SIGKILL": 0, "SIGTERM": 0, "on one rank": 0}
        self.plan()

    def plan(self):
        self.moment = time.monotonic() + self.draw.uniform(*self.between)

    def disturb(self):
        ranks = self.run.ranks()
        if time.monotonic() < self.moment or len(ranks) < self.run.num_ranks:
            return
        is_kill = self.draw.random() < 0.5
        if is_kill:
            os.kill(self.draw.choice(sorted(ranks.values())), signal.SIGKILL)
        else:
            self.run.process.terminate()
        code, is_done = self.run.end(), self.run.is_done()
        assert is_done or code != 0, "ended with code 0 and without a result"
        name = "SIGKILL" if is_kill else "SIGTERM"
        self.counts[name] += 1
        num_ranks = self.draw.choice((1, 2, 2))
        self.counts["on one rank"] += num_ranks == 1
        print(f"{name} after {self.run.num_iterations():,} iterations: exit code {code}; {num_ranks} ranks go on", flush=True)
        if not is_done:
            self.run.start(num_ranks, **{"parallel.replicas": self.draw.randint(1, num_ranks)})
        self.plan()


# ---- comparison ----


def names_of(path):
    listing = subprocess.run(["h5dump", "-n", str(path)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^ dataset +(\S+)", listing, re.MULTILINE)


def bytes_of(path, name, folder):
    out = folder / "dataset.bin"
    out.unlink(missing_ok=True)
    subprocess.run(["h5dump", "-d", name, "-b", "LE", "-o", str(out), str(path)], check=True, stdout=subprocess.DEVNULL)
    return out.read_bytes() if out.exists() else b""


def compare_files(first, second, folder):
    """Every dataset but times; bytes by dataset."""
    names = [[name for name in names_of(path) if not name.startswith("/timeline") and not name.endswith("/time")]
             for path in (first, second)]
    assert names[0] == names[1] and names[0], f"{names[0]}\n{names[1]}"
    sizes = {}
    for name in names[0]:
        data = [bytes_of(path, name, folder) for path in (first, second)]
        assert data[0] == data[1], f"{name} of {first.name} differs"
        sizes[name] = len(data[0])
    return sizes


def compare(disturbed, calm):
    """All that the runs leave is equal; the rows of the trace."""
    read = [common.without_measurements(json.loads((run.output / "result.json").read_text()))
            for run in (disturbed, calm)]
    assert read[0] == read[1], f"result.json: {read[0]}\n{read[1]}"
    assert (disturbed.output / "ranks.json").read_bytes() == (calm.output / "ranks.json").read_bytes(), "ranks.json"
    for name in ("checkpoint-final.h5", "trace.h5"):
        sizes = compare_files(disturbed.output / name, calm.output / name, disturbed.job.folder)
    return (sizes["/search/step"] + sizes["/retrain/step"]) // 8


# ---- flat ----


def thirds(values):
    """Medians of the first and of the last third."""
    count = max(1, len(values) // 3)
    return statistics.median(values[:count]), statistics.median(values[-count:])


def growing(rows):
    """What is not flat, as sentences; prints all. A process's first samples are left out: it is reading its input."""
    found, seen, groups = [], {}, {}
    for row in rows:
        seen[row["pid"]] = seen.get(row["pid"], 0) + 1
        if seen[row["pid"]] > FIRST_SAMPLES:
            groups.setdefault((row["run"], row["rank"]), []).append(row)
    for (run, rank), mine in sorted(groups.items()):
        (rss, last_rss), (files, last_files), (done, last_done) = (
            thirds([row[c] for row in mine]) for c in ("rss_kb", "files", "iterations"))
        text = (f"{run}, rank {rank}: {len(mine)} samples, memory {rss:,.0f} kB in the first third, {last_rss:,.0f} kB "
                f"in the last, open files {files:g} and {last_files:g}")
        print(text)
        if last_rss > rss * (1 + TOLERANCE) + ROW_BYTES / 1024 * (last_done - done) or last_files > files:
            found.append(text)
    return found


# ---- all of it ----


def read_arguments():
    parser = argparse.ArgumentParser(description="Hours of training, disturbed and not.", allow_abbrev=False)
    parser.add_argument("--hours", type=float, default=2, help="time with disturbances (2)")
    parser.add_argument("--folder", type=pathlib.Path, help="where all files go; kept (a temporary one, removed)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10 ** 6, help="iterations in all (10^6), a twentieth of them in the search")
    parser.add_argument("--between", type=float, nargs=2, default=(120, 300), metavar="SECONDS",
                        help="least and most time from one disturbance to the next (120 300)")
    parser.add_argument("--checkpoint", type=float, default=60, metavar="SECONDS", help="between checkpoints (60)")
    parser.add_argument("--sample", type=float, default=60, metavar="SECONDS", help="between samples of memory (60)")
    return parser.parse_args()


class Samples:
    """Memory and open files of the ranks, every so many seconds, kept in a file too."""

    def __init__(self, runs, path, every):
        self.runs, self.path, self.every = runs, path, every
        self.rows, self.start, self.next = [], time.monotonic(), 0.0

    def take(self):
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.every
        for run in self.runs:
            self.rows += [{"seconds": round(time.monotonic() - self.start), **row} for row in sample(run)]
        with open(self.path, "w", newline="") as out:
            writer = csv.DictWriter(out, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def watch(runs, samples, is_over):
    """Until both are done or it is over."""
    while not is_over() and not all(run.is_done() for run in runs):
        time.sleep(0.1)
        samples.take()
        for run in runs:
            assert run.is_running() or run.is_done(), f"{run.name} ended with exit code {run.process.poll()}"


def endure(options, job, log):
    keys = {"output.checkpoint_seconds": options.checkpoint, "search.steps": options.steps // 20,
            "retrain.steps": options.steps - options.steps // 20}
    runs = disturbed, calm = Run(job, "disturbed", keys, log), Run(job, "undisturbed", keys, log)
    samples = Samples(runs, job.folder.parent / "samples.csv", options.sample)
    disturber = Disturber(disturbed, options.seed, options.between)
    end = samples.start + options.hours * 3600
    try:
        for run in runs:
            run.start()
        watch(runs, samples, lambda: time.monotonic() >= end or disturber.disturb())
        print(f"{time.monotonic() - samples.start:.0f} s, {disturber.counts}, {disturbed.num_iterations():,} and "
              f"{calm.num_iterations():,} iterations", flush=True)
        for run in runs:
            run.stop()
            if not run.is_done():
                run.start(1)
        samples.every /= 20
        watch(runs, samples, lambda: False)
        for run in runs:
            assert run.end() == 0
        num_rows = compare(disturbed, calm)
    finally:
        for run in runs:
            for pid in [*run.ranks().values(), *([run.process.pid] if run.is_running() else [])]:
                os.kill(pid, signal.SIGKILL)
    found = growing(samples.rows)
    print(f"{time.monotonic() - samples.start:.0f} s, both runs are identical, {num_rows:,} rows of the trace")
    return found


def small_job():
    job = common.Job()
    job.model = common.write_model(job.folder / "small", num_hidden_layers=2)
    job.keys.update({
        "model.path": str(job.model), "task.max_length": 6, "adapter.rank": 2, "adapter.targets": ["query"],
        "adapter.dropout": 0.1, "optimizer.batch_size": 2, "optimizer.schedule": "constant",
        "parallel.microbatch_tokens": 16, "search.selection_lr": 1e-4, "retrain.evaluate_every_epoch": False,
        "output.report_seconds": 20, "output.timeline_step": 0})
    return job


def main():
    options = read_arguments()
    with tempfile.TemporaryDirectory(prefix="autolora-") as scratch:
        folder = options.folder.resolve() if options.folder else pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(folder)
        with open(folder / "log.txt", "a") as log:
            found = endure(options, small_job(), log)
    print(f"{'0 passed, 1 failed' if found else '1 passed, 0 failed'}, 0 skipped")
    if found:
        print("grows:", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
