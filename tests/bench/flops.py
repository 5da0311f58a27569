"""Useful floating-point operations, counted from shapes: a product of [m, k] and [k, n] has 2 m n k. Nothing is counted
that the result does not need: padding; rows of the last block behind its keys and values other than the first tokens'
of a sequence classifier; the cotangent of the frozen embedding."""
from cases import SIZES


def lora_step(size, lengths, rank=8, targets=2, of_tokens=False, labels=2):
    """One forward and backward pass of LoRA on `targets` of query and value."""
    hidden, blocks, _, wide, _, _ = SIZES[size]
    tokens, sequences, pairs = sum(lengths), len(lengths), sum(n * n for n in lengths)
    projections = 2 * tokens * hidden * hidden
    rows = tokens if of_tokens else sequences
    forward = backward = 0
    for block in range(blocks):
        is_last = block == blocks - 1
        own = rows if is_last else tokens  # rows of query and of all behind it
        dense = 2 * projections + own / tokens * 2 * projections + 4 * own * hidden * wide
        attention = 4 * hidden * (tokens if is_last and not of_tokens else pairs)
        lora = targets / 2 * 4 * rank * hidden * (own + tokens)
        forward += dense + attention + lora
        backward += dense + 2 * attention + 2 * lora
        if block == 0:
            backward -= 3 * projections + lora / 2
    head = 2 * sequences * hidden * hidden * (not of_tokens) + 2 * rows * hidden * labels
    return forward + backward + 3 * head


def dense_shapes(size, tokens):
    """{name: (m, n, k, a, b)} of the products of a block, forward and backward (gemm lines of kernels.c)."""
    hidden, _, _, wide, _, _ = SIZES[size]
    is_gpt2 = size.startswith("GPT")  # weights are stored [in, out]
    stored, turned = ("n", "t") if is_gpt2 else ("t", "n")
    shapes = {}
    for name, inputs, outputs in (("attention", hidden, hidden), ("intermediate", hidden, wide),
                                  ("output", wide, hidden)):
        shapes[name] = (tokens, outputs, inputs, "n", stored)
        shapes[f"{name}, backward"] = (tokens, inputs, outputs, "n", turned)
    for rank in (4, 8, 16):
        shapes[f"LoRA A, rank {rank}"] = (tokens, rank, hidden, "n", "t")
        shapes[f"LoRA B, rank {rank}"] = (tokens, hidden, rank, "n", "n")
        shapes[f"LoRA gradient, rank {rank}"] = (rank, hidden, tokens, "t", "n")
    return shapes
