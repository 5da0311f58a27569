#!/usr/bin/env python3
"""Measures the program, beside PyTorch where it is given: python3 tests/bench/run.py [options]

Everything is a ratio of two things that took turns in this run, the median of at least 7 rounds: machines are shared and
differ. Models have the sizes of published ones and random weights (cases.py). Results go to outputs/bench/bench.json, a
list of {name, value, unit, ratio, target, better}, and as a table in Markdown to standard output.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

import cases
import flops
from sides import ENVIRONMENT, Kernels, Ours, Peer, alternate, closing, mpirun, ratio, seconds

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIG = "RoBERTa-base"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="folder with bench/ [%(default)s]")
    parser.add_argument("--peer", help="a Python with PyTorch, transformers and PEFT")
    parser.add_argument("--only", default="", help="the measurements whose name has this in it")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--busy", action="store_true", help="for a machine that others use: one thread, CPU time")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "../shared/data",
                        help="folder with tokenizers/ and glue/, for the tokenizers [%(default)s]")
    parser.add_argument("--size", default=BIG, choices=cases.SIZES, help="for trials: tiny, quarter")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/bench", help="folder for models and data [%(default)s]")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "outputs/bench")
    options = parser.parse_args()
    if options.busy:
        options.threads = 1
        os.environ["AUTOLORA_PROBE_CPU"] = "1"
    return options


class Bench:
    def __init__(self, options):
        self.options, self.results = options, []
        self.folder = options.work
        self.program = options.build / "bench/autolora"
        self.factors = self.folder / "factors"

    # ---- cases ----

    def model(self, family="roberta", size=None):
        size = size or self.options.size
        return cases.write_model(self.folder / f"{family}-{size.replace(' ', '-')}", family, size)

    def data(self, task, lengths, count=256):
        return cases.write_data(self.folder / f"data-{task}-{lengths}", task, cases.lengths_like(lengths, count))

    def input(self, name, lengths="128", task="cola", model=None, **keys):
        keys = {"parallel__microbatch_tokens": 1024, **keys}
        return cases.write_input(self.folder / f"{name}.json", model or self.model(), self.data(task, lengths), task,
                                 self.folder / f"out-{name}", **keys)

    def ours(self, name, num_ranks=1, threads=None, batches=False, **settings):
        """settings: keys of the input file, lengths, task"""
        return Ours(self.program, self.input(name, **settings), num_ranks, threads or self.options.threads, batches,
                    self.factors if batches else None)

    def lora(self, name, **settings):
        return self.ours(name, adapter__method="lora", **settings)

    def peer(self, kind, source, task="cola", **settings):
        """Starts from the factors of the first step of `source`; both make that step."""
        source.step()
        peer = Peer(self.options.peer, source, kind=kind, model=str(self.model()), threads=self.options.threads,
                    factors=str(self.factors), task=task, labels=3 if task == "ner" else 2, **settings)
        peer.step()
        return peer

    # ---- results ----

    def add(self, name, value, unit, ratio=None, target=None, better="higher"):
        self.results.append({"name": name, "value": value, "unit": unit, "ratio": ratio, "target": target,
                             "better": better})
        met = "" if target is None else " met" if self.is_met(self.results[-1]) else " MISSED"
        print(f"  {name}: {value:.4g} {unit}" + (f", ratio {ratio:.3f}" if ratio is not None else "")
              + (f", target {target}{met}" if target is not None else ""), file=sys.stderr, flush=True)

    @staticmethod
    def is_met(result):
        return (result["ratio"] >= result["target"] if result["better"] == "higher"
                else result["ratio"] <= result["target"])

    def rounds(self, sides):
        return alternate({name: side.step for name, side in sides.items()}, self.options.repeats)


# ---- what is measured; every function of this list ----

MEASUREMENTS = []


def measurement(function):
    MEASUREMENTS.append(function)
    return function


@measurement
def kernels(bench):
    """Every shape of product at 8 x 128 tokens, and the kernels besides."""
    lines = {}
    for size in ("MiniLM", "RoBERTa-base", "GPT-2 small"):
        for name, (m, n, k, a, b) in flops.dense_shapes(size, 1024).items():
            lines[f"{size}, {name}, {m} x {n} x {k}"] = (f"gemm {m} {n} {k} {a}{b}", 2.0 * m * n * k)
        hidden, _, heads, *_ = cases.SIZES[size]
        for part, products in (("forward", 2), ("backward", 4), ("tangent", 4), ("backward_tangent", 9)):
            work = products * 2.0 * 8 * 128 * 128 * hidden
            lines[f"{size}, attention {part}"] = (f"attention {part} 128 8 {heads} {hidden // heads}", work)
    floats = {"copy": 2, "vector_add": 3, "bias_add": 2, "gelu_forward": 2, "gelu_backward": 3,
              "gelu_tanh_forward": 2, "gelu_tanh_backward": 3, "layer_norm_forward": 3, "layer_norm_backward": 3}
    kernel = Kernels(bench.options.build / "bench/kernels", bench.options.threads)
    with closing({"kernels": kernel}):
        for _ in range(2):
            kernel.ask("large")
        rounds = [{name: kernel.ask(line) for name, line in
                   [("large", "large"), *((name, line) for name, (line, _) in lines.items()),
                    *((name, f"row {name} 1024 3072") for name in floats)]}
                  for _ in range(bench.options.repeats)]
    peak = statistics.median(found["peak"] for turn in rounds for found in turn.values())
    bench.add("fused multiply-adds, all threads", peak / 1e9, "GFLOP/s")
    bench.add("BLIS's best product, of the peak", statistics.median(1 / turn["large"]["seconds"] for turn in rounds),
              "GFLOP/s", statistics.median(1e9 / turn["large"]["seconds"] / turn["large"]["peak"] for turn in rounds))
    for name, (_, work) in lines.items():
        rates = [work / turn[name]["seconds"] for turn in rounds]
        bench.add(f"{name}: of BLIS's best", statistics.median(rates) / 1e9, "GFLOP/s", statistics.median(
            rate * turn["large"]["seconds"] / 1e9 for rate, turn in zip(rates, rounds)))
        bench.add(f"{name}: of the peak", statistics.median(rates) / 1e9, "GFLOP/s", statistics.median(
            rate / turn[name]["peak"] for rate, turn in zip(rates, rounds)))
    for name, count in floats.items():
        bench.add(f"{name} 1024 x 3072: against a copy's bandwidth",
                  count * 4 * 1024 * 3072 / 1e9 / seconds([turn[name] for turn in rounds]), "GB/s", statistics.median(
                      count / 2 * turn["copy"]["seconds"] / turn[name]["seconds"] for turn in rounds))


@measurement
def distributed(bench):
    """Products of a grid's ranks, there and back, against one process with as many threads; 1024 tokens a grid row."""
    for rows, columns in ((1, 2), (2, 1)):
        for out, inputs in ((768, 768), (3072, 768), (768, 3072)):
            command = [*mpirun(2), str(bench.options.build / "bench/distributed"), rows, columns, 1024 * rows,
                       4 * bench.options.repeats, out, inputs]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True,
                                  env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "2"})
            found = json.loads(done.stdout)
            bench.add(f"product of {out} x {inputs} on a grid [{rows}, {columns}]: rate of a local one's with 2 threads",
                      4e-9 * 1024 * rows * out * inputs / statistics.median(found["distributed"]), "GFLOP/s",
                      statistics.median(a / b for a, b in zip(found["local"], found["distributed"])), 0.9)


