"""What the page says: of all runs together, then of each run."""
import re

import numpy as np

from analysis import agreement, figures, methods, tables
from analysis.page import Page, escape, number
from analysis.selection import INTERVAL, LAST_PART, read_history
from analysis.spectrum import read_spectrum
from analysis.trace import TraceProblem


def write_report(runs, folder, most_details):
    """Writes index.html and figures/ to `folder`; returns the page's path."""
    title = f"autolora: {runs[0].label}" if len(runs) == 1 else f"autolora: {len(runs)} runs"
    page = Page(title, folder)
    if len(runs) > 1:
        add_all_runs(page, runs)
    # Runs that have ranks to explain come first; the page keeps their order.
    order = sorted(range(len(runs)), key=lambda i: not runs[i].has_history)
    chosen = sorted(order[:most_details])
    for i in chosen:
        add_run(page, runs[i], f"run{i}-" if len(runs) > 1 else "")
    if len(chosen) < len(runs):
        page.text(f"{len(runs) - len(chosen)} runs are not shown one by one (--details N shows more).")
    return page.write()


# ---- all runs ----


def add_all_runs(page, runs):
    rows = methods.run_rows(runs)
    experiments = methods.experiment_rows(runs)
    if not rows.empty:
        page.section("Results")
        header, cells = tables.without_empty(tables.HEADER, tables.experiment_cells(experiments))
        page.table("experiments", header, [[escape(cell) for cell in row] for row in cells])
        page.text("One row a task, method and setting: mean ± standard deviation (n - 1) over the seeds.")
        for task in dict.fromkeys(experiments["task"]):
            of = experiments[experiments["task"] == task]
            page.figure(f"score-{plain(task)}", figures.score_against_parameters(of),
                        f"{task}: score against trainable parameters; bars are one standard deviation over the seeds. "
                        "On the Pareto front no other has fewer parameters and a better score.")
    unfinished = [run for run in runs if not run.is_whole]
    if unfinished:
        page.text("Without result.json (running, stopped or failed): " + ", ".join(run.label for run in unfinished))
    for i, (name, members) in enumerate(methods.seed_groups(runs)):
        add_agreement(page, name, members, i)
    add_against_full(page, runs)
    if not rows.empty:
        page.section("Speed and memory")
        page.figure("speed", figures.speed_and_memory(rows), "Tokens a second over search and final training together, "
                    "peak memory of the MPI rank that needed most, time of the whole run.")
        page.table("runs", ("run", "task", "method", "setting", "seed", "score", "tokens/s", "peak memory (MiB)",
                            "seconds"),
                   [[escape(row.run), escape(row.task), escape(row.method), escape(row.setting), escape(run_seed(row.seed)),
                     number(row.score, ".4f"), number(row.tokens_per_second, ".0f"),
                     number(row.peak_memory_bytes / 2**20, ".0f"), number(row.seconds, ".1f")]
                    for row in rows.itertuples()])


def run_seed(seed):
    return "" if seed is None or seed != seed else f"{seed:g}"


def add_agreement(page, name, members, i):
    found = agreement.agreement(np.array([run.ranks for run in members]).T)
    if found is None:
        return
    page.section(f"Agreement of the seeds: {name}")
    k = largest_rank(members[0], found.ranks)
    labels = [str(run.seed) if run.seed is not None else run.label for run in members]
    page.figure(f"seeds{i}", figures.seeds_map(members[0].modules, found.ranks, labels, k),
                "Ranks of every module in every run. Rows of one colour: the seeds agree.")
    page.figure(f"null{i}", figures.null_model(found), "What was found beside the null model: each run's ranks on "
                f"modules at random, {len(found.null)} times.")
    page.facts([("intraclass correlation", f"{number(found.icc)} (p = {number(found.p_icc)})"),
                ("mean pairwise Spearman", f"{number(found.mean_spearman)} (p = {number(found.p_spearman)})")])
    if np.isfinite(found.p_icc):
        page.text("p is how often ranks at random agree as much. " + (
            "The seeds agree more than ranks at random do." if found.p_icc < 0.05 else
            "The seeds agree no more than ranks at random do: the choice says little about the layers."))
    inside = agreement.share_inside(found.ranks, [run.intervals for run in members])
    if np.isfinite(inside):
        page.facts([("ranks of other seeds inside of a run's intervals", number(inside, ".1%"))])
        page.text("An interval says what other batches at the end of the search would have changed. Where far fewer than 90 % of "
                  "other seeds' ranks are inside, what decides comes earlier: trust several seeds, not one interval.")
    page.table(f"spearman{i}", ["seed", *labels],
               [[escape(label), *(number(value, ".3f") for value in row)]
                for label, row in zip(labels, found.spearman)])


