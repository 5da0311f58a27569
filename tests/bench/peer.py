#!/usr/bin/env python3
"""The same work in PyTorch: a command of JSON a line on standard input, an answer of JSON a line.

  {"do": "open", "kind": KIND, "model": DIR, "factors": FILE, "threads": N, ...}    -> {"seconds": ...}
  {"do": "step", "batches": [[[ids], [labels]], ...]}                  -> {"seconds": ..., "losses": [...]}
  {"do": "generate", "contexts": [[ids], ...], ...}                    -> {"seconds": ..., "tokens": [[...], ...]}
  {"do": "memory"}                                                     -> {"resident_peak": bytes}

KIND is
  lora      transformers with PEFT, rank 8 on query and value, the task head trained; one step of AdamW a batch
  autolora  the AutoLoRA authors' iteration on batches (training, validation), written plainly: a look-ahead step; both
            gradients of the validation loss, one after the other; the central difference of the training loss along
            the second; the look-ahead taken back; the selection's step; the factors' step again: 5 passes forward,
            6 backward
  gpt2      generation by beam search

Batches are padded to their longest sequence. `factors` are those that the program started from (probe.c), so that both
sides compute the same losses. Needs: torch, transformers, peft.
"""
import json
import os
import resource
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
clock = time.process_time if "AUTOLORA_PROBE_CPU" in os.environ else time.perf_counter
START = clock()

import torch  # noqa: E402
import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
ALPHA, RANK = 16.0, 8
RADIUS = 0.01


def read_factors(path):
    """{name: tensor} as the program has them: B is [rank, out]."""
    with open(path, "rb") as file:
        entries = []
        while (line := file.readline().strip()):
            entries.append(json.loads(line))
        values = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    found, at = {}, 0
    for entry in entries:
        count = entry["rows"] * entry["columns"]
        found[entry["name"]] = values[at:at + count].reshape(entry["rows"], entry["columns"]).clone()
        at += count
    return found


def collate(examples, pad):
    """A padded batch; labels of tokens are padded with -100."""
    longest = max(len(ids) for ids, _ in examples)
    of_tokens = any(len(labels) != 1 for _, labels in examples)
    batch = {"input_ids": torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in examples]),
             "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in examples])}
    batch["labels"] = torch.tensor([labels + [-100] * (longest - len(labels)) if of_tokens else labels[0]
                                    for _, labels in examples])
    return batch


def load(command):
    kind = (transformers.AutoModelForTokenClassification if command.get("task") == "ner"
            else transformers.AutoModelForSequenceClassification)
    dropout = command.get("dropout", 0.0)
    return kind.from_pretrained(command["model"], num_labels=command["labels"], dtype=torch.float32,
                                hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
                                classifier_dropout=dropout)


def set_tensor(target, value):
    with torch.no_grad():
        target.copy_(value.reshape(target.shape))


