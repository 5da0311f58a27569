"""The program beside transformers on a real base model: same tokens, same logits.

    python tests/peers/test_live.py --tool build/release/tools/logits INPUT.json [KEY=VALUE]...

Runs the tool on the input's dev split and computes the same logits with transformers (BertForSequenceClassification,
or BertForTokenClassification for token tasks) from the same checkpoint and task head, one sequence at a time.
Prints the largest difference; exit 1 if it is above 1e-4 of the largest logit.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
import torch
from transformers import BertForSequenceClassification, BertForTokenClassification


def run_tool(tool, input_path, overrides):
    """Head weights and a list of {example, ids, logits} that the program prints."""
    output = subprocess.run([tool, input_path, *overrides], check=True, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    return lines[0]["weight"], lines[1]["bias"], lines[2:]


def load_peer(input_path, overrides, weight, bias):
    """The transformers model with the program's task head, in evaluation mode."""
    with open(input_path, encoding="utf-8") as stream:
        job = json.load(stream)
    path = dict(o.split("=", 1) for o in overrides).get("model.path", job["model"]["path"])
    labels = len(bias)
    kind = BertForTokenClassification if job["task"]["name"] == "ner" else BertForSequenceClassification
    model = kind.from_pretrained(path, num_labels=labels, attn_implementation="eager").eval()
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor(weight).reshape(labels, -1))
        model.classifier.bias.copy_(torch.tensor(bias))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("input")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    weight, bias, examples = run_tool(arguments.tool, arguments.input, arguments.overrides)
    model = load_peer(arguments.input, arguments.overrides, weight, bias)
    difference = largest = 0.0
    with torch.no_grad():
        for example in examples:
            logits = model(torch.tensor([example["ids"]])).logits.flatten().numpy()
            difference = max(difference, float(np.abs(logits - np.array(example["logits"])).max()))
            largest = max(largest, float(np.abs(logits).max()))
    print(f"{len(examples)} examples: largest difference {difference:.2e} of logits up to {largest:.2e}")
    return 0 if examples and difference <= 1e-4 * largest else 1


if __name__ == "__main__":
    sys.exit(main())
