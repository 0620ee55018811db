"""Curves: what a training reports, as one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from palate.training.trainer import Progress

Watcher = Callable[[str, int, Progress], None]  #: the model's name, which fitting of the training this is (from 1), and what it reports


class Missing(ValueError):
    """An optional library is not installed; the text says how to."""


class Curves:
    """Appends to ``path``, so that a training that goes on after it was killed goes on here too: of two lines of one step the later counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, model: str, fit: int, now: Progress) -> None:
        line = {"model": model, "fit": fit, **{name: _plain(value) for name, value in asdict(now).items() if name != "seconds_left"}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def scalars(now: Progress) -> dict[str, float]:
    """What others draw: loss and rate, and at the end of an epoch its score where there is one."""
    found = {"loss": now.loss, "learning_rate": now.learning_rate, "rows_per_second": now.rows_per_second}
    if now.score is not None:
        found["score"] = now.score
    return found


def _plain(value: float | None) -> float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
