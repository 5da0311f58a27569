"""The page: its numbers are those of the trace, computed here anew; it needs nothing but itself."""
import base64
import html.parser
import re
import xml.etree.ElementTree

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
from conftest import MODULES, evaluation_columns, search_columns, write_result, write_run, write_trace

from analysis.page import Page
from analysis.report import write_report
from analysis.runs import find_runs


@pytest.fixture
def quick(monkeypatch):
    """Figures are made, but not drawn, which takes most of the time."""
    monkeypatch.setattr(Page, "figure", lambda page, name, figure, caption: plt.close(figure))


class Parser(html.parser.HTMLParser):
    """Tables by name, rows of cells; facts; addresses. A number is the value of its <data>."""

    def __init__(self):
        super().__init__()
        self.tables, self.facts, self.addresses, self.tags = {}, {}, [], []
        self.texts, self.row, self.name, self.term = [], None, None, None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.addresses += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "table":
            self.name = attributes["data-name"]
            self.tables[self.name] = []
        elif tag == "tr":
            self.tables[self.name].append([])
        elif tag in ("td", "th", "dt", "dd"):
            self.texts = []
        elif tag == "data":
            self.texts.append(float(attributes["value"]))

    def handle_data(self, data):
        if not (self.texts and isinstance(self.texts[-1], float) and self.tags[-1] == "data"):
            self.texts.append(data)

    def handle_endtag(self, tag):
        if tag == "data":
            self.tags.append("")
        elif tag in ("td", "th"):
            self.tables[self.name][-1].append(self.texts[0] if self.texts else "")
        elif tag == "dt":
            self.term = self.texts[0]
        elif tag == "dd":
            self.facts[self.term] = [text for text in self.texts if isinstance(text, float)]


def read_page(path):
    text = path.read_text(encoding="utf-8")
    parser = Parser()
    parser.feed(text)
    return text, parser


def report(tmp_path, *folders, details=6):
    return read_page(write_report(find_runs(folders), tmp_path / "page", details))


def column(table, name):
    place = table[0].index(name)
    return [row[place] for row in table[1:]]


def test_numbers_are_those_of_the_trace(tmp_path, run, quick):
    folder, _ = run
    _, page = report(tmp_path, folder)
    with h5py.File(folder / "trace.h5") as trace:
        q, g = trace["search/selection"][:].astype(float), trace["search/hypergradient"][:].astype(float)
        ranks = trace["search/ranks"][-1]
        last = {name: trace[name][-1] for name in ("search/loss_train", "search/loss_validation", "retrain/loss_train",
                                                   "evaluation/score")}
    table = page.tables["modules"]
    assert column(table, "module") == MODULES
    entropy = [scipy.stats.entropy(q[-1, m]) for m in range(6)]
    np.testing.assert_allclose(column(table, "entropy (nat)"), entropy, rtol=1e-6)
    np.testing.assert_allclose(column(table, "effective components"), np.exp(entropy), rtol=1e-6)
    np.testing.assert_allclose(column(table, "movement"), abs(q[-1] - 0.25).max(axis=1), rtol=1e-5)
    signal = abs(g[30:].mean(axis=0)) / g[30:].std(axis=0, ddof=1)
    np.testing.assert_allclose(column(table, "mean signal-to-noise"), signal.mean(axis=1), rtol=1e-6)
    assert [row[1:] for row in page.tables["signal"][1:]] == [pytest.approx(row, rel=1e-6) for row in signal.tolist()]
    share = abs(q[-1] - q[29]).mean() / abs(q[-1] - 0.25).mean()
    assert page.facts["movement in the last quarter, of all"] == pytest.approx([share], rel=1e-5)
    assert page.facts["components above the noise"] == pytest.approx([(signal > 1.96 / np.sqrt(10)).mean()])
    assert page.facts["mean entropy at the end"] == pytest.approx([np.mean(entropy), np.log(4)], rel=1e-6)
    assert page.facts["largest movement at the end"] == pytest.approx([abs(q[-1] - 0.25).max(), 0.25], rel=1e-5)
    assert column(page.tables["certainty"], "rank") == ranks.tolist()
    for name, dataset in (("search train", "search/loss_train"), ("search validation", "search/loss_validation"),
                          ("retrain train", "retrain/loss_train"), ("score dev", "evaluation/score")):
        assert page.facts[f"{name}, last"] == [last[dataset]], name


