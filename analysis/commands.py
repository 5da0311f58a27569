"""The command line."""
import argparse
import os
import pathlib
import sys

from analysis.runs import Mistake, find_runs


def report(options):
    from analysis.report import write_report
    runs = find_runs(options.runs)
    if options.out:
        folder = pathlib.Path(options.out)
    else:
        folder = pathlib.Path(os.path.commonpath([str(pathlib.Path(path).resolve()) for path in options.runs])) / "report"
    print(write_report(runs, folder, options.details))


def compare(options):
    from analysis import tables
    runs = find_runs(options.runs)
    if len(runs) < 2:
        raise Mistake("compare: name two runs or more")
    sys.stdout.write(tables.comparison(runs))


def table(options):
    from analysis import tables
    text = tables.experiments(find_runs(options.runs), options.style)
    if not text:
        raise Mistake("table: none of these runs has a result.json")
    sys.stdout.write(text)


def planted(options):
    from analysis import planted as truths, tables
    runs = find_runs(options.runs)
    if options.losses:
        header = ["noise", "ranks", "adapter parameters", "runs", "dev loss", "above uniform"]
        cells = [[f"{row.noise:g}", row.ranks, f"{row.parameters:,.0f}", str(row.runs), f"{row.loss:.3f}",
                  tables.spread(row.above_uniform, row.above_uniform_sd, 3)]
                 for row in truths.losses(runs, options.truth).itertuples()]
    else:
        header = ["noise", "selection_lr", "rule", "runs", "Spearman", "mean absolute error"]
        cells = [[f"{row.noise:g}", f"{row.selection_lr:g}", row.rule, str(row.runs),
                  tables.spread(row.spearman, row.spearman_sd, 2), f"{row.error:.2f}"]
                 for row in truths.summary(runs, options.truth).itertuples()]
    sys.stdout.write(tables.markdown(header, cells) if options.markdown else tables.columns(header, cells))


def watch(options):
    from analysis.watch import watch as follow
    if not pathlib.Path(options.run).is_dir():
        raise Mistake(f"{options.run}: no such folder")
    if not follow(options.run, options.seconds, options.once):
        raise Mistake(f"{options.run}: no progress.jsonl with a report")


def arguments(texts):
    parser = argparse.ArgumentParser(prog="python3 -m analysis", description="Shows what runs of autolora did.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(function, summary):
        command = commands.add_parser(function.__name__, help=summary, description=summary)
        command.set_defaults(function=function)
        return command

    folders = {"nargs": "+", "metavar": "RUN_DIR", "help": "folder of a run, of a sweep, or of several runs"}
    command = add(report, "write figures and one HTML page")
    command.add_argument("runs", **folders)
    command.add_argument("--out", metavar="DIR", help="where to (report/ in the folder that holds all the runs)")
    command.add_argument("--details", type=int, default=6, metavar="N", help="show N of several runs one by one (6)")
    add(compare, "runs beside each other: input, results, ranks").add_argument("runs", **folders)
    command = add(table, "one row a task, method and setting; mean and standard deviation over the seeds")
    command.add_argument("runs", **folders)
    style = command.add_mutually_exclusive_group()
    for name, summary in (("markdown", None), ("csv", None), ("methods", "Markdown: a row a task, a column a method")):
        style.add_argument(f"--{name}", dest="style", action="store_const", const=name, default="text", help=summary)
    command = add(planted, "found ranks against planted ones (inputs/planted)")
    command.add_argument("runs", **folders)
    command.add_argument("--truth", metavar="FILE", help="truth.json (the one beside the data of each run)")
    command.add_argument("--losses", action="store_true", help="loss on dev after training, by where the ranks come from")
    command.add_argument("--markdown", action="store_true")
    command = add(watch, "follow a running job")
    command.add_argument("run", metavar="RUN_DIR")
    command.add_argument("--seconds", type=float, default=2, help="between two looks (2)")
    command.add_argument("--once", action="store_true", help="one look, then end")
    return parser.parse_args(texts)


def main(texts=None):
    """Exit codes: 0 done, 2 wrong usage, 3 a file that cannot be read."""
    from analysis.trace import TraceProblem
    options = arguments(texts)
    try:
        options.function(options)
    except Mistake as mistake:
        print(f"analysis: {mistake}", file=sys.stderr)
        return 2
    except TraceProblem as problem:
        print(f"analysis: {problem}", file=sys.stderr)
        return 3
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0
