"""Fixture of generation: what transformers' generate gives for the tiny GPT-2 of gpt2-language with its adapters."""

import torch

import model_cases
from autolora_reference import AdaptedModel
from families import FAMILIES
from stored import stream, write_json

MODEL = "gpt2-language"
SETTINGS = [
    {"num_beams": 1, "length_penalty": 1.0, "max_new_tokens": 12},
    {"num_beams": 4, "length_penalty": 0.8, "max_new_tokens": 12},
    {"num_beams": 5, "length_penalty": 2.0, "max_new_tokens": 9},
]
END_TOKENS = [7, 19]
NUM_PROMPTS = 11


def tiny_model():
    """The frozen model with the factors of plain LoRA, in double precision."""
    case = model_cases.CASES[MODEL]
    family = FAMILIES[case.family]
    model = model_cases.build_model(case, MODEL)
    modules = family.module_names(case.sizes["n_layer"], case.targets)
    network = AdaptedModel(model, modules, per_token=True)
    W, _ = model_cases.build_parameters(case, MODEL, network)
    plain = model_cases.build_plain_parameters(case, MODEL, network, W)
    for name in network.modules:
        A = plain.get(f"lora_A.{name}")
        if A is not None:
            B = plain[f"lora_B.{name}"]
            network.slots[name] = (A.double(), B.double(), None, case.lora_alpha / A.shape[0])
    return network.model


def prompts():
    draw = stream("generate/prompts")
    vocabulary = model_cases.CASES[MODEL].sizes["vocab_size"]
    return [draw.randint(0, vocabulary, draw.randint(1, 16)).tolist() for _ in range(NUM_PROMPTS)]


def generate(model, prompt, settings):
    """The best text without the prompt and without its end token."""
    with torch.no_grad():
        output = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), do_sample=False,
            eos_token_id=END_TOKENS, pad_token_id=0, early_stopping=False, use_cache=True, **settings)
    text = output[0, len(prompt):].tolist()
    for i, token in enumerate(text):
        if token in END_TOKENS:
            return text[:i]
    return text


def write_case(folder):
    model = tiny_model()
    cases = [{**settings, "texts": [generate(model, prompt, settings) for prompt in prompts()]}
             for settings in SETTINGS]
    write_json(folder / "cases.json", {"model": MODEL, "end_tokens": END_TOKENS, "prompts": prompts(), "cases": cases},
               compact=True)