def is_dense(kernel):
    """Is it a product with a frozen weight?"""
    return kernel.startswith("gemm ") and min(map(int, kernel.split()[1:4])) >= 64


def replay_lines(record):
    """The frozen products of an iteration, for kernels.c to make again, and their FLOPs."""
    lines, work = [], 0
    for name, (calls, _, amount) in ((name, item) for name, item in record["kernels"].items() if is_dense(name)):
        lines += [name.rstrip("+")] * calls
        work += amount
    random.Random(1).shuffle(lines)
    return [f"replay {len(lines)}", *lines], work


def check_losses(name, ours, theirs):
    """Both sides did the same: losses agree from the start."""
    worst = max(abs(a - b) for mine, peer in zip(ours, theirs)
                for a, b in zip(mine["losses"], peer["losses"]))
    print(f"  {name}: largest difference of a loss {worst:.1e}", file=sys.stderr)


@measurement
def lora_step(bench):
    """LoRA rank 8 on query and value, 8 x 128 tokens."""
    has_peer, size = bench.options.peer is not None, bench.options.size
    tokens = 1024
    with closing({}) as sides:
        sides["plain"] = bench.lora("lora", batches=has_peer)
        if has_peer:
            sides["peer"] = bench.peer("lora", sides["plain"])
        sides["dropout"] = bench.lora("lora-dropout", batches=has_peer, model__hidden_dropout=0.1,
                                      model__attention_dropout=0.1)
        if has_peer:
            sides["peer, dropout"] = bench.peer("lora", sides["dropout"], dropout=0.1)
        kernel = sides["kernels"] = Kernels(bench.options.build / "bench/kernels", bench.options.threads)
        lines, work = replay_lines(sides["plain"].last if has_peer else sides["plain"].step())
        steps = {name: side.step for name, side in sides.items() if side is not kernel}
        found = alternate({**steps, "replay": lambda: kernel.ask(*lines)}, bench.options.repeats)
        peaks = {name: sides[name].resident_peak() for name in sides if name.startswith("peer")}
    useful = flops.lora_step(size, [128] * 8)
    plain = found["plain"]
    rate = useful / seconds(plain)
    bench.add("LoRA step 8 x 128: useful rate of BLIS's rate for the same shapes", rate / 1e9, "GFLOP/s",
              ratio(found["replay"], plain) * useful / work, 0.90)
    bench.add("LoRA step 8 x 128: useful rate of the peak", rate / 1e9, "GFLOP/s", statistics.median(
        useful / mine["seconds"] / kernel["peak"] for mine, kernel in zip(plain, found["replay"])))
    bench.add("LoRA step 8 x 128: FLOPs issued of those useful", plain[0]["product_flops"][0] / 1e9, "GFLOP",
              (plain[0]["product_flops"][0] + plain[0]["small_flops"][0]) / useful, 1.02, "lower")
    bench.add("LoRA step 8 x 128: allocations", plain[-1]["allocations"][0], "", plain[-1]["allocations"][0], 0, "lower")
    bench.add("LoRA step 8 x 128, dropout 0.1: time of that without", seconds(found["dropout"]), "s",
              ratio(found["dropout"], plain), None, "lower")
    if has_peer:
        bench.add("LoRA step 8 x 128: tokens/s of PyTorch's", tokens / seconds(plain), "tokens/s",
                  ratio(found["peer"], plain), 1.12)
        bench.add("LoRA step 8 x 128, dropout 0.1: tokens/s of PyTorch's", tokens / seconds(found["dropout"]), "tokens/s",
                  ratio(found["peer, dropout"], found["dropout"]), 1.4)
        for name, own, other in (("", "plain", "peer"), (", dropout 0.1", "dropout", "peer, dropout")):
            bench.add(f"LoRA step 8 x 128{name}: peak memory of PyTorch's", found[own][-1]["resident_peak"][0] / 2**20,
                      "MiB", found[own][-1]["resident_peak"][0] / peaks[other], 0.5, "lower")
        check_losses("LoRA step", plain, found["peer"])


