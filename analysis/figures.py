"""The figures. Each function returns a matplotlib Figure; colours are those of Okabe and Ito and of viridis, which
colour-blind readers can tell apart, and what they say is said by position or mark as well."""
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis import names
from analysis.methods import is_lower_better, pareto_front
from analysis.selection import noise_level

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#777777")
CYCLE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, "#000000", YELLOW)
MARKERS = "osD^vP*X"
COLOURS = "viridis"
MOST_POINTS = 600  # of a line
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
         "axes.titlelocation": "left", "figure.constrained_layout.use": True,
         "legend.frameon": False, "axes.grid": False, "axes.formatter.useoffset": False}


def styled(function):
    def draw(*arguments, **keywords):
        with plt.rc_context(STYLE):
            return function(*arguments, **keywords)
    draw.__doc__, draw.__name__ = function.__doc__, function.__name__
    return draw


def thin(*arrays):
    """Every n-th row, so that a line has few enough points; the last one stays."""
    count = len(arrays[0])
    step = max(1, -(-count // MOST_POINTS))
    return [array[(count - 1) % step::step] for array in arrays]


def whole_numbers(axis):
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def legend_above(axes, columns=2):
    """Outside of the panel, where it hides nothing."""
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncol=columns, borderaxespad=0.2,
                columnspacing=1.2, handlelength=1.5)


def text_colour(value, lowest, highest):
    """Black on the light end of viridis, white on the dark one."""
    return "black" if (value - lowest) / max(highest - lowest, 1e-12) > 0.6 else "white"


# ---- one run ----


@styled
def rank_map(modules, ranks, k):
    """Ranks by layer and projection."""
    layers, tails, cells = names.grid_of(modules)
    grid = np.full((len(layers), len(tails)), np.nan)
    for m, cell in cells.items():
        grid[cell] = ranks[m]
    figure, axes = plt.subplots(figsize=(1.6 + 1.1 * len(tails) + 1, 1.2 + 0.32 * len(layers)))
    image = axes.imshow(grid, cmap=COLOURS, vmin=0, vmax=k, aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=text_colour(value, 0, k))
    axes.set_xticks(range(len(tails)), tails)
    axes.set_yticks(range(len(layers)), layers)
    axes.set(xlabel="projection", ylabel="layer")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="rank (components)", ticks=MaxNLocator(integer=True))
    return figure


@styled
def trajectories(modules, steps, values, ranks, threshold, label):
    """A panel a module: each component over time, blue if it counts at the end."""
    layers, tails, cells = names.grid_of(modules)
    steps, values = thin(steps, values)
    figure, panels = plt.subplots(len(layers), len(tails), sharex=True, sharey=True, squeeze=False,
                                  figsize=(1 + 3.1 * len(tails), 0.9 + 1.15 * len(layers)))
    for panel in panels.flat:
        panel.set_visible(False)
    for m, (row, column) in cells.items():
        panel = panels[row, column]
        panel.set_visible(True)
        kept = np.argsort(-np.abs(values[-1, m]), kind="stable")[:ranks[m]]  # singular values have a sign
        for j in range(values.shape[2]):
            is_kept = j in kept
            panel.plot(steps, values[:, m, j], lw=0.9, color=BLUE if is_kept else ORANGE,
                       ls="-" if is_kept else "--", rasterized=True)
        if threshold is not None:
            panel.axhline(threshold, color="black", lw=0.7, ls=":")
        panel.text(0.01, 0.97, f"layer {layers[row]} {tails[column]}: rank {ranks[m]}", transform=panel.transAxes,
                   va="top", fontsize=8)
    panels[0, 0].margins(y=0.25)
    lines = [plt.Line2D([], [], color=BLUE), plt.Line2D([], [], color=ORANGE, ls="--")]
    labels = ["counts at the end", "does not count"]
    if threshold is not None:
        lines.append(plt.Line2D([], [], color="black", lw=0.7, ls=":"))
        labels.append(f"threshold 1/k = {threshold:.4g}")
    figure.suptitle(" \n ", fontsize=7)  # room for the legend
    figure.legend(lines, labels, loc="upper center", ncol=3)
    figure.supxlabel("iteration", fontsize=9)
    figure.supylabel(label, fontsize=9)
    return figure


