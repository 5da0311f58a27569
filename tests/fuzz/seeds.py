"""Writes the inputs that fuzzing starts from: python3 tests/fuzz/seeds.py FOLDER [DATA]

FOLDER/NAME/... for each harness tests/fuzz/fuzz_NAME.c; the forms are described there. All of it is made here
or comes from tests/fixtures and inputs/; with DATA, beginnings of the real files there are added.
"""
import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
CUT = b"=====\n"  # between the parts of an input
GLUE = ["cola", "sst2", "mrpc", "rte", "stsb", "qnli", "qqp", "mnli", "wnli"]
FAMILIES = ["bert", "roberta", "gpt2"]


def safetensors(tensors, metadata=True):
    """{"name": (dtype, shape)} as a file; the values count up."""
    sizes = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "F64": 8, "U8": 1}
    header, data = {"__metadata__": {"format": "pt"}} if metadata else {}, b""
    for name, (dtype, shape) in tensors.items():
        count = 1
        for size in shape:
            count *= size
        begin = len(data)
        data += bytes(i % 251 for i in range(count * sizes[dtype]))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def text(value):
    return json.dumps(value, ensure_ascii=False).encode()


def parts(*pieces):
    return CUT.join(piece if piece.endswith(b"\n") or i + 1 == len(pieces) else piece + b"\n"
                    for i, piece in enumerate(pieces))


def config():
    for path in sorted([*(ROOT / "inputs").glob("*.json"), *(ROOT / "inputs" / "paper").glob("*.json")]):
        yield path.read_bytes()
    small = {"run": {"name": "x"}, "model": {"path": "m"}, "task": {"name": "cola", "data_dir": "d"},
             "adapter": {"method": "lora", "targets": ["query", "value"], "dropout": 0.1},
             "parallel": {"layout": [1, 2]}, "optimizer": {"lr": 1e-4}}
    yield text(small)
    yield parts(text(small), b"adapter.rank=4", b"adapter.targets=[\"key\"]", b"run.name=2024")


def architecture():
    for path in sorted(FIXTURES.glob("*/config.json")):
        yield path.read_bytes()


TENSORS = {"embeddings.LayerNorm.gamma": ("F32", [2]), "w": ("F16", [2, 3]), "b": ("BF16", [3]),
           "ids": ("I64", [1, 2]), "none": ("F32", [0, 4]), "scalar": ("F64", []), "u": ("U8", [3])}


def weights():
    yield safetensors(TENSORS)
    yield safetensors({"a": ("F32", [2, 2])}, metadata=False)


def shards():
    index = {"metadata": {"total_size": 8}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    yield parts(text(index), safetensors({"a": ("F32", [1])}) + b"\n", safetensors({"b": ("F32", [1])}))
    yield parts(text({"weight_map": {"a": "model-1.safetensors"}}), safetensors({"a": ("F16", [2])}))


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b", "ab", ".", "é", "##é", "中"]
TEXT = "Ab a.b [SEP] bab\té中 ÀÉ aaab  ".encode()


def wordpiece():
    vocabulary = "\n".join(PIECES).encode()
    yield parts(vocabulary, b"{}", TEXT)
    yield parts(vocabulary.replace(b"\n", b"\r\n"), text({"do_lower_case": False, "strip_accents": None,
                "tokenize_chinese_chars": True, "cls_token": {"content": "[CLS]"}}), TEXT)


def byte_characters():
    moved, characters = 0x100, []
    for byte in range(256):
        if 0x21 <= byte <= 0x7e or 0xa1 <= byte <= 0xac or byte >= 0xae:
            characters.append(chr(byte))
        else:
            characters.append(chr(moved))
            moved += 1
    return characters


def bpe_vocabulary(special):
    pieces = special + ["t", "h", "e", "Ġ", "th", "the", "Ġthe", "Ġt", "ĊĊ", "Ċ", "é", "Ã", "©"]
    return {piece: i for i, piece in enumerate(pieces)}


MERGES = ["t h", "th e", "Ġ t", "Ġt he", "Ċ Ċ"]


def added(content, number, **flags):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **flags}


