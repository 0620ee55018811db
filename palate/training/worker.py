"""Worker: an objective in a process of its own, asked and answered in JSON lines. What kills it, such as want of memory, kills no search."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from palate.training.tuning import BROKEN, Killed, Measured, Objective, Options, Pruned, Tell


class Failed(RuntimeError):
    """The options did not work."""


class Worker:
    """An objective that runs ``command``, which must call ``serve``; ``first`` is told to it before anything is asked."""

    def __init__(self, command: Sequence[str], first: Any) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._say(first)

    def __call__(self, options: Options, tell: Tell) -> Measured:
        self._say(options)
        while True:
            said = self._hear()
            if "score" in said:
                return Measured(said["score"], said["memory"])
            if "failed" in said:
                raise Failed(said["failed"])
            if "error" in said:
                raise ChildProcessError(said["error"])
            try:
                tell(said["epoch"])
                self._say(True)
            except Pruned:
                self._say(False)
                self._hear()
                raise

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _say(self, value: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise self._killed() from error

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._killed()
        found: dict[str, Any] = json.loads(line)
        return found

    def _killed(self) -> Killed:
        return Killed(f"the process of the trial ended by itself, with code {self.process.wait()}")


def serve(make: Callable[[Any], Objective]) -> None:
    """The worker's side: make the objective of the first line, then score the options of each further one until there is none."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whoever prints prints where people look
    lines = iter(sys.stdin.readline, "")

    def say(**said: Any) -> None:
        print(json.dumps(said), file=out, flush=True)

    def tell(score: float) -> None:
        say(epoch=score)
        if json.loads(next(lines)) is not True:
            raise Pruned

    try:
        objective = make(json.loads(next(lines)))
    except Exception as error:  # said where it is asked for: the other side has nobody to raise it
        next(lines, "")
        say(error=f"{type(error).__name__}: {error}")
        return
    for line in lines:
        try:
            score, memory = objective(json.loads(line), tell)
            say(score=score, memory=memory)
        except Pruned:
            say(pruned=True)
        except BROKEN as error:
            say(failed=f"{type(error).__name__}: {error}")
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")


def peak_memory() -> int:
    """Bytes that this process has needed at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory() -> float:
    """Bytes that there is room for; infinite where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(float(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float("inf")
