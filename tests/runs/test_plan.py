"""autolora plan: its memory and its passes against those of a run, its layouts, its mistakes."""
import json
import os

import common
from common import Job, cases
from test_decomposition import BASE, DEMO
from test_errors import DATA, USAGE, fails

MEMORY_TOLERANCE = 0.1
RATE = ["--flops", 20]  # of a machine that is not this one: nothing is timed


def plans(job, *options, keys=None, **how):
    """(the text, the plans) that `autolora plan` gives."""
    path = job.folder / "plan.json"
    outcome = common.start(["plan", job.write(keys), "--json", path, *options], **how)
    assert outcome.code == 0, outcome
    assert "not freed" not in outcome.err, outcome
    assert not job.output.exists(), "a plan has made the output directory"
    return outcome.out, json.loads(path.read_text())["plans"]


def plan(job, *options, **how):
    return plans(job, *options, **how)[1][0]


def resident(planned):
    return [stage["resident_bytes"] for stage in planned["stage_table"]]


class RealJob(Job):
    """The demonstration's model, and a little of its data, all of which is read."""

    def __init__(self, keys=None):
        super().__init__()
        if not (BASE / "model.safetensors").exists():
            raise common.Skip("the base model is not there (make base-model)")
        self.keys.update({
            "model.path": str(BASE), "task.data_dir": str(DEMO), "task.limit_train": 64,
            "task.limit_dev": 32, "task.max_length": 128, "adapter.rank": 8, "search.steps": 1,
            "retrain.steps": 4, "parallel.microbatch_tokens": 512, "parallel.threads": 1,
            **(keys or {})})


@cases(search=({}, (1, 2, 4)), lora=({"adapter.method": "lora"}, (1, 3)),
       full=({"adapter.method": "full"}, (2,)))
def test_memory(case):
    """Of the heaviest rank."""
    keys, rank_counts = case
    job = RealJob(keys)
    for num_ranks in rank_counts:
        planned = resident(plan(job, *RATE, "--ranks", num_ranks, "--nodes", 1))
        measured = job.results(num_ranks, output=f"on{num_ranks}").result[
            "peak_memory_bytes_per_rank"]
        job.output = job.folder / "out"
        error = max(planned) / max(measured) - 1
        assert abs(error) <= MEMORY_TOLERANCE, (
            f"{num_ranks} ranks: planned {planned}, measured {measured}")


SEARCHES = {
    "exact": {},
    "reference": {"search.recipe": "reference"},
    "finite_difference": {"search.hypergradient": "finite_difference"},
    "finite_difference_reference": {"search.hypergradient": "finite_difference",
                                    "search.recipe": "reference"},
    "first_order": {"search.hypergradient": "first_order"},
    "seldom": {"search.selection_every": 2, "search.recipe": "reference"},
    "single_level": {"search.meta": False},
}


def count_passes(timers):
    """Calls of every kind of pass in the tree of timers."""
    counts = {}
    for name, part in timers.items():
        if name in ("train_gradient", "validation_gradient", "tangent"):
            counts[name] = counts.get(name, 0) + part["calls"]
        for inner, calls in count_passes(part.get("parts", {})).items():
            counts[inner] = counts.get(inner, 0) + calls
    return counts


@cases(**SEARCHES)
def test_passes(keys):
    """As many passes of every kind as the search makes, and the steps of both phases."""
    job = Job(keys=keys)
    planned = plan(job, *RATE)
    result = job.results().result
    counts = count_passes(result["timers"]["search"]["parts"])
    steps = planned["search"]["steps"]
    assert steps == result["search"]["iterations"]
    assert planned["training"]["steps"] == result["retrain"]["iterations"]
    passes = {name: round(value * steps) for name, value in planned["search"]["passes"].items()}
    assert passes == {"train_gradient": 0, "validation_gradient": 0, "tangent": 0, **counts}, passes


def test_evaluations():
    """None before the epoch's end, at every epoch's, and at the end."""
    for steps, every_epoch, expected in ((2, True, 1), (3, True, 1), (7, True, 3), (7, False, 1)):
        job = Job(keys={"retrain.steps": steps, "retrain.evaluate_every_epoch": every_epoch})
        planned = plan(job, *RATE)
        timers = job.results().result["timers"]["retrain"]["parts"]
        assert timers["evaluate"]["calls"] == expected == planned["evaluation"]["count"], steps


def test_many_ranks():
    """Thousands, of a job for a few: as the input says, and as it is best."""
    job = Job()
    planned = plan(job, *RATE, "--ranks", 4096, keys={"parallel.stages": 2,
                                                      "parallel.replicas": 2048})
    assert (planned["ranks"], planned["replicas"], planned["stages"]) == (4096, 2048, 2)
    text, table = plans(job, *RATE, "--ranks", "1,2,4,6,1000")
    assert [row["ranks"] for row in table] == [1, 2, 4, 6, 1000]
    for row in table:
        assert row["replicas"] * row["stages"] == row["ranks"]
        assert str(row["ranks"]) in text
    assert table[1]["seconds"] < table[0]["seconds"]


def test_layout_is_the_run_s():
    job = Job()
    planned = plan(job, *RATE, "--ranks", 2, keys={"parallel.layout": [1, 2]})
    assert [stage["num_blocks"] for stage in planned["stage_table"]] == [1, 2]
    assert [stage["first_block"] for stage in planned["stage_table"]] == [0, 1]


