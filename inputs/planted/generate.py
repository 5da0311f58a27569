#!/usr/bin/env python3
"""Labelling tasks whose best ranks are known: a teacher, the given BERT checkpoint (or a small random one, --tiny) with
low-rank updates of known ranks planted in query and value of every block, labels random word sequences; see README.md.

    python3 inputs/planted/generate.py --base inputs/models/all-MiniLM-L6-v2 --noise 0.2 --seed 1 --out outputs/planted/middle-1

writes train.tsv, dev.tsv (CoNLL), truth.json (planted ranks, effects), ranks.json (for adapter.ranks_from) and, with
--tiny, the base model itself. Needs numpy."""
import argparse
import copy
import json
import math
import pathlib
import shutil
import struct

import numpy as np

PROJECTIONS = ("query", "value")
RANKS = (0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8)  # of twelve modules, in an order of their own for each seed
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CALIBRATION = 256  # sequences


# ---- the frozen model ----


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data, np.float32, (end - begin) // 4, 8 + length + begin)
            tensors[name.removeprefix("bert.")] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            out.write(np.ascontiguousarray(values).tobytes())


def write_tiny_base(folder, draw, hidden=32, blocks=6, heads=4, inner=64, words=200):
    """Random weights, large enough that every projection shapes the output."""
    folder.mkdir(parents=True, exist_ok=True)
    syllables = ["".join((a, b)) for a in "bcdfghjklmnpqrstvwxz" for b in "aeiou"]
    vocabulary = [*SPECIAL, *[a + b for a in syllables for b in syllables][:words * 41:41]]
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": blocks,
              "num_attention_heads": heads, "intermediate_size": inner, "hidden_act": "gelu", "vocab_size": len(vocabulary),
              "max_position_embeddings": 32, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
              "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    shapes = {"embeddings.word_embeddings": (len(vocabulary), hidden), "embeddings.position_embeddings": (32, hidden),
              "embeddings.token_type_embeddings": (2, hidden), "embeddings.LayerNorm": (hidden,)}
    for i in range(blocks):
        block = f"encoder.layer.{i}."
        shapes |= {block + f"attention.self.{name}": (hidden, hidden) for name in ("query", "key", "value")}
        shapes |= {block + "attention.output.dense": (hidden, hidden), block + "attention.output.LayerNorm": (hidden,),
                   block + "intermediate.dense": (inner, hidden), block + "output.dense": (hidden, inner),
                   block + "output.LayerNorm": (hidden,)}
    gains = {"query": 1.5, "key": 1.5}
    tensors = {}
    for name, shape in shapes.items():
        is_norm, is_embedding = len(shape) == 1, "_embeddings" in name
        deviation = 0.5 if is_embedding else gains.get(name.rsplit(".", 1)[-1], 1.0) / math.sqrt(shape[-1])
        values = np.ones(shape) if is_norm else draw.normal(0, deviation, shape)
        tensors[f"bert.{name}.weight"] = values.astype(np.float32)
        if not is_embedding:
            tensors[f"bert.{name}.bias"] = np.zeros(shape[:1], np.float32)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary))
    write_safetensors(folder / "model.safetensors", tensors)


def erf(x):
    """Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))


class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        if self.config["model_type"] != "bert":
            raise SystemExit(f"{folder}: expected a BERT model, found {self.config['model_type']}")
        self.tensors = read_safetensors(folder / "model.safetensors")
        self.hidden, self.blocks = self.config["hidden_size"], self.config["num_hidden_layers"]

    def norm(self, name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def linear(self, name, x):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def adapted(self, block, projection, x, updates):
        y = self.linear(f"encoder.layer.{block}.attention.self.{projection}", x)
        if (block, projection) in updates:
            a, b = updates[block, projection]
            y = y + (x @ a.T) @ b
        return y

    def heads(self, x):
        count = self.config["num_attention_heads"]
        return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)

    def embed(self, ids):
        e = "embeddings."
        x = self.tensors[e + "word_embeddings.weight"][ids] + self.tensors[e + "token_type_embeddings.weight"][0]
        return self.norm(e + "LayerNorm", x + self.tensors[e + "position_embeddings.weight"][:ids.shape[1]])

    def forward(self, x, updates, inputs=None, first=0):
        """Hidden states [sequences, tokens, hidden] behind the last block, from those before block `first`; appends each
        block's input to `inputs`."""
        for i in range(first, self.blocks):
            if inputs is not None:
                inputs.append(x)
            block = f"encoder.layer.{i}."
            q, k, v = (self.heads(self.adapted(i, name, x, updates)) for name in ("query", "key", "value"))
            scores = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(q.shape[-1]))
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            context = (weights / weights.sum(axis=-1, keepdims=True)) @ v
            context = context.transpose(0, 2, 1, 3).reshape(x.shape)
            x = self.norm(block + "attention.output.LayerNorm", x + self.linear(block + "attention.output.dense", context))
            y = self.linear(block + "intermediate.dense", x)
            y = y * (0.5 + 0.5 * erf(y * np.float32(math.sqrt(0.5)))).astype(np.float32)
            x = self.norm(block + "output.LayerNorm", x + self.linear(block + "output.dense", y))
        return x

    def words(self, ids, updates):
        """Hidden states of the words alone, [sequences, words, hidden], in pieces."""
        return np.concatenate([self.forward(self.embed(ids[i:i + 256]), updates)[:, 1:-1] for i in range(0, len(ids), 256)])


