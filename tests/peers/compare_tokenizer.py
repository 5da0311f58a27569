#!/usr/bin/env python3
"""Compare the tokenizer with the Python package, token for token, and measure both.

  python tests/peers/compare_tokenizer.py --model MODEL_DIR --data DATA_DIR [--driver PROGRAM]

With the vocabulary of MODEL_DIR (vocab.txt, say of bert-base-uncased): each line of each file under DATA_DIR/glue,
DATA_DIR/ner and DATA_DIR/nlg; every Unicode code point alone and inside "a?b"; 5,000 random awkward texts besides the
chosen ones. Code points that the vocabulary lacks would all look alike, so they and the awkward texts are compared
once more with a vocabulary made of all characters that normalisation can leave, with accents stripped or not.
Exit code 1 on any difference. Last, the throughput on the data with one thread each.

PROGRAM is tests/tools/tokenize.c compiled; without it the script compiles it with CC (default mpicc) and pkg-config.
Needs: tokenizers, transformers.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers
import transformers
from tokenizers.normalizers import BertNormalizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "oracle"))
from tokenizer_fixture import SETTINGS, SPECIAL, all_code_points, awkward_texts, compact

NUM_RANDOM = 5000
SOURCES = ["src/base/memory.c", "src/base/report.c", "src/io/file.c", "src/io/json.c", "src/io/normalizer.c",
           "src/io/wordpiece.c", "src/io/bert_tokenizer.c", "src/io/tokenizer.c",
           "tests/tools/tokenize.c"]


def pkg_config(option):
    return subprocess.run(["pkg-config", option, "libcjson", "libutf8proc"], check=True, capture_output=True,
                          text=True).stdout.split()


def build_driver(folder):
    program = Path(folder) / "tokenize"
    subprocess.run([os.environ.get("CC", "mpicc"), "-std=c11", "-D_GNU_SOURCE", "-O3", "-march=native", "-fopenmp",
                    f"-I{ROOT / 'include'}", *pkg_config("--cflags"), *[str(ROOT / source) for source in SOURCES],
                    *pkg_config("--libs"), "-lm", "-o", str(program)], check=True)
    return program


def run_driver(program, model, texts):
    """[line of ids] of the texts and the seconds that encoding took."""
    records = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    done = subprocess.run([str(program), str(model), "--sized"], input=records, check=True, capture_output=True)
    lines = done.stdout.decode().split("\n")
    assert lines.pop() == "" and len(lines) == len(texts), "the program printed another number of lines"
    return lines, float(done.stderr.split()[-2])


def run_peer(peer, texts):
    decoded = [text.decode("utf-8", "replace") for text in texts]
    start = time.perf_counter()
    encodings = peer.encode_batch_fast(decoded, add_special_tokens=False)
    seconds = time.perf_counter() - start
    return [" ".join(map(str, one.ids)) for one in encodings], seconds


def load_peer(model):
    return transformers.BertTokenizerFast.from_pretrained(str(model)).backend_tokenizer


class Comparison:
    def __init__(self, program, model):
        self.program, self.model, self.peer = program, model, load_peer(model)
        self.mismatches = 0

    def compare(self, name, texts):
        """Print counts and the first mismatches; return the seconds (program, peer) and the number of tokens."""
        own, seconds = run_driver(self.program, self.model, texts)
        theirs, peer_seconds = run_peer(self.peer, texts)
        wrong = [at for at in range(len(texts)) if own[at] != theirs[at]]
        for at in wrong[:5]:
            print(f"  {texts[at]!r}\n    program: {own[at]}\n    package: {theirs[at]}")
        self.mismatches += len(wrong)
        tokens = sum(line.count(" ") + 1 for line in own if line)
        print(f"{name}: {len(texts)} texts, {tokens} tokens, {len(wrong)} mismatches", flush=True)
        return seconds, peer_seconds


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


def report_throughput(program, model, peer, texts):
    """Best of five runs each, alternating."""
    runs = [(run_driver(program, model, texts)[1], run_peer(peer, texts)[1]) for _ in range(5)]
    own, theirs = (min(column) for column in zip(*runs))
    megabytes = sum(map(len, texts)) / 1e6
    print(f"throughput, one thread: program {megabytes / own:.1f} MB/s, tokenizers {tokenizers.__version__} "
          f"{megabytes / theirs:.2f} MB/s, ratio {theirs / own:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="directory with vocab.txt")
    parser.add_argument("--data", type=Path, required=True, help="directory with glue, ner, nlg")
    parser.add_argument("--driver", type=Path, help="tests/tools/tokenize.c compiled")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = arguments.driver or build_driver(folder)
        real = Comparison(program, arguments.model)
        data = data_texts(arguments.data)
        for path, texts in data.items():
            real.compare(path, texts)
        alone, inside = code_point_texts()
        awkward = awkward_texts(NUM_RANDOM, seed=2)
        named = {"all code points, alone": alone, "all code points, inside a word": inside, "awkward texts": awkward}
        for label, texts in named.items():
            real.compare(label, texts)
        mismatches = real.mismatches
        for setting in SETTINGS:
            write_full_vocabulary(folder, setting)
            full = Comparison(program, folder)
            for label, texts in named.items():
                full.compare(f"{label}, vocabulary of all characters, {compact(setting)}", texts)
            mismatches += full.mismatches
        print(f"mismatches in all: {mismatches}")
        sentences = [line.split(b"\t")[-1] for line in data.get("glue/CoLA/train.tsv", [])]
        if sentences:
            report_throughput(program, arguments.model, real.peer, sentences)
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
