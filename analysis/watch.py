"""Follows a running job. On a terminal one screen, drawn anew; elsewhere one line for each report of the job, so that the
output can be kept. Nothing is written to the run's folder."""
import json
import pathlib
import sys
import time

import numpy as np

from analysis import names
from analysis.runs import read_json
from analysis.trace import Trace, TraceProblem

BARS = "▁▂▃▄▅▆▇█"
CLEAR = "\x1b[H\x1b[2J"


class Reports:
    """progress.jsonl, read on from where it was; a last line that is not whole is left for the next time."""

    def __init__(self, path):
        self.path, self.offset, self.rest = pathlib.Path(path), 0, b""

    def new(self):
        try:
            if self.path.stat().st_size < self.offset:  # a new job began
                self.offset, self.rest = 0, b""
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read()
        except OSError:
            return []
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        reports = []
        for line in lines:
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if isinstance(report, dict):
                reports.append(report)
        return reports


def clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def line_of(report):
    """One report in one line."""
    parts = [f"{report.get('phase', '?')} step {report.get('step', '?')}/{report.get('num_steps', '?')}"]
    known = {"loss_train": "train {:.4f}", "loss_validation": "validation {:.4f}", "mean_rank": "mean rank {:.2f}",
             "mean_entropy": "entropy {:.3f}", "tokens_per_second": "{:.0f} tokens/s"}
    for key, form in known.items():
        if isinstance(report.get(key), (int, float)):
            parts.append(form.format(report[key]))
    others = set(report) - set(known) - {"phase", "step", "num_steps", "seconds", "seconds_left", "learning_rate"}
    parts += [f"{key} {report[key]:.4f}" for key in sorted(others) if isinstance(report[key], (int, float))]
    if isinstance(report.get("seconds_left"), (int, float)):
        parts.append(f"left {clock(report['seconds_left'])}")
    return "  ".join(parts)


def sparkline(values, width=60):
    """A row of bars; the newest value is the last."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    parts = [part.mean() for part in np.array_split(values, min(width, len(values)))]
    low, high = min(parts), max(parts)
    return "".join(BARS[int((part - low) / (high - low) * 7.999) if high > low else 0] for part in parts)


def rank_lines(modules, ranks):
    """A row a layer, a column a projection."""
    layers, tails, cells = names.grid_of(modules)
    grid = {cell: ranks[m] for m, cell in cells.items()}
    lines = ["layer  " + "".join(f"{tail:>10}" for tail in tails)]
    for row, layer in enumerate(layers):
        lines.append(f"{layer:5}  " + "".join(f"{grid.get((row, column), ''):>10}" for column in range(len(tails))))
    return lines


def trace_lines(folder):
    """Ranks and losses so far; nothing where the trace is not there yet, or in the middle of a write."""
    try:
        with Trace(folder) as trace:
            lines = []
            for name in ("search", "allocation"):
                table = trace.tables[name]
                if len(table):
                    ranks = table.read("ranks", first=len(table) - 1)[0]
                    lines += rank_lines(trace.modules, ranks) + [f"mean rank {ranks.mean():.2f}", ""]
            for name, column in (("search", "loss_train"), ("search", "loss_validation"), ("retrain", "loss_train"),
                                 ("evaluation", "score")):
                if len(trace.tables[name]) and column in trace.tables[name].columns:
                    _, values = trace.tables[name].means(column, 60)
                    if len(values):
                        lines.append(f"{name + ' ' + column.replace('_', ' '):24} {sparkline(values)} {values[-1]:.4f}")
            return lines
    except (TraceProblem, OSError, KeyError, ValueError, RuntimeError):
        return []


def watch(folder, seconds, once, out=sys.stdout):
    """Until the job is done, which result.json says, or for one look."""
    folder, reports, last = pathlib.Path(folder), Reports(pathlib.Path(folder) / "progress.jsonl"), None
    is_terminal = out.isatty()
    while True:
        result = read_json(folder / "result.json")  # read before the last reports, so that none is lost
        is_done = bool(result)
        new = reports.new()
        last = new[-1] if new else last
        if is_terminal:
            lines = [str(folder), line_of(last) if last else "no report yet", "", *trace_lines(folder)]
            out.write(CLEAR + "\n".join(lines) + "\n")
        else:
            out.writelines(line_of(report) + "\n" for report in new)
            if is_done or once:
                out.writelines(line + "\n" for line in ["", *trace_lines(folder)])
        if is_done and isinstance(result.get("score"), (int, float)):
            out.write(f"done: {result.get('metric_name', 'score')} {result['score']:.4f}\n")
        out.flush()
        if is_done or once:
            return last is not None or is_done
        time.sleep(seconds)
