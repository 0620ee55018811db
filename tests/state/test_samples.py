"""Samples of pages: nothing of a forgotten user stays, whatever lies in the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palate.state.samples import Sample, Samples


def sample(user: str, now: int) -> Sample:
    facts = {"request_id": f"r{now}", "user": user, "now": now, "as_of": 0, "scene": "", "given": None, "versions": {}}
    return Sample(facts, {"items": np.arange(2)})


def test_forgetting_takes_what_is_half_written_or_damaged_too(tmp_path: Path) -> None:
    samples = Samples(tmp_path, 1.0)
    assert samples.keep(sample("ann", 1))
    assert samples.keep(sample("bob", 2))
    whole = next(tmp_path.glob("*.safetensors")).read_bytes()
    (tmp_path / f"{3:016d}-00000000.safetensors.part").write_bytes(whole)  # a process was killed here
    (tmp_path / f"{4:016d}-00000000.safetensors").write_bytes(whole[:-3])
    (tmp_path / f"{5:016d}-00000000.safetensors").write_bytes(b"")
    assert samples.forget("ann") == 3
    assert [one.facts["user"] for one in samples.read()] == ["bob"]
    assert len(list(tmp_path.iterdir())) == 1


def test_forgetting_does_not_mind_a_sample_that_made_room_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(tmp_path, 1.0)
    samples.keep(sample("ann", 1))
    files = [tmp_path / "gone.safetensors", *samples._files()]
    monkeypatch.setattr(samples, "_files", lambda: files)
    assert samples.forget("ann") == 1


def test_a_sample_that_cannot_be_kept_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "no space")

    monkeypatch.setattr(Path, "replace", full)
    assert not Samples(tmp_path, 1.0).keep(sample("ann", 1))
    assert not list(tmp_path.iterdir())
