"""What the history of the selection variables says: entropy, movement, signal of the hypergradient, and how sure each
rank is. Arrays are [rows, modules, components]."""
from dataclasses import dataclass, field

import numpy as np

TOLERANCE = 1e-6  # of the program: k equal values count as k
LAST_PART = 0.25  # of the iterations of the search
LEAST_ROWS = 16  # of it, where there are so many
NUM_DRAWS = 1000
INTERVAL = 0.9


def entropy(selection):
    """Of each module, in nat, [rows, modules]; values that do not sum to 1 are taken as shares."""
    shares = np.abs(selection.astype(np.float64))
    sums = shares.sum(axis=-1, keepdims=True)
    shares = np.divide(shares, sums, out=np.zeros_like(shares), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(axis=-1)


def constrained(logits, constraint):
    """Selection variables of logits, in double precision."""
    logits = logits.astype(np.float64)
    if constraint == "softmax":
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)
    return 1 / (1 + np.exp(-logits)) if constraint == "sigmoid" else logits


@dataclass
class Rule:
    """How a run chose its ranks, as far as its input says."""
    constraint: str = "softmax"
    threshold: str = "softmax"
    total: int = 0  # of all ranks together; 0: each module by the threshold
    min_rank: int = 0
    initial: float = 1.0

    @staticmethod
    def of(trace):
        mean = trace.key("search.target_mean_rank") or 0
        return Rule(trace.key("search.constraint") or "softmax", trace.key("search.threshold_rule") or "softmax",
                    int(round(mean * len(trace.modules))), int(trace.key("search.min_rank") or 0),
                    float(trace.key("search.selection_initial") or 1.0))

    def first_selection(self, k):
        """Before the first iteration all components are equal."""
        return float(constrained(np.full(k, self.initial), self.constraint)[0])

    def shares(self, logits):
        if self.threshold != "raw_sum":
            return constrained(logits, self.constraint)
        sums = logits.sum(axis=-1, keepdims=True, dtype=np.float64)
        return np.divide(logits, sums, out=np.zeros(logits.shape), where=sums != 0)

    def ranks(self, logits):
        """[rows, modules]"""
        shares = self.shares(logits)
        rows, modules, k = shares.shape
        if self.threshold == "effective" and self.total == 0:
            return np.maximum(np.rint(np.exp(entropy(shares))).astype(int), self.min_rank)
        if self.total == 0:
            return np.maximum((shares >= (1 - TOLERANCE) / k).sum(axis=-1), self.min_rank)
        places = np.sort(shares, axis=-1)[..., ::-1]
        places[..., :self.min_rank] = np.inf
        order = np.argsort(-places.reshape(rows, -1), axis=1, kind="stable")[:, :self.total]
        chosen = np.zeros((rows, modules * k), bool)
        np.put_along_axis(chosen, order, True, axis=1)
        return chosen.reshape(rows, modules, k).sum(axis=-1)


@dataclass
class Certainty:
    """How sure the ranks of a run are. differs: how often a rank would differ by one or more."""
    ranks: np.ndarray  # [modules] as chosen
    low: np.ndarray
    high: np.ndarray
    differs: np.ndarray
    rows: int  # of the last part
    stride: int
    kind: str  # "bootstrap", or "rows" where the rule cannot be followed


def block_length(rows):
    return max(1, int(round(rows ** (1 / 3))))


