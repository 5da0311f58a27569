"""The trained model of a run as a file: evaluated again, and refused where it is damaged."""
import json
import pathlib
import shutil
import struct

import common
from common import Job, cases

LIVELY = {"optimizer.lr": 0.02, "search.selection_lr": 0.2, "adapter.rank": 3, "retrain.steps": 12}


def finished(task="cola", **keys):
    """The results of a job with a test split."""
    job = Job(task, keys={**LIVELY, "task.test_file": "test.tsv", **keys})
    common.WRITERS[task](job.data / "test.tsv", 15, 3)
    return job.results(2)


def evaluate(folder, num_ranks=1, *arguments):
    outcome = common.start(["evaluate", folder, *arguments], num_ranks)
    assert outcome.code == 0, outcome
    return json.loads(outcome.out)


def assert_refused(outcome, code, *words):
    """One message, nothing else."""
    assert outcome.code == code, outcome
    assert outcome.out == "" and len(outcome.messages) == 1, outcome
    for word in words:
        assert word in outcome.messages[0], (word, outcome.messages[0])


def copied(folder, name, data=None):
    """A copy of a run's folder, with another checkpoint."""
    copy = shutil.copytree(folder, folder.parent / name)
    if data is not None:
        (copy / "checkpoint-final.h5").write_bytes(data)
    return copy


@cases(sequence="cola", token="ner", regression="stsb", two_sets="mnli")
def test_evaluate_repeats_the_result(task):
    """On any number of ranks, whatever the run itself was bound to."""
    layouts = {"ner": {"parallel.stages": 2, "parallel.layout": [1, 1]},
               "stsb": {"parallel.replicas": 2}, "mnli": {"parallel.replicas": 2}}
    bound = layouts.get(task, {"parallel.stages": 2, "parallel.layout": [1, 2]})
    results = finished(task, **bound)
    before = sorted(path.name for path in results.folder.iterdir())
    for num_ranks in (1, 2, 3, 4):
        metrics = evaluate(results.folder, num_ranks)
        assert metrics == results.result["metrics"], (num_ranks, metrics)
    dev = {"dev_matched", "dev_mismatched"} if task == "mnli" else {"dev"}
    assert set(metrics) == {*dev, "test"}
    assert evaluate(results.folder, 2, "--split", "test") == {"test": metrics["test"]}
    assert before == sorted(path.name for path in results.folder.iterdir())


def test_file():
    """h5dump reads it; every tensor is there by its name, whatever the number of ranks."""
    results = finished()
    _, alone = common.read_trace(finished().folder / "checkpoint-final.h5")
    texts, tensors = common.read_trace(results.folder / "checkpoint-final.h5")
    expected = {"classifier.weight": (2, 24), "classifier.bias": (1, 2)}
    for module, rank in results.ranks.items():
        if rank > 0:
            expected.update({f"{module}.lora_A": (rank, 24), f"{module}.lora_B": (rank, 24)})
    assert {f"/factors/{name}": shape for name, shape in expected.items()} == {
        path: tensor.shape for path, tensor in tensors.items()}
    assert all(tensor.type == "float4" for tensor in tensors.values())
    assert all(alone[path].texts == tensor.texts for path, tensor in tensors.items())
    adapters = json.loads(texts["adapters"])
    assert {module: adapter["rank"] for module, adapter in adapters.items()} == results.ranks
    for adapter in adapters.values():
        assert abs(adapter["scale"] * adapter["rank"] - 16) < 1e-5
    assert texts["input"] == (results.folder / "input.json").read_text()
    assert json.loads(texts["labels"]) == {"names": ["0", "1"]}
    assert texts["family"] == "bert"


