"""Models, data and input files to measure with: sizes of published models, random weights, and texts whose numbers of
tokens are what the tokenizer makes of real ones (lengths.json: RoBERTa's on CoLA, MRPC and NCBI-disease, cut at 128)."""
import array
import json
import pathlib
import random
import struct

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTHS = pathlib.Path(__file__).with_name("lengths.json")

# hidden, blocks, attention heads, intermediate, vocabulary, positions
SIZES = {
    "MiniLM": (384, 6, 12, 1536, 30522, 512),
    "RoBERTa-base": (768, 12, 12, 3072, 50265, 514),
    "GPT-2 small": (768, 12, 12, 3072, 50257, 1024),
    "quarter": (768, 3, 12, 3072, 50265, 514),  # of RoBERTa-base
    "tiny": (64, 2, 2, 128, 400, 130),
}


# ---- models ----


def byte_symbols():
    """The characters that stand for the bytes in byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]


def write_tokenizer(folder, special, size):
    """Every letter is a token, alone and behind a blank; the rest of the vocabulary is never met."""
    pieces = [*special, *byte_symbols(), *(f"\u0120{letter}" for letter in LETTERS)]
    pieces += [f"\u0120{number}" for number in range(size - len(pieces))]
    (folder / "vocab.json").write_text(json.dumps({piece: at for at, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"\u0120 {letter}\n" for letter in LETTERS))


def norm(name, width):
    return [(f"{name}.weight", (width,)), (f"{name}.bias", (width,))]


def dense(name, outputs, inputs):
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]


def roberta_tensors(hidden, blocks, heads, wide, words, positions):
    tensors = [("embeddings.word_embeddings.weight", (words, hidden)),
               ("embeddings.position_embeddings.weight", (positions, hidden)),
               ("embeddings.token_type_embeddings.weight", (1, hidden)), *norm("embeddings.LayerNorm", hidden)]
    for block in range(blocks):
        layer = f"encoder.layer.{block}"
        for part in ("query", "key", "value"):
            tensors += dense(f"{layer}.attention.self.{part}", hidden, hidden)
        tensors += [*dense(f"{layer}.attention.output.dense", hidden, hidden),
                    *norm(f"{layer}.attention.output.LayerNorm", hidden),
                    *dense(f"{layer}.intermediate.dense", wide, hidden),
                    *dense(f"{layer}.output.dense", hidden, wide), *norm(f"{layer}.output.LayerNorm", hidden)]
    return [(f"roberta.{name}", shape) for name, shape in tensors]


def gpt2_tensors(hidden, blocks, heads, wide, words, positions):
    tensors = [("wte.weight", (words, hidden)), ("wpe.weight", (positions, hidden))]
    for block in range(blocks):  # Conv1D: [in, out]
        parts = {"attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden), "mlp.c_fc": (hidden, wide),
                 "mlp.c_proj": (wide, hidden)}
        for name, (inputs, outputs) in parts.items():
            tensors += [(f"h.{block}.{name}.weight", (inputs, outputs)), (f"h.{block}.{name}.bias", (outputs,))]
        tensors += [*norm(f"h.{block}.ln_1", hidden), *norm(f"h.{block}.ln_2", hidden)]
    tensors = [(f"transformer.{name}", shape) for name, shape in [*tensors, *norm("ln_f", hidden)]]
    return [*tensors, ("lm_head.weight", (words, hidden))]


def write_safetensors(path, tensors):
    """Normal with deviation 0.02; layer norms 1, biases 0."""
    draw = random.Random(1)
    block = array.array("f", [draw.gauss(0, 0.02) for _ in range(65537)])  # a prime: no row is like another
    header, at = {}, 0
    for name, shape in tensors:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * count]}
        at += 4 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64 + 56)  # aligned
    block = block.tobytes()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            begin, end = header[name]["data_offsets"]
            if len(shape) == 1:
                one = 1.0 if name.endswith(".weight") else 0.0
                out.write(struct.pack("<f", one) * shape[0])
                continue
            left = end - begin
            while left > 0:
                left -= out.write(block[:left])


def write_model(folder, family, size):
    """A model directory of `family` "roberta" or "gpt2"; left alone where it is there already."""
    hidden, blocks, heads, wide, words, positions = SIZES[size]
    folder = pathlib.Path(folder)
    if (folder / "whole").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if family == "roberta":
        config = {"model_type": "roberta", "architectures": ["RobertaModel"], "hidden_size": hidden,
                  "num_hidden_layers": blocks, "num_attention_heads": heads, "intermediate_size": wide,
                  "vocab_size": words, "max_position_embeddings": positions, "type_vocab_size": 1, "pad_token_id": 1,
                  "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
                  "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}
        write_tokenizer(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], words)
        tensors = roberta_tensors(*SIZES[size])
    else:
        config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": hidden, "n_layer": blocks,
                  "n_head": heads, "n_inner": wide, "vocab_size": words, "n_positions": positions,
                  "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 0,
                  "tie_word_embeddings": False}  # tied and random, a model repeats its input and ends at once
        write_tokenizer(folder, ["<|endoftext|>"], words)
        tensors = gpt2_tensors(*SIZES[size])
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "whole").touch()
    return folder


# ---- data ----


def lengths_like(name, count):
    """So many lengths in tokens, special ones included, as those of the data set; or all the same ("128")."""
    if name.isdigit():
        return [int(name)] * count
    table = json.loads(LENGTHS.read_text())[name]
    return random.Random(name).choices([int(length) for length in table], list(table.values()), k=count)


def letters(draw, count):
    return [draw.choice(LETTERS) for _ in range(count)]


def write_data(folder, task, lengths):
    """train.tsv and dev.tsv for task "cola", "ner" or "e2e" (lengths: of the contexts)."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(len(lengths))
    for name, part in (("train", lengths), ("dev", lengths[:8])):
        with open(folder / f"{name}.tsv", "w") as out:
            for length in part:
                text = letters(draw, max(1, length - 2))
                if task == "cola":
                    label = draw.randint(0, 1)
                    out.write(f"x\t{label}\t{'' if label else '*'}\t{''.join(text)}\n")
                elif task == "ner":
                    tags = draw.choices(["O", "B-X", "I-X"], k=len(text))
                    tags[:3] = ["B-X", "I-X", "O"][:len(text)]
                    out.write("".join(f"{word}\t{tag}\n" for word, tag in zip(text, tags)) + "\n")
                else:
                    out.write(f"{''.join(text)}||{''.join(letters(draw, 30))}\n")
    return folder


# ---- input files ----


def write_input(path, model, data, task, output, **keys):
    """`keys`: section__key=value. No stop, no evaluation, no checkpoint in the way."""
    settings = {
        "run.name": "bench", "run.output_dir": str(output), "model.path": str(model), "task.name": task,
        "task.data_dir": str(data), "adapter.rank": 8, "optimizer.batch_size": 8, "optimizer.lr": 1e-4,
        "optimizer.schedule": "constant", "optimizer.warmup_fraction": 0, "search.steps": 1000, "retrain.steps": 1000,
        "retrain.evaluate_every_epoch": False, "output.checkpoint_seconds": 0, "output.stall_seconds": 0,
        "model.hidden_dropout": 0, "model.attention_dropout": 0,
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    document = {}
    for key, value in settings.items():
        section, name = key.split(".")
        document.setdefault(section, {})[name] = value
    pathlib.Path(path).write_text(json.dumps(document, indent=1))
    return path
