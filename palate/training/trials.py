"""Trials: what was tried, as JSON lines in one file, so that a search that was killed goes on where it was."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass
class Trial:
    """Options and what came of them: the ``score`` of one that is ``done``, ``scores`` by epoch, seconds, and bytes of ``memory`` at most."""

    number: int
    options: dict[str, Any]
    state: Literal["done", "pruned", "failed"] = "done"
    score: float | None = None
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a score that is no finite number becomes null."""
        made = asdict(self)
        made["scores"] = [score if math.isfinite(score) else None for score in self.scores]
        made["score"] = self.score if self.score is None or math.isfinite(self.score) else None
        return made


class Log:
    """``path`` holds what is searched in its first line and a trial in each of the others. One search at a time may write to it."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        """ValueError where the file belongs to another search, or another process is writing to it."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"{path}: another search is writing here") from error
        try:
            self._trials = self._open(json.loads(json.dumps(facts)))
        except BaseException:
            self._file.close()
            raise

    def _open(self, facts: dict[str, Any]) -> list[Trial]:
        """What the file holds of this search; the first line of a new one."""
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        whole = lines[:-1]  # a line that was being written when the process was killed has no end
        self._file.truncate(sum(len(line) + 1 for line in whole))
        if not whole:
            self._write(facts)
        try:
            known = json.loads(whole[0]) if whole else facts
            trials = [self._trial(json.loads(line)) for line in whole[1:]]
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} cannot be read as the trials of a search ({error}); delete it to search from the start") from error
        if known != facts:
            other = next((name for name in (*facts, *known) if facts.get(name) != known.get(name)), "")
            raise ValueError(f"{self.path} holds a search with another {other}: name another folder, or delete it to search from the start")
        return trials

    def read(self) -> list[Trial]:
        """What was there when the file was opened; of two trials of one number the first."""
        found: dict[int, Trial] = {}
        for trial in self._trials:
            found.setdefault(trial.number, trial)
        return list(found.values())

    def add(self, trial: Trial) -> None:
        """On disk when this returns."""
        self._write(trial.to_json())

    def close(self) -> None:
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    @staticmethod
    def _trial(line: dict[str, Any]) -> Trial:
        trial = Trial(**line)
        trial.scores = [-math.inf if score is None else score for score in trial.scores]
        return trial
