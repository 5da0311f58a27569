"""Tables as text: Markdown for READMEs, CSV for other programs, columns for a terminal."""
import math

from analysis import methods, names

HEADER = ("task", "method", "setting", "seeds", "metric", "score", "trainable parameters", "mean rank", "seconds",
          "core seconds")


def is_known(value):
    return isinstance(value, (int, float)) and math.isfinite(value)


def spread(mean, deviation, digits):
    """"0.271 ± 0.032"; the deviation is left out where one seed has none."""
    if not is_known(mean):
        return ""
    text = f"{mean:,.{digits}f}"
    return f"{text} ± {deviation:,.{digits}f}" if is_known(deviation) else text


def experiment_cells(rows):
    """[[text]] under HEADER."""
    cells = []
    for row in rows.itertuples():
        varies = is_known(row.trainable_parameters_sd) and row.trainable_parameters_sd > 0
        cells.append([row.task, row.method, row.setting, str(row.seeds), row.metric, spread(row.score, row.score_sd, 3),
                      spread(row.trainable_parameters, row.trainable_parameters_sd if varies else None, 0),
                      spread(row.mean_rank, None, 2), spread(row.seconds, row.seconds_sd, 0),
                      spread(row.cpu_seconds, row.cpu_seconds_sd, 0)])
    return cells


def markdown(header, cells):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def columns(header, cells):
    """For a terminal: columns as wide as they have to be."""
    rows = [list(map(str, row)) for row in [header, *cells]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n" for row in rows)


def without_empty(header, cells):
    """Leaves out the columns that say nothing."""
    used = [i for i in range(len(header)) if any(row[i] for row in cells)]
    return [header[i] for i in used], [[row[i] for i in used] for row in cells]


def extent(values, digits=0):
    """"53 to 99"."""
    if not values.notna().any():
        return ""
    low, high = (f"{end:,.{digits}f}" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def by_method(rows):
    """A row a task with the scores of all methods beside each other, then what they cost over all tasks."""
    order = list(dict.fromkeys(rows.method))
    cells = []
    for (task, metric), found in rows.groupby(["task", "metric"], sort=False):
        scores = {method: " / ".join(spread(row.score, row.score_sd, 3) for row in found[found.method == method].itertuples())
                  for method in order}
        cells.append([f"{task}, {metric.replace('_', ' ')}", extent(found.seeds), *scores.values()])
    for name, column in (("trainable parameters", "trainable_parameters"), ("core seconds a run", "cpu_seconds")):
        cells.append([name, "", *(extent(rows[rows.method == method][column]) for method in order)])
    return markdown(["task, score", "seeds", *order], cells)


def experiments(runs, style):
    """The table of `table`; style "markdown", "csv", "methods" or "text"."""
    rows = methods.experiment_rows(runs)
    if rows.empty:
        return ""
    if style == "methods":
        return by_method(rows)
    if style == "csv":
        return rows.to_csv(index=False)
    header, cells = without_empty(HEADER, experiment_cells(rows))
    return markdown(header, cells) if style == "markdown" else columns(header, cells)


def comparison(runs):
    """Runs beside each other: what differs in the input, what came out, and the rank of every module."""
    header = ["", *(run.label for run in runs)]
    experiments_of = [run.experiment() for run in runs]
    keys = [key for key in ("task.name", "adapter.method") if len({str(e.get(key)) for e in experiments_of}) > 1]
    keys += methods.differing_keys(runs)
    cells = [[key, *(str(e.get(key, "")) for e in experiments_of)] for key in keys]
    cells.append(["seed", *(str(run.seed) for run in runs)])
    rows = [methods.numbers_of(run.result) for run in runs]
    cells.append(["score", *(f"{row['metric']} {row['score']:.4f}" if is_known(row["score"]) else "-" for row in rows)])
    for name, form in (("trainable_parameters", ",.0f"), ("mean_rank", ".2f"), ("seconds", ",.0f"),
                       ("tokens_per_second", ",.0f")):
        cells.append([name.replace("_", " "), *(format(row[name], form) if is_known(row[name]) else "-" for row in rows)])
    parts = [columns(header, cells)]
    modules = list(dict.fromkeys(module for run in runs for module in run.modules))
    ranks = [dict(zip(run.modules, run.ranks)) for run in runs]
    if any(ranks):
        body = [[name, *(str(of.get(module, "-")) for of in ranks)]
                for module, name in zip(modules, names.short_names(modules))]
        parts.append(columns(["rank of", *(run.label for run in runs)], body))
    return "\n".join(parts)
