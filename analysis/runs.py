"""Run folders and what describes a run as a whole: result.json, the input kept in the trace, a sweep's settings."""
import json
import pathlib

import numpy as np

from analysis.trace import Trace, TraceProblem, segment_files

# Keys of the input that do not make another experiment.
INCIDENTAL = ("run.name", "run.seed", "run.output_dir", "output.", "parallel.", "task.data_dir")


class Mistake(Exception):
    """What the user has to know; ends the program with exit code 2."""


def read_json(path):
    """The object in a file; {} where there is none or it is not whole."""
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def flat(tree, prefix=""):
    """{"adapter.rank": 8, ...}"""
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


class Run:
    """One run's folder. What needs the trace's rows opens it anew: trace()."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.result = read_json(self.folder / "result.json")
        self.settings = read_json(self.folder / "settings.json")
        self.problem, self.modules, self.keys, self.last_ranks = "", [], {}, []
        self.has_history = False
        try:
            with self.trace() as trace:
                self._read_trace(trace)
        except TraceProblem as problem:
            self.problem = str(problem)
        self.keys.update(self.settings)
        if not self.modules:
            self.modules = list(self.result.get("ranks", {}))
        self.label = self.folder.name

    def _read_trace(self, trace):
        self.modules, self.keys = trace.modules, flat(trace.input)
        for name in ("search", "allocation"):
            table = trace.tables[name]
            if len(table):
                self.has_history = True
                self.last_ranks = [int(rank) for rank in table.read("ranks", first=len(table) - 1)[0]]

    def trace(self):
        return Trace(self.folder)

    @property
    def is_whole(self):
        return bool(self.result)

    @property
    def ranks(self):
        """Of every module: the result's, else the last of the trace. [] where neither is known."""
        known = self.result.get("ranks")
        if known and set(known) == set(self.modules):
            return [int(known[module]) for module in self.modules]
        return self.last_ranks

    @property
    def intervals(self):
        """(low, high, how often the rank would be another), each [modules], as the program wrote them; else None."""
        known = self.result.get("rank_intervals")
        try:
            rows = [(*known[module]["interval"], known[module]["changed"]) for module in self.modules]
            low, high, changed = np.array(rows, float).T
        except (KeyError, TypeError, ValueError):
            return None
        return (low, high, changed) if np.isfinite([low, high, changed]).all() else None

    @property
    def method(self):
        return self.result.get("method") or self.keys.get("adapter.method") or "unknown"

    @property
    def task(self):
        """GLUE's name of the task; of sequence labelling with its data."""
        name = self.keys.get("task.name") or "unknown"
        return f"{name} {pathlib.PurePath(str(self.keys.get('task.data_dir'))).name}" if name == "ner" else name

    @property
    def seed(self):
        return self.keys.get("run.seed")

    def experiment(self):
        """The keys that make the experiment, without the seed."""
        found = {key: value for key, value in self.keys.items() if not key.startswith(INCIDENTAL)}
        if "model.path" in found:
            found["model.path"] = pathlib.PurePath(str(found["model.path"])).name
        return found


def is_run(folder):
    return bool(segment_files(folder)) or any((folder / name).is_file() for name in ("result.json", "progress.jsonl"))


def find_runs(paths):
    """The runs of run folders, sweep folders and folders of runs, each once."""
    folders = []
    for path in map(pathlib.Path, paths):
        if not path.is_dir():
            raise Mistake(f"{path}: no such folder")
        inside = path / "points" if (path / "points").is_dir() else path
        found = [path] if is_run(path) else sorted(f for f in inside.iterdir() if f.is_dir() and is_run(f))
        if not found:
            raise Mistake(f"{path}: neither a run (trace.h5, result.json) nor a folder of runs")
        folders += [folder for folder in found if folder.resolve() not in {f.resolve() for f in folders}]
    runs = [Run(folder) for folder in folders]
    names = [run.label for run in runs]
    for run in runs:
        if names.count(run.label) > 1:
            run.label = f"{run.folder.parent.name}/{run.folder.name}"
    return runs
