"""Write the reference data that the C tests compare with, or check the stored data against a fresh run.

    python tests/oracle/make_fixtures.py --out tests/fixtures        write
    python tests/oracle/make_fixtures.py --check tests/fixtures      recompute and compare, exit 1 on difference

See README.md beside this file for what the files contain.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

import adalora_case
import beam_case
import generate_case
import metrics_case
import model_cases
import optimizer_case
import smoothing_case
import whole_model_case
from stored import compare_directories

TOLERANCE = 1e-5


def writers():
    """{folder: function that fills the existing folder}."""
    table = {name: (lambda folder, name=name: model_cases.write_case(name, folder)) for name in model_cases.CASES}
    table["optimizer"] = optimizer_case.write_case
    table["metrics"] = metrics_case.write_case
    table["beam"] = beam_case.write_case
    table["generate"] = generate_case.write_case
    table["label-smoothing"] = smoothing_case.write_case
    table["adalora"] = adalora_case.write_case
    table["full"] = whole_model_case.write_full
    table["adapter"] = whole_model_case.write_adapter
    return table


def write_all(directory, names):
    for name in names:
        folder = Path(directory) / name
        folder.mkdir(parents=True, exist_ok=True)
        writers()[name](folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", metavar="DIR", help="write the fixtures into DIR")
    action.add_argument("--check", metavar="DIR", help="compare the fixtures in DIR with a fresh run")
    parser.add_argument("--case", action="append", choices=list(writers()), help="only this folder (repeatable)")
    arguments = parser.parse_args()
    names = arguments.case or list(writers())
    torch.set_num_threads(1)

    if arguments.out:
        write_all(arguments.out, names)
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        write_all(fresh, names)
        differences = compare_directories(fresh, arguments.check, TOLERANCE)
    for line in differences:
        print(line)
    print(f"{len(names)} folders compared, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
