#!/usr/bin/env python3
"""How much the tests notice: breaks the program in one place after the other and runs them.

    python3 tests/mutation.py [--count N] [--seed S] [--workers W] [--minutes M] [--only FOLDER] [--out FILE.jsonl]

A mutant is a copy of the sources in which one operator, number or condition is another, or one statement is missing. The
places are drawn at random from all of src/, by the seed; those that would say nothing are left out: texts, the release of
memory (the sanitizers look at that), timers, notes for the watchdog, and checks of the program's own faults. Each mutant
is built, and the tests run until the first fails: first the unit tests that include the header of the changed source, then
all unit tests, then the run tests. One line a mutant goes to FILE; a mutant that is there already is not made again, so
that a stopped measurement goes on. Where the whole program fails that test too, the mutant is "unsure". The last line is
`N noticed, N survived, N unsure, N not compiled`.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
IGNORED = re.compile(r"memory_(free|allocate|resize)|_destroy\(|_free\(|timer_(start|stop)|activity_|FAULT|problem_set|printf|"
                     r"_Static_assert|^\s*(#|//|/\*|\*)|\bcase\b|HELP\(|\bextern\b|H5[A-Z]?close|H5Eset|fclose|munmap")
OPERATORS = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ", " + ": " - ",
             " - ": " + ", " * ": " / ", " / ": " * ", " += ": " -= ", " -= ": " += ", " && ": " || ", " || ": " && "}
NUMBERS = {"0": "1", "1": "2", "2": "3"}
STATEMENT = re.compile(r"^ {4,}[a-z_0-9]+\(.*\);$")
SLOW_RUNS = ("test_repository", "test_analysis", "test_runner", "test_install", "test_jobs")


def mutants_of_line(line):
    """[(kind, new line)]"""
    found = []
    for old, new in OPERATORS.items():
        for match in re.finditer(re.escape(old), line):
            found.append((f"{old.strip()} to {new.strip()}", line[:match.start()] + new + line[match.end():]))
    is_array = re.match(r" *(static |const )*(struct )?\w+[ *]+\w+\[.*\];", line)  # larger is as good
    for match in () if is_array else re.finditer(r"(?<![\w.\"%])([012])(?![\w.\"])", line):
        found.append((f"{match[1]} to {NUMBERS[match[1]]}", line[:match.start()] + NUMBERS[match[1]] + line[match.end():]))
    for match in re.finditer(r"(?<=[( ])!(?=\w)", line):
        found.append(("without !", line[:match.start()] + line[match.end():]))
    for old, new in (("true", "false"), ("false", "true")):
        for match in re.finditer(rf"\breturn {old};", line):
            found.append((f"return {new}", line[:match.start()] + f"return {new};" + line[match.end():]))
    if STATEMENT.match(line):
        found.append(("without the statement", re.sub(r"\S.*", ";", line)))
    return found


def places(only):
    """{source: [(line number, kind, new line)]}, without comments and texts."""
    found = {}
    for path in sorted((ROOT / "src").rglob("*.c")):
        name = str(path.relative_to(ROOT))
        if only and not name.startswith(only):
            continue
        in_comment, in_ignored = False, False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = re.sub(r"/\*.*?\*/", "", line)
            was_comment, was_ignored = in_comment, in_ignored
            if "/*" in code:
                in_comment = True
            if "*/" in code:
                in_comment = False
            if IGNORED.search(code):
                in_ignored = True
            elif not was_ignored and not was_comment and not in_comment and '"' not in code and "*/" not in line:
                found.setdefault(name, []).extend((number, *mutant) for mutant in mutants_of_line(line))
            if code.rstrip().endswith((";", "{", "}")):
                in_ignored = False  # a statement that goes on is ignored to its end
    return found


def draw(options):
    """`count` mutants: a source in proportion to its places' square root, then a place."""
    found, generator = places(options.only), random.Random(options.seed)
    names = list(found)
    weights = [len(found[name]) ** 0.5 for name in names]
    chosen, keys = [], set()
    while len(chosen) < options.count and len(keys) < sum(map(len, found.values())):
        name = generator.choices(names, weights)[0]
        if found[name]:
            number, kind, line = generator.choice(found[name])
            key = f"{name}:{number}: {kind}: {line.strip()}"
            if key not in keys:
                keys.add(key)
                chosen.append({"source": name, "line": number, "kind": kind, "text": line, "key": key})
    return chosen


