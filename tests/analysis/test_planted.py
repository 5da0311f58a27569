"""Found ranks against planted ones."""
import json

import numpy as np
import pytest
from conftest import MODULES, write_run

from analysis import planted
from analysis.commands import main
from analysis.runs import Mistake, find_runs
from analysis.selection import Rule


def write_truth(folder, ranks):
    path = folder / "truth.json"
    path.write_text(json.dumps({"ranks": dict(zip(MODULES, ranks)), "noise": 0.05}))
    return path


def test_rows(tmp_path):
    search = write_run(tmp_path / "a", k=4)
    chosen = search["ranks"][-1]
    truth = write_truth(tmp_path, [int(rank) for rank in chosen])
    found = planted.rows(find_runs([tmp_path / "a"]), truth).set_index("rule")
    assert found.loc["chosen (softmax)", "spearman"] == pytest.approx(1)
    assert found.loc["chosen (softmax)", "error"] == 0
    q = search["selection"][-1].astype(float)
    effective = np.exp(-(q * np.log(q)).sum(axis=1))
    assert found.loc["exp(entropy)", "error"] == pytest.approx(np.abs(effective - chosen).mean(), rel=1e-5)
    assert found.loc["effective", "error"] == pytest.approx(np.abs(np.round(effective) - chosen).mean())


def test_effective_rule():
    logits = np.log(np.array([[[1, 1, 1, 1], [97, 1, 1, 1], [49, 49, 1, 1.0]]]))
    assert Rule(threshold="effective").ranks(logits).tolist() == [[4, 1, 2]]


def test_equal_ranks_tell_nothing():
    assert planted.correlation([3, 3, 3], np.array([1, 2, 3])) == 0
    assert planted.correlation([3, 2, 1], np.array([1, 2, 3])) == pytest.approx(-1)


def test_command(tmp_path, capsys):
    write_run(tmp_path / "a", k=4)
    truth = write_truth(tmp_path, [0, 1, 2, 3, 4, 0])
    assert main(["planted", str(tmp_path / "a"), "--truth", str(truth), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| noise |") and len(lines) == 2 + 5
    truth.write_text("{}")
    assert main(["planted", str(tmp_path / "a"), "--truth", str(truth)]) == 2
    with pytest.raises(Mistake):
        planted.read_truth(find_runs([tmp_path / "a"])[0], write_truth(tmp_path, [1, 2]))