def test_damaged_checkpoint():
    folder = finished().folder
    data = (folder / "checkpoint-final.h5").read_bytes()
    flipped = [data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]
               for at in (0, 9, 100, len(data) // 2, len(data) - 30, len(data) - 2)]
    for number, bad in enumerate([*flipped, data[:-1], data[:len(data) // 2], data[:10], b"",
                                  data + b"\n", data[:-18]]):
        outcome = common.start(["evaluate", copied(folder, f"bad{number}", bad)], 1)
        assert_refused(outcome, 3, "checkpoint-final.h5")
    outcome = common.start(["evaluate", folder.parent / "bad3"], 3)
    assert_refused(outcome, 3, "checksum")


def test_checkpoint_of_another_run():
    """A whole file that does not belong to the input beside it."""
    folder = finished().folder
    other = finished("ner").folder / "checkpoint-final.h5"
    outcome = common.start(["evaluate", copied(folder, "mixed", other.read_bytes())], 2)
    assert_refused(outcome, 3)


def test_other_weights():
    """A base model with other weights than those under the adapters."""
    folder = finished().folder
    path = pathlib.Path(json.loads((folder / "input.json").read_text())["model"]["path"]) / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        outcome = common.start(["evaluate", folder], 2)
    finally:
        path.write_bytes(data)
    assert_refused(outcome, 3, "other weights")


def test_missing_files():
    folder = finished().folder
    assert_refused(common.start(["evaluate", folder.parent / "none"], 2), 3, "cannot be opened")
    copy = copied(folder, "without")
    (copy / "input.json").unlink()
    assert_refused(common.start(["evaluate", copy], 2), 2, "input.json")


@cases(nothing=[], unknown=["x", "--mode"], split=["x", "--split", "train"], two=["x", "y"])
def test_usage(arguments):
    assert_refused(common.start(["evaluate", *arguments]), 2, "evaluate")


def test_no_test_split():
    results = Job(keys=LIVELY).results()
    assert_refused(common.start(["evaluate", results.folder, "--split", "test"]), 2, "test split")


def test_failed_run_leaves_no_old_checkpoint():
    job = Job(keys=LIVELY)
    job.results()
    (job.data / "dev.tsv").write_text("nonsense\n")
    assert job.run().code == 3
    assert not (job.output / "checkpoint-final.h5").exists()


# ---- export, and adapters read back ----


def read_safetensors(path):
    """{name: (shape, values)}"""
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    header = json.loads(data[8:8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    tensors, end = {}, 0
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        assert begin == end and entry["dtype"] == "F32", entry
        end = stop
        tensors[name] = (entry["shape"], struct.unpack(
            f"<{(stop - begin) // 4}f", data[8 + length + begin:8 + length + stop]))
    assert 8 + length + end == len(data)
    return tensors


def write_safetensors(path, tensors):
    header, values = {}, b""
    for name, (shape, numbers) in tensors.items():
        begin = len(values)
        values += struct.pack(f"<{len(numbers)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(values)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)


def export(folder, form, num_ranks=1):
    out = folder.parent / form
    outcome = common.start(["export", folder, "--format", form, "--out", out], num_ranks)
    assert outcome.code == 0 and outcome.out == "", outcome
    return out


def uneven(task="cola", **keys):
    """A run with ranks that differ, 0 among them."""
    job = Job(task, keys={**LIVELY, **keys})
    ranks = dict(zip(job.results().ranks, [0, 1, 3, 2, 0, 4]))
    (job.folder / "given.json").write_text(json.dumps(ranks))
    return job, job.results(keys={"adapter.ranks_from": str(job.folder / "given.json")})


def test_export_peft():
    _, results = uneven()
    out = export(results.folder, "peft", 2)
    config = json.loads((out / "adapter_config.json").read_text())
    kept = {module: rank for module, rank in results.ranks.items() if rank > 0}
    assert list(config) == sorted(config)
    assert config["rank_pattern"] == kept and config["target_modules"] == list(kept)
    assert (config["lora_alpha"], config["alpha_pattern"], config["task_type"]) == (16, {}, "SEQ_CLS")
    assert config["modules_to_save"] == ["classifier"] and config["peft_type"] == "LORA"
    tensors = read_safetensors(out / "adapter_model.safetensors")
    shapes = {"base_model.model.classifier.weight": [2, 24], "base_model.model.classifier.bias": [2]}
    for module, rank in kept.items():
        shapes[f"base_model.model.{module}.lora_A.weight"] = [rank, 24]
        shapes[f"base_model.model.{module}.lora_B.weight"] = [24, rank]
    assert {name: shape for name, (shape, _) in tensors.items()} == shapes
    assert sorted(path.name for path in out.iterdir()) == ["adapter_config.json",
                                                           "adapter_model.safetensors"]


def test_export_other_scales():
    _, results = uneven(**{"retrain.scaling": "alpha_over_k"})
    config = json.loads((export(results.folder, "peft") / "adapter_config.json").read_text())
    assert config["r"] == 3
    for module, rank in config["rank_pattern"].items():
        assert abs(config["alpha_pattern"].get(module, 16) / rank - 16 / 3) < 1e-5


def test_export_merged_evaluates_alike():
    """The merged checkpoint with the adapter's task head and no adapter is the same model."""
    job, results = uneven("ner")
    merged, adapter = export(results.folder, "merged"), export(results.folder, "peft")
    config = json.loads((merged / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"] == {"0": "O", "1": "B-X", "2": "I-X"}
    assert config["label2id"] == {"O": 0, "B-X": 1, "I-X": 2}
    assert (merged / "vocab.txt").read_bytes() == (job.model / "vocab.txt").read_bytes()
    tensors = read_safetensors(adapter / "adapter_model.safetensors")
    module = "base_model.model.bert.encoder.layer.0.attention.self.query"
    head = {name: tensor for name, tensor in tensors.items() if ".classifier." in name}
    write_safetensors(adapter / "adapter_model.safetensors",
                      {**head, f"{module}.lora_A.weight": ([1, 16], [0.5] * 16),
                       f"{module}.lora_B.weight": ([16, 1], [0] * 16)})
    again = job.results(2, keys={"model.path": str(merged), "adapter.from": str(adapter),
                                 "optimizer.lr": 1e-30}, output="again")
    for name, value in results.result["metrics"]["dev"].items():
        assert abs(again.result["metrics"]["dev"][name] - value) < 1e-4, name


def test_adapter_read_back():
    """The same model at the same ranks on any number of MPI ranks; other ranks where they are given."""
    job, results = uneven()
    adapter = export(results.folder, "peft")
    keys = {"adapter.from": str(adapter), "optimizer.lr": 1e-30}
    for num_ranks in (1, 3):
        again = job.results(num_ranks, keys=keys, output=f"again{num_ranks}")
        assert again.ranks == results.ranks
        assert again.result["metrics"] == results.result["metrics"]
        assert "search" not in again.result
    more = {module: rank + 1 for module, rank in results.ranks.items()}
    (job.folder / "more.json").write_text(json.dumps(more))
    again = job.results(2, keys={**keys, "adapter.ranks_from": str(job.folder / "more.json")},
                        output="more")
    assert again.ranks == more
    for name, value in results.result["metrics"]["dev"].items():
        assert abs(again.result["metrics"]["dev"][name] - value) < 1e-5, name


def test_adapter_goes_on():
    """Training starts where the adapter's has ended."""
    job = Job("ner", keys={"adapter.method": "lora", "optimizer.lr": 0.05, "retrain.steps": 60})
    first = job.results(2)
    again = job.results(2, keys={"adapter.from": str(export(first.folder, "peft")),
                                 "retrain.steps": 1}, output="on")
    losses = first.trace["/retrain/loss_train"].numbers
    assert again.trace["/retrain/loss_train"].numbers[0] < losses[0] / 2, losses


CONFIG = {"peft_type": "LORA", "r": 1, "lora_alpha": 2}
MODULE = "base_model.model.bert.encoder.layer.1.attention.self.value"
GOOD = {f"{MODULE}.lora_A.weight": ([1, 24], [0.1] * 24),
        f"{MODULE}.lora_B.weight": ([24, 1], [0.1] * 24)}


def bad_adapters():
    yield "no peft", {**CONFIG, "peft_type": "LOHA"}, GOOD, "peft_type"
    yield "no object", [], GOOD, "peft_type"
    yield "dora", {**CONFIG, "use_dora": True}, GOOD, "use_dora"
    yield "bias", {**CONFIG, "bias": "all"}, GOOD, "bias"
    yield "pissa", {**CONFIG, "init_lora_weights": "pissa"}, GOOD, "init_lora_weights"
    yield "alpha", {**CONFIG, "lora_alpha": "2"}, GOOD, "lora_alpha"
    yield "negative", {**CONFIG, "lora_alpha": -1}, GOOD, "lora_alpha"
    yield "list", {**CONFIG, "alpha_pattern": [1]}, GOOD, "alpha_pattern"
    yield "regex", {**CONFIG, "alpha_pattern": {"layer.[01].*": 3}}, GOOD, "regular expression"
    yield "empty", CONFIG, {}, "another one"
    yield "half", CONFIG, dict(list(GOOD.items())[:1]), "lora_B"
    yield "shape", CONFIG, {**GOOD, f"{MODULE}.lora_A.weight": ([24, 1], [0.1] * 24)}, "[r, 24]"
    yield "scalar", CONFIG, {**GOOD, f"{MODULE}.lora_A.weight": ([24], [0.1] * 24)}, "[r, 24]"
    yield "ranks", CONFIG, {**GOOD, f"{MODULE}.lora_B.weight": ([24, 2], [0.1] * 48)}, "[r, 24]"
    yield "none", CONFIG, {f"{MODULE}.lora_A.weight": ([0, 24], []),
                           f"{MODULE}.lora_B.weight": ([24, 0], [])}, "[r, 24]"
    other = MODULE.replace("value", "key")
    yield "target", CONFIG, {**GOOD, f"{other}.lora_A.weight": ([1, 24], [0.1] * 24),
                             f"{other}.lora_B.weight": ([24, 1], [0.1] * 24)}, "adapter.targets"
    yield "layer", CONFIG, {**GOOD, MODULE.replace("1", "9") + ".lora_A.weight": ([1, 24], [0] * 24)
                            }, "another one"
    yield "unknown", CONFIG, {**GOOD, f"{MODULE}.lora_magnitude_vector": ([24], [1] * 24)}, "known"
    head = "base_model.model.classifier"
    yield "labels", CONFIG, {**GOOD, f"{head}.weight": ([3, 24], [0] * 72)}, "labels"
    yield "head", CONFIG, {**GOOD, f"{head}.dense.weight": ([24, 24], [0] * 576)}, "task head"


def test_hostile_adapters():
    job = Job(keys=LIVELY)
    for name, config, tensors, word in bad_adapters():
        folder = job.folder / f"adapter {name}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(config))
        write_safetensors(folder / "adapter_model.safetensors", tensors)
        outcome = job.run(keys={"adapter.from": str(folder)})
        assert outcome.code == 3 and len(outcome.messages) == 1, (name, outcome)
        assert word in outcome.messages[0], (name, outcome.messages[0])
        assert not (job.output / "result.json").exists()
    outcome = job.run(2, keys={"adapter.from": str(folder)})
    assert outcome.code == 3 and len(outcome.messages) == 1, outcome
    write_safetensors(folder / "adapter_model.safetensors", GOOD)
    assert job.results(keys={"adapter.from": str(folder)}).result["mean_rank"] == 1 / 6
    assert job.run(keys={"adapter.from": str(job.folder / "nowhere")}).code == 3


@cases(nothing=[], no_out=["x", "--format", "peft"], form=["x", "--format", "onnx", "--out", "y"])
def test_export_usage(arguments):
    assert_refused(common.start(["export", *arguments], 2), 2, "export")


def test_export_problems():
    job, results = uneven()
    outcome = common.start(["export", results.folder, "--format", "merged", "--out", job.model])
    assert_refused(outcome, 2, "base model")
    blocked = job.folder / "blocked"
    blocked.write_text("")
    outcome = common.start(["export", results.folder, "--format", "peft", "--out", blocked])
    assert_refused(outcome, 6, "blocked")
    zeros = dict.fromkeys(results.ranks, 0)
    (job.folder / "zeros.json").write_text(json.dumps(zeros))
    job.results(keys={"adapter.ranks_from": str(job.folder / "zeros.json")}, output="zeros")
    outcome = common.start(["export", job.output, "--format", "peft", "--out", job.folder / "z"])
    assert_refused(outcome, 3, "rank 0")
    damaged = copied(results.folder, "damaged", b"nothing")
    outcome = common.start(["export", damaged, "--format", "merged", "--out", job.folder / "d"], 2)
    assert_refused(outcome, 3, "checksum")
    assert not (job.folder / "d").exists()


# ---- predict ----


def predict(folder, text, num_ranks=1):
    given, out = folder.parent / "given.tsv", folder.parent / "predicted.tsv"
    given.write_text(text)
    outcome = common.start(["predict", folder, "--in", given, "--out", out], num_ranks)
    assert outcome.code == 0, outcome
    return out.read_text(), outcome


def test_predict_sequences():
    """As many right as `evaluate` says; labels in the file or not."""
    results = finished(**{"retrain.steps": 40})
    labelled = (results.folder.parent / "data" / "dev.tsv").read_text()
    rows = [line.split("\t") for line in labelled.splitlines()]
    text, _ = predict(results.folder, labelled)
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["index", "prediction"]
    assert [line[0] for line in lines[1:]] == [str(number) for number in range(len(rows))]
    right = sum(row[1] == line[1] for row, line in zip(rows, lines[1:]))
    assert right / len(rows) == results.result["metrics"]["dev"]["accuracy"]
    unlabelled = "index\tsentence\n" + "".join(f"{i}\t{row[3]}\n" for i, row in enumerate(rows))
    for num_ranks in (1, 3):
        assert predict(results.folder, unlabelled, num_ranks)[0] == text


def test_predict_labels():
    results = finished("ner", **{"retrain.steps": 60, "optimizer.lr": 0.05, "parallel.replicas": 2})
    labelled = (results.folder.parent / "data" / "dev.tsv").read_text()
    text, _ = predict(results.folder, labelled)
    pairs = [line.split("\t")[1:] for line in text.splitlines() if line]
    assert text.count("\n") == labelled.count("\n")
    right = sum(gold == found for gold, found in pairs)
    assert right / len(pairs) == results.result["metrics"]["dev"]["accuracy"]
    assert len({found for _, found in pairs}) > 1
    words = "".join(line.split("\t")[0] + "\n" for line in labelled.splitlines())
    expected = "".join(
        "\t".join(line.split("\t")[::2]) + "\n" for line in text.splitlines())
    for num_ranks in (1, 2):
        assert predict(results.folder, words, num_ranks)[0] == expected


def test_predict_unusual_lines():
    """Lines stay as they are; what the model does not see is outside."""
    results = finished("ner")
    long = "abc\n" * 40
    given = f"\ufeff-DOCSTART- x\r\n\r\nab\tq q\tr\nb c d\n  \n\n\u0001\ne\n{long}\n\nlast"
    text, outcome = predict(results.folder, given)
    lines = text.splitlines()
    assert [line for line in lines[:7]] == [
        "-DOCSTART- x", "", lines[2], lines[3], "  ", "", "\u0001\tO"]
    assert lines[2].startswith("ab\tq q\tr\t") and lines[3].startswith("b c d ")
    assert lines[-1].startswith("last\t") and lines[46:48] == ["abc\tO", "abc\tO"]
    assert "3 examples, 1 cut" in outcome.out


def test_predict_problems():
    results = finished("ner")
    folder, out = results.folder, results.folder.parent / "none" / "out"
    given = results.folder.parent / "data" / "dev.tsv"
    assert_refused(common.start(["predict", folder, "--in", given]), 2, "predict")
    assert_refused(common.start(["predict", folder, "--in", out, "--out", given]), 3, "none/out")
    assert_refused(common.start(["predict", folder, "--in", given, "--out", out], 2), 6, "none/out")
    (folder / "empty").write_text("\n\n")
    outcome = common.start(["predict", folder, "--in", folder / "empty", "--out", folder / "x"])
    assert_refused(outcome, 3, "without any example")
    assert not (folder / "x").exists()


def test_predicted_texts():
    """A text for each different context, the same as evaluate writes, on any number of ranks."""
    job = Job("e2e", keys={**LIVELY, "adapter.method": "lora", "parallel.replicas": 2})
    results = job.results(2)
    contexts = [line.split("||")[0] for line in (job.data / "dev.tsv").read_text().splitlines()]
    path = job.folder / "contexts.txt"
    path.write_text("".join(f"{context}\n" for context in contexts))
    generated = (results.folder / "generated-dev.txt").read_text()
    for num_ranks in (1, 2, 3, 4):
        out = job.folder / f"texts-{num_ranks}.txt"
        outcome = common.start(["predict", results.folder, "--in", path, "--out", out], num_ranks)
        assert outcome.code == 0 and f"{len(set(contexts))} contexts" in outcome.out, outcome
        assert out.read_text() == generated
    assert len(generated.splitlines()) == len(set(contexts))
    assert evaluate(results.folder, 3)["dev"] == results.result["metrics"]["dev"]
