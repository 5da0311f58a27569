"""Programs that do the same work in turn: each waits, asleep, until it is its turn."""
import contextlib
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import tempfile
import time

# Messages are copied once, from process to process (Open MPI's default): where that is forbidden, a sender that computes
# holds its message back, and the stages of a pipeline hardly overlap.
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_pml": "ob1",
               "OMPI_MCA_ess_singleton_isolated": "1"}


class Failed(Exception):
    pass


def mpirun(num_ranks):
    flags = os.environ.get("MPIRUN_FLAGS", "--oversubscribe --bind-to none")
    return [*shlex.split(os.environ.get("MPIRUN", "mpirun")), *shlex.split(flags), "-n", str(num_ranks)]


class Ours:
    """The program with the probe of probe.c around it, on an input file of cases.py."""

    def __init__(self, program, input_file, num_ranks=1, threads=2, batches=False, factors=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench"))
        out, into = self.folder / "out", self.folder / "in"
        os.mkfifo(out)
        os.mkfifo(into)
        environment = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": str(threads), "AUTOLORA_PROBE_OUT": str(out),
                       "AUTOLORA_PROBE_IN": str(into)}
        environment.update({"AUTOLORA_PROBE_BATCHES": "1"} if batches else {})
        environment.update({"AUTOLORA_PROBE_FACTORS": str(factors)} if factors else {})
        start = time.perf_counter()
        self.log = open(self.folder / "log", "w+")
        command = [*(mpirun(num_ranks) if num_ranks > 1 else []), str(program), "run", str(input_file), "--set",
                   f"parallel.threads={threads}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
                                        env=environment, start_new_session=True)
        # Opened for both, so that neither open waits for the program; it has to come, or to end.
        self.reader = os.fdopen(os.open(out, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        self.writer = os.fdopen(os.open(into, os.O_RDWR), "wb", buffering=0)
        self.rest = b""
        self.first = self.read()
        self.seconds_to_start = time.perf_counter() - start

    def line(self):
        while b"\n" not in self.rest:
            piece = None
            with contextlib.suppress(BlockingIOError):
                piece = self.reader.read(1 << 20)
            if not piece:  # none yet
                if self.process.poll() is not None:
                    self.log.seek(0)
                    raise Failed(f"the program ended with code {self.process.returncode}:\n{self.log.read()[-2000:]}")
                time.sleep(0.0005)
                continue
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def read(self):
        """The iteration's record, with its batches and losses, if they were asked for."""
        batches, losses = [], []
        while True:
            record = self.line()
            if "batch" in record:
                batches.append(record["batch"])
            elif "loss" in record:
                losses.append(record["loss"])
            else:
                return {**record, "batches": batches, "losses": losses}

    def step(self):
        self.writer.write(b"go\n")
        self.last = self.read()
        return self.last

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.close()
        self.writer.close()
        self.log.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


class Peer:
    """peer.py under a Python that has PyTorch. Its step does the batches that `source` did last."""

    def __init__(self, python, source=None, **settings):
        self.source = source
        self.process = subprocess.Popen([str(python), str(pathlib.Path(__file__).with_name("peer.py"))],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds_to_start = self.ask(do="open", **settings)["seconds"]

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"peer.py ended with code {self.process.wait()}")
        return json.loads(line)

    def step(self):
        return self.ask(do="step", batches=self.source.last["batches"])

    def resident_peak(self):
        return self.ask(do="memory")["resident_peak"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Kernels:
    """kernels.c."""

    def __init__(self, program, threads, seconds=0.03):
        self.process = subprocess.Popen([str(program), str(threads), str(seconds)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT})

    def ask(self, *lines):
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"kernels ended with code {self.process.wait()}")
        return json.loads(line)

    close = Peer.close


@contextlib.contextmanager
def closing(sides):
    """Closes what the dictionary holds at the end."""
    try:
        yield sides
    finally:
        for side in sides.values():
            side.close()


def alternate(steps, repeats, warm_up=2):
    """{name: [record of each round]} of functions that take turns; `warm_up` rounds before are not kept."""
    records = {name: [] for name in steps}
    for turn in range(warm_up + repeats):
        for name, step in steps.items():
            record = step()
            if turn >= warm_up:
                records[name].append(record)
    return records


def seconds(records):
    return statistics.median(record["seconds"] for record in records)


def ratio(above, below, key="seconds"):
    """Median of the rounds' ratios: what slows the machine down for a while slows both sides."""
    return statistics.median(a[key] / b[key] for a, b in zip(above, below))
