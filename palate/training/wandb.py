"""Weights & Biases: the curves of a training as one of its runs. The only file that knows the library."""

from __future__ import annotations

import os
from pathlib import Path

from palate.training.curves import Missing, scalars
from palate.training.trainer import Progress


class WeightsAndBiases:
    """Watches a training. Offline unless ``WANDB_MODE`` says otherwise: files below ``folder``, which ``wandb sync`` sends when that is wanted."""

    def __init__(self, project: str, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise Missing("Weights & Biases is not installed: python -m pip install 'palate[wandb]'") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project=project, dir=str(folder), mode=os.environ.get("WANDB_MODE", "offline"))
        self._known: set[str] = set()

    def __call__(self, model: str, fit: int, now: Progress) -> None:
        name = f"{fit:02d}-{model}"
        if name not in self._known:
            self._known.add(name)
            self._run.define_metric(f"{name}/*", step_metric=f"{name}/step")
        step = (now.epoch - 1) * now.steps + now.step
        self._run.log({f"{name}/step": step, **{f"{name}/{what}": value for what, value in scalars(now).items()}})

    def close(self) -> None:
        self._run.finish()
