"""The same job gives the same answer, to the last bit, on any number of MPI ranks."""
import common
from common import Job, Skip, assert_same, cases, on_ranks

BASE = common.ROOT / "inputs" / "models" / "all-MiniLM-L6-v2"
DEMO = common.ROOT / "inputs" / "demo"
DROPOUT = {"adapter.dropout": 0.1, "model.hidden_dropout": 0.1, "model.attention_dropout": 0.1}


def search(**keys):
    return {**DROPOUT, **{f"search.{name}": value for name, value in keys.items()}}


def assert_same_on(job, layouts, keys=None):
    """layouts: numbers of stages, or pairs (replicas, stages)."""
    alone = job.results(1, keys, output="alone")
    assert alone.trace["/retrain/step"].shape == (job.keys["retrain.steps"],)
    for layout in layouts:
        num_ranks, more = on_ranks(layout)
        several = job.results(num_ranks, {**(keys or {}), **more}, output="several")
        assert_same(several, alone, f"on {layout}")
    return alone


SEARCHES = {
    "exact_paper": search(hypergradient="exact", recipe="paper"),
    "exact_reference": search(hypergradient="exact", recipe="reference"),
    "finite_difference_paper": search(hypergradient="finite_difference", recipe="paper"),
    "finite_difference_reference": search(hypergradient="finite_difference", recipe="reference"),
    "first_order_paper": search(hypergradient="first_order", recipe="paper"),
    "first_order_reference": search(hypergradient="first_order", recipe="reference"),
    "sigmoid": search(constraint="sigmoid"),
    "no_constraint": search(constraint="none", threshold_rule="raw_sum"),
    "single_level": search(meta=False),
    "every_second_step": search(selection_every=2),
}


@cases(**SEARCHES)
def test_sequence_task(keys):
    """3 blocks: as many stages as blocks, fewer, more; replicas."""
    assert_same_on(Job("cola"), (2, 3, 5, (2, 1), (3, 1), (2, 2)), keys)


@cases(exact=search(), finite_difference=search(hypergradient="finite_difference"))
def test_token_task(keys):
    """2 blocks; adapters in all projections."""
    targets = ["query", "key", "value", "attention_output", "intermediate", "output"]
    assert_same_on(Job("ner"), (2, 4, (2, 1), (3, 2)), {**keys, "adapter.targets": targets})


@cases(exact=search(), finite_difference=search(hypergradient="finite_difference"))
def test_regression(keys):
    assert_same_on(Job("stsb"), (2, 3, (2, 1), (3, 1)), keys)


@cases(exact=search(), finite_difference=search(hypergradient="finite_difference"))
def test_language_modelling(keys):
    assert_same_on(Job("e2e"), (2, 3, (2, 1), (2, 2)), {**keys, "task.label_smoothing": 0.1})


def test_two_development_sets():
    assert_same_on(Job("mnli"), (2, (2, 1)), DROPOUT)


def test_plain_lora():
    assert_same_on(Job("cola"), (2, 4, (4, 1)), {**DROPOUT, "adapter.method": "lora"})


def test_fewer_microbatches_than_stages_or_replicas():
    keys = {**DROPOUT, "parallel.microbatch_tokens": 4096, "optimizer.batch_size": 4}
    assert_same_on(Job("cola"), (3, 8, (2, 1), (3, 2)), keys)


def test_one_sequence_a_microbatch():
    assert_same_on(Job("cola"), (2, 3, (5, 1)), {**DROPOUT, "parallel.microbatch_tokens": 16})


def test_explicit_layouts():
    """Uneven stages and stages without blocks, also at both ends."""
    job = Job("cola")
    alone = job.results(1, DROPOUT, output="alone")
    for layout in ([1, 2], [3, 0], [0, 3], [0, 2, 0, 1], [1, 0, 0, 2]):
        keys = {**DROPOUT, "parallel.layout": layout, "parallel.stages": len(layout)}
        several = job.results(len(layout), keys, output="layout")
        assert several.result["provenance"]["blocks_per_stage"] == layout
        assert_same(several, alone, f"layout {layout}")


def test_default_layouts_place_every_block():
    job = Job("cola", keys={"search.steps": 1, "retrain.steps": 1})
    for num_ranks, layout in ((2, (2, 1)), (3, (1, 1, 1)), (6, None)):
        placed = job.results(num_ranks).result["provenance"]["blocks_per_stage"]
        assert sum(placed) == 3 and len(placed) == num_ranks, placed
        assert layout is None or tuple(sorted(placed)) == tuple(sorted(layout)), placed


def test_thread_counts():
    job = Job("cola", keys={**DROPOUT, "adapter.rank": 5})
    alone = job.results(1, {"parallel.threads": 1}, output="one")
    two = job.results(1, {"parallel.threads": 2}, output="two")
    if two.result["provenance"]["threads_per_rank"] != 2:
        raise Skip("only one core may be used here")
    assert_same(two, alone, "2 threads")
    environment = {"OMP_NUM_THREADS": "2"}
    both = job.results(2, output="both", environment=environment)
    assert both.result["provenance"]["threads_per_rank"] == 2
    assert_same(both, alone, "2 ranks of 2 threads")


def test_microbatch_size_changes_rounding_only():
    """Sums have another order, so the last bits may differ, and nothing more. Dropout is keyed by
    the example, not by its microbatch."""
    job = Job("cola", keys=DROPOUT)
    small = job.results(1, output="small")
    large = job.results(2, {"parallel.microbatch_tokens": 4096}, output="large")
    for path in ("/search/selection", "/search/loss_train", "/search/loss_validation",
                 "/retrain/loss_train", "/evaluation/loss"):
        pairs = list(zip(small.trace[path].numbers, large.trace[path].numbers))
        assert pairs
        worst = max(abs(a - b) / max(abs(a), abs(b), 1e-3) for a, b in pairs)
        assert worst < 1e-5, f"{path}: relative difference {worst}"


def test_base_model():
    """The real base on real sentences: 6 blocks, several microbatches a batch."""
    if not (BASE / "model.safetensors").exists():
        raise Skip(f"no base model in {BASE.relative_to(common.ROOT)}")
    keys = {**DROPOUT, "model.path": str(BASE), "task.data_dir": str(DEMO),
            "task.limit_train": 48, "task.limit_dev": 16, "parallel.microbatch_tokens": 64,
            "retrain.evaluate_every_epoch": False}
    job = Job("cola")
    alone = assert_same_on(job, (2, 3, 4, 6, 8, (2, 1), (2, 3)), keys)
    assert_same(job.results(1, {**keys, "parallel.threads": 2}, output="two"), alone, "2 threads")
