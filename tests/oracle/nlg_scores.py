"""Fixture of the scores of generated texts: tokens and scores as the public scorers find them.

    python tests/oracle/nlg_scores.py --out tests/fixtures/nlg_scores      write
    python tests/oracle/nlg_scores.py --check tests/fixtures/nlg_scores    recompute and compare, exit 1 on difference

BLEU and NIST: pymteval of e2e-metrics, from the copy in the package gem-metrics-fork. ROUGE-L and CIDEr: pycocoevalcap
on the tokens of its PTBTokenizer (Stanford CoreNLP in Java), which e2e-metrics runs. BLEU of WebNLG: sacrebleu without
smoothing on text that was lower-cased and split at every character that is no letter or digit.

Needs: pycocoevalcap, sacrebleu, gem-metrics-fork (its one file is loaded, its dependencies are not), numpy, java.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import random
import re
import sys
from pathlib import Path

from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from sacrebleu.metrics import BLEU

WORDS_REFERENCES = 6
SCORES = ("bleu", "nist", "rouge_l", "cider", "bleu_words")


def load_pymteval():
    path = importlib.metadata.distribution("gem-metrics-fork").locate_file("gem_metrics_fork/impl/pymteval.py")
    spec = importlib.util.spec_from_file_location("pymteval", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PYMTEVAL = load_pymteval()


def mteval_tokens(text):
    return " ".join(token.lower() for token in PYMTEVAL.BLEUScore().tokenize(text))


def words(text):
    """What the WebNLG evaluation of LoRA's examples does: --tokenize --lower."""
    return " ".join(" ".join(re.split(r"(\W)", text.lower())).split())


def word_tokens(text):
    return " ".join(PYMTEVAL.BLEUScore().tokenize(words(text)))


def treebank_tokens(groups):
    """coco-caption's tokens of a list of lists of texts."""
    captions = {i: [{"caption": text} for text in texts] for i, texts in enumerate(groups)}
    tokens = PTBTokenizer().tokenize(captions)
    return [tokens[i] for i in range(len(groups))]


def word_bleu(hypotheses, references):
    most = min(WORDS_REFERENCES, max(map(len, references)))
    columns = [[words(texts[min(k, len(texts) - 1)]) for texts in references] for k in range(most)]
    scorer = BLEU(smooth_method="none", tokenize="13a")
    return scorer.corpus_score([words(text) for text in hypotheses], columns).score / 100


def public_scores(hypotheses, references):
    bleu, nist = PYMTEVAL.BLEUScore(), PYMTEVAL.NISTScore()
    for hypothesis, texts in zip(hypotheses, references):
        bleu.append(hypothesis, texts)
        nist.append(hypothesis, texts)
    truth = dict(enumerate(treebank_tokens(references)))
    prediction = dict(enumerate(treebank_tokens([[text] for text in hypotheses])))
    return {
        "bleu": float(bleu.score()),
        "nist": float(nist.score()),
        "rouge_l": float(Rouge().compute_score(truth, prediction)[0]),
        "cider": float(Cider().compute_score(truth, prediction)[0]),
        "bleu_words": float(word_bleu(hypotheses, references)),
    }


# ---- cases ----

