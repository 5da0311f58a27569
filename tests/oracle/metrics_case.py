"""Fixture of the metrics: entity F1 as seqeval computes it, classification and regression scores."""

import warnings

from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as entity_f1
from seqeval.metrics import precision_score as entity_precision
from seqeval.metrics import recall_score as entity_recall
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from stored import stream, write_json

TYPES = ("PER", "LOC")
TYPED_TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
UNTYPED_TAGS = ("O", "B", "I")


def random_tags(draw, alphabet):
    """1..12 independent tags: mostly ill-formed, such as I- after O or after another type."""
    return [alphabet[i] for i in draw.randint(0, len(alphabet), draw.randint(1, 13))]


def well_formed_tags(draw):
    """4..15 tags in which every entity begins with B- and keeps its type."""
    tags, length = [], draw.randint(4, 16)
    while len(tags) < length:
        if draw.random_sample() < 0.5:
            tags.append("O")
        else:
            kind = TYPES[draw.randint(0, 2)]
            tags += [f"B-{kind}"] + [f"I-{kind}"] * draw.randint(0, 3)
    return tags[:length]


def corrupted(draw, tags, alphabet, probability):
    """The same tags, each replaced by a random one with the given probability."""
    return [alphabet[draw.randint(0, len(alphabet))] if draw.random_sample() < probability else tag for tag in tags]


def random_pairs(draw, count, alphabet):
    """Ill-formed truth, prediction that agrees with it in about two tags of three."""
    truth = [random_tags(draw, alphabet) for _ in range(count)]
    return [(tags, corrupted(draw, tags, alphabet, 0.35)) for tags in truth]


def corpora():
    """{name: list of (truth, prediction)}: 200 pairs of sequences in all."""
    draw = stream("metrics/tags")
    table = {}
    truth = [well_formed_tags(draw) for _ in range(50)]
    table["well_formed_truth"] = [(tags, corrupted(draw, tags, TYPED_TAGS, 0.2)) for tags in truth]
    table["ill_formed"] = random_pairs(draw, 60, TYPED_TAGS)
    table["no_begin_tags"] = random_pairs(draw, 25, ("O", "I-PER", "I-LOC"))
    table["untyped"] = random_pairs(draw, 25, UNTYPED_TAGS)
    truth = [well_formed_tags(draw) for _ in range(10)]
    table["perfect"] = [(tags, list(tags)) for tags in truth]
    truth = [well_formed_tags(draw) for _ in range(10)]
    table["empty_predictions"] = [(tags, ["O"] * len(tags)) for tags in truth]
    truth = [well_formed_tags(draw) for _ in range(10)]
    table["empty_truth"] = [(["O"] * len(tags), tags) for tags in truth]
    truth = [well_formed_tags(draw) for _ in range(10)]
    table["both_empty"] = [(["O"] * len(tags), ["O"] * len(tags)) for tags in truth]
    return table


def entity_scores(name, pairs):
    """seqeval in its default mode: every maximal chunk counts, micro average over the corpus, 0 / 0 = 0."""
    truth = [list(pair[0]) for pair in pairs]
    prediction = [list(pair[1]) for pair in pairs]
    true_entities, predicted_entities = set(get_entities(truth)), set(get_entities(prediction))
    return {
        "name": name,
        "precision": float(entity_precision(truth, prediction)),
        "recall": float(entity_recall(truth, prediction)),
        "f1": float(entity_f1(truth, prediction)),
        "true_entities": len(true_entities),
        "predicted_entities": len(predicted_entities),
        "correct_entities": len(true_entities & predicted_entities),
        "true": [" ".join(tags) for tags in truth],
        "predicted": [" ".join(tags) for tags in prediction],
    }


def classification_pairs():
    """{name: (number of classes, truth, prediction)}, degenerate vectors included."""
    draw = stream("metrics/classes")

    def pair(classes, count, error):
        truth = draw.randint(0, classes, count)
        noise = draw.randint(0, classes, count)
        wrong = draw.random_sample(count) < error
        return classes, truth.tolist(), [int(n if w else t) for t, n, w in zip(truth, noise, wrong)]

    mixed = [0, 1, 1, 0, 1, 0, 1, 1]
    return {
        "binary": pair(2, 60, 0.4),
        "binary_at_chance": pair(2, 60, 1.0),
        "three_classes": pair(3, 60, 0.4),
        "five_classes": pair(5, 80, 0.6),
        "perfect": (2, mixed, list(mixed)),
        "inverted": (2, mixed, [1 - label for label in mixed]),
        "predicted_all_0": (2, mixed, [0] * 8),
        "predicted_all_1": (2, mixed, [1] * 8),
        "true_all_0": (2, [0] * 8, mixed),
        "true_all_1": (2, [1] * 8, mixed),
        "both_all_0": (2, [0] * 8, [0] * 8),
        "both_all_1": (2, [1] * 8, [1] * 8),
        "opposite_constants": (2, [0] * 8, [1] * 8),
        "three_classes_predicted_all_2": (3, [0, 1, 2, 2, 1, 0], [2] * 6),
        "single": (2, [1], [1]),
    }


def classification_scores(name, classes, truth, prediction):
    """accuracy, Matthews correlation (0 where undefined) and F1 of class 1 (0 / 0 = 0; binary only)."""
    scores = {
        "name": name,
        "number_of_classes": classes,
        "accuracy": float(accuracy_score(truth, prediction)),
        "matthews": float(matthews_corrcoef(truth, prediction)),
    }
    if classes == 2:
        scores["f1"] = float(f1_score(truth, prediction, labels=[0, 1], pos_label=1, zero_division=0.0))
    return {**scores, "true": truth, "predicted": prediction}


def regression_scores(name, count, levels, noise):
    """Pearson and Spearman correlation; scores on ``levels`` levels from 0 to 5, hence with ties."""
    draw = stream(f"metrics/{name}")
    step = 5.0 / (levels - 1)
    truth = [float(i) * step for i in draw.randint(0, levels, count)]
    prediction = [round((t + noise * (draw.random_sample() - 0.5)) * 8.0) / 8.0 for t in truth]
    return {
        "name": name,
        "pearson": float(pearsonr(truth, prediction).statistic),
        "spearman": float(spearmanr(truth, prediction).statistic),
        "true": truth,
        "predicted": prediction,
    }


def write_case(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the degenerate vectors are there on purpose
        write_json(folder / "reference.json", {
            "corpora": [entity_scores(name, pairs) for name, pairs in corpora().items()],
            "classification": [classification_scores(name, *vectors)
                               for name, vectors in classification_pairs().items()],
            "regression": [regression_scores("close", 40, 21, 2.0), regression_scores("loose", 40, 6, 8.0)],
        }, compact=True)
