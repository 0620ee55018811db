"""TensorBoard: the curves of a training as event files. The only file that knows the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.training.curves import Missing, scalars
from palate.training.trainer import Progress


class TensorBoard:
    """Watches a training: each fitting is a run of its own below ``folder``. Missing: the library is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise Missing("TensorBoard is not installed: python -m pip install 'palate[tensorboard]'") from error
        self.folder, self._writer = folder, SummaryWriter
        self._writers: dict[str, Any] = {}

    def __call__(self, model: str, fit: int, now: Progress) -> None:
        name = f"{fit:02d}-{model}"
        if name not in self._writers:
            self._writers[name] = self._writer(str(self.folder / name))
        for what, value in scalars(now).items():
            self._writers[name].add_scalar(what, value, (now.epoch - 1) * now.steps + now.step)
        if now.step == now.steps:
            self._writers[name].flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
