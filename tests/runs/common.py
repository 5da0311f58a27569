"""What the run tests share: tiny models and data, starting the program, reading what it leaves."""
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
PROGRAM = os.environ.get("AUTOLORA_BIN", str(ROOT / "bin" / "autolora"))
MPIRUN = shlex.split(os.environ.get("AUTOLORA_MPIRUN", "mpirun --oversubscribe --bind-to none"))
TIMEOUT = float(os.environ.get("AUTOLORA_TIMEOUT", 60))

# Fills the 50 rows of the fixtures' embeddings.
VOCABULARY = (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
              + list("abcdefghijklmnopqrstuvwxyz") + [f"##{c}" for c in "abcdefghijklmnopqrs"])


class Skip(Exception):
    """Raised by a test that cannot run here; its text says why."""


def cases(**values):
    """Runs the test function once for each value, which it gets as its argument."""
    def decorate(function):
        function.cases = values
        return function
    return decorate


def new_folder():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="d"))
    folder.chmod(0o755)
    return folder


# ---- models and data ----


def write_model(folder, fixture="bert-sequence", vocabulary=VOCABULARY, **changes):
    """A model directory from a stored checkpoint; `changes` go into config.json."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    shutil.copy(FIXTURES / fixture / "model.safetensors", folder)
    config = json.loads((FIXTURES / fixture / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary))
    return folder


def shard_model(folder, num_files=3):
    """Cuts the model's checkpoint into several files with an index, as large ones are published."""
    whole = folder / "model.safetensors"
    data = whole.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    weight_map = {}
    for number in range(num_files):
        name, parts, entries = f"model-{number}.safetensors", [], {}
        for tensor in sorted(header)[number::num_files]:
            begin, end = header[tensor]["data_offsets"]
            at = sum(map(len, parts))
            entries[tensor] = {**header[tensor], "data_offsets": [at, at + end - begin]}
            parts.append(data[8 + length + begin:8 + length + end])
            weight_map[tensor] = name
        text = json.dumps(entries).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole.unlink()


def words(draw, count):
    return ["".join(draw.choice("abcdefg") for _ in range(draw.randint(1, 3)))
            for _ in range(count)]


def write_cola(path, num_rows, seed, longest=9):
    """A sentence is acceptable if its first word starts with one of a, b, c."""
    draw = random.Random(seed)
    with open(path, "w") as out:
        for _ in range(num_rows):
            sentence = words(draw, draw.randint(1, longest))
            label = int(sentence[0][0] in "abc")
            out.write(f"x\t{label}\t{'' if label else '*'}\t{' '.join(sentence)}\n")


def write_stsb(path, num_rows, seed):
    """Pairs whose score, from 0 to 5, grows with the number of words that they share."""
    draw = random.Random(seed)
    with open(path, "w") as out:
        out.write("index\tgenre\tsentence1\tsentence2\tscore\n")
        for row in range(num_rows):
            first, second = words(draw, 5), words(draw, 5)
            shared = draw.randint(0, 5)
            second[:shared] = first[:shared]
            out.write(f"{row}\tx\t{' '.join(first)}\t{' '.join(second)}\t{shared:.3f}\n")


def write_mnli(path, num_rows, seed):
    """The second sentence is the first, or its beginning, or another."""
    draw = random.Random(seed)
    with open(path, "w") as out:
        out.write("index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n")
        for row in range(num_rows):
            first, other = words(draw, 4), words(draw, 4)
            second, label = draw.choice([(first, "entailment"), (first[:2], "neutral"),
                                         (other, "contradiction")])
            out.write(f"{row}\tx\t{' '.join(first)}\t{' '.join(second)}\t{label}\t{label}\n")


def write_conll(path, num_sentences, seed):
    """Words that start with a or b are entities, those with c or d after them go on with them."""
    draw = random.Random(seed)
    with open(path, "w") as out:
        for _ in range(num_sentences):
            inside = False
            for word in words(draw, draw.randint(1, 8)):
                inside = word[0] in "ab" or (inside and word[0] in "cd")
                tag = "O" if not inside else "B-X" if word[0] in "ab" else "I-X"
                out.write(f"{word}\t{tag}\n")
            out.write("\n")


