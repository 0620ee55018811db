"""The ranker's probabilities, task by task: AUC, grouped AUC, log loss and calibration, with intervals over users."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate.candidates import Floats, Ints
from palate.evaluation.judged import plain, within
from palate.evaluation.metrics import rating
from palate.evaluation.metrics.statistics import Doubles, Interval, bootstrap, bootstrap_ratio, draws, interval_of

WORK = 50_000_000  #: rows that the bootstrap of an AUC may go through


def task_figures(
    name: str, given_labels: Floats, given_predictions: Floats, users: Ints, replicates: int = 1000, seed: int = 0, bins: int = 10
) -> dict[str, Any]:
    """Plain JSON of one task. ``given_labels`` ``[N]`` (NaN: none), ``given_predictions`` ``[N]`` probabilities, ``users`` ``[N]``."""
    known = ~np.isnan(given_labels)
    labels: Doubles = given_labels[known].astype(np.float64)
    predictions: Doubles = given_predictions[known].astype(np.float64)
    names, owners = np.unique(users[known], return_inverse=True)
    size = len(names)
    figures: dict[str, Any] = {"name": name, "rows": len(labels), "positives": int(labels.sum()), "users": size}
    if not size:
        return figures

    def per_user(values: Doubles) -> Doubles:
        return np.bincount(owners, values, size).astype(np.float64)

    groups = rating.auc_of_groups(labels, predictions, owners)
    weights = groups.rows.astype(np.float64)
    rows = per_user(np.ones(len(labels)))
    figures["auc"] = plain(_auc(labels, predictions, owners, size, replicates, seed))
    figures["grouped_auc"] = plain(bootstrap_ratio(groups.auc * weights, weights, replicates, seed=seed))
    figures["log_loss"] = plain(bootstrap_ratio(per_user(rating.log_losses(labels, predictions)), rows, replicates, seed=seed))
    figures["calibration_ratio"] = plain(bootstrap_ratio(per_user(predictions), per_user(labels), replicates, seed=seed))
    figures["calibration_error"] = plain(_calibration_error(labels, predictions, owners, size, replicates, seed, bins))
    curve = rating.calibration_curve(labels, predictions, bins, by="quantile")
    figures["curve"] = {field: getattr(curve, field).tolist() for field in curve._fields}
    return figures


def _auc(labels: Doubles, predictions: Doubles, owners: Ints, size: int, replicates: int, seed: int) -> Interval:
    order = np.argsort(predictions, kind="stable")
    labels, predictions, owners = labels[order], predictions[order], owners[order]
    value = rating.auc_of_sorted(labels, predictions, np.ones(len(labels)))
    replicates = min(replicates, max(100, WORK // len(labels)))
    found = [rating.auc_of_sorted(labels, predictions, row[owners]) for counts in draws(size, replicates, seed) for row in counts]
    return interval_of(value, np.array(found), users=size)


def _calibration_error(labels: Doubles, predictions: Doubles, owners: Ints, size: int, replicates: int, seed: int, bins: int) -> Interval:
    place = owners * bins + np.minimum((predictions * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, predictions - labels, minlength=size * bins).reshape(size, bins)
    rows = np.bincount(place, minlength=size * bins).reshape(size, bins)

    def error(totals: Doubles) -> Doubles:  # [R, 2 bins] -> [R]
        result: Doubles = np.abs(totals[:, :bins]).sum(1) / np.maximum(totals[:, bins:].sum(1), 1.0)
        return result

    return within(bootstrap(np.concatenate([gaps, rows], 1).astype(np.float64), error, replicates, seed=seed, centred=True), 0.0, 1.0)