# ---- what is planted ----


def orthonormal(draw, rows, columns):
    return np.linalg.qr(draw.standard_normal((columns, rows)))[0].T


def input_directions(x, count):
    """[count, hidden]: projections on them of the inputs x [tokens, hidden] have mean 0 and variance 1 and are uncorrelated."""
    mean = x.mean(axis=0)
    across = np.eye(len(mean)) - np.outer(mean, mean) / (mean @ mean)
    values, vectors = np.linalg.eigh(across @ np.cov(x.T) @ across)
    order = np.argsort(values)[::-1][:count]
    return (vectors[:, order] / np.sqrt(values[order])).T


def draw_update(draw, x, rank):
    """Factors A, B [rank, hidden]. What A takes from the input has no mean (else all components would be one, a bias) and is
    uncorrelated over the components (else one of them could stand for several); the outputs are orthogonal."""
    hidden = x.shape[-1]
    directions = input_directions(x.reshape(-1, hidden).astype(np.float64), hidden // 2)
    a = orthonormal(draw, rank, len(directions)) @ directions
    return a.astype(np.float32), orthonormal(draw, rank, hidden).astype(np.float32)


def spread(x):
    """Standard deviation of each hidden unit; infinite for those that say nothing."""
    deviation = x.reshape(-1, x.shape[-1]).std(axis=0)
    return np.where(deviation > 1e-6 * deviation.max(), deviation, np.float32(np.inf))


def plant(model, ids, ranks, effect, draw):
    """{(block, projection): (A, B)} and {module: effect}. Each update is scaled until it alone changes the last hidden
    states by effect * sqrt(rank), relative to their standard deviation: every component tells alike in the output."""
    inputs = []
    plain = model.forward(model.embed(ids), {}, inputs)
    deviation, updates, effects = spread(plain), {}, {}
    for (block, projection), rank in ranks.items():
        if rank == 0:
            continue
        a, b = draw_update(draw, inputs[block], rank)
        scale, target = np.float32(1.0), effect * math.sqrt(rank)
        for _ in range(6):
            changed = model.forward(inputs[block], {(block, projection): (a, scale * b)}, first=block)
            found = float(np.sqrt((((changed - plain) / deviation) ** 2).mean()))
            if abs(found / target - 1) < 0.02:
                break
            scale *= np.float32(min(4.0, max(0.25, target / found)))
        updates[block, projection] = (a, scale * b)
        effects[block, projection] = found
    return updates, effects


# ---- the data ----


def word_ids(folder, count):
    """The first whole words of the vocabulary: each is one token."""
    vocabulary = (folder / "vocab.txt").read_text().split("\n")
    found = [(i, word) for i, word in enumerate(vocabulary) if len(word) > 2 and word.isascii() and word.isalpha() and
             word.islower()]
    return [vocabulary.index("[CLS]"), vocabulary.index("[SEP]")], found[:count]


def teacher_scores(model, ids, updates, num_labels, draw):
    """Scores [sequences, words, labels]: random linear functions of the teacher's standardised hidden states."""
    hidden = model.words(ids, updates)
    flat = hidden.reshape(-1, model.hidden)
    head = draw.standard_normal((model.hidden, num_labels)).astype(np.float32)
    scores = (flat - flat.mean(axis=0)) / spread(flat) @ head
    return (scores / scores.std(axis=0)).reshape(*hidden.shape[:2], num_labels)


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def find_sharpness(scores, noise):
    """What to multiply scores with so that `noise` of the labels drawn are not the likeliest ones."""
    low, high = 0.1, 1000.0
    for _ in range(30):
        sharpness = math.sqrt(low * high)
        is_noisy = 1 - softmax(sharpness * scores).max(axis=-1).mean() > noise
        low, high = (sharpness, high) if is_noisy else (low, sharpness)
    return sharpness


def draw_labels(scores, draw):
    """Labels [sequences, words] from softmax(scores), and the mean entropy: the loss of the teacher itself."""
    probabilities = softmax(scores)
    labels = (np.cumsum(probabilities, axis=-1) < draw.random((*scores.shape[:2], 1))).sum(axis=-1)
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(axis=-1)
    return np.minimum(labels, scores.shape[-1] - 1), float(entropy.mean())


def write_conll(path, words, sequences, labels):
    with open(path, "w") as out:
        for row, row_labels in zip(sequences, labels):
            out.writelines(f"{words[w][1]}\t{f'B-c{label:02}' if label else 'O'}\n" for w, label in zip(row, row_labels))
            out.write("\n")


def write_teacher(out, options, teacher, noise, draw):
    """Data with labels of this noise."""
    words, sequences, scores, truth = teacher
    labels, entropy = draw_labels(scores * np.float32(find_sharpness(scores[:1000], noise)), draw)
    out.mkdir(parents=True, exist_ok=True)
    write_conll(out / "train.tsv", words, sequences[:options.train], labels[:options.train])
    write_conll(out / "dev.tsv", words, sequences[options.train:], labels[options.train:])
    (out / "ranks.json").write_text(json.dumps(truth["ranks"], indent=1) + "\n")
    truth = {**truth, "noise": noise, "teacher_loss": round(entropy, 4), "seed": options.seed}
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def make_teacher(options, draw):
    """(words, sequences, scores, what truth.json says of the teacher itself)"""
    base = options.base
    if options.tiny:
        base = options.out[0] / "base"
        write_tiny_base(base, draw)
        for other in options.out[1:]:
            shutil.copytree(base, other / "base", dirs_exist_ok=True)
    model = Model(base)
    (begin, end), words = word_ids(base, options.words)
    modules = [(block, name) for block in range(model.blocks) for name in PROJECTIONS]
    ranks = dict(zip(modules, draw.permutation(np.resize(RANKS, len(modules))).tolist()))
    sequences = draw.integers(0, len(words), (options.train + options.dev, options.length))
    ids = np.pad(np.array([i for i, _ in words])[sequences], ((0, 0), (1, 1)), constant_values=begin)
    ids[:, -1] = end
    updates, effects = plant(model, ids[:CALIBRATION], ranks, options.effect, draw)
    scores = teacher_scores(model, ids, updates, options.labels, draw)
    name = "bert.encoder.layer.{}.attention.self.{}".format
    truth = {"ranks": {name(*module): rank for module, rank in ranks.items()},
             "effects": {name(*module): round(effect, 4) for module, effect in effects.items()}, "base": str(base)}
    return words, sequences, scores, truth


def generate(options):
    draw = np.random.default_rng(options.seed)
    teacher = make_teacher(options, draw)
    for out, noise in zip(options.out, options.noise):
        write_teacher(out, options, teacher, noise, copy.deepcopy(draw))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--base", type=pathlib.Path, help="directory of a BERT checkpoint")
    source.add_argument("--tiny", action="store_true", help="a random base of 6 blocks, hidden size 32, in OUT/base")
    parser.add_argument("--out", type=pathlib.Path, nargs="+", required=True, help="directories, one for each noise")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05],
                        help="parts of the labels that are not the teacher's likeliest (0.05)")
    parser.add_argument("--effect", type=float, default=0.1, help="of a component on the last hidden states (0.1)")
    parser.add_argument("--labels", type=int, default=32, help="number of labels (32)")
    parser.add_argument("--words", type=int, default=2000, help="words of the vocabulary that are used (2000)")
    parser.add_argument("--length", type=int, default=8, help="words of a sequence (8)")
    parser.add_argument("--train", type=int, default=20000, help="training sequences (20000)")
    parser.add_argument("--dev", type=int, default=1000, help="development sequences (1000)")
    options = parser.parse_args()
    if len(options.out) != len(options.noise):
        parser.error("--out and --noise: expected as many directories as noises")
    generate(options)


if __name__ == "__main__":
    main()
