"""Runs grouped to experiments: one row a task, method and setting, over the seeds."""
import numpy as np
import pandas as pd

LOWER_IS_BETTER = ("loss", "perplexity", "ter", "error")


def is_lower_better(metric):
    return any(word == part for word in LOWER_IS_BETTER for part in str(metric).split("_"))


def differing_keys(runs):
    """Keys of the input in which the runs' experiments differ, besides task and method."""
    experiments = [run.experiment() for run in runs]
    keys = {key: None for experiment in experiments for key in experiment}
    def texts(key):
        return {str(experiment[key]) for experiment in experiments if key in experiment}
    return [key for key in keys if key not in ("task.name", "adapter.method") and len(texts(key)) > 1]


def short(key, keys):
    """The key's last part where that is enough to tell it from the others."""
    name = key.rpartition(".")[2]
    return name if sum(other.rpartition(".")[2] == name for other in keys) == 1 else key


def setting_of(run, keys):
    experiment = run.experiment()
    return ", ".join(f"{short(key, keys)}={experiment[key]}" for key in keys if key in experiment)


def run_rows(runs):
    """One row a run, from result.json; runs that are not whole are left out."""
    rows = []
    for task in dict.fromkeys(run.task for run in runs):
        members = [run for run in runs if run.task == task and run.is_whole]
        by_method = {run.method: [other for other in members if other.method == run.method] for run in members}
        for run in members:
            rows.append({"task": task, "method": run.method,
                         "setting": setting_of(run, differing_keys(by_method[run.method])), "run": run.label,
                         "seed": run.seed, **numbers_of(run.result)})
    return pd.DataFrame(rows)


def numbers_of(result):
    memory = result.get("peak_memory_bytes_per_rank") or [float("nan")]
    phases = [result.get(name) or {} for name in ("search", "retrain")]
    tokens, seconds = (sum(phase.get(name, 0) for phase in phases) for name in ("tokens", "seconds"))
    return {"metric": result.get("metric_name", ""), "score": number(result.get("score")),
            "trainable_parameters": number(result.get("trainable_parameters")),
            "mean_rank": number(result.get("mean_rank")), "seconds": number(result.get("seconds")),
            "cpu_seconds": number(result.get("cpu_seconds")),
            "tokens_per_second": tokens / seconds if seconds else float("nan"), "peak_memory_bytes": max(memory)}


def number(value):
    return float(value) if isinstance(value, (int, float)) else float("nan")


def experiment_rows(runs):
    """One row a task, method and setting: counts, means and standard deviations (n - 1) over the seeds."""
    rows = run_rows(runs)
    if rows.empty:
        return rows
    groups = rows.groupby(["task", "method", "setting", "metric"], sort=False)
    return groups.agg(
        seeds=("score", "size"), score=("score", "mean"), score_sd=("score", "std"),
        trainable_parameters=("trainable_parameters", "mean"),
        trainable_parameters_sd=("trainable_parameters", "std"), mean_rank=("mean_rank", "mean"),
        seconds=("seconds", "mean"), seconds_sd=("seconds", "std"), cpu_seconds=("cpu_seconds", "mean"),
        cpu_seconds_sd=("cpu_seconds", "std"),
        tokens_per_second=("tokens_per_second", "mean"), peak_memory_bytes=("peak_memory_bytes", "max")).reset_index()


def pareto_front(parameters, scores, lower_is_better=False):
    """True where no other has at most as many parameters and at least as good a score, and is better in one."""
    parameters = np.asarray(parameters, float)
    scores = np.asarray(scores, float) * (-1 if lower_is_better else 1)
    front = np.isfinite(parameters) & np.isfinite(scores)
    for i in np.flatnonzero(front):
        better = (parameters <= parameters[i]) & (scores >= scores[i])
        better &= (parameters < parameters[i]) | (scores > scores[i])
        front[i] = not better.any()
    return front


def seed_groups(runs):
    """[(name, runs)] of experiments with ranks of their own in two seeds or more."""
    groups = {}
    searched = [run for run in runs if run.has_history and run.ranks]
    for run in searched:
        key = (run.task, run.method, tuple(run.modules), str(sorted(run.experiment().items())))
        groups.setdefault(key, []).append(run)
    found = []
    for (task, method, _, _), members in groups.items():
        if len(members) > 1:
            peers = [run for run in searched if (run.task, run.method) == (task, method)]
            setting = setting_of(members[0], differing_keys(peers))
            found.append((" ".join(filter(None, (task, method, setting))), members))
    return found
