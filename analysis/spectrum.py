"""Reads spectrum.h5, the singular values of the learned updates and of the frozen weights.

/modules [modules] strings; /update/singular_values and /frozen/singular_values [modules, n], padded with zeros;
beside them effective_rank, stable_rank and num_above [modules], the first two where absent computed from the singular
values. /ranks [modules] where the updates are adapters; the attribute `method` is "full" where they are W - W0."""
import pathlib
from dataclasses import dataclass

import h5py
import numpy as np

from analysis.trace import TraceProblem


@dataclass
class Spectrum:
    modules: list
    is_full: bool  # all weights were trained: there are no ranks
    values: dict  # "update", "frozen": singular values [modules, n]
    effective: dict  # the same: effective rank [modules]
    stable: dict  # stable rank [modules]


def effective_rank(values):
    """exp(entropy of the singular values as shares), of each row (Roy and Vetterli 2007)."""
    values = np.abs(np.asarray(values, float))
    sums = values.sum(axis=-1, keepdims=True)
    shares = np.divide(values, sums, out=np.zeros_like(values), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.where(sums[..., 0] > 0, np.exp(-(shares * logs).sum(axis=-1)), 0)


def stable_rank(values):
    """Sum of the squares over the largest square, of each row; 0 for zeros."""
    squares = np.asarray(values, float) ** 2
    largest = squares.max(axis=-1)
    return np.divide(squares.sum(axis=-1), largest, out=np.zeros_like(largest), where=largest > 0)


def read_spectrum(folder):
    """None where there is no spectrum.h5."""
    path = pathlib.Path(folder) / "spectrum.h5"
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            spectrum = Spectrum(list(file["modules"].asstr()[:]), file.attrs.get("method") == "full", {}, {}, {})
            for name in ("update", "frozen"):
                if name not in file:
                    continue
                group = file[name]
                values = spectrum.values[name] = group["singular_values"][:]
                for kind, compute in (("effective", effective_rank), ("stable", stable_rank)):
                    stored = f"{kind}_rank"
                    getattr(spectrum, kind)[name] = group[stored][:] if stored in group else compute(values)
            return spectrum
    except (OSError, KeyError) as error:
        raise TraceProblem(f"{path}: {error}") from error