def bpe_pairs():
    for special in (["<|endoftext|>"], ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]):
        vocabulary = bpe_vocabulary(special)
        for piece in ("he", "Ġthe"):
            vocabulary.setdefault(piece, len(vocabulary))
        yield special, vocabulary


def bpe():
    merges = "\n".join(["#version: 0.2", *MERGES]).encode()
    for special, vocabulary in bpe_pairs():
        words = b" the the\n\nthe " + special[-1].encode() + b" 'll th1e\xff\xc3\xa9"
        yield parts(text(vocabulary), merges, b"{}", words)
        decoder = {str(i): added(piece, i, lstrip=True, rstrip=i == 0) for i, piece in enumerate(special)}
        yield parts(text(vocabulary), merges, text({"add_prefix_space": True, "added_tokens_decoder": decoder}), words)


def tokenizer_json():
    for special, vocabulary in bpe_pairs():
        root = {"version": "1.0", "added_tokens": [added(piece, i) for i, piece in enumerate(special)],
                "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
                "decoder": {"type": "ByteLevel"},
                "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocabulary, "merges": MERGES}}
        yield parts(text(root), b"{}", b" the the " + special[0].encode() + b"the")
        root["model"]["merges"] = [merge.split() for merge in MERGES]
        root["added_tokens"].append(added("<x y>", len(vocabulary), normalized=True, rstrip=True))
        yield parts(text(root), b"{}", b" the<x y>  the")
    root = {"added_tokens": [added(piece, i) for i, piece in enumerate(PIECES[:5])],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                           "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": {piece: i for i, piece in enumerate(PIECES)}}}
    yield parts(text(root), b"{}", TEXT)


GLUE_FILES = {
    "cola": "gj04\t1\t\tthe a b.\nbc01\t0\t*\tab ab\n",
    "sst2": "sentence\tlabel\na b c\t1\nthe ab\t0\n",
    "mrpc": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta b\tab c\n",
    "rte": "index\tsentence1\tsentence2\tlabel\n0\ta\tb c\tentailment\n1\tab\tc\tnot_entailment\n",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
            "0\tg\tf\t2012\t1\ts\ts\ta b\tb c\t3.250\n",
    "qnli": "index\tquestion\tsentence\tlabel\n0\ta b\tab\tnot_entailment\n",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n3\t1\t2\ta\tb\t1\n4\t5\n",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
            "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
            "0\t1\t2\tg\tp\tp\tp\tp\ta b\tc\tneutral\tneutral\n",
    "wnli": "index\tsentence1\tsentence2\tlabel\r\n0\ta b\tab\t1\r\n",
}


def glue():
    for number, task in enumerate(GLUE):
        rows = GLUE_FILES[task].encode()
        for how in (9, 64 + 9, 16 + 5):
            yield bytes([number, how]) + rows
    yield bytes([0, 64 + 12]) + b"index\tsentence\n0\ta b\n1\tab\n"


def conll():
    rows = "-DOCSTART-\tO\n\na\tB-X\nab\tI-X\n\n中\tO\nthe\tS-Y\nabcabc\tE-Y\n".encode()
    for how in (2 + 32, 7 + 32 + 8, 7 + 64, 7 + 32 + 128, 1 + 64 + 128):
        yield bytes([how]) + rows
    yield bytes([39]) + rows.replace(b"\t", b" ")
    yield bytes([7 + 64]) + b"a\nab b\n\nthe\n"


def e2e():
    rows = b"name : A | food : B||the A \nname : A | food : B||the the B.\n name : C||t\r\n"
    for how in (31, 8, 31 + 32, 31 + 128):
        yield bytes([how]) + rows


def webnlg():
    triple = {"subject": "A", "property": "p", "object": "B"}
    entry = {"modifiedtripleset": [triple, triple], "lexicalisations": [
        {"comment": "good", "lex": "the A"}, {"comment": "bad", "lex": "x"}, {"comment": "good", "lex": "B é"}]}
    root = {"entries": [{"1": entry}, {"2": {**entry, "modifiedtripleset": [triple]}}]}
    for how in (31, 8, 31 + 32, 31 + 128):
        yield bytes([how]) + text(root)


