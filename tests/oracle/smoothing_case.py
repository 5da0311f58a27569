"""Fixture of label smoothing: the passes of a linear task head and of a language modelling head with it."""

import torch
from torch.func import jvp

from stored import stream, uniform, write_json, write_tensors

ROWS, HIDDEN, LABELS = 7, 6, 5
IGNORED = -100
SMOOTHING = [0.0, 0.1, 0.6]
EPSILON = 1e-5


def loss_of(x, weight, bias, labels, smoothing):
    """(1 - e) nll + e mean(-log p), mean over the labelled rows: the loss of microsoft/LoRA's GPT-2."""
    logarithms = torch.log_softmax(x @ weight.T + bias, dim=-1)[labels != IGNORED]
    nll = -logarithms.gather(1, labels[labels != IGNORED, None])[:, 0]
    return ((1 - smoothing) * nll - smoothing * logarithms.mean(dim=-1)).mean()


def write_language(tensors):
    """The same rows, labels and weight behind a layer norm, all of it frozen."""
    for name, mean in (("weight", 1.0), ("bias", 0.0)):
        tensors[f"norm.{name}"] = uniform(f"smoothing/norm.{name}", (HIDDEN,), 0.3, mean)
    norm = tensors["norm.weight"].double(), tensors["norm.bias"].double()
    for i, smoothing in enumerate(SMOOTHING):
        def loss(x, smoothing=smoothing):
            features = torch.nn.functional.layer_norm(x, (HIDDEN,), *norm, EPSILON)
            return loss_of(features, tensors["weight"].double(), 0.0, tensors["labels"], smoothing)

        x, direction = tensors["x"].double(), tensors["tangent.x"].double()
        tensors[f"language.{i}.loss"] = loss(x)[None]
        tensors[f"language.{i}.grad.x"], tensors[f"language.{i}.grad_tangent.x"] = jvp(
            torch.func.grad(loss), (x,), (direction,))


def write_case(folder):
    shapes = {"x": (ROWS, HIDDEN), "weight": (LABELS, HIDDEN), "bias": (LABELS,)}
    point = {name: uniform(f"smoothing/{name}", shape, 1.0) for name, shape in shapes.items()}
    tangent = {name: uniform(f"smoothing/tangent.{name}", shape, 1.0) for name, shape in shapes.items()}
    labels = torch.from_numpy(stream("smoothing/labels").randint(0, LABELS, ROWS)).long()
    labels[[0, 4]] = IGNORED
    tensors = {"labels": labels, **point, **{f"tangent.{name}": value for name, value in tangent.items()}}
    for i, smoothing in enumerate(SMOOTHING):
        def gradients(x, weight, bias, smoothing=smoothing):
            return torch.func.grad(loss_of, argnums=(0, 1, 2))(x, weight, bias, labels, smoothing)

        inputs = tuple(value.double() for value in point.values())
        direction = tuple(value.double() for value in tangent.values())
        values, tangents = jvp(gradients, inputs, direction)
        tensors[f"{i}.loss"] = loss_of(*inputs, labels, smoothing)[None]
        for name, value in zip(shapes, values):
            tensors[f"{i}.grad.{name}"] = value
        tensors[f"{i}.grad_tangent.x"] = tangents[0]
        expected = torch.nn.functional.cross_entropy(inputs[0] @ inputs[1].T + inputs[2], labels,
                                                     ignore_index=IGNORED, label_smoothing=smoothing)
        assert torch.allclose(tensors[f"{i}.loss"], expected)  # PyTorch's own smoothing is the same
    write_language(tensors)
    write_tensors(folder / "reference.safetensors", tensors)
    write_json(folder / "reference.json", {"rows": ROWS, "hidden": HIDDEN, "labels": LABELS, "smoothing": SMOOTHING,
                                          "epsilon": EPSILON})