def write_pairs(path, num_rows, seed):
    """Contexts whose completion repeats their words backwards."""
    draw = random.Random(seed)
    with open(path, "w") as out:
        for _ in range(num_rows):
            context = words(draw, draw.randint(1, 3))
            out.write(f"{' '.join(context)}||{' '.join(reversed(context))}\n")


WRITERS = {"cola": write_cola, "stsb": write_stsb, "mnli": write_mnli, "ner": write_conll, "e2e": write_pairs}


def write_data(folder, task, num_train=48, num_dev=20):
    write = WRITERS[task]
    folder.mkdir()
    write(folder / "train.tsv", num_train, seed=1)
    for seed, name in enumerate(("matched", "mismatched") if task == "mnli" else ("",), 2):
        write(folder / f"dev{'_' if name else ''}{name}.tsv", num_dev, seed)
    return folder


FIXTURES_OF_TASKS = {"ner": "bert-token", "e2e": "gpt2-language"}


class Job:
    """A folder with a tiny model, data and the keys of an input file. Keys are given as
    {"search.steps": 4}; None takes one away."""

    def __init__(self, task="cola", fixture=None, keys=None):
        self.folder = new_folder()
        self.model = write_model(self.folder / "model", fixture or
                                 FIXTURES_OF_TASKS.get(task, "bert-sequence"))
        self.data = write_data(self.folder / "data", task)
        self.keys = {
            "model.path": str(self.model), "task.name": task, "task.data_dir": str(self.data),
            "task.max_length": 24, "adapter.rank": 4, "search.steps": 4,
            "search.selection_lr": 0.05, "retrain.steps": 4, "optimizer.batch_size": 16,
            "parallel.microbatch_tokens": 48,
        }
        if task == "e2e":
            self.keys.update({"task.max_new_tokens": 8, "task.num_beams": 2})
        self.keys.update(keys or {})
        self.output = self.folder / "out"

    def write(self, keys=None, name="input.json"):
        root = {}
        for path, value in {**self.keys, "run.output_dir": str(self.output),
                            **(keys or {})}.items():
            section, _, key = path.partition(".")
            if value is not None:
                root.setdefault(section, {})[key] = value
        path = self.folder / name
        path.write_text(json.dumps(root))
        return path

    def run(self, num_ranks=1, keys=None, output=None, **how):
        """Runs the job and returns its Outcome; `output` names another output directory."""
        if output is not None:
            self.output = self.folder / output
        outcome = start(["run", self.write(keys)], num_ranks, **how)
        outcome.output = self.output
        return outcome

    def results(self, num_ranks=1, keys=None, output=None, **how):
        """Runs the job, which has to work, and reads what it leaves."""
        outcome = self.run(num_ranks, keys, output, **how)
        assert outcome.code == 0, outcome
        return Results(self.output, outcome)


def on_ranks(layout):
    """(number of ranks, keys) of a number of stages or a pair (replicas, stages)."""
    replicas, stages = layout if isinstance(layout, tuple) else (1, layout)
    return replicas * stages, {"parallel.replicas": replicas}


# ---- the program ----


class Outcome:
    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    @property
    def messages(self):
        """The program's messages on stderr; each may have several lines."""
        found = []
        for line in self.err.splitlines():
            if line.startswith("autolora:"):
                found.append(line)
            elif line.startswith("-----"):
                break  # mpirun's own
            elif found:
                found[-1] += "\n" + line
        return found

    def __str__(self):
        return (f"{shlex.join(self.command)}\nexit code {self.code}\n"
                f"-- stdout\n{self.out}\n-- stderr\n{self.err}")