@styled
def ranks_over_time(modules, steps, ranks, k):
    """Above the mean rank, below a row a module whose colour is its rank."""
    short = names.short_names(modules)
    steps, ranks = thin(steps, ranks)
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 2.4 + 0.17 * len(modules)),
                                          height_ratios=(1.2, 0.3 + 0.15 * len(modules)))
    above.plot(steps, ranks.mean(axis=1), color=BLUE)
    above.set(ylabel="mean rank")
    edges = np.concatenate([[steps[0] - 0.5], (steps[1:] + steps[:-1]) / 2, [steps[-1] + 0.5]])
    mesh = below.pcolormesh(edges, np.arange(len(modules) + 1) - 0.5, ranks.T, cmap=COLOURS, vmin=0, vmax=k,
                            rasterized=True)
    below.set_yticks(range(len(modules)), short, fontsize=8 if len(modules) < 40 else 6)
    below.invert_yaxis()
    below.set(xlabel="iteration", ylabel="layer and projection")
    figure.colorbar(mesh, ax=below, label="rank (components)", ticks=MaxNLocator(integer=True))
    return figure


@styled
def entropy_and_movement(modules, steps, entropy, movement, k):
    steps, entropy, movement = thin(steps, entropy, movement)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.plot(steps, entropy, color=SKY, lw=0.7, rasterized=True)
    left.plot(steps, entropy.mean(axis=1), color=BLUE, lw=2, label="mean of the modules")
    left.axhline(np.log(k), color="black", ls=":", lw=0.9, label=f"all equal: ln {k}")
    left.set(xlabel="iteration", ylabel="entropy of q (nat)")
    effective = left.secondary_yaxis("right", functions=(np.exp, lambda n: np.log(np.maximum(n, 1e-9))))
    effective.set_ylabel("effective components, exp(entropy)")
    legend_above(left)
    right.plot(steps, movement, color=SKY, lw=0.7, rasterized=True)
    right.plot(steps, movement.max(axis=1), color=BLUE, lw=2, label="largest of all modules")
    right.axhline(1 / k, color="black", ls=":", lw=0.9, label=f"1/k = {1 / k:.3g}")
    right.set(xlabel="iteration", ylabel="largest |q - q at the start| of a module", ylim=(0, None))
    legend_above(right)
    return figure


@styled
def losses(series, metric):
    """series: {"search train": (steps, means), ...}; those of one phase share a panel."""
    phases = [("search", "search (iteration)", "loss (nat)",
               [("train", "training, lower level", BLUE, "-"), ("validation", "validation, upper level", RED, "--")]),
              ("retrain", "final training (update)", "loss (nat)", [("train", "training", BLUE, "-"),
               ("dev", "evaluation set", RED, "--")]),
              ("score", "final training (update)", metric, [("dev", metric, GREEN, "-")])]
    phases = [phase for phase in phases if any(f"{phase[0]} {line[0]}" in series for line in phase[3])]
    figure, panels = plt.subplots(1, len(phases), squeeze=False, figsize=(1 + 3.4 * len(phases), 3))
    for panel, (phase, xlabel, ylabel, lines) in zip(panels[0], phases):
        for name, label, colour, style in lines:
            if f"{phase} {name}" not in series:
                continue
            steps, values = series[f"{phase} {name}"]
            is_long = len(steps) > 80
            if is_long:
                panel.plot(steps, values, color=colour, lw=0.5, alpha=0.4)
            panel.plot(steps, smooth(values) if is_long else values, color=colour, ls=style, label=label,
                       lw=1.8 if is_long else 1.2, marker="o" if len(steps) < 30 else None, ms=3)
        panel.set(xlabel=xlabel, ylabel=ylabel)
        if len(lines) > 1:
            legend_above(panel)
    return figure