def largest_rank(run, ranks):
    """The k of the colour scale."""
    return int(run.keys.get("adapter.rank") or 0) or max(1, int(np.max(ranks)))


def plain(name):
    return re.sub(r"[^A-Za-z0-9_-]", "_", str(name))


# ---- one run ----


def add_run(page, run, prefix):
    page.section(f"{run.label}: {run.task}, {run.method}" + (f", seed {run.seed}" if run.seed is not None else ""))
    add_outcome(page, run)
    if run.problem:
        page.warning(f"No trace: {run.problem}")
    else:
        try:
            with run.trace() as trace:
                add_trace(page, run, trace, prefix)
        except TraceProblem as problem:
            page.warning(str(problem))
    if run.problem and run.ranks:
        add_rank_map(page, run, largest_rank(run, run.ranks), prefix)
    add_spectrum(page, run, prefix)
    add_timers(page, run, prefix)
    add_timelines(page, run, prefix)


def add_outcome(page, run):
    result = run.result
    if not run.is_whole:
        page.warning("There is no result.json: the run is going on, was stopped or failed. What its trace has is shown.")
        return
    row = methods.numbers_of(result)
    page.facts([
        (f"{row['metric']} on dev".replace("_", " "), number(row["score"], ".4f")),
        ("trainable parameters", number(row["trainable_parameters"], ",.0f")),
        ("mean rank", number(row["mean_rank"], ".2f")),
        ("time", f"{number(row['seconds'], ',.1f')} s"),
        ("tokens a second", number(row["tokens_per_second"], ",.0f")),
        ("peak memory of an MPI rank", f"{number(row['peak_memory_bytes'] / 2**20, ',.0f')} MiB"),
        ("MPI ranks, threads each", escape(f"{result.get('provenance', {}).get('mpi_ranks', '?')}, "
                                           f"{result.get('provenance', {}).get('threads_per_rank', '?')}")),
        ("program", escape(f"{result.get('provenance', {}).get('version', '?')}, started "
                           f"{result.get('provenance', {}).get('started', '?')}"))])
    warning = (result.get("search") or {}).get("warning")
    if warning:
        page.warning(f"The program said: {warning}")


def add_trace(page, run, trace, prefix):
    for text in trace.unreadable:
        page.warning(f"A segment of the trace cannot be read: {text}")
    if len(trace.files) > 1:
        page.text(f"The trace has {len(trace.files)} segments: the run was resumed.")
    history = read_history(trace, run.ranks)
    if history is not None:
        add_history(page, run, trace.modules, history, prefix)
    elif run.ranks:
        add_rank_map(page, run, largest_rank(run, run.ranks), prefix)
    add_losses(page, run, trace, prefix)


def add_rank_map(page, run, k, prefix):
    page.figure(f"{prefix}ranks", figures.rank_map(run.modules, run.ranks, k), "Rank of every adapted projection.")


def every(stride):
    return "" if stride == 1 else f" Every {stride}th iteration is shown."


