"""Bad inputs: the right exit code, one message with the right words, no hang, no result."""
import json
import os
import shutil
import struct

import common
from common import Job, Skip, cases

USAGE, DATA, NUMERICS, IO = 2, 3, 4, 6
ALL_RANK_COUNTS = (1, 2, 3)


def fails(outcome, code, *words):
    """The outcome of a run that has to fail with one message that holds all the words."""
    assert outcome.code == code, f"expected exit code {code}: {outcome}"
    assert len(outcome.messages) == 1, f"expected one message: {outcome}"
    for word in words:
        assert word in outcome.messages[0], f"no '{word}' in the message: {outcome}"
    assert "not freed" not in outcome.err, outcome


def job_fails(job, code, *words, keys=None, rank_counts=(1, 2), **how):
    """Runs the job where an earlier run has left its result, which must not be taken for this one's."""
    job.output.mkdir(exist_ok=True)
    for num_ranks in rank_counts:
        (job.output / "result.json").write_text("{}")
        outcome = job.run(num_ranks, keys, **how)
        fails(outcome, code, *words)
        left = (job.output / "result.json").exists()
        assert not left, f"the result.json of an earlier run is still there: {outcome}"


# ---- the command line and the input file ----


def test_command_lines():
    fails(common.start(["run"]), USAGE, "no input file")
    fails(common.start(["run", "a.json", "b.json"]), USAGE, "a.json", "b.json")
    fails(common.start(["run", "--fast", "a.json"]), USAGE, "--fast")
    fails(common.start(["rum"], 2), USAGE, "rum", "run")
    fails(common.start(["run", "nowhere.json"], 2), USAGE, "nowhere.json", "No such file")
    assert common.start([]).code == USAGE


@cases(unknown_key=({"search.step": 4}, ["search.step", "did you mean search.steps"]),
       unknown_section=({"serch.steps": 4}, ["serch"]),
       wrong_type=({"search.steps": "many"}, ["search.steps", "integer", '"many"']),
       out_of_range=({"adapter.dropout": 1.5}, ["adapter.dropout", "[0, 1)", "1.5"]),
       wrong_choice=({"search.recipe": "cake"}, ["search.recipe", "paper", "reference", "cake"]),
       missing_key=({"model.path": None}, ["model.path"]))
def test_bad_key(case):
    keys, words = case
    job = Job()
    for num_ranks in (1, 3):
        fails(job.run(num_ranks, keys), USAGE, *words)
    assert not job.output.exists()


@cases(rank_max=({"adapter.method": "random", "adapter.rank_max": 3}, ["adapter.rank_max, 3"]),
       target=({"search.target_mean_rank": 5}, ["search.target_mean_rank", "30", "adapter.rank"]),
       floor=({"search.min_rank": 5}, ["search.min_rank is 5"]),
       both=({"search.min_rank": 3, "search.target_mean_rank": 2}, ["search.min_rank, 3"]),
       parameters=({"search.min_rank": 1, "search.max_parameters": 287}, ["287", "288"]))
def test_impossible_budget(case):
    keys, words = case
    job_fails(Job(), USAGE, *words, keys=keys)


def test_mistakes_are_listed_together():
    keys = {"search.step": 4, "optimizer.lr": -1, "task.name": "colour", "run.seed": 0.5}
    fails(Job().run(2, keys), USAGE, *keys)


def test_malformed_input():
    job = Job()
    text = job.write().read_text()
    for broken, words in ((text[:-2], ["line"]), ("", []), ("[1]", ["object"]),
                          ('{"run": {"seed": 1, "seed": 2}}', ["seed"])):
        path = job.folder / "broken.json"
        path.write_text(broken)
        fails(common.start(["run", path], 2), USAGE, "broken.json", *words)


def test_bad_override():
    path = Job().write()
    fails(common.start(["run", path, "--set", "search.stepz=4"]), USAGE, "--set", "search.stepz")
    fails(common.start(["run", path, "--set", "search.steps"]), USAGE, "search.steps", "=")
    fails(common.start(["run", path, "--set"]), USAGE, "--set")


# ---- the data ----


def test_missing_data():
    job = Job()
    job_fails(job, DATA, "nowhere", "No such file", keys={"task.data_dir": "nowhere"},
              rank_counts=ALL_RANK_COUNTS)
    job_fails(job, DATA, "other.tsv", keys={"task.dev_file": "other.tsv"})


@cases(empty="", blank="\n", columns="x\t1\tno sentence\n", binary="x\t1\t\ta\0b\n")
def test_bad_training_file(text):
    job = Job()
    (job.data / "train.tsv").write_text(text)
    job_fails(job, DATA, "train.tsv:1:")


