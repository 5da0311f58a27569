"""What a run leaves behind, and that it can be had again."""
import json
import math
import random
import resource
import subprocess
import time

import common
from common import Job, assert_same, cases

SEARCH = ("step", "time", "selection", "logits", "hypergradient", "loss_train",
          "loss_validation", "ranks")
RETRAIN = ("step", "time", "loss_train", "learning_rate", "gradient_norm")
EVALUATION = ("step", "time", "loss", "score")
TIMELINE = ("rank", "name", "start", "stop", "names")
RETRAINING = ("/modules", "/retrain", "/evaluation")
MODULES = [f"bert.encoder.layer.{block}.attention.self.{name}"
           for block in range(3) for name in ("query", "value")]
PER_RANK = 24 + 24  # parameters of a module for each of its ranks
PER_RANK_TOKEN = 16 + 16  # the same of the model for token tasks
LIVELY = {"adapter.rank": 8, "search.steps": 12, "search.selection_lr": 0.2,
          "optimizer.lr": 0.05}


def core_seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_result_file():
    job, before = Job(keys=LIVELY), core_seconds_of_children()
    results = job.results(2)
    spent = core_seconds_of_children() - before
    result = results.result
    for key in ("metrics", "metric_name", "score", "ranks", "mean_rank", "trainable_parameters",
                "search", "retrain", "peak_memory_bytes_per_rank", "provenance"):
        assert key in result, key
    assert result["metric_name"] == "matthews_correlation"
    assert result["score"] == result["metrics"]["dev"]["matthews_correlation"]
    assert list(result["ranks"]) == MODULES
    assert result["ranks"] == results.ranks
    assert abs(result["mean_rank"] - sum(results.ranks.values()) / 6) < 1e-9
    head = 2 * 24 + 2
    assert result["trainable_parameters"] == PER_RANK * sum(results.ranks.values()) + head
    for phase, steps in (("search", 12), ("retrain", 4)):
        assert result[phase]["iterations"] == steps
        assert result[phase]["tokens"] > 0 and result[phase]["seconds"] > 0
    assert result["search"]["train_examples"] + result["search"]["validation_examples"] == 48
    assert len(result["peak_memory_bytes_per_rank"]) == 2
    assert all(size > 1 << 20 for size in result["peak_memory_bytes_per_rank"])
    assert result["provenance"]["mpi_ranks"] == 2
    assert spent / 4 < result["cpu_seconds"] < spent  # mpirun and its start are the rest


def test_regression_results():
    results = Job("stsb", keys={"adapter.method": "lora", "retrain.steps": 60}).results()
    result = results.result
    dev = result["metrics"]["dev"]
    assert set(dev) == {"loss", "pearson", "spearman", "pearson_and_spearman"}
    assert result["metric_name"] == "pearson_and_spearman"
    assert result["score"] == dev["pearson_and_spearman"]
    assert abs(result["score"] - (dev["pearson"] + dev["spearman"]) / 2) < 1e-12
    assert result["trainable_parameters"] == PER_RANK * 4 * 6 + 24 + 1
    losses = results.trace["/retrain/loss_train"].numbers
    assert sum(losses[-10:]) < sum(losses[:10]), losses
    assert "always giving the mean training score, 2." in results.outcome.out, results.outcome
    line, = [line.split() for line in results.outcome.out.splitlines() if "mean_squared_error" in line]
    assert abs(float(line[2]) - dev["loss"]) < 1e-4 and 2 < float(line[3]) < 5, line


def test_language_modelling_results():
    """The loss of an evaluation is that of the completions, without label smoothing."""
    keys = {"adapter.method": "lora", "retrain.steps": 60, "optimizer.lr": 0.01}
    job = Job("e2e", keys=keys)
    still = {"retrain.steps": 1, "optimizer.lr": 1e-12}
    trained, plain = job.results(2), job.results(1, still, "plain")
    smooth = job.results(1, {**still, "task.label_smoothing": 0.9}, "smooth")
    for results in trained, plain, smooth:
        dev = results.result["metrics"]["dev"]
        assert abs(dev["perplexity"] / math.exp(dev["loss"]) - 1) < 1e-9
        assert results.result["score"] == dev[results.result["metric_name"]]
        assert "always one" not in results.outcome.out, results.outcome
    losses = trained.trace["/retrain/loss_train"].numbers
    assert sum(losses[-10:]) < sum(losses[:10]), losses
    losses = [run.result["metrics"]["dev"]["loss"] for run in (plain, smooth)]
    assert abs(losses[0] - losses[1]) < 1e-6, losses
    first, smoothed = (run.trace["/retrain/loss_train"].numbers[0] for run in (plain, smooth))
    assert abs(first - smoothed) > 1e-3, (first, smoothed)


