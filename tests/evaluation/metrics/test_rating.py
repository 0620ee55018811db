"""Measures of predictions against scikit-learn and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.stats import pearsonr

from palate.evaluation.metrics import rating


def rows(seed: int, n: int = 700) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(np.float32)
    predictions = np.round(np.clip(rng.random(n) * 0.7 + labels * 0.2, 0, 1), 2)  # rounded: many ties
    return labels, predictions, rng.integers(0, 40, n)


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_scikit_learn(seed: int) -> None:
    labels, predictions, _ = rows(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(labels)).astype(float)
    assert rating.auc(labels, predictions) == pytest.approx(reference.roc_auc_score(labels, predictions), abs=1e-9)
    assert rating.auc(labels, predictions, weights) == pytest.approx(reference.roc_auc_score(labels, predictions, sample_weight=weights), abs=1e-9)
    assert rating.log_loss(labels, predictions) == pytest.approx(reference.log_loss(labels, predictions), abs=1e-9)
    assert rating.rmse(labels, predictions) == pytest.approx(reference.mean_squared_error(labels, predictions) ** 0.5, abs=1e-9)
    assert rating.mae(labels, predictions) == pytest.approx(reference.mean_absolute_error(labels, predictions), abs=1e-9)
    assert rating.accuracy(labels, predictions) == pytest.approx(reference.accuracy_score(labels, predictions >= 0.5), abs=1e-9)


def test_log_loss_of_certain_predictions_is_finite() -> None:
    labels, predictions = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert rating.log_loss(labels, predictions) == pytest.approx(reference.log_loss(labels, predictions), abs=1e-9)


@pytest.mark.parametrize("weight", ["size", "positives", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_grouped_auc(seed: int, weight: str) -> None:
    labels, predictions, groups = rows(seed)
    labels[groups == 3] = 1.0  # a group of one class has no AUC
    values, weights = [], []
    for group in np.unique(groups):
        of = groups == group
        if 0 < labels[of].sum() < of.sum():
            values.append(reference.roc_auc_score(labels[of], predictions[of]))
            weights.append({"size": of.sum(), "positives": labels[of].sum(), "none": 1}[weight])
    assert rating.grouped_auc(labels, predictions, groups, weight) == pytest.approx(np.average(values, weights=weights), abs=1e-9)
    assert 3 not in rating.auc_of_groups(labels, predictions, groups).groups


@pytest.mark.parametrize("seed", range(3))
def test_user_correlation(seed: int) -> None:
    labels, predictions, groups = rows(seed)
    labels = labels + predictions * 3
    predictions[groups == 5] = 0.5
    users, values = rating.user_correlation(labels, predictions, groups)
    assert 5 not in users
    for user, value in zip(users, values, strict=True):
        assert value == pytest.approx(pearsonr(labels[groups == user], predictions[groups == user])[0], abs=1e-9)


def test_calibration_by_hand() -> None:
    labels = np.array([0, 1, 1, 1, np.nan])
    predictions = np.array([0.1, 0.2, 0.8, 0.9, 0.5])
    curve = rating.calibration_curve(labels, predictions, bins=2)
    assert curve.predicted == pytest.approx([0.15, 0.85])
    assert curve.observed == pytest.approx([0.5, 1.0])
    assert curve.rows.tolist() == [2, 2]
    assert rating.calibration_error(labels, predictions, bins=2) == pytest.approx((0.35 + 0.15) / 2)
    assert rating.calibration_ratio(labels, predictions) == pytest.approx(2.0 / 3.0)
    equal = rating.calibration_curve(labels, predictions, bins=4, by="quantile")
    assert equal.rows.tolist() == [1, 1, 1, 1]


def test_rows_without_label_are_left_out_and_nan_predictions_refused() -> None:
    labels, predictions, groups = rows(1)
    holes = labels.copy()
    holes[::7] = np.nan
    kept = ~np.isnan(holes)
    assert rating.auc(holes, predictions) == rating.auc(labels[kept], predictions[kept])
    assert rating.grouped_auc(holes, predictions, groups) == rating.grouped_auc(labels[kept], predictions[kept], groups[kept])
    predictions[1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        rating.log_loss(holes, predictions)


def test_undefined_is_nan() -> None:
    ones, none = np.ones(3), np.empty(0)
    assert math.isnan(rating.auc(ones, ones))
    assert math.isnan(rating.grouped_auc(ones, ones, np.arange(3)))
    for measure in (rating.auc, rating.log_loss, rating.rmse, rating.mae, rating.accuracy, rating.calibration_error, rating.calibration_ratio):
        assert math.isnan(measure(none, none)), measure.__name__
    with pytest.raises(ValueError, match=r"two arrays \[N\]"):
        rating.auc(ones, none)
