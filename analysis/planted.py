"""How well runs found ranks that were planted (inputs/planted/): each rule that follows from the selection variables,
besides the one that the run used."""
import json
import pathlib

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis.runs import Mistake
from analysis.selection import Rule, entropy


def read_truth(run, path=None):
    """({module: planted rank}, noise) of truth.json: the given one, or that beside the run's data."""
    path = pathlib.Path(path) if path else pathlib.Path(str(run.keys.get("task.data_dir", ""))) / "truth.json"
    try:
        tree = json.loads(path.read_text())
        ranks = {module: int(rank) for module, rank in tree["ranks"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Mistake(f"{path}: no truth of planted ranks: {error}") from error
    missing = [module for module in run.modules if module not in ranks]
    if missing or not run.modules:
        raise Mistake(f"{path}: does not name {missing[0] if missing else 'the modules'} of {run.folder}")
    return np.array([ranks[module] for module in run.modules]), tree.get("noise")


def correlation(found, truth):
    """Spearman's; 0 where all are equal."""
    found = np.asarray(found, float)
    return float(spearmanr(found, truth)[0]) if found.std() > 0 and truth.std() > 0 else 0.0


def found_by_rules(run):
    """{rule: what it says of each module} at the end of the search."""
    with run.trace() as trace:
        table = trace.tables["search"]
        if not len(table):
            raise Mistake(f"{run.folder}: no search in its trace")
        last = len(table) - 1
        logits, selection, rule = table.read("logits", 1, last), table.read("selection", 1, last), Rule.of(trace)
    found = {f"chosen ({rule.threshold})": np.array(run.ranks)}
    for name in ("softmax", "raw_sum", "effective"):
        found[name] = Rule(rule.constraint, name, initial=rule.initial).ranks(logits)[0]
    found["exp(entropy)"] = np.exp(entropy(selection)[0])
    return found


def rows(runs, truth=None):
    """One row a run and rule: Spearman correlation and mean absolute error against the planted ranks."""
    table = []
    for run in runs:
        true, noise = read_truth(run, truth)
        for rule, found in found_by_rules(run).items():
            table.append({"noise": noise, "selection_lr": run.keys.get("search.selection_lr", float("nan")), "rule": rule,
                          "run": run.label, "spearman": correlation(found, true),
                          "error": float(np.abs(found - true).mean())})
    return pd.DataFrame(table)


def summary(runs, truth=None):
    """Means and standard deviations over the runs of equal noise and rule."""
    groups = rows(runs, truth).groupby(["noise", "selection_lr", "rule"], sort=False, dropna=False)
    return groups.agg(runs=("run", "size"), spearman=("spearman", "mean"), spearman_sd=("spearman", "std"),
                      error=("error", "mean")).reset_index()