def test_matched_and_mismatched():
    job = Job("mnli", keys={"adapter.method": "lora", "task.max_length": 32})
    with open(job.data / "dev_mismatched.tsv", "a") as longest:  # of all files
        longest.write(f"99\tx\t{'a ' * 15}\t{'b ' * 14}\tneutral\tneutral\n")
    result = job.results(2).result
    assert list(result["metrics"]) == ["dev_matched", "dev_mismatched"]
    assert result["metrics"]["dev_matched"] != result["metrics"]["dev_mismatched"]
    assert result["metric_name"] == "accuracy"
    assert result["score"] == result["metrics"]["dev_matched"]["accuracy"]
    assert list(result["data"]) == ["train", "dev_matched", "dev_mismatched"]
    alone = job.results(1, {"task.dev_file": "dev_mismatched.tsv"}).result["metrics"]
    assert alone == {"dev_matched": result["metrics"]["dev_mismatched"]}


def test_constant_answers():
    """Beside each metric stands what the most frequent training label gets."""
    job = Job(keys={"task.name": "mrpc", "adapter.method": "lora", "retrain.steps": 1})
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    for name, labels in (("train", "1101"), ("dev", "101100011")):
        (job.data / f"{name}.tsv").write_text(
            header + "".join(f"{label}\t1\t2\ta b\ta c\n" for label in labels))
    results = job.results()
    lines = [line.split() for line in results.outcome.out.splitlines()]
    constant = {line[1]: float(line[3]) for line in lines if len(line) == 4 and line[0] == "dev"}
    accuracy, f1 = 5 / 9, 2 * 5 / (9 + 5)
    expected = {"accuracy": accuracy, "f1": f1, "accuracy_and_f1": (accuracy + f1) / 2}
    assert constant.keys() == expected.keys(), results.outcome
    for name, value in expected.items():
        assert abs(constant[name] - value) < 1e-4, (name, constant)
    assert results.result["metric_name"] == "accuracy_and_f1"


def check_timers(phases):
    """Every phase has its parts within it; returns the paths."""
    paths = []
    for name, phase in phases.items():
        assert phase["calls"] >= 1, name
        assert 0 <= phase["min"] <= phase["mean"] * (1 + 1e-9), (name, phase)
        assert phase["mean"] <= phase["max"] * (1 + 1e-9), (name, phase)
        parts = phase.get("parts", {})
        assert sum(part["mean"] for part in parts.values()) <= phase["mean"] * (1 + 1e-9), name
        paths += [name] + [f"{name}/{path}" for path in check_timers(parts)]
    return paths


@cases(exact="exact", finite_difference="finite_difference")
def test_timers(hypergradient):
    keys = {"search.hypergradient": hypergradient, "output.timers": True}
    job = Job(keys=keys)
    for num_ranks in (1, 3):
        results = job.results(num_ranks)
        timers = results.result["timers"]
        paths = check_timers(timers)
        assert list(timers)[:3] == ["setup", "search", "retrain"], timers
        second = "tangent" if hypergradient == "exact" else "train_gradient"
        for phase in ("search/train_gradient", "search/hypergradient/validation_gradient",
                      f"search/hypergradient/{second}", "retrain/gradient"):
            assert {f"{phase}/{name}" for name in ("waiting", "forward", "backward")} <= set(paths), paths
        assert {"search/model", "search/optimizer", "search/trace", "retrain/optimizer",
                "retrain/trace", "retrain/evaluate/forward", "retrain/save"} <= set(paths), paths
        assert timers["search"]["parts"]["train_gradient"]["calls"] == 4
        table = results.outcome.out[results.outcome.out.index("seconds over the ranks"):]
        assert len(table[:table.index("\n\n")].splitlines()) == 1 + len(paths)
    silent = job.results(1, {"output.timers": None}).outcome.out
    assert "seconds over the ranks" not in silent