def add_history(page, run, modules, history, prefix):
    k = history.values.shape[-1]
    ranks = run.ranks or [int(rank) for rank in history.ranks[-1]]
    page.heading("Ranks")
    add_rank_map(page, run, k, prefix)
    page.figure(f"{prefix}rank-history", figures.ranks_over_time(modules, history.steps, history.ranks, k),
                "Ranks that the rule would have chosen at each iteration." + every(history.stride))
    if history.certainty is not None:
        add_certainty(page, run, modules, history, k, prefix)
    else:
        page.text("No interval is known of these ranks: " + (
            "the trace is too short." if history.is_search else "AdaLoRA's are fixed while the last part is trained."))
    page.heading("Selection variables" if history.is_search else "Singular values")
    rule = history.rule
    by_threshold = history.is_search and rule.threshold == "softmax" and rule.total == 0
    page.figure(f"{prefix}trajectories",
                figures.trajectories(modules, history.steps, history.values, ranks, 1 / k if by_threshold else None,
                                     "selection variable q (1)" if history.is_search else "singular value (1)"),
                "Every component of every module over time." + every(history.stride))
    if history.is_search:
        add_movement(page, modules, history, k, prefix)


def add_certainty(page, run, modules, history, k, prefix):
    certainty = history.certainty
    page.heading("How sure the ranks are")
    page.figure(f"{prefix}intervals", figures.rank_intervals(modules, certainty, k),
                "Chosen rank, interval, and how often the rank would differ by one or more.")
    how = (f"Moving-block bootstrap over the last {100 * LAST_PART:.0f} % of the trace: the increments of the logits are "
           "drawn anew in blocks, as if other batches had come, and the rule is applied where they end."
           if certainty.kind == "bootstrap" else
           f"The ranks at the iterations of the last {100 * LAST_PART:.0f} % of the trace: the rule of this run cannot be "
           "followed from the trace alone.")
    page.text(f"{how} {certainty.rows} rows" + (f", every {certainty.stride}th" if certainty.stride > 1 else "") +
              f"; intervals of {100 * INTERVAL:.0f} %.")
    own = run.intervals if run.is_whole else None
    header = ("module", "rank", "low", "high", "differs", *(("low (program)", "high (program)", "differs (program)") if own else ()))
    page.table(f"{prefix}certainty", header,
               [[escape(module), number(certainty.ranks[m], ".0f"), number(certainty.low[m], ".0f"),
                 number(certainty.high[m], ".0f"), number(certainty.differs[m], ".1%"),
                 *((number(own[0][m], ".0f"), number(own[1][m], ".0f"), number(own[2][m], ".1%")) if own else ())]
                for m, module in enumerate(modules)])
    page.text("Low to high: the middle 90 % of the ranks, and the chosen one." +
              (" (program): what result.json and ranks.json say, by the same rule with other random numbers." if own else ""))
    unsure = int((certainty.differs > 0.5).sum())
    if unsure:
        page.warning(f"{unsure} of {len(modules)} ranks would differ more often than not.")


def add_movement(page, modules, history, k, prefix):
    page.figure(f"{prefix}entropy", figures.entropy_and_movement(modules, history.steps, history.entropy,
                                                                 history.movement, k),
                "Entropy and movement of the selection variables; thin lines are modules. Near the dotted line of the "
                "left panel all components are alike, and a threshold of 1/k cuts noise in half.")
    page.facts([("mean entropy at the end", f"{number(history.entropy[-1].mean())} nat of {number(np.log(k))}"),
                ("largest movement at the end", f"{number(history.movement[-1].max())}, 1/k is {number(1 / k)}"),
                ("movement in the last quarter, of all", f"{number(history.late_share, '.1%')} (a search that has converged: "
                 "near 0; a steady drift: 25 %; a random walk: about 50 %)")])
    if history.movement[-1].max() < 0.1 / k:
        page.warning("No selection variable moved by a tenth of 1/k: the ranks say nothing about the layers.")
    if history.signal is not None:
        page.heading("Signal of the hypergradient")
        page.figure(f"{prefix}signal", figures.signal_map(modules, history.signal, history.signal_rows),
                    "Mean of each component's hypergradient over its standard deviation, last "
                    f"{100 * LAST_PART:.0f} % of the search.")
        level = figures.noise_level(history.signal_rows)
        page.facts([("components above the noise", f"{number((history.signal > level).mean(), '.1%')} "
                     "(5 % are expected without any signal)")])
        page.table(f"{prefix}signal", ("module", *map(str, range(k))),
                   [[escape(module), *(number(float(value)) for value in history.signal[m])]
                    for m, module in enumerate(modules)])
    page.table(f"{prefix}modules", ("module", "entropy (nat)", "effective components", "movement", "mean signal-to-noise"),
               [[escape(module), number(history.entropy[-1][m]), number(np.exp(history.entropy[-1][m])),
                 number(history.movement[-1][m]),
                 number(float(history.signal[m].mean()) if history.signal is not None else None)]
                for m, module in enumerate(modules)])