def test_numbers_of_the_result(tmp_path, run, quick):
    _, page = report(tmp_path, run[0])
    assert page.facts["matthews correlation on dev"] == [0.5]
    assert page.facts["trainable parameters"] == [1000]
    assert page.facts["tokens a second"] == [500]
    assert page.facts["peak memory of an MPI rank"] == [3]
    assert page.facts["time"] == [12.5]


def test_bootstrap_computed_anew(tmp_path, quick):
    """The same definition in other words: single draws, the rule by hand."""
    search = write_run(tmp_path / "a", rows=200, k=4, drift=0.0005)
    _, page = report(tmp_path, tmp_path / "a")
    logits = search["logits"][150:].astype(float)
    increments, length = np.diff(logits, axis=0), round(49 ** (1 / 3))
    draw = np.random.default_rng(99)
    differs = np.zeros(6)
    for _ in range(1500):
        rows = np.concatenate([np.arange(length) + draw.integers(0, 49 - length + 1) for _ in range(49)])[:49]
        end = logits[0] + increments[rows].sum(axis=0)
        q = np.exp(end) / np.exp(end).sum(axis=1, keepdims=True)
        differs += (q >= 0.25 - 1e-9).sum(axis=1) != search["ranks"][-1]
    np.testing.assert_allclose(column(page.tables["certainty"], "differs"), differs / 1500, atol=0.06)
    assert (differs > 0).any()


def intervals_of(*ends):
    return {module: {"interval": [low, high], "changed": low / 10} for module, low, high in zip(MODULES, *ends)}


def test_intervals_of_the_program(tmp_path, quick):
    write_run(tmp_path / "a", rank_intervals=intervals_of([0, 1, 2, 3, 4, 0], [1, 1, 2, 3, 4, 4]))
    table = report(tmp_path, tmp_path / "a")[1].tables["certainty"]
    assert column(table, "low (program)") == [0, 1, 2, 3, 4, 0] and column(table, "high (program)") == [1, 1, 2, 3, 4, 4]
    assert column(table, "differs (program)") == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0])


@pytest.mark.parametrize("known", [None, 3, [], {}, {MODULES[0]: {}}, dict.fromkeys(MODULES, {"interval": [1], "changed": 0}),
                                   dict.fromkeys(MODULES, {"interval": ["x", 1], "changed": 0}),
                                   dict.fromkeys(MODULES, {"interval": [1, 2], "changed": None})])
def test_intervals_that_are_not_there(tmp_path, quick, known):
    write_run(tmp_path / "a", rank_intervals=known)
    assert "low (program)" not in report(tmp_path, tmp_path / "a")[1].tables["certainty"][0]


def test_ranks_of_other_seeds_inside(tmp_path, quick):
    searches = [write_run(tmp_path / "runs" / f"seed{seed}", seed=seed, rank_intervals=intervals_of([1] * 6, [seed] * 6))
                for seed in (1, 2, 3)]
    ranks = [search["ranks"][-1] for search in searches]
    expected = np.mean([(1 <= ranks[j]) & (ranks[j] <= i + 1) for i in range(3) for j in range(3) if i != j])
    page = report(tmp_path, tmp_path / "runs")[1]
    assert 0 < expected < 1 and page.facts["ranks of other seeds inside of a run's intervals"] == pytest.approx([expected])


def test_page_needs_nothing_but_itself(tmp_path, run):
    text, page = report(tmp_path, run[0])
    assert page.addresses and all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags) and "url(" not in text and "@import" not in text
    images = [base64.b64decode(address.partition(",")[2]) for address in page.addresses if address.startswith("data:")]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "page" / "figures").glob("*.png")}
    assert sorted(images) == sorted(kept.values())
    assert set(kept) == {f"{name}.png" for name in ("ranks", "rank-history", "intervals", "trajectories", "entropy",
                                                    "signal", "losses")}
    for name in kept:
        root = xml.etree.ElementTree.parse((tmp_path / "page" / "figures" / name).with_suffix(".svg")).getroot()
        assert root.tag.endswith("svg")
    assert set(re.findall(r'href="#(\w+)"', text)) <= set(re.findall(r'id="(\w+)"', text))


def test_killed_run(tmp_path, quick):
    search = search_columns(30)
    search["ranks"] = search["ranks"][:25]
    write_trace(tmp_path / "a" / "trace.h5", search=search)
    text, page = report(tmp_path, tmp_path / "a")
    assert "There is no result.json" in text
    assert column(page.tables["certainty"], "rank") == search["ranks"][24].tolist()