@measurement
def real_lengths(bench):
    """The same on the lengths of real data: packed here, padded to the longest there."""
    for name, task in (("cola", "cola"), ("mrpc", "cola"), ("ncbi", "ner")):
        with closing({}) as sides:
            batch = {"optimizer__batch_size": 32, "parallel__microbatch_tokens": 1024}
            sides["ours"] = bench.lora(f"lora-{name}", lengths=name, task=task, batches=True, **batch)
            if bench.options.peer:
                sides["peer"] = bench.peer("lora", sides["ours"], task=task)
            found = alternate({side: sides[side].step for side in sides}, max(bench.options.repeats, 8))
        ours = found["ours"]
        if bench.options.peer:
            bench.add(f"LoRA step, 32 sentences as long as {name}'s: sequences/s of PyTorch's", 32 / seconds(ours),
                      "sequences/s", ratio(found["peer"], ours), 2)
            check_losses(name, ours, found["peer"])
        else:
            bench.add(f"LoRA step, 32 sentences as long as {name}'s", 32 / seconds(ours), "sequences/s")


KINDS = {"exact": 3.2, "finite_difference": 4.2, "first_order": None}


@measurement
def search_iteration(bench):
    """One iteration of the search against a LoRA step on the same batch, and against the authors' passes."""
    with closing({}) as sides:
        sides["lora"] = bench.lora("lora")
        for kind in KINDS:
            sides[kind] = bench.ours(f"search-{kind}", batches=True, search__hypergradient=kind)
        if bench.options.peer:
            sides["peer"] = bench.peer("autolora", sides["exact"])
        found = bench.rounds(sides)
    for kind, target in KINDS.items():
        bench.add(f"search iteration 8 x 128, {kind}: LoRA steps", seconds(found[kind]), "s",
                  ratio(found[kind], found["lora"]), target, "lower")
    if bench.options.peer:
        bench.add("search iteration 8 x 128, exact: rate of the authors' passes in PyTorch", 1 / seconds(found["exact"]),
                  "1/s", ratio(found["peer"], found["exact"]), 2)
        check_losses("search", found["exact"], found["peer"])


