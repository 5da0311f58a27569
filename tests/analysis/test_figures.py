"""The figures' content: colours at known cells, places of lines and marks."""
import h5py
import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import MODULES, search_columns, write_trace

from analysis import figures, names
from analysis.agreement import agreement
from analysis.selection import Certainty
from analysis.trace import Trace


def pixels(figure):
    if not hasattr(figure, "drawn"):
        figure.canvas.draw()
        figure.drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    return figure.drawn


def at(figure, axes, x, y, dx=0, dy=0):
    """Colour at a place in the axes' coordinates, dx and dy pixels beside it."""
    image = pixels(figure)
    column, row = axes.transData.transform((x, y))
    return image[int(round(image.shape[0] - row - 1 - dy)), int(round(column + dx))]


def colour(name):
    return np.array(matplotlib.colors.to_rgb(name))


def viridis(share):
    return np.array(matplotlib.colormaps["viridis"](share)[:3])


def assert_colour(found, expected, what=""):
    assert np.abs(found - expected).max() < 0.03, (what, found, expected)


def assert_line(figure, axes, x, y, expected):
    """A line of this colour passes within a pixel; it may be thinner than one."""
    around = [at(figure, axes, x, y, dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    assert min(np.abs(found - expected).max() for found in around) < 0.35, (x, y, around)


def has_colour(image, expected):
    return (np.abs(image - expected).max(axis=-1) < 0.03).any()


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_rank_map():
    ranks = [0, 1, 2, 4, 6, 8]
    figure = figures.rank_map(MODULES, ranks, 8)
    axes = figure.axes[0]
    for m, rank in enumerate(ranks):
        assert_colour(at(figure, axes, m % 2, m // 2, dx=30), viridis(rank / 8), m)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["query", "value"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"]
    assert set("0 1 2 4 6 8".split()) <= set(texts(figure))


def test_missing_module_is_left_white():
    figure = figures.rank_map(MODULES[:5], [1, 2, 3, 4, 5], 8)
    assert_colour(at(figure, figure.axes[0], 1, 2, dx=10), colour("white"))


def test_numbers_on_the_map_can_be_read():
    """Contrast of at least 3 to 1 between a cell and its number (WCAG's for large text)."""
    def luminance(rgb):
        linear = np.where(np.array(rgb) <= 0.04045, np.array(rgb) / 12.92, ((np.array(rgb) + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]
    for rank in range(17):
        cell, text = luminance(viridis(rank / 16)), luminance(colour(figures.text_colour(rank, 0, 16)))
        assert (max(cell, text) + 0.05) / (min(cell, text) + 0.05) > 3, rank


def test_trajectories():
    steps = np.arange(1, 101)
    values = np.zeros((100, 6, 2))
    values[:, :, 0] = np.linspace(0.25, 0.45, 100)[:, None]
    values[:, :, 1] = np.linspace(0.25, 0.05, 100)[:, None]
    figure = figures.trajectories(MODULES, steps, values, [1, 1, 1, 1, 1, 2], 0.35, "q")
    panels = figure.axes
    assert len(panels) == 6
    assert_line(figure, panels[0], 80, values[79, 0, 0], colour(figures.BLUE))
    assert_line(figure, panels[5], 80, values[79, 0, 1], colour(figures.BLUE))
    for panel, counted in ((panels[0], 1), (panels[5], 2)):
        lines = [line for line in panel.get_lines() if len(line.get_xdata()) == 100]
        assert [line.get_color() for line in lines].count(figures.BLUE) == counted
        np.testing.assert_allclose(lines[0].get_ydata(), values[:, 0, 0])
        assert [line.get_ydata()[0] for line in panel.get_lines() if len(line.get_xdata()) == 2] == [0.35]
    assert "layer 2 value: rank 2" in texts(figure)
    image = pixels(figure)
    assert has_colour(image, colour(figures.ORANGE))


def test_singular_values_count_by_their_size():
    values = np.array([[[0.1, -0.9, 0.5]]])
    figure = figures.trajectories(MODULES[:1], np.array([1]), values, [1], None, "singular value")
    assert [line.get_color() for line in figure.axes[0].get_lines()] == [figures.ORANGE, figures.BLUE, figures.ORANGE]


def test_ranks_over_time():
    steps, ranks = np.arange(1, 101), np.zeros((100, 6), int)
    ranks[50:, 2], ranks[:, 5] = 8, 4
    figure = figures.ranks_over_time(MODULES, steps, ranks, 8)
    above, below = figure.axes[:2]
    for x, m, rank in ((20, 2, 0), (48, 2, 0), (53, 2, 8), (90, 2, 8), (20, 5, 4), (80, 4, 0)):
        assert_colour(at(figure, below, x, m), viridis(rank / 8), (x, m))
    np.testing.assert_allclose(above.get_lines()[0].get_ydata(), ranks.mean(axis=1))


def test_long_traces_keep_their_last_row():
    steps, ranks = np.arange(1, 2002), np.zeros((2001, 6), int)
    ranks[-1] = 8
    line = figures.ranks_over_time(MODULES, steps, ranks, 8).axes[0].get_lines()[0]
    assert len(line.get_xdata()) <= figures.MOST_POINTS
    assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (2001, 8)


def test_entropy_and_movement():
    steps = np.arange(1, 51)
    entropy, movement = np.log(8) - np.outer(steps, np.arange(6)) / 500, np.outer(steps, np.arange(6)) / 5000
    figure = figures.entropy_and_movement(MODULES, steps, entropy, movement, 8)
    left, right = figure.axes[:2]
    lines = left.get_lines()
    np.testing.assert_allclose(lines[6].get_ydata(), entropy.mean(axis=1))
    np.testing.assert_allclose(lines[7].get_ydata(), np.log(8))
    np.testing.assert_allclose(right.get_lines()[6].get_ydata(), movement.max(axis=1))
    assert_line(figure, left, 25, entropy.mean(axis=1)[24], colour(figures.BLUE))


def test_losses():
    x = np.arange(1, 201)
    figure = figures.losses({"search train": (x, 1.0 + 0 * x), "search validation": (x, 2.0 + 0 * x),
                             "retrain train": (x, 3.0 + 0 * x), "retrain dev": (x[:3], x[:3] / 1.0),
                             "score dev": (x[:3], x[:3] / 5.0)}, "f1")
    search, retrain, score = figure.axes
    assert_line(figure, search, 77, 1.0, colour(figures.BLUE))
    row = [at(figure, search, x, 2.0) for x in range(60, 130)]
    assert min(np.abs(found - colour(figures.RED)).max() for found in row) < 0.35
    assert score.get_ylabel() == "f1" and "nat" in search.get_ylabel()
    assert_line(figure, score, 2, 0.4, colour(figures.GREEN))
    assert len(figures.losses({"retrain train": (x, 1.0 + 0 * x)}, "f1").axes) == 1


def test_running_mean():
    values = np.random.default_rng(0).standard_normal(100)
    np.testing.assert_allclose(figures.smooth(values)[50], values[48:53].mean())
    np.testing.assert_allclose(figures.smooth(np.ones(100)), 1)


def test_signal_map():
    signal = np.full((6, 4), 0.05)
    signal[1, 2], signal[4, 0] = 0.5, 0.25
    figure = figures.signal_map(MODULES, signal, 100)  # noise 0.196
    axes = figure.axes[0]
    assert_colour(at(figure, axes, 2, 1, dx=9), viridis(1.0))
    assert_colour(at(figure, axes, 3, 3, dx=9), viridis(0.1))
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines()) == [(0, 4), (2, 1)]
    assert_colour(at(figure, axes, 2, 1), colour("white"))


def test_intervals():
    found = Certainty(np.array([3, 2, 5, 1, 4, 8]), np.array([2, 2, 3, 1, 4, 6]), np.array([5, 2, 6, 1, 4, 8]),
                      np.array([0.5, 0, 0.9, 0, 0.1, 1]), 50, 1, "bootstrap")
    figure = figures.rank_intervals(MODULES, found, 8)
    left, right = figure.axes
    assert_colour(at(figure, left, 3, 0), colour(figures.BLUE))
    assert_colour(at(figure, left, 4.5, 0), colour(figures.SKY))
    assert_colour(at(figure, left, 5.5, 0), colour("white"))
    assert_colour(at(figure, left, 2.5, 0), colour(figures.SKY))
    for m, share in enumerate(found.differs):
        assert_colour(at(figure, right, 95, m), colour(figures.ORANGE if share > 0.95 else "white"), m)
        assert right.patches[m].get_width() == pytest.approx(100 * share)


def test_rank_against_spectrum():
    ranks, effective = [1, 2, 3, 4, 5, 6], np.array([1.5, 2.5, 3.0, 4.5, 6.0, 6.5])
    figure = figures.rank_against_spectrum(MODULES, ranks, {"update": effective})
    axes = figure.axes[0]
    places = {(x, y) for line in axes.get_lines() for x, y in zip(line.get_xdata(), line.get_ydata())}
    assert places == set(zip(effective, ranks))
    assert_colour(at(figure, axes, 1.5, 1), colour(figures.CYCLE[0]))
    assert_colour(at(figure, axes, 2.5, 2), colour(figures.CYCLE[1]))


def test_time_by_phase():
    phases = [(0, "search", 1, 8.0, 8.0, 8.0), (1, "waiting", 40, 1.0, 3.0, 5.0), (0, "retrain", 1, 4.0, 4.0, 4.0)]
    figure = figures.time_by_phase(phases, 12)
    axes = figure.axes[0]
    assert [patch.get_width() for patch in axes.patches] == [8, 3, 4]
    assert_colour(at(figure, axes, 6, 0, dy=4), colour(figures.BLUE))
    around = [at(figure, axes, 0.5, 1, dx=dx, dy=4) for dx in range(12)]  # hatched
    assert any(np.abs(found - colour(figures.RED)).max() < 0.03 for found in around)
    assert any("66.7 %" in text for text in texts(figure))


def timeline(tmp_path):
    """Two ranks, one microbatch down and up; rank 0 waits from 1 to 3, rank 1 from 0 to 1 and from 3 to 4."""
    names = ["search/train_gradient/waiting", "search/train_gradient/forward", "search/train_gradient/backward"]
    columns = {"rank": [0, 0, 0, 1, 1, 1, 1], "name": [1, 0, 2, 0, 1, 2, 0], "start": [0, 1, 3, 0, 1, 2, 3.0],
               "stop": [1, 3, 4, 1, 2, 3, 4.0]}
    with h5py.File(write_trace(tmp_path / "trace.h5", search=search_columns(5)), "a") as file:
        group = file.create_group("timeline/search")
        group.attrs["step"] = 3.0
        group["names"] = np.array(names, dtype=h5py.string_dtype())
        for name, values in columns.items():
            group[name] = np.array(values)
    with Trace(tmp_path) as trace:
        return trace.timelines()["search"]


def test_pipeline_timeline(tmp_path):
    found = timeline(tmp_path)
    assert (found.step, found.end) == (3, 4)
    assert [found.seconds(rank, kind) for rank in (0, 1) for kind in ("forward", "backward", "waiting")] == [1, 1, 2, 1, 1, 2]
    figure = figures.pipeline_timeline(found)
    axes = figure.axes[0]
    assert_colour(at(figure, axes, 0.5, 0), colour(figures.BLUE))
    assert_colour(at(figure, axes, 3.5, 0), colour(figures.GREEN))
    assert_colour(at(figure, axes, 1.5, 1), colour(figures.BLUE))
    assert_colour(at(figure, axes, 2.5, 1), colour(figures.GREEN))
    for x, rank in ((2, 0), (0.5, 1), (3.5, 1)):  # hatched
        around = [at(figure, axes, x, rank, dx=dx) for dx in range(12)]
        assert any(np.abs(value - colour(figures.RED)).max() < 0.03 for value in around), (x, rank)
    kinds = {name: figures.interval_kind(f"search/hypergradient/{name}")[0] for name in
             ("tangent/forward", "tangent/backward", "validation_gradient/forward", "validation_gradient/waiting")}
    assert list(kinds.values()) == ["tangent forward", "tangent backward", "validation forward", "waiting"]
    assert figures.interval_kind("search/optimizer")[0] == "other"


def test_seeds_and_null_model():
    ranks = np.array([[0, 0, 1], [8, 8, 8], [4, 4, 4], [2, 2, 2], [6, 6, 6], [1, 0, 0]])
    figure = figures.seeds_map(MODULES, ranks, ["1", "2", "3"], 8)
    for (m, run), rank in np.ndenumerate(ranks):
        assert_colour(at(figure, figure.axes[0], run, m, dx=9), viridis(rank / 8), (m, run))
    found = agreement(ranks)
    panel = figures.null_model(found).axes[0]
    assert panel.get_lines()[0].get_xdata()[0] == pytest.approx(found.mean_spearman)
    assert sum(patch.get_height() for patch in panel.patches) == len(found.null)


def experiments():
    return pd.DataFrame({"task": "cola", "method": ["autolora", "lora", "lora", "random"],
                         "setting": ["", "rank=1", "rank=8", ""], "metric": "matthews_correlation",
                         "score": [0.5, 0.3, 0.45, 0.2], "score_sd": [0.05, np.nan, 0.1, 0.0],
                         "trainable_parameters": [1000.0, 200.0, 4000.0, 1000.0],
                         "trainable_parameters_sd": [100.0, np.nan, 0.0, 0.0]})


def test_score_against_parameters():
    figure = figures.score_against_parameters(experiments())
    axes = figure.axes[0]
    for x, y, i in ((1000, 0.5, 0), (200, 0.3, 1), (4000, 0.45, 1), (1000, 0.2, 2)):
        assert_colour(at(figure, axes, x, y), colour(figures.CYCLE[i]), (x, y))
    front, = [line for line in axes.get_lines() if line.get_label() == "Pareto front"]
    assert list(zip(front.get_xdata(), front.get_ydata())) == [(200, 0.3), (1000, 0.5)]
    assert {"rank=1", "rank=8"} <= set(texts(figure))


def test_figures_say_what_the_axes_are():
    made = [figures.rank_map(MODULES, [1] * 6, 4), figures.score_against_parameters(experiments()),
            figures.signal_map(MODULES, np.ones((6, 4)), 9),
            figures.time_by_phase([(0, "search", 1, 1.0, 1.0, 1.0)], 1)]
    for figure in made:
        assert figure.axes[0].get_xlabel() or figure.axes[0].get_ylabel()


def simulate(rgb, matrix):
    return np.clip(np.asarray(matrix) @ np.asarray(rgb), 0, 1)


def test_colours_differ_for_colour_blind_readers():
    """Of the pairs that stand for different things in one panel: distance in CIE Lab under simulated full deuteranopia
    and protanopia (Machado, Oliveira and Fernandes 2009, on linear light)."""
    deuteranopia = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    protanopia = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]

    def lab(linear):
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
        f = np.cbrt(xyz / [0.9505, 1, 1.089])
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    def linear(name):
        return (colour(name)) ** 2.2
    pairs = [(figures.BLUE, figures.ORANGE), (figures.BLUE, figures.RED), (figures.BLUE, figures.SKY),
             (figures.SKY, figures.RED)]
    for matrix in (np.eye(3), deuteranopia, protanopia):
        for first, second in pairs:
            assert np.linalg.norm(lab(simulate(linear(first), matrix)) - lab(simulate(linear(second), matrix))) > 20


def test_names_of_modules():
    assert names.short_names(["transformer.h.11.attn.c_attn.query", "transformer.h.2.attn.c_attn.value"]) == [
        "11 query", "2 value"]
    assert names.short_names(["roberta.encoder.layer.0.attention.output.dense", "roberta.encoder.layer.0.output.dense"]) \
        == ["0 attention.output.dense", "0 output.dense"]
    layers, tails, cells = names.grid_of(["m.h.10.a.q", "m.h.2.a.q", "m.h.2.a.v", "score"])
    assert layers == [-1, 2, 10] and tails == ["q", "v", "score"]
    assert cells == {0: (2, 0), 1: (1, 0), 2: (1, 1), 3: (0, 2)}