class Worker:
    """A copy of the project that is built once; its library is shared, so that a mutant costs one compilation."""

    def __init__(self, number):
        self.folder = ROOT / "build" / f"mutation-{number}"
        if self.folder.exists():
            shutil.rmtree(self.folder)
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, files.decode().split("\0")):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        if (ROOT / "inputs" / "models").exists():
            (self.folder / "inputs" / "models").symlink_to(ROOT / "inputs" / "models")
        self.make("tests", check=True)

    def make(self, *goals, check=False):
        command = ["make", "-s", f"-j{os.cpu_count()}", "SHARED=1", "WARNINGS=", "OPT=-O1 -fPIC", "ARCH=native", *goals]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{shutil.which('make')}: {done.stderr[-2000:]}")
        return done.returncode == 0

    def test(self, pattern, timeout=60):
        """The first test that fails, or "". """
        command = [sys.executable, "tests/run.py", "-x", "-k", pattern, "--timeout", str(timeout)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        failed = re.search(r"^FAIL +\S+ s +(\S+)", done.stdout, re.M)
        return failed[1] if failed else "" if done.returncode == 0 or " 0 failed" in done.stdout else "tests/run.py"

    def patterns(self, source):
        header = f'"{pathlib.Path(source).relative_to("src").with_suffix(".h")}"'
        units = [path for path in sorted((self.folder / "tests" / "unit").glob("test_*.c"))]
        near = [path.stem for path in units if header in path.read_text()]
        yield from (f"unit/{name}." for name in near)
        yield from (f"unit/{path.stem}." for path in units if path.stem not in near)
        runs = [path.stem for path in sorted((self.folder / "tests" / "runs").glob("test_*.py"))]
        yield from (f"runs/{name}." for name in runs if name not in SLOW_RUNS)

    def try_mutant(self, mutant):
        path = self.folder / mutant["source"]
        original = path.read_text()
        lines = original.splitlines(keepends=True)
        lines[mutant["line"] - 1] = mutant["text"] + "\n"
        start = time.monotonic()
        path.write_text("".join(lines))
        try:
            if not self.make("build/release/libautolora.so"):
                return {**mutant, "outcome": "not compiled"}
            if mutant["source"] == "src/main.c":
                self.make("all")
            failed = next(filter(None, map(self.test, self.patterns(mutant["source"]))), "")
        finally:
            path.write_text(original)
        outcome = "noticed" if failed else "survived"
        if failed:
            self.make("build/release/libautolora.so", "all", check=True)
            if self.test(failed.partition("[")[0]):
                outcome = "unsure"
        return {**mutant, "outcome": outcome, "by": failed, "seconds": time.monotonic() - start}


def read_known(path):
    if not path.exists():
        return {}
    return {entry["key"]: entry for entry in map(json.loads, path.read_text().splitlines())}


def main():
    parser = argparse.ArgumentParser(description="Mutants of the program and what the tests notice.")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no new mutant after that")
    parser.add_argument("--only", default="", help="sources whose path begins so, as src/model")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "outputs" / "mutation.jsonl")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    mutants, known, lock = draw(options), read_known(options.out), threading.Lock()
    if options.list:
        print(*(mutant["key"] for mutant in mutants), sep="\n")
        return 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    waiting = [mutant for mutant in mutants if mutant["key"] not in known]
    end = time.monotonic() + 60 * options.minutes

    def work(number):
        worker = Worker(number)
        while time.monotonic() < end:
            with lock:
                if not waiting:
                    return
                mutant = waiting.pop(0)
            entry = worker.try_mutant(mutant)
            with lock, options.out.open("a") as file:
                known[entry["key"]] = entry
                file.write(json.dumps(entry) + "\n")
                print(f"{entry['outcome']:12} {entry.get('by', '')}  {entry['key']}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(work, range(options.workers)))
    outcomes = [known[mutant["key"]]["outcome"] for mutant in mutants if mutant["key"] in known]
    print(", ".join(f"{outcomes.count(name)} {name}" for name in ("noticed", "survived", "unsure", "not compiled")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