@measurement
def search_real_lengths(bench):
    with closing({}) as sides:
        batch = {"optimizer__batch_size": 32, "lengths": "cola"}
        sides["ours"] = bench.ours("search-cola", batches=True, **batch)
        if bench.options.peer:
            sides["peer"] = bench.peer("autolora", sides["ours"])
        found = alternate({name: side.step for name, side in sides.items()}, bench.options.repeats)
    if bench.options.peer:
        bench.add("search iteration, 32 sentences as long as cola's, exact: rate of the authors' passes in PyTorch",
                  1 / seconds(found["ours"]), "1/s", ratio(found["peer"], found["ours"]), 4)
    else:
        bench.add("search iteration, 32 sentences as long as cola's, exact", 1 / seconds(found["ours"]), "1/s")


GROUPS = {"products with frozen weights": is_dense, "products with factors": lambda kernel: kernel.startswith("gemm "),
          "attention": lambda kernel: kernel.startswith("attention_"), "gelu": lambda kernel: kernel.startswith("activation_"),
          "layer norm": lambda kernel: kernel.startswith("layer_norm_"),
          "adding biases and branches": lambda kernel: kernel in ("bias_add", "vector_add"),
          "optimizer": lambda kernel: kernel == "adam_update", "other kernels": bool}


def share_by_group(record):
    """{group: (part of the iteration, FLOP/s of its products or None)}"""
    found = {group: [0.0, 0.0] for group in [*GROUPS, "outside of kernels"]}
    for kernel, item in record["kernels"].items():
        if kernel:
            group = next(group for group, has in GROUPS.items() if has(kernel))
            found[group][0] += item[1]
            found[group][1] += item[2]
    found["outside of kernels"][0] = record["seconds"] - sum(seconds for seconds, _ in found.values())
    return {group: (taken / record["seconds"], work / taken if work else None) for group, (taken, work) in found.items()}


@measurement
def profile(bench):
    """Where the time of one search iteration goes, by kernel and by pass."""
    with closing({}) as sides:
        sides["ours"] = bench.ours("profile")
        kernel = sides["kernels"] = Kernels(bench.options.build / "bench/kernels", bench.options.threads)
        found = alternate({"ours": sides["ours"].step, "large": lambda: kernel.ask("large")}, bench.options.repeats, 1)
    shares = [share_by_group(record) for record in found["ours"]]
    for group in shares[0]:
        rates = [share[group][1] for share in shares]
        rate = f" at {statistics.median(rates) / 1e9:.3g} GFLOP/s" if rates[0] else ""
        bench.add(f"search iteration, exact: {group}{rate}, part of the time", 100 * statistics.median(
            share[group][0] for share in shares), "%")
    record = found["ours"][-1]
    for path, ranks in record["phases"].items():
        if path.endswith(("forward", "backward", "optimizer", "trace")) and ranks[0] > 0:
            bench.add(f"search iteration, exact: {path}, part of the time", 100 * statistics.median(
                item["phases"][path][0] / item["seconds"] for item in found["ours"]), "%")
    bench.add("BLIS's best meanwhile", statistics.median(1 / item["seconds"] for item in found["large"]), "GFLOP/s",
              statistics.median(1e9 / item["seconds"] / item["peak"] for item in found["large"]))


