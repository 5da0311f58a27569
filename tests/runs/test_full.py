"""Methods that train the model's own weights, or whole layers of their own."""
import json
import struct

import common
from common import Job, assert_same, cases, on_ranks

FULL = {"adapter.method": "full", "model.hidden_dropout": 0.1, "model.attention_dropout": 0.1,
        "optimizer.lr": 3e-3}
ADAPTER = {**FULL, "adapter.method": "adapter", "adapter.bottleneck": 6}
LANGUAGE = {"adapter.method": "full", "model.hidden_dropout": 0.1, "optimizer.lr": 3e-3}


def language_job(keys=None):
    """A tiny GPT-2 with a tied head; its pieces are those of the other tiny models."""
    job = Job("cola", "gpt2-language", keys={"task.name": "e2e", "task.max_length": 24, "task.max_new_tokens": 4,
                                             "task.num_beams": 2, **(keys or {})})
    for name, count, seed in (("train.txt", 24, 1), ("valid.txt", 8, 2)):
        draw = common.random.Random(seed)
        lines = (f"{' '.join(common.words(draw, 3))}||{' '.join(common.words(draw, 2))}\n"
                 for _ in range(count))
        (job.data / name).write_text("".join(lines))
        (job.data / name.replace("txt", "tsv")).unlink(missing_ok=True)
    (job.data / "dev.tsv").unlink()
    return job


def checkpoint(results):
    """What was trained: name -> (shape, texts)."""
    _, tensors = common.read_trace(results.folder / "checkpoint-final.h5")
    return {name.removeprefix("/factors/"): (tensor.shape, tensor.texts)
            for name, tensor in tensors.items()}


def stored_shapes(model):
    """Name -> shape of the pretrained tensors."""
    with open(model / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {name: tuple(entry["shape"]) for name, entry in header.items()
            if name != "__metadata__"}


def assert_same_on(job, layouts, keys):
    """Losses, evaluations and all trained weights, to the last bit. layouts: numbers of stages, or
    pairs (replicas, stages)."""
    alone = job.results(1, keys, output="alone")
    weights = checkpoint(alone)
    for layout in layouts:
        num_ranks, more = on_ranks(layout)
        several = job.results(num_ranks, {**keys, **more}, output="several")
        assert_same(several, alone, f"on {layout}")
        assert checkpoint(several) == weights, f"on {layout}: other weights"
    return alone


@cases(full_cola=(FULL, "cola", (2, 3, 5, (2, 1), (2, 2))), full_ner=(FULL, "ner", (2, 4, (3, 1))),
       adapter_cola=(ADAPTER, "cola", (2, 3, (3, 1))), adapter_ner=(ADAPTER, "ner", (2,)))
def test_any_number_of_ranks(case):
    keys, task, rank_counts = case
    assert_same_on(Job(task), rank_counts, keys)


def test_bottleneck_adapters_of_a_language_model():
    """The generated texts too are those of any number of ranks."""
    job = language_job({"adapter.method": "adapter", "adapter.bottleneck": 3, "optimizer.lr": 0.02})
    results = assert_same_on(job, (2, 3), {})
    outcome = common.start(["evaluate", results.folder], 2)
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out) == results.result["metrics"]


def test_bottleneck_adapters_and_norms_are_kept():
    """For every block two adapters and two layer norms, and the task head; nothing else."""
    results = Job("cola").results(2, ADAPTER)
    kept = checkpoint(results)
    block = 2 * (24 * 6 + 6 + 6 * 24 + 24) + 2 * (24 + 24)
    assert sum(len(texts) for _, texts in kept.values()) == 3 * block + 2 * 24 + 2
    result = results.result
    assert result["adapter_parameters"] == 3 * block
    assert result["trainable_parameters"] == 3 * block + 2 * 24 + 2
    assert len([name for name in kept if "LayerNorm" in name]) == 3 * 2 * 2
    outcome = common.start(["export", results.folder, "--format", "merged", "--out",
                            results.folder / "merged"])
    assert outcome.code == 2 and "bottleneck" in outcome.messages[0], outcome


def test_language_model_on_any_number_of_ranks():
    """The tied embedding is in the first stage and in the last."""
    results = assert_same_on(language_job(), (2, 3, 4, (2, 1), (3, 1), (2, 2)), LANGUAGE)
    names = checkpoint(results)
    assert "transformer.wte.weight" in names and "lm_head.weight" not in names


