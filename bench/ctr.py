"""Every ranker on data sets with fixed parts: quality over seeds, CPU seconds and peak memory, each run in a process of its own.

    python -m bench.ctr [--rows NAME,...] [--seeds 3] [--data-dir FOLDER] [--bench-dir FOLDER] [--peers FOLDER] [--kept FILE]

Rows are those of ``palate reproduce --list``. ``--kept`` names earlier results: what stands there with the same settings is printed again and not
run, so a bench that was stopped goes on where it was. Rows of ``ml1m`` and ``ml1m-new`` are compared with DeepFM's, which reads the histories
pooled or not at all: difference of AUC, its mean up to this seed, with an interval over users. ``--peers`` (environments of
``peers/setup_peers.sh``) runs RecBole, torch-rechub and xlearn between ours. One JSON line a run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from bench import peers
from palate import reproduce
from palate.datasets.clicks import NoData
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc

ONCE = ("ml1m-plain", "ml1m", "anime", "anime-scenes", "anime-stars")  #: cases whose runs are long: one seed
BASES = {  #: what the behaviour models are compared with: DeepFM without histories and with
    case: {"plain": f"deepfm-{case}-plain", "deepfm": f"deepfm-{case}"} for case in ("ml1m", "ml1m-new")
}
SCRATCH = Path(tempfile.gettempdir()) / "palate-bench-predictions"
PEERS = (  # what must be there, command, case, and which of its models stand beside which of ours
    ("recbole", ("run_recbole.py", "{model}", "ctr", "10"), "ml100k", {"WideDeep": "WideDeep", "DeepFM": "DeepFM", "DCNV2": "DCNv2"}),
    ("torch_rechub", ("run_rechub_ctr.py", "{model}"), "ml100k-two", {"MMOE": "MMoE", "PLE": "PLE"}),
    ("xlearn", ("run_xlearn.py",), "ml100k", {"FFM": "FFM", "FM": "FM"}),
)


def settings(row: reproduce.Row) -> str:
    """Names everything that a row's figures depend on, but the code."""
    said = json.dumps([row.model, row.case, dict(row.options), {**reproduce.USUAL, **row.training}], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def bases(name: str) -> dict[str, str]:
    """The rows that this one is compared with."""
    found = BASES.get(reproduce.find(name).case, {})
    return {} if name in found.values() else found


def predictions(name: str, seed: int) -> Path:
    """Where a run leaves what it predicts of the test rows."""
    return SCRATCH / f"{name}-{settings(reproduce.find(name))}-{seed}.safetensors"


def one(name: str, seed: int, data_dir: Path) -> dict[str, Any]:
    """A run in this process."""
    row = reproduce.find(name)
    data = reproduce.CASES[row.case](data_dir, lambda line: None)
    kept: dict[str, Any] = {}
    found = reproduce.run(row, data, seed, keep=lambda predicted: kept.update(test=predicted))
    if row.case.removesuffix("-plain") in BASES:
        SCRATCH.mkdir(exist_ok=True)
        save_file({"test": kept["test"]}, predictions(name, seed))
        for short, base in bases(name).items():
            ours, theirs = ([load_file(predictions(one, past))["test"][:, 0] for past in range(seed + 1)] for one in (name, base))
            found |= {f"{key}_{short}": value for key, value in interval(data.parts["test"], ours, theirs).items()}
    return found | {"bench": "ctr", "by": "palate", "settings": settings(row)}


def interval(test: Pointwise, ours: list[Any], base: list[Any], samples: int = 200) -> dict[str, float]:
    """Difference of AUC, its mean over the seeds that are given, and its 95 % interval, users drawn with replacement."""
    labels = next(iter(test.labels.take(torch.arange(len(test))).values())).numpy()
    users, owner = np.unique(test.groups.numpy(), return_inverse=True)

    def apart(weights: Any = None) -> float:
        return float(np.mean([auc(labels, one, weights) - auc(labels, other, weights) for one, other in zip(ours, base, strict=True)]))

    rng, size = np.random.default_rng(0), len(users)
    draws = (np.bincount(rng.integers(0, size, size), minlength=size)[owner].astype(np.float64) for _ in range(samples))
    low, high = np.percentile([apart(weights) for weights in draws], [2.5, 97.5])
    return {"minus": round(apart(), 5), "low": round(float(low), 5), "high": round(float(high), 5)}


def alone(name: str, seed: int, data_dir: Path) -> dict[str, Any]:
    """The same in a process of its own, so that its peak of memory is its own; first those it is compared with, and those of both with the seeds
    before, if what they predict is gone."""
    for past in range(seed + 1 if bases(name) else 0):
        for needed in (*bases(name).values(), name):
            if (needed, past) != (name, seed) and not predictions(needed, past).is_file():
                alone(needed, past, data_dir)
    command = [sys.executable, "-m", "bench.ctr", "--one", name, "--seed", str(seed), "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}, seed {seed}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def beside(bench_dir: Path, home: Path, wanted: set[str]) -> Iterator[dict[str, Any]]:
    """The peers' own figures, in the same minutes as ours."""
    for module, words, case, models in PEERS:
        asked = {theirs: ours for theirs, ours in models.items() if f"{ours.lower()}-{case}" in wanted}
        for batch in [[model] for model in asked] if "{model}" in words else [list(asked)][: len(asked)]:
            for said in peers.results(home, module, bench_dir, tuple(word.format(model=batch[0]) for word in words)):
                if said["model"] in asked:
                    yield from peer_line(said, asked[said["model"]], case)


def peer_line(said: dict[str, Any], model: str, case: str) -> Iterator[dict[str, Any]]:
    metrics = said["metrics"]
    figures = {f"auc:{task}": metrics[task]["auc"] for task in ("like", "five") if task in metrics} or {"auc:click": metrics["auc"]}
    line = {"bench": "ctr", "by": said["peer"], "row": f"{model.lower()}-{case}", **figures, "cpu_seconds": said["cpu_seconds"]}
    if isinstance(said.get("epochs"), int):
        line["rows_per_cpu_second"] = round(80_172 * said["epochs"] / said["cpu_seconds"])
    yield line | {"peak_mb": said["peak_rss_mb"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="names joined by commas, or a case; all where left out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bench-dir", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.seed, given.data_dir)), flush=True)
        return 0
    names = [name for name in given.rows.split(",") if name]
    rows = [row for row in reproduce.ROWS if not names or row.name in names or row.case in names]
    unknown = [name for name in names if name not in {key for row in reproduce.ROWS for key in (row.name, row.case)}]
    if unknown or not rows:
        parser.error(f"there is no row {', '.join(unknown)}: see palate reproduce --list")
    known = json.loads(given.kept.read_text("utf-8"))["lines"] if given.kept and given.kept.is_file() else []
    mine = {(line["row"], line["seed"], line["settings"]): line for line in known if line["by"] == "palate"}
    wanted, failed = {row.name for row in rows}, 0
    for line in known:  # rows that are not asked for stay
        if line["row"] not in wanted:
            print(json.dumps(line), flush=True)
    for row in rows:
        for seed in range(1 if row.case in ONCE else given.seeds):
            line = mine.get((row.name, seed, settings(row)))
            try:
                if line is None:
                    line = alone(row.name, seed, given.data_dir)
            except (RuntimeError, NoData) as error:
                failed += 1
                print(f"bench: {error}", file=sys.stderr, flush=True)
                break
            print(json.dumps(line), flush=True)
    found = list(beside(given.bench_dir, given.peers, wanted)) if given.peers else [x for x in known if x["by"] != "palate" and x["row"] in wanted]
    for line in found:
        print(json.dumps(line), flush=True)
    return 0 if failed < len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