class Lora:
    def __init__(self, command):
        import peft
        task = peft.TaskType.TOKEN_CLS if command.get("task") == "ner" else peft.TaskType.SEQ_CLS
        self.model = peft.get_peft_model(load(command), peft.LoraConfig(
            task_type=task, r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["query", "value"]))
        self.trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.start(read_factors(command["factors"]))
        groups = [{"params": [value for name, value in self.trained.items() if name.endswith("bias") == is_bias],
                   "weight_decay": 0.0 if is_bias else 0.01} for is_bias in (False, True)]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4)
        self.model.train()

    def start(self, factors):
        for name, target in self.trained.items():
            plain = name.replace("base_model.model.", "").replace(".modules_to_save.default", "")
            for part in ("lora_A", "lora_B"):
                plain = plain.replace(f".{part}.default.weight", f".{part}")
            value = factors.pop(plain)
            set_tensor(target, value.T if plain.endswith("lora_B") else value)
        assert not factors, f"not there: {sorted(factors)}"

    def step(self, batches):
        loss = self.model(**batches[0]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return [loss.item()]


class Adapted(torch.nn.Module):
    """y = x W0^T + b + s ((x A^T) * softmax(a)) B^T"""

    def __init__(self, base, a, b):
        super().__init__()
        self.base = base
        self.lora_A, self.lora_B = torch.nn.Parameter(a), torch.nn.Parameter(b.T.contiguous())
        self.selection = torch.nn.Parameter(torch.ones(a.shape[0]))

    def forward(self, x):
        h = torch.nn.functional.linear(x, self.lora_A) * torch.softmax(self.selection, 0)
        return self.base(x) + (ALPHA / RANK) * torch.nn.functional.linear(h, self.lora_B)


class AutoLora:
    def __init__(self, command):
        self.model = load(command).requires_grad_(False)
        factors = read_factors(command["factors"])
        for name in [name[:-len(".lora_A")] for name in factors if name.endswith(".lora_A")]:
            parent, child = name.rsplit(".", 1)
            owner = self.model.get_submodule(parent)
            setattr(owner, child, Adapted(getattr(owner, child), factors[f"{name}.lora_A"], factors[f"{name}.lora_B"]))
        parameters = dict(self.model.named_parameters())
        for name, value in factors.items():
            if ".lora_" not in name:
                set_tensor(parameters[name].requires_grad_(), value)
        self.selection = [value for name, value in parameters.items() if name.endswith(".selection")]
        self.factors = [value for name, value in parameters.items()
                        if value.requires_grad and not name.endswith(".selection")]
        self.optimizer = torch.optim.AdamW(self.factors, lr=1e-4, weight_decay=0.01)
        self.selection_optimizer = torch.optim.Adam(self.selection, lr=3e-4, betas=(0.5, 0.999))
        self.model.train()

    def loss(self, batch):
        return self.model(**batch).loss

    def step_factors(self, batch):
        loss = self.loss(batch)
        for value, gradient in zip(self.factors, torch.autograd.grad(loss, self.factors)):
            value.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.factors, 1.0)
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def move(self, direction, factor):
        for value, part in zip(self.factors, direction):
            value.add_(part, alpha=factor)

    def kept(self):
        moments = {value: {key: item.clone() for key, item in self.optimizer.state[value].items()}
                   for value in self.factors if value in self.optimizer.state}
        return [value.detach().clone() for value in self.factors], moments

    @torch.no_grad()
    def restore(self, kept):
        for value, old in zip(self.factors, kept[0]):
            value.copy_(old)
        self.optimizer.state.clear()
        self.optimizer.state.update(kept[1])

    def step(self, batches):
        train, validation = batches
        kept = self.kept()
        loss_train = self.step_factors(train)                                           # 1 forward, 1 backward
        loss = self.loss(validation)                                                    # 1 forward
        direct = torch.autograd.grad(loss, self.selection, retain_graph=True)           # 1 backward
        direction = torch.autograd.grad(loss, self.factors)                             # 1 backward
        norm = torch.sqrt(sum((part * part).sum() for part in direction)).item()
        step = RADIUS / norm
        self.move(direction, step)
        above = torch.autograd.grad(self.loss(train), self.selection)                   # 1 forward, 1 backward
        self.move(direction, -2 * step)
        below = torch.autograd.grad(self.loss(train), self.selection)                   # 1 forward, 1 backward
        for value, first, up, down in zip(self.selection, direct, above, below):
            value.grad = first - (up - down) / (2 * step)
        self.restore(kept)
        self.selection_optimizer.step()
        self.step_factors(train)                                                        # 1 forward, 1 backward
        return [loss_train, loss.item()]


class Gpt2:
    def __init__(self, command):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(command["model"], dtype=torch.float32).eval()

    @torch.no_grad()
    def generate(self, command):
        contexts = torch.tensor(command["contexts"])
        out = self.model.generate(
            contexts, attention_mask=torch.ones_like(contexts), num_beams=command["beams"], do_sample=False,
            max_new_tokens=command["tokens"], length_penalty=2.0, early_stopping=False, pad_token_id=0,
            no_repeat_ngram_size=command.get("no_repeat", 0))
        return out[:, contexts.shape[1]:].tolist()


KINDS = {"lora": Lora, "autolora": AutoLora, "gpt2": Gpt2}


def main():
    side = None
    for line in sys.stdin:
        command = json.loads(line)
        answer = {}
        if command["do"] == "open":
            torch.set_num_threads(command["threads"])
            torch.manual_seed(1)
            side = KINDS[command["kind"]](command)
            answer["seconds"] = clock() - START
        elif command["do"] == "step":
            start = clock()
            losses = side.step([collate(batch, pad=1) for batch in command["batches"]])
            answer.update(seconds=clock() - start, losses=losses)
        elif command["do"] == "generate":
            start = clock()
            tokens = side.generate(command)
            answer.update(seconds=clock() - start, tokens=tokens)
        elif command["do"] == "memory":
            answer["resident_peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