def test_empty_conll_file():
    job = Job("ner")
    (job.data / "train.tsv").write_text("\n\n")
    job_fails(job, DATA, "train.tsv", "without any example", rank_counts=ALL_RANK_COUNTS)


@cases(cola=("cola", "x\t2\t\ta b\n", "label '2'"), ner=("ner", "a\tB-New\n", "label 'B-New'"),
       stsb=("stsb", "9\tx\ta\tb\thigh\n", "score 'high'"))
def test_label_never_seen(case):
    task, line, words = case
    job = Job(task)
    with open(job.data / "dev.tsv", "a") as dev:
        dev.write(line)
    job_fails(job, DATA, "dev.tsv:", words, rank_counts=ALL_RANK_COUNTS)
    shutil.copy(job.data / "dev.tsv", job.data / "mine.tsv")
    job_fails(job, DATA, "mine.tsv:", words, keys={"search.validation_file": "mine.tsv"})


def test_missing_validation_file():
    job_fails(Job(), DATA, "mine.tsv", "No such file", keys={"search.validation_file": "mine.tsv"})


def test_training_set_too_small_to_split():
    job = Job()
    common.write_cola(job.data / "train.tsv", 1, seed=1)
    job_fails(job, DATA, "too small", "search.validation_fraction", rank_counts=ALL_RANK_COUNTS)


def test_more_tokens_than_the_model_has_positions():
    job_fails(Job(), USAGE, "task.max_length", "33", "32", keys={"task.max_length": 33})


def test_token_types_that_the_model_has_not():
    job = Job("mnli")
    config = json.loads((job.model / "config.json").read_text())
    (job.model / "config.json").write_text(json.dumps({**config, "type_vocab_size": 1}))
    job_fails(job, DATA, "type_vocab_size 1", "token type 1")


def test_no_room_for_generated_texts():
    """Said before the training, not after it."""
    job = Job("e2e")
    job_fails(job, DATA, "task.max_new_tokens", "positions", keys={"task.max_new_tokens": 1000})
    assert not (job.output / "trace.h5").exists()


def test_generation_needs_a_model_that_generates():
    job_fails(Job(), USAGE, "task.name is e2e", "GPT-2", keys={"task.name": "e2e"})


@cases(cola="cola", ner="ner")
def test_long_sentence_is_cut_and_counted(task):
    """No error: the sentence is cut, and the results say so."""
    job = Job(task)
    words = ["ab"] * 40
    with open(job.data / "train.tsv", "a") as train:
        train.write(f"x\t1\t\t{' '.join(words)}\n" if task == "cola" else
                    "".join(f"{word}\tB-X\n" for word in words))
    for num_ranks in (1, 2):
        results = job.results(num_ranks)
        assert results.result["data"]["train"]["truncated"] == 1, results.result["data"]
        assert "1 cut at task.max_length" in results.outcome.out
    if task == "ner":  # 22 of the pieces are kept, two a word
        assert results.result["data"]["train"]["entities_lost"] == 40 - 11


def test_short_rows_are_left_out_and_counted():
    job = Job(keys={"task.name": "qqp", "adapter.method": "lora"})
    rows = "".join(f"{i}\t1\t2\ta b\ta c\t{i % 2}\n" for i in range(20))
    for name, short in (("train", "20\t1\t2\tlost\n\n"), ("dev", "")):
        (job.data / f"{name}.tsv").write_text(
            f"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n{short}{rows}")
    results = job.results(2)
    assert results.result["data"]["train"]["skipped_rows"] == 2, results.result["data"]
    assert "skipped_rows" not in results.result["data"]["dev"]
    assert "2 rows without all columns left out" in results.outcome.out


def test_second_development_set_is_needed():
    job = Job("mnli")
    (job.data / "dev_mismatched.tsv").unlink()
    job_fails(job, DATA, "dev_mismatched.tsv", "No such file")


# ---- the model ----


def test_missing_model_files():
    job = Job()
    job_fails(job, DATA, "nowhere", "No such file", keys={"model.path": "nowhere"})
    for name, words in (("model.safetensors", "No such file"), ("vocab.txt", "looked for"),
                        ("config.json", "No such file")):
        (job.model / name).rename(job.folder / name)
        job_fails(job, DATA, name, words, rank_counts=ALL_RANK_COUNTS)
        (job.folder / name).rename(job.model / name)


