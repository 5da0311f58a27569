"""How well runs found ranks that were planted (inputs/planted/): each rule that follows from the selection variables,
besides the one that the run used; and the losses after training at the ranks of different origin."""
import json
import pathlib

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis.methods import number
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


def is_searched(run):
    with run.trace() as trace:
        return len(trace.tables["search"]) > 0


def chosen_rule(run, rule):
    """The rule that a run followed, with what is special in it."""
    weight = run.keys.get("search.entropy_weight") or 0
    parts = [rule.threshold, *([f"entropy_weight {weight:g}"] if weight else []), *(["global"] if rule.total else [])]
    return f"chosen ({', '.join(parts)})"


def found_by_rules(run, total):
    """{rule: what it says of each module} at the end of the search. Global: the largest `total` selection variables of
    the whole model."""
    with run.trace() as trace:
        table = trace.tables["search"]
        last = len(table) - 1
        logits, selection, rule = table.read("logits", 1, last), table.read("selection", 1, last), Rule.of(trace)
    found = {chosen_rule(run, rule): np.array(run.ranks)}
    for name in ("softmax", "raw_sum", "effective"):
        found[name] = Rule(rule.constraint, name, initial=rule.initial).ranks(logits)[0]
    found["softmax, global"] = Rule(rule.constraint, "softmax", total, initial=rule.initial).ranks(logits)[0]
    found["exp(entropy)"] = np.exp(entropy(selection)[0])
    return found


def rows(runs, truth=None):
    """One row a run and rule: Spearman correlation and mean absolute error against the planted ranks."""
    table = []
    for run in filter(is_searched, runs):
        true, noise = read_truth(run, truth)
        for rule, found in found_by_rules(run, true.sum()).items():
            table.append({"noise": noise, "selection_lr": run.keys.get("search.selection_lr", float("nan")), "rule": rule,
                          "run": run.label, "spearman": correlation(found, true),
                          "error": float(np.abs(found - true).mean())})
    if not table:
        raise Mistake("planted: no search in the traces of these runs")
    return pd.DataFrame(table)


def summary(runs, truth=None):
    """Means and standard deviations over the runs of equal noise and rule."""
    groups = rows(runs, truth).groupby(["noise", "selection_lr", "rule"], sort=False, dropna=False)
    return groups.agg(runs=("run", "size"), spearman=("spearman", "mean"), spearman_sd=("spearman", "std"),
                      error=("error", "mean")).reset_index()


# ---- losses after training at the ranks ----


def origin_of_ranks(run, true):
    if run.method != "autolora":
        return {"lora": "uniform"}.get(run.method, run.method)
    if run.keys.get("adapter.ranks_from"):
        return "planted" if run.ranks == list(true) else "given"
    rate = run.keys.get("search.selection_lr", float("nan"))
    return f"{run.keys.get('search.threshold_rule', 'softmax')}, selection_lr {rate:g}"


def loss_rows(runs, truth=None):
    """One row a whole run: loss on dev, and how far it is above that at uniform ranks of as many parameters (NaN where
    no such run has the same data)."""
    table = []
    for run in (run for run in runs if run.is_whole):
        true, noise = read_truth(run, truth)
        table.append({"noise": noise, "ranks": origin_of_ranks(run, true), "data": str(run.keys.get("task.data_dir")),
                      "parameters": number(run.result.get("adapter_parameters")),
                      "loss": number(run.result.get("metrics", {}).get("dev", {}).get("loss"))})
    if not table:
        raise Mistake("planted: none of these runs has a result.json")
    table = pd.DataFrame(table)
    uniform = table[table["ranks"] == "uniform"].groupby(["data", "parameters"])["loss"].mean()
    keys = pd.MultiIndex.from_frame(table[["data", "parameters"]])
    return table.assign(above_uniform=table["loss"] - uniform.reindex(keys).to_numpy())


def losses(runs, truth=None):
    """Means over the runs of equal noise, origin of the ranks and number of parameters."""
    groups = loss_rows(runs, truth).groupby(["noise", "ranks", "parameters"], sort=False)
    return groups.agg(runs=("loss", "size"), loss=("loss", "mean"), above_uniform=("above_uniform", "mean"),
                      above_uniform_sd=("above_uniform", "std")).reset_index()