def smooth(values):
    """Running mean over a twentieth of the points."""
    width = max(1, len(values) // 20)
    counts = np.convolve(np.ones(len(values)), np.ones(width), "same")
    return np.convolve(values, np.ones(width), "same") / counts


@styled
def signal_map(modules, signal, rows):
    """|mean| / standard deviation of the hypergradient; a dot where it is above the noise."""
    level = noise_level(rows)
    figure, axes = plt.subplots(figsize=(2.6 + 0.38 * signal.shape[1], 1.3 + 0.26 * len(modules)))
    image = axes.imshow(signal, cmap=COLOURS, vmin=0, vmax=max(signal.max(), level), aspect="auto")
    for m, j in zip(*np.nonzero(signal > level)):
        axes.plot(j, m, "o", ms=4, mfc="white", mec="black", mew=0.6)
    axes.set_yticks(range(len(modules)), names.short_names(modules), fontsize=8)
    axes.set(xlabel="component", ylabel="layer and projection")
    axes.set_title(f"dot: above {level:.3f}, the noise of {rows} iterations (5 %)", fontsize=8)
    axes.spines[:].set_visible(False)
    whole_numbers(axes.xaxis)
    figure.colorbar(image, ax=axes, label="|mean| / standard deviation")
    return figure


@styled
def rank_intervals(modules, certainty, k):
    """The chosen rank, its interval, and how often it would differ."""
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(8, 1.2 + 0.25 * len(modules)), width_ratios=(2, 1))
    y = np.arange(len(modules))
    left.hlines(y, certainty.low, certainty.high, color=SKY, lw=5, label="90 % interval")
    left.plot(certainty.ranks, y, "o", color=BLUE, ms=5, label="chosen")
    left.set_yticks(y, names.short_names(modules), fontsize=8)
    left.set(xlim=(-0.3, k + 0.3), xlabel="rank (components)", ylabel="layer and projection")
    left.invert_yaxis()
    legend_above(left)
    whole_numbers(left.xaxis)
    right.barh(y, 100 * certainty.differs, color=ORANGE, height=0.6)
    right.set(xlim=(0, 100), xlabel="differs by one or more (%)")
    return figure


@styled
def rank_against_spectrum(modules, ranks, effective):
    """effective: {"update": [modules], "frozen": [modules], or what the axis is to say: [modules]}"""
    labels = {"update": "effective rank of the learned update", "frozen": "effective rank of the frozen weight"}
    short = names.short_names(modules)
    tails = [names.place_of(module)[1] for module in modules]
    kinds = list(dict.fromkeys(tails))
    figure, panels = plt.subplots(1, len(effective), squeeze=False, figsize=(1 + 4 * len(effective), 3.6))
    for panel, (name, values) in zip(panels[0], effective.items()):
        for i, kind in enumerate(kinds):
            members = [m for m, tail in enumerate(tails) if tail == kind]
            panel.plot(values[members], np.asarray(ranks)[members], ls="", marker=MARKERS[i % 8], color=CYCLE[i % 8],
                       label=names.shorten(kinds)[i])
        for m, text in enumerate(short):
            panel.annotate(text.split()[0], (values[m], ranks[m]), xytext=(4, 3), textcoords="offset points",
                           fontsize=7)
        panel.set(xlabel=labels.get(name, name), ylabel="chosen rank (components)")
        whole_numbers(panel.yaxis)
        legend_above(panel)
    return figure