@cases(types=(["B-PER", "I-PER", "B-LOC", "I-LOC", "O"], "-DOCSTART- -X- O O\n\n"),
       untyped=(["B", "I", "O"], ""), no_begin=(["I-PER", "O"], "-DOCSTART-\n"))
def test_label_sets_of_conll_files(case):
    tags, head = case
    job = Job("ner", keys={"adapter.method": "lora", "retrain.steps": 2})
    for name in ("train", "dev"):
        lines = [f"{'abc'[i % 3]} x y {tag}\n" + "\n" * (i % 2) for i, tag in enumerate(tags * 5)]
        (job.data / f"{name}.tsv").write_text(head + "".join(lines))
    result = job.results(2).result
    adapters = PER_RANK_TOKEN * 4 * 4
    assert result["trainable_parameters"] == adapters + (16 + 1) * len(tags), result
    assert list(result["metrics"]["dev"]) == ["loss", "f1", "precision", "recall", "accuracy"]


@cases(sequence="cola", token="ner")
def test_trace(task):
    job = Job(task)
    results = job.results()
    blocks = {"cola": 3, "ner": 2}[task]
    modules, components, steps = 2 * blocks, 4, 4
    expected = {f"/search/{name}": (steps,) for name in SEARCH}
    expected.update({f"/search/{name}": (steps, modules, components)
                     for name in ("selection", "logits", "hypergradient")})
    expected["/search/ranks"] = (steps, modules)
    expected.update({f"/retrain/{name}": (steps,) for name in RETRAIN})
    trace = results.trace
    timelines = {f"/timeline/{phase}/{name}" for phase in ("search", "retrain") for name in TIMELINE}
    assert set(trace) == {*expected, "/modules", *timelines, *(f"/evaluation/{name}" for name in EVALUATION)}
    for path, shape in expected.items():
        assert trace[path].shape == shape, (path, trace[path].shape)
        assert {"units", "description"} <= set(trace[path].attributes), path
    for name in ("selection", "logits", "hypergradient"):
        assert trace[f"/search/{name}"].type == "float4"
    names = [text.strip('"') for text in trace["/modules"].texts]
    assert names == list(results.ranks) and len(names) == modules
    assert trace["/search/step"].numbers == [1, 2, 3, 4]
    assert trace["/retrain/step"].numbers == [1, 2, 3, 4]
    assert trace["/search/ranks"].numbers[-modules:] == list(results.ranks.values())
    selection = trace["/search/selection"].numbers
    for first in range(0, len(selection), components):
        assert abs(sum(selection[first:first + components]) - 1) < 1e-5
    times = trace["/search/time"].numbers + trace["/retrain/time"].numbers
    assert times == sorted(times) and times[0] >= 0
    assert trace["/evaluation/score"].numbers[-1] == results.result["score"], "to the last bit"
    assert results.attributes["input"].strip() == (job.output / "input.json").read_text().strip()
    assert json.loads(results.attributes["provenance"])["mpi_ranks"] == 1


def test_timeline():
    """Every rank's passes of one iteration, in order; a resumed run keeps what was recorded."""
    keys = {"output.timeline_step": 2, "search.steps": 4, "parallel.microbatch_tokens": 16}
    trace = Job(keys=keys).results(2).trace
    for phase, passes in (("search", {"train_gradient", "validation_gradient", "tangent"}), ("retrain", {"gradient"})):
        rank, name, start, stop = (trace[f"/timeline/{phase}/{column}"].numbers for column in TIMELINE[:4])
        names = [text.strip('"') for text in trace[f"/timeline/{phase}/names"].texts]
        assert len(rank) == len(name) == len(start) == len(stop) and set(name) == set(range(len(names)))
        assert passes <= {part for path in names for part in path.split("/")}, names
        for mine in (0, 1):
            own = [i for i in range(len(rank)) if rank[i] == mine]
            forward = [i for i in own if names[name[i]].endswith("/forward")]
            backward = [i for i in own if names[name[i]].endswith("/backward")]
            assert len(forward) == len(backward) > len(passes), "several microbatches in each pass"
            edges = [time for i in own for time in (start[i], stop[i])]
            assert edges == sorted(edges) and edges[0] >= 0
    without = Job(keys={**keys, "output.timeline_step": 0}).results(2).trace
    assert not any(path.startswith("/timeline") for path in without)


