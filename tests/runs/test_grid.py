"""Runs on process grids give what one process gives, but for rounding, and fit into less memory."""
import json

import common
from common import Job, assert_same, cases

DROPOUT = {"adapter.dropout": 0.1, "model.hidden_dropout": 0.1, "model.attention_dropout": 0.1, "search.steps": 2,
           "retrain.steps": 2}
ALL = ["query", "key", "value", "attention_output", "intermediate", "output"]


def assert_close(found, expected, what, tolerance=1e-5):
    """Everything in the traces, relative to the largest number of each dataset."""
    assert found.trace.keys() == expected.trace.keys(), what
    for path, dataset in expected.trace.items():
        if path.endswith("/time") or path.startswith("/timeline") or not dataset.type.startswith("float"):
            continue
        pairs = list(zip(found.trace[path].numbers, dataset.numbers, strict=True))
        largest = max((abs(b) for _, b in pairs if b == b), default=0)
        worst = max((abs(a - b) for a, b in pairs if b == b), default=0)
        assert worst <= tolerance * max(largest, 1e-30), f"{what}: {path}: {worst} of {largest}"
    assert found.ranks == expected.ranks, what


def on_grid(job, grid, stages=1, replicas=1, keys=None, **how):
    keys = {**(keys or {}), "parallel.grid": grid, "parallel.stages": stages, "parallel.replicas": replicas}
    name = f"{grid[0]}x{grid[1]}-{stages}-{replicas}"
    return job.results(grid[0] * grid[1] * stages * replicas, keys, output=how.pop("output", name), **how)


def assert_grids_agree(job, keys, grids, stages=(1, 2), tolerance=1e-5):
    alone = job.results(1, keys, output="alone")
    for grid in grids:
        for count in stages:
            assert_close(on_grid(job, grid, count, keys=keys), alone, f"{grid} on {count} stages", tolerance)


HYPERGRADIENTS = {name: {**DROPOUT, "search.hypergradient": name, "search.recipe": recipe}
                  for name, recipe in (("exact", "paper"), ("finite_difference", "reference"),
                                       ("first_order", "paper"))}


@cases(**HYPERGRADIENTS)
def test_sequences(keys):
    """3 attention heads, so columns differ."""
    # a difference of two gradients, divided by a small step, has fewer digits
    tolerance = 1e-3 if "finite_difference" in keys.values() else 1e-5
    grids = ([1, 2], [2, 1], [2, 2]) if keys["search.hypergradient"] == "exact" else ([2, 2],)
    assert_grids_agree(Job("cola"), keys, grids, tolerance=tolerance)


def test_tokens_with_all_projections():
    assert_grids_agree(Job("ner"), {**DROPOUT, "adapter.targets": ALL}, ([2, 2],))


def test_new_dense_layer():
    assert_grids_agree(Job("cola", fixture="roberta-sequence"), DROPOUT, ([2, 1], [1, 3]), (1,))


def test_regression():
    assert_grids_agree(Job("stsb"), DROPOUT, ([2, 2],), (1,))


def test_language_modelling():
    """Texts are generated afterwards."""
    job = Job("e2e", keys=DROPOUT)
    grid = on_grid(job, [2, 2], keys={"output.keep": 1})
    alone = job.results(1, output="alone")
    assert_close(grid, alone, "language modelling")
    assert "bleu" not in json.dumps(grid.result["metrics"])
    outcome = common.start(["evaluate", grid.folder], 2)
    assert outcome.code == 0 and "bleu" in outcome.out, outcome


@cases(lora={"adapter.method": "lora"}, adalora={"adapter.method": "adalora", "adapter.mean_rank": 2},
       random={"adapter.method": "random", "adapter.mean_rank": 2})
def test_other_methods(keys):
    assert_grids_agree(Job("cola"), {**DROPOUT, **keys}, ([2, 2],), (1,))


def test_replicas():
    job = Job("cola", keys=DROPOUT)
    alone = job.results(1, output="alone")
    assert_close(on_grid(job, [1, 2], replicas=2), alone, "2 replicas")
    assert_close(on_grid(job, [2, 2], stages=2, replicas=2), alone, "2 replicas of 2 stages")


def test_fewer_sequences_than_rows():
    """A microbatch of one sequence leaves rows of the grid without work."""
    job = Job("cola", keys={**DROPOUT, "parallel.microbatch_tokens": 16, "optimizer.batch_size": 3})
    assert_grids_agree(job, {}, ([4, 1], [3, 2]), (1,))


def test_same_bits_on_the_same_grid():
    job = Job("cola", keys=DROPOUT)
    first = on_grid(job, [2, 2], output="first")
    assert_same(on_grid(job, [2, 2], output="second"), first, "the same grid again")


def test_resume():
    """From the middle of the search and of the retraining: the same grid to the bit, others nearly."""
    job = Job("cola", keys={**DROPOUT, "search.steps": 4, "retrain.steps": 4, "output.checkpoint_every": 1,
                            "output.keep": 100})
    whole = on_grid(job, [2, 2], output="whole")
    checkpoints = sorted(path for path in whole.folder.glob("checkpoint-*.h5") if path.stem[-1].isdigit())
    assert len(checkpoints) >= 7, checkpoints
    for number, grid, exact in ((1, [2, 2], True), (5, [2, 2], True), (2, [1, 2], False), (6, [1, 1], False)):
        for path in checkpoints[number + 1:]:
            path.unlink()
        (whole.folder / "result.json").unlink()
        (whole.folder / "checkpoint-final.h5").unlink()
        keys = {"parallel.grid": grid}
        outcome = common.start(["run", job.write(keys), "--resume"], grid[0] * grid[1])
        assert outcome.code == 0, outcome
        resumed = common.Results(whole.folder, outcome)
        (assert_same if exact else assert_close)(resumed, whole, f"resumed at {number} on {grid}")
        checkpoints = sorted(path for path in whole.folder.glob("checkpoint-*.h5") if path.stem[-1].isdigit())
