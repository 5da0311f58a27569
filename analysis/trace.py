"""Reads trace.h5, in strides: what is returned is bounded, however long the run was.

A run that was killed may leave datasets of one group that differ in length: the shortest counts. A run that was
resumed may leave several files, each a segment: a later segment replaces the rows from its first step on, those
that the dead attempt had made after its last checkpoint.
"""
import json
import os
import pathlib
import re

os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")  # the file of a running job is open elsewhere

import h5py
import numpy as np

# Shapes of a row: "m" modules, "k" components. Other columns are not read.
COLUMNS = {
    "search": {"step": "", "selection": "mk", "logits": "mk", "hypergradient": "mk", "loss_train": "",
               "loss_validation": "", "ranks": "m"},
    "allocation": {"step": "", "singular_values": "mk", "ranks": "m"},
    "retrain": {"step": "", "loss_train": ""},
    "evaluation": {"step": "", "loss": "", "score": ""},
}
MOST_ROWS = 4096
MOST_VALUES = 1 << 23


class Timeline:
    """What each MPI rank did when in one iteration: arrays over the intervals; times in seconds since it began."""

    def __init__(self, group):
        dataset = {name: group[name][:] for name in ("rank", "name", "start", "stop")}
        names = list(group["names"].asstr()[:])
        count = min(map(len, dataset.values()))
        if any(values.ndim != 1 or values.dtype.kind not in "iuf" for values in dataset.values()) or not all(
                0 <= number < len(names) for number in dataset["name"][:count]):
            raise TraceProblem(f"{group.file.filename}: {group.name} is not a timeline")
        self.step = int(group.attrs["step"])
        self.ranks, self.starts, self.stops = (dataset[name][:count] for name in ("rank", "start", "stop"))
        self.names = [names[number] for number in dataset["name"][:count]]

    @property
    def end(self):
        return float(self.stops.max())

    def seconds(self, rank, kind):
        """Of one rank in intervals of that kind, the last part of the names."""
        return float(sum(stop - start for of, name, start, stop in zip(self.ranks, self.names, self.starts, self.stops)
                         if of == rank and name.rpartition("/")[2] == kind))


class TraceProblem(Exception):
    """A trace that cannot be read; the text names the file."""


def segment_files(folder):
    """The files of a run's trace, oldest first: trace-1.h5 or trace.h5.damaged-1, ..., trace.h5."""
    found = []
    for path in pathlib.Path(folder).glob("trace*"):
        match = re.fullmatch(r"trace(?:-(\d+)\.h5|\.h5\.damaged-(\d+)|\.h5)", path.name)
        if match and path.is_file():
            number = match[1] or match[2]
            found.append((number is None, int(number or 0), path))
    return [path for _, _, path in sorted(found)]


