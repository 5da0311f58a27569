#!/usr/bin/env python3
"""Compare the tokenizers with the Python package, token for token, and measure both.

  python tests/peers/compare_tokenizer.py --model MODEL_DIR... --data DATA_DIR [--driver PROGRAM]

With the tokenizer of each MODEL_DIR (vocab.txt, say of bert-base-uncased, or the byte-level BPE of GPT-2 or RoBERTa):
each line of each file under DATA_DIR/glue, DATA_DIR/ner and DATA_DIR/nlg; every Unicode code point alone and inside
"a?b"; 5,000 random awkward texts besides the chosen ones; the same as words of a sentence, and decoded again.

Code points that a WordPiece vocabulary lacks would all look alike, so they and the awkward texts are compared once more
with a vocabulary made of all characters that normalisation can leave, with accents stripped or not. Where byte-level
BPE cuts words shows in the ids only if pieces would reach across, so code points are compared once more with a
vocabulary in which a letter, a digit, a sign and a blank merge with any byte. BPE is read from tokenizer.json and from
vocab.json with merges.txt. Exit code 1 on any difference. Last, the throughput on the data with one thread each.

PROGRAM is tests/tools/tokenize.c compiled; without it the script compiles it with CC (default mpicc) and pkg-config.
Needs: tokenizers, transformers.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import transformers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import ByteLevel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "oracle"))
from tokenizer_fixture import POOLS, SETTINGS, SPECIAL, all_code_points, as_bytes, awkward_texts, compact

NUM_RANDOM = 5000
SOURCES = [f"src/{name}.c" for name in (
    "base/memory", "base/report", "io/added_tokens", "io/bert_tokenizer", "io/bpe", "io/bpe_tokenizer", "io/file",
    "io/json", "io/normalizer", "io/pretokenizer", "io/text_table", "io/tokenizer", "io/utf8", "io/vocabulary",
    "io/wordpiece")] + ["tests/tools/tokenize.c"]
# Awkward for byte-level BPE, besides the pools of the reference data.
BPE_POOLS = [
    ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|endoftext|>", "<|endoftext", "<mask", "<s", "mask>", "<<s>>"],
    [" ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "\u200b", "\x0b"],
    ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''", "’s", "'sx", " 's", "don't", "I'll"],
    ["0", "12", "1,000", "3.14", "٣", "Ⅷ", "½", "²", "๑"],
    ["the", " the", "The", " antidisestablishmentarianism", "supercalifragilistic", "xqzjv", "naïve", "ĠĊ", "Ã©"],
]


def pkg_config(option):
    return subprocess.run(["pkg-config", option, "libcjson", "libutf8proc"], check=True, capture_output=True,
                          text=True).stdout.split()


def build_driver(folder):
    program = Path(folder) / "tokenize"
    subprocess.run([os.environ.get("CC", "mpicc"), "-std=c11", "-D_GNU_SOURCE", "-O3", "-march=native", "-fopenmp",
                    f"-I{ROOT / 'include'}", *pkg_config("--cflags"), *[str(ROOT / source) for source in SOURCES],
                    *pkg_config("--libs"), "-lm", "-o", str(program)], check=True)
    return program


def run_driver(program, model, texts, *options):
    """What the program prints for the texts and the seconds that the tokenizer took."""
    records = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    done = subprocess.run([str(program), str(model), "--sized", *options], input=records, check=True,
                          capture_output=True)
    return done.stdout, float(done.stderr.split()[-2])


def run_encode(program, model, texts, *options):
    output, seconds = run_driver(program, model, texts, *options)
    lines = output.decode().split("\n")
    assert lines.pop() == "" and len(lines) == len(texts), "the program printed another number of lines"
    return lines, seconds


def run_decode(program, model, lines, *options):
    """[text] of lines of ids."""
    output, _ = run_driver(program, model, [line.encode() for line in lines], *options)
    texts, at = [], 0
    for _ in lines:
        start = output.index(b"\n", at) + 1
        at = start + int(output[at:start])
        texts.append(output[start:at].decode())
    assert at == len(output), "the program printed another number of texts"
    return texts


def run_peer(peer, texts):
    decoded = [text.decode("utf-8", "replace") for text in texts]
    start = time.process_time()  # whatever else runs on the machine
    encodings = peer.encode_batch_fast(decoded, add_special_tokens=False)
    seconds = time.process_time() - start
    return [" ".join(map(str, one.ids)) for one in encodings], seconds


def load_peer(model):
    if (model / "vocab.txt").exists():
        return transformers.BertTokenizerFast.from_pretrained(str(model)).backend_tokenizer
    if (model / "tokenizer.json").exists():
        return tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    files = str(model / "vocab.json"), str(model / "merges.txt")
    if "<s>" not in json.loads((model / "vocab.json").read_text(encoding="utf-8")):
        return transformers.GPT2TokenizerFast(*files).backend_tokenizer
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    return transformers.RobertaTokenizerFast(*files, mask_token=mask).backend_tokenizer


def word_peer(model):
    peer = load_peer(model)
    if is_bpe(model):
        peer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    return peer


def is_bpe(model):
    return not (model / "vocab.txt").exists()


class Comparison:
    def __init__(self, program, model, name=None):
        self.program, self.model, self.peer, self.word_peer = program, model, load_peer(model), word_peer(model)
        self.name = name or model.name
        self.mismatches = 0

    def report(self, name, texts, own, theirs, unit):
        wrong = [at for at in range(len(texts)) if own[at] != theirs[at]]
        for at in wrong[:5]:
            print(f"  {texts[at]!r:.300}\n    program: {own[at]!r:.300}\n    package: {theirs[at]!r:.300}")
        self.mismatches += len(wrong)
        print(f"{self.name}, {name}: {len(texts)} texts, {unit}{len(wrong)} mismatches", flush=True)

    def compare(self, name, texts):
        """Print counts and the first mismatches."""
        own, _ = run_encode(self.program, self.model, texts)
        tokens = sum(line.count(" ") + 1 for line in own if line)
        self.report(name, texts, own, run_peer(self.peer, texts)[0], f"{tokens} tokens, ")
        return own

    def compare_words(self, name, texts):
        own, _ = run_encode(self.program, self.model, texts, "--word")
        self.report(f"{name}, as words", texts, own, run_peer(self.word_peer, texts)[0], "")

    def compare_decoding(self, name, lines):
        for option, skips in (("--decode", False), ("--decode-skipping", True)):
            own = run_decode(self.program, self.model, lines, option)
            ids = [list(map(int, line.split())) for line in lines]
            theirs = self.peer.decode_batch(ids, skip_special_tokens=skips)
            self.report(f"{name}, decoded, special tokens {'skipped' if skips else 'kept'}", lines, own, theirs, "")


def data_texts(folder):
    return {str(path.relative_to(folder)): path.read_bytes().split(b"\n")
            for part in ("glue", "ner", "nlg") for path in sorted((folder / part).rglob("*")) if path.is_file()}


def code_point_texts():
    """Every code point alone, then inside a word."""
    alone = [chr(code).encode() for code in all_code_points()]
    return alone, [b"a" + one + b"b" for one in alone]


def write_full_vocabulary(folder, setting):
    """All characters that the package's normalisation can leave, at the start of a word and inside."""
    normalizer = BertNormalizer(True, setting["tokenize_chinese_chars"], setting["strip_accents"],
                                setting["do_lower_case"])
    characters = set()
    for code in all_code_points():
        characters.update(normalizer.normalize_str(chr(code)))
    characters = sorted(characters - {" "})
    pieces = SPECIAL + characters + ["##" + one for one in characters]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8", newline="\n")
    (folder / "tokenizer_config.json").write_text(compact({**setting, "tokenizer_class": "BertTokenizer"}))