def test_resumed_run(tmp_path, quick):
    write_trace(tmp_path / "a" / "trace-1.h5", search=search_columns(30))
    write_trace(tmp_path / "a" / "trace-2.h5", search=search_columns(30, first_step=21, seed=4))
    (tmp_path / "a" / "trace.h5.damaged-1").write_bytes(b"no")
    text, page = report(tmp_path, tmp_path / "a")
    assert "has 2 segments" in text and "damaged-1" in text
    assert column(page.tables["certainty"], "rank") == search_columns(30, seed=4)["ranks"][-1].tolist()


def test_run_without_a_search(tmp_path, quick):
    write_trace(tmp_path / "a" / "trace.h5", keys={"adapter.method": "lora"}, evaluation=evaluation_columns(4))
    write_result(tmp_path / "a", [3] * 6, method="lora")
    text, page = report(tmp_path, tmp_path / "a")
    assert "cola, lora, seed 1" in text and "certainty" not in page.tables
    assert page.facts["mean rank"] == [3]


def test_run_without_a_trace(tmp_path):
    write_result(tmp_path / "a", [3] * 6)
    text, _ = report(tmp_path, tmp_path / "a")
    assert "No trace" in text and (tmp_path / "page" / "figures" / "ranks.png").exists()


def test_selection_that_did_not_move(tmp_path, quick):
    search = search_columns(30)
    search["logits"] = np.full_like(search["logits"], 1)
    search["selection"] = np.full_like(search["selection"], 0.25)
    search["hypergradient"][:] = 0
    search["ranks"][:] = 4
    write_trace(tmp_path / "a" / "trace.h5", search=search)
    text, page = report(tmp_path, tmp_path / "a")
    assert "the ranks say nothing about the layers" in text
    assert column(page.tables["certainty"], "differs") == [0] * 6


