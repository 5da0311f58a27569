"""Gradients of methods that train more than LoRA's factors: all weights (full), bottleneck adapters (adapter).

One file a model case of model_cases, with its checkpoint, training batch and task head.
"""

import torch
from torch.nn.functional import gelu

import model_cases
from autolora_reference import mean_loss
from families import FAMILIES
from stored import uniform, write_tensors

FULL_CASES = ("bert-sequence", "bert-token", "roberta-sequence", "roberta-token", "gpt2-language")
ADAPTER_CASES = ("bert-sequence", "roberta-token", "gpt2-language")
BOTTLENECK = 5
# After the output projections of the attention and of the feed-forward part, by family.
ADAPTED = {"bert": ("attention.output.dense", "output.dense"), "gpt2": ("attn.c_proj", "mlp.c_proj")}
ADAPTED["roberta"] = ADAPTED["bert"]
NORMS = ("attention.output.LayerNorm", ".output.LayerNorm", ".ln_1", ".ln_2")


class Bottleneck(torch.nn.Module):
    """h + up(gelu(down(h))) behind a projection (Houlsby et al. 2019)."""

    def __init__(self, base, width, key):
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(width, BOTTLENECK)
        self.up = torch.nn.Linear(BOTTLENECK, width)
        with torch.no_grad():
            for part in ("down", "up"):
                for field, parameter in getattr(self, part).named_parameters():
                    parameter.copy_(uniform(f"{key}.adapter.{part}.{field}", tuple(parameter.shape), 0.3))

    def forward(self, x):
        h = self.base(x)
        return h + self.up(gelu(self.down(h)))


def build(name):
    case = model_cases.CASES[name]
    return case, model_cases.build_model(case, name)


def run(case, model, batch):
    """(loss, logits) of the packed batch, one sequence at a time."""
    rows = []
    offsets = batch["offsets"].tolist()
    for begin, end in zip(offsets[:-1], offsets[1:]):
        inputs = {"input_ids": batch["input_ids"][None, begin:end],
                  "attention_mask": torch.ones(1, end - begin, dtype=torch.int64)}
        if case.family != "gpt2":
            inputs["token_type_ids"] = batch["token_type_ids"][None, begin:end]
        logits = model(**inputs).logits
        rows.append(logits if case.task == "sequence_classification" else logits[0])
    logits = torch.cat(rows)
    return mean_loss(logits, batch), logits


def gradients(case, model, names, batch):
    """Loss and {name: gradient} of some parameters."""
    parameters = {name: value for name, value in model.named_parameters() if name in names}
    loss, _ = run(case, model, batch)
    slopes = torch.autograd.grad(loss, list(parameters.values()))
    return loss, {f"grad.{name}": slope for name, slope in zip(parameters, slopes)}


def full_tensors(name):
    case, model = build(name)
    model = model.double().eval()
    batch = model_cases.build_batch(case, name, "train")
    loss, slopes = gradients(case, model, [parameter for parameter, _ in model.named_parameters()], batch)
    return {"loss": loss.reshape(1)} | slopes | head_values(case, model)


def head_values(case, model):
    return {f"value.{name}": model.state_dict()[name] for name in FAMILIES[case.family].heads[case.task]}


def adapter_tensors(name):
    """Tensors of the adapters are named "<projection>.adapter.down.weight"; norms keep their names."""
    case, model = build(name)
    width = case.sizes.get("hidden_size") or case.sizes["n_embd"]
    layers = case.sizes.get("num_hidden_layers") or case.sizes["n_layer"]
    for layer in range(layers):
        for projection in ADAPTED[case.family]:
            path = f"{FAMILIES[case.family].layer.format(layer=layer)}.{projection}"
            parent, child = path.rsplit(".", 1)
            owner = model.get_submodule(parent)
            setattr(owner, child, Bottleneck(getattr(owner, child), width, path))
    model = model.double().eval()
    block = FAMILIES[case.family].layer.split("{")[0]
    names = [parameter for parameter, _ in model.named_parameters()
             if parameter in FAMILIES[case.family].heads[case.task]
             or (parameter.startswith(block)
                 and (".down." in parameter or ".up." in parameter or any(norm in parameter for norm in NORMS)))]
    batch = model_cases.build_batch(case, name, "train")
    loss, slopes = gradients(case, model, names, batch)

    def stored_name(parameter):
        for part in (".down.", ".up."):
            parameter = parameter.replace(part, f".adapter{part}")
        return parameter

    values = {f"value.{stored_name(n)}": value for n, value in model.named_parameters() if n in names}
    return {"loss": loss.reshape(1)} | values | {stored_name(n): slope for n, slope in slopes.items()}


def write_full(folder):
    for name in FULL_CASES:
        write_tensors(folder / f"{name}.safetensors", full_tensors(name))


def write_adapter(folder):
    for name in ADAPTER_CASES:
        write_tensors(folder / f"{name}.safetensors", adapter_tensors(name))
