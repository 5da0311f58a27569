"""Numbers that are not finite, and tasks of which little is left: each works, or is refused with a reason."""
import math
import shutil

import common
from common import Job, cases

DONE, USAGE, DATA, NUMERICS = 0, 2, 3, 4


def checkpoints(job):
    return sorted(path.name for path in job.output.glob("checkpoint-0*.h5"))


# ---- not finite ----


@cases(factors=({"optimizer.lr": 1e39}, "search, step 1:",
                "the validation loss is not finite (nan); the largest trained number is inf, in"),
       logits=({"search.selection_lr": 1e39}, "search, step 1:", "the selection logit of"),
       retrained=({"retrain.learning_rate": 1e39, "search.steps": 2}, "retrain, step 1:", "the new value of"),
       single_level=({"optimizer.lr": 1e39, "search.meta": False}, "search, step 1:", "the new value of"))
def test_overflow_is_named_on_its_step(case):
    """The loss of that step was good."""
    keys, step, what = case
    job = Job(keys={"search.steps": 6, "retrain.steps": 6, "optimizer.schedule": "constant",
                    "optimizer.warmup_fraction": 0, "output.checkpoint_every": 1, **keys})
    before = ["checkpoint-000001.h5", "checkpoint-000002.h5"] if step.startswith("retrain") else []
    for num_ranks in (1, 2):
        outcome = job.run(num_ranks, output=f"out{num_ranks}")
        assert outcome.code == NUMERICS and len(outcome.messages) == 1, outcome
        message = outcome.messages[0]
        assert f"{step} {what} bert.encoder.layer." in message and "not finite" in message, outcome
        assert checkpoints(job) == before, "what cannot be gone on from is not kept"


def test_last_good_checkpoint_is_kept():
    """A step too large leads to a loss that is not finite on a later one."""
    job = Job(keys={"search.steps": 40, "optimizer.schedule": "constant", "optimizer.lr": 1e25,
                    "output.checkpoint_every": 1, "output.keep": 2})
    outcome = job.run(2)
    assert outcome.code == NUMERICS and "largest trained number is" in outcome.err, outcome
    failed = int(outcome.err.partition("search, step ")[2].partition(":")[0])
    kept = checkpoints(job)
    assert failed > 1 and kept[-1] == f"checkpoint-{failed - 1:06}.h5", (failed, kept)
    again = common.start(["run", job.write(), "--resume"], 2)
    assert again.code == NUMERICS and f"step {failed}:" in again.err, again
    assert checkpoints(job) == kept


# ---- little data ----


def rows_of_cola(*sentences):
    """(label, sentence)..."""
    return "".join(f"x\t{label}\t\t{text}\n" for label, text in sentences)


def train(text):
    return lambda job: (job.data / "train.tsv").write_text(text)


def dev(text):
    return lambda job: (job.data / "dev.tsv").write_text(text)


def nothing(job):
    pass


WORDS = rows_of_cola(*[(i % 2, "ab cd e f g"[:2 + 3 * (i % 3)]) for i in range(12)])
LORA, SEARCH = {"adapter.method": "lora"}, {}
CASES = {  # what is done to the data; keys; exit code; words of the message
    "one_example": (train(rows_of_cola((1, "a b"))), LORA, DONE, ()),
    "one_example_to_split": (train(rows_of_cola((1, "a b"))), SEARCH, DATA, ("too small to be split",)),
    "two_examples": (train(rows_of_cola((1, "a b"), (0, "c"))), {"search.validation_fraction": 0.5}, DONE, ()),
    "one_class": (train(rows_of_cola(*[(1, "a b c")] * 12)), SEARCH, DONE, ()),
    "one_class_everywhere": (lambda job: [train(rows_of_cola(*[(1, "a b c")] * 12))(job),
                                          dev(rows_of_cola((1, "a"), (1, "b")))(job)], SEARCH, DONE, ()),
    "one_token_everywhere": (train(rows_of_cola(*[(i % 2, "a") for i in range(12)])), SEARCH, DONE, ()),
    "unknown_words_only": (train(rows_of_cola(*[(i % 2, "zzz 999 @@") for i in range(12)])), SEARCH, DONE, ()),
    "no_word": (train(WORDS + rows_of_cola((1, " "))), SEARCH, (DONE, DATA), ()),
    "empty_train_file": (train(""), SEARCH, DATA, ("train.tsv",)),
    "empty_dev_file": (dev(""), SEARCH, DATA, ("dev.tsv",)),
    "one_dev_example": (dev(rows_of_cola((0, "a b"))), SEARCH, DONE, ()),
    "empty_validation_split": (nothing, {"search.validation_fraction": 0.01}, DATA, ("too small to be split",)),
    "empty_training_split": (nothing, {"search.validation_fraction": 0.999}, USAGE, ("validation_fraction",)),
    "batch_larger_than_the_data": (nothing, {"optimizer.batch_size": 100000}, DONE, ()),
    "batch_of_one": (nothing, {"optimizer.batch_size": 1}, DONE, ()),
    "one_microbatch": (nothing, {"parallel.microbatch_tokens": 100000}, DONE, ()),
    "least_microbatches": (nothing, {"parallel.microbatch_tokens": 16}, DONE, ()),
    "longer_than_max_length": (train(WORDS + rows_of_cola((1, "a " * 5000))), SEARCH, DONE, ()),
    "max_length_1": (nothing, {"task.max_length": 1}, (USAGE, DATA), ("max_length",)),
    "max_length_2": (nothing, {"task.max_length": 2}, (DONE, USAGE, DATA), ()),
    "max_length_3": (nothing, {"task.max_length": 3}, DONE, ()),
    "one_component": (nothing, {"adapter.rank": 1}, DONE, ()),
    "rank_0": (nothing, {"adapter.rank": 0}, USAGE, ("adapter.rank",)),
    "rank_of_the_dimension": (nothing, {"adapter.rank": 16}, DONE, ()),
    "rank_above_the_dimension": (nothing, {"adapter.rank": 48}, DONE, ()),
    "lora_above_the_dimension": (nothing, {**LORA, "adapter.rank": 48}, DONE, ()),
    "epochs_0": (nothing, {"retrain.steps": 0, "retrain.epochs": 0}, USAGE, ("retrain.epochs",)),
    "part_of_an_epoch": (nothing, {"retrain.steps": 0, "retrain.epochs": 1e-9, "search.steps": 0,
                                   "search.epochs": 1e-9}, DONE, ()),
    "one_step": (nothing, {"search.steps": 1, "retrain.steps": 1}, DONE, ()),
    "selection_never_again": (nothing, {"search.selection_every": 1000}, DONE, ()),
    "one_row_of_each": (nothing, {**LORA, "task.limit_train": 1, "task.limit_dev": 1}, DONE, ()),
    "all_dropped": (nothing, {"adapter.dropout": 0.999}, DONE, ()),
    "everything_dropped": (nothing, {"adapter.dropout": 1}, USAGE, ("adapter.dropout",)),
    "no_learning_rate": (nothing, {"optimizer.lr": 0}, USAGE, ("optimizer.lr",)),
}


