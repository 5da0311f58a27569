#!/usr/bin/env python3
"""Compares the program's dataset reader with transformers' fast tokenizer and seqeval.

  python tests/peers/compare_dataset.py --driver DUMP --tokenizer MODEL_DIR \
      --conll DIR [DIR ...] --glue cola=DIR [mrpc=DIR ...] --max-length 128 24

DUMP is the compiled tests/tools/dump_dataset.c, MODEL_DIR a directory with vocab.txt and the
files of a Hugging Face tokenizer. A CoNLL directory holds train.tsv, devel.tsv and test.tsv,
a directory of one of GLUE's tasks train.tsv, dev.tsv and test.tsv (unlabelled); files that are absent
are left out, train.tsv is needed.
Number of examples, token ids, type ids, labels or scores, label names, longest example, cut
examples and entities (all, lost) have to be equal; the exit code is 1 if anything differs.
Needs: transformers, seqeval, numpy.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoTokenizer

IGNORED = -100
PREFIXES = "BIES"
BLOCK = 2000  # sentences given to the tokenizer at once
# Columns of the sentences, of the label, names of the labels (None: a score); as the benchmark's site describes them.
TASKS = {
    "cola": (["sentence"], "label", ["0", "1"]),
    "sst2": (["sentence"], "label", ["0", "1"]),
    "mrpc": (["#1 String", "#2 String"], "Quality", ["0", "1"]),
    "rte": (["sentence1", "sentence2"], "label", ["entailment", "not_entailment"]),
    "stsb": (["sentence1", "sentence2"], "score", None),
    "wnli": (["sentence1", "sentence2"], "label", ["0", "1"]),
    "qnli": (["question", "sentence"], "label", ["entailment", "not_entailment"]),
}


def read_lines(path):
    """Lines as the bytes between line feeds; undecodable bytes become U+FFFD."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]


def read_glue(path, task, is_test):
    """[(texts, label as text; index in a test file)]"""
    columns, label, _ = TASKS[task]
    rows = [line.split("\t") for line in read_lines(path)]
    header = ["source", "label", "mark", "sentence"] if task == "cola" and not is_test else rows.pop(0)
    assert all(len(row) == len(header) for row in rows), path
    wanted = [header.index(name) for name in (*columns, "index" if is_test else label)]
    return [([row[i] for i in wanted[:-1]], row[wanted[-1]]) for row in rows]


def read_conll(path):
    """[(words, tags)]"""
    sentences = [([], [])]
    for line in read_lines(path):
        if not line.strip(" \t") or line.startswith("-DOCSTART-"):
            sentences.append(([], []))
            continue
        columns = line.split("\t") if "\t" in line else line.split(" ")
        sentences[-1][0].append(columns[0])
        sentences[-1][1].append(columns[-1])
    return [sentence for sentence in sentences if sentence[0]]


def sorted_labels(sentences):
    """O, then by type, within a type B I E S."""
    tags = {tag for _, sentence_tags in sentences for tag in sentence_tags}
    return sorted(tags, key=lambda tag: (tag != "O", tag[1:].encode(), PREFIXES.find(tag[0])))


def blocks(items):
    for start in range(0, len(items), BLOCK):
        yield items[start:start + BLOCK]


def expect_glue(path, tokenizer, max_length, task, is_test):
    """(totals, examples) as the driver prints them."""
    rows, examples, cut = read_glue(path, task, is_test), [], 0
    names = TASKS[task][2]
    for block in blocks(rows):
        texts = [list(column) for column in zip(*(texts for texts, _ in block))]
        whole = tokenizer(*texts, verbose=False)["input_ids"]
        encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length)
        for i, (_, label) in enumerate(block):
            cut += len(whole[i]) > max_length
            ids = encoded["input_ids"][i]
            example = {"token_ids": ids,
                       "type_ids": encoded.get("token_type_ids", {i: [0] * len(ids)})[i],
                       "labels": [IGNORED if is_test else names.index(label) if names else 0]}
            if is_test:
                example["index"] = int(label)
            elif names is None:
                example["target"] = float(np.float32(label))
            examples.append(example)
    return {"label_names": names or ["score"], "num_truncated": cut, "num_skipped": 0, "entities_total": 0,
            "entities_lost": 0}, examples


def count_lost(tags, kept):
    """Entities of a sentence that its kept words (numbers, ascending) do not show whole."""
    shown = set()
    for kind, begin, end in get_entities([tags[word] for word in kept]):
        words = kept[begin:end + 1]
        if words == list(range(words[0], words[-1] + 1)):
            shown.add((kind, words[0], words[-1]))
    entities = set(get_entities(list(tags)))
    return len(entities), len(entities - shown)


