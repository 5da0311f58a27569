"""Tables over runs."""
import csv
import io
import json
import statistics

import numpy as np
import pytest
from conftest import MODULES, write_result, write_run

from analysis import methods, tables
from analysis.runs import Mistake, find_runs


def write_sweep(folder):
    """Three seeds of three settings, as jobs/sweep leaves them; the last point never ran."""
    scores, number = {}, 0
    for setting in ({"adapter.method": "autolora"}, {"adapter.method": "lora", "adapter.rank": 1},
                    {"adapter.method": "lora", "adapter.rank": 8}):
        for seed in (1, 2, 3):
            point = folder / "points" / f"{number:04}"
            score = 0.1 * number + 0.01 * seed**2
            parameters = {1: 100, 8: 800}.get(setting.get("adapter.rank"), 400 + seed)
            write_result(point, score=score, method=setting["adapter.method"], parameters=parameters, seconds=10.0 + seed)
            (point / "settings.json").write_text(json.dumps({"task.name": "cola", **setting, "run.seed": seed}))
            scores.setdefault(json.dumps(setting), []).append((score, parameters))
            number += 1
    (folder / "points" / "0009").mkdir()
    return list(scores.values())


def test_one_row_a_setting(tmp_path):
    expected = write_sweep(tmp_path)
    rows = methods.experiment_rows(find_runs([tmp_path]))
    assert rows["setting"].tolist() == ["", "rank=1", "rank=8"]
    assert rows["seeds"].tolist() == [3, 3, 3]
    for row, values in zip(rows.itertuples(), expected):
        assert row.score == pytest.approx(statistics.mean(score for score, _ in values))
        assert row.score_sd == pytest.approx(statistics.stdev(score for score, _ in values))
        assert row.trainable_parameters == pytest.approx(statistics.mean(count for _, count in values))
        assert row.seconds == pytest.approx(12) and row.seconds_sd == pytest.approx(1)
        assert row.tokens_per_second == pytest.approx(500) and row.peak_memory_bytes == 3 << 20


def test_markdown(tmp_path):
    write_sweep(tmp_path)
    lines = tables.experiments(find_runs([tmp_path]), "markdown").splitlines()
    assert lines[0] == ("| task | method | setting | seeds | metric | score | trainable parameters | mean rank | seconds |")
    assert lines[1] == "|---|---|---|---|---|---|---|---|---|"
    assert lines[2] == "| cola | autolora |  | 3 | matthews_correlation | 0.147 ± 0.140 | 402 ± 1 | 2.00 | 12 ± 1 |"
    assert lines[4] == "| cola | lora | rank=8 | 3 | matthews_correlation | 0.747 ± 0.140 | 800 | 2.00 | 12 ± 1 |"
    assert len(lines) == 5


def test_csv(tmp_path):
    write_sweep(tmp_path)
    rows = list(csv.DictReader(io.StringIO(tables.experiments(find_runs([tmp_path]), "csv"))))
    assert [row["setting"] for row in rows] == ["", "rank=1", "rank=8"]
    assert float(rows[1]["score"]) == pytest.approx(0.4 + 0.14 / 3)


def test_one_seed_has_no_deviation(tmp_path):
    write_run(tmp_path / "a", score=0.25)
    line = tables.experiments(find_runs([tmp_path / "a"]), "markdown").splitlines()[2]
    assert "| 0.250 |" in line and "nan" not in line and "±" not in line


def test_runs_differ_in_keys_that_matter(tmp_path):
    """Names, folders, seeds and how the work was spread make no other experiment; a learning rate does."""
    for i, keys in enumerate([{"run.name": "x", "parallel.stages": 1}, {"run.name": "y", "parallel.stages": 2},
                              {"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]):
        write_run(tmp_path / str(i), keys={"optimizer.lr": 0.1, **keys}, seed=i)
    rows = methods.experiment_rows(find_runs([tmp_path]))
    assert dict(zip(rows["setting"], rows["seeds"])) == {"lr=0.1": 3, "lr=0.2": 1}
    groups = methods.seed_groups(find_runs([tmp_path]))
    assert [(name, len(members)) for name, members in groups] == [("cola autolora lr=0.1", 3)]


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_pareto_front(lower_is_better):
    draw = np.random.default_rng(0)
    parameters, scores = draw.integers(1, 20, 40), draw.integers(0, 12, 40).astype(float)
    signs = -scores if lower_is_better else scores
    front = methods.pareto_front(parameters, scores, lower_is_better)
    for i in range(40):
        beaten = any(parameters[j] <= parameters[i] and signs[j] >= signs[i]
                     and (parameters[j], signs[j]) != (parameters[i], signs[i]) for j in range(40))
        assert front[i] == (not beaten)


def test_metrics_of_which_less_is_better():
    assert methods.is_lower_better("perplexity") and methods.is_lower_better("ter")
    assert not methods.is_lower_better("matthews_correlation") and not methods.is_lower_better("rouge_l")


def test_comparison(tmp_path):
    first = write_run(tmp_path / "a", keys={"search.selection_lr": 0.01}, seed=1)
    write_run(tmp_path / "b", keys={"search.selection_lr": 0.05}, seed=2, score=0.75)
    (tmp_path / "b" / "result.json").unlink()  # killed: its last ranks are those of the trace
    lines = [line.split() for line in tables.comparison(find_runs([tmp_path])).splitlines()]
    assert ["search.selection_lr", "0.01", "0.05"] in lines
    assert ["score", "matthews_correlation", "0.5000", "-"] in lines
    body = [line for line in lines if line[:1] == ["2"]]
    assert body[0][:3] == ["2", "query", str(first["ranks"][-1][4])] and body[0][3] != "-"


def test_labels_of_runs_of_equal_names(tmp_path):
    write_run(tmp_path / "a" / "out")
    write_run(tmp_path / "b" / "out")
    assert [run.label for run in find_runs([tmp_path / "a" / "out", tmp_path / "b" / "out"])] == ["a/out", "b/out"]


def test_same_run_twice_counts_once(tmp_path):
    write_run(tmp_path / "a")
    assert len(find_runs([tmp_path / "a", tmp_path])) == 1


def test_no_runs(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(Mistake, match=str(path)):
            find_runs([path])


def test_ranks_of_other_modules_are_not_mixed_up(tmp_path):
    write_run(tmp_path / "a")
    write_result(tmp_path / "a", [1] * 6, modules=[f"other.{i}" for i in range(6)])
    run = find_runs([tmp_path / "a"])[0]
    assert run.modules == MODULES and run.ranks == run.last_ranks
