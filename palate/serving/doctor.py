"""``palate doctor``: looks at this installation, and at a run, and says how to mend what is wrong."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_NEEDED = ["torch", "numpy", "scipy", "numba", "polars", "faiss", "fastapi", "uvicorn", "typer", "rich", "jinja2"]
_NEEDED += ["prometheus_client", "structlog", "safetensors"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``fix`` says what to do where ``ok`` is false."""

    check: str
    ok: bool
    found: str
    fix: str = ""


def examine(run: Path | None = None) -> list[Finding]:
    """Every finding; those about ``run`` too where it is given."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("Python", _python),
        ("libraries", _libraries),
        ("memory", _memory),
        ("disk", _disk),
        ("threads", _threads),
    ]
    if run is not None:
        checks += [("run", lambda: _run(run)), ("state", lambda: _state(run))]
    return list(_examined(checks))


def _examined(checks: list[tuple[str, Callable[[], Finding]]]) -> Iterator[Finding]:
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # whatever is wrong is a finding, not an end
            yield Finding(name, False, f"{type(error).__name__}: {error}", "See the text")


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, sys.version.split()[0], "" if ok else "palate needs Python 3.11 or newer")


def _libraries() -> Finding:
    wrong = []
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:
            wrong.append(f"{name} ({type(error).__name__})")
    if wrong:
        return Finding("libraries", False, f"cannot be imported: {', '.join(wrong)}", "Install again: python -m pip install --force-reinstall palate")
    return Finding("libraries", True, f"{len(_NEEDED)} there, torch {importlib.metadata.version('torch')}")


def _memory() -> Finding:
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return Finding("memory", True, "not known on this system")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    ok = free >= 0.75
    return Finding("memory", ok, f"{free:.1f} GB free", "" if ok else "Training MovieLens-100K needs about 0.75 GB: end something else")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    with tempfile.TemporaryFile() as file:
        file.write(b"palate")
    ok = free >= 0.5
    return Finding("disk", ok, f"{free:.1f} GB free here", "" if ok else "Make room: a run and its state want some hundred MB")


def _threads() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    ok = not wanted.isdigit() or int(wanted) <= cores
    fix = "" if ok else f"More threads than cores slow everything down: OMP_NUM_THREADS={cores}"
    return Finding("threads", ok, f"{cores} cores, OMP_NUM_THREADS={wanted or 'not set'}", fix)


def _run(run: Path) -> Finding:
    from palate.assembly import open_run

    opened = open_run(run)
    files = opened.run.check()
    funnel = opened.funnel()
    return Finding(
        "run", True, f"{run}: {len(files)} files as published, {len(opened.items)} items, {len(opened.users)} users, {type(funnel).__name__} built"
    )


def _state(run: Path) -> Finding:
    from palate.serving import keys

    folder = run / "state"
    if not folder.exists():
        return Finding("state", True, f"{folder}: none yet")
    known = keys.names(folder)
    first = folder / keys.FIRST
    if first.exists():
        return Finding("state", True, f"{folder}: {len(known)} keys; the first key still lies in {first}: take it away once it is kept elsewhere")
    return Finding("state", True, f"{folder}: {len(known)} keys")
