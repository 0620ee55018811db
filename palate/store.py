"""A run on disk: the one door between training and serving.

A run is a folder. Each training publishes one version into it, a folder whose ``manifest.json`` holds the SHA-256 and size of every
file; ``current`` names the version in force and is replaced in one step, so a reader finds the old version or the new one, never half
of one. Versions sort by name in the order of their publication. Files are JSON, TOML, Parquet and safetensors; nothing that can run
code is ever read. Loading checks names, links, sizes, hashes, and that every number is finite.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as dump_arrays

FORMAT = 1  #: raised when a release can no longer read what an older one wrote
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_VERSION = re.compile(r"\d{8}T\d{6}(?:\.\d{6})?-[0-9a-f]{8}")  #: names of older releases have whole seconds
_BESIDE = re.compile(rf"(?:curves|evaluation)-({_VERSION.pattern})\.jsonl?")  #: what stands beside a version in its run
_MOMENT = "%Y%m%dT%H%M%S.%f"


class RunError(ValueError):
    """A run that is missing, incomplete, altered or of another format; the text names the file and what to do."""


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise RunError(f"{name!r} is not a file name that a run may hold (letters, digits, dot, dash and underscore)")
    return name


def _durable(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _lock(path: Path, wait: bool = True) -> int:
    """A handle that keeps everyone else out until it is closed or its process ends, however it ends; -1 where another has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return -1
    return handle


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Nobody else publishes into the run meanwhile."""
    handle = _lock(run / ".lock")
    try:
        yield
    finally:
        os.close(handle)


def _hold(folder: Path) -> int:
    """Takes a folder that is worked in for this process; -1 where another lives that has it. Call it alone."""
    handle = _lock(folder / ".held", wait=False)
    if handle >= 0:
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _clear(run: Path, pattern: str) -> None:
    """Removes the folders that processes which are no more have worked in. Call it alone."""
    for folder in run.glob(pattern):
        if folder.is_dir() and not folder.is_symlink() and (held := _hold(folder)) >= 0:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def versions(run: str | Path) -> list[str]:
    """Names of the versions that a run holds, in the order in which they were published."""
    return sorted(path.parent.name for path in Path(run).glob("*/manifest.json") if _VERSION.fullmatch(path.parent.name))


def _moment(known: list[str]) -> str:
    """What the name of the next version begins with: now, or just after the newest one where the clock is not beyond that."""
    now = datetime.fromtimestamp(time.time(), UTC).strftime(_MOMENT)
    newest = f"{known[-1].split('-')[0]}.000000"[: len(now)] if known else ""
    return now if now > newest else (datetime.strptime(newest, _MOMENT) + timedelta(microseconds=1)).strftime(_MOMENT)


@contextmanager
def unfinished(run: str | Path, name: str) -> Iterator[Path]:
    """The folder in which a training goes on where it was cut short; ``name`` tells it from other trainings of the run.

    When the body ends well the folder goes, and so do those of trainings whose process is gone. RunError where another process is at this
    very training.
    """
    place = Path(run)
    place.mkdir(parents=True, exist_ok=True)
    folder = place / f".training-{_checked(name)}"
    with _alone(place):
        folder.mkdir(exist_ok=True)
        held = _hold(folder)
    if held < 0:
        owner = (folder / ".held").read_text(encoding="ascii").strip()
        raise RunError(f"{run}: process {owner} is training this recipe on these events there; wait for it, or train into another folder")
    try:
        yield folder
        with _alone(place):
            shutil.rmtree(folder, ignore_errors=True)
            _clear(place, ".training-*")
    finally:
        os.close(held)


class Draft:
    """A version being written. ``publish`` makes it the run's current one; until then nothing of it is visible."""

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        self.run.mkdir(parents=True, exist_ok=True)
        with _alone(self.run):
            _clear(self.run, ".draft-*")
            self.folder = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.run))
            self._held = _hold(self.folder)
        self._files: dict[str, dict[str, Any]] = {}

    def _write(self, name: str, data: bytes) -> None:
        _durable(self.folder / _checked(name), data)
        self._files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def text(self, name: str, text: str) -> None:
        self._write(name, text.encode("utf-8"))

    def json(self, name: str, value: Any) -> None:
        self._write(name, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8"))

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Arrays as one safetensors file; RunError names one that is not finite."""
        for key, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise RunError(f"{name}: array {key!r} has values that are not finite; the model has diverged and is not published")
        self._write(name, dump_arrays({key: np.asarray(array, order="C") for key, array in arrays.items()}))

    def frame(self, name: str, frame: pl.DataFrame) -> None:
        path = self.folder / _checked(name)
        frame.write_parquet(path, compression="zstd")
        data = path.read_bytes()
        self._write(name, data)

    def publish(self, keep: int = 2, **facts: Any) -> Run:
        """Make this the current version and delete all but the newest ``keep``, with what stands beside them; ``facts`` go into the manifest."""
        contents = hashlib.sha256(json.dumps(self._files, sort_keys=True).encode()).hexdigest()[:8]
        with _alone(self.run):
            version = f"{_moment(versions(self.run))}-{contents}"
            manifest = {"format": FORMAT, "version": version, "created": int(time.time() * 1000), "files": self._files, **facts}
            _durable(self.folder / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False).encode("utf-8"))
            (self.folder / ".held").unlink()
            os.chmod(self.folder, 0o755)
            os.rename(self.folder, self.run / version)
            _durable(self.run / ".current", version.encode("ascii"))
            os.replace(self.run / ".current", self.run / "current")
            self._release()
            for old in versions(self.run)[:-keep]:
                shutil.rmtree(self.run / old, ignore_errors=True)
            left = versions(self.run)
            for path in self.run.iterdir():
                if (beside := _BESIDE.fullmatch(path.name)) and beside[1] not in left:
                    path.unlink(missing_ok=True)
        return Run(self.run)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


class Run:
    """The current version of a run, or the one named. Every file is checked against the manifest before it is read."""

    def __init__(self, run: str | Path, version: str | None = None) -> None:
        self.path = Path(run)
        pointer = self.path / "current"
        if version is None:
            if not pointer.is_file():
                raise RunError(f"{run}: no run here; make one with: palate train RECIPE --out {run}")
            version = pointer.read_text(encoding="ascii").strip()
        self.version = _checked(version)
        self.folder = self.path / self.version
        try:
            self.manifest = json.loads((self.folder / "manifest.json").read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder / 'manifest.json'}: cannot be read ({error}); train again") from error
        if not isinstance(self.manifest, dict) or self.manifest.get("format") != FORMAT:
            raise RunError(f"{self.folder}: written in another format; this release reads format {FORMAT}. Train again")

    def __contains__(self, name: str) -> bool:
        return name in self.manifest["files"]

    def read(self, name: str) -> bytes:
        """The bytes of one file; RunError where it is missing, a link, or not what was published."""
        entry = self.manifest["files"].get(_checked(name))
        if entry is None:
            raise RunError(f"{self.folder}: this version has no file {name!r}")
        path = self.folder / name
        try:
            facts = path.lstat()
            if path.is_symlink() or facts.st_nlink != 1:
                raise RunError(f"{path}: is a link; a run holds plain files only")
            data = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror})") from error
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise RunError(f"{path}: differs from what was published (its SHA-256 does not match the manifest); restore it or train again")
        return data

    def text(self, name: str) -> str:
        return self.read(name).decode("utf-8")

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        try:
            arrays = load_arrays(self.read(name))
        except RunError:
            raise
        except Exception as error:  # safetensors raises its own kind, which differs by version
            raise RunError(f"{self.folder / name}: not a safetensors file ({error})") from error
        for key, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise RunError(f"{self.folder / name}: array {key!r} has values that are not finite")
        return arrays

    def frame(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.read(name))

    def check(self) -> list[str]:
        """Read every file; the names of those checked."""
        for name in self.manifest["files"]:
            self.read(name)
        return list(self.manifest["files"])