def add_losses(page, run, trace, prefix):
    series, facts = {}, []
    for name, table, column in (("search train", "search", "loss_train"),
                                ("search validation", "search", "loss_validation"),
                                ("retrain train", "retrain", "loss_train"), ("retrain dev", "evaluation", "loss"),
                                ("score dev", "evaluation", "score")):
        table = trace.tables[table]
        if len(table) and column in table.columns:
            steps, values = table.means(column)
            if len(steps):
                series[name] = steps, values
                facts.append((f"{name}, last", number(table.read(column, first=len(table) - 1)[-1])))
    if series:
        metric = run.result.get("metric_name", "score").replace("_", " ")
        page.heading("Losses")
        page.figure(f"{prefix}losses", figures.losses(series, metric),
                    "Losses of both levels of the search and of the final training; bold lines are running means.")
        page.facts(facts)


def spectrum_of(page, run):
    """None where there is none to be shown; what is wrong with it is said on the page."""
    try:
        return read_spectrum(run.folder)
    except TraceProblem as problem:
        page.warning(str(problem))
        return None


def add_spectrum(page, run, prefix):
    spectrum = spectrum_of(page, run)
    if spectrum is None:
        return
    if spectrum.is_full:
        page.heading("Spectrum of what was learned")
        page.figure(f"{prefix}spectrum", figures.ranks_by_layer(spectrum.modules, {
            "effective rank of W - W0": spectrum.effective["update"],
            "stable rank of W - W0": spectrum.stable["update"]}),
            "How many directions full fine-tuning used: exp(entropy of the singular values), and sum of their squares over "
            "the largest square, which weak directions hardly count in.")
        add_spectrum_table(page, prefix, spectrum, range(len(spectrum.modules)), None)
        return
    if not run.ranks:
        return
    known = dict(zip(run.modules, run.ranks))
    rows = [i for i, module in enumerate(spectrum.modules) if module in known]
    if not rows:
        page.warning("spectrum.h5 names no module of this run.")
        return
    modules = [spectrum.modules[i] for i in rows]
    ranks = [known[module] for module in modules]
    effective = {name: values[rows] for name, values in spectrum.effective.items()}
    page.heading("Rank against spectrum")
    page.figure(f"{prefix}spectrum", figures.rank_against_spectrum(modules, ranks, effective),
                "Chosen rank against the effective rank, exp(entropy of the singular values); the numbers are layers.")
    page.facts([(f"Spearman, rank and effective rank of the {name}", number(spearman(ranks, values)))
                for name, values in effective.items()])
    add_spectrum_table(page, prefix, spectrum, rows, ranks)


def spearman(left, right):
    return float(agreement.spearman_matrix(np.array([left, right], float).T)[0, 1])


def add_spectrum_table(page, prefix, spectrum, rows, ranks):
    columns = {f"{kind} rank, {name}": values for kind in ("effective", "stable")
               for name, values in getattr(spectrum, kind).items()}
    page.table(f"{prefix}spectrum", ("module", *(["rank"] if ranks else []), *columns),
               [[escape(spectrum.modules[row]), *([number(ranks[i], ".0f")] if ranks else []),
                 *(number(float(values[row])) for values in columns.values())] for i, row in enumerate(rows)])


