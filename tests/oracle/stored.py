"""Reproducible random values, and reading, writing and comparing of fixture files."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

IGNORED_KEYS = {"transformers_version"}  # of config.json: not a property of the model


def stream(key):
    """A random stream of its own for every key, so that adding a fixture changes no other one.

    RandomState is frozen by NumPy's compatibility policy: the same values with every version.
    """
    return np.random.RandomState(zlib.crc32(key.encode()))


def uniform(key, shape, deviation, mean=0.0):
    """float32 tensor, uniform with the given mean and standard deviation.

    Uniform rather than normal: it needs no transcendental function, hence is the same on every machine.
    """
    half_width = deviation * math.sqrt(3.0)
    values = mean + half_width * (2.0 * stream(key).random_sample(shape) - 1.0)
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def write_tensors(path, tensors):
    """Write a safetensors file; float64 results are rounded to float32, other types are kept."""
    stored = {}
    for name, value in tensors.items():
        value = value.detach()
        stored[name] = (value.float() if value.dtype == torch.float64 else value).contiguous().clone()
    save_file(stored, str(path), metadata={"format": "pt"})
    Path(path).chmod(0o644)


def write_json(path, value, compact=False):
    """Write JSON with a final newline; NaN and infinity are errors."""
    layout = {"separators": (",", ":")} if compact else {"indent": 2}
    Path(path).write_text(json.dumps(value, allow_nan=False, **layout) + "\n")


def _compare_tensors(fresh, kept, tolerance):
    differences = [f"tensor {name} is in one file only" for name in sorted(fresh.keys() ^ kept.keys())]
    for name in sorted(fresh.keys() & kept.keys()):
        x, y = fresh[name], kept[name]
        if x.dtype != y.dtype or x.shape != y.shape:
            differences.append(f"tensor {name}: {x.dtype} {list(x.shape)}, stored {y.dtype} {list(y.shape)}")
        elif not x.is_floating_point():
            if not torch.equal(x, y):
                differences.append(f"tensor {name}: integers differ")
        elif x.numel():
            x, y = x.double(), y.double()
            error = (x - y).abs().max().item()
            bound = tolerance * y.abs().max().item()
            if not error <= bound:  # also catches NaN
                differences.append(f"tensor {name}: differs by {error:.3e}, allowed {bound:.3e}")
    return differences


def _compare_json(x, y, tolerance, where="$"):
    if isinstance(x, dict) and isinstance(y, dict):
        differences = [f"{where}.{key} is in one file only"
                       for key in sorted((x.keys() ^ y.keys()) - IGNORED_KEYS)]
        for key in sorted((x.keys() & y.keys()) - IGNORED_KEYS):
            differences += _compare_json(x[key], y[key], tolerance, f"{where}.{key}")
        return differences
    if isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
        pairs = enumerate(zip(x, y))
        return [d for i, (p, q) in pairs for d in _compare_json(p, q, tolerance, f"{where}[{i}]")]
    if isinstance(x, float) and isinstance(y, float):
        same = math.isclose(x, y, rel_tol=tolerance, abs_tol=1e-12)
    else:
        same = type(x) is type(y) and x == y
    return [] if same else [f"{where}: {x!r}, stored {y!r}"]


def compare_directories(fresh, kept, tolerance):
    """All differences between two fixture directories as a list of readable lines.

    Floating point tensors: max |x - y| <= tolerance * max |y|.  Everything else must be equal, numbers with
    a fraction in JSON to the same relative tolerance.
    """
    fresh, kept = Path(fresh), Path(kept)
    names = sorted(str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file())
    differences = []
    for name in names:
        if not (kept / name).is_file():
            differences.append(f"{name}: missing")
            continue
        if name.endswith(".safetensors"):
            found = _compare_tensors(load_file(fresh / name), load_file(kept / name), tolerance)
        else:
            found = _compare_json(json.loads((fresh / name).read_text()),
                                  json.loads((kept / name).read_text()), tolerance)
        differences += [f"{name}: {line}" for line in found]
    return differences
