"""Agreement of seeds against published numbers and SciPy."""
import numpy as np
import pytest
import scipy.stats

from analysis.agreement import agreement, intraclass_correlation, spearman_matrix

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