def is_finite(value):
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@cases(**CASES)
def test_little_is_left(case):
    prepare, keys, code, words = case
    job = Job(keys={"search.steps": 2, "retrain.steps": 2})
    prepare(job)
    results = []
    for num_ranks in (1, 3):
        outcome = job.run(num_ranks, keys, output=f"out{num_ranks}")
        assert outcome.code in (code if isinstance(code, tuple) else (code,)), outcome
        results.append(outcome.code)
        if outcome.code == DONE:
            results.append(common.Results(job.output, outcome))
            assert is_finite(results[-1].result), results[-1].result
        else:
            assert len(outcome.messages) == 1 and all(word in outcome.err for word in words), outcome
            assert not (job.output / "result.json").exists()
    if len(results) == 4:
        common.assert_same(results[3], results[1], "on 3 ranks")
    assert results[0] == results[-2 if len(results) == 4 else -1]


SENTENCE = "ab\tB-X\ncd\tI-X\ne\tO\n\n"


@cases(one_sentence=(SENTENCE, {**LORA}, DONE), one_word=("a\tO\n\n" * 8, {}, DONE),
       blank_lines=("\n\n\n" + SENTENCE * 4 + "\n\n", {}, DONE), only_blank_lines=("\n\n\n", {}, DATA),
       no_entity=("a\tO\nb\tO\n\n" * 8, {}, (DONE, DATA)),
       long_sentence=(SENTENCE * 8 + "ab\tB-X\n" * 3000 + "\n", {}, DONE))
def test_little_is_left_of_labels(case):
    text, keys, code = case
    job = Job("ner", keys={"search.steps": 2, "retrain.steps": 2, **keys})
    (job.data / "train.tsv").write_text(text)
    shutil.copy(job.data / "train.tsv", job.data / "dev.tsv")
    for num_ranks in (1, 2):
        outcome = job.run(num_ranks, output=f"out{num_ranks}")
        assert outcome.code in (code if isinstance(code, tuple) else (code,)), outcome
        assert outcome.code == DONE or len(outcome.messages) == 1, outcome


@cases(one_pair=("a||b\n", LORA, DONE), empty_context=("||a b\n" * 8, {}, (DONE, DATA)),
       empty_completion=("a||\n" * 8, {}, (DONE, DATA)), one_new_token=("a b||b a\n" * 8, {"task.max_new_tokens": 1}, DONE),
       one_beam=("a b||b a\n" * 8, {"task.num_beams": 1}, DONE),
       more_beams_than_words=("a b||b a\n" * 8, {"task.num_beams": 64}, (DONE, USAGE, DATA)))
def test_little_is_left_of_pairs(case):
    text, keys, code = case
    job = Job("e2e", keys={"search.steps": 2, "retrain.steps": 2, **keys})
    for name in ("train.tsv", "dev.tsv"):
        (job.data / name).write_text(text)
    for num_ranks in (1, 2):
        outcome = job.run(num_ranks, output=f"out{num_ranks}")
        assert outcome.code in (code if isinstance(code, tuple) else (code,)), outcome
        assert outcome.code == DONE or len(outcome.messages) == 1, outcome
