"""Predicted probabilities and numbers against labels: AUC, grouped AUC, log loss, calibration, RMSE, MAE, correlation, accuracy.

``labels`` and ``predictions`` are float ``[N]``; rows whose label is NaN are left out. Where a measure is not defined (one class only,
no rows) it is NaN. ``weights`` ``[N]`` count a row several times (a bootstrap over users weighs whole users).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints

Doubles = NDArray[np.float64]
Numbers = NDArray[Any]


def _clean(labels: Numbers, predictions: Numbers, *more: Numbers | None) -> list[Any]:
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(f"labels and predictions must be two arrays [N], not of shapes {labels.shape} and {predictions.shape}")
    if np.isnan(predictions[~np.isnan(labels)]).any():
        raise ValueError("a prediction is NaN")
    known = ~np.isnan(labels)
    rest = [np.ones(int(known.sum())) if extra is None else np.asarray(extra)[known] for extra in more]
    return [labels[known], predictions[known], *rest]


def auc_of_sorted(labels: Doubles, predictions: Doubles, weights: Doubles) -> float:
    """AUC of rows that ascend by prediction: weighted pairs won over all pairs, ties half."""
    good, bad = weights * (labels > 0.5), weights * (labels <= 0.5)
    ends = np.flatnonzero(np.append(predictions[1:] != predictions[:-1], True))  # the last row of each run of equal predictions
    good_upto, bad_upto = np.cumsum(good)[ends], np.cumsum(bad)[ends]
    good_here, bad_here = np.diff(good_upto, prepend=0.0), np.diff(bad_upto, prepend=0.0)
    won = float((good_here * (bad_upto - 0.5 * bad_here)).sum())
    pairs = float(good_upto[-1] * bad_upto[-1])
    return won / pairs if pairs > 0 else float("nan")


def auc(labels: Numbers, predictions: Numbers, weights: Numbers | None = None) -> float:
    """Probability that a row of label 1 is predicted above one of label 0, ties counting half (Hanley, McNeil, Radiology 1982)."""
    labels, predictions, weight = _clean(labels, predictions, weights)
    if not len(labels):
        return float("nan")
    order = np.argsort(predictions, kind="stable")
    return auc_of_sorted(labels[order], predictions[order], weight[order])


class Groups(NamedTuple):
    """One entry for each group that has both classes: its id, AUC, and how many rows and positives it has."""

    groups: Ints
    auc: Doubles
    rows: Ints
    positives: Ints


def auc_of_groups(labels: Numbers, predictions: Numbers, groups: Ints) -> Groups:
    """AUC within each group (a user, as a rule); groups with a single class have none and are left out."""
    labels, predictions, owner = _clean(labels, predictions, groups)
    names, owners = np.unique(owner.astype(np.int64), return_inverse=True)
    order = np.lexsort((predictions, owners))
    labels, predictions, owners = labels[order] > 0.5, predictions[order], owners[order]
    rows = np.bincount(owners, minlength=len(names))
    positives = np.bincount(owners, labels, minlength=len(names)).astype(np.int64)
    start = np.repeat(np.cumsum(rows) - rows, rows)
    opens = np.append(True, (predictions[1:] != predictions[:-1]) | (owners[1:] != owners[:-1]))[: len(owners)]
    run = np.cumsum(opens) - 1
    length = np.bincount(run, minlength=0)
    rank = np.flatnonzero(opens)[run] - start + (length[run] + 1) / 2 if len(owners) else np.empty(0)  # mean rank of a run, from 1
    total = np.bincount(owners, np.where(labels, rank, 0.0), minlength=len(names))
    both = (positives > 0) & (positives < rows)
    good, size = positives[both], rows[both]
    value = (total[both] - good * (good + 1) / 2) / (good * (size - good))
    return Groups(names[both], value, size, good)


def grouped_auc(labels: Numbers, predictions: Numbers, groups: Ints, weight: Literal["size", "positives", "none"] = "size") -> float:
    """Mean of the groups' AUC, weighted by their rows, their positives, or not at all (Zhou et al., KDD 2018)."""
    found = auc_of_groups(labels, predictions, groups)
    weights = {"size": found.rows, "positives": found.positives, "none": np.ones(len(found.auc))}
    if weight not in weights:
        raise ValueError(f"weight must be size, positives or none, not {weight!r}")
    return float(np.average(found.auc, weights=weights[weight])) if len(found.auc) else float("nan")