def test_one_rank_has_no_bubble():
    planned = plan(Job(), *RATE)
    assert abs(planned["training"]["bubble"]) < 1e-3 and planned["training"]["bytes_sent_a_step"] == 0
    two = plan(Job(), *RATE, "--ranks", 2)
    assert two["training"]["bubble"] > 0.05 and two["training"]["bytes_sent_a_step"] > 0


def test_network():
    """A slower network costs time between nodes, and none within one."""
    job = Job()
    slow = [*RATE, "--ranks", 2, "--latency", 1000, "--bandwidth", 0.001]
    fast = plan(job, *RATE, "--ranks", 2, "--cores", 1)["seconds"]
    assert plan(job, *slow, "--cores", 1)["seconds"] > 2 * fast
    near = plan(job, *RATE, "--ranks", 2, "--cores", 2, "--nodes", 1)["seconds"]
    assert plan(job, *slow, "--cores", 2, "--nodes", 1)["seconds"] == near


def test_timed():
    """Without a rate the model's parts are timed."""
    planned = plan(Job())
    assert planned["seconds"] > 0 and planned["search"]["seconds"] > 0


def test_without_weights():
    """A config.json and a tokenizer are enough, and give the same plan."""
    job = Job()
    whole = plan(job, *RATE)
    os.remove(job.model / "model.safetensors")
    text, (planned,) = plans(job, *RATE)
    assert "no weights" in text
    # What a checkpoint holds beside the model's weights, and its list, is not in the plan.
    assert abs(max(resident(planned)) / max(resident(whole)) - 1) < 0.05
    planned["stage_table"] = whole["stage_table"]
    assert planned == whole


@cases(cola="cola", ner="ner", e2e="e2e", stsb="stsb")
def test_assumed_data(task):
    """A config.json alone, and examples that there are not."""
    job = Job(task, keys={"task.data_dir": "nowhere", "search.steps": None, "search.epochs": 1})
    for name in ("model.safetensors", "vocab.txt"):
        os.remove(job.model / name)
    planned = plan(job, *RATE, "--assume", "100x10")
    assert planned["training"]["tokens_a_step"] == 160 and planned["training"]["steps"] == 4
    assert planned["search"]["steps"] == 5  # of 70 examples, 16 at a time
    many = plan(job, *RATE, "--assume", "200x20")
    assert many["search"]["steps"] == 9
    assert many["training"]["operations_a_step"] > 2 * planned["training"]["operations_a_step"]
    fails(common.start(["plan", job.write(), "--assume", "100x25"]), USAGE, "task.max_length", "25")


def test_replicas_send_gradients():
    """Every microbatch's, but for the slice that stays, and the gathered sum: parallel/reduction.h."""
    job = Job(keys={"adapter.method": "lora"})
    sent = {}
    for replicas in (1, 2, 4):
        keys = {"parallel.replicas": replicas}
        sent[replicas] = plan(job, *RATE, "--ranks", replicas, keys=keys)["training"]
    factors = plan(job, *RATE)["stage_table"][0]["training_parameters"] * 4
    assert sent[1]["bytes_sent_a_step"] == 0
    for replicas in (2, 4):
        expected = factors * (replicas - 1) * (sent[replicas]["microbatches_a_step"] / replicas + 1)
        assert abs(sent[replicas]["bytes_sent_a_step"] / expected - 1) < 1e-9
        assert sent[replicas]["seconds"] < sent[1]["seconds"]


def test_generation():
    """Takes time where the parts are timed, and memory on top of the training's."""
    def caches(max_new_tokens):
        keys = {"task.max_new_tokens": max_new_tokens, "adapter.method": "lora"}
        planned = plan(Job("e2e", keys=keys))
        assert planned["evaluation"]["generation_seconds"] > 0
        return planned["stage_table"][0]["memory_bytes"]["caches of generation"]

    assert caches(12) > caches(2) > 0


@cases(key=({"search.step": 4}, [], USAGE, ["search.step"]),
       data=({"task.data_dir": "nowhere"}, [], DATA, ["nowhere"]),
       shape=({}, [], DATA, ["shape", "config.json"]),
       stages=({"parallel.stages": 3}, ["--ranks", 2], USAGE, ["parallel.stages is 3"]),
       budget=({"search.min_rank": 5}, [], USAGE, ["search.min_rank is 5"]),
       split=({"task.limit_train": 1}, [], DATA, ["too small to be split"]))
def test_what_the_run_refuses(case):
    keys, options, code, words = case
    job = Job()
    if "shape" in words:
        path = job.model / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "intermediate_size": 44}))
    fails(common.start(["plan", job.write(keys), *RATE, *options]), code, *words)
    assert not job.output.exists()


def test_command_line():
    path = Job().write()
    fails(common.start(["plan"]), USAGE, "no input file")
    for option, value in (("--ranks", "0"), ("--ranks", "2,"), ("--ranks", "two"), ("--flops", "-1"),
                          ("--bandwidth", "fast"), ("--fast", "1"), ("--nodes", "-2"), ("--assume", "100"), ("--assume", "0x5"),
                          ("--assume", "9x9x9"), ("--assume", "99999999x9999999")):
        fails(common.start(["plan", path, option, value]), USAGE, option)
    fails(common.start(["plan", path], 2), USAGE, "one rank", "--ranks 2")
