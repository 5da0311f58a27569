"""What `autolora export` writes, loaded by transformers and PEFT; and PEFT's own adapters, read by the program.

    python tests/peers/test_export.py --program bin/autolora --tool build/release/tools/logits --model MODEL [-k WORD]

Each case trains a few steps on made-up data, at ranks that differ and are 0 in some modules, exports both forms, and
compares the program's logits for the dev split with those of the loaded models, one sequence at a time. The last case
makes an adapter with PEFT and lets the program start from it with a learning rate that changes nothing.
MODEL is a BERT checkpoint; the other families' are made here, tiny and random. Prints the largest differences;
exit 1 if one is above 1e-4.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import ByteLevelBPETokenizer
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification,
                          AutoTokenizer, GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaModel)

TOLERANCE = 1e-4
LABELS = ["O", "B-X", "I-X"]
CLASSES = {"cola": AutoModelForSequenceClassification, "ner": AutoModelForTokenClassification}


def sentences(count, seed):
    draw = random.Random(seed)
    words = "the a small large old cat dog house tree sees likes eats unbelievably 42 Berlin".split()
    return [[draw.choice(words) for _ in range(draw.randint(2, 20))] for _ in range(count)]


def write_data(folder, task):
    folder.mkdir()
    for split, count, seed in (("train", 40, 1), ("dev", 25, 2)):
        if task == "e2e":
            (folder / {"train": "train.txt", "dev": "valid.txt"}[split]).write_text(
                "".join(f"{words[0]} : {words[-1]}||{' '.join(words)}\n" for words in sentences(count, seed)))
            continue
        with open(folder / f"{split}.tsv", "w", encoding="utf-8") as out:
            for words in sentences(count, seed):
                if task == "cola":
                    out.write(f"x\t{int('cat' in words)}\t\t{' '.join(words)}\n")
                else:
                    out.writelines(f"{word}\t{LABELS[len(word) % 3]}\n" for word in words)
                    out.write("\n")


def make_roberta(folder):
    """A tiny random RoBERTa with a byte-level BPE vocabulary."""
    folder.mkdir()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([" ".join(words) for words in sentences(200, 3)], vocab_size=320, show_progress=False,
                                  special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.save_model(str(folder))
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=48, num_hidden_layers=3,
                           num_attention_heads=4, intermediate_size=96, max_position_embeddings=66, type_vocab_size=1,
                           initializer_range=0.3)
    RobertaModel(config).save_pretrained(folder)
    return folder


def make_gpt2(folder):
    """A tiny random GPT-2 with a byte-level BPE vocabulary."""
    folder.mkdir()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([" ".join(words) for words in sentences(200, 3)], vocab_size=320, show_progress=False,
                                  special_tokens=["<|endoftext|>"])
    tokenizer.save_model(str(folder))
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=64, n_embd=48, n_layer=3, n_head=4,
                        initializer_range=0.2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


class Case:
    def __init__(self, folder, arguments, model, task, targets=("query", "value")):
        self.folder, self.arguments, self.model, self.task = folder, arguments, model, task
        folder.mkdir()
        write_data(folder / "data", task)
        self.keys = {"model.path": str(model), "task.name": task, "task.data_dir": str(folder / "data"),
                     "task.max_length": 48, "adapter.rank": 4, "adapter.targets": list(targets),
                     "adapter.alpha": 24, "retrain.steps": 8, "optimizer.lr": 0.02, "optimizer.batch_size": 8}

    def run(self, name, **keys):
        """Trains; returns the run's folder."""
        output = self.folder / name
        root = {"run": {"name": name, "output_dir": str(output)}}
        for path, value in {**self.keys, **{key.replace("__", "."): value for key, value in keys.items()}}.items():
            section, _, key = path.partition(".")
            root.setdefault(section, {})[key] = value
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(root))
        subprocess.run([self.arguments.program, "run", path], check=True, stdout=subprocess.DEVNULL)
        return output

    def modules(self):
        """The names of the adapted modules: ranks.json of a run."""
        return list(json.loads((self.run("names", adapter__method="lora", retrain__steps=1) / "ranks.json").read_text()))

    def uneven_ranks(self):
        """Ranks that differ, 0 among them, and the file that holds them."""
        ranks = {module: [3, 0, 1, 5, 0, 2][i % 6] for i, module in enumerate(self.modules())}
        path = self.folder / "ranks.json"
        path.write_text(json.dumps(ranks))
        return ranks, str(path)

    def export(self, run, form):
        folder = self.folder / f"{run.name}-{form}"
        subprocess.run([self.arguments.program, "export", run, "--format", form, "--out", folder], check=True)
        return folder

    def examples(self, run):
        output = subprocess.run([self.arguments.tool, run], check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in output.splitlines()[2:]]

    def base(self, **how):
        return CLASSES[self.task].from_pretrained(self.model, attn_implementation="eager", **how)

    def num_labels(self):
        return 2 if self.task == "cola" else len(LABELS)


