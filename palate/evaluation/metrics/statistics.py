"""How sure is a mean, a ratio, a difference: bootstrap over users, and a permutation test for pairs.

Users are drawn, not rows: what one user did is not independent. All draws come from a seed, so a report can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
CELLS = 4_000_000  #: counts held at once while users are drawn


class Interval(NamedTuple):
    """A value, its bootstrap interval at ``level``, and how many users it rests on."""

    value: float
    low: float
    high: float
    level: float = 0.95
    users: int = 0


class Paired(NamedTuple):
    """Mean of a - b over the same users, its interval, two-sided p-values, and both means."""

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_permutation: float
    a: float
    b: float
    users: int


def draws(users: int, replicates: int, seed: int) -> Iterator[Doubles]:
    """How often each user is drawn, in blocks of float64 ``[r, users]`` (each row sums to ``users``)."""
    rng = np.random.default_rng(seed)
    step = max(1, CELLS // max(users, 1))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = rng.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)


def interval_of(value: float, replicates: Doubles, level: float = 0.95, users: int = 0, centred: bool = False) -> Interval:
    """Percentile interval. ``centred`` moves it by the replicates' bias: for measures such as coverage that a redraw of users lowers."""
    replicates = replicates[~np.isnan(replicates)]
    if not len(replicates) or np.isnan(value):
        return Interval(value, float("nan"), float("nan"), level, users)
    low, high = np.quantile(replicates, ((1 - level) / 2, (1 + level) / 2))
    shift = value - replicates.mean() if centred else 0.0
    return Interval(value, float(low + shift), float(high + shift), level, users)


def bootstrap(
    sums: Doubles, statistic: Callable[[Doubles], Doubles], replicates: int = 1000, level: float = 0.95, seed: int = 0, centred: bool = False
) -> Interval:
    """Interval of any statistic of sums over users.

    ``sums`` ``[U, M]``: what each user adds; ``statistic`` maps ``[R, M]`` totals to ``[R]`` values.
    """
    if not len(sums):
        return Interval(float("nan"), float("nan"), float("nan"), level, 0)
    value = float(statistic(sums.sum(0, keepdims=True))[0])
    values = np.concatenate([statistic(counts @ sums) for counts in draws(len(sums), replicates, seed)])
    return interval_of(value, values, level, len(sums), centred)


def _ratio(totals: Doubles) -> Doubles:
    result = np.full(len(totals), np.nan)
    return np.divide(totals[:, 0], totals[:, 1], out=result, where=totals[:, 1] > 0)


def per_user(values: Doubles, users: NDArray[np.int64] | None = None) -> Doubles:
    """Sum and number of the values of each user, ``[U, 2]``; NaN values are not counted, users without values left out."""
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    if users is None:
        return np.stack([values[known], np.ones(int(known.sum()))], 1)
    _, owners = np.unique(users[known], return_inverse=True)
    return np.stack([np.bincount(owners, values[known]), np.bincount(owners)], 1) if len(owners) else np.empty((0, 2))


def bootstrap_mean(values: Doubles, users: NDArray[np.int64] | None = None, replicates: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean of ``values`` ``[N]`` (NaN left out) with its interval; ``users`` ``[N]`` says whose each is where a user has several."""
    return bootstrap(per_user(values, users), _ratio, replicates, level, seed)


def bootstrap_means(
    values: Doubles, users: NDArray[np.int64] | None = None, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Means of the columns of ``values`` ``[N, M]``, each with its interval, all from the same draws of users."""
    values = np.asarray(values, np.float64)
    owners = np.arange(len(values)) if users is None else np.unique(users, return_inverse=True)[1]
    size = int(owners.max(initial=-1)) + 1
    known = ~np.isnan(values)
    sums, counts = np.empty((size, values.shape[1])), np.empty((size, values.shape[1]))
    for m in range(values.shape[1]):
        sums[:, m] = np.bincount(owners, np.where(known[:, m], values[:, m], 0.0), minlength=size)
        counts[:, m] = np.bincount(owners, known[:, m], minlength=size)
    if not size:
        return [Interval(float("nan"), float("nan"), float("nan"), level, 0)] * values.shape[1]
    parts = [(drawn @ sums, drawn @ counts) for drawn in draws(size, replicates, seed)]
    above, below = np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])
    drawn_means = _ratio(np.stack([above.ravel(), below.ravel()], 1)).reshape(above.shape)
    means = _ratio(np.stack([sums.sum(0), counts.sum(0)], 1))
    return [interval_of(float(means[m]), drawn_means[:, m], level, int((counts[:, m] > 0).sum())) for m in range(values.shape[1])]


def bootstrap_ratio(above: Doubles, below: Doubles, replicates: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
    """Sum of ``above`` over sum of ``below`` (one entry a user) with its interval."""
    return bootstrap(np.stack([above, below], 1).astype(np.float64), _ratio, replicates, level, seed)


def paired(a: Doubles, b: Doubles, users: NDArray[np.int64] | None = None, replicates: int = 2000, level: float = 0.95, seed: int = 0) -> Paired:
    """Is a better than b on the same questions? ``a`` and ``b`` ``[N]``; rows where either is NaN are left out.

    The interval is a paired bootstrap over users (Efron, Tibshirani, 1993), ``p_bootstrap`` twice the smaller share of replicates beyond
    0, ``p_permutation`` Fisher's randomisation test: each user's sign is turned by a coin. Both count the observed case, so neither is 0.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a and b must judge the same questions, not {a.shape} and {b.shape}")
    known = ~(np.isnan(a) | np.isnan(b))
    if not known.any():
        nan = float("nan")
        return Paired(nan, nan, nan, nan, nan, nan, nan, 0)
    sums = per_user(a[known] - b[known], None if users is None else users[known])
    difference = float(sums[:, 0].sum() / sums[:, 1].sum())
    values = np.concatenate([_ratio(counts @ sums) for counts in draws(len(sums), replicates, seed)])
    low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    p_bootstrap = min(1.0, 2 * (1 + min(int((values <= 0).sum()), int((values >= 0).sum()))) / (1 + replicates))
    rng = np.random.default_rng(seed + 1)
    step = max(1, CELLS // len(sums))
    beyond, bound = 0, abs(sums[:, 0].sum()) * (1 - 1e-12)
    for start in range(0, replicates, step):
        signs = rng.integers(0, 2, (min(step, replicates - start), len(sums))) * 2.0 - 1.0
        beyond += int((np.abs(signs @ sums[:, 0]) >= bound).sum())
    p_permutation = (1 + beyond) / (1 + replicates)
    return Paired(difference, float(low), float(high), p_bootstrap, p_permutation, float(a[known].mean()), float(b[known].mean()), len(sums))
