"""The rules of the tree: layers, libraries behind one file each, formatting, no machine's paths."""
import os
import json
import re
import shutil
import subprocess

import common
from common import ROOT, Skip

TOP = {"Makefile", "src", "include", "jobs", "inputs", "outputs", "tests", "analysis", "README.md",
       "LICENSE", ".ci", ".clang-format", ".clang-tidy", ".gitignore"}
# What each layer may include besides itself; the files outside of folders may include anything.
LAYERS = {
    "base": (),
    "parallel": ("base/",),
    "math": ("base/",),
    "model": ("math/", "base/"),
    "io": ("math/", "parallel/comm.h", "base/"),
    "train": ("model/", "io/", "math/", "parallel/", "base/"),
}
QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def files_of_repository():
    """Paths of what is, or would be, in the repository."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], capture_output=True)
    if listed.returncode != 0:
        raise Skip(f"git: {listed.stderr.decode().partition(chr(10))[0]}")
    names = os.fsdecode(listed.stdout).split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def sources(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.[ch]"))


def relative(path):
    return path.relative_to(ROOT).as_posix()


def code_of(path):
    """A C file without its comments and the contents of its strings."""
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', path.read_text())
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def assert_only(pattern, allowed, what):
    using = {relative(path) for path in sources("src", "include")
             if re.search(pattern, code_of(path))}
    assert using == set(allowed), f"{what} in {sorted(using)}, expected in {sorted(allowed)}"


def test_top_level():
    found = {relative(path).split("/")[0] for path in files_of_repository()}
    assert found == TOP, f"missing {sorted(TOP - found)}, too much {sorted(found - TOP)}"


def test_layers():
    wrong = []
    for path in sources("src", "include"):
        layer = relative(path).split("/")[1]
        if layer not in LAYERS:
            assert path.parent.name in ("src", "include"), f"{relative(path)}: in no known layer"
            continue
        for name in QUOTED.findall(path.read_text()):
            if not name.startswith((f"{layer}/", *LAYERS[layer])):
                wrong.append(f"{relative(path)} includes {name}")
    assert not wrong, "\n".join(wrong)


def test_includes_name_their_folder():
    for path in sources("src", "include"):
        for name in QUOTED.findall(path.read_text()):
            assert (ROOT / "include" / name).is_file(), f"{relative(path)} includes {name}"


def test_include_mirrors_src():
    def folders(top):
        return {path.name for path in (ROOT / top).iterdir() if path.is_dir()}
    assert folders("include") == folders("src") == set(LAYERS)
    headers = {path.relative_to(ROOT / "include") for path in sources("include")}
    for path in sources("src"):  # a source of its own name, or one whose header it implements
        first = QUOTED.search(path.read_text())
        assert first or path.name == "main.c", f"{relative(path)} includes no header"
    for path in headers:
        guard = "AUTOLORA_" + re.sub(r"\W", "_", path.as_posix()).upper()
        text = (ROOT / "include" / path).read_text()
        for line in (f"#ifndef {guard}\n", f"#define {guard}\n"):
            assert line in text, f"include/{path} has no guard {guard}"


def test_libraries_have_one_door_each():
    assert_only(r"#\s*include\s*<blis", ["src/math/gemm.c"], "blis.h")
    assert_only(r"#\s*include\s*<cjson|\bcJSON_\w", ["src/io/json.c"], "cJSON")
    assert_only(r"#\s*include\s*<hdf5", ["src/io/h5file.c", "src/io/h5reader.c", "include/io/h5driver.h"],
                "hdf5.h")
    assert_only(r"\b(Cblacs_\w+|descinit_|numroc_|p[sd][a-z]+_)\s*\(", ["src/math/dist_matrix.c"],
                "ScaLAPACK")


def test_model_knows_no_mpi():
    for path in sources("src/model", "include/model"):
        assert not re.search(r"\bMPI_|<mpi\.h>", code_of(path)), relative(path)


def test_keys_page():
    outcome = common.start(["keys"])
    assert outcome.code == 0, outcome
    page = (ROOT / "inputs" / "README.md").read_text()
    assert outcome.out == page, "inputs/README.md is not what `autolora keys` prints"


def test_input_files():
    """Their keys are good; what is missing is the model."""
    paths = sorted([*(ROOT / "inputs").glob("*.json"), *(ROOT / "inputs" / "paper").glob("*.json")])
    assert len(paths) > 10
    for path in paths:
        folder = common.new_folder()
        outcome = common.start(["run", path, "--set", "model.path=nowhere", "--set",
                                f"run.output_dir={folder}"])
        assert outcome.code == 3 and "nowhere/config.json" in outcome.err, outcome
        assert json.loads(path.read_text())["run"]["name"] in (path.stem, "demo"), path


def test_formatting():
    if shutil.which("clang-format") is None:
        raise Skip("clang-format is not there")
    paths = [str(path) for path in sources("src", "include", "tests/unit", "tests/tools", "tests/fuzz")]
    checked = subprocess.run(["clang-format", "--dry-run", "-Werror", *paths], cwd=ROOT,
                             capture_output=True, text=True)
    files = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", checked.stderr, re.MULTILINE)))
    assert checked.returncode == 0, f"not formatted (make format): {files}"


def test_no_paths_of_a_machine():
    pattern = re.compile("/" + r"(?:work|home|root)/\w")
    wrong = []
    for path in files_of_repository():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{relative(path)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)
