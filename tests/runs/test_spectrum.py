"""autolora spectrum: the singular values of updates and frozen weights, against those of the files' own numbers."""
import json
import math
import pathlib
import struct
import subprocess
import zlib

import common
from common import Job, Skip, cases
from test_full import checkpoint, language_job
from test_save import assert_refused, copied

RANK_COUNTS = (1, 2, 3, 4)
TOLERANCE = 1e-5  # of the largest singular value
LIVELY = {"optimizer.lr": 0.02, "adapter.targets": ["query", "value", "intermediate", "output"]}
METHODS = {
    "autolora": {**LIVELY, "search.selection_lr": 0.5, "search.steps": 8},
    "random": {**LIVELY, "adapter.method": "random", "adapter.mean_rank": 2, "adapter.rank_max": 6},
    "adalora": {**LIVELY, "adapter.method": "adalora", "adapter.mean_rank": 2, "retrain.steps": 12},
    "full": {"adapter.method": "full", "optimizer.lr": 3e-3},
}


# ---- what the files say ----


def pretrained(model):
    """Name, as results have it -> rows of a float32 matrix."""
    data = (model / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__" and len(entry["shape"]) == 2 and entry["dtype"] == "F32":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            full_name = f"transformer.{name}" if name.startswith("h.") else name  # as GPT-2 is published
            found[full_name] = rows_of(struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]), entry["shape"])
    return found


def rows_of(numbers, shape):
    return [list(numbers[i * shape[1]:(i + 1) * shape[1]]) for i in range(shape[0])]


def transposed(matrix):
    return [list(column) for column in zip(*matrix)]


def singular_values(matrix):
    """By one-sided Jacobi rotations (Hestenes 1958)."""
    if len(matrix) < len(matrix[0]):
        matrix = transposed(matrix)
    columns = transposed(matrix)
    for _ in range(60):
        largest = 0
        for i, a in enumerate(columns):
            for b in columns[i + 1:]:
                aa, bb, ab = (sum(x * y for x, y in zip(*pair)) for pair in ((a, a), (b, b), (a, b)))
                if ab == 0 or ab * ab <= 1e-30 * aa * bb:
                    continue
                largest = max(largest, abs(ab) / math.sqrt(aa * bb))
                zeta = (bb - aa) / (2 * ab)
                t = math.copysign(1 / (abs(zeta) + math.hypot(1, zeta)), zeta)
                c = 1 / math.hypot(1, t)
                a[:], b[:] = ([c * x - c * t * y for x, y in zip(a, b)], [c * t * x + c * y for x, y in zip(a, b)])
        if largest < 1e-13:
            break
    return sorted((math.hypot(*column) for column in columns), reverse=True)


def product(scale, b, a):
    """scale b^T a of [rank, rows] and [rank, columns]."""
    return [[scale * sum(x[i] * y[j] for x, y in zip(b, a)) for j in range(len(a[0]))] for i in range(len(b[0]))]


def weight_of(tensors, module):
    """[out, in], also of a part of GPT-2's fused and transposed projection."""
    base, _, part = module.rpartition(".")
    if base.endswith("c_attn"):
        whole = transposed(tensors[f"{base}.weight"])
        size = len(whole) // 3
        return whole[(at := ("query", "key", "value").index(part) * size):at + size]
    weight = tensors[f"{module}.weight"]
    return transposed(weight) if "transformer.h." in module else weight