@cases(family=({"model_type": "t5"}, ["model_type", "bert", "t5"]),
       activation=({"hidden_act": "relu"}, ["hidden_act", "gelu", "relu"]),
       heads=({"num_attention_heads": 5}, ["num_attention_heads", "24"]),
       size=({"hidden_size": -24}, ["hidden_size", "-24"]),
       deeper=({"num_hidden_layers": 4}, ["layer.3."]),
       wider=({"intermediate_size": 48}, ["intermediate", "[40", "[48"]))
def test_unsuitable_configuration(case):
    changes, words = case
    job = Job()
    shutil.rmtree(job.model)
    common.write_model(job.model, **changes)
    job_fails(job, DATA, *words)


def test_vocabulary_larger_than_the_model():
    job = Job()
    shutil.rmtree(job.model)
    common.write_model(job.model, vocabulary=common.VOCABULARY + ["##t"])
    job_fails(job, DATA, "51", "50")


def test_sequence_task_needs_the_pooler():
    job_fails(Job("cola", fixture="bert-token"), DATA, "pooler", rank_counts=ALL_RANK_COUNTS)


class Weights:
    """A model.safetensors taken apart."""

    def __init__(self, job):
        self.path = job.model / "model.safetensors"
        self.whole = self.path.read_bytes()
        self.header_bytes = struct.unpack("<Q", self.whole[:8])[0]
        self.data = self.whole[8 + self.header_bytes:]

    def header(self):
        return json.loads(self.whole[8:8 + self.header_bytes])

    def write(self, header, data=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.path.write_bytes(struct.pack("<Q", len(text)) + text +
                              (self.data if data is None else data))


def test_truncated_weights():
    job = Job()
    weights = Weights(job)
    start, whole = 8 + weights.header_bytes, len(weights.whole)
    for length in (0, 1, 7, 8, 9, start // 2, start - 1, start, start + 1, start + 4,
                   (start + whole) // 2, whole - 4096, whole - 4, whole - 1):
        weights.path.write_bytes(weights.whole[:length])
        outcome = job.run()
        fails(outcome, DATA, "model.safetensors")
        causes = ("truncated", "larger than the file", "is empty")
        assert any(cause in outcome.err for cause in causes), outcome
    for length in (0, start - 1, whole - 1):
        weights.path.write_bytes(weights.whole[:length])
        job_fails(job, DATA, "model.safetensors", rank_counts=(2, 3))


def test_corrupted_header():
    job = Job()
    weights = Weights(job)
    text = weights.whole[8:8 + weights.header_bytes]
    for broken in (b"\0" * len(text), b"[" + text[1:], text.replace(b'"F32"', b'"F33"'),
                   text.replace(b'"F32"', b"3    "), text.replace(b"data_offsets", b"data_offsetz"),
                   text.rstrip()[:-1]):
        weights.write(broken)
        fails(job.run(), DATA, "model.safetensors")
    for length in (1 << 62, (1 << 64) - 1, len(weights.whole)):
        weights.path.write_bytes(struct.pack("<Q", length) + weights.whole[8:])
        fails(job.run(), DATA, "model.safetensors", "header")
    weights.write(b"\0" * len(text))
    job_fails(job, DATA, "model.safetensors", rank_counts=(2, 3))


# In the first and in the last block, which different ranks load.
FIRST = "bert.encoder.layer.0.attention.self.query.weight"
LAST = "bert.encoder.layer.2.output.dense.bias"


@cases(first=FIRST, last=LAST)
def test_bad_tensor(name):
    job = Job()
    weights = Weights(job)
    tensor = weights.header()[name]
    begin, end = tensor["data_offsets"]
    count = (end - begin) // 4

    def refuses(changes, *words, rank_counts=(1,)):
        weights.write({**weights.header(), name: {**tensor, **changes}})
        job_fails(job, DATA, "model.safetensors", name, *words, rank_counts=rank_counts)

    refuses({"shape": [2, count // 2]}, f"[2, {count // 2}]", "config.json",
            rank_counts=ALL_RANK_COUNTS)
    refuses({"dtype": "I32"}, "F32", rank_counts=(2,))
    refuses({"shape": [count + 1]}, str(end - begin))
    refuses({"shape": [1 << 32, 1 << 32]}, "shape")
    refuses({"shape": [-1]}, "shape")
    refuses({"data_offsets": [begin - 4, end - 4]}, "overlap")
    refuses({"data_offsets": [end, begin]}, "data_offsets")
    refuses({"data_offsets": [1 << 40, (1 << 40) + end - begin]}, "truncated")
    header = weights.header()
    del header[name]
    weights.write(header)
    job_fails(job, DATA, "model.safetensors", name, rank_counts=ALL_RANK_COUNTS)


# ---- ranks, stages, numbers ----


def test_wrong_number_of_stages():
    job_fails(Job(), USAGE, "parallel.stages", "3", "2", keys={"parallel.stages": 3},
              rank_counts=(2,))


def test_grid_of_other_ranks():
    job_fails(Job(), USAGE, "parallel.grid", "[2, 2]", keys={"parallel.grid": [2, 2]},
              rank_counts=(2, 3))


def test_grid_with_more_columns_than_heads():
    job_fails(Job(), USAGE, "parallel.grid", "[1, 4]", "3 attention heads", "take 3 columns",
              keys={"parallel.grid": [1, 4]}, rank_counts=(4,))


@cases(full={"adapter.method": "full"}, adapter={"adapter.method": "adapter"})
def test_grid_of_trained_weights(keys):
    fails(Job().run(2, {**keys, "parallel.grid": [1, 2]}), USAGE, "parallel.grid", "[1, 1]",
          keys["adapter.method"])


@cases(loses_a_block=[1, 1], too_many=[2, 2], too_long=[1, 1, 1])
def test_bad_layout(layout):
    words = ["2 stages", "3"] if len(layout) == 2 else ["names 3 stages"]
    words = [str(sum(layout)), "the model has 3"] if len(layout) == 2 else words
    job_fails(Job(), USAGE, "parallel.layout", *words, keys={"parallel.layout": layout},
              rank_counts=(2,))


def test_bad_rank_files():
    job = Job()
    good = job.results(keys={"adapter.method": "lora"}).ranks
    module = next(iter(good))
    missing = {name: rank for name, rank in good.items() if name != module}
    path = job.folder / "given.json"
    for ranks, words in ((missing, [module]), ({**good, "bert.other": 1}, ["7", "6"]),
                         ({**good, module: -1}, [module]), ({**good, module: 1.5}, [module]),
                         ({**good, module: "8"}, [module]), ([1], ["array"]),
                         ({**good, "rank_intervals": [1]}, ["rank_intervals", "array"])):
        path.write_text(json.dumps(ranks))
        job_fails(job, DATA, "given.json", *words, keys={"adapter.ranks_from": str(path)},
                  rank_counts=(2,) if ranks is missing else (1,))
    job_fails(job, DATA, "nowhere.json", keys={"adapter.ranks_from": "nowhere.json"},
              rank_counts=ALL_RANK_COUNTS)


@cases(search={"optimizer.lr": 1e30}, retrain={"optimizer.lr": 1e30, "adapter.method": "lora"})
def test_loss_that_is_not_finite(keys):
    phase = "retrain" if "adapter.method" in keys else "search"
    job = Job(keys={"search.steps": 40, "retrain.steps": 40, "optimizer.schedule": "constant"})
    job_fails(job, NUMERICS, phase, "not finite", "optimizer.lr", keys=keys,
              rank_counts=ALL_RANK_COUNTS)
    _, trace = common.read_trace(job.output / "trace.h5")  # what led to it can be read
    assert trace[f"/{phase}/step"].shape[0] > 0


# ---- the output directory ----


def test_file_in_place_of_the_output_directory():
    job = Job()
    job.output.write_text("something")
    for num_ranks in ALL_RANK_COUNTS:
        fails(job.run(num_ranks), IO, str(job.output))
    assert job.output.read_text() == "something"
    fails(job.run(2, output="out/below"), IO, "out")


def another_user(folder, environment):
    """A command prefix under which the permissions of files count, and a program to start so."""
    if os.geteuid() != 0:
        return [], common.PROGRAM
    if shutil.which("setpriv") is None:
        raise Skip("root may write everywhere, and there is no setpriv")
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    program = shutil.copy(common.PROGRAM, folder)
    if common.start(["--version"], prefix=prefix, program=program, environment=environment).code:
        raise Skip("another user cannot start the program here")
    return prefix, program


@cases(existing="out", new="out/below")
def test_output_directory_not_writable(name):
    job = Job()
    job.output.mkdir()
    job.output.chmod(0o555)
    temporary = job.folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    environment = {"TMPDIR": str(temporary), "HOME": str(temporary)}
    prefix, program = another_user(job.folder, environment)
    for num_ranks in ALL_RANK_COUNTS:
        outcome = job.run(num_ranks, output=name, prefix=prefix, program=program,
                          environment=environment)
        fails(outcome, IO, str(job.output), "Permission denied")


def test_full_disk():
    """Reports go to a device that is always full."""
    job = Job()
    job.output.mkdir()
    (job.output / "progress.jsonl").symlink_to("/dev/full")
    for num_ranks in ALL_RANK_COUNTS:
        fails(job.run(num_ranks), IO, "progress.jsonl", "No space left")
        assert not (job.output / "result.json").exists()
