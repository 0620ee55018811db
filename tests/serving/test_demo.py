"""The demo from end to end on a small world of its own: trains, measures, serves, asks, learns, writes the page; the second run reuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.serving.demo import run_demo
from tests.serving.world import write_tables


def test_the_demo_runs_and_its_second_run_uses_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    run_demo(tmp_path / "run", tmp_path / "recipe.toml", None, said.append)
    text = "\n".join(said)
    assert "the list has moved on" in text
    assert "3 accepted; told again: 3 duplicates" in text
    assert "p50" in text
    assert "stopped (exit code 0)" in text
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<svg" in page
    assert "one client" in page
    said.clear()
    run_demo(tmp_path / "run", tmp_path / "recipe.toml", None, said.append)
    assert "used again" in said[0]
    assert not any("fitted on" in line for line in said)
