"""Runs the bench, keeps what it prints as JSON under bench/results/, and writes docs/board.md.

    python -m bench.run [--only recall,rank,ctr,index,...] [--rows NAME,...] [--all] [--peers PATH] [--run RUN]
                        [--data-dir ../shared/data] [--bench-dir ../shared/bench]

``--peers`` is an interpreter, an environment's folder, or a folder with ``venvs/``: each peer is run by the first of them that has it, in the
same run as ours. What takes long (``scale factor collaborative sequences ctr rankers routes worlds step stream calibration``) runs only when it is
named or with ``--all``; ``ctr``, ``collaborative`` and ``sequences`` keep each row as it comes and do not run again what they have. ``--rows`` names
some rows of these and of ``factor``, or the test files of some ``worlds``; the others stay. What cannot be run is left out with a line that says why,
and its last results stay.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import operator
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import board, peers

NAMES = tuple(board.AREAS)
LONG = ("scale", "factor", "collaborative", "sequences", "ctr", "rankers", "routes", "worlds", "step", "stream", "calibration")
KEPT = ("ctr", "collaborative", "sequences")  #: these are given what they printed before, and go on where they were
LIBRARIES = ("torch", "numpy", "scipy", "numba", "faiss-cpu", "polars")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LeftOut(Exception):
    """This one cannot be run here; the text says why."""


def arguments(name: str, data_dir: Path, bench_dir: Path, home: Path | None, run: Path, kept: Path, rows: str = "") -> list[str]:
    """What the module is called with. LeftOut: it needs something that is not there."""
    for needed, folder in (("recall", bench_dir), ("rank", bench_dir), ("recall", data_dir / "gowalla")):
        if name == needed and not folder.is_dir():
            raise LeftOut("its data are not there (--data-dir, --bench-dir)")
    if name == "recall":
        python = home and peers.interpreter_with("implicit", home)
        return ["--data-dir", str(data_dir), "--bench-dir", str(bench_dir), *(["--peers", python] if python else [])]
    if name == "rank":
        python = home and peers.interpreter_with("recbole", home)
        return ["--bench-dir", str(bench_dir), *(["--peer", python] if python else [])]
    if name == "ctr":
        words = ["--data-dir", str(data_dir), "--bench-dir", str(bench_dir), "--kept", str(kept), *(["--rows", rows] if rows else [])]
        return [*words, *(["--peers", str(home.absolute())] if home else [])]
    if name in ("factor", "collaborative", "sequences"):
        words = ["--data-dir", str(data_dir), "--bench-dir", str(bench_dir)]
        if name == "factor":
            return [*(rows.split(",") if rows else []), *words, "--folds", "5", "--kept", str(kept)]
        return [*words, *(["--only", rows] if rows else []), "--kept", str(kept), "--checkpoints", str(kept.parent / "checkpoints")]
    if name == "index":
        return ["--data-dir", str(data_dir)] if (data_dir / "gowalla").is_dir() else []
    if name == "serving":
        if not (run / "current").is_file():
            raise LeftOut(f"there is no run at {run}: make one with palate demo, or name one with --run")
        return [str(run)]
    if name == "worlds":
        return ["--only", *rows.lower().split(",")] if rows else []
    if name in ("rankers", "routes", "step", "requests", "stream"):
        return []
    return ["--data-dir", str(data_dir)] if name in ("funnel", "calibration") else ["--json"]


def collected(name: str, words: Sequence[str], keep: Callable[[list[dict[str, Any]]], object] = lambda lines: None) -> list[dict[str, Any]]:
    """Run one module on one thread; the JSON lines it prints, which are shown on the way, and ``keep`` is told of after each.
    CalledProcessError where it fails."""
    environment = {**os.environ, **{variable: os.environ.get(variable, "1") for variable in THREADS}}
    command = [sys.executable, "-m", f"bench.{name}", *words]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=board.ROOT) as process:
        assert process.stdout is not None
        for text in process.stdout:
            print(text, end="", flush=True)
            if text.startswith("{"):
                lines.append(json.loads(text))
                keep(lines)
    if process.returncode or not lines:
        raise subprocess.CalledProcessError(process.returncode, command)
    return lines


def libserving(bench_dir: Path, home: Path) -> list[dict[str, Any]]:
    """The service's peer, LibRecommender's libserving: needs ``venvs/lr`` below ``home`` and redis-server. No lines where it cannot run."""
    if not (home / "venvs/lr/bin/python").is_file() or shutil.which("redis-server") is None:
        print("bench: serving has no peer here (venvs/lr below --peers, and redis-server)", file=sys.stderr, flush=True)
        return []
    command = ["bash", str(bench_dir / "peers/run_libserving.sh")]
    environment = {**os.environ, "BENCH_HOME": str(home.absolute())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    lines = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("SERVE ")]
    return [{"system": line["peer"], **line} for line in lines]


PEERS = {"serving": libserving} | {name: partial(peers.lines, name) for name in peers.PEERS}  #: peers that the modules do not run themselves


def load() -> float:
    return round(os.getloadavg()[0], 1)


def record(name: str, words: Sequence[str], results: Path, peer: Callable[[], list[dict[str, Any]]] = list) -> Path:
    """Run one module, then ``peer``, and keep their lines with what was run and on what. Nothing kept names a host or a folder."""
    before, begun = load(), time.perf_counter()
    path = results / f"{name}.json"
    earlier = json.loads(path.read_text("utf-8"))["lines"] if path.is_file() else []
    results.mkdir(parents=True, exist_ok=True)

    def keep(lines: list[dict[str, Any]]) -> None:
        write(path, name, words, lines, before, time.perf_counter() - begun)

    lines = collected(name, words, keep if name in KEPT else lambda lines: None)
    lines += peer()
    if name in ("factor", "collaborative", "sequences"):
        lines += peers.earlier(earlier, lines)
    elif name == "worlds" and "--only" in words:
        lines = others(earlier, lines) + lines
    keep(lines)
    return path


def others(known: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ``known`` comparisons of worlds that ``now`` has not made again."""
    key = operator.itemgetter("model", "plain", "world", "figure")
    there = {key(line) for line in now}
    return [line for line in known if key(line) not in there]


