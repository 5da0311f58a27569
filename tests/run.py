#!/usr/bin/env python3
"""Runs every test: python3 tests/run.py [-k PATTERN] [-x] [--again N] [--list] [--build DIR --bin DIR] [--timeout S]

Unit tests are the cmocka programs BUILD/tests/test_*, one for each tests/unit/test_*.c. A source that
says `mpi_ranks: 1 2 3` in a comment is started under mpirun, once for each of these numbers.
Run tests are the functions test_* of tests/runs/test_*.py; they start BIN/autolora themselves, on the
numbers of ranks that they name. Each runs in a process and a session of its own: what is still there
after its time is killed, with all that it started, and the test has failed.

One line a test; the output of those that failed follows; the last line is
`N passed, N failed, N skipped`. The exit code is 1 if a test failed or if none ran.
With --again N, run tests that failed, if they are no more than N, are run once more: what passes then counts as
passed, but is named with its first output. Unit tests have no second try.
"""
import argparse
import contextlib
import importlib.util
import os
import pathlib
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNIT_SOURCES = ROOT / "tests" / "unit"
SKIP_CODE = 77
SHOWN_LINES = 60
GRACE_SECONDS = 3  # for what a finished test has left behind

PASSED, FAILED, SKIPPED = "pass", "FAIL", "skip"


class Result:
    def __init__(self, name, status, seconds, output="", reason=""):
        self.name, self.status, self.seconds = name, status, seconds
        self.output, self.reason = output, reason
        self.is_second = False  # passed when it was run again; the output is that of the failure

    def line(self):
        text = f"{self.status}  {self.seconds:7.2f} s  {self.name}"
        return f"{text}: {self.reason}" if self.reason else text


# ---- processes ----


def session_members(session):
    """Living processes of a session. mpirun gives each rank a process group, but not a session."""
    members = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                members.append(int(stat.parent.name))
    return members