class Expected:
    """Modules, and the singular values of both their matrices."""

    def __init__(self, results, model):
        attributes, datasets = common.read_trace(results.folder / "checkpoint-final.h5")
        trained = {name.removeprefix("/factors/"): rows_of(tensor.numbers, tensor.shape)
                   for name, tensor in datasets.items() if len(tensor.shape) == 2}
        frozen, adapters = pretrained(model), json.loads(attributes["adapters"])
        self.is_full = results.result["method"] == "full"
        self.ranks = [adapter["rank"] for adapter in adapters.values()]
        self.modules, self.update, self.frozen = list(adapters), [], []
        if self.is_full:
            self.modules = [name.removesuffix(".weight") for name in
                            sorted(frozen, key=lambda name: [int(p) for p in name.split(".") if p.isdigit()])
                            if ".layer." in name or ".h." in name]
            self.modules = [m for module in self.modules for m in
                            ([f"{module}.{p}" for p in ("query", "key", "value")] if module.endswith("c_attn") else [module])]
        for module in self.modules:
            weight = weight_of(frozen, module)
            self.frozen.append(singular_values(weight))
            if self.is_full:
                now = weight_of(trained, module)
                update = [[x - y for x, y in zip(*rows)] for rows in zip(now, weight)]
            elif adapters[module]["rank"] == 0:
                update = [[0.0] * len(weight[0])] * len(weight)
            else:
                update = product(adapters[module]["scale"], trained[f"{module}.lora_B"], trained[f"{module}.lora_A"])
            self.update.append(singular_values(update))

    def check(self, folder):
        _, found = common.read_trace(folder / "spectrum.h5")
        names = [text.strip('"') for text in found["/modules"].texts]
        assert sorted(names) == sorted(self.modules), names
        assert ("/ranks" in found) != self.is_full
        for part, expected in (("update", self.update), ("frozen", self.frozen)):
            values = rows_of(found[f"/{part}/singular_values"].numbers, found[f"/{part}/singular_values"].shape)
            for m, name in enumerate(names):
                self.check_values(values[m], expected[self.modules.index(name)], f"{part} {name}")
                shares = [v / sum(values[m]) for v in values[m] if v > 0]
                effective = math.exp(-sum(p * math.log(p) for p in shares)) if shares else 0
                stable = sum(v * v for v in values[m]) / values[m][0] ** 2 if shares else 0
                above = sum(v > 0 and v >= 0.1 * values[m][0] for v in values[m])
                for what, number in (("effective_rank", effective), ("stable_rank", stable), ("num_above", above)):
                    assert abs(found[f"/{part}/{what}"].numbers[m] - number) <= 1e-6 * number, (name, what)
        if not self.is_full:
            by_name = dict(zip(self.modules, self.ranks))
            assert found["/ranks"].numbers == [by_name[name] for name in names]
            width = found["/update/singular_values"].shape[1]
            for m, rank in enumerate(found["/ranks"].numbers):  # not round-off: exactly zero
                assert found["/update/singular_values"].numbers[m * width + rank:(m + 1) * width] == [0] * (width - rank)

    @staticmethod
    def check_values(values, expected, what):
        padded = expected + [0] * (len(values) - len(expected))
        assert len(padded) == len(values), what
        for value, right in zip(values, padded):
            assert abs(value - right) <= TOLERANCE * max(expected[0], 1e-30), (what, value, right)


def spectrum(folder, num_ranks):
    outcome = common.start(["spectrum", folder], num_ranks)
    assert outcome.code == 0, outcome
    assert not list(pathlib.Path(folder).glob("*.tmp"))
    return outcome


# ---- tests ----


@cases(**METHODS)
def test_singular_values(keys):
    job = Job(keys=keys)
    results = job.results(2)
    expected = Expected(results, job.model)
    assert len(set(map(len, expected.frozen))) == 1 and max(map(max, expected.update)) > 1e-4
    for num_ranks in RANK_COUNTS:
        outcome = spectrum(results.folder, num_ranks)
        assert f"{len(expected.modules)} modules on a grid of " in outcome.out, outcome
        rows = [line.split() for line in outcome.out.splitlines() if line.startswith("bert.")]
        assert sorted(row[0] for row in rows) == sorted(expected.modules), outcome
        expected.check(results.folder)


@cases(lora={"adapter.method": "lora", "adapter.rank": 3, "optimizer.lr": 0.02,
             "adapter.targets": ["query", "value", "attention_output", "intermediate"]}, full={"optimizer.lr": 3e-3})
def test_fused_and_transposed_weights(keys):
    """GPT-2's parts of one projection are modules of their own."""
    job = language_job(keys)
    results = job.results(2)
    expected = Expected(results, job.model)
    for num_ranks in (1, 2):
        spectrum(results.folder, num_ranks)
        expected.check(results.folder)


@cases(grid={"parallel.grid": [2, 1], "parallel.replicas": 2}, replicas={"parallel.replicas": 2},
       layout={"parallel.grid": [1, 2], "parallel.layout": [1, 2], "parallel.stages": 2})
def test_run_of_another_layout(keys):
    """Whatever shared the run out, the ranks of the spectrum find every module."""
    job = Job(keys={**METHODS["random"], **keys})
    results = job.results(4)
    expected = Expected(results, job.model)
    spectrum(results.folder, 3)
    expected.check(results.folder)


def test_ranks_of_zero_and_more_ranks_than_blocks():
    job = Job(keys={"adapter.method": "random", "adapter.mean_rank": 0.5, "adapter.rank_max": 1, "optimizer.lr": 0.02})
    results = job.results(1)
    assert set(results.ranks.values()) == {0, 1}
    expected = Expected(results, job.model)
    for num_ranks in (1, 6):
        spectrum(results.folder, num_ranks)
        expected.check(results.folder)


