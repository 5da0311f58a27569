"""Found ranks against planted ones."""
import json

import numpy as np
import pytest
from conftest import MODULES, retrain_columns, write_result, write_run, write_trace

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


def test_global_rule(tmp_path):
    """As many of the largest selection variables of the whole model as ranks were planted."""
    search = write_run(tmp_path / "a", k=4, drift=0.01)
    truth = np.array([0, 1, 2, 3, 4, 0])
    found = planted.rows(find_runs([tmp_path / "a"]), write_truth(tmp_path, truth.tolist())).set_index("rule")
    q = search["selection"][-1].astype(float)
    ranks = (q >= np.sort(q.ravel())[-truth.sum()]).sum(axis=1)
    assert found.loc["softmax, global", "error"] == pytest.approx(np.abs(ranks - truth).mean())
    assert ranks.sum() == 10


def test_chosen_rule_names_what_is_special(tmp_path):
    keys = {"search.threshold_rule": "softmax", "search.entropy_weight": 0.1, "search.target_mean_rank": 2}
    write_run(tmp_path / "a", k=4, keys=keys)
    truth = write_truth(tmp_path, [0, 1, 2, 3, 4, 0])
    assert planted.rows(find_runs([tmp_path / "a"]), truth)["rule"][0] == "chosen (softmax, entropy_weight 0.1, global)"


def write_trained(folder, loss, ranks=(2,) * 6, method="autolora", parameters=100, **keys):
    keys = {"adapter.method": method, "task.data_dir": "teacher", **keys}
    write_trace(folder / "trace.h5", keys=keys, retrain=retrain_columns(3))
    write_result(folder, ranks, method=method, metrics={"dev": {"loss": loss}}, adapter_parameters=parameters)


def test_losses(tmp_path, capsys):
    ranks = [0, 1, 2, 3, 4, 2]
    truth = write_truth(tmp_path, ranks)
    write_run(tmp_path / "e", k=4, adapter_parameters=100, keys={"search.selection_lr": 0.01},
                       metrics={"dev": {"loss": 1.25}})
    write_trained(tmp_path / "a", 1.875, method="lora")
    write_trained(tmp_path / "f", 2.125, method="lora")
    write_trained(tmp_path / "b", 1.5, ranks, **{"adapter.ranks_from": "ranks.json"})
    write_trained(tmp_path / "c", 1.75, **{"adapter.ranks_from": "ranks.json"})
    write_trained(tmp_path / "d", 1.0, method="random", parameters=200)
    found = planted.losses(find_runs([tmp_path]), truth).set_index("ranks")
    assert found["loss"].to_dict() == {"uniform": 2.0, "planted": 1.5, "given": 1.75, "random": 1.0,
                                       "softmax, selection_lr 0.01": 1.25}
    assert found.loc["planted", "above_uniform"] == -0.5
    assert np.isnan(found.loc["random", "above_uniform"]), "it has other parameters"
    assert np.isnan(found.loc["softmax, selection_lr 0.01", "above_uniform"]), "it has other data"
    assert main(["planted", str(tmp_path), "--truth", str(truth), "--losses", "--markdown"]) == 0
    assert "| 0.05 | planted | 100 | 1 | 1.500 | -0.500 |" in capsys.readouterr().out
    assert planted.rows(find_runs([tmp_path]), truth)["run"].unique().tolist() == ["e"], "others have no search"
    assert main(["planted", str(tmp_path / "a"), "--truth", str(truth)]) == 2
    assert "no search" in capsys.readouterr().err


def test_command(tmp_path, capsys):
    write_run(tmp_path / "a", k=4)
    truth = write_truth(tmp_path, [0, 1, 2, 3, 4, 0])
    assert main(["planted", str(tmp_path / "a"), "--truth", str(truth), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| noise |") and len(lines) == 2 + 6
    truth.write_text("{}")
    assert main(["planted", str(tmp_path / "a"), "--truth", str(truth)]) == 2
    with pytest.raises(Mistake):
        planted.read_truth(find_runs([tmp_path / "a"])[0], write_truth(tmp_path, [1, 2]))