class Table:
    """One group of the trace, joined over the segments; rows are iterations."""

    def __init__(self, groups):
        """groups: {column: dataset} of each segment, oldest first."""
        self.pieces = []  # (group, rows)
        later = None  # first step of the segments after this one
        steps = []
        for group in reversed(groups):
            rows = min(len(dataset) for dataset in group.values())
            step = group["step"][:rows]
            if later is not None:
                rows = int(np.searchsorted(step, later))
            if rows > 0:
                later = int(step[0])
                self.pieces.insert(0, (group, rows))
                steps.insert(0, step[:rows].astype(np.int64))
        self.steps = np.concatenate(steps) if steps else np.zeros(0, np.int64)
        self.columns = list(self.pieces[-1][0]) if self.pieces else []

    def __len__(self):
        return len(self.steps)

    def stride(self, column, first=0):
        """The smallest stride that keeps to the bounds."""
        rows = len(self) - first
        values = max(1, int(np.prod(self.pieces[-1][0][column].shape[1:])))
        most = max(2, min(MOST_ROWS, MOST_VALUES // values))
        return max(1, -(-rows // most))

    def rows(self, stride, first=0):
        """Row numbers from `first` on, the last row always among them."""
        count = len(self) - first
        return np.arange(first + (count - 1) % stride, len(self), stride) if count > 0 else np.zeros(0, int)

    def read(self, column, stride=1, first=0):
        """The rows that rows() names."""
        wanted, parts, start = self.rows(stride, first), [], 0
        for group, rows in self.pieces:
            inside = wanted[(wanted >= start) & (wanted < start + rows)] - start
            if len(inside):
                parts.append(read_slice(group[column], int(inside[0]), int(inside[-1]) + 1, stride))
            start += rows
        return np.concatenate(parts) if parts else np.zeros((0,))

    def means(self, column, bins=1000):
        """(steps, means) of a column of numbers over at most `bins` equal parts; NaN does not count."""
        values = self.read(column).astype(np.float64)
        width = max(1, -(-len(values) // bins))
        edges = np.arange(0, len(values), width)
        known = np.isfinite(values)
        counts = np.add.reduceat(known, edges, dtype=float) if len(edges) else edges.astype(float)
        sums = np.add.reduceat(np.where(known, values, 0), edges) if len(edges) else counts
        last = np.minimum(edges + width, len(values)) - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / counts
        return self.steps[last][counts > 0], means[counts > 0]


def read_slice(dataset, start, stop, stride):
    """dataset[start:stop:stride]; HDF5 is slow at strides, so single rows are fetched for long ones."""
    try:
        if stride < 32:
            pieces = [dataset[i:min(stop, i + 4096 * stride)][::stride] for i in range(start, stop, 4096 * stride)]
            return np.concatenate(pieces)
        return np.stack([dataset[i] for i in range(start, stop, stride)])
    except OSError as error:
        raise TraceProblem(f"{dataset.file.filename}: {dataset.name}: {error}") from error


class Trace:
    """The trace of a run's folder. Use as a context; raises TraceProblem where no segment can be read."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.files, self.unreadable = [], []
        paths = segment_files(folder)
        if not paths:
            raise TraceProblem(f"{self.folder}: no trace.h5")
        self.tables = {}
        for path in paths:
            try:
                self.files.append(h5py.File(path, "r"))
            except OSError as error:
                self.unreadable.append(f"{path}: {error}")
        if not self.files:
            raise TraceProblem("; ".join(self.unreadable))
        try:
            self._read()
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.close()
            raise TraceProblem(f"{self.folder}: the trace cannot be read: {error}") from error
        except TraceProblem:
            self.close()
            raise

    def _read(self):
        self.modules = list(self.files[-1]["modules"].asstr()[:])
        self.input, self.provenance = self._json("input"), self._json("provenance")
        for name, columns in COLUMNS.items():
            groups = [self._group(file, name, columns) for file in self.files if name in file]
            self.tables[name] = Table(groups)

    def timelines(self):
        """{phase: Timeline}"""
        try:
            return {phase: Timeline(group) for file in self.files for phase, group in file.get("timeline", {}).items()
                    if len(group["rank"])}
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise TraceProblem(f"{self.folder}: the timeline cannot be read: {error}") from error

    def _group(self, file, name, columns):
        """{column: dataset}, of the shapes that belong together."""
        group, found, components = file[name], {}, None
        for column, shape in columns.items():
            dataset = group[column]
            is_good = dataset.ndim == 1 + len(shape)
            if is_good and "m" in shape:
                is_good = dataset.shape[1] == len(self.modules)
            if is_good and "k" in shape:
                components = components or dataset.shape[2]
                is_good = dataset.shape[2] == components > 0
            if not is_good or dataset.dtype.kind not in "iuf":
                raise TraceProblem(f"{file.filename}: {dataset.name}: {dataset.dtype} {dataset.shape}, expected numbers "
                                   f"[rows{', modules' if 'm' in shape else ''}{', components' if 'k' in shape else ''}] "
                                   f"for {len(self.modules)} modules")
            found[column] = dataset
        return found

    def _json(self, name):
        text = self.files[-1].attrs.get(name, "{}")
        try:
            value = json.loads(text if isinstance(text, str) else text.decode())
        except ValueError:
            value = {}
        return value if isinstance(value, dict) else {}

    def key(self, path, default=None):
        """A key of the input, as "search.threshold_rule"."""
        value = self.input
        for part in path.split("."):
            value = value.get(part, default) if isinstance(value, dict) else default
        return value

    def close(self):
        for file in self.files:
            file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