def log_losses(labels: Numbers, predictions: Numbers) -> Doubles:
    """Negative log-likelihood of each row ``[N]``; probabilities are kept 2^-52 away from 0 and 1, as scikit-learn does."""
    tiny = np.finfo(np.float64).eps
    p = np.clip(np.asarray(predictions, np.float64), tiny, 1 - tiny)
    labels = np.asarray(labels, np.float64)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


def log_loss(labels: Numbers, predictions: Numbers, weights: Numbers | None = None) -> float:
    """Mean negative log-likelihood of binary labels."""
    labels, predictions, weight = _clean(labels, predictions, weights)
    return float(np.average(log_losses(labels, predictions), weights=weight)) if len(labels) else float("nan")


class Calibration(NamedTuple):
    """One entry a bin that holds rows: mean prediction, share of positives, number of rows."""

    predicted: Doubles
    observed: Doubles
    rows: Ints


def calibration_curve(labels: Numbers, predictions: Numbers, bins: int = 10, by: Literal["width", "quantile"] = "width") -> Calibration:
    """Predicted against observed in bins of equal width over [0, 1], or of equal numbers of rows."""
    labels, predictions = _clean(labels, predictions)
    if by == "width":
        place = np.minimum((predictions * bins).astype(np.int64), bins - 1)
    else:
        place = np.empty(len(predictions), np.int64)
        place[np.argsort(predictions, kind="stable")] = np.arange(len(predictions)) * bins // max(len(predictions), 1)
    rows = np.bincount(place, minlength=bins)
    held = rows > 0
    predicted, observed = np.bincount(place, predictions, bins)[held], np.bincount(place, labels, bins)[held]
    return Calibration(predicted / rows[held], observed / rows[held], rows[held])


def calibration_error(labels: Numbers, predictions: Numbers, bins: int = 10) -> float:
    """Expected calibration error: mean |predicted - observed| over bins of equal width, weighted by rows (Naeini et al., AAAI 2015)."""
    curve = calibration_curve(labels, predictions, bins)
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.rows)) if len(curve.rows) else float("nan")


def calibration_ratio(labels: Numbers, predictions: Numbers) -> float:
    """Sum of predictions over sum of labels: 1 is right on average, above 1 too sure."""
    labels, predictions = _clean(labels, predictions)
    return float(predictions.sum() / labels.sum()) if labels.sum() > 0 else float("nan")


def rmse(labels: Numbers, predictions: Numbers) -> float:
    """Root of the mean squared error."""
    labels, predictions = _clean(labels, predictions)
    return float(np.sqrt(np.mean((labels - predictions) ** 2))) if len(labels) else float("nan")


def mae(labels: Numbers, predictions: Numbers) -> float:
    """Mean absolute error."""
    labels, predictions = _clean(labels, predictions)
    return float(np.mean(np.abs(labels - predictions))) if len(labels) else float("nan")


def user_correlation(labels: Numbers, predictions: Numbers, groups: Ints) -> tuple[Ints, Doubles]:
    """Pearson's correlation within each user: ids ``[G]`` and values ``[G]``; users with a constant side have none and are left out."""
    labels, predictions, owner = _clean(labels, predictions, groups)
    names, owners = np.unique(owner.astype(np.int64), return_inverse=True)
    rows = np.maximum(np.bincount(owners, minlength=len(names)), 1)
    left = labels - (np.bincount(owners, labels, len(names)) / rows)[owners]
    right = predictions - (np.bincount(owners, predictions, len(names)) / rows)[owners]
    together = np.bincount(owners, left * right, len(names))
    spread = np.sqrt(np.bincount(owners, left**2, len(names)) * np.bincount(owners, right**2, len(names)))
    defined = spread > 1e-12 * rows
    return names[defined], together[defined] / spread[defined]


def accuracy(labels: Numbers, predictions: Numbers, threshold: float = 0.5) -> float:
    """Share of rows on the right side of the threshold. Not a ranking metric: a list in any order, or all zeros, can score high."""
    labels, predictions = _clean(labels, predictions)
    return float(np.mean((predictions >= threshold) == (labels > 0.5))) if len(labels) else float("nan")
