"""The program's scores of generated texts beside the public scorers, on the references of E2E and WebNLG.

    python tests/peers/compare_nlg_scores.py --tool build/release/tools/score_text --data DATA_DIR/nlg

Hypotheses are references held out: of each context of DATA_DIR/nlg/e2e/{test,valid}.txt with two references or more one
is scored against the others; of WebNLG likewise; once more against a wrong context's references for every fifth, so
that scores are not all high. Prints both columns; exit 1 if a score differs by 5e-5 or more, or if a text of the files
has other tokens. Needs what tests/oracle/nlg_scores.py needs; without java it prints so and compares nothing.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "oracle"))
from nlg_scores import SCORES, mteval_tokens, public_scores, treebank_tokens, word_tokens  # noqa: E402

TOLERANCE = 5e-5


def e2e_groups(path):
    groups = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        context, completion = line.split("||", 1)
        groups.setdefault(context, []).append(completion.strip())
    return list(groups.values())


def webnlg_groups(path):
    entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
    return [[item["lex"].replace("\n", " ").strip() for item in entry["lexicalisations"]]
            for numbered in entries for entry in numbered.values()]


def hold_out(groups, shift):
    """One reference of each group as the hypothesis; with a shift every fifth comes from another group."""
    groups = [texts for texts in groups if len(texts) > 1]
    hypotheses = [texts[i % len(texts)] for i, texts in enumerate(groups)]
    references = [[text for k, text in enumerate(texts) if k != i % len(texts)] for i, texts in enumerate(groups)]
    if shift:
        hypotheses = [hypotheses[(i + 7) % len(hypotheses)] if i % 5 == 0 else text for i, text in enumerate(hypotheses)]
    return hypotheses, references


def run_tool(tool, folder, hypotheses, references):
    paths = [folder / "references.txt", folder / "hypotheses.txt"]
    paths[0].write_text("".join("".join(text + "\n" for text in texts) + "\n" for texts in references), encoding="utf-8")
    paths[1].write_text("".join(text + "\n" for text in hypotheses), encoding="utf-8")
    return json.loads(subprocess.run([tool, *paths], check=True, capture_output=True, text=True).stdout)


def compare_scores(tool, folder, name, hypotheses, references):
    expected, found = public_scores(hypotheses, references), run_tool(tool, folder, hypotheses, references)
    print(f"{name}: {len(hypotheses)} hypotheses, {sum(map(len, references))} references, {found['seconds']:.3f} s")
    print(f"  {'':10}  {'program':>10}  {'public':>10}  {'difference':>10}")
    failures = 0
    for score in SCORES:
        difference = abs(found[score] - expected[score])
        failures += not difference < TOLERANCE
        print(f"  {score:10}  {found[score]:10.6f}  {expected[score]:10.6f}  {difference:10.1e}")
    return failures


def compare_tokens(tool, folder, name, texts):
    path = folder / "texts.txt"
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    expected = {
        "mteval": [mteval_tokens(text) for text in texts],
        "words": [word_tokens(text) for text in texts],
        "treebank": [tokens[0] for tokens in treebank_tokens([[text] for text in texts])],
    }
    failures = 0
    for kind, lines in expected.items():
        found = subprocess.run([tool, "--tokens", kind, path], check=True, capture_output=True).stdout.decode().split("\n")
        different = [i for i, line in enumerate(lines) if line != found[i]]
        for i in different[:5]:
            print(f"  {texts[i]!r}\n    program {found[i]!r}\n    public  {lines[i]!r}")
        print(f"{name}: {kind} tokens of {len(texts)} texts, {len(different)} differ")
        failures += len(different)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--data", required=True, type=Path)
    arguments = parser.parse_args()
    if shutil.which("java") is None:
        print("skip: no java, which coco-caption's tokenizer needs")
        return 0
    sources = {f"E2E {split}": e2e_groups(arguments.data / "e2e" / f"{split}.txt") for split in ("test", "valid")}
    sources["WebNLG"] = webnlg_groups(arguments.data / "webnlg_sample" / "dev.json")
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source, groups in sources.items():
            for shift in (False, True):
                title = f"{source}, every fifth wrong" if shift else source
                failures += compare_scores(arguments.tool, folder, title, *hold_out(groups, shift))
            failures += compare_tokens(arguments.tool, folder, source, [text for texts in groups for text in texts])
    print(f"{failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
