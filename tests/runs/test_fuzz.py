"""The inputs of the fuzzing harnesses: those that once found something, and those that fuzzing starts from."""
import os
import pathlib
import subprocess
import sys

import common
from common import ROOT

HARNESSES = sorted(path.stem.removeprefix("fuzz_") for path in (ROOT / "tests" / "fuzz").glob("fuzz_*.c"))


def programs():
    return pathlib.Path(os.environ["AUTOLORA_BUILD"]) / "fuzz"


@common.cases(**{name: name for name in HARNESSES})
def test_inputs(name):
    folder = common.new_folder()
    subprocess.run([sys.executable, ROOT / "tests" / "fuzz" / "seeds.py", folder], check=True)
    kept = ROOT / "tests" / "fuzz" / "regressions" / name
    folders = [folder / name, *([kept] if kept.is_dir() else [])]
    done = subprocess.run([programs() / name, *folders], capture_output=True, text=True, errors="replace",
                          env={**os.environ, "TMPDIR": str(folder)})
    count = sum(len(list(f.iterdir())) for f in folders)
    assert done.returncode == 0 and done.stdout.endswith(f"\n{count} inputs\n"), done


def test_every_harness_has_seeds():
    folder = common.new_folder()
    subprocess.run([sys.executable, ROOT / "tests" / "fuzz" / "seeds.py", folder], check=True)
    assert sorted(path.name for path in folder.iterdir()) == HARNESSES
    assert all(any((folder / name).iterdir()) for name in HARNESSES)
