"""The trained model of a run as a file: evaluated again, and refused where it is damaged."""
import json
import shutil

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
    results = finished(task)
    before = sorted(path.name for path in results.folder.iterdir())
    for num_ranks in (1, 2, 3):
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
