"""Agreement of seeds against published numbers and SciPy."""
import itertools

import numpy as np
import pytest
import scipy.stats

from analysis.agreement import agreement, intraclass_correlation, share_inside, spearman_matrix

# Shrout and Fleiss, Psychological Bulletin 86 (1979), table 2: ICC(2,1) is 0.29 in table 4.
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_intraclass_correlation():
    assert intraclass_correlation(RATINGS) == pytest.approx(0.2898, abs=5e-5)
    assert intraclass_correlation([[1, 1], [5, 5], [3, 3]]) == pytest.approx(1)
    assert np.isnan(intraclass_correlation(np.full((6, 3), 4)))


def test_spearman_matrix():
    ranks = np.random.default_rng(0).integers(0, 6, (12, 4))
    found = spearman_matrix(ranks)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == pytest.approx(scipy.stats.spearmanr(ranks[:, i], ranks[:, j])[0])


def test_seeds_that_agree():
    truth = np.array([0, 1, 2, 3, 4, 6, 8, 2, 5, 7, 1, 3])
    draw = np.random.default_rng(1)
    found = agreement(truth[:, None] + draw.integers(-1, 2, (12, 3)))
    assert found.mean_spearman > 0.8 and found.icc > 0.8
    assert found.p_spearman < 0.01 and found.p_icc < 0.01


def test_ranks_at_random():
    """p is uniform where there is nothing: one in five is below 0.2."""
    draw = np.random.default_rng(2)
    p = [agreement(draw.integers(2, 9, (12, 3)), 100, seed).p_spearman for seed in range(60)]
    assert 0.05 < np.mean(np.array(p) < 0.2) < 0.4
    assert abs(np.mean(p) - 0.5) < 0.12


def test_null_model_keeps_the_ranks_of_each_run():
    found = agreement([[1, 5], [2, 5], [3, 9]], 500)
    assert set(np.round(found.null, 6)) <= {round(v, 6) for v in (-np.sqrt(0.75), 0, np.sqrt(0.75))}


def test_constant_ranks_say_nothing():
    found = agreement(np.full((6, 3), 4))
    assert np.isnan(found.mean_spearman) and np.isnan(found.p_spearman) and np.isnan(found.icc)


def test_too_little():
    assert agreement([[1], [2]]) is None
    assert agreement([[1, 2]]) is None


def test_null_model_is_that_of_all_orders():
    """p of four modules against all 24 orders of the second run's ranks, one by one."""
    first, second = [1, 2, 4, 7], [2, 1, 6, 6]
    found = agreement(np.array([first, second]).T, 4000)
    orders = [np.array([first, order]).T for order in itertools.permutations(second)]
    for name, statistic, p in (("spearman", lambda ranks: scipy.stats.spearmanr(ranks[:, 0], ranks[:, 1])[0], found.p_spearman),
                               ("icc", icc_by_hand, found.p_icc)):
        known = [statistic(order) for order in orders]
        expected = np.mean([value >= statistic(np.array([first, second]).T) - 1e-12 for value in known])
        assert 0 < expected < 0.5 and p == pytest.approx(expected, abs=0.03), name
    assert np.mean(found.null) == pytest.approx(0, abs=0.04)


def icc_by_hand(ranks):
    """ICC(2,1) from the table of a two-way analysis of variance, sum by sum."""
    n, k = len(ranks), len(ranks[0])
    all_of = [value for row in ranks for value in row]
    correction = sum(all_of) ** 2 / (n * k)
    rows = sum(sum(row) ** 2 for row in ranks) / k - correction
    columns = sum(sum(column) ** 2 for column in zip(*ranks)) / n - correction
    rest = sum(value * value for value in all_of) - correction - rows - columns
    rows, columns, rest = rows / (n - 1), columns / (k - 1), rest / ((n - 1) * (k - 1))
    return (rows - rest) / (rows + (k - 1) * rest + k * (columns - rest) / n)


def test_intraclass_correlation_by_hand():
    draw = np.random.default_rng(4)
    for shape in ((12, 3), (5, 2), (24, 10)):
        ranks = draw.integers(0, 9, shape) + draw.integers(0, 9, (shape[0], 1))
        assert intraclass_correlation(ranks) == pytest.approx(icc_by_hand(ranks.tolist()), rel=1e-9)


def test_share_of_other_seeds_inside():
    ranks = np.array([[1, 2, 3], [4, 4, 4], [0, 8, 5]])
    intervals = [(np.array([1, 4, 0]), np.array([2, 4, 5])), None, (np.array([3, 3, 5]), np.array([3, 5, 6]))]
    inside = total = 0
    for run, interval in ((0, intervals[0]), (2, intervals[2])):
        for other in {0, 1, 2} - {run}:
            for module in range(3):
                total += 1
                inside += interval[0][module] <= ranks[module][other] <= interval[1][module]
    assert share_inside(ranks, intervals) == inside / total == 6 / 12
    assert np.isnan(share_inside(ranks, [None] * 3))