def kill_session(session):
    for pid in session_members(session):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def has_leftovers(session):
    """True if a finished test has left processes behind, which are killed."""
    end = time.monotonic() + GRACE_SECONDS
    while session_members(session):
        if time.monotonic() > end:
            kill_session(session)
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def started(command, environment, folder):
    """A process in a session of its own, of which nothing is left afterwards."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment, cwd=folder, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_session(process.pid)
        process.stdout.close()
        process.wait()


def read_lines(process, seconds):
    """Lines as they come; a None and the end once nothing more may be waited for: every line that
    starts a unit test (the caller sends True) starts the time anew."""
    buffer, end = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0, end - time.monotonic())):
                yield None
                return
            piece = os.read(process.stdout.fileno(), 1 << 16)
            buffer += piece
            *lines, buffer = buffer.split(b"\n")
            if not piece and buffer:
                lines.append(buffer)
            for line in lines:
                if (yield line.decode("utf-8", "replace")):
                    end = time.monotonic() + seconds
            if not piece:
                return


def finish(process):
    """Exit code of a process that has closed its output; None if it does not end."""
    try:
        return process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def mpirun_command():
    flags = os.environ.get("MPIRUN_FLAGS", "--oversubscribe --bind-to none")
    return shlex.split(os.environ.get("MPIRUN", "mpirun")) + shlex.split(flags)


def environment_for(options, scratch):
    environment = dict(os.environ)
    environment.update(
        OMP_NUM_THREADS="1",
        OMP_WAIT_POLICY="passive",  # ranks and threads may share a core
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        # A rank that waits gives its core away: where others want it too, messages took ten times as long.
        OMPI_MCA_mpi_yield_when_idle="1",
        # One node: no search for networks, no daemon for a lone rank. It halves the time of a start.
        OMPI_MCA_pml="ob1",
        OMPI_MCA_ess_singleton_isolated="1",
        # Containers often forbid the system calls of a single copy; Open MPI complains on stderr.
        OMPI_MCA_btl_vader_single_copy_mechanism="none",
        CMOCKA_MESSAGE_OUTPUT="STDOUT",
        AUTOLORA_FIXTURES=str(ROOT / "tests" / "fixtures"),
        AUTOLORA_BIN=str(options.bin / "autolora"),
        AUTOLORA_BUILD=str(options.build),
        AUTOLORA_MPIRUN=shlex.join(mpirun_command()),
        AUTOLORA_TIMEOUT=str(options.timeout / 2),
        TMPDIR=str(scratch),
        PYTHONDONTWRITEBYTECODE="1",
    )
    # Open MPI keeps memory to its end; the program counts its own blocks.
    environment.setdefault("ASAN_OPTIONS", "detect_leaks=0")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    return environment


# ---- unit tests ----


class Function:
    """What the ranks of one program said about one test function."""

    def __init__(self):
        self.start, self.end = time.monotonic(), None
        self.statuses, self.lines = [], []

    def result(self, name, num_ranks, is_late):
        seconds = (self.end or time.monotonic()) - self.start
        output = "\n".join(self.lines)
        if "FAILED" in self.statuses or "ERROR" in self.statuses:
            return Result(name, FAILED, seconds, output)
        if "SKIPPED" in self.statuses:
            return Result(name, SKIPPED, seconds, reason="the test skipped itself")
        if len(self.statuses) < num_ranks:
            reason = "did not end in time" if is_late else "the program ended within it"
            return Result(name, FAILED, seconds, output, reason)
        return Result(name, PASSED, seconds)


class UnitProgram:
    LINE = re.compile(r"\[ +(RUN|OK|FAILED|SKIPPED|ERROR) +\] (\S+)$")

    def __init__(self, source, options):
        text = source.read_text()
        self.program = options.build / "tests" / source.stem
        self.name = f"unit/{source.stem}"
        self.functions = re.findall(r"\bvoid\s+(test_\w+)\(void \*\*", text)
        counts = re.search(r"\bmpi_ranks:((?:\s+\d+)+)", text)
        self.rank_counts = [int(n) for n in counts[1].split()] if counts else [None]

    def full_name(self, function, num_ranks):
        return f"{self.name}.{function}" + (f"[{num_ranks}]" if num_ranks else "")

    def names(self, pattern):
        return [name for n in self.rank_counts for function in self.functions
                if pattern in (name := self.full_name(function, n))]

    def run(self, options, scratch):
        wanted = self.names(options.k)
        if not self.program.exists():
            if wanted or options.k in self.name:
                yield Result(self.name, FAILED, 0, reason=f"{self.program} is not built")
            return
        for num_ranks in self.rank_counts:
            if any(name in wanted for name in (self.full_name(f, num_ranks) for f in self.functions)):
                for result in self.run_on(num_ranks, options, scratch):
                    if options.k in result.name:
                        yield result

    def run_on(self, num_ranks, options, scratch):
        launcher = [] if num_ranks is None else mpirun_command() + ["-n", str(num_ranks)]
        start, functions, all_lines, current, is_late = time.monotonic(), {}, [], None, False
        environment = environment_for(options, scratch)
        with started(launcher + [str(self.program)], environment, ROOT) as process:
            lines = read_lines(process, options.timeout)
            line = next(lines, "")
            while True:
                if line is None:
                    is_late = True
                    break
                all_lines.append(line)
                found = self.LINE.search(line)
                is_start = found is not None and found[1] == "RUN"
                if is_start:
                    current = functions.setdefault(found[2], Function())
                elif found and found[2] in functions and functions[found[2]].end is None:
                    function = functions[found[2]]
                    function.statuses.append(found[1])
                    if len(function.statuses) == (num_ranks or 1):
                        function.end = time.monotonic()
                elif current is not None and current.end is None:
                    current.lines.append(line)
                try:
                    line = lines.send(is_start)
                except StopIteration:
                    break
            exit_code = None if is_late else finish(process)
        if num_ranks is not None:  # what the ranks say about a function is mixed with the rest
            for function in functions.values():
                function.lines = all_lines
        results = [f.result(self.full_name(name, num_ranks), num_ranks or 1, is_late)
                   for name, f in functions.items()]
        yield from results
        if exit_code != 0 and not any(r.status == FAILED for r in results) or not results:
            reason = "did not end in time" if exit_code is None else f"exit code {exit_code}"
            yield Result(self.full_name("main", num_ranks), FAILED, time.monotonic() - start,
                         "\n".join(all_lines), reason)


# ---- run tests ----


def load(path):
    sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def functions_of(module):
    """{"test_x" or "test_x[case]": a callable}. common.cases gives a function its cases."""
    found = {}
    for name, function in vars(module).items():
        if not name.startswith("test_") or not callable(function):
            continue
        cases = getattr(function, "cases", None)
        if cases is None:
            found[name] = function
            continue
        for case, value in cases.items():
            found[f"{name}[{case}]"] = lambda function=function, value=value: function(value)
    return found


def run_one(path, name):
    """The child process of one run test; its exit code is the verdict."""
    module = load(pathlib.Path(path))
    common = sys.modules.get("common")
    skip = common.Skip if common else ()
    try:
        functions_of(module)[name]()
    except skip as reason:
        print(reason)
        return SKIP_CODE
    except Exception:
        sys.stdout.flush()
        traceback.print_exc()
        return 1
    return 0


class RunFile:
    def __init__(self, path):
        self.path, self.name = path, f"runs/{path.stem}"
        self.functions, self.broken = [], ""
        try:
            self.functions = list(functions_of(load(path)))
        except Exception:
            self.broken = traceback.format_exc()

    def names(self, pattern):
        return [name for function in self.functions
                if pattern in (name := f"{self.name}.{function}")]

    def run(self, options, scratch):
        if self.broken:
            yield Result(self.name, FAILED, 0, self.broken, "cannot be loaded")
        for function in self.functions:
            if options.k in f"{self.name}.{function}":
                yield self.run_function(function, options, scratch)

    def run_function(self, function, options, scratch):
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch, prefix="t"))
        folder.chmod(0o755)  # some tests start the program as another user
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--one", str(self.path),
                   function]
        start, lines = time.monotonic(), []
        with started(command, environment_for(options, folder), folder) as process:
            lines = list(read_lines(process, options.timeout))
            exit_code = None if lines[-1:] == [None] else finish(process)
            if exit_code is None:
                kill_session(process.pid)
            has_left = exit_code is not None and has_leftovers(process.pid)
        shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - start
        name, output = f"{self.name}.{function}", "\n".join(line for line in lines if line)
        if exit_code is None:
            return Result(name, FAILED, seconds, output, f"not done in {options.timeout:g} s")
        if has_left:
            return Result(name, FAILED, seconds, output, "left processes behind")
        if exit_code == SKIP_CODE:
            return Result(name, SKIPPED, seconds, reason=output)
        return Result(name, PASSED if exit_code == 0 else FAILED, seconds, output)


# ---- all of them ----


def read_arguments():
    parser = argparse.ArgumentParser(description="Runs the tests.", allow_abbrev=False)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release",
                        help="directory of the build (build/release)")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "bin",
                        help="directory of the program (bin)")
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "tests" / "runs",
                        help="directory of the run tests (tests/runs)")
    parser.add_argument("-k", metavar="PATTERN", default="",
                        help="only tests whose name contains this")
    parser.add_argument("-x", action="store_true", help="end at the first failure")
    parser.add_argument("--again", type=int, default=0, metavar="N",
                        help="run tests that failed, if no more than N did, run once more (0)")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS",
                        help="for one test (120)")
    parser.add_argument("--list", action="store_true", help="names only")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("build", "bin", "runs"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def run_all(groups, options):
    results = []
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="autolora-"))
    scratch.chmod(0o755)
    try:
        for group in groups:
            for result in group.run(options, scratch):
                print(result.line(), flush=True)
                results.append(result)
                if options.x and result.status == FAILED:
                    return results
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return results


def run_again(groups, results, options):
    """A second try shows whether a failure is one of the test's moment; it stays in the report."""
    failed = [result for result in results if result.status == FAILED]
    if len(failed) > options.again:
        return
    for result in failed:
        alone = argparse.Namespace(**{**vars(options), "k": result.name})
        second = run_all([group for group in groups if isinstance(group, RunFile) and
                          result.name in group.names(result.name)], alone)
        if second and all(r.status == PASSED for r in second):
            first = f"; first: {result.reason}" if result.reason else ""
            result.status, result.is_second = PASSED, True
            result.reason = "passed when it was run again" + first


def report(results):
    for result in results:
        if result.status == FAILED or result.is_second:
            print(f"\n---- {result.line()}")
            print("\n".join(result.output.splitlines()[-SHOWN_LINES:]))
    counts = [sum(r.status == status for r in results) for status in (PASSED, FAILED, SKIPPED)]
    print(f"\n{sum(r.seconds for r in results):.0f} s")
    print("{} passed, {} failed, {} skipped".format(*counts), flush=True)
    return 1 if counts[1] > 0 or counts[0] == 0 else 0


def main():
    options = read_arguments()
    if options.one:
        return run_one(*options.one)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # lets the clean-up happen
    sys.dont_write_bytecode = True
    groups = [UnitProgram(source, options) for source in sorted(UNIT_SOURCES.glob("test_*.c"))]
    groups += [RunFile(path) for path in sorted(options.runs.glob("test_*.py"))]
    if options.list:
        for group in groups:
            print(*group.names(options.k), sep="\n", end="\n" if group.names(options.k) else "")
        return 0
    results = run_all(groups, options)
    run_again(groups, results, options)
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