def add_against_full(page, runs):
    """The ranks that runs chose beside what full fine-tuning of the same task used, where both have a spectrum.h5 or ranks."""
    full = {run.task: (run, spectrum) for run in reversed(runs) if run.method == "full"
            and (spectrum := spectrum_of(page, run)) is not None and spectrum.is_full}
    for i, run in enumerate(runs):
        if run.task not in full or run.method == "full" or len(set(run.ranks)) < 2:
            continue
        other, spectrum = full[run.task]
        at = {module: m for m, module in enumerate(spectrum.modules)}
        members = [m for m, module in enumerate(run.modules) if module in at]
        if len(members) < 2:
            continue
        modules, ranks = [run.modules[m] for m in members], [run.ranks[m] for m in members]
        rows = [at[module] for module in modules]
        used = {f"{kind} rank of W - W0": getattr(spectrum, kind)["update"][rows] for kind in ("stable", "effective")}
        page.section(f"{run.label}: ranks against full fine-tuning ({other.label})")
        page.figure(f"full{i}", figures.rank_against_spectrum(modules, ranks, used),
                    "Chosen rank against how many directions full fine-tuning of the same task used; the numbers are layers.")
        page.facts([(f"Spearman, rank and {name}", number(spearman(ranks, values))) for name, values in used.items()])
        page.table(f"full{i}", ("module", "rank", *used),
                   [[escape(module), number(ranks[m], ".0f"), *(number(float(values[m])) for values in used.values())]
                    for m, module in enumerate(modules)])


def phases_of(timers, depth=0):
    """[(depth, name, calls, least, mean, most)] of result.json's nested timers."""
    found = []
    for name, phase in timers.items():
        if isinstance(phase, dict):
            found.append((depth, name, *(phase.get(key, 0) for key in ("calls", "min", "mean", "max"))))
            found += phases_of(phase.get("parts") or {}, depth + 1)
    return found


def add_timers(page, run, prefix):
    phases = phases_of(run.result.get("timers") or {})
    if not phases:
        return
    total = run.result.get("seconds") or max(mean for _, _, _, _, mean, _ in phases)
    page.heading("Where the time went")
    page.figure(f"{prefix}time", figures.time_by_phase(phases, total),
                "Seconds of every phase and, indented, its parts. Waiting (hatched) is for other stages: the pipeline's "
                "bubbles. A long line between least and most: the stages are not balanced.")
    page.table(f"{prefix}time", ("phase", "calls", "least (s)", "mean (s)", "most (s)", "of the run"),
               [[" " * 4 * depth + escape(name), number(calls, ",.0f"), number(least), number(mean),
                 number(most), number(mean / total, ".1%")] for depth, name, calls, least, mean, most in phases])


def add_timelines(page, run, prefix):
    """The pipeline in one iteration of each phase."""
    try:
        with run.trace() as trace:
            timelines = trace.timelines()
    except TraceProblem:
        return
    for phase, timeline in timelines.items():
        ranks = sorted(set(timeline.ranks.tolist()))
        page.heading(f"Pipeline in iteration {timeline.step} of {'the search' if phase == 'search' else 'the training'}")
        page.figure(f"{prefix}timeline-{phase}", figures.pipeline_timeline(timeline),
                    "What every MPI rank did when. Waiting (hatched) and gaps are the pipeline's bubbles; the clocks of "
                    "different nodes began together, at a barrier.")
        waits = {rank: timeline.seconds(rank, "waiting") for rank in ranks}
        page.table(f"{prefix}timeline-{phase}", ("MPI rank", "forward (s)", "backward (s)", "waiting (s)", "waiting"),
                   [[str(rank), number(timeline.seconds(rank, "forward")), number(timeline.seconds(rank, "backward")),
                     number(waits[rank]), number(waits[rank] / timeline.end, ".1%")] for rank in ranks])