NAMES = ["The Green Man", "Zizzi", "Café Rouge", "Browns' Kitchen", "Loch Fyne", "O'Neill's", "Brasserie Überall"]
FOODS = ["Italian", "fast food", "fish & chips", "Chinese", "French-style", "naïve"]
PLACES = ["in the city centre", "by the riverside", "near the St. John's college", "5 minutes from King's Cross"]
PRICES = ["£20-25", "less than £ 20", "$5.50", "moderate", "high", "cheap", "1,000 yen", "€30"]
PATTERNS = [
    "{n} serves {f} food {p} .",
    "{n} is a {f} restaurant {p}, with prices of {c}.",
    "Located {p}, {n} isn't family-friendly; its prices are {c} (rated 3 out of 5).",
    "There's a {c} place called \"{n}\" {p}. It doesn't serve {f} food, they say...",
    "{p} you can't miss {n} - a kid friendly, 5-star {f} pub!",
    "Cannot decide? {n}: {f}, {c}, {p} — what more do you want?",
]
AWKWARD = [
    "", " ", ".", "a", "Hello", "  two   spaces\tand a tab ", "&quot;AT&amp;T&quot; &lt;b&gt; &#39;x&#39;", "<skipped>x",
    "1.5 2,5 3. .4 5,a a,5 6-7 a-b -8 9- 10-", "3 1/2 cups; 1-1/2, ½ or 12/5/2010 at 3:30pm", "x_y {z} [w] ~ ^ | \\ / @ # %",
    "don't can't won’t they've I'll he's rock'n'roll 'tis 'twas 'em y'all O'Malley's boys'", "gonna gotta cannot wanna",
    "U.S. The U.K. e.g. i.e. a.m. Mr. Dr. St. Inc. no. 5 No. Plan b. The end", "http://a.b/c?d=e. www.foo.com a@b.com",
    "“Quoted” ‘text’ «guillemets» – dashes — and… dots.... -- ---", "Σίσυφος Σ ΣΑΣ İstanbul ǅ ﬁ ÀÉÎ straße",
    "中文 日本語。 한국어 עברית العربية हिन्दी", "😀 ★★★ → ² ₂ © ™ £5 ¢ ¥ €", "no\u00a0break thin\u2009space soft\u00adhyphen",
    "e\u0301 combining n\u0303", "The price is £20.The food is good!Go", ":) :-( ;D (a) [b] <c>", "(020) 7946 0958 or 555-1234",
    "family - friendly , 5 - star . £ 20 - 25 ' s", "What?! No!! *** --- === ____ ...... . . . .",
]


def sentence(draw):
    return draw.choice(PATTERNS).format(n=draw.choice(NAMES), f=draw.choice(FOODS), p=draw.choice(PLACES),
                                        c=draw.choice(PRICES))


def cases():
    """{name: (hypotheses, references)}"""
    draw = random.Random(5)
    several = [[sentence(draw) for _ in range(draw.randint(1, 8))] for _ in range(20)]
    table = {"several_references": ([draw.choice(several[i]) if i % 3 == 0 else sentence(draw) for i in range(20)], several)}
    one = [[sentence(draw)] for _ in range(10)]
    table["one_reference"] = ([sentence(draw) for _ in range(10)], one)
    table["identical"] = ([texts[0] for texts in one], one)
    table["empty_hypotheses"] = ([text if i % 2 else "" for i, text in enumerate(table["one_reference"][0])], one)
    table["longer"] = ([" ".join([texts[0], sentence(draw), sentence(draw)]) for texts in several], several)
    table["shorter"] = ([" ".join(texts[0].split()[:6]) for texts in several], several)
    table["one_text"] = ([sentence(draw)], [[sentence(draw) for _ in range(3)]])
    table["repeated_words"] = (["the the the the the the the", "the cat the cat the cat on a mat"],
                               [["The cat is on the mat.", "There is a cat on the mat."], ["the cat the cat on a mat"]])
    table["short_texts"] = (["a", "b c d", "e"], [["a", "x y"], ["b c d e"], ["f"]])
    table["closest_lengths_tie"] = (["the cat sat on the mat", "a dog runs"], [["the cat sat on the mat today yesterday",
                                                                              "cat sat on mat"], ["a dog", "a dog runs now"]])
    table["nothing_in_common"] = (["one two three four five six"], [["seven eight nine ten eleven", "twelve"]])
    table["awkward"] = (AWKWARD[2:], [[AWKWARD[i], AWKWARD[i - 1] or "x"] for i in range(2, len(AWKWARD))])
    return table


def reference():
    treebank = [texts[0] for texts in treebank_tokens([[text] for text in AWKWARD])]
    return {
        "tokens": [{"text": text, "mteval": mteval_tokens(text), "words": word_tokens(text), "treebank": tokens}
                   for text, tokens in zip(AWKWARD, treebank)],
        "cases": [{"name": name, **public_scores(hypotheses, references), "hypotheses": hypotheses, "references": references}
                  for name, (hypotheses, references) in cases().items()],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path)
    action.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(reference(), indent=1, ensure_ascii=False) + "\n"
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "reference.json").write_text(text, encoding="utf-8")
        return 0
    same = json.loads(text) == json.loads((arguments.check / "reference.json").read_text(encoding="utf-8"))
    print("nlg_scores: as stored" if same else "nlg_scores: differs from what is stored")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