def ranks():
    output = {"ranks": [1, 0, 3], "most_parameters": 10, "warning": "w"}
    search = {"num_steps": 2, "num_tokens": 10, "seconds": 1.5}
    yield parts(text({"a.0.query": 1, "a.0.value": 0, "a.1.query": 8}), text(output))
    yield parts(text({"a.0.query": 1, "a.0.value": 0, "a.1.query": 8}), text({**output, "search": search}))
    search = {**search, **dict.fromkeys(("num_components", "train_examples", "validation_examples"), 8), "mean_entropy": 1.0,
              **dict.fromkeys(("loss_train", "loss_validation", "largest_movement"), 0.5),
              "certainty": {"rows": 16, "stride": 1, "block_length": 2, "movement": 0.1, "movement_last_quarter": 0.02,
                            "intervals": [[0, 2, 0.25], [0, 0, 0], [3, 3, 0]]}}
    intervals = {"rank_intervals": {"a.0.query": {"interval": [0, 2], "changed": 0.25}}}
    yield parts(text({"a.0.query": 1, "a.0.value": 0, "a.1.query": 8, **intervals}), text({**output, "search": search}))


def adapter():
    paths = {"bert": ("bert.encoder.layer", "attention.self.query", "attention.self.value"),
             "roberta": ("roberta.encoder.layer", "attention.self.query", "attention.self.value", "output.dense"),
             "gpt2": ("transformer.h", "attn.c_attn")}
    for number, family in enumerate(FAMILIES):
        base, *projections = paths[family]
        tensors = {}
        for block in range(2):
            for projection in projections:
                name = f"base_model.model.{base}.{block}.{projection}"
                inputs = 3 if projection == "output.dense" else 2
                tensors[f"{name}.lora_A.weight"] = ("F32", [2, inputs])
                tensors[f"{name}.lora_B.weight"] = ("F32", [6 if family == "gpt2" else 2, 2])
        head = {"bert": [2, 2], "roberta": [2, 2]}.get(family)
        if head:
            tensors["base_model.model.classifier.weight"] = ("F32", head)
            tensors["base_model.model.classifier.bias"] = ("F16", [2])
        options = {"peft_type": "LORA", "lora_alpha": 16, "alpha_pattern": {projections[0]: 8}, "bias": "none",
                   "init_lora_weights": True, "use_rslora": number == 1, "r": 2, "target_modules": projections}
        yield parts(bytes([number]) + text(options), safetensors(tensors))


def changes(*places, cut=0):
    return struct.pack(">H", cut) + b"".join(struct.pack(">I", offset << 8 | byte) for offset, byte in places)


def trace():
    yield parts(changes(), changes())
    for offset in (0, 8, 40, 100, 900, 2000, 5000):
        yield parts(changes((offset, 255), (offset + 1, 1)) + b"\n", changes())
    yield parts(changes(cut=1), changes())
    yield parts(changes() + b"\n", changes((30, 7)))


def checkpoint():
    yield changes()
    yield changes((1000, 1))
    yield changes(cut=3)


def image():
    def block(address, data, place=3):
        return struct.pack("<QQQ", address, len(data), place) + data
    yield struct.pack("<Q", 100)
    yield struct.pack("<Q", 100) + block(0, b"abc") + block(50, b"d" * 50, 0)
    yield struct.pack("<Q", 10) + block(0, b"abc") + block(2, b"d")


REAL = {  # beginnings of real files: (path below DATA, bytes in front)
    "glue": [("glue/CoLA/train.tsv", b"\0\x09"), ("glue/MRPC/train.tsv", b"\2\x09"), ("glue/STS-B/train.tsv", b"\4\x09")],
    "conll": [("ner/NCBI-disease-IOB/train.tsv", b"\x27"), ("ner/BC5CDR-IOB/train.tsv", b"\xa7")],
    "e2e": [("nlg/e2e/train.txt", b"\x1f")],
}


def real(data, name):
    for path, front in REAL.get(name, ()):
        file = data / path
        if file.is_file():
            yield front + file.read_bytes()[:4096]


def main():
    target = pathlib.Path(sys.argv[1])
    data = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    for harness in sorted(path.stem.removeprefix("fuzz_") for path in (ROOT / "tests" / "fuzz").glob("fuzz_*.c")):
        seeds = list(globals()[harness]())
        if data is not None:
            seeds += real(data, harness)
        folder = target / harness
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    main()
