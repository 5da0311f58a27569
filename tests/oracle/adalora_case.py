"""AdaLoRA as the peft package trains it: losses, gradients, importance scores and what is masked, step by step.

The model and the batch are those of the folder bert-sequence. The same batch is trained on in every step.
"""

import warnings

import torch
from peft import AdaLoraConfig, AdaLoraModel

from model_cases import CASES, build_batch, build_model
from families import FAMILIES
from stored import uniform, write_json, write_tensors

MODEL = "bert-sequence"
STEPS, WARMUP, FINAL, EVERY = 16, 2, 4, 3
INITIAL_RANK, TARGET_RANK, LORA_ALPHA = 6, 2, 12
BETA1, BETA2, ORTHOGONALITY = 0.85, 0.7, 0.3
ADAMW = dict(lr=0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
CLIP_NORM = 0.45
GRADIENTS_AT = (0, 1, 5)
KINDS = ("lora_A", "lora_B", "lora_E")


def padded(batch):
    """The packed batch as one padded one with its attention mask."""
    offsets = batch["offsets"].tolist()
    lengths = [end - begin for begin, end in zip(offsets[:-1], offsets[1:])]
    shape = (len(lengths), max(lengths))
    inputs = {name: torch.zeros(shape, dtype=torch.int64)
              for name in ("input_ids", "token_type_ids", "attention_mask")}
    for row, (begin, length) in enumerate(zip(offsets, lengths)):
        inputs["input_ids"][row, :length] = batch["input_ids"][begin:begin + length]
        inputs["token_type_ids"][row, :length] = batch["token_type_ids"][begin:begin + length]
        inputs["attention_mask"][row, :length] = 1
    return inputs | {"labels": batch["labels"]}


def build(case, modules):
    """(peft's model, {our name: trained parameter}) in double precision."""
    config = AdaLoraConfig(
        init_r=INITIAL_RANK, target_r=TARGET_RANK, tinit=WARMUP, tfinal=FINAL, deltaT=EVERY, beta1=BETA1, beta2=BETA2,
        orth_reg_weight=ORTHOGONALITY, total_step=STEPS, lora_alpha=LORA_ALPHA, lora_dropout=0.0,
        target_modules=modules)
    model = AdaLoraModel(build_model(case, MODEL), config, "default").double().eval()
    parameters = {}
    for name, parameter in model.model.named_parameters():
        if "ranknum" in name:
            parameter.data -= 1e-5  # peft divides by ranknum + 1e-5: now the scale is lora_alpha / rank
        kind = next((kind for kind in KINDS if f".{kind}." in name), None)
        if kind is not None:
            name = f"{kind}.{name.split(f'.{kind}.')[0]}"
            if kind != "lora_E":
                parameter.data = uniform(f"adalora/{name}", tuple(parameter.shape), 0.2).double()
            parameters[name] = parameter
        elif name in FAMILIES[case.family].heads[case.task]:
            parameters[name] = parameter.requires_grad_()
    return model, parameters


def importance(allocator, modules):
    """Scores of all components [modules, rank], composed as the allocator composes them."""
    rows = []
    for module in modules:
        part = {kind: allocator._element_score(f"{module}.{kind}.default") for kind in KINDS}
        means = torch.stack([part["lora_A"].mean(dim=1), part["lora_B"].mean(dim=0)], dim=1)
        rows.append(allocator._combine_ipt(part["lora_E"], means))
    return torch.stack(rows)


def check_gap(scores, budget):
    """The masks must not hang on rounding."""
    ordered = scores.flatten().sort(descending=True).values
    if budget < len(ordered):
        assert ordered[budget - 1] > 1.001 * ordered[budget], "scores too close at the threshold"


def write_case(folder):
    warnings.filterwarnings("ignore", module="peft")
    case = CASES[MODEL]
    modules = FAMILIES[case.family].module_names(case.sizes["num_hidden_layers"], case.targets)
    model, parameters = build(case, modules)
    allocator = model.rankallocator
    inputs = padded(build_batch(case, MODEL, "train"))
    optimizer = torch.optim.AdamW(parameters.values(), **ADAMW)

    tensors = {f"parameters.{name}": value for name, value in parameters.items()}
    tensors = {name: value.detach().clone().squeeze(-1) if "lora_E" in name else value.detach().clone()
               for name, value in tensors.items()}
    losses, norms, budgets, singular_values, scores = [], [], [], [], []
    for step in range(STEPS):
        loss = model(**inputs).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP_NORM).detach())
        losses.append(loss.detach())
        if step in GRADIENTS_AT:  # before clipping again
            unclipped = max(1.0, (norms[-1].item() + 1e-6) / CLIP_NORM)
            tensors |= {f"step{step}.grad.{name}": value.grad.squeeze(-1) * unclipped if "lora_E" in name
                        else value.grad * unclipped for name, value in parameters.items()}
        optimizer.step()
        budgets.append(allocator.budget_schedule(step)[0])
        model.update_and_allocate(step)
        if step < STEPS - FINAL:
            scores.append(importance(allocator, modules))
            check_gap(scores[-1], budgets[-1])
        optimizer.zero_grad()
        singular_values.append(torch.stack([parameters[f"lora_E.{module}"].detach().squeeze(-1) for module in modules]))

    write_tensors(folder / "reference.safetensors", tensors | {
        "loss": torch.stack(losses),
        "gradient_norm": torch.stack(norms),
        "budget": torch.tensor(budgets),
        "lora_E": torch.stack(singular_values),
        "importance": torch.stack(scores),
    } | {f"trained.{name}": value.detach().squeeze(-1) if "lora_E" in name else value
         for name, value in parameters.items()})
    write_json(folder / "reference.json", {
        "model": MODEL,
        "modules": modules,
        "steps": STEPS,
        "warmup": WARMUP,
        "final": FINAL,
        "every": EVERY,
        "initial_rank": INITIAL_RANK,
        "target_rank": TARGET_RANK,
        "lora_alpha": LORA_ALPHA,
        "beta1": BETA1,
        "beta2": BETA2,
        "orthogonality": ORTHOGONALITY,
        "gradients_at": list(GRADIENTS_AT),
        "adamw": dict(ADAMW, clip_norm=CLIP_NORM),
    })
