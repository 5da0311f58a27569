"""Fixtures of whole models: checkpoint, batches, parameters and what AutoLoRA makes of them."""

import json
from dataclasses import dataclass

import torch

from autolora_reference import (CONSTRAINTS, FINITE_DIFFERENCE_RADIUS, IGNORED_LABEL, AdaptedModel, Bilevel,
                                plain_gradients)
from families import FAMILIES
from stored import stream, uniform, write_json, write_tensors

LENGTHS = {"train": (7, 2, 12, 5, 3, 9), "validation": (4, 11, 2, 8, 6)}
QUERY_VALUE = ("attention.self.query", "attention.self.value")


@dataclass(frozen=True)
class Case:
    """One fixture folder.

    sizes: arguments of the family's configuration.      plain_ranks: rank of every adapted module in order.
    dtype: type of the stored weights.                   old_names: no prefix, LayerNorm.gamma / .beta.
    weights_of: the case whose random values are used (None: its own).
    forward_only: no gradients, no hypergradients, no plain LoRA.
    """

    family: str
    task: str
    labels: int
    sizes: dict
    targets: tuple
    k: int
    lora_alpha: float
    plain_ranks: tuple = ()
    eta: float = 0.05
    dtype: torch.dtype = torch.float32
    old_names: bool = False
    weights_of: str = None
    forward_only: bool = False


def _sequence_case(**changes):
    fields = dict(
        family="bert",
        task="sequence_classification",
        labels=3,
        sizes=dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=3,
                   vocab_size=50, max_position_embeddings=32, type_vocab_size=2),
        targets=QUERY_VALUE,
        k=4,
        lora_alpha=8.0,
        plain_ranks=(4, 1, 0, 2, 3, 1),
    )
    return Case(**{**fields, **changes})


CASES = {
    "bert-sequence": _sequence_case(),
    "bert-token": Case(
        family="bert",
        task="token_classification",
        labels=5,
        sizes=dict(hidden_size=16, num_attention_heads=2, intermediate_size=28, num_hidden_layers=2,
                   vocab_size=50, max_position_embeddings=32, type_vocab_size=2),
        targets=FAMILIES["bert"].projections,
        k=3,
        lora_alpha=6.0,
        plain_ranks=(3, 1, 2, 0, 2, 1, 1, 3, 2, 1, 3, 2),
        old_names=True,
    ),
    "bert-regression": _sequence_case(task="regression", labels=1, weights_of="bert-sequence"),
    "roberta-sequence": _sequence_case(
        family="roberta",
        sizes=dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=3,
                   vocab_size=50, max_position_embeddings=34, type_vocab_size=1),
    ),
    "roberta-token": Case(
        family="roberta",
        task="token_classification",
        labels=5,
        sizes=dict(hidden_size=16, num_attention_heads=2, intermediate_size=28, num_hidden_layers=2,
                   vocab_size=50, max_position_embeddings=34, type_vocab_size=1),
        targets=QUERY_VALUE,
        k=3,
        lora_alpha=6.0,
        plain_ranks=(3, 1, 0, 2),
    ),
    "gpt2-language": Case(
        family="gpt2",
        task="language_modeling",
        labels=50,
        sizes=dict(n_embd=16, n_head=2, n_inner=28, n_layer=3, vocab_size=50, n_positions=32),
        targets=FAMILIES["gpt2"].projections,
        k=3,
        lora_alpha=6.0,
        plain_ranks=(3, 1, 2, 0, 2, 1, 1, 3, 2, 1, 3, 2, 2, 0, 1, 1, 2, 3),
        old_names=True,
    ),
    "bert-f16": _sequence_case(dtype=torch.float16, weights_of="bert-sequence", forward_only=True),
    "bert-bf16": _sequence_case(dtype=torch.bfloat16, weights_of="bert-sequence", forward_only=True),
}