def test_model_from_random_weights():
    """Where all weights were trained from a random start, W0 is that start."""
    job = Job(keys={"adapter.method": "full", "model.init": "random", "retrain.steps": 1, "optimizer.lr": 1e-12})
    results = job.results(1)
    (job.model / "model.safetensors").unlink()
    spectrum(results.folder, 2)
    _, found = common.read_trace(results.folder / "spectrum.h5")
    assert max(found["/update/singular_values"].numbers) < 1e-8
    assert max(found["/frozen/singular_values"].numbers) > 1e-2


def lora_run():
    job = Job(keys={"adapter.method": "lora", "adapter.rank": 2})
    return job, job.results(1)


def test_bottlenecks_have_no_spectrum():
    results = Job(keys={"adapter.method": "adapter", "adapter.bottleneck": 4}).results(1)
    for num_ranks in (1, 3):
        assert_refused(common.start(["spectrum", results.folder], num_ranks), 2, "bottleneck adapters")
    assert not (results.folder / "spectrum.h5").exists()


@cases(nothing=[], option=["x", "--grid"], two=["x", "y"])
def test_usage(arguments):
    for num_ranks in (1, 2):
        assert_refused(common.start(["spectrum", *arguments], num_ranks), 2, "spectrum")


def test_help():
    for num_ranks in (1, 3):
        outcome = common.start(["spectrum", "--help"], num_ranks)
        assert outcome.code == 0 and outcome.out.count("autolora spectrum RUN_DIR") == 1, outcome


def test_runs_that_cannot_be_read():
    job, results = lora_run()
    whole = (results.folder / "checkpoint-final.h5").read_bytes()
    for num_ranks in (1, 2, 4):
        assert_refused(common.start(["spectrum", job.folder], num_ranks), 3, "checkpoint-final.h5", "cannot be opened")
    damaged = copied(results.folder, "damaged", whole[:-30])
    assert_refused(common.start(["spectrum", damaged], 2), 3, "checkpoint-final.h5")
    for method, words in (("lora", "model.safetensors"), ("full", "model.safetensors")):
        other = Job(keys={"adapter.method": method, "adapter.rank": 2})
        folder, model = other.results(1).folder, other.model / "model.safetensors"
        data = model.read_bytes()
        model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert_refused(common.start(["spectrum", folder], 2), 3, "other weights")
        model.unlink()
        assert_refused(common.start(["spectrum", folder], 2), 3, words)
        assert not (folder / "spectrum.h5").exists()


@cases(lora=("lora", "lora_B"), full=("full", "weight"))
def test_weights_that_are_not_finite(case):
    """A checkpoint that is whole, with a number of which no singular values exist."""
    method, tensor = case
    results = Job(keys={"adapter.method": method, "adapter.rank": 2, "optimizer.lr": 0.02}).results(1)
    shape, texts = checkpoint(results)[f"bert.encoder.layer.2.attention.self.value.{tensor}"]
    stored = struct.pack("<8f", *map(float.fromhex, texts[:8]))
    data = (results.folder / "checkpoint-final.h5").read_bytes()
    assert data.count(stored) == 1
    data = data.replace(stored, struct.pack("<f", math.nan) + stored[4:])[:-len("checksum 89abcdef\n")]
    damaged = copied(results.folder, "damaged", data + b"checksum %08x\n" % zlib.crc32(data))
    for num_ranks in (1, 2, 4):
        outcome = common.start(["spectrum", damaged], num_ranks)
        assert_refused(outcome, 3, "layer.2.attention.self.value", "nan")
    assert not (damaged / "spectrum.h5").exists()


def test_full_disk():
    """The spectrum that was there stays."""
    _, results = lora_run()
    folder = results.folder
    small = folder.parent / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(small)], capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skip(f"mount: {mounted.stderr.strip()}")
    try:
        for name in ("input.json", "checkpoint-final.h5"):
            (small / name).write_bytes((folder / name).read_bytes())
        spectrum(small, 1)
        before = (small / "spectrum.h5").read_bytes()
        subprocess.run(["dd", "if=/dev/zero", f"of={small / 'filler'}"], capture_output=True)  # till full
        for num_ranks in (1, 3):
            assert_refused(common.start(["spectrum", small], num_ranks), 6, "spectrum.h5", "No space left")
            assert (small / "spectrum.h5").read_bytes() == before and not list(small.glob("*.tmp"))
        (small / "filler").unlink()
        spectrum(small, 2)
    finally:
        subprocess.run(["umount", str(small)], check=True)
