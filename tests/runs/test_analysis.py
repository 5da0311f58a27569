"""The package analysis/: its own tests, and that it understands what the program of today leaves."""
import html
import json
import os
import re
import subprocess
import sys

from common import ROOT, Job, Skip, cases, new_folder, start

CANDIDATES = (sys.executable, str(ROOT / "build" / "analysis" / "bin" / "python"), "/usr/bin/python3")
PACKAGES = "import h5py, matplotlib, numpy, pandas, pytest, scipy"


def python():
    """An interpreter that has the packages."""
    for candidate in CANDIDATES:
        if os.path.exists(candidate) and subprocess.run([candidate, "-c", PACKAGES], capture_output=True).returncode == 0:
            return candidate
    raise Skip("no Python here has the packages of analysis/requirements.txt (make analysis-setup)")


@cases(**{path.stem[5:]: path for path in sorted((ROOT / "tests" / "analysis").glob("test_*.py"))})
def test_unit(path):
    done = subprocess.run([python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def analysis(*arguments):
    done = subprocess.run([python(), "-m", "analysis", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def facts(page):
    """{name: numbers} of the page's lists."""
    found = {}
    for term, content in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.read_text()):
        found[html.unescape(term)] = [float(value) for value in re.findall(r'<data value="([^"]*)"', content)]
    return found


def rows(page, name):
    """The numbers of a table of the page."""
    table, = re.findall(f'<table[^>]*data-name="{name}"[^>]*>(.*?)</table>', page.read_text(), re.DOTALL)
    return [numbers for row in table.split("<tr>")
            if (numbers := [float(value) for value in re.findall(r'<data value="([^"]*)"', row)])]


@cases(softmax={}, sigmoid={"search.constraint": "sigmoid", "output.trace_every": 3},
       budget={"search.target_mean_rank": 2})
def test_search(keys):
    """The program computes entropy and movement too: both agree, and the ranks are followed from the logits."""
    python()
    results = Job(keys={"search.steps": 40, "search.selection_lr": 0.05, **keys}).results()
    analysis("report", results.folder)
    page = results.folder / "report" / "index.html"
    found, search = facts(page), results.result["search"]
    assert abs(found["mean entropy at the end"][0] - search["mean_entropy"]) < 1e-6
    assert abs(found["largest movement at the end"][0] - search["largest_movement"]) < 1e-6
    assert abs(found["search train, last"][0] - search["loss_train"]) < 1e-12
    assert found["mean rank"] == [results.result["mean_rank"]]
    late, = found["movement in the last quarter, of all"]
    assert abs(late - search["convergence"]["last_quarter_share"]) < 1e-6
    for chosen, low, high, differs, *own in rows(page, "certainty"):
        assert max(low, own[0]) <= chosen <= min(high, own[1]), "both resample the same"
        assert abs(differs - own[2]) < 0.08, (differs, own)
    assert "Moving-block bootstrap" in page.read_text()
    assert "Where the time went" in page.read_text()


@cases(random="random", adalora="adalora")
def test_other_methods(method):
    python()
    results = Job(keys={"adapter.method": method, "adapter.mean_rank": 2}).results()
    table = analysis("table", results.folder, "--markdown").splitlines()[2]
    assert f"| cola | {method} |" in table and f"{results.result['score']:.3f}" in table
    if method == "adalora":
        analysis("report", results.folder)
        page = (results.folder / "report" / "index.html").read_text()
        assert "Singular values" in page and "No interval is known" in page


def test_watch():
    python()
    results = Job().results()
    lines = analysis("watch", results.folder, "--once").splitlines()
    assert lines[-1] == f"done: matthews_correlation {results.result['score']:.4f}"
    assert any(line.startswith("retrain step 4/4") for line in lines)


def test_planted_ranks():
    """The robust preset finds the ranks of a small teacher, where the threshold of selection variables does not."""
    folder, keys = new_folder(), {"search.preset": "robust", "search.steps": 320, "optimizer.lr": 0.02, "retrain.steps": 1}
    done = subprocess.run([python(), ROOT / "inputs" / "planted" / "generate.py", "--tiny", "--train", "8000", "--dev", "50",
                           "--seed", "3", "--out", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = {"model.path": folder / "base", "task.data_dir": folder, "run.output_dir": folder / "run", **keys}
    outcome = start(["run", ROOT / "inputs" / "planted-low.json",
                     *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))])
    assert outcome.code == 0, outcome
    effective = json.loads((folder / "run" / "input.json").read_text())["search"]
    assert (effective["threshold_rule"], effective["selection_lr"]) == ("spectrum", 0.01), "what the preset sets"
    lines = analysis("planted", folder / "run", "--markdown").splitlines()[2:]
    found = {cells[3]: float(cells[5]) for cells in (line.split(" | ") for line in lines) for cells in [["", *cells]]}
    assert found["chosen (spectrum)"] > 0.7, lines
    assert found["chosen (spectrum)"] > found["softmax"], lines
    oracle = {**settings, "search.preset": "paper", "adapter.ranks_from": folder / "ranks.json", "run.output_dir": folder / "oracle"}
    outcome = start(["run", ROOT / "inputs" / "planted-low.json",
                     *(word for key, value in oracle.items() for word in ("--set", f"{key}={value}"))])
    assert outcome.code == 0, outcome
    assert analysis("planted", folder / "oracle", "--losses", "--markdown").splitlines()[2].startswith("| 0.05 | planted | ")
