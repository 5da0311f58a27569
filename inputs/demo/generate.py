#!/usr/bin/env python3
"""Generate a small acceptability corpus in the file format of GLUE's CoLA.

A hand-written grammar builds minimal pairs: an acceptable sentence and a
partner that one edit (a word replaced, inserted, deleted, moved, or two words
exchanged) makes unacceptable.  Exactly one member of each pair is written, so
no split shows both.  Most constructions come in mirrored forms, where the word
that is wrong in one sentence is right in another, so that single words say
little about the label.

    python3 generate.py            write train.tsv, dev.tsv and test.tsv
    python3 generate.py --check    compare the files with a fresh run, and
                                   print the naive Bayes baselines
"""
import argparse
import math
import random
import re
import sys
from collections import Counter
from pathlib import Path

from grammar import Grammar
from lexicon import EMBEDDINGS
from phenomena import PHENOMENA

SEED = 2018
SPLITS = {"train": 4000, "dev": 500, "test": 500}
ACCEPTABLE_SHARE = 0.62
MIN_WORDS, MAX_WORDS = 4, 20
UNIGRAM_LIMIT, BIGRAM_LIMIT = 0.35, 0.85


def shortened(words):
    """Return all word sequences that lack one of the words."""
    return {tuple(words[:i] + words[i + 1:]) for i in range(len(words))}


def one_edit(first, second):
    """Tell whether one word replaced, inserted, deleted, moved or swapped parts two lists."""
    differences = sum(a != b for a, b in zip(first, second))
    if sorted(first) == sorted(second) and differences == 2:
        return True
    less_first, less_second = shortened(first), shortened(second)
    return first != second and (bool(less_first & less_second) or tuple(first) in less_second
                                or tuple(second) in less_first)


def spell(words, mark):
    """Join words to a written sentence."""
    text = " ".join(words).replace(" ,", ",").replace("can not ", "cannot ")
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!use|uni|one)", r"\1n ", text)
    return text[0].upper() + text[1:] + mark


def make_pair(name, rng, held_out):
    """Return one minimal pair of written sentences of a phenomenon."""
    while True:
        grammar = Grammar(rng, held_out)
        try:
            good, bad, mark = PHENOMENA[name](grammar)
        except LookupError:
            continue
        if not one_edit(good, bad):
            raise ValueError(f"{name}: not one edit: {good} / {bad}")
        if mark == "." and len(good) < 12 and grammar.chance(0.12):
            prefix = grammar.choose(EMBEDDINGS).split()
            good, bad = prefix + good, prefix + bad
        pair = spell(good, mark), spell(bad, mark)
        if all(MIN_WORDS <= len(text.split()) <= MAX_WORDS for text in pair):
            return pair


def make_split(split, size, seed, seen):
    """Return the shuffled rows of one split; `seen` holds both members of all pairs."""
    rng, rows, names = random.Random(f"{seed}-{split}"), [], list(PHENOMENA)
    for index, name in enumerate(names):
        count = size // len(names) + (index < size % len(names))
        acceptable = round(count * ACCEPTABLE_SHARE)
        for number in range(count):
            while seen & set(pair := make_pair(name, rng, split != "train")):
                pass
            seen.update(pair)
            label = int(number < acceptable)
            rows.append((name, str(label), "" if label else "*", pair[1 - label]))
    rng.shuffle(rows)
    return rows


def make_corpus(seed):
    """Return all splits as {file name: rows}."""
    seen = set()
    return {f"{split}.tsv": make_split(split, size, seed, seen) for split, size in SPLITS.items()}


def to_text(rows):
    """Serialise rows as tab-separated lines."""
    return "".join("\t".join(row) + "\n" for row in rows)


# ---------------------------------------------------------------- baselines

def words_of(rows):
    """Return the set of lower-case words in rows."""
    return {word for row in rows for word in re.findall(r"[a-z']+", row[3].lower())}


def features(sentence, order):
    """Return the word n-grams of a sentence."""
    words = re.findall(r"[a-z']+|[?.,]", sentence.lower())
    words = ["<s>"] * (order - 1) + words
    return [tuple(words[i:i + order]) for i in range(len(words) - order + 1)]


def naive_bayes_mcc(train, test, order):
    """Train multinomial naive Bayes on n-grams; return the Matthews correlation on test."""
    counts, totals = {"0": Counter(), "1": Counter()}, Counter(row[1] for row in train)
    for _, label, _, sentence in train:
        counts[label].update(features(sentence, order))
    size = len(counts["0"] | counts["1"])
    denominators = {label: sum(c.values()) + size for label, c in counts.items()}
    table = Counter()
    for _, label, _, sentence in test:
        score = {k: math.log(totals[k]) + sum(math.log((c[f] + 1) / denominators[k])
                                              for f in features(sentence, order))
                 for k, c in counts.items()}
        table[label, max(score, key=score.get)] += 1
    tp, tn, fp, fn = (table[k] for k in (("1", "1"), ("0", "0"), ("0", "1"), ("1", "0")))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0


def report_baselines(corpus):
    """Print the label balance and the baselines; return whether the limits hold."""
    train, dev = corpus["train.tsv"], corpus["dev.tsv"]
    unigram, bigram = (naive_bayes_mcc(train, dev, order) for order in (1, 2))
    known = words_of(train)
    for name, rows in corpus.items():
        share = sum(row[1] == "1" for row in rows) / len(rows)
        novel = sum(not words_of([row]) <= known for row in rows) / len(rows)
        print(f"{name}: {len(rows)} sentences, {share:.1%} acceptable, "
              f"{novel:.1%} with a word that train lacks")
    print(f"naive Bayes, words, dev MCC:   {unigram:.3f} (limit {UNIGRAM_LIMIT})")
    print(f"naive Bayes, bigrams, dev MCC: {bigram:.3f} (limit {BIGRAM_LIMIT})")
    return unigram < UNIGRAM_LIMIT and bigram < BIGRAM_LIMIT


def main():
    """Write or check the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent,
                        help="directory of the files (default: beside this script)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--check", action="store_true",
                        help="compare the files with a fresh run instead of writing them")
    args = parser.parse_args()
    corpus = make_corpus(args.seed)
    status = 0
    for name, rows in corpus.items():
        path = args.out / name
        if not args.check:
            args.out.mkdir(parents=True, exist_ok=True)
            path.write_text(to_text(rows), encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_bytes() != to_text(rows).encode("utf-8"):
            print(f"{path.name} differs from what this script generates", file=sys.stderr)
            status = 1
    return status if report_baselines(corpus) else 1


if __name__ == "__main__":
    sys.exit(main())
