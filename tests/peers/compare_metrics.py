#!/usr/bin/env python3
"""Compares the program's scores with scikit-learn's and scipy's on the labels of real files.

  python tests/peers/compare_metrics.py --driver METRICS --glue DIR

METRICS is the compiled tests/tools/metrics.c, DIR a folder with CoLA, MRPC and STS-B. Predictions are the truth with
errors added at random, and constants. The largest difference is printed; exit code 1 where one is above 1e-12.
Needs: numpy, scikit-learn, scipy.
"""
import argparse
import pathlib
import subprocess
import sys
import warnings

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

COLUMNS = {"CoLA": (1, int), "MRPC": (0, int), "STS-B": (-1, float)}


def read_truth(path, column, kind):
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([kind(line.split("\t")[column]) for line in lines if line.split("\t")[column][0].isdigit()])


def driver_scores(driver, mode, predicted, truth):
    pairs = "".join(f"{p:.9g} {t:.9g}\n" for p, t in zip(predicted, truth))
    output = subprocess.run([driver, mode], input=pairs, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [float(text) for text in output.split()]


def class_cases(draw, truth):
    """(predicted, scores of scikit-learn)"""
    for share in (0.0, 0.1, 0.5, 1.0):
        predicted = np.where(draw.random_sample(len(truth)) < share, draw.randint(0, 2, len(truth)), truth)
        yield predicted
    yield np.zeros_like(truth)
    yield np.ones_like(truth)


def compare_classes(driver, draw, truth):
    for predicted in class_cases(draw, truth):
        expected = [accuracy_score(truth, predicted), f1_score(truth, predicted, zero_division=0.0),
                    matthews_corrcoef(truth, predicted)]
        yield driver_scores(driver, "classes", predicted, truth), expected


def compare_scores(driver, draw, truth):
    truth = truth.astype(np.float32)
    for noise in (0.01, 1.0, 100.0):
        for decimals in (6, 0):  # whole numbers: many ties
            predicted = np.round(truth + noise * draw.standard_normal(len(truth)), decimals).astype(np.float32)
            wide = predicted.astype(np.float64), truth.astype(np.float64)
            yield (driver_scores(driver, "scores", predicted, truth),
                   [pearsonr(*wide).statistic, spearmanr(*wide).statistic])
    yield driver_scores(driver, "scores", np.ones(len(truth)), truth), [0.0, 0.0]  # undefined: 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", required=True)
    parser.add_argument("--glue", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    largest = count = 0
    for name, (column, kind) in COLUMNS.items():
        for split in ("train", "dev"):
            truth = read_truth(arguments.glue / name / f"{split}.tsv", column, kind)
            compare = compare_classes if kind is int else compare_scores
            for found, expected in compare(arguments.driver, np.random.RandomState(1), truth):
                assert len(found) == len(expected)
                largest = max(largest, *(abs(f - e) for f, e in zip(found, expected)))
                count += len(found)
    print(f"{count} scores: largest difference {largest:.1e}")
    return 0 if count and largest <= 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