def test_empty_stages_at_both_ends():
    job = Job("cola")
    alone = job.results(1, FULL, output="alone")
    for layout in ([0, 3], [3, 0], [0, 2, 1, 0]):
        keys = {**FULL, "parallel.layout": layout, "parallel.stages": len(layout)}
        several = job.results(len(layout), keys, output="layout")
        assert_same(several, alone, f"layout {layout}")
        assert checkpoint(several) == checkpoint(alone), f"layout {layout}: other weights"


@cases(cola="cola", ner="ner")
def test_all_weights_are_kept_by_their_names(task):
    """And all of them have moved."""
    job = Job(task)
    results = job.results(2, FULL)
    kept = checkpoint(results)
    pretrained = {name if name.startswith("bert.") else f"bert.{name}".replace(
        "gamma", "weight").replace("beta", "bias"): shape
                  for name, shape in stored_shapes(job.model).items() if "position_ids" not in name}
    heads = {"classifier.weight", "classifier.bias"}
    assert set(kept) == set(pretrained) | heads
    for name, shape in pretrained.items():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        assert len(kept[name][1]) == size, name
    count = sum(len(texts) for _, texts in kept.values())
    assert results.result["trainable_parameters"] == count
    assert results.result["budget"]["most_trainable_parameters"] == count
    assert set(results.ranks.values()) == {0}
    start = checkpoint(job.results(1, {**FULL, "retrain.steps": 1, "optimizer.lr": 1e-12},
                                   output="start"))
    still = [name for name in pretrained if kept[name][1] == start[name][1]]
    assert not still, still


def test_evaluate_repeats_the_result():
    for job, keys in ((Job("cola"), FULL), (language_job(), LANGUAGE)):
        results = job.results(2, keys)
        for num_ranks in (1, 3):
            outcome = common.start(["evaluate", results.folder], num_ranks)
            assert outcome.code == 0, outcome
            assert json.loads(outcome.out) == results.result["metrics"]


def test_random_start_needs_no_weights():
    for job, keys in ((Job("cola"), FULL), (language_job(), LANGUAGE)):
        (job.model / "model.safetensors").unlink()
        keys = {**keys, "model.init": "random"}
        first = assert_same_on(job, (2,), keys)
        other = job.results(1, {**keys, "run.seed": 2}, output="other")
        assert checkpoint(other) != checkpoint(first)
        outcome = common.start(["evaluate", first.folder], 2)
        assert outcome.code == 0, outcome


def test_learns():
    """A rule that words alone tell, from a random start."""
    keys = {**FULL, "model.init": "random", "retrain.steps": 60, "optimizer.lr": 0.01}
    losses = Job("cola").results(1, keys).trace["/retrain/loss_train"].numbers
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5]), losses


@cases(random_start=({"adapter.method": "lora", "model.init": "random"}, "model.init"),
       ranks=({"adapter.method": "full", "adapter.ranks_from": "ranks.json"},
              "adapter.ranks_from"),
       bottleneck=({"adapter.method": "adapter", "adapter.ranks_from": "ranks.json"},
                   "adapter.ranks_from"))
def test_contradictions(case):
    keys, word = case
    outcome = Job("cola").run(1, keys)
    assert outcome.code == 2 and word in outcome.messages[0], outcome


def test_merged_export_is_the_trained_model():
    """Trained on with a rate that changes nothing, it gives the loss that the run ended with."""
    job = language_job()
    results = job.results(2, LANGUAGE)
    merged = job.folder / "merged"
    outcome = common.start(["export", results.folder, "--format", "merged", "--out", merged])
    assert outcome.code == 0, outcome
    assert stored_shapes(merged).keys() == checkpoint(results).keys()
    again = job.results(1, {**LANGUAGE, "model.path": str(merged), "optimizer.lr": 1e-30,
                            "retrain.steps": 1}, output="again")
    assert again.result["metrics"] == results.result["metrics"]


def test_there_is_no_adapter_to_export():
    job = Job("cola")
    results = job.results(1, FULL)
    outcome = common.start(["export", results.folder, "--format", "peft", "--out",
                            job.folder / "adapter"])
    assert outcome.code == 3 and outcome.messages, outcome
