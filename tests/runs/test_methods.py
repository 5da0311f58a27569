"""The methods besides the search: AdaLoRA as a whole run. (Uniform and random ranks: test_run.)"""
import json

import common
from common import Job, assert_same, cases, on_ranks

MODULES = [f"bert.encoder.layer.{block}.attention.self.{name}"
           for block in range(3) for name in ("query", "value")]
STEPS, INITIAL, TOTAL = 20, 4, 15
ADALORA = {"adapter.method": "adalora", "adapter.mean_rank": 2.5, "retrain.steps": STEPS,
           "adapter.allocate_every": 3, "optimizer.lr": 0.02}
DROPOUT = {"adapter.dropout": 0.1, "model.hidden_dropout": 0.1, "model.attention_dropout": 0.1}
ALLOCATION = ("step", "time", "budget", "singular_values", "importance", "ranks")


def rows(dataset):
    """The numbers of a dataset [rows, ...], row by row."""
    numbers, count = dataset.numbers, dataset.shape[0]
    width = len(numbers) // count
    return [numbers[i * width:(i + 1) * width] for i in range(count)]


def test_result():
    results = Job(keys=ADALORA).results(2)
    result = results.result
    assert list(results.ranks) == MODULES and sum(results.ranks.values()) == TOTAL
    assert result["ranks"] == results.ranks and result["mean_rank"] == 2.5
    assert result["method"] == "adalora" and "search" not in result
    head = 2 * 24 + 2
    assert result["adapter_parameters"] == TOTAL * 48
    assert result["budget"]["most_trainable_parameters"] == 6 * INITIAL * (48 + 1) + head
    assert result["retrain"]["iterations"] == STEPS
    assert result["score"] == result["metrics"]["dev"]["matthews_correlation"]


def test_trace():
    """The total rank falls by the schedule; what the last mask keeps has a singular value."""
    results = Job(keys=ADALORA).results(3)
    trace = results.trace
    found = {path for path in trace if path.startswith(("/allocation", "/search"))}
    assert found == {f"/allocation/{name}" for name in ALLOCATION}
    assert trace["/allocation/importance"].shape == (STEPS, 6, INITIAL)
    assert trace["/allocation/step"].numbers == list(range(1, STEPS + 1))
    first, last = STEPS // 10, STEPS - 3 * STEPS // 10
    expected = [24 if t <= first else TOTAL if t >= last else
                int((24 - TOTAL) * (1 - (t - first) / (last - first)) ** 3 + TOTAL)
                for t in range(STEPS)]
    assert trace["/allocation/budget"].numbers == expected
    kept = rows(trace["/allocation/ranks"])
    values = rows(trace["/allocation/singular_values"])
    for step in range(STEPS):
        masks = step >= last or (step > first and step % 3 == 0)
        if masks:
            assert sum(kept[step]) == expected[step], step
            assert sum(value != 0 for value in values[step]) == expected[step], step
    assert kept[-1] == list(results.ranks.values())
    assert all(row == kept[last] for row in kept[last:])
    assert rows(trace["/allocation/importance"])[last] == rows(trace["/allocation/importance"])[-1]


@cases(sequence=("cola", (2, 3, 5, (2, 1), (2, 2)), {}),
       token=("ner", (2, 3, (3, 1)), {"adapter.targets": ["query", "key", "value", "attention_output",
                                                  "intermediate", "output"]}))
def test_decomposition(case):
    task, layouts, keys = case
    job = Job(task, keys={**ADALORA, **DROPOUT, **keys})
    alone = job.results(1, output="alone")
    parts = ("/modules", "/search", "/allocation", "/retrain", "/evaluation")
    for layout in layouts:
        num_ranks, more = on_ranks(layout)
        several = job.results(num_ranks, more, output="several")
        assert_same(several, alone, f"on {layout}", parts)


def test_saved_model_is_the_evaluated_one():
    job = Job(keys=ADALORA)
    results = job.results(2)
    outcome = common.start(["evaluate", job.output])
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out) == results.result["metrics"], outcome
    assert abs(results.trace["/evaluation/loss"].numbers[-1] - results.result["metrics"]["dev"]["loss"]) < 1e-12


def test_folded_model_is_the_trained_one():
    """One update an epoch, the last with hardly any rate: before it the trained form is evaluated,
    after it the folded one."""
    keys = {**ADALORA, "optimizer.batch_size": 48, "optimizer.schedule": "cosine", "optimizer.lr": 0.1,
            "optimizer.weight_decay": 0}
    losses = Job(keys=keys).results(2).trace["/evaluation/loss"].numbers
    assert len(losses) == STEPS
    steps = [abs(after - before) for before, after in zip(losses, losses[1:])]
    assert steps[-1] < 0.01 and steps[-1] <= 2 * steps[-2] + 1e-4, steps


def test_penalty_makes_factors_orthogonal():
    """With a heavy penalty the gradient is longer from the first update on."""
    free = Job(keys={**ADALORA, "adapter.orthogonality": 0}).results()
    bound = Job(keys={**ADALORA, "adapter.orthogonality": 10}).results()
    norms = [results.trace["/retrain/gradient_norm"].numbers[0] for results in (free, bound)]
    assert norms[1] > 1.5 * norms[0], norms
    assert free.trace["/retrain/loss_train"].texts[0] == bound.trace["/retrain/loss_train"].texts[0]


def test_same_data_for_every_method():
    """The order of the data depends on the seed and the step alone. All adapters add nothing at
    first, so the first losses are equal; the tokens are equal throughout."""
    first, tokens = set(), set()
    for method in ("lora", "random", "adalora"):
        results = Job(keys={**ADALORA, "adapter.method": method}).results()
        first.add(results.trace["/retrain/loss_train"].texts[0])
        tokens.add(results.result["budget"]["tokens"])
    assert len(first) == len(tokens) == 1, (first, tokens)


@cases(one=1, few=2)
def test_short_training(steps):
    """However few updates there are, the total rank is met."""
    results = Job(keys={**ADALORA, "retrain.steps": steps, "adapter.final_share": 0}).results(2)
    assert sum(results.ranks.values()) == TOTAL


def test_no_component_left_in_a_module():
    keys = {**ADALORA, "adapter.mean_rank": 0.17, "adapter.initial_rank": 2}
    results = Job(keys=keys).results(3)
    assert sorted(results.ranks.values()) == [0, 0, 0, 0, 0, 1]


def test_impossible_options():
    job = Job(keys=ADALORA)
    for keys, words in (({"adapter.initial_rank": 2}, ("adapter.initial_rank 2", "15")),
                        ({"adapter.final_share": 0.95}, ("adapter.final_share",)),
                        ({"adapter.ranks_from": "ranks.json"}, ("adapter.ranks_from", "adalora"))):
        for num_ranks in (1, 2):
            outcome = job.run(num_ranks, keys)
            assert outcome.code == 2, outcome
            assert len(outcome.messages) == 1, outcome
            assert all(word in outcome.messages[0] for word in words), outcome
