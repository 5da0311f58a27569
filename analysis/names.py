"""Names of modules as places: which layer, which projection."""
import re


def place_of(module):
    """(layer, projection) of "bert.encoder.layer.3.attention.self.query": (3, "query"). Layer -1 where there is none."""
    numbers = re.findall(r"(?:^|\.)(\d+)(?=\.)", module)
    tail = re.split(r"\.\d+\.", module)[-1]
    return (int(numbers[-1]) if numbers else -1), tail


def short_names(modules):
    """["3 query", ...]; the projections lose what all of them begin with."""
    places = [place_of(module) for module in modules]
    tails = shorten([tail for _, tail in places])
    return [f"{layer} {tail}" if layer >= 0 else tail for (layer, _), tail in zip(places, tails)]


def shorten(tails):
    """The last parts of dotted names, as many as tell them apart."""
    distinct = set(tails)
    for length in range(1, 1 + max((tail.count(".") + 1 for tail in distinct), default=1)):
        cut = {tail: ".".join(tail.split(".")[-length:]) for tail in distinct}
        if len(set(cut.values())) == len(distinct):
            break
    return [cut[tail] for tail in tails]


def grid_of(modules):
    """(layers, projections, {module number: (row, column)}) for a table of layer x projection."""
    places = [place_of(module) for module in modules]
    layers = sorted({layer for layer, _ in places})
    tails = list(dict.fromkeys(tail for _, tail in places))
    cells = {m: (layers.index(layer), tails.index(tail)) for m, (layer, tail) in enumerate(places)}
    return layers, shorten(tails), cells
