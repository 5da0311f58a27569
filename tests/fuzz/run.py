#!/usr/bin/env python3
"""Fuzzes with the harnesses of tests/fuzz: python3 tests/fuzz/run.py [--seconds S] [--data DIR] [-k NAME]

make FUZZ=1 has built them. Each runs for S seconds, one after the other, from the seeds of seeds.py, the inputs
kept in tests/fuzz/regressions/NAME and what earlier runs have found (build/fuzz/corpus/NAME). An input that
crashes, leaks, hangs or takes too much memory is left in build/fuzz/found and shown. The last line is
`N passed, N failed, N skipped`, in harnesses.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests" / "fuzz"
BUILD = ROOT / "build" / "fuzz"
LONGEST = 4096  # bytes of an input
HANG_SECONDS = 20
WORD = re.compile(rb'"([^"\\\n]{1,40})"')


def write_dictionary(seeds, path):
    """The words of JSON seeds, for mutations."""
    words = {word for seed in seeds.iterdir() for word in WORD.findall(seed.read_bytes())} | {b"=====\n"}
    lines = ['"' + "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\' else f"\\x{c:02x}" for c in word) + '"'
             for word in sorted(words)]
    path.write_text("\n".join(lines[:500]) + "\n")


def fuzz(name, options, scratch):
    seeds, corpus, kept = BUILD / "seeds" / name, BUILD / "corpus" / name, HERE / "regressions" / name
    found = BUILD / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    dictionary = BUILD / "seeds" / f"{name}.dict"
    write_dictionary(seeds, dictionary)
    command = [BUILD / "fuzz" / name, corpus, seeds, *([kept] if kept.is_dir() else []),
               f"-max_total_time={options.seconds}", f"-max_len={LONGEST}", f"-timeout={HANG_SECONDS}",
               "-rss_limit_mb=1024", "-malloc_limit_mb=256", f"-dict={dictionary}", "-print_final_stats=1",
               f"-artifact_prefix={found}/{name}-", "-verbosity=1"]
    start = time.monotonic()
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, cwd=scratch,
                          env={"TMPDIR": str(scratch), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
                               "OMPI_MCA_btl_vader_single_copy_mechanism": "none"})
    text = done.stdout.decode(errors="replace")
    executions = re.search(r"stat::number_of_executed_units: (\d+)", text)
    executions = int(executions[1]) if executions else 0
    edges = re.findall(r"cov: (\d+)", text)
    is_good = done.returncode == 0 and executions > 0
    print(f"{'pass' if is_good else 'FAIL'}  {time.monotonic() - start:6.0f} s  {executions:>10,} executions  "
          f"{edges[-1] if edges else '?':>5} edges  {name}", flush=True)
    if not is_good:
        print("\n".join(text.splitlines()[-60:]), flush=True)
    return is_good, executions


def main():
    parser = argparse.ArgumentParser(description="Fuzzes the program's readers.", allow_abbrev=False)
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (60)")
    parser.add_argument("--data", type=pathlib.Path, help="folder with real data to start from")
    parser.add_argument("-k", metavar="NAME", default="", help="only harnesses whose name contains this")
    options = parser.parse_args()
    names = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c") if options.k in path.stem)
    shutil.rmtree(BUILD / "seeds", ignore_errors=True)
    data = [options.data.resolve()] if options.data and options.data.is_dir() else []
    subprocess.run([sys.executable, HERE / "seeds.py", BUILD / "seeds", *data], check=True)
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        results = [fuzz(name, options, pathlib.Path(scratch)) for name in names]
    failed = sum(not is_good for is_good, _ in results)
    print(f"\n{sum(count for _, count in results):,} executions")
    print(f"{len(results) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