def bootstrap_ranks(logits, rule, num_draws=NUM_DRAWS, seed=0):
    """Ranks [draws, modules] had the last part of the search met other batches: its increments of the logits, drawn
    anew in blocks (moving-block bootstrap, block length the cube root of their number), are added to where it began."""
    increments = np.diff(logits.astype(np.float64), axis=0)
    count, length = len(increments), block_length(len(increments))
    draw = np.random.default_rng(seed)
    sums = np.concatenate([np.zeros((1, *increments.shape[1:])), np.cumsum(increments, axis=0)])
    num_blocks = -(-count // length)
    ends = np.empty((num_draws, *logits.shape[1:]))
    for i in range(num_draws):
        starts = draw.integers(0, count - length + 1, num_blocks)
        lengths = np.full(num_blocks, length)
        lengths[-1] -= num_blocks * length - count
        ends[i] = logits[0] + (sums[starts + lengths] - sums[starts]).sum(axis=0)
    return rule.ranks(ends)


def certainty(table, rule, chosen=None, part=LAST_PART, num_draws=NUM_DRAWS):
    """Of the ranks of a search; None where there are too few rows."""
    first = int(np.floor(len(table) * (1 - part)))
    if len(table) - first < LEAST_ROWS:
        first = max(0, len(table) - LEAST_ROWS)
    if len(table) - first < 3:
        return None
    stride = table.stride("logits", first)
    ranks, logits = table.read("ranks", stride, first), table.read("logits", stride, first)
    chosen = ranks[-1] if chosen is None or len(chosen) != ranks.shape[1] else np.asarray(chosen)
    drawn, kind = ranks, "rows"
    follows = rule.threshold in ("softmax", "raw_sum", "effective")  # others look at more than the logits
    if follows and np.array_equal(rule.ranks(logits[-1:])[0], ranks[-1]):
        drawn, kind = bootstrap_ranks(logits, rule, num_draws), "bootstrap"
    low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0, method="nearest")
    low, high = np.minimum(low.astype(int), chosen), np.maximum(high.astype(int), chosen)
    return Certainty(chosen, low, high, (drawn != chosen).mean(axis=0), len(ranks), stride, kind)


def late_share(table, first_selection):
    """Mean movement of q in the last quarter of the rows over that since the start: 0.25 of a steady drift, about 0.5 of
    a random walk, near 0 of a search that has converged. NaN where nothing moved."""
    rows = len(table)
    before = rows - -(-rows // 4)
    end = table.read("selection", first=rows - 1)[0].astype(np.float64)
    late = table.read("selection", rows - before, before - 1)[0].astype(np.float64) if before else first_selection
    whole = np.abs(end - first_selection).mean()
    return float(np.abs(end - late).mean() / whole) if whole > 0 else float("nan")


def signal_to_noise(table, part=LAST_PART):
    """(|mean| / standard deviation of the hypergradient over the last part [modules, components], rows that count).
    Iterations without an update of the selection, which have no validation loss, do not count."""
    first = int(np.floor(len(table) * (1 - part)))
    stride = table.stride("hypergradient", first)
    gradient = table.read("hypergradient", stride, first).astype(np.float64)
    counts = np.isfinite(table.read("loss_validation", stride, first))
    if counts.any():
        gradient = gradient[counts]
    if len(gradient) < 2:
        return None, len(gradient)
    mean, deviation = gradient.mean(axis=0), gradient.std(axis=0, ddof=1)
    return np.divide(np.abs(mean), deviation, out=np.zeros_like(mean), where=deviation > 0), len(gradient)


def noise_level(rows):
    """What |mean| / standard deviation stays below in 95 of 100 cases where there is no signal."""
    return 1.96 / np.sqrt(rows)


@dataclass
class History:
    """What the figures of one run need; bounded in size."""
    steps: np.ndarray
    ranks: np.ndarray  # [rows, modules]
    values: np.ndarray  # selection variables, or AdaLoRA's singular values
    is_search: bool
    stride: int
    entropy: np.ndarray = None  # [rows, modules]
    movement: np.ndarray = None  # [rows, modules] largest |q - first q| of a module
    late_share: float = float("nan")
    signal: np.ndarray = None
    signal_rows: int = 0
    certainty: Certainty = None
    rule: Rule = field(default_factory=Rule)


def read_history(trace, chosen=None, part=LAST_PART):
    """None where no iteration of a search or an allocation is in the trace."""
    search, allocation = trace.tables["search"], trace.tables["allocation"]
    is_search = len(search) > 0
    table = search if is_search else allocation
    if not len(table):
        return None
    column = "selection" if is_search else "singular_values"
    stride = table.stride(column)
    history = History(table.steps[table.rows(stride)], table.read("ranks", stride), table.read(column, stride),
                      is_search, stride, rule=Rule.of(trace))
    if is_search:  # an allocation is fixed in the last part
        history.certainty = certainty(table, history.rule, chosen, part)
        history.entropy = entropy(history.values)
        first = history.rule.first_selection(history.values.shape[-1])
        history.movement = np.abs(history.values - first).max(axis=-1)
        history.late_share = late_share(table, first)
        history.signal, history.signal_rows = signal_to_noise(table, part)
    return history
