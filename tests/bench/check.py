#!/usr/bin/env python3
"""make bench-check: what an iteration costs, in numbers that do not depend on how fast or how busy the machine is.

  check.py --program BUILD/bench/autolora --plain BUILD/main [--store]

Products and floating-point operations, bytes sent and allocations of one iteration are counted by the probe
(probe.c), instructions by valgrind's callgrind, both for a tiny model. They may differ from counts.json by 2 %; an
iteration allocates nothing at all. --store writes counts.json anew, after a change that is meant to change them.
Instructions depend on the compiler and the libraries and are compared where these are those of counts.json.
The last line is `N passed, N failed, N skipped`.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import cases
from sides import ENVIRONMENT, mpirun

STORED = pathlib.Path(__file__).with_name("counts.json")
ALLOWED = 0.02
STEPS, LOOKED_AT = 8, 5  # the iteration that is compared; the first ones meet names, open files, keep a timeline
COUNTED = ("products", "product_flops", "small_products", "small_flops", "messages", "message_bytes")
# name: (ranks, task, keys)
CASES = {
    "LoRA step": (1, "cola", {"adapter__method": "lora"}),
    "LoRA step, dropout": (1, "cola", {"adapter__method": "lora", "model__hidden_dropout": 0.1,
                                       "model__attention_dropout": 0.1}),
    "LoRA step, labels of tokens": (1, "ner", {"adapter__method": "lora"}),
    "LoRA step, language model": (1, "e2e", {"adapter__method": "lora"}),
    "search, exact": (1, "cola", {}),
    "search, finite difference": (1, "cola", {"search__hypergradient": "finite_difference"}),
    "search, first order": (1, "cola", {"search__hypergradient": "first_order"}),
    "search, reference": (1, "cola", {"search__recipe": "reference"}),
    "LoRA step, 2 ranks": (2, "cola", {"adapter__method": "lora"}),
    "search, exact, 2 ranks": (2, "cola", {}),
}
INSTRUCTIONS = ("LoRA step", "search, exact")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the program with the probe")
    parser.add_argument("--plain", help="the program as it is, for instruction counts: compiled for x86-64-v3")
    parser.add_argument("--store", action="store_true")
    return parser.parse_args()


def write_case(folder, name):
    """The input file of a case."""
    _, task, keys = CASES[name]
    family = "gpt2" if task == "e2e" else "roberta"
    model = cases.write_model(folder / family, family, "tiny")
    data = cases.write_data(folder / task, task, cases.lengths_like("cola", 64))
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    return cases.write_input(folder / "input.json", model, data, task, output, search__steps=STEPS,
                             retrain__steps=STEPS, task__limit_dev=1, task__max_new_tokens=2, task__num_beams=1,
                             output__report_seconds=3600, output__flush_seconds=3600, **keys)


def environment(**more):
    return {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1", **more}


def counts(program, folder, name):
    """Of one iteration, all ranks together."""
    ranks = CASES[name][0]
    path = write_case(folder, name)
    start = [*mpirun(ranks)] if ranks > 1 else []
    subprocess.run([*start, program, "run", path], check=True, stdout=subprocess.DEVNULL,
                   env=environment(AUTOLORA_PROBE_OUT=str(folder / "probe")))
    phase = "search" if name.startswith("search") else "retrain"
    records = [json.loads(line) for line in (folder / "probe").read_text().splitlines()]
    record = next(r for r in records if r["phase"] == phase and r["step"] == LOOKED_AT + 1)
    return {counter: round(sum(record[counter])) for counter in (*COUNTED, "allocations")}


def instructions(plain, folder, name):
    """Of the same iteration; callgrind writes its sums whenever an iteration begins."""
    path = write_case(folder, name)
    for old in folder.glob("callgrind.*"):
        old.unlink()
    subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind",
                    "--dump-before=activity_step", plain, "run", path], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env=environment())
    # Part 1 ends where iteration 0 begins.
    text = (folder / f"callgrind.{LOOKED_AT + 2}").read_text()
    return int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])


def versions(plain):
    """What instruction counts depend on."""
    info = subprocess.run([plain, "info"], capture_output=True, text=True, check=True, env=environment()).stdout
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout
    kept = [line for line in info.splitlines() if re.match(r"(compiler|BLIS|MPI|HDF5)\b", line.strip())]
    return [valgrind.strip(), *(re.sub(r"\s+", " ", re.sub(r"\S*/\S*|kernels \S+", "", line)).strip() for line in kept)]


class Check:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def compare(self, name, counter, value, stored):
        is_good = value == 0 if counter == "allocations" else (
            stored is not None and abs(value - stored) <= ALLOWED * stored)
        self.passed, self.failed = self.passed + is_good, self.failed + (not is_good)
        if not is_good:
            expected = 0 if counter == "allocations" else stored
            change = f" ({100 * (value / expected - 1):+.1f} %)" if expected else ""
            print(f"FAIL  {name}: {counter} {value}, expected {expected}{change}")

    def skip(self, text):
        self.skipped += 1
        print(f"skip  {text}")


def check_instructions(check, options, folder, stored, found):
    if options.plain is None or shutil.which("valgrind") is None:
        check.skip("instructions: valgrind is not there (make setup NEEDS=valgrind)")
        return
    found["versions"] = versions(options.plain)
    if not options.store and stored.get("versions") != found["versions"]:
        check.skip(f"instructions: stored for {stored.get('versions')}, here is {found['versions']}")
        return
    for name in INSTRUCTIONS:
        found["cases"][name]["instructions"] = value = instructions(options.plain, folder, name)
        if not options.store:
            check.compare(name, "instructions", value, stored["cases"].get(name, {}).get("instructions"))


def main():
    options = parse_arguments()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"cases": {}}
    found = {"cases": {}}
    check = Check()
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = pathlib.Path(name)
        for case in CASES:
            found["cases"][case] = counts(options.program, folder, case)
            expected = found if options.store else stored
            for counter, value in found["cases"][case].items():
                check.compare(case, counter, value, expected["cases"].get(case, {}).get(counter))
        check_instructions(check, options, folder, stored, found)
    if options.store:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped")
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