def build_model(case, key):
    """A model with random values everywhere, biases and LayerNorm included.

    What goes into the checkpoint is already rounded to case.dtype; the task head is not.
    Standard deviation 0.2 puts the attention weights and gelu well outside their trivial regimes.
    """
    family = FAMILIES[case.family]
    config = family.config(case.sizes, case.labels)
    config._attn_implementation = "eager"  # the fused kernels cannot be differentiated twice
    model = family.models[case.task](config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "LayerNorm" in name or ".ln_" in name
            mean = 1.0 if is_norm and name.endswith(".weight") else 0.0
            value = uniform(f"{key}/{name}", tuple(parameter.shape), 0.2, mean)
            parameter.copy_(value if name in family.heads[case.task] else value.to(case.dtype))
    return model


def write_checkpoint(case, model, folder):
    """config.json and model.safetensors without the task head, as a pretrained model is published."""
    family = FAMILIES[case.family]
    tensors = {name: value.to(case.dtype) for name, value in model.state_dict().items()
               if name not in family.heads[case.task] + family.left_out}
    if case.old_names:
        renamed = {}
        for name, value in tensors.items():
            name = name.removeprefix(family.prefix)
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            renamed[name] = value
        tensors = renamed
        # A buffer that old checkpoints carry and that a reader has to pass over.
        tensors["embeddings.position_ids"] = torch.arange(32)[None]
    write_tensors(folder / "model.safetensors", tensors)

    config = json.loads(model.config.to_json_string(use_diff=False))
    kept = (*family.config_keys, *case.sizes)
    values = {name: config[name] for name in kept}
    values["architectures"] = [type(model).__name__]
    values["torch_dtype"] = str(case.dtype).removeprefix("torch.")
    write_json(folder / "config.json", dict(sorted(values.items())))


def build_batch(case, key, name):
    """A packed batch: input_ids [T], token_type_ids [T], offsets [S + 1], labels [S] or [T]; all int64. A regression
    has targets [S], float32, and labels 0.

    Sequence task: the second half of every sequence has token type 1.  Token task: token type 0 throughout;
    the first and the last token of a sequence and about a quarter of the others have the label -100, so
    a sequence of two tokens has no label at all.  Language modelling: the next token's id, for the later part
    of every sequence.
    """
    lengths = torch.tensor(LENGTHS[name])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    T = int(offsets[-1])
    first_id = FAMILIES[case.family].first_id
    ids = torch.from_numpy(stream(f"{key}/{name}.input_ids").randint(first_id, case.sizes["vocab_size"], T))
    types = torch.zeros(T, dtype=torch.int64)
    draw = stream(f"{key}/{name}.labels")
    if case.task == "token_classification":
        labels = torch.from_numpy(draw.randint(0, case.labels, T))
        labels[torch.from_numpy(draw.random_sample(T) < 0.25)] = IGNORED_LABEL
        labels[offsets[:-1]] = IGNORED_LABEL
        labels[offsets[1:] - 1] = IGNORED_LABEL
    elif case.task == "language_modeling":
        labels = torch.full((T,), IGNORED_LABEL)
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
            first = begin + draw.randint(0, max(1, (end - begin) // 2))
            labels[first:end - 1] = ids[first + 1:end]
    else:
        labels = torch.from_numpy(draw.randint(0, case.labels, len(lengths)))
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
            types[(begin + end + 1) // 2:end] = case.sizes["type_vocab_size"] - 1
    if case.task == "regression":
        targets = {"targets": uniform(f"{key}/{name}.targets", (len(lengths),), 1.5, 2.5)}
    else:
        targets = {}
    return {"input_ids": ids.long(), "token_type_ids": types, "offsets": offsets, "labels": labels.long()} | targets


def build_parameters(case, key, network):
    """(W, a) in float32: factors with non-zero B, task head, selection logits."""
    W, a = {}, {}
    for name in network.modules:
        d_out, d_in = network.sizes[name]
        W[f"lora_A.{name}"] = uniform(f"{key}/lora_A.{name}", (case.k, d_in), 0.3)
        W[f"lora_B.{name}"] = uniform(f"{key}/lora_B.{name}", (d_out, case.k), 0.3)
        a[f"selection_logits.{name}"] = uniform(f"{key}/selection_logits.{name}", (case.k,), 1.0)
    state = network.model.state_dict()
    for name in FAMILIES[case.family].heads[case.task]:
        W[name] = state[name].float()
    return W, a


def build_plain_parameters(case, key, network, W):
    """Factors of plain LoRA with case.plain_ranks (none where the rank is 0) and the same task head."""
    plain = {}
    for name, rank in zip(network.modules, case.plain_ranks, strict=True):
        d_out, d_in = network.sizes[name]
        if rank > 0:
            plain[f"lora_A.{name}"] = uniform(f"{key}/plain.lora_A.{name}", (rank, d_in), 0.3)
            plain[f"lora_B.{name}"] = uniform(f"{key}/plain.lora_B.{name}", (d_out, rank), 0.3)
    return plain | {name: W[name] for name in FAMILIES[case.family].heads[case.task]}


def hypergradient_tensors(problem, W, a, constraint):
    """hypergradient.<constraint>.* of one case; the paper's recipe is verified against the total derivative."""
    v, recipes = problem.hypergradients(W, a)
    total = problem.total_derivative(W, a)
    for name, value in total.items():
        torch.testing.assert_close(recipes["paper"]["exact"][name], value, rtol=1e-9, atol=1e-11)

    tensors = {f"hypergradient.{constraint}.v.{name}": value for name, value in v.items()}
    for recipe, modes in recipes.items():
        for mode, values in modes.items():
            for name, value in values.items():
                module = name.removeprefix("selection_logits.")
                tensors[f"hypergradient.{constraint}.{recipe}.{mode}.{module}"] = value
    return tensors


def write_case(name, folder):
    """Write one case into an existing folder."""
    case = CASES[name]
    key = case.weights_of or name
    family = FAMILIES[case.family]
    model = build_model(case, key)
    write_checkpoint(case, model, folder)

    layers = case.sizes["n_layer"] if case.family == "gpt2" else case.sizes["num_hidden_layers"]
    modules = family.module_names(layers, case.targets)
    network = AdaptedModel(model, modules, per_token=case.task not in ("sequence_classification", "regression"))
    batches = {batch: build_batch(case, key, batch) for batch in LENGTHS}
    W, a = build_parameters(case, key, network)

    tensors = {f"{batch}.{field}": value for batch, fields in batches.items() for field, value in fields.items()}
    tensors |= {f"parameters.{field}": value for field, value in (W | a).items()}

    W = {field: value.double() for field, value in W.items()}
    a = {field: value.double() for field, value in a.items()}
    for constraint in CONSTRAINTS:
        problem = Bilevel(network, batches["train"], batches["validation"], constraint, case.lora_alpha, case.eta)
        for batch, fields in batches.items():
            loss, logits, slope = problem.gradients(W, a, fields)
            tensors[f"{constraint}.{batch}.logits"] = logits
            tensors[f"{constraint}.{batch}.loss"] = loss.reshape(1)
            if batch == "train" and not case.forward_only:
                tensors |= {f"{constraint}.train.grad.{field}": value for field, value in slope.items()}
        if not case.forward_only:
            tensors |= hypergradient_tensors(problem, W, a, constraint)

    if not case.forward_only:
        plain = build_plain_parameters(case, key, network, W)
        loss, logits, slope = plain_gradients(network, {field: value.double() for field, value in plain.items()},
                                              batches["train"], case.lora_alpha)
        tensors["plain.ranks"] = torch.tensor(case.plain_ranks)
        tensors |= {f"plain.{field}": value for field, value in plain.items() if field.startswith("lora_")}
        tensors["plain.train.loss"] = loss.reshape(1)
        tensors["plain.train.logits"] = logits
        tensors |= {f"plain.train.grad.{field}": value for field, value in slope.items()}
    write_tensors(folder / "reference.safetensors", tensors)

    write_json(folder / "reference.json", {
        "family": case.family,
        "task": case.task,
        "number_of_labels": case.labels,
        "k": case.k,
        "lora_alpha": case.lora_alpha,
        "eta": case.eta,
        "finite_difference_radius": FINITE_DIFFERENCE_RADIUS,
        "constraints": list(CONSTRAINTS),
        "modules": [{"name": module, "d_in": d_in, "d_out": d_out} for module, (d_out, d_in) in network.sizes.items()],
    })