@styled
def ranks_by_layer(modules, ranks):
    """ranks: {"stable rank": [modules], ...}; a line a projection."""
    places = [names.place_of(module) for module in modules]
    kinds = list(dict.fromkeys(tail for _, tail in places))
    figure, panels = plt.subplots(1, len(ranks), squeeze=False, figsize=(1 + 4 * len(ranks), 3.6))
    for panel, (name, values) in zip(panels[0], ranks.items()):
        for i, kind in enumerate(kinds):
            members = [m for m, (_, tail) in enumerate(places) if tail == kind]
            panel.plot([places[m][0] for m in members], np.asarray(values)[members], marker=MARKERS[i % 8],
                       color=CYCLE[i % 8], label=names.shorten(kinds)[i], ms=4)
        panel.set(xlabel="layer", ylabel=name, ylim=(0, None))
        whole_numbers(panel.xaxis)
        legend_above(panel)
    return figure


@styled
def time_by_phase(phases, total):
    """phases: [(depth, name, calls, least, mean, most)] of seconds, parts after their whole."""
    figure, axes = plt.subplots(figsize=(8, 1 + 0.24 * len(phases)))
    y = np.arange(len(phases))
    for i, (depth, name, _, least, mean, most) in enumerate(phases):
        colour = RED if name == "waiting" else (BLUE, SKY, GREEN, PURPLE)[min(depth, 3)]
        axes.barh(i, mean, color=colour, height=0.7, hatch="////" if name == "waiting" else None, ec="white", lw=0)
        axes.plot([least, most], [i, i], color="black", lw=1, marker="|", ms=6)
        axes.text(max(mean, most) + 0.01 * total, i, f"{mean:.3g} s  {100 * mean / total:.1f} %", va="center",
                  fontsize=7)
    axes.set_yticks(y, ["      " * depth + name.replace("_", " ") for depth, name, *_ in phases], fontsize=8, ha="left")
    axes.tick_params(axis="y", pad=5 * max(3 * depth + len(name) for depth, name, *_ in phases), length=0)
    axes.set(xlabel="seconds (bar: mean of the MPI ranks; line: least to most)", xlim=(0, 1.2 * total),
             ylim=(len(phases) - 0.4, -0.6))
    return figure


# What an interval of a timeline is: the words of its name, the first that fit, and how it is drawn.
INTERVALS = (("waiting", ("waiting",), RED, "////"), ("tangent forward", ("tangent", "forward"), YELLOW, None),
             ("tangent backward", ("tangent", "backward"), ORANGE, None),
             ("validation forward", ("hypergradient", "forward"), SKY, None),
             ("validation backward", ("hypergradient", "backward"), PURPLE, None),
             ("forward", ("forward",), BLUE, None), ("backward", ("backward",), GREEN, None), ("other", (), GREY, None))


def interval_kind(name):
    """The row of INTERVALS for a name such as "search/hypergradient/tangent/forward"."""
    parts = name.split("/")
    return next(row for row in INTERVALS if all(word in parts for word in row[1]))


@styled
def pipeline_timeline(timeline):
    """One bar a rank; what is white or hatched is a bubble."""
    ranks = sorted(set(timeline.ranks.tolist()))
    figure, axes = plt.subplots(figsize=(10, 1.4 + 0.32 * len(ranks)))
    found = {}
    for rank, name, start, stop in zip(timeline.ranks, timeline.names, timeline.starts, timeline.stops):
        found.setdefault(interval_kind(name), []).append((ranks.index(rank), start, stop - start))
    for row in INTERVALS:
        if row in found:
            label, _, colour, hatch = row
            y, start, width = (np.array(values) for values in zip(*found[row]))
            axes.barh(y, width, left=start, height=0.8, color=colour, hatch=hatch, ec="white", lw=0.3, label=label)
    axes.set(xlabel="seconds since the iteration began", ylabel="MPI rank", xlim=(0, timeline.end),
             ylim=(len(ranks) - 0.4, -0.6))
    axes.set_yticks(range(len(ranks)), ranks)
    legend_above(axes, columns=8)
    return figure


# ---- several runs ----


