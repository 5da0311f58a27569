#!/usr/bin/env python3
"""Peer measurement: LoRA fine-tuning of a BERT encoder with transformers + peft.

The comparator a user would pick: BertForSequenceClassification (CoLA) or
BertForTokenClassification (IOB-tagged NER), LoRA on the query and value
projections, the classifier trained in full, everything else (pooler included)
frozen. A plain loop on the CPU; no Trainer.

  python tests/peers/peft_lora.py --task cola --data-dir DATA/glue/CoLA \
      --model MODEL_DIR --epochs 10 --learning-rate 1e-3 --seed 1 --out result.json

Data: CoLA  train.tsv, dev.tsv: no header, no quoting; column 2 label, column 4 sentence.
      NER   train.tsv, devel.tsv, test.tsv: token<TAB>label, blank line between sentences.

The reported metric is that of the LAST epoch, never of the best one. NER scores
are seqeval's default entity scores over all words of the file: a word cut off by
--max-length, or one that yields no sub-word, is predicted as O, so an entity lost
to truncation counts as missed; how many were lost is reported as well.
Needs: torch, transformers, peft, scikit-learn; seqeval for NER.
"""
import argparse
import json
import math
import os
import resource
import sys
import time
import warnings

import peft, torch, transformers
from peft import LoraConfig, TaskType, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import (AutoTokenizer, BertForSequenceClassification,
                          BertForTokenClassification, get_linear_schedule_with_warmup)

IGNORED = -100  # label of sub-words that enter neither the loss nor the metric
WARMUP_FRACTION, WEIGHT_DECAY, CLIP_NORM = 0.06, 0.01, 1.0


def parse_args():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--task", choices=["cola", "ner"], required=True)
    p.add_argument("--data-dir", required=True)
    p.add_argument("--model", required=True, help="Hugging Face model directory")
    for name, default in (("epochs", 10), ("learning-rate", 1e-3), ("batch-size", 32),
                          ("rank", 8), ("alpha", 16.0), ("seed", 1), ("max-length", 128),
                          ("threads", 1)):
        p.add_argument("--" + name, type=type(default), default=default, help=f"[{default}]")
    p.add_argument("--limit-train", type=int, default=0, help="first N examples; 0 means all")
    p.add_argument("--out", required=True, help="JSON result file")
    return p.parse_args()


def read_cola(path):
    """List of (sentence, label)."""
    rows = []
    with open(path, encoding="utf-8", newline="\n") as f:
        for number, line in enumerate(f, 1):
            cols = line.rstrip("\r\n").split("\t")
            if len(cols) != 4 or cols[1] not in ("0", "1"):
                raise ValueError(f"{path}:{number}: not a CoLA row: {line!r}")
            rows.append((cols[3], int(cols[1])))
    return rows


def read_ner(path):
    """List of (words, tags)."""
    sentences, words, tags = [], [], []
    with open(path, encoding="utf-8", newline="\n") as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip("\r\n")
            cols = line.split("\t")
            if line.strip() and len(cols) != 2:
                raise ValueError(f"{path}:{number}: expected token<TAB>label: {line!r}")
            if line.strip():
                words.append(cols[0])
                tags.append(cols[1])
            elif words:
                sentences.append((words, tags))
                words, tags = [], []
    return sentences + ([(words, tags)] if words else [])


def encode_cola(rows, tokenizer, max_length):
    enc = tokenizer([t for t, _ in rows], truncation=True, max_length=max_length)
    return [{"ids": ids, "label": label} for ids, (_, label) in zip(enc["input_ids"], rows)]


def encode_ner(sentences, tokenizer, max_length, label_ids):
    """Label on the first sub-word of each word, IGNORED on every other token.
    "first" maps each kept word to the position of that sub-word."""
    enc = tokenizer([w for w, _ in sentences], is_split_into_words=True, truncation=True,
                    max_length=max_length)
    examples = []
    for i, (words, tags) in enumerate(sentences):
        ids = enc["input_ids"][i]
        labels, first = [IGNORED] * len(ids), {}
        for position, word in enumerate(enc.word_ids(i)):
            if word is not None and word not in first:
                first[word] = position
                labels[position] = label_ids[tags[word]]
        examples.append({"ids": ids, "label": labels, "first": first, "tags": tags})
    return examples


def collate(batch, pad_id):
    """Pads to the longest example of the batch."""
    ids = [torch.tensor(e["ids"]) for e in batch]
    labels = [torch.tensor(e["label"]) for e in batch]
    return {"input_ids": pad_sequence(ids, True, pad_id),
            "attention_mask": pad_sequence([torch.ones_like(x) for x in ids], True),
            "labels": pad_sequence(labels, True, IGNORED) if labels[0].dim() else
            torch.stack(labels)}


@torch.inference_mode()
def predict(model, examples, batch_size, pad_id):
    """Arg-max class per example (CoLA) or per token (NER), in the order of examples."""
    model.eval()
    out = [None] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["ids"]))
    for start in range(0, len(order), batch_size):
        index = order[start:start + batch_size]
        batch = collate([examples[i] for i in index], pad_id)
        del batch["labels"]
        for i, best in zip(index, model(**batch).logits.argmax(-1).tolist()):
            out[i] = best
    return out