def test_sparse_trace():
    results = Job(keys={"output.trace_every": 3, "search.steps": 8}).results()
    assert results.trace["/search/step"].numbers == [3, 6, 8]  # the last one always


# ---- a run that is killed ----


def reports(job):
    """The whole lines of progress.jsonl so far."""
    path = job.output / "progress.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def killed_trace(job, keys, is_reached, seconds=0):
    """The trace of a run that is killed `seconds` after its reports say what `is_reached` wants."""
    command = [common.PROGRAM, "run", job.write({"output.report_seconds": 0, **keys})]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not is_reached(reports(job)):
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.02)
        time.sleep(seconds)
        assert process.poll() is None, "ended before it could be killed"
    finally:
        process.kill()
        process.wait()
    return common.read_trace(job.output / "trace.h5")[1]


def test_killed_run_keeps_rows_older_than_the_interval():
    job = Job(keys={"search.steps": 1000000, "output.flush_seconds": 0.2})
    seen = []

    def is_reached(lines):
        seen[:] = lines
        return len(lines) >= 3
    steps = killed_trace(job, {}, is_reached, seconds=1)["/search/step"].numbers
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= len(seen), (steps, len(seen))


def test_killed_run_keeps_finished_phases():
    """Nothing but the end of the phase and the evaluations makes these rows be written."""
    keys = {"retrain.steps": 1000000, "output.flush_seconds": 10000,
            "retrain.evaluate_every_epoch": False}
    trace = killed_trace(Job(keys=keys), {},
                         lambda lines: any(line["phase"] == "retrain" for line in lines))
    assert trace["/search/step"].numbers == [1, 2, 3, 4]
    keys = {"retrain.epochs": 1000000, "retrain.steps": None, "output.flush_seconds": 10000}
    trace = killed_trace(Job(keys=keys), {}, lambda lines: lines and lines[-1]["step"] >= 9)
    assert len(trace["/retrain/step"].numbers) >= 6, "3 steps an epoch"


