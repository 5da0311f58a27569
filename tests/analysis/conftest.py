"""Traces as the program writes them (src/io/trace.c), made with h5py."""
import json
import pathlib
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

import h5py
import numpy as np

MODULES = [f"bert.encoder.layer.{layer}.attention.self.{name}" for layer in range(3) for name in ("query", "value")]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def search_columns(rows, modules=6, k=4, first_step=1, seed=0, drift=0.0):
    """A search whose logits walk at random and, by `drift` a row, towards ranks of their own."""
    draw = np.random.default_rng(seed)
    gradient = draw.standard_normal((rows, modules, k)).astype(np.float32)
    direction = np.where(np.arange(k) < 1 + np.arange(modules)[:, None] % k, 1, -1)
    logits = (1 + np.cumsum(0.01 * gradient + drift * direction, axis=0)).astype(np.float32)
    selection = softmax(logits.astype(float)).astype(np.float32)
    steps = np.arange(first_step, first_step + rows, dtype=np.uint64)
    return {"step": steps, "time": 0.5 * steps, "selection": selection, "logits": logits, "hypergradient": gradient,
            "loss_train": 1 / (1 + 0.1 * steps), "loss_validation": 1.5 / (1 + 0.1 * steps),
            "ranks": (selection.astype(float) >= (1 - 1e-6) / k).sum(axis=-1).astype(np.int32)}


def retrain_columns(rows, first_step=1):
    steps = np.arange(first_step, first_step + rows, dtype=np.uint64)
    return {"step": steps, "time": 0.1 * steps, "loss_train": 2 / (1 + 0.1 * steps), "learning_rate": 1e-3 + 0 * steps,
            "gradient_norm": 1.0 + 0 * steps}


def evaluation_columns(rows):
    steps = 10 * np.arange(1, rows + 1, dtype=np.uint64)
    return {"step": steps, "time": 0.1 * steps, "loss": 0.9 / (1 + 0.1 * steps), "score": steps / (10.0 * rows)}


def write_trace(path, modules=MODULES, keys=None, **tables):
    """tables: search={...}, retrain={...}, evaluation={...}, allocation={...}"""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = {}
    for key, value in {"adapter.method": "autolora", "task.name": "cola", "run.seed": 1, **(keys or {})}.items():
        section, name = key.split(".")
        root.setdefault(section, {})[name] = value
    with h5py.File(path, "w") as file:
        file["modules"] = np.array(modules, dtype=h5py.string_dtype())
        file.attrs.update(format_version=1, input=json.dumps(root), provenance="{}")
        for table, columns in tables.items():
            for name, values in columns.items():
                file.create_dataset(f"{table}/{name}", data=values, chunks=(256, *values.shape[1:]),
                                    maxshape=(None, *values.shape[1:]))
    return path


def write_result(folder, ranks=None, score=0.5, method="autolora", parameters=1000, modules=MODULES, **more):
    folder.mkdir(parents=True, exist_ok=True)
    ranks = ranks if ranks is not None else [2] * len(modules)
    result = {"name": folder.name, "method": method, "metrics": {"dev": {"matthews_correlation": score}},
              "metric_name": "matthews_correlation", "score": score,
              "ranks": {module: int(rank) for module, rank in zip(modules, ranks)}, "mean_rank": float(np.mean(ranks)),
              "trainable_parameters": parameters, "search": {"seconds": 4.0, "tokens": 1000},
              "retrain": {"seconds": 6.0, "tokens": 4000}, "seconds": 12.5,
              "peak_memory_bytes_per_rank": [1 << 20, 3 << 20], "provenance": {"mpi_ranks": 2}, **more}
    (folder / "result.json").write_text(json.dumps(result))


def write_run(folder, rows=40, keys=None, k=4, seed=0, drift=0.002, **result):
    """A whole run; returns the columns of its search."""
    search = search_columns(rows, k=k, seed=seed, drift=drift)
    write_trace(folder / "trace.h5", keys={"adapter.rank": k, "run.seed": seed, **(keys or {})}, search=search,
                retrain=retrain_columns(30), evaluation=evaluation_columns(3))
    write_result(folder, search["ranks"][-1], **result)
    return search


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    return folder, write_run(folder)
