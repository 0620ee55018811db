"""Schedules: what the learning rate is multiplied by, as plain functions of the epochs done, a number such as 1.25."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "step", "cosine"]


def constant(done: float) -> float:
    return 1.0


def step(done: float, every: float, factor: float) -> float:
    """``factor`` once after each ``every`` epochs."""
    return float(factor ** math.floor(done / every))


def cosine(done: float, epochs: float) -> float:
    """Half a wave from 1 to 0 over ``epochs``. Loshchilov, Hutter, "SGDR", ICLR 2017, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * min(done / epochs, 1.0)))


def warm(done: float, epochs: float) -> float:
    """A straight line up to 1 over the first ``epochs`` (0: 1 at once). Goyal et al., 2017."""
    return min(done / epochs, 1.0) if epochs else 1.0