def bpe_texts(count, seed):
    """Mixtures of all pools, and very long words."""
    source = Random(seed)
    pools = BPE_POOLS * 4 + list(POOLS.values())
    texts = []
    for _ in range(count):
        chosen = [source.choice(pools) for _ in range(source.randint(1, 4))]
        fragments = [source.choice(source.choice(chosen)) for _ in range(source.randint(1, 15))]
        texts.append(b"".join(map(as_bytes, fragments)))
    fillers = ("a", "the", " ", "\t", "é", "中", "😀", "\u0301", "'s", "<mask>", " <mask>", "1", "-=", "\x00", "ab\u200d")
    texts += [(filler * size).encode() for filler in fillers for size in (63, 64, 65, 66, 257, 5000)]
    texts += ["".join(source.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(size)).encode()
              for size in (*range(2, 200), 20000)]
    texts += [bytes(source.randrange(256) for _ in range(source.randint(1, 40))) for _ in range(count // 2)]
    return texts


def write_cutting_vocabulary(folder):
    """"a", "1", "!" and a blank merge with any byte behind them."""
    characters = [chr(byte) for byte in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))]
    characters += [chr(0x100 + number) for number in range(256 - len(characters))]
    merges = [(first, second) for first in "a1!Ġ" for second in characters]
    pieces = characters + [first + second for first, second in merges] + ["<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")