@styled
def seeds_map(modules, ranks, labels, k):
    """Ranks of every module in every run."""
    figure, axes = plt.subplots(figsize=(2.6 + 0.5 * ranks.shape[1] + 0.8, 1.3 + 0.26 * len(modules)))
    image = axes.imshow(ranks, cmap=COLOURS, vmin=0, vmax=k, aspect="auto")
    for (m, run), value in np.ndenumerate(ranks):
        axes.text(run, m, f"{value:.0f}", ha="center", va="center", fontsize=8, color=text_colour(value, 0, k))
    axes.set_yticks(range(len(modules)), names.short_names(modules), fontsize=8)
    axes.set_xticks(range(len(labels)), labels)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="seed", ylabel="layer and projection")
    figure.colorbar(image, ax=axes, label="rank (components)", ticks=MaxNLocator(integer=True))
    return figure


@styled
def null_model(agreement):
    """What was found, as a line in the histogram of the null model."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.8))
    for panel, null, value, p, label in zip(
            panels, (agreement.null, agreement.null_icc), (agreement.mean_spearman, agreement.icc),
            (agreement.p_spearman, agreement.p_icc), ("mean pairwise Spearman", "intraclass correlation")):
        known = null[np.isfinite(null)]
        panel.hist(known, bins=25, color=SKY, label="ranks at random")
        if np.isfinite(value):
            panel.axvline(value, color=RED, lw=2, label=f"found: {value:.2f} (p = {p:.3g})")
        panel.set(xlabel=f"{label} (1)", ylabel="permutations")
        legend_above(panel)
    return figure


@styled
def score_against_parameters(rows):
    """rows: the table of experiments of one task. Mean and standard deviation over seeds; the front as steps."""
    figure, axes = plt.subplots(figsize=(7, 4.2))
    metric = rows["metric"].iloc[0]
    x, y = rows["trainable_parameters"].to_numpy(), rows["score"].to_numpy()
    for i, method in enumerate(dict.fromkeys(rows["method"])):
        of = (rows["method"] == method).to_numpy()
        axes.errorbar(x[of], y[of], yerr=rows["score_sd"].fillna(0)[of], xerr=rows["trainable_parameters_sd"].fillna(0)[of],
                      ls="", marker=MARKERS[i % 8], color=CYCLE[i % 8], label=method, ms=7, capsize=3, lw=1)
        for px, py, setting in zip(x[of], y[of], rows["setting"][of]):
            if setting:
                axes.annotate(setting, (px, py), xytext=(7, 5), textcoords="offset points", fontsize=7)
    front = np.flatnonzero(pareto_front(x, y, is_lower_better(metric)))
    front = front[np.argsort(x[front])]
    axes.plot(x[front], y[front], color="black", lw=1, ls="--", drawstyle="steps-post", zorder=0, label="Pareto front")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if x.max() < 4 * x.min():  # round numbers may be outside
        axes.set_xticks(sorted(set(x)), [f"{value:,.0f}" for value in sorted(set(x))], rotation=30)
    axes.set(xlabel="trainable parameters", ylabel=f"{metric.replace('_', ' ')} on dev")
    legend_above(axes, 5)
    return figure


@styled
def speed_and_memory(rows):
    """rows: the table of runs."""
    figure, (left, middle, right) = plt.subplots(1, 3, sharey=True, figsize=(9, 1.2 + 0.24 * len(rows)))
    y = np.arange(len(rows))
    left.barh(y, rows["tokens_per_second"], color=BLUE, height=0.65)
    left.set_yticks(y, [f"{run}  {method}" for run, method in zip(rows["run"], rows["method"])], fontsize=8)
    left.set(xlabel="tokens a second, both phases", ylim=(len(rows) - 0.4, -0.6))
    middle.barh(y, rows["peak_memory_bytes"] / 2**20, color=GREEN, height=0.65)
    middle.set(xlabel="peak memory of the largest rank (MiB)")
    right.barh(y, rows["seconds"], color=ORANGE, height=0.65)
    right.set(xlabel="time of the run (s)")
    return figure