def test_several_runs(tmp_path):
    searches = [write_run(tmp_path / "runs" / f"seed{seed}", seed=seed, drift=0.01, score=seed / 10) for seed in (1, 2, 3)]
    write_run(tmp_path / "runs" / "other", keys={"adapter.method": "random"}, method="random", seed=9)
    (tmp_path / "runs" / "other" / "trace.h5").unlink()
    text, page = report(tmp_path, tmp_path / "runs", details=2)
    ranks = np.array([search["ranks"][-1] for search in searches])
    pairs = [scipy.stats.spearmanr(ranks[i], ranks[j])[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert page.facts["mean pairwise Spearman"][0] == pytest.approx(np.mean(pairs))
    matrix = [row[1:] for row in page.tables["spearman0"][1:]]
    assert [matrix[0][1], matrix[0][2], matrix[1][2]] == pytest.approx(pairs)
    assert "The seeds agree more than ranks at random do." in text
    assert column(page.tables["runs"], "score") == [0.5, 0.1, 0.2, 0.3]
    assert "2 runs are not shown one by one" in text
    assert {"score-cola.png", "seeds0.png", "null0.png", "speed.png"} <= {
        path.name for path in (tmp_path / "page" / "figures").iterdir()}


def test_spectrum(tmp_path, quick):
    write_run(tmp_path / "a")
    draw = np.random.default_rng(0)
    values, order = np.sort(draw.random((6, 10)), axis=1)[:, ::-1], draw.permutation(6)
    with h5py.File(tmp_path / "a" / "spectrum.h5", "w") as file:
        file["modules"] = np.array([MODULES[i] for i in order], dtype=h5py.string_dtype())
        file["update/singular_values"] = values
        file["frozen/singular_values"] = values * 7
        file["frozen/effective_rank"] = np.arange(6.0)
    _, page = report(tmp_path, tmp_path / "a")
    table = page.tables["spectrum"]
    ranks = find_runs([tmp_path / "a"])[0].ranks
    assert column(table, "module") == [MODULES[i] for i in order]
    assert column(table, "rank") == [ranks[i] for i in order]
    expected = [np.exp(scipy.stats.entropy(row)) for row in values]
    assert column(table, "effective rank, update") == pytest.approx(expected)
    assert column(table, "effective rank, frozen") == list(range(6))
    found = page.facts["Spearman, rank and effective rank of the update"][0]
    assert found == pytest.approx(scipy.stats.spearmanr([ranks[i] for i in order], expected)[0])


def write_full(folder, modules, values):
    """A run of full fine-tuning: ranks of 0, and a spectrum of more modules than are adapted elsewhere."""
    write_run(folder, keys={"adapter.method": "full"}, method="full")
    write_result(folder, [0] * len(MODULES), method="full")
    with h5py.File(folder / "spectrum.h5", "w") as file:
        file.attrs["method"] = "full"
        file["modules"] = np.array(modules, dtype=h5py.string_dtype())
        file["update/singular_values"] = values
        file["frozen/singular_values"] = values * 7
        file["frozen/stable_rank"] = np.arange(len(modules), dtype=float)


def test_spectrum_of_full_fine_tuning(tmp_path):
    modules = [*MODULES, "bert.encoder.layer.0.output.dense"]
    values = np.sort(np.random.default_rng(1).random((len(modules), 9)), axis=1)[:, ::-1]
    write_full(tmp_path / "full", modules, values)
    text, page = report(tmp_path, tmp_path / "full")
    table = page.tables["spectrum"]
    assert "rank" not in table[0] and column(table, "module") == modules
    stable = (values**2).sum(axis=1) / values[:, 0]**2
    assert column(table, "effective rank, update") == pytest.approx([np.exp(scipy.stats.entropy(v)) for v in values])
    assert column(table, "stable rank, update") == pytest.approx(stable)
    assert column(table, "stable rank, frozen") == list(range(len(modules)))
    assert (tmp_path / "page" / "figures" / "spectrum.png").is_file()
    assert "Spectrum of what was learned" in text


def test_ranks_against_full_fine_tuning(tmp_path, quick):
    modules = [*MODULES[::-1], "bert.encoder.layer.0.output.dense"]
    values = np.sort(np.random.default_rng(2).random((len(modules), 9)), axis=1)[:, ::-1]
    write_full(tmp_path / "runs" / "full", modules, values)
    for name, ranks, keys in (("chosen", (1, 4, 2, 2, 3, 0), {}), ("even", [3] * 6, {}),
                              ("other", (1, 4, 2, 2, 3, 0), {"task.name": "rte"})):  # nothing to compare in the last two
        write_run(tmp_path / "runs" / name, keys=keys)
        write_result(tmp_path / "runs" / name, ranks)
    _, page = report(tmp_path, tmp_path / "runs")
    tables = [table for name, table in page.tables.items() if name.startswith("full")]
    assert len(tables) == 1
    order = [modules.index(module) for module in MODULES]
    stable = ((values**2).sum(axis=1) / values[:, 0]**2)[order]
    assert column(tables[0], "module") == list(MODULES) and column(tables[0], "rank") == [1, 4, 2, 2, 3, 0]
    assert column(tables[0], "stable rank of W - W0") == pytest.approx(stable)
    found = page.facts["Spearman, rank and stable rank of W - W0"][0]
    assert found == pytest.approx(scipy.stats.spearmanr([1, 4, 2, 2, 3, 0], stable)[0])


def test_damaged_spectrum(tmp_path, quick):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "spectrum.h5").write_bytes(b"no")
    text, _ = report(tmp_path, tmp_path / "a")
    assert "spectrum.h5" in text


def test_timers(tmp_path, quick):
    def phase(seconds, **parts):
        return {"calls": 2, "min": seconds - 1, "mean": seconds, "max": seconds + 1, **({"parts": parts} if parts else {})}
    write_run(tmp_path / "a", timers={"search": phase(8.0, waiting=phase(2.0)), "retrain": phase(4.0)})
    _, page = report(tmp_path, tmp_path / "a")
    table = page.tables["time"]
    assert [name.strip() for name in column(table, "phase")] == ["search", "waiting", "retrain"]
    assert column(table, "mean (s)") == [8, 2, 4] and column(table, "least (s)") == [7, 1, 3]
    assert column(table, "of the run") == pytest.approx([8 / 12.5, 2 / 12.5, 4 / 12.5])


def test_texts_of_the_files_are_only_texts(tmp_path, quick):
    modules = [f"<script>alert({i})</script>.layer.{i}.x&y" for i in range(6)]
    write_trace(tmp_path / "a" / "trace.h5", modules, search=search_columns(20))
    write_result(tmp_path / "a", [1] * 6, modules=modules, metric_name="<b>", search={"warning": "<i>"})
    _, page = report(tmp_path, tmp_path / "a")
    assert not {"script", "b", "i"} & set(page.tags)
    assert column(page.tables["certainty"], "module") == modules


def test_pages_of_equal_runs_are_equal(tmp_path, run):
    first, second = (write_report(find_runs([run[0]]), tmp_path / name, 6) for name in "xy")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "x" / "figures" / "signal.svg").exists()
    for path in (tmp_path / "x" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / "figures" / path.name).read_bytes()
