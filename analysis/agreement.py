"""Do the seeds of one experiment agree on the ranks? Against the null model that each run's ranks fall on the modules at
random."""
from dataclasses import dataclass

import numpy as np

NUM_PERMUTATIONS = 2000


def intraclass_correlation(ranks):
    """ICC(2,1) of [modules, runs]: two-way random effects, absolute agreement, one run (Shrout and Fleiss 1979). NaN
    where all ranks are equal."""
    ranks = np.asarray(ranks, float)
    n, k = ranks.shape
    mean = ranks.mean()
    between_modules = k * ((ranks.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    between_runs = n * ((ranks.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    residual = ranks - ranks.mean(axis=1, keepdims=True) - ranks.mean(axis=0, keepdims=True) + mean
    error = (residual ** 2).sum() / ((n - 1) * (k - 1))
    divisor = between_modules + (k - 1) * error + k * (between_runs - error) / n
    return float((between_modules - error) / divisor) if divisor > 1e-12 else float("nan")


def standardised(columns):
    """Columns of ranks as what Spearman's correlation multiplies; NaN where a column is constant."""
    from scipy.stats import rankdata  # slow to import: only where several runs are compared
    order = rankdata(columns, axis=0)
    order = order - order.mean(axis=0)
    lengths = np.sqrt((order ** 2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 1e-12, order / lengths, np.nan)


def spearman_matrix(ranks):
    """[runs, runs] of [modules, runs]"""
    columns = standardised(np.asarray(ranks, float))
    return columns.T @ columns


def mean_pair(matrix):
    """Of the pairs that are known."""
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")


def share_inside(ranks, intervals):
    """How many of the ranks of other runs, [modules, runs], are inside of a run's intervals: (low, high, ...), each
    [modules], or None of a run that has none. NaN where no run has."""
    shares = [(interval[0][:, None] <= np.delete(ranks, i, axis=1)) & (np.delete(ranks, i, axis=1) <= interval[1][:, None])
              for i, interval in enumerate(intervals) if interval is not None]
    return float(np.mean(shares)) if shares else float("nan")


@dataclass
class Agreement:
    ranks: np.ndarray  # [modules, runs]
    icc: float
    spearman: np.ndarray  # [runs, runs]
    mean_spearman: float
    null: np.ndarray  # mean pairwise Spearman of the permutations
    null_icc: np.ndarray
    p_spearman: float  # share of the null that reaches what was found
    p_icc: float


def share_reaching(null, value):
    """With the observation itself counted, so that it is never 0; NaN where there is no value."""
    if not np.isfinite(value):
        return float("nan")
    return float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))


def agreement(ranks, num_permutations=NUM_PERMUTATIONS, seed=0):
    """Of [modules, runs] with at least two of each, else None."""
    ranks = np.asarray(ranks)
    if ranks.ndim != 2 or min(ranks.shape) < 2:
        return None
    columns, draw = standardised(ranks.astype(float)), np.random.default_rng(seed)
    null, null_icc = np.empty(num_permutations), np.empty(num_permutations)
    for i in range(num_permutations):
        order = np.argsort(draw.random(ranks.shape), axis=0)
        shuffled = np.take_along_axis(columns, order, axis=0)
        null[i] = mean_pair(shuffled.T @ shuffled)
        null_icc[i] = intraclass_correlation(np.take_along_axis(ranks, order, axis=0))
    matrix, icc = spearman_matrix(ranks), intraclass_correlation(ranks)
    mean = mean_pair(matrix)
    return Agreement(ranks, icc, matrix, mean, null, null_icc, share_reaching(null, mean), share_reaching(null_icc, icc))