def score_cola(predicted, examples):
    from sklearn.metrics import accuracy_score, matthews_corrcoef
    gold = [e["label"] for e in examples]
    return {"matthews": float(matthews_corrcoef(gold, predicted)),
            "accuracy": float(accuracy_score(gold, predicted))}


def score_ner(predicted, examples, label_names):
    from seqeval.metrics import f1_score, precision_score, recall_score
    gold = [e["tags"] for e in examples]
    guess = [[label_names[p[e["first"][w]]] if w in e["first"] else "O"
              for w in range(len(e["tags"]))] for p, e in zip(predicted, examples)]
    with warnings.catch_warnings():  # an early epoch may predict no entity at all
        warnings.simplefilter("ignore")
        return {name: float(score(gold, guess)) for name, score in (
            ("precision", precision_score), ("recall", recall_score), ("f1", f1_score))}


def truncation_loss(examples):
    """Entities of which at least one word has no sub-word in the encoded sentence."""
    from seqeval.metrics.sequence_labeling import get_entities
    lost = [any(w not in e["first"] for w in range(start, end + 1))
            for e in examples for _, start, end in get_entities(e["tags"])]
    return {"sentences": len(examples), "entities": len(lost), "entities_lost": sum(lost)}


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(args.seed)  # classifier and LoRA initialisation, then dropout
    order = torch.Generator().manual_seed(args.seed)  # order of the training examples
    tokenizer = AutoTokenizer.from_pretrained(args.model, use_fast=True)
    pad_id = tokenizer.pad_token_id
    files = {"cola": {"train": "train.tsv", "dev": "dev.tsv"},
             "ner": {"train": "train.tsv", "dev": "devel.tsv", "test": "test.tsv"}}[args.task]
    read = read_cola if args.task == "cola" else read_ner
    raw = {k: read(os.path.join(args.data_dir, v)) for k, v in files.items()}
    raw["train"] = raw["train"][:args.limit_train or None]

    if args.task == "cola":
        label_names = ["0", "1"]
        sets = {k: encode_cola(v, tokenizer, args.max_length) for k, v in raw.items()}
        model_class, task_type = BertForSequenceClassification, TaskType.SEQ_CLS
    else:
        tags = {t for part in raw.values() for _, tags in part for t in tags}
        label_names = ["O"] + sorted(tags - {"O"})
        label_ids = {name: i for i, name in enumerate(label_names)}
        sets = {k: encode_ner(v, tokenizer, args.max_length, label_ids) for k, v in raw.items()}
        model_class, task_type = BertForTokenClassification, TaskType.TOKEN_CLS

    def evaluate(part):
        predicted = predict(model, sets[part], args.batch_size, pad_id)
        if args.task == "cola":
            return score_cola(predicted, sets[part])
        return score_ner(predicted, sets[part], label_names)

    model = model_class.from_pretrained(args.model, dtype=torch.float32,
                                        num_labels=len(label_names))
    model = get_peft_model(model, LoraConfig(  # the task type makes the classifier trainable
        task_type=task_type, r=args.rank, lora_alpha=args.alpha, lora_dropout=0.0,
        target_modules=["query", "value"]))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    groups = [{"params": [p for n, p in trained.items() if n.endswith("bias") == is_bias],
               "weight_decay": 0.0 if is_bias else WEIGHT_DECAY} for is_bias in (False, True)]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate)
    train = sets["train"]
    steps = args.epochs * math.ceil(len(train) / args.batch_size)
    warm_up = math.ceil(WARMUP_FRACTION * steps)
    schedule = get_linear_schedule_with_warmup(optimizer, warm_up, steps)
    per_epoch, seconds, tokens, padded = [], 0.0, 0, 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        started, loss_sum, batches = time.perf_counter(), 0.0, 0
        permutation = torch.randperm(len(train), generator=order).tolist()
        for start in range(0, len(train), args.batch_size):
            batch = collate([train[i] for i in permutation[start:start + args.batch_size]], pad_id)
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            loss_sum += loss.item()
            batches += 1
            tokens += int(batch["attention_mask"].sum())
            padded += batch["input_ids"].numel()
        seconds += time.perf_counter() - started
        per_epoch.append({"epoch": epoch, "train_loss": loss_sum / batches, **evaluate("dev")})
        print(json.dumps({**per_epoch[-1], "train_seconds_so_far": round(seconds, 1)}),
              file=sys.stderr, flush=True)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    result = {
        "tool": "transformers+peft LoRA", **{k: v for k, v in vars(args).items() if k != "out"},
        "versions": {m.__name__: str(m.__version__) for m in (torch, transformers, peft)},
        "train_examples": len(train), "steps": steps,
        "trainable_parameters": sum(p.numel() for p in trained.values()),
        "dev": {k: v for k, v in per_epoch[-1].items() if k not in ("epoch", "train_loss")},
        **({"test": evaluate("test")} if "test" in sets else {}),
        "per_epoch": per_epoch,
        "train_seconds": seconds,  # training steps only, evaluation excluded
        "tokens_per_second": tokens / seconds,  # padding not counted
        "padded_tokens_per_second": padded / seconds,
        "peak_memory_mib": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }
    if args.task == "ner":
        result["truncation"] = {k: truncation_loss(v) for k, v in sets.items()}
    # Only the last part of each path goes into the record.
    result["model"], result["data_dir"] = (os.path.basename(os.path.normpath(result[k]))
                                           for k in ("model", "data_dir"))
    with open(args.out, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