@measurement
def generation(bench):
    """Beam search, 10 beams, 64 new tokens, 4 contexts of 17 tokens."""
    family = bench.model("gpt2", "GPT-2 small" if bench.options.size == BIG else bench.options.size)
    data = cases.write_data(bench.folder / "data-e2e", "e2e", [18] * 4)
    path = cases.write_input(bench.folder / "generation.json", family, data, "e2e", bench.folder / "out-generation",
                             adapter__method="lora", retrain__steps=1, task__no_repeat_ngram=0, task__limit_dev=4,
                             task__num_beams=10, task__max_new_tokens=64, optimizer__batch_size=4,
                             task__length_penalty=2)  # random weights: else the empty text is the likeliest
    with closing({}) as sides:
        ours = sides["ours"] = Ours(bench.program, path, 1, bench.options.threads)
        contexts = ours.step()["contexts"]  # behind the one step of training
        steps = {"ours": ours.step}
        if bench.options.peer:
            peer = sides["peer"] = Peer(bench.options.peer, kind="gpt2", model=str(family),
                                        threads=bench.options.threads)
            steps["peer"] = lambda: peer.ask(do="generate", contexts=contexts, beams=10, tokens=64)
        found = alternate(steps, bench.options.repeats, warm_up=1)
    count = sum(map(len, found["ours"][0]["tokens"]))
    if bench.options.peer:
        bench.add("generation, 10 beams, 64 tokens: tokens/s of transformers'", count / seconds(found["ours"]), "tokens/s",
                  ratio(found["peer"], found["ours"]), 2)
        same = sum(a == b for a, b in zip(found["ours"][0]["tokens"], found["peer"][0]["tokens"]))
        print(f"  generation: {same} of {len(contexts)} texts are the same", file=sys.stderr)
    else:
        bench.add("generation, 10 beams, 64 tokens", count / seconds(found["ours"]), "tokens/s")


@measurement
def start(bench):
    """From the start of the program to the first step: 8,551 sentences as long as CoLA's."""
    data = cases.write_data(bench.folder / "data-cola-all", "cola", cases.lengths_like("cola", 8551))
    path = cases.write_input(bench.folder / "start.json", bench.model(), data, "cola", bench.folder / "out-start",
                             adapter__method="lora", parallel__microbatch_tokens=1024)
    taken = []
    for _ in range(bench.options.repeats + 1):
        with closing({"ours": Ours(bench.program, path, 1, bench.options.threads)}) as sides:
            taken.append(sides["ours"].seconds_to_start)
    bench.add("start to the first step, files in the page cache", statistics.median(taken[1:]), "s",
              statistics.median(taken[1:]), 1.5, "lower")


@measurement
def tokenizers(bench):
    """CoLA's sentences, one thread, with real vocabularies."""
    text = bench.options.data / "glue/CoLA/train.tsv"
    folders = sorted((bench.options.data / "tokenizers").glob("*/"))
    if not text.exists() or not folders or not bench.options.peer:
        print("  tokenizers: no data, or no peer", file=sys.stderr)
        return
    lines = "".join(line.split("\t")[3] for line in text.read_text().splitlines(keepends=True)) * 4
    peer = "import sys, time, tokenizers\nt = tokenizers.Tokenizer.from_file(sys.argv[1])\n" \
           "lines = sys.stdin.read().splitlines()\nstart = time.process_time()\n" \
           "t.encode_batch_fast(lines, add_special_tokens=False)\nprint(time.process_time() - start)\n"
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def theirs(folder):
        done = subprocess.run([bench.options.peer, "-c", peer, str(folder / "tokenizer.json")], input=lines,
                              capture_output=True, text=True, check=True, env=environment)
        return {"seconds": float(done.stdout)}

    def ours(folder):
        done = subprocess.run([str(bench.options.build / "tools/tokenize"), str(folder)], input=lines,
                              capture_output=True, text=True, check=True)
        return {"seconds": float(done.stderr.split()[-2])}

    for folder in folders:
        if (folder / "tokenizer.json").exists():
            found = alternate({"ours": lambda: ours(folder), "peer": lambda: theirs(folder)}, bench.options.repeats, 1)
            bench.add(f"tokenizer {folder.name}: rate of the Python package's",
                      len(lines) / 1e6 / seconds(found["ours"]), "MB/s", ratio(found["peer"], found["ours"]), 1)


@measurement
def writing(bench):
    """The trace, a row an iteration, and a checkpoint."""
    with closing({}) as sides:
        sides["ours"] = bench.ours("writing", output__checkpoint_every=1)
        found = bench.rounds(sides)["ours"]

    def share(record):
        phases = record["phases"]
        return phases["search/trace"][0] / (phases["search/train_gradient"][0] + phases["search/hypergradient"][0])

    bench.add("trace, a row an iteration: of the iteration", statistics.median(
        record["phases"]["search/trace"][0] for record in found) * 1e3, "ms", statistics.median(map(share, found)), 0.01,
        "lower")

    def checkpoint(record):
        parts = [record["phases"][f"search/{part}"][0] for part in
                 ("train_gradient", "hypergradient", "trace", "optimizer")]
        return record["seconds"] - sum(parts)

    taken = statistics.median(map(checkpoint, found))
    bench.add("checkpoint: of the default interval, 600 s", taken, "s", taken / 600, 0.02, "lower")


