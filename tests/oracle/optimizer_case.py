"""Fixture of the optimisers: trajectories of torch.optim on given gradients."""

import torch
from transformers import get_linear_schedule_with_warmup

from stored import uniform, write_json, write_tensors

STEPS, SIZE = 20, 30
WARMUP_STEPS = 5
CLIP_NORM = 1.0
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
ADAM = dict(lr=3e-4, betas=(0.5, 0.999), eps=1e-8, weight_decay=1e-3)


def run(optimizer, parameter, gradients, scheduler=None, clip_norm=None):
    """Follow one optimiser in float64.

    Returns (trajectory [STEPS, SIZE] after each step, learning rates [STEPS], gradient norms [STEPS] before
    clipping).  Clipping multiplies by min(1, clip_norm / (norm + 1e-6)).
    """
    points, rates, norms = [], [], []
    for g in gradients:
        parameter.grad = g.clone()
        norms.append(g.norm())
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], clip_norm)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        points.append(parameter.detach().clone())
    return torch.stack(points), torch.tensor(rates, dtype=torch.float64), torch.stack(norms)


def write_case(folder):
    initial = uniform("optimizer/initial", (SIZE,), 0.5)
    # Norms from below to above the clipping threshold: the rows grow from about 0.3 to about 3.
    growth = torch.linspace(0.05, 0.55, STEPS)[:, None]
    gradients = uniform("optimizer/gradients", (STEPS, SIZE), 1.0) * growth

    parameter = torch.nn.Parameter(initial.double())
    optimizer = torch.optim.AdamW([parameter], **ADAMW)
    scheduler = get_linear_schedule_with_warmup(optimizer, WARMUP_STEPS, STEPS)
    adamw, rates, norms = run(optimizer, parameter, gradients.double(), scheduler, CLIP_NORM)

    parameter = torch.nn.Parameter(initial.double())
    optimizer = torch.optim.Adam([parameter], **ADAM)
    adam, _, _ = run(optimizer, parameter, gradients.double())

    write_tensors(folder / "reference.safetensors", {
        "initial": initial,
        "gradients": gradients,
        "gradient_norm": norms,
        "adamw": adamw,
        "adamw_learning_rate": rates,
        "adam": adam,
    })
    write_json(folder / "reference.json", {
        "steps": STEPS,
        "size": SIZE,
        "adamw": dict(ADAMW, schedule="linear", warmup_steps=WARMUP_STEPS, total_steps=STEPS, clip_norm=CLIP_NORM),
        "adam": dict(ADAM, schedule="constant"),
    })