def write(path: Path, name: str, words: Sequence[str], lines: list[dict[str, Any]], before: float, seconds: float) -> None:
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libraries": {library: importlib.metadata.version(library) for library in LIBRARIES},
        "load_before": before,
        "load_after": load(),
    }
    # Paths are this machine's own: the command is kept with their last part, and lines that repeat them likewise.
    short = {word: Path(word).name for word in words if Path(word).is_absolute()}
    command = " ".join(["python -m", f"bench.{name}", *(short.get(word, word) for word in words)])
    text = json.dumps({"command": command, "seconds": round(seconds, 1), "machine": machine, "lines": lines}, indent=1)
    for word, last in short.items():
        text = text.replace(word, last)
    done = path.with_suffix(".part")
    done.write_text(text + "\n", "utf-8")
    done.replace(path)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bench-dir", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/movielens"), help="the run that is served")
    parser.add_argument("--only", default="", help=f"joined by commas, of {', '.join(NAMES)}")
    parser.add_argument(
        "--rows",
        default="",
        help="joined by commas; of ctr: names of palate reproduce --list, or data sets; of worlds: test files (din) or their folders; "
        "of factor: cases; of collaborative and sequences: cases, models, or CASE/MODEL",
    )
    parser.add_argument("--all", action="store_true", help="also what takes long")
    parser.add_argument("--results", type=Path, default=board.RESULTS, help=argparse.SUPPRESS)
    parser.add_argument("--board", type=Path, default=board.BOARD, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    names = [name for name in options.only.split(",") if name] or [name for name in NAMES if options.all or name not in LONG]
    unknown = set(names) - set(NAMES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    if options.peers is not None and not peers.interpreters(options.peers):
        parser.error(f"--peers: no interpreter at {options.peers}")
    failed = []
    for name in names:
        try:
            words = arguments(
                name,
                options.data_dir.resolve(),
                options.bench_dir.resolve(),
                options.peers,
                options.run.resolve(),
                options.results.resolve() / f"{name}.json",
                options.rows,
            )
            print(f"bench: {name}", file=sys.stderr, flush=True)
            peer = PEERS.get(name) if options.peers is not None else None
            asked = {"rows": options.rows} if name in peers.PEERS else {}
            record(name, words, options.results, partial(peer, options.bench_dir.resolve(), options.peers, **asked) if peer else list)
        except LeftOut as why:
            print(f"bench: {name} is left out: {why}", file=sys.stderr, flush=True)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"bench: {name} failed (exit code {error.returncode}); its last results stay", file=sys.stderr, flush=True)
    board.write(options.results, options.board)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
