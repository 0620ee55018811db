"""The prior of smoothed rates, fitted: the beta distribution under which the counts of all items (or users) are most likely.

Skellam, "A probability distribution derived from the binomial distribution by regarding the probability of success as variable between the
sets of trials", JRSS B 1948; Wang et al., "Click-through Rate Estimation for Rare Events in Online Advertising", 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, digamma

from palate.candidates import Ints

USUAL = 20.0  #: what a prior weighs where nothing can be learnt of it
LEAST, MOST = 0.1, 1e6  #: bounds of a fitted prior's weight, in events


def beta_prior(hits: Ints, trials: Ints) -> tuple[float, float]:
    """Mean and weight (alpha + beta, in events) of the beta prior of ``hits`` in ``trials``, one pair an item, by maximum likelihood.

    Where all hit or all miss, or there are fewer than two items, the weight cannot be known and is ``USUAL``.
    """
    there = trials > 0
    n = trials[there].astype(np.int64)
    k = np.minimum(hits[there].astype(np.int64), n)
    if not len(n):
        return 0.0, USUAL
    share = float(k.sum() / n.sum())
    if len(n) < 2 or share in (0.0, 1.0) or n.max() < 2:
        return share, USUAL
    pairs, times = np.unique(np.stack((k, n)), axis=1, return_counts=True)  # sorted: the sums do not depend on the items' order
    k, n = pairs

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean negative log-likelihood and its gradient at (log-odds of the mean, log of the weight)."""
        mean, weight = 1 / (1 + np.exp(-at[0])), np.exp(at[1])
        alpha, beta = mean * weight, (1 - mean) * weight
        likelihood = betaln(k + alpha, n - k + beta) - betaln(alpha, beta)
        rest = digamma(weight) - digamma(n + weight)
        by_alpha, by_beta = digamma(k + alpha) - digamma(alpha) + rest, digamma(n - k + beta) - digamma(beta) + rest
        by_mean = weight * mean * (1 - mean) * (by_alpha - by_beta)
        by_weight = alpha * by_alpha + beta * by_beta
        return -float(times @ likelihood) / times.sum(), -np.array([times @ by_mean, times @ by_weight]) / times.sum()

    from scipy.optimize import minimize  # a sixth of the time to start, of no use to who only serves

    start = np.array([np.log(share / (1 - share)), np.log(USUAL)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-25, 25), (np.log(LEAST), np.log(MOST))]).x
    return float(1 / (1 + np.exp(-found[0]))), float(np.exp(found[1]))
