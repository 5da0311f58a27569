"""Statistics of one search against independent computations."""
import numpy as np
import pytest
import scipy.special
import scipy.stats
from conftest import search_columns, softmax, write_trace

from analysis import selection
from analysis.selection import Rule
from analysis.trace import Trace


def history_of(tmp_path, search, keys=None):
    write_trace(tmp_path / "trace.h5", search=search, keys=keys)
    with Trace(tmp_path) as trace:
        return selection.read_history(trace)


def test_entropy():
    q = softmax(np.random.default_rng(1).standard_normal((5, 3, 8)))
    np.testing.assert_allclose(selection.entropy(q), scipy.stats.entropy(q, axis=-1), rtol=1e-12)
    assert selection.entropy(np.array([[[0.0, 1.0, 0.0]]]))[0, 0] == 0
    np.testing.assert_allclose(selection.entropy(np.full((1, 1, 5), 0.7)), np.log(5))


def test_constraints():
    logits = np.random.default_rng(2).standard_normal((2, 3, 4)) * 50
    np.testing.assert_allclose(selection.constrained(logits, "softmax"), scipy.special.softmax(logits, axis=-1), atol=1e-15)
    np.testing.assert_allclose(selection.constrained(logits, "sigmoid"), scipy.special.expit(logits), atol=1e-15)
    np.testing.assert_array_equal(selection.constrained(logits, "none"), logits)


def test_rule_counts_equal_values():
    """k equal values count as k, not as 0, also where 1/k is not exact."""
    for k in (1, 3, 7, 10):
        assert Rule().ranks(np.ones((1, 2, k), np.float32)).tolist() == [[k, k]]


def test_rules():
    logits = np.array([[[3.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.9]]])
    assert Rule().ranks(logits).tolist() == [[1, 2, 3]]
    assert Rule(threshold="raw_sum").ranks(np.array([[[3.0, 1, 1, 1], [2, 2, 1, 1], [9, 1, 9, 1]]])).tolist() == [[1, 2, 2]]
    assert Rule(min_rank=2).ranks(logits).tolist() == [[2, 2, 3]]


def test_rule_with_a_total_takes_the_highest_shares():
    shares = np.array([[0.7, 0.1, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1], [0.26, 0.25, 0.25, 0.24]])
    rule = Rule(total=4)
    assert rule.ranks(np.log(shares)[None]).tolist() == [[1, 2, 1]]
    assert Rule(total=4, min_rank=1).ranks(np.log(shares)[None]).tolist() == [[1, 2, 1]]
    assert Rule(total=6, min_rank=2).ranks(np.log(shares)[None]).tolist() == [[2, 2, 2]]
    assert Rule(total=3).ranks(np.log(shares)[None]).tolist() == [[1, 2, 0]]


def test_movement_is_from_where_the_search_began(tmp_path):
    search = search_columns(20, k=4)
    history = history_of(tmp_path, search)
    np.testing.assert_allclose(history.movement, np.abs(search["selection"] - 0.25).max(axis=-1), rtol=1e-6)
    np.testing.assert_allclose(history.entropy, scipy.stats.entropy(search["selection"], axis=-1), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 41, 200])
def test_movement_in_the_last_quarter(tmp_path, rows):
    search = search_columns(rows, k=4)
    q = np.concatenate([np.full((1, 6, 4), 0.25), search["selection"].astype(float)])  # before, after each iteration
    late = abs(q[rows] - q[rows - int(np.ceil(rows / 4))]).mean()
    assert history_of(tmp_path, search).late_share == pytest.approx(late / abs(q[rows] - 0.25).mean(), rel=1e-6)


def test_movement_of_a_steady_drift(tmp_path):
    search = search_columns(100, k=4)
    search["selection"] = (0.25 + np.arange(1, 101)[:, None, None] * np.array([1, -1, 1, -1]) / 1024
                           * np.ones((100, 6, 1))).astype(np.float32)
    assert history_of(tmp_path / "drift", search).late_share == pytest.approx(0.25)
    search["selection"][75:] = search["selection"][74]
    assert history_of(tmp_path / "early", search).late_share == 0
    search["selection"][:] = 0.25
    assert np.isnan(history_of(tmp_path / "none", search).late_share)


def test_chosen_rank_is_inside_of_its_interval(tmp_path):
    search = search_columns(100)
    write_trace(tmp_path / "trace.h5", search=search)
    with Trace(tmp_path) as trace:
        found = selection.read_history(trace, [9, 0, 9, 0, 9, 0]).certainty
    assert (found.high[::2] == 9).all() and (found.low[1::2] == 0).all()


