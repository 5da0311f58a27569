"""Fixture of the beam search: what transformers' generate finds on models that are tables.

The next token's logits are a hash of the last two tokens, exactly representable in single precision and different
from one another, so that a test can compute them itself: see logits_of.
"""

import itertools

import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from stored import write_json

VOCABULARY = 40
MODELS = [  # (seed, divisor): a larger divisor makes flatter distributions
    (1, 256), (2, 1024), (3, 4096),
]
BEAMS, PENALTIES, NGRAMS = [1, 2, 5, 10], [0.0, 0.8, 1.0, 2.0], [0, 2, 4]
END_TOKENS = [[], [7], [7, 23]]
PROMPTS = [[3], [5, 9, 9, 5, 9, 11, 5, 9]]
MAX_NEW_TOKENS = 18
MORE = [  # (model, beams, penalty, ngram, end tokens, prompt, longest)
    (1, 5, 1.0, 0, [7], [1], 1), (1, 3, -0.7, 2, [7, 23], [1, 2], 30), (2, 4, 0.8, 1, [7], [1, 2], 12),
    (2, 10, 0.8, 4, [7, 23], [2, 2, 2], 64), (0, 10, 0.8, 4, [7, 23, 31], [4], 64), (0, 3, 3.0, 3, [7], [6], 40),
]


def logits_of(seed, divisor, before, last):
    """[VOCABULARY]: (hash of (seed, before, last, token) modulo 4096, with the token as its last digits) / divisor."""
    values = []
    for token in range(VOCABULARY):
        h = (seed * 0x9E3779B1 + before * 0x85EBCA77 + last * 0xC2B2AE3D + token * 0x27D4EB2F) & 0xFFFFFFFF
        h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
        values.append((((h ^ (h >> 15)) % 4096) * 64 + token) / (64 * divisor))
    return values


class TableModel(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, seed, divisor):
        super().__init__(PretrainedConfig(vocab_size=VOCABULARY))
        table = [[logits_of(seed, divisor, before, last) for last in range(VOCABULARY)] for before in range(VOCABULARY)]
        self.table = torch.nn.Parameter(torch.tensor(table), requires_grad=False)

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        before = input_ids[:, -2] if input_ids.shape[1] > 1 else torch.zeros_like(input_ids[:, -1])
        return CausalLMOutput(logits=self.table[before, input_ids[:, -1]][:, None, :])


def generate(model, beams, penalty, ngram, ends, prompt, longest):
    """The text that transformers generates, without the prompt."""
    options = GenerationConfig(num_beams=beams, do_sample=False, max_new_tokens=longest, use_cache=False,
                               no_repeat_ngram_size=ngram, eos_token_id=ends or None, pad_token_id=VOCABULARY - 1,
                               **({"length_penalty": penalty, "early_stopping": False} if beams > 1 else {}))
    with torch.no_grad():
        return model.generate(torch.tensor([prompt]), options)[0, len(prompt):].tolist()


def write_case(folder):
    models = [TableModel(*model) for model in MODELS]
    cases = [(m, *rest, MAX_NEW_TOKENS) for m, *rest in
             itertools.product(range(len(MODELS)), BEAMS, PENALTIES, NGRAMS, END_TOKENS, PROMPTS)
             if rest[0] > 1 or rest[1] == 1.0]  # one beam is greedy: without penalty
    rows = []
    for m, beams, penalty, ngram, ends, prompt, longest in cases + MORE:
        seed, divisor = MODELS[m]
        text = generate(models[m], beams, penalty, ngram, ends, prompt, longest)
        rows.append({"seed": seed, "divisor": divisor, "num_beams": beams, "length_penalty": penalty,
                     "no_repeat_ngram": ngram, "end_tokens": ends, "prompt": prompt, "max_new_tokens": longest,
                     "text": text})
    write_json(folder / "reference.json", {"vocabulary": VOCABULARY, "cases": rows}, compact=True)