def start(arguments, num_ranks=1, timeout=None, environment=None, prefix=(),
          program=PROGRAM):
    """Starts the program: one rank directly, more under mpirun. One that hangs has failed."""
    launcher = [*MPIRUN, "-n", str(num_ranks)] if num_ranks > 1 else []
    command = [*prefix, *launcher, program, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})})
    try:
        out, err = process.communicate(timeout=timeout or TIMEOUT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # mpirun ends its ranks
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()  # the runner ends what is left
            out, err = b"", b"(lost)"
        outcome = Outcome(command, None, out.decode(errors="replace"), err.decode(errors="replace"))
        raise AssertionError(f"does not end: {outcome}") from None
    return Outcome(command, process.returncode, out.decode(), err.decode())


# ---- what a run leaves ----


def local(element):
    """An element's name without its name space."""
    return element.tag.rpartition("}")[2]


def text_of(element):
    data = element.find("{*}Data/{*}DataFromFile")
    return "" if data is None or data.text is None else data.text


def attributes_of(element):
    return {child.get("Name"): text_of(child) for child in element if local(child) == "Attribute"}


class Dataset:
    """One dataset of a trace. Numbers are kept as texts: h5dump writes floats as %a does, so that
    equal texts are equal bits."""

    def __init__(self, element):
        sizes = element.iterfind("{*}Dataspace/{*}SimpleDataspace/{*}Dimension")
        self.shape = tuple(int(size.get("DimSize")) for size in sizes)
        kind = next(element.iterfind("{*}DataType/{*}AtomicType/*"))
        self.type = local(kind).replace("Type", "").lower() + (kind.get("Size") or "")
        self.attributes = {name: text.strip().strip('"')
                           for name, text in attributes_of(element).items()}
        self.texts = text_of(element).split()

    @property
    def numbers(self):
        return [float.fromhex(t) if self.type.startswith("float") else int(t) for t in self.texts]


def read_trace(path):
    """(root attributes, {"/search/step": Dataset}) of trace.h5."""
    try:
        dump = subprocess.run(["h5dump", "--xml", "-m", "%a", str(path)], capture_output=True)
    except FileNotFoundError:
        raise Skip("h5dump is not there (package hdf5-tools)") from None
    assert dump.returncode == 0, dump.stderr.decode()
    root = xml.etree.ElementTree.fromstring(dump.stdout)
    datasets = {element.get("H5Path"): Dataset(element) for element in root.iter()
                if local(element) == "Dataset"}
    attributes = {name: unquote(text)
                  for name, text in attributes_of(root.find("{*}RootGroup")).items()}
    return attributes, datasets


def unquote(text):
    """The text of an attribute: h5dump puts quotation marks around it and escapes those inside."""
    text = text.strip()
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\") if text[:1] == '"' else text


def without_measurements(value):
    """A part of result.json without what differs from run to run: times, memory, provenance."""
    measured = ("seconds", "cpu_seconds", "timers", "peak_memory_bytes_per_rank", "provenance", "name")
    if isinstance(value, dict):
        return {name: without_measurements(item) for name, item in value.items()
                if name not in measured}
    return value


class Results:
    """The files of a run that worked."""

    def __init__(self, folder, outcome):
        self.folder, self.outcome = folder, outcome
        self.result = json.loads((folder / "result.json").read_text())
        self.ranks_bytes = (folder / "ranks.json").read_bytes()
        self.ranks = json.loads(self.ranks_bytes)
        self.intervals = self.ranks.pop("rank_intervals", None)
        self.attributes, self.trace = read_trace(folder / "trace.h5")


def assert_same(found, expected, what, parts=("/modules", "/search", "/retrain", "/evaluation")):
    """All that two runs computed is equal to the last bit."""
    if "/search" in parts:
        assert found.ranks_bytes == expected.ranks_bytes, f"{what}: ranks.json differs"
        numbers = without_measurements(found.result), without_measurements(expected.result)
        assert numbers[0] == numbers[1], f"{what}: {numbers[0]}\n{numbers[1]}"
        assert found.trace.keys() == expected.trace.keys(), f"{what}: other datasets"
    for path, dataset in expected.trace.items():
        if not path.startswith(parts) or path.endswith("/time"):
            continue
        assert found.trace[path].shape == dataset.shape, f"{what}: {path} has another shape"
        differing = [i for i, pair in enumerate(zip(found.trace[path].texts, dataset.texts))
                     if pair[0] != pair[1]]
        assert not differing, (
            f"{what}: {path} differs in {len(differing)} of {len(dataset.texts)} places, first at "
            f"{differing[0]}: {found.trace[path].texts[differing[0]]} {dataset.texts[differing[0]]}")