def test_signal_to_noise(tmp_path):
    search = search_columns(80)
    search["hypergradient"][60:, 2, 1] += 3
    search["loss_validation"][61::2] = np.nan
    history = history_of(tmp_path, search)
    last = search["hypergradient"].astype(float)[60:][np.isfinite(search["loss_validation"][60:])]
    assert history.signal_rows == len(last) == 11 - 1
    np.testing.assert_allclose(history.signal, abs(last.mean(axis=0)) / last.std(axis=0, ddof=1), rtol=1e-9)
    assert history.signal[2, 1] == history.signal.max() and history.signal[2, 1] > 1.5


def test_noise_level_is_exceeded_by_one_in_twenty():
    noise = np.random.default_rng(3).standard_normal((200, 4000))
    signal = abs(noise.mean(axis=0)) / noise.std(axis=0, ddof=1)
    assert (signal > selection.noise_level(200)).mean() == pytest.approx(0.05, abs=0.012)


def test_search_without_noise_is_sure(tmp_path):
    search = search_columns(100, drift=0.05)
    logits = 1 + 0.05 * np.arange(1, 101)[:, None, None] * np.sign(search["logits"][-1] - 1)
    search["logits"] = logits.astype(np.float32)
    search["selection"] = softmax(logits).astype(np.float32)
    search["ranks"] = Rule().ranks(search["logits"]).astype(np.int32)
    found = history_of(tmp_path, search).certainty
    assert found.kind == "bootstrap"
    assert found.differs.tolist() == [0] * 6
    assert found.low.tolist() == found.high.tolist() == found.ranks.tolist() == search["ranks"][-1].tolist()


class Ends:
    """In place of a rule: where the logits end."""

    def ranks(self, logits):
        return logits


def test_bootstrap_ends_as_widely_as_blocks_do():
    draw = np.random.default_rng(5)
    increments = draw.normal(0.002, 0.05, 400)
    logits = np.zeros((401, 1, 2))
    logits[:, 0, 1] = 7
    logits[1:, 0, 0] = np.cumsum(increments)
    ends = selection.bootstrap_ranks(logits, Ends(), 4000)
    length = selection.block_length(400)
    assert length == 7
    blocks = np.convolve(increments, np.ones(length), "valid")
    assert ends[:, 0, 0].mean() == pytest.approx(blocks.mean() * 400 / length, abs=0.05)
    assert ends[:, 0, 0].std() == pytest.approx(blocks.std() * np.sqrt(400 / length), rel=0.05)
    assert (ends[:, 0, 1] == 7).all()


def test_bootstrap_of_a_random_walk_is_not_sure(tmp_path):
    found = history_of(tmp_path, search_columns(200, k=8, drift=0)).certainty
    assert found.kind == "bootstrap" and found.rows == 50
    assert (found.differs > 0.2).sum() >= 4
    assert ((found.low <= found.high) & (found.low >= 0) & (found.high <= 8)).all()


def test_rule_that_cannot_be_followed(tmp_path):
    """The trace's ranks are not those of the threshold: then its own rows are all that is known."""
    search = search_columns(100)
    search["ranks"][:] = 3
    search["ranks"][80:90, 0] = 2
    found = history_of(tmp_path, search).certainty
    assert found.kind == "rows"
    assert found.differs.tolist() == [10 / 25, 0, 0, 0, 0, 0]
    assert (found.low[0], found.high[0]) == (2, 3)


@pytest.mark.parametrize("rule", ["importance", "spectrum"])
def test_rules_that_look_at_more_than_the_logits(tmp_path, rule):
    """Even where the ranks happen to be those of the threshold."""
    found = history_of(tmp_path, search_columns(200, drift=0.01), {"search.threshold_rule": rule}).certainty
    assert found.kind == "rows"


def test_short_traces(tmp_path):
    for rows in (1, 2, 5, 8):
        folder = tmp_path / str(rows)
        write_trace(folder / "trace.h5", search=search_columns(rows))
        with Trace(folder) as trace:
            history = selection.read_history(trace)
        assert len(history.ranks) == rows
        assert (history.certainty is None) == (rows < 3)


def test_allocation(tmp_path):
    values = np.random.default_rng(0).standard_normal((30, 6, 5)).astype(np.float32)
    ranks = np.tile(np.arange(6, dtype=np.int32), (30, 1))
    write_trace(tmp_path / "trace.h5", keys={"adapter.method": "adalora"},
                allocation={"step": np.arange(1, 31, dtype=np.uint64), "singular_values": values, "ranks": ranks})
    with Trace(tmp_path) as trace:
        history = selection.read_history(trace)
    assert not history.is_search and history.certainty is None and history.entropy is None
    np.testing.assert_array_equal(history.values, values)