def busy(record, rank):
    """Seconds of a rank's passes, and of its waiting within them."""
    total = {"busy": 0, "waiting": 0}
    for name, ranks in record["phases"].items():
        part = name.rsplit("/", 1)[-1]
        if part in ("forward", "backward"):
            total["busy"] += ranks[rank]
        elif part == "waiting":
            total["waiting"] += ranks[rank]
    return total


@measurement
def pipeline(bench):
    """8 microbatches of 128 tokens: 1, 2 and 4 ranks, on as many threads in all as there are cores."""
    cores, count = bench.options.threads, 8
    for what, make in (("LoRA step", bench.lora), ("search iteration, exact", bench.ours)):
        keys = {"parallel__microbatch_tokens": 128}
        with closing({}) as sides:
            for ranks in (1, 2, 4):
                sides[ranks] = make(f"pipeline-{ranks}", num_ranks=ranks, threads=max(1, cores // ranks), **keys)
            found = bench.rounds(sides)
        for ranks in (2, 4):
            bound = count / (count + ranks - 1)
            balance = statistics.median(
                statistics.mean(parts) / max(parts) for parts in
                ([busy(record, rank)["busy"] for rank in range(ranks)] for record in found[ranks]))
            idle = statistics.median(
                statistics.mean(1 - busy(record, rank)["busy"] / record["seconds"] for rank in range(ranks))
                for record in found[ranks])
            if ranks > cores:
                bench.add(f"pipeline, {what}, {ranks} ranks on {cores} cores: rate of 1 rank's", seconds(found[ranks]),
                          "s", ratio(found[1], found[ranks]))
                continue
            bench.add(f"pipeline, {what}, {ranks} ranks: rate of 1 rank's", seconds(found[ranks]), "s",
                      ratio(found[1], found[ranks]))
            bench.add(f"pipeline, {what}, {ranks} ranks: that of the schedule's bound {bound:.3f} times the balance "
                      f"{balance:.3f}", seconds(found[ranks]), "s",
                      ratio(found[1], found[ranks]) / (bound * balance), 0.95)
            bench.add(f"pipeline, {what}, {ranks} ranks: idle part of a stage, mean", seconds(found[ranks]), "s", idle,
                      None, "lower")


@measurement
def growth(bench):
    """How the time of a search iteration grows with layers, tokens and k: parts of the time of the largest."""
    size = bench.options.size
    hidden, blocks, *rest = cases.SIZES[size]
    variants = {}
    for part in (4, 2):
        name = f"{size}, {blocks // part} blocks"
        cases.SIZES[name] = (hidden, max(1, blocks // part), *rest)
        variants[f"blocks {blocks // part}"] = {"model": bench.model("roberta", name)}
    variants[f"blocks {blocks}, 8 x 128 tokens, k 8"] = {}
    variants.update({f"{count} x 128 tokens": {"optimizer__batch_size": count} for count in (2, 4)})
    variants.update({f"k {rank}": {"adapter__rank": rank} for rank in (4, 16, 32)})
    with closing({}) as sides:
        for number, (name, keys) in enumerate(variants.items()):
            sides[name] = bench.ours(f"growth-{number}", **keys)
        found = bench.rounds(sides)
    whole = found[f"blocks {blocks}, 8 x 128 tokens, k 8"]
    for name in variants:
        bench.add(f"growth, search iteration, {name}: of that with {blocks} blocks, 8 x 128 tokens, k 8",
                  seconds(found[name]), "s", ratio(found[name], whole), None, "lower")


# ---- the table ----


def table(results):
    lines = ["| measured | value | ratio | target | |", "|---|---|---|---|---|"]
    for result in results:
        sign = "" if result["target"] is None else ">= " if result["better"] == "higher" else "<= "
        lines.append("| {} | {:.4g} {} | {} | {} | {} |".format(
            result["name"], result["value"], result["unit"],
            "" if result["ratio"] is None else f"{result['ratio']:.3g}",
            "" if result["target"] is None else f"{sign}{result['target']}",
            "" if result["target"] is None else "met" if Bench.is_met(result) else "missed"))
    return "\n".join(lines)


def main():
    options = parse_arguments()
    bench = Bench(options)
    bench.folder.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for function in MEASUREMENTS:
        if options.only not in function.__name__:
            continue
        started = time.perf_counter()
        print(f"{function.__name__}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        function(bench)
        print(f"  {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        (options.out / "bench.json").write_text(json.dumps(bench.results, indent=1) + "\n")
    print(table(bench.results))


if __name__ == "__main__":
    main()
