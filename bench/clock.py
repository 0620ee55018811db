"""CPU seconds of a fit that may be stopped and go on in another process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate.training.trainer import Progress


class Clock:
    """Counts from when it is made, without what is done ``aside``; what earlier processes spent stands beside the ``checkpoint`` they left.

    ``report`` is the trainer's: it writes down what each epoch that ended has cost so far, so that a fit that was stopped, or is already done,
    does not seem to have taken no time.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self._kept = checkpoint and checkpoint.with_name(f"{checkpoint.name}.clock")
        earlier = self._kept and checkpoint and checkpoint.exists() and self._kept.exists()
        self.epochs, self._before = json.loads(self._kept.read_text()) if self._kept and earlier else (0, 0.0)  #: what others did
        self._aside, self._began = 0.0, time.process_time()

    @property
    def seconds(self) -> float:
        return float(self._before) + time.process_time() - self._began - self._aside

    @contextmanager
    def aside(self) -> Iterator[None]:
        start = time.process_time()
        yield
        self._aside += time.process_time() - start

    def report(self, progress: Progress) -> None:
        if self._kept and progress.step == progress.steps:
            self._kept.write_text(json.dumps([progress.epoch, self.seconds]))

    def forget(self) -> None:
        """Of a fit that is done and written down."""
        if self._kept:
            self._kept.unlink(missing_ok=True)