def difference(examples, model):
    model = model.eval()
    largest = 0.0
    with torch.no_grad():
        for example in examples:
            logits = model(input_ids=torch.tensor([example["ids"]])).logits.flatten().numpy()
            largest = max(largest, float(np.abs(logits - np.array(example["logits"])).max()))
    return largest


def spread(examples):
    """How far the logits of different examples are apart: a model that answers always the same proves little."""
    return float(np.std([example["logits"][:2] for example in examples], axis=0).max())


def report(name, found, examples):
    print(f"{name}: {len(examples)} examples, largest difference {found:.2e}, logits spread {spread(examples):.2g}")
    return found <= TOLERANCE and spread(examples) > 10 * TOLERANCE and len(examples) > 0


def check_exports(case, name, **keys):
    ranks, path = case.uneven_ranks()
    run = case.run("run", adapter__ranks_from=path, **keys)
    examples = case.examples(run)
    merged_folder, adapter_folder = case.export(run, "merged"), case.export(run, "peft")
    merged, loading = CLASSES[case.task].from_pretrained(merged_folder, attn_implementation="eager",
                                                         output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
    AutoTokenizer.from_pretrained(merged_folder)
    assert merged.config.architectures == [type(merged).__name__], merged.config.architectures
    assert merged.config.num_labels == case.num_labels()
    if case.task == "ner":
        assert merged.config.id2label == dict(enumerate(LABELS))
    good = report(f"{name}, merged", difference(examples, merged), examples)
    adapted = PeftModel.from_pretrained(case.base(num_labels=case.num_labels()), adapter_folder)
    found = {module.removeprefix("base_model.model."): layer.r["default"]
             for module, layer in adapted.named_modules() if hasattr(layer, "lora_A") and len(layer.lora_A) > 0}
    assert found == {module: rank for module, rank in ranks.items() if rank > 0}, found
    good = report(f"{name}, PEFT", difference(examples, adapted), examples) and good
    again = case.run("again", adapter__from=str(adapter_folder), optimizer__lr=1e-30)
    assert json.loads((again / "ranks.json").read_text()) == ranks
    again_examples = case.examples(again)
    same = max(float(np.abs(np.array(a["logits"]) - np.array(b["logits"])).max())
               for a, b in zip(examples, again_examples))
    return report(f"{name}, read back", same, again_examples) and good


def check_full(case, name, **keys):
    """All weights trained: there is a merged form only."""
    run = case.run("run", adapter__method="full", **{"optimizer__lr": 1e-3, **keys})
    examples = case.examples(run)
    merged, loading = CLASSES[case.task].from_pretrained(case.export(run, "merged"), attn_implementation="eager",
                                                         output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
    base = case.base(num_labels=case.num_labels()).state_dict()
    unmoved = [key for key, values in merged.state_dict().items() if torch.equal(values, base[key])]
    assert all(key.endswith("position_ids") for key in unmoved), unmoved
    return report(name, difference(examples, merged), examples)


def language_loss(case, model, end):
    """Mean loss of the completions' tokens on the dev split, computed by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(case.model)
    total, count = 0.0, 0
    with torch.no_grad():
        for line in (case.folder / "data" / "valid.txt").read_text().splitlines():
            context, completion = line.split("||")
            context = [*tokenizer.encode(context), end]
            ids = [*context, *tokenizer.encode(" " + completion), end]
            logits = model.eval()(input_ids=torch.tensor([ids])).logits[0, len(context) - 1:-1]
            target = torch.tensor(ids[len(context):])
            total += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
            count += len(target)
    return total / count


def check_generation(case, name):
    """GPT-2: query and value adapters become one on c_attn. The program's loss is compared; its logits are never whole."""
    case.keys["task.max_new_tokens"] = 4
    ranks, path = case.uneven_ranks()
    run = case.run("run", adapter__ranks_from=path)
    expected = json.loads((run / "result.json").read_text())["metrics"]["dev"]["loss"]
    end = AutoTokenizer.from_pretrained(case.model).convert_tokens_to_ids("<|endoftext|>")
    merged = AutoModelForCausalLM.from_pretrained(case.export(run, "merged"))
    adapter = case.export(run, "peft")
    base = AutoModelForCausalLM.from_pretrained(case.model)
    untrained = language_loss(case, base, end)
    adapted = PeftModel.from_pretrained(base, adapter)
    found = {module.removeprefix("base_model.model."): layer.r["default"]
             for module, layer in adapted.named_modules() if hasattr(layer, "lora_A") and len(layer.lora_A) > 0}
    sums = {}
    for module, rank in ranks.items():
        fused = module.rpartition(".")[0]
        sums[fused] = sums.get(fused, 0) + rank
    assert found == {module: rank for module, rank in sums.items() if rank > 0}, (found, sums)
    again = case.run("again", adapter__from=str(adapter), optimizer__lr=1e-30)
    assert json.loads((again / "ranks.json").read_text()) == ranks
    losses = {"merged": language_loss(case, merged, end), "PEFT": language_loss(case, adapted, end),
              "read back": json.loads((again / "result.json").read_text())["metrics"]["dev"]["loss"]}
    for form, loss in losses.items():
        print(f"{name}, {form}: loss {loss:.6f}, the program's {expected:.6f}, before training {untrained:.6f}")
    return abs(untrained - expected) > 100 * TOLERANCE and all(abs(loss - expected) <= TOLERANCE
                                                               for loss in losses.values())


def check_adapter_of_peft(case, name):
    """PEFT's adapter with several ranks, alphas, rsLoRA and a task head."""
    good = True
    for rslora in (False, True):
        torch.manual_seed(5)
        config = LoraConfig(task_type="SEQ_CLS" if case.task == "cola" else "TOKEN_CLS", r=3, lora_alpha=12,
                            target_modules=["query", "value"], rank_pattern={"layer.1.attention.self.value": 6},
                            alpha_pattern={"layer.0.attention.self.query": 5.5}, use_rslora=rslora)
        model = get_peft_model(case.base(num_labels=case.num_labels()), config)
        for key, values in model.named_parameters():
            if "lora_B" in key or "modules_to_save" in key:
                torch.nn.init.normal_(values, std=0.1)
        folder = case.folder / f"peft-{rslora}"
        model.save_pretrained(folder)
        run = case.run(f"from-{rslora}", adapter__from=str(folder), optimizer__lr=1e-30)
        ranks = json.loads((run / "ranks.json").read_text())
        assert sorted(set(ranks.values())) == [3, 6], ranks
        examples = case.examples(run)
        good = report(f"{name}, rsLoRA {rslora}", difference(examples, model), examples) and good
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("-k", default="")
    arguments = parser.parse_args()
    every = ("query", "key", "value", "attention_output", "intermediate", "output")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        roberta = make_roberta(folder / "roberta")

        def case(name, *how):
            return Case(folder / name.replace(" ", "-"), arguments, *how)

        checks = {
            "BERT classification": lambda name: check_exports(case(name, arguments.model, "cola"), name),
            "BERT labelling, every projection": lambda name: check_exports(
                case(name, arguments.model, "ner", every), name, retrain__scaling="alpha_over_k"),
            "RoBERTa classification": lambda name: check_exports(case(name, roberta, "cola"), name),
            "RoBERTa labelling": lambda name: check_exports(case(name, roberta, "ner"), name),
            "BERT full": lambda name: check_full(case(name, arguments.model, "cola"), name),
            "RoBERTa full": lambda name: check_full(case(name, roberta, "ner"), name),
            "RoBERTa full from a random start": lambda name: check_full(case(name, roberta, "ner"), name,
                                                                        model__init="random", optimizer__lr=0.02),
            "GPT-2 generation": lambda name: check_generation(
                case(name, make_gpt2(folder / "gpt2"), "e2e"), name),
            "PEFT classification": lambda name: check_adapter_of_peft(case(name, arguments.model, "cola"), name),
            "PEFT labelling": lambda name: check_adapter_of_peft(case(name, roberta, "ner"), name),
        }
        results = [check(name) for name, check in checks.items() if arguments.k in name]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