def expect_conll(path, tokenizer, max_length, names):
    sentences, examples = read_conll(path), []
    totals = {"label_names": names, "num_truncated": 0, "num_skipped": 0, "entities_total": 0,
              "entities_lost": 0}
    ids_of_names = {name: i for i, name in enumerate(names)}
    for block in blocks(sentences):
        texts = [words for words, _ in block]
        whole = tokenizer(texts, is_split_into_words=True, verbose=False)["input_ids"]
        encoded = tokenizer(texts, is_split_into_words=True, truncation=True, max_length=max_length)
        for i, (_, tags) in enumerate(block):
            kept, labels = [], []
            for word in encoded.word_ids(i):
                is_first = word is not None and (not kept or word != kept[-1])
                labels.append(ids_of_names[tags[word]] if is_first else IGNORED)
                kept += [word] if is_first else []
            total, lost = count_lost(tags, kept)
            totals["entities_total"] += total
            totals["entities_lost"] += lost
            totals["num_truncated"] += len(whole[i]) > max_length
            examples.append({"token_ids": encoded["input_ids"][i],
                             "type_ids": encoded["token_type_ids"][i], "labels": labels})
    return totals, examples


def run_driver(arguments, task, max_length, paths):
    """[(totals, examples)] per file."""
    command = [arguments.driver, arguments.tokenizer, task, str(max_length), *map(str, paths)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    files = []
    for line in output.decode().splitlines():
        entry = json.loads(line)
        if "file" in entry:
            files.append((entry, []))
        else:
            files[-1][1].append(entry)
    return files


def compare(path, max_length, found, expected):
    """Prints one line; True if everything is equal."""
    totals, examples = expected
    totals.update(file=str(path), num_examples=len(examples),
                  longest=max(len(example["token_ids"]) for example in examples))
    problems = [f"{key} {found[0].get(key)} instead of {value}"
                for key, value in totals.items() if found[0].get(key) != value]
    for example in found[1]:  # printed with nine digits: enough for a float
        if "target" in example:
            example["target"] = float(np.float32(example["target"]))
    different = [i for i, pair in enumerate(zip(found[1], examples)) if pair[0] != pair[1]]
    if different:
        i = different[0]
        problems.append(f"{len(different)} examples differ, the first is number {i}:\n"
                        f"  found    {found[1][i]}\n  expected {examples[i]}")
    tokens = sum(len(example["token_ids"]) for example in examples)
    print(f"{path} at {max_length}: {len(examples)} examples, {tokens} tokens, "
          f"{totals['num_truncated']} cut, {totals['entities_lost']} of "
          f"{totals['entities_total']} entities lost: {'; '.join(problems) or 'equal'}", flush=True)
    return not problems


def compare_conll(arguments, tokenizer, folder, max_length):
    paths = [folder / name for name in ("train.tsv", "devel.tsv", "test.tsv")]
    paths = [path for path in paths if path.name == "train.tsv" or path.exists()]
    found = run_driver(arguments, "ner", max_length, paths)
    names = sorted_labels(read_conll(paths[0]))
    return len(found) == len(paths) and all(
        [compare(path, max_length, one, expect_conll(path, tokenizer, max_length, names))
         for path, one in zip(paths, found)])


def compare_glue(arguments, tokenizer, task, folder, max_length):
    equal = []
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        path = folder / name
        if name == "train.tsv" or path.exists():
            # A test file of the benchmark has an index instead of labels; the demonstration's has labels.
            is_test = name == "test.tsv" and read_lines(path)[0].startswith("index\t")
            found, = run_driver(arguments, f"{task}:test" if is_test else task, max_length, [path])
            equal.append(compare(path, max_length, found,
                                 expect_glue(path, tokenizer, max_length, task, is_test)))
    return all(equal)


def task_folder(text):
    """"mrpc=DIR" """
    task, _, folder = text.partition("=")
    if task not in TASKS or not folder:
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(TASKS)} and =DIR")
    return task, pathlib.Path(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", required=True, help="the compiled tests/tools/dump_dataset.c")
    parser.add_argument("--tokenizer", required=True, help="Hugging Face model directory")
    parser.add_argument("--conll", nargs="*", default=[], type=pathlib.Path)
    parser.add_argument("--glue", nargs="*", default=[], type=task_folder)
    parser.add_argument("--max-length", nargs="+", default=[128, 24], type=int)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer, local_files_only=True)
    assert tokenizer.is_fast
    results = []
    for max_length in arguments.max_length:
        results += [compare_conll(arguments, tokenizer, folder, max_length) for folder in arguments.conll]
        results += [compare_glue(arguments, tokenizer, task, folder, max_length)
                    for task, folder in arguments.glue]
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
