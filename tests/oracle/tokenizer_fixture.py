"""Write what the tokenizer test compares with, or check the stored data against a fresh run.

    python tests/oracle/tokenizer_fixture.py --out tests/fixtures/tokenizer      write
    python tests/oracle/tokenizer_fixture.py --check tests/fixtures/tokenizer    recompute, exit 1 on difference

vocab.txt         a vocabulary made for this purpose
cases.json        settings: what tokenizer_config.json holds; cases: the bytes of a text in hexadecimal and its
                  ids under each setting, by the Python package `tokenizers` (named in the file)
code_points.json  the ids of "a?b" under the first setting, with each Unicode code point as the "?", as runs
                  [first, last, ids] without gaps but for the surrogates

The texts are the same on every machine: they depend on Random.random() alone, which Python keeps stable.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from random import Random

import tokenizers
from tokenizers.implementations import BertWordPieceTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SETTINGS = [
    {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
    {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True},
    {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": True},
    {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
]
NUM_RANDOM = 420


def span(*pairs):
    return [chr(code) for first, last in pairs for code in range(first, last + 1)]


# Characters by what is awkward about them.
POOLS = {
    "letters": list("abcdefghijklmnopqrstuvwxyz"),
    "capitals": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "digits": list("0123456789"),
    "punctuation": span((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027),
                        (0x3001, 0x3003), (0x3008, 0x3011), (0xFF01, 0xFF0F), (0x2E40, 0x2E4A), (0x166D, 0x166E)),
    "symbols": list("€£©®°±×÷≠≤≥∞√∑™№→⇒■♥") + ["\u1fef", "\u037e", "\u0387", "\u2260", "\u226e"],
    "accents": list("àáâãäåçèéêëìíîïñòóôõöøùúûüýÿÀÉÎÕÜßæœŒšŽčřůğşőűłđħ") + span((0x1E00, 0x1E99), (0x1F00, 0x1F15)),
    "marks": span((0x300, 0x345), (0x34F, 0x352), (0x20D0, 0x20DC), (0x483, 0x487)) + ["\u0327", "\u0328"],
    "ordered": ["\u302e", "\u302f", "\u08d4", "\u1dfb", "\u1b44", "\U00011446", "\U00011442", "\U0001d165",
                "\U0001d16d", "\U0001d172", "\U0001e000", "\U0001e944", "\U0001e94a", "\u07fd", "\u1df6",
                "\u0345", "\u0334", "\u034f", "\u0c4d"],
    "ideographs": list("中国人民一二三不了的是我") + ["\u3400", "\u4dbf", "\u4dc0", "\u9fff", "\U00020000",
                                                      "\U0002a6df", "\U0002b820", "\U0002b920", "\U0002ebf0"],
    "compatibility": ["\uf900", "\ufa0e", "\ufa6a", "\ufaff", "\U0002f800", "\U0002fa1d", "\ufb01", "\ufb1d",
                      "\u2126", "\u212a", "\u212b", "\u0340", "\u0344", "\u0958", "\u2adc", "\U0001d15e"],
    "kana": list("あいうえおがぎぐばぱアガパヴ") + ["\u3099", "\u309a", "\uff76", "\uff9e"],
    "hangul": list("한국어가각힣뷁") + ["\u1100", "\u1161", "\u11a8", "\u1112"],
    "control": span((0x00, 0x1F), (0x7F, 0x9F)),
    "zero width": ["\u00ad", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202a", "\u2060", "\ufeff",
                   "\u180e", "\u061c", "\ufe0f", "\U000e0100", "\U000e0041", "\u0890", "\u08e2", "\ufffd"],
    "space": list(" \t\n\r\v\f") + ["\u0085", "\u00a0", "\u1680", "\u2000", "\u2003", "\u200a", "\u2028", "\u2029",
                                    "\u202f", "\u205f", "\u3000"],
    "emoji": ["😀", "👩\u200d👩\u200d👧", "👍🏽", "🇫🇷", "❤\ufe0f", "1\ufe0f\u20e3", "🏴\U000e0067\U000e007f"],
    "right to left": list("שלוםمرحبا") + ["\u05b0", "\u05bf", "\u064b", "\u0651", "\u0670", "\u060c", "\u061f"],
    "indic": list("नमस्तेकिंবাংলাதமிழ்ไทย") + ["\u0bca", "\u0ccb", "\u0d4a", "\u0dda", "\u1b06", "\u1ba9"],
    "greek": list("ΣσςΑάΌΏΐΰᾼᾳῷ") + ["ΟΔΟΣ", "Σ.", "ὈΔΥΣΣΕΎΣ"],
    "cyrillic": list("ПриветЁёЙйЇї") + ["\u04c0", "\u0460", "\u0376"],
    "turkish": list("İIıi") + ["I\u0307", "i\u0307", "İstanbul", "DİYARBAKIR"],
    "wide": list("ＡＢｃｄ１２！？［］＃") + ["［ＳＥＰ］"],
    "titles": ["ǅ", "ǲ", "ᾈ", "ẞ", "ŉ", "Ⅷ", "ⅷ", "Ⓐ", "𝐀", "𐐀", "Ა", "Ⴀ", "\uab70", "\u13a0"],
    "newer": ["\u1c89", "\ua7cb", "\ua7cc", "\ua7d2", "\ua7dc", "\U00010d50", "\U00016ea0", "\U00011938",
              "\U000105c9", "\u0c77", "\U0001e95e", "\U00010d24", "\u1734", "\U000111c9", "\U0001171e"],
    "unassigned": ["\u0378", "\ue000", "\uf8ff", "\ufdd0", "\ufffe", "\uffff", "\U0001fffe", "\U000f0000",
                   "\U0010ffff", "\U000e0fff", "\U00050000"],
    "special": ["[SEP]", "[CLS]", "[UNK]", "[PAD]", "[MASK]", "[sep]", "[ SEP ]", "[[SEP]]", "[MASK", "SEP]",
                "[S\u0301EP]", "[SE\u200bP]", "[CLS][CLS]", "x[MASK]y", "##ing", "##"],
    "words": ["the", "The", "playing", "Unaffable", "naïve", "Ångström", "straße", "don't", "U.S.A.", "e-mail",
              "3.14", "1,000", "$5", "C++", "a_b", "foo@bar.com"],
    "bytes": [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe2\x82", b"\xe0\x80\x80", b"\xe0\x9f\xbf",
              b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf0\x90\x80", b"\xf0\x80\x80\x80",
              b"\xf4\x90\x80\x80", b"\xf5", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff", b"\xe1\x80A", b"\xf1\x80\x80z"],
}


def as_bytes(fragment):
    return fragment if isinstance(fragment, bytes) else fragment.encode("utf-8")


def chosen_texts():
    """Texts that each aim at one rule."""
    texts = ["", " ", "\t\r\n", "\x00\x01\x02", "\u200b", "[SEP]", "a[SEP]b", "[CLS] The text . [SEP]"]
    for filler in ("a", "A", "é", "e\u0301", "ab\u200b", "中", "\U0001d400", "İ", "\u08d4", "."):
        for count in (49, 50, 51, 99, 100, 101, 250):
            texts.append(filler * count)
    texts += ["x" + "a" * 99, "x" + "a" * 100, "a" * 100 + "." + "b" * 101 + " the", "a" * 99 + "\u0301\u0301b",
              "a" * 98 + "\U0001e000\U0001e94a", "a" * 99 + "\U0001e000\U0001e94a"]
    marks = POOLS["ordered"]
    texts += ["a" + first + second + "b" for first in marks for second in marks if first != second]
    texts += ["a" + first + "\u034f" + second for first in marks[:6] for second in marks[:6]]
    texts += ["a\u302f\u200b\u08d4\u302e\U00011446", "\u302f[SEP]\U00011446", "\u302f \U00011446", "\u302f中\U00011446",
              "aaaaaaaa\u034f a\u302f\U00011446"]
    return [as_bytes(text) for text in texts]


def random_texts(count, seed):
    """Mixtures of the pools: each text draws a few pools and then fragments from these."""
    source = Random(seed)

    def pick(values):
        return values[int(source.random() * len(values))]

    names = list(POOLS)
    texts = []
    for _ in range(count):
        pools = [POOLS[pick(names)] for _ in range(1 + int(source.random() * 4))] + [POOLS["letters"]]
        length = 1 + int(source.random() * (12 if source.random() < 0.9 else 150))
        texts.append(b"".join(as_bytes(pick(pick(pools))) for _ in range(length)))
    return texts


def awkward_texts(num_random, seed=1):
    inside = [b"a" + as_bytes(fragment) + b"b" for pool in POOLS.values() for fragment in pool]
    return chosen_texts() + inside + random_texts(num_random, seed)


def vocabulary():
    """A few hundred pieces; letters of several scripts, marks, symbols, some words and word parts."""
    characters = span((0x21, 0x7E)) + list("éÉñüßøæœıİ\u0307\u0301\u0327σςΣαοδπривт中国一が가각") + ["\u304b", "\u3099"]
    characters += ["\u1100", "\u1161", "\u11a8", "\u1112", "\u302e", "\u302f", "\u08d4", "\U0001d165", "\U0001e000",
                   "\U0001e944", "\U0001e94a", "\U00011446", "\u1b44", "\u07fd", "\u0378", "\u200b", "\ufe0f", "\u00a0",
                   "。", "？", "£", "≠", "😀", "👩", "ש", "م", "न", "ａ", "\U0001d400", "\u01c6", "\u8c48"]
    # lower case and undecomposed forms that a library of another Unicode version would miss
    characters += list("\u1c8a\u0264\ua7cd\ua7cf\ua7d3\ua7d5\ua7db\u019b")
    characters += span((0x10D70, 0x10D85), (0x16EBB, 0x16ED3), (0x16121, 0x16128), (0x16D68, 0x16D6A))
    characters += list("\U000105c9\U000105e4\U00011383\U00011385\U0001138e\U00011391\U000113c5\U000113c7\U000113c8"
                       "\U00011938")
    words = ["the", "The", "play", "un", "aff", "na", "an", "str", "email", "foo", "istanbul", "ab", "abc", "aa", "aaaa",
             "##ing", "##able", "##ive", "##ab", "##aa", "##aaaa", "##ed", "##tanbul", "##om", "##\u302e\u302f",
             "##\u08d4\U0001e000", "SEP", "[unused1]", "ij", "##ij", "##", "100", "##00", "a\u302e"]
    pieces = SPECIAL + characters + ["##" + one for one in characters if not (one.isascii() and not one.isalnum())]
    return list(dict.fromkeys(pieces + words))


def python_tokenizer(pieces, setting):
    return BertWordPieceTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, clean_text=True,
        handle_chinese_chars=setting["tokenize_chinese_chars"], strip_accents=setting["strip_accents"],
        lowercase=setting["do_lower_case"])


def encode(tokenizer, texts):
    decoded = [text.decode("utf-8", "replace") for text in texts]
    return [one.ids for one in tokenizer.encode_batch(decoded, add_special_tokens=False)]


def all_code_points():
    return [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]


def code_point_runs(tokenizer):
    codes = all_code_points()
    runs = []
    for code, ids in zip(codes, encode(tokenizer, [f"a{chr(code)}b".encode() for code in codes])):
        if runs and runs[-1][1] == code - 1 and runs[-1][2] == ids:
            runs[-1][1] = code
        else:
            runs.append([code, code, ids])
    return runs


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def write_lines(path, opening, values, closing):
    path.write_text(opening + ",\n".join(compact(value) for value in values) + closing, encoding="utf-8")


def write_fixture(folder):
    pieces = vocabulary()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8", newline="\n")
    texts = list(dict.fromkeys(awkward_texts(NUM_RANDOM)))
    peers = [python_tokenizer(pieces, setting) for setting in SETTINGS]
    columns = [encode(peer, texts) for peer in peers]
    cases = [{"text": text.hex(), "ids": list(ids)} for text, ids in zip(texts, zip(*columns))]
    source = compact(f"tokenizers {tokenizers.__version__}")
    write_lines(folder / "cases.json", f'{{"source":{source},\n"settings":{compact(SETTINGS)},\n"cases":[\n', cases,
                "\n]}\n")
    write_lines(folder / "code_points.json", f'{{"source":{source},\n"runs":[\n', code_point_runs(peers[0]), "\n]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", metavar="DIR", type=Path, help="write the fixture into DIR")
    action.add_argument("--check", metavar="DIR", type=Path, help="compare the fixture in DIR with a fresh run")
    arguments = parser.parse_args()
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_fixture(arguments.out)
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        write_fixture(Path(fresh))
        names = sorted(path.name for path in Path(fresh).iterdir())
        differences = [name for name in names
                       if (Path(fresh) / name).read_bytes() != (arguments.check / name).read_bytes()]
    for name in differences:
        print(f"{name} differs")
    print(f"{len(names)} files compared, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
