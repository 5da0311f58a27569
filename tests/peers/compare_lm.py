#!/usr/bin/env python3
"""Compares the program's reader of contexts and completions with transformers' tokenizer.

  python tests/peers/compare_lm.py --driver DUMP --tokenizer MODEL_DIR --max-length 512 40 \
      --lines FILE [FILE ...] --webnlg FILE [FILE ...]

DUMP is the compiled tests/tools/dump_dataset.c, MODEL_DIR a directory with the files of GPT-2's (or BERT's)
tokenizer. Token ids, labels, cut examples, the order of contexts, their ids and their references have to be equal
for every example; the exit code is 1 if anything differs. Needs: transformers.
"""
import argparse
import json
import subprocess
import sys

from transformers import AutoTokenizer, BertTokenizerFast

IGNORED = -100


def read_pairs(path, is_webnlg):
    """[(context, completion)] as microsoft/LoRA's format_converting_*.py make them."""
    if not is_webnlg:
        with open(path, encoding="utf-8", newline="\n") as stream:
            return [tuple(line.strip().split("||")[:2]) for line in stream]
    pairs = []
    with open(path, encoding="utf-8") as stream:
        entries = json.load(stream)["entries"]
    for number, entry in enumerate(entries, 1):
        entry = entry[str(number)]
        context = " | ".join(f"{t['subject']} : {t['property']} : {t['object']}" for t in entry["modifiedtripleset"])
        pairs += [(context, text["lex"]) for text in entry["lexicalisations"] if text["comment"] == "good"]
    return pairs


class Encoder:
    def __init__(self, folder):
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError):
            self.tokenizer = BertTokenizerFast.from_pretrained(folder, local_files_only=True)
        self.end = self.tokenizer.eos_token_id
        if self.end is None:
            self.end = self.tokenizer.sep_token_id

    def __call__(self, texts):
        return [ids + [self.end] for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def expect(pairs, encoder, max_length):
    """Examples and contexts as the driver prints them, and the number of cut examples."""
    contexts = encoder([context for context, _ in pairs])
    completions = encoder([" " + completion for _, completion in pairs])
    examples, cut, grouped = [], 0, {}
    for (context, completion), head, tail in zip(pairs, contexts, completions):
        ids = (head + tail)[:max_length]
        shifted = ids[1:] + [IGNORED]
        labels = [IGNORED if i < len(head) - 1 else label for i, label in enumerate(shifted)]
        examples.append({"token_ids": ids, "type_ids": [0] * len(ids), "labels": labels})
        cut += len(head) + len(tail) > max_length
        grouped.setdefault(context, {"context": head, "references": []})["references"].append(completion)
    return examples, list(grouped.values()), cut


def compare(arguments, encoder, path, is_webnlg, max_length):
    """Prints one line; True if everything is equal."""
    task = "webnlg" if is_webnlg else "e2e"
    command = [arguments.driver, arguments.tokenizer, task, str(max_length), path]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    found = [json.loads(line) for line in output.splitlines()]
    examples, contexts, cut = expect(read_pairs(path, is_webnlg), encoder, max_length)
    expected = examples + contexts
    different = [i for i, pair in enumerate(zip(found[1:], expected)) if pair[0] != pair[1]]
    problems = []
    if len(found) - 1 != len(expected):
        problems.append(f"{len(found) - 1} lines instead of {len(expected)}")
    if found[0]["num_truncated"] != cut:
        problems.append(f"{found[0]['num_truncated']} cut instead of {cut}")
    if different:
        i = different[0]
        problems.append(f"{len(different)} differ, the first is number {i}:\n"
                        f"  found    {found[1 + i]}\n  expected {expected[i]}")
    print(f"{path} at {max_length}: {len(examples)} examples, {sum(len(e['token_ids']) for e in examples)} tokens, "
          f"{cut} cut, {len(contexts)} contexts: {'; '.join(problems) or 'equal'}", flush=True)
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", required=True, help="the compiled tests/tools/dump_dataset.c")
    parser.add_argument("--tokenizer", required=True, help="Hugging Face model directory")
    parser.add_argument("--lines", nargs="*", default=[], help="files of context||completion")
    parser.add_argument("--webnlg", nargs="*", default=[], help="WebNLG 2017's JSON files")
    parser.add_argument("--max-length", nargs="+", default=[512, 40], type=int)
    arguments = parser.parse_args()
    encoder = Encoder(arguments.tokenizer)
    results = [compare(arguments, encoder, path, is_webnlg, max_length)
               for max_length in arguments.max_length
               for is_webnlg, paths in ((False, arguments.lines), (True, arguments.webnlg)) for path in paths]
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
