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
    projections: adaptable projections inside a layer, in the order in which they are listed everywhere;
        a part of a fused projection is listed under the fused one's name with a suffix.
    heads: task -> names of the trained task head's parameters; they are never part of the checkpoint.
    prefix: what base-model tensor names begin with.
    config_keys: what the checkpoint's config.json holds besides the sizes.
    left_out: further tensors that are never part of the checkpoint (tied ones).
    first_id: smallest token id of an ordinary text.
    """

    config: Callable
    models: dict
    layer: str
    projections: tuple
    heads: dict
    prefix: str
    config_keys: tuple
    left_out: tuple = ()
    first_id: int = 1

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


def roberta_config(sizes, labels):
    """RoBERTa: one token type, positions from pad_token_id + 1, LayerNorm epsilon 1e-5."""
    return transformers.RobertaConfig(num_labels=labels, layer_norm_eps=1e-5, pad_token_id=1, **sizes)


def gpt2_config(sizes, labels):
    """GPT-2; the number of labels is the vocabulary."""
    return transformers.GPT2Config(**sizes)


ENCODER_PROJECTIONS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
ENCODER_KEYS = ("model_type", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob",
                "initializer_range", "layer_norm_eps", "pad_token_id")
SIMPLE_HEAD = ("classifier.weight", "classifier.bias")

FAMILIES = {
    "bert": Family(
        config=bert_config,
        models={
            "sequence_classification": transformers.BertForSequenceClassification,
            "regression": transformers.BertForSequenceClassification,
            "token_classification": transformers.BertForTokenClassification,
        },
        layer="bert.encoder.layer.{layer}",
        projections=ENCODER_PROJECTIONS,
        heads={"sequence_classification": SIMPLE_HEAD, "regression": SIMPLE_HEAD,
               "token_classification": SIMPLE_HEAD},
        prefix="bert.",
        config_keys=ENCODER_KEYS,
    ),
    "roberta": Family(
        config=roberta_config,
        models={
            "sequence_classification": transformers.RobertaForSequenceClassification,
            "token_classification": transformers.RobertaForTokenClassification,
        },
        layer="roberta.encoder.layer.{layer}",
        projections=ENCODER_PROJECTIONS,
        heads={
            "sequence_classification": ("classifier.dense.weight", "classifier.dense.bias",
                                        "classifier.out_proj.weight", "classifier.out_proj.bias"),
            "token_classification": SIMPLE_HEAD,
        },
        prefix="roberta.",
        config_keys=ENCODER_KEYS,
        first_id=4,
    ),
    "gpt2": Family(
        config=gpt2_config,
        models={"language_modeling": transformers.GPT2LMHeadModel},
        layer="transformer.h.{layer}",
        projections=("attn.c_attn.query", "attn.c_attn.key", "attn.c_attn.value", "attn.c_proj", "mlp.c_fc",
                     "mlp.c_proj"),
        heads={"language_modeling": ()},
        prefix="transformer.",
        config_keys=("model_type", "activation_function", "resid_pdrop", "embd_pdrop", "attn_pdrop",
                     "layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
                     "tie_word_embeddings"),
        left_out=("lm_head.weight",),
    ),
}
