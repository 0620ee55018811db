"""Samples: what the ranker saw of some logged pages, feature by feature, so that ``palate skew`` can make it anew and compare.

One safetensors file a page, the columns as arrays and the facts as JSON in its header; the latest ``most`` are kept. They are a sample and no
part of the log: a disk that takes none of them costs nothing but the sample.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

MOST = 1_000  #: pages kept


@dataclass(frozen=True)
class Sample:
    """``facts`` of the page (``request_id user now as_of scene given versions``) and ``arrays``: ``items`` int64 ``[N]``, and columns named
    ``user/<feature>`` ``[1, ...]``, ``item/<feature>`` and ``pair/<feature>`` ``[N, ...]``, ``route/<column>`` ``[N]``."""

    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Samples:
    """In ``folder``, of a ``share`` of all pages: which ones depends on their request ids alone."""

    def __init__(self, folder: Path, share: float, most: int = MOST) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of pages whose features are kept must lie between 0 and 1, not {share}")
        self.folder, self.share, self.most = folder, share, most

    def wants(self, request_id: str) -> bool:
        return zlib.crc32(request_id.encode("utf-8", "surrogatepass")) < self.share * 2**32

    def keep(self, sample: Sample) -> bool:
        """Write it; False where the disk took it not."""
        data = save({name: np.ascontiguousarray(array) for name, array in sample.arrays.items()}, {"facts": json.dumps(sample.facts)})
        name = f"{int(sample.facts['now']):016d}-{zlib.crc32(sample.facts['request_id'].encode()):08x}.safetensors"
        part = self.folder / f"{name}.part"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(data)
            part.replace(self.folder / name)
            for old in self._files()[: -self.most]:
                old.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True

    def read(self) -> Iterator[Sample]:
        """The samples that are there, oldest first; ValueError names one that is damaged."""
        for path in self._files():
            try:
                with safe_open(path, "numpy") as file:
                    facts = json.loads(file.metadata()["facts"])
                    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            except FileNotFoundError:  # made room for a later one just now
                continue
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: this sample is damaged ({error}); remove the file") from error
            yield Sample(facts, arrays)

    def forget(self, user: str) -> int:
        """Remove what is of this user, and what cannot be read, which may be; how many there were."""
        gone = 0
        for part in self.folder.glob("*.part"):  # of a process that was killed, or a sample that is lost with it
            part.unlink(missing_ok=True)
        for path in self._files():
            try:
                with safe_open(path, "numpy") as file:
                    mine = json.loads(file.metadata()["facts"])["user"] == user
            except FileNotFoundError:  # made room for a later one just now
                continue
            except (SafetensorError, KeyError, TypeError, ValueError):
                mine = True
            if mine:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors")) if self.folder.is_dir() else []


def facts_of(page: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be known of a page's record to make its features anew."""
    return {name: page.get(name) for name in ("request_id", "user", "now", "as_of", "scene", "given", "versions")}
