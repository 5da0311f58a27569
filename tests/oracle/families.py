"""Table of model families: how to build a tiny model of each, what is adapted and what its checkpoint holds.

A new family is one more entry in FAMILIES.  Module and tensor names are those of the family's checkpoints.
"""

from dataclasses import dataclass
from typing import Callable

import transformers


@dataclass(frozen=True)
class Family:
    """What the fixture writer has to know about a family.

    config: builds the configuration from (sizes, number of labels).
    models: task -> model class.
    layer: format of a layer's name with the field ``layer``.
    projections: adaptable projections inside a layer, in the order in which they are listed everywhere.
    head: names of the trained task head's parameters; they are never part of the checkpoint.
    prefix: what base-model tensor names begin with.
    """

    config: Callable
    models: dict
    layer: str
    projections: tuple
    head: tuple
    prefix: str

    def module_names(self, layers, targets):
        """Full names of the adapted modules, layer by layer in the order of ``projections``."""
        unknown = set(targets) - set(self.projections)
        if unknown:
            raise ValueError(f"unknown projections: {sorted(unknown)}")
        return [
            f"{self.layer.format(layer=layer)}.{projection}"
            for layer in range(layers)
            for projection in self.projections
            if projection in targets
        ]


def bert_config(sizes, labels):
    """BERT with exact gelu and the usual LayerNorm epsilon 1e-12."""
    return transformers.BertConfig(num_labels=labels, **sizes)


FAMILIES = {
    "bert": Family(
        config=bert_config,
        models={
            "sequence_classification": transformers.BertForSequenceClassification,
            "token_classification": transformers.BertForTokenClassification,
        },
        layer="bert.encoder.layer.{layer}",
        projections=(
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ),
        head=("classifier.weight", "classifier.bias"),
        prefix="bert.",
    ),
}