def cutting_texts():
    return [(first + chr(code) + last).encode() for code in all_code_points()
            for first, last in (("a", ""), ("1", ""), ("!", ""), (" ", ""), (" ", "a"))]


def fresh_folder(parent, name):
    folder = parent / name
    folder.mkdir()
    return folder


def compare_model(program, model, data, folder):
    """All comparisons of one model; returns the number of mismatches."""
    real = Comparison(program, model)
    lines = []
    for path, texts in data.items():
        lines += real.compare(path, texts)
        if path.startswith("ner"):
            real.compare_words(path, [text.split(b"\t")[0] for text in texts])
    alone, inside = code_point_texts()
    awkward = awkward_texts(NUM_RANDOM, seed=2) + bpe_texts(NUM_RANDOM, seed=3)
    named = {"all code points, alone": alone, "all code points, inside a word": inside, "awkward texts": awkward}
    for label, texts in named.items():
        found = real.compare(label, texts)
    lines += found
    real.compare_words("awkward texts", awkward)
    source = Random(4)
    size = real.peer.get_vocab_size()
    lines += [" ".join(str(source.randrange(size)) for _ in range(20)) for _ in range(NUM_RANDOM)]
    real.compare_decoding("data, awkward texts, random ids", lines)
    mismatches = real.mismatches
    if is_bpe(model):
        if (model / "tokenizer.json").exists():
            files = fresh_folder(folder, f"{model.name}-files")
            for name in ("vocab.json", "merges.txt"):
                shutil.copy(model / name, files)
            other = Comparison(program, files, f"{model.name}, vocab.json and merges.txt")
            other.compare("awkward texts", awkward)
            mismatches += other.mismatches
        return mismatches
    for number, setting in enumerate(SETTINGS):
        full_folder = fresh_folder(folder, f"{model.name}-full-{number}")
        write_full_vocabulary(full_folder, setting)
        full = Comparison(program, full_folder, f"{model.name}, vocabulary of all characters, {compact(setting)}")
        for label, texts in named.items():
            full.compare(label, texts)
        mismatches += full.mismatches
    return mismatches


def report_throughput(program, model, peer, texts):
    """Best of five runs each, alternating."""
    runs = [(run_encode(program, model, texts)[1], run_peer(peer, texts)[1]) for _ in range(5)]
    own, theirs = (min(column) for column in zip(*runs))
    megabytes = sum(map(len, texts)) / 1e6
    print(f"{model.name}: throughput, one thread: program {megabytes / own:.1f} MB/s, tokenizers {tokenizers.__version__} "
          f"{megabytes / theirs:.2f} MB/s, ratio {theirs / own:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, nargs="+", help="directory of a tokenizer's files")
    parser.add_argument("--data", type=Path, required=True, help="directory with glue, ner, nlg")
    parser.add_argument("--driver", type=Path, help="tests/tools/tokenize.c compiled")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = arguments.driver or build_driver(folder)
        data = data_texts(arguments.data)
        mismatches = sum(compare_model(program, model, data, folder) for model in arguments.model)
        if any(map(is_bpe, arguments.model)):
            cutting = fresh_folder(folder, "cutting")
            write_cutting_vocabulary(cutting)
            cuts = Comparison(program, cutting, "vocabulary in which cuts show")
            cuts.compare("all code points", cutting_texts())
            mismatches += cuts.mismatches
        print(f"mismatches in all: {mismatches}")
        sentences = [line.split(b"\t")[-1] for line in data.get("glue/CoLA/train.tsv", [])]
        for model in arguments.model if sentences else ():
            report_throughput(program, model, load_peer(model), sentences)
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
