"""Reads spectrum.h5, the singular values of the learned updates and of the frozen weights.

/modules [modules] strings; /update/singular_values and /frozen/singular_values [modules, n], padded with zeros;
/update/effective_rank and /frozen/effective_rank [modules], where absent computed from the singular values."""
import pathlib
from dataclasses import dataclass

import h5py
import numpy as np

from analysis.trace import TraceProblem


@dataclass
class Spectrum:
    modules: list
    values: dict  # "update", "frozen": singular values [modules, n]
    effective: dict  # the same: effective rank [modules]


def effective_rank(values):
    """exp(entropy of the singular values as shares), of each row (Roy and Vetterli 2007)."""
    values = np.abs(np.asarray(values, float))
    sums = values.sum(axis=-1, keepdims=True)
    shares = np.divide(values, sums, out=np.zeros_like(values), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.where(sums[..., 0] > 0, np.exp(-(shares * logs).sum(axis=-1)), 0)


def read_spectrum(folder):
    """None where there is no spectrum.h5."""
    path = pathlib.Path(folder) / "spectrum.h5"
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            spectrum = Spectrum(list(file["modules"].asstr()[:]), {}, {})
            for name in ("update", "frozen"):
                if name not in file:
                    continue
                group = file[name]
                spectrum.values[name] = group["singular_values"][:]
                spectrum.effective[name] = (group["effective_rank"][:] if "effective_rank" in group
                                            else effective_rank(spectrum.values[name]))
            return spectrum
    except (OSError, KeyError) as error:
        raise TraceProblem(f"{path}: {error}") from error