def test_progress():
    job = Job(keys={"output.report_seconds": 0})
    results = job.results(2)
    text = (job.output / "progress.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert text.endswith("\n")
    assert [(line["phase"], line["step"]) for line in lines] == (
        [("search", step) for step in (1, 2, 3, 4)] + [("retrain", step) for step in (1, 2, 3, 4)])
    for line in lines:
        assert {"num_steps", "seconds", "loss_train", "tokens_per_second", "seconds_left"} <= set(line)
    assert lines[-1]["matthews_correlation"] == results.result["score"]
    assert results.outcome.out.count("search  step") == 4


def test_terminal():
    results = Job(keys={**LIVELY, "output.report_seconds": 1000}).results(2)
    out, err = results.outcome.out, results.outcome.err
    assert "\r" not in out and "\x1b" not in out
    assert err == "", err
    assert out.count("search  step") == 1, "of lines within report_seconds only the last"
    table = out[out.index("\nranks\n"):].splitlines()[2:]
    assert table[0].split() == ["layer", "query", "value"]
    numbers = [int(word) for line in table[1:4] for word in line.split()[1:] if word.isdigit()]
    assert numbers == list(results.ranks.values()), table
    for text in ("matthews_correlation", "accuracy", "trainable parameters", str(results.folder)):
        assert text in out, text


def test_input_can_be_fed_back():
    """Numbers to the last bit: 0.1 + 0.2 is not 0.3."""
    job = Job(keys={"adapter.dropout": 0.1, "optimizer.lr": 0.1 + 0.2})
    first = job.results(output="first")
    again = job.folder / "again"
    outcome = common.start(["run", job.output / "input.json", "--set", f"run.output_dir={again}"])
    assert outcome.code == 0, outcome
    assert_same(common.Results(again, outcome), first, "fed back")
    assert json.loads((first.folder / "input.json").read_text())["optimizer"]["lr"] == 0.1 + 0.2
    texts = [(folder / "input.json").read_text() for folder in (first.folder, again)]
    assert texts[1].replace(str(again), str(first.folder)) == texts[0]


def test_overrides_on_the_command_line():
    job = Job()
    outcome = common.start(["run", job.write(), "--set", "search.steps=2",
                            "--set=adapter.targets=[\"key\"]", "--set", "run.name=2024"], 2)
    assert outcome.code == 0, outcome
    results = common.Results(job.output, outcome)
    assert results.result["search"]["iterations"] == 2
    assert all(name.endswith("attention.self.key") for name in results.ranks)
    assert results.result["name"] == "2024"


def test_seeds():
    job = Job(keys={"adapter.dropout": 0.1})
    first, second = job.results(2, output="first"), job.results(2, output="second")
    assert_same(second, first, "the same seed")
    other = job.results(2, {"run.seed": 2}, output="other")
    for path in ("/search/loss_train", "/search/selection", "/retrain/loss_train"):
        assert other.trace[path].texts != first.trace[path].texts, path


def test_results_replace_those_of_an_earlier_run():
    job = Job()
    first = job.results()
    second = job.results(2, {"run.seed": 2, "search.steps": 2})
    assert second.trace["/search/step"].shape == (2,)
    assert second.result["search"]["iterations"] == 2
    assert first.result["retrain"] != second.result["retrain"]


# ---- ranks ----


def test_search_tells_modules_apart():
    results = Job(keys=LIVELY).results()
    assert "warning" not in results.outcome.out + json.dumps(results.result), results.outcome
    assert len(set(results.ranks.values())) > 1
    assert all(1 <= rank <= 8 for rank in results.ranks.values())
    assert results.result["search"]["largest_movement"] > 0.01
    assert results.result["search"]["mean_entropy"] < results.result["search"]["uniform_entropy"]


def test_search_that_did_nothing():
    results = Job(keys={"search.selection_lr": 1e-12}).results(2)
    assert "warning: no selection variable moved" in results.outcome.out
    assert "search.selection_lr" in results.result["search"]["warning"]
    assert set(results.ranks.values()) == {4}, "k equal values count as k"


def test_plain_lora():
    results = Job(keys={"adapter.method": "lora", "adapter.rank": 3}).results(2)
    assert results.ranks == {name: 3 for name in MODULES}
    assert "search" not in results.result
    assert not any(path.startswith("/search") for path in results.trace)
    assert results.result["adapter_parameters"] == 6 * 3 * PER_RANK


def test_plain_lora_of_a_mean_rank():
    results = Job(keys={"adapter.method": "lora", "adapter.mean_rank": 2.5}).results()
    assert list(results.ranks.values()) == [3, 3, 3, 2, 2, 2]


def test_budget_report():
    """The same for every method; the search trains all components, the result only those kept."""
    results = Job(keys=LIVELY).results()
    budget, head = results.result["budget"], 2 * 24 + 2
    assert budget["trainable_parameters"] == results.result["trainable_parameters"]
    assert budget["most_trainable_parameters"] == 6 * 8 * (PER_RANK + 1) + head
    assert budget["mean_rank"] == results.result["mean_rank"]
    for name in ("seconds", "tokens"):
        total = results.result["search"][name] + results.result["retrain"][name]
        assert abs(budget[name] - total) < 1e-9, name
    lora = Job(keys={"adapter.method": "lora"}).results().result
    assert (results.result["method"], lora["method"]) == ("autolora", "lora")
    assert lora["budget"].keys() == budget.keys()
    assert lora["budget"]["most_trainable_parameters"] == lora["trainable_parameters"]
    assert "\nbudget     autolora: mean rank" in results.outcome.out


def test_random_ranks():
    job = Job(keys={"adapter.method": "random", "adapter.mean_rank": 2.5})
    results = job.results(output="first")
    assert sum(results.ranks.values()) == 15 and max(results.ranks.values()) <= 5
    assert results.result["method"] == "random" and "search" not in results.result
    assert_same(job.results(2, output="two"), results, "2 ranks")
    found = {tuple(job.results(1, {"run.seed": seed}, output="other").ranks.values())
             for seed in (2, 3, 4)}
    assert len(found | {tuple(results.ranks.values())}) > 2, "other seeds, other ranks"
    narrow = job.results(1, {"adapter.rank_max": 3}, output="narrow")
    assert max(narrow.ranks.values()) <= 3 and sum(narrow.ranks.values()) == 15


# ---- how sure they are ----


def softmax_ranks(logits):
    """Of [modules, k] under the paper's rule."""
    found = []
    for row in logits:
        powers = [math.exp(value - max(row)) for value in row]
        found.append(sum(power / sum(powers) >= (1 - 1e-6) / len(row) for power in powers))
    return found


def rows_of(dataset):
    """[rows, modules, k] as lists."""
    values, (rows, modules, k) = dataset.numbers, dataset.shape
    return [[values[(row * modules + module) * k:][:k] for module in range(modules)] for row in range(rows)]


def resampled_ranks(logits, num_draws=1000):
    """[draws][modules]: the definition of include/train/certainty.h in other words."""
    steps = [[[b - a for a, b in zip(*pair)] for pair in zip(before, after)] for before, after in zip(logits, logits[1:])]
    length, draw, found = max(1, round(len(steps) ** (1 / 3))), random.Random(5), []
    for _ in range(num_draws):
        drawn = []
        while len(drawn) < len(steps):
            first = draw.randint(0, len(steps) - length)
            drawn += steps[first:first + length]
        found.append(softmax_ranks([[start + sum(values) for start, *values in zip(module, *parts)] for module, *parts in
                                    zip(logits[0], *drawn[:len(steps)])]))
    return found


def test_every_rank_has_an_interval():
    job = Job(keys={**LIVELY, "search.steps": 40, "retrain.steps": 1})
    results = job.results(output="alone")
    assert list(results.ranks) == list(results.intervals) == MODULES
    assert results.result["rank_intervals"] == results.intervals
    certainty = results.result["search"]["certainty"]
    assert certainty["rows"] == 16 and certainty["stride"] == 1 and certainty["resamples"] == 1000
    logits = rows_of(results.trace["/search/logits"])
    ranks = resampled_ranks(logits[-16:])
    for m, module in enumerate(MODULES):
        interval, chosen = results.intervals[module], results.ranks[module]
        low, high = interval["interval"]
        assert low <= chosen <= high <= 8, module
        drawn = sorted(draw[m] for draw in ranks)
        changed = sum(rank != chosen for rank in drawn) / 1000
        assert abs(interval["changed"] - changed) < 0.1, (module, interval, changed)
        assert min(chosen, drawn[20]) <= low <= max(chosen, drawn[80]), (module, interval, drawn[20], drawn[80])
        assert min(chosen, drawn[920]) <= high <= max(chosen, drawn[980]), (module, interval, drawn[920], drawn[980])
    assert certainty["certain_ranks"] == sum(low == high for low, high in
                                             (of["interval"] for of in results.intervals.values()))
    undecided = sum(of["changed"] > 0.5 for of in results.intervals.values())
    assert certainty["undecided_ranks"] == undecided
    assert f"certain    {certainty['certain_ranks']} of 6 ranks" in results.outcome.out
    assert ("the search did not decide" in results.outcome.out) == (undecided > 3)
    for num_ranks in (2, 3):
        assert job.results(num_ranks, output=f"on{num_ranks}").ranks_bytes == results.ranks_bytes, num_ranks
    assert job.results(keys={"run.seed": 9}, output="seed").intervals != results.intervals


def test_convergence():
    results = Job(keys={**LIVELY, "search.steps": 10}).results(2)
    q = [[value for module in row for value in module] for row in rows_of(results.trace["/search/selection"])]
    found = results.result["search"]["convergence"]
    whole = sum(abs(value - 1 / 8) for value in q[9]) / len(q[9])
    late = sum(abs(b - a) for a, b in zip(q[6], q[9])) / len(q[9])
    assert abs(found["movement"] - whole) < 1e-9 and abs(found["movement_last_quarter"] - late) < 1e-9
    assert abs(found["last_quarter_share"] - late / whole) < 1e-9
    assert f"movement   of q in the last quarter of the search: {100 * late / whole:.0f} %" in results.outcome.out


@cases(importance="importance", spectrum="spectrum")
def test_intervals_of_rules_beyond_the_selection(rule):
    keys = {**LIVELY, "search.threshold_rule": rule, "search.steps": 40, "retrain.steps": 1}
    results = Job(keys=keys).results(2)
    rows = results.trace["/search/ranks"].numbers
    for m, module in enumerate(MODULES):
        last, chosen = sorted(rows[-16 * 6 + m::6]), results.ranks[module]
        assert results.intervals[module] == {
            "interval": [min(last[1], chosen), max(last[14], chosen)],
            "changed": sum(rank != chosen for rank in last) / 16}
    assert results.result["search"]["certainty"]["from"] == "rows"


def test_search_that_did_not_decide():
    """Batches of one, and many selection variables near 1/k."""
    keys = {"adapter.rank": 32, "search.steps": 16, "search.selection_lr": 3e-3, "optimizer.batch_size": 1,
            "optimizer.lr": 0.2}
    results = Job(keys=keys).results(2)
    undecided = sum(of["changed"] > 0.5 for of in results.intervals.values())
    assert undecided > 3, results.intervals
    assert f"warning: the search did not decide: {undecided} of 6" in results.outcome.out
    assert "did not decide" in results.result["search"]["warning"]


@cases(lora="lora", random="random", adalora="adalora")
def test_no_intervals_without_a_search(method):
    results = Job(keys={"adapter.method": method}).results()
    assert results.intervals is None and results.result["rank_intervals"] is None
    assert "certain    " not in results.outcome.out


def test_random_ranks_are_retrained_as_given_ranks_are():
    job = Job(keys={"adapter.method": "random"})
    random = job.results(output="random")
    keys = {"adapter.method": "lora", "adapter.ranks_from": str(job.output / "ranks.json")}
    assert_same(job.results(2, keys, output="given"), random, "given ranks", RETRAINING)


def test_search_to_a_mean_rank():
    job = Job(keys=LIVELY)
    free = job.results(output="free")
    keys = {"search.target_mean_rank": 1.5}
    target = job.results(2, keys, output="target")
    assert sum(target.ranks.values()) == 9
    assert target.trace["/search/ranks"].numbers[-6:] == list(target.ranks.values())
    assert target.trace["/search/selection"].texts == free.trace["/search/selection"].texts
    floor = job.results(1, {**keys, "search.min_rank": 1}, output="floor")
    assert sum(floor.ranks.values()) == 9 and min(floor.ranks.values()) == 1


def test_search_to_a_number_of_parameters():
    job = Job(keys={**LIVELY, "search.min_rank": 1})
    free = job.results(output="free")
    most = (sum(free.ranks.values()) - 2) * PER_RANK + 5
    fitted = job.results(3, {"search.max_parameters": most}, output="fitted")
    assert sum(fitted.ranks.values()) == sum(free.ranks.values()) - 2
    assert fitted.result["adapter_parameters"] == most - 5
    assert all(fitted.ranks[name] <= rank for name, rank in free.ranks.items())


def test_given_ranks_reproduce_the_retraining():
    job = Job(keys={**LIVELY, "adapter.dropout": 0.1})
    searched = job.results(output="searched")
    ranks = str(job.output / "ranks.json")
    given = job.results(2, {"adapter.ranks_from": ranks}, output="given")
    assert given.ranks == searched.ranks
    assert searched.intervals is not None and given.intervals is None, "of what this run has searched for"
    assert given.result["rank_intervals"] is None
    assert given.result["metrics"] == searched.result["metrics"]
    assert "search" not in given.result
    assert_same(given, searched, "given ranks", RETRAINING)


def test_given_ranks_from_the_output_directory():
    """The file that a run is given must not be lost to that run."""
    job = Job(keys={"adapter.method": "lora"})
    first = job.results()
    keys = {"adapter.ranks_from": str(job.output / "ranks.json")}
    assert job.results(2, keys).ranks_bytes == first.ranks_bytes


def test_rank_zero():
    job = Job()
    path = job.folder / "ranks.json"
    ranks = dict(zip(MODULES, (0, 2, 0, 0, 5, 1)))
    path.write_text(json.dumps(ranks))
    keys = {"adapter.ranks_from": str(path)}
    alone = job.results(1, keys, output="alone")
    assert alone.ranks == ranks
    assert alone.result["adapter_parameters"] == 8 * PER_RANK
    assert_same(job.results(3, keys, output="three"), alone, "3 ranks")
    path.write_text(json.dumps(dict.fromkeys(MODULES, 0)))
    assert job.results(2, keys, output="none").result["adapter_parameters"] == 0


# ---- data ----


def test_test_split():
    job = Job()
    common.write_cola(job.data / "test.tsv", 10, seed=3)
    results = job.results(2, {"task.test_file": "test.tsv"})
    assert set(results.result["metrics"]) == {"dev", "test"}
    assert results.result["data"]["test"]["examples"] == 10


def test_own_validation_file():
    job = Job()
    common.write_cola(job.data / "mine.tsv", 10, seed=3)
    results = job.results(2, {"search.validation_file": "mine.tsv"})
    assert results.result["search"]["train_examples"] == 48
    assert results.result["search"]["validation_examples"] == 10
    assert results.result["data"]["train"]["examples"] == 58, "it is trained on in the end"


def test_own_validation_file_is_validated_on():
    """With the labels turned round, the first step's training loss stays and its validation loss
    does not."""
    job = Job()
    common.write_cola(job.data / "mine.tsv", 10, seed=3)
    own = job.results(1, {"search.validation_file": "mine.tsv"}, output="own")
    rows = [row.split("\t") for row in (job.data / "mine.tsv").read_text().splitlines()]
    (job.data / "turned.tsv").write_text(
        "".join(f"{x}\t{1 - int(label)}\t{mark}\t{text}\n" for x, label, mark, text in rows))
    turned = job.results(1, {"search.validation_file": "turned.tsv"}, output="turned")
    first = {name: [results.trace[f"/search/loss_{name}"].numbers[0] for results in (own, turned)]
             for name in ("train", "validation")}
    assert first["train"][0] == first["train"][1]
    assert abs(first["validation"][0] - first["validation"][1]) > 1e-3
    assert own.trace["/search/selection"].texts != turned.trace["/search/selection"].texts


def test_own_validation_file_is_retrained_on():
    """Given ranks: the same as with one training file that holds both."""
    job = Job(keys={"adapter.method": "lora"})
    common.write_cola(job.data / "mine.tsv", 10, seed=3)
    both = job.results(2, {"search.validation_file": "mine.tsv"}, output="both")
    with open(job.data / "train.tsv", "a") as out:
        out.write((job.data / "mine.tsv").read_text())
    one = job.results(1, output="one")
    assert one.result["data"]["train"]["examples"] == 58
    assert_same(both, one, "one file", RETRAINING)


def test_limits():
    results = Job().results(1, {"task.limit_train": 20, "task.limit_dev": 5})
    assert results.result["data"]["train"]["examples"] == 20
    assert results.result["data"]["dev"]["examples"] == 5


def test_token_metrics():
    results = Job("ner", keys={"optimizer.lr": 0.05, "retrain.steps": 60}).results(2)
    assert results.result["metric_name"] == "f1"
    metrics = results.result["metrics"]["dev"]
    assert {"f1", "precision", "recall", "accuracy"} <= set(metrics)
    assert metrics["f1"] > 0.5, "the entities are marked by their first letters"


@cases(f16="bert-f16", bf16="bert-bf16")
def test_half_precision_checkpoints(fixture):
    job = Job("cola", fixture=fixture)
    assert_same(job.results(2, output="two"), job.results(1, output="alone"), "2 ranks")


def test_other_words_for_the_same_model():
    """The two-block checkpoint has no prefix and old names of LayerNorm; names in results are full."""
    assert list(Job("ner").results().ranks) == [
        f"bert.encoder.layer.{block}.attention.self.{name}"
        for block in range(2) for name in ("query", "value")]


def test_sharded_checkpoint():
    """A model in several files is the same model."""
    job = Job(keys=LIVELY)
    whole = job.results(1)
    common.shard_model(job.model)
    assert not (job.model / "model.safetensors").exists()
    for num_ranks in (1, 2):
        assert_same(job.results(num_ranks, output=f"sharded-{num_ranks}"), whole, "sharded")
