"""Autoencoders, graph and neural models of who took what: full ranking, CPU seconds of the fit, memory. One JSON line a fit.

    python -m bench.collaborative --data-dir FOLDER --bench-dir FOLDER [--only MODEL,...] [--case ml100k,gowalla] [--seeds 3]
                                  [--folder FOLDER] [--validate [--every 5]]

BENCH_DIR holds ``splits/ml100k_general_8_1_1`` (Recall@10 and NDCG@10), DATA_DIR ``gowalla/`` (at 20). Each fit runs in a process of its own, on one
thread. ``--folder`` keeps every result and, while it runs, its checkpoint: what was stopped goes on where it was, what is done is printed again.

``--validate`` fits on what is left of the training rows (ML-100K has validation rows, of Gowalla a tenth of each user's is cut off) and prints
the figures on the rest after every ``--every`` epochs; the settings below were chosen by it, the test rows were looked at with them alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.clock import Clock
from bench.ranked import Split, cut, figures, gowalla, ml100k, peak_mb
from bench.recall import interactions, retrieved
from palate import catalog
from palate.build import build
from palate.contracts import Recaller
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.training.trainer import Trainer

Settings = tuple[dict[str, Any], dict[str, Any]]  #: of the model, of the trainer
SETTINGS: dict[str, dict[str, Settings]] = {
    "ml100k": {
        # validation was best (NDCG@10 .2428, seed 0) after epoch 31 of 40
        "MultVAE": ({"dim": 64, "hidden": (200,), "anneal": 100}, {"epochs": 31, "batch_size": 128, "learning_rate": 0.003}),
        # not chosen yet: in batches of 2048 validation still rose at epoch 14 (.2187)
        "LightGCN": ({}, {"epochs": 30, "batch_size": 2048, "learning_rate": 0.01}),
    },
    "gowalla": {},
}


def split_of(case: str, data_dir: Path, bench_dir: Path, validate: bool) -> Split:
    if case == "ml100k":
        return ml100k(bench_dir, "valid" if validate else "test")
    return cut(gowalla(data_dir)) if validate else gowalla(data_dir)


def fit(case: str, name: str, seed: int, split: Split, settings: Settings, checkpoint: Path | None, every: int) -> dict[str, Any]:
    """One line: the figures on what is asked, CPU seconds and memory; with ``every`` also those on the way, on stderr, and the best weights' last."""
    options, training = settings
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = interactions(split)
    model: Recaller = build(catalog.load(name, "recall"), options, data)
    training = {"seed": seed, **training} | ({"patience": 10**9} if every else {})
    sampler = training.pop("sampler", None)
    sequences = Sequences.unordered(data)
    before, clock = peak_mb(), Clock(checkpoint)
    epoch = clock.epochs

    def score() -> float:
        nonlocal epoch
        epoch += 1
        if epoch % every:
            return -1.0
        line = {"case": case, "model": name, "epoch": epoch, "cpu_seconds": round(clock.seconds, 1)}
        with clock.aside():
            now = figures(retrieved(model, split), split)  # type: ignore[arg-type]
        print(json.dumps(line | now), file=sys.stderr, flush=True)
        return now[f"ndcg@{split.k}"]

    examples = model.learn_from(sequences, Sampler(torch.from_numpy(sequences.counts), sampler))
    fitting = Trainer(**training, report=clock.report).fit(model, examples, score if every else None, checkpoint)
    line: dict[str, Any] = {"cpu_seconds": round(clock.seconds, 2), "epochs": fitting.best, "loss": round(fitting.losses[-1], 4)}
    line |= {"rss_before_mb": before, "rss_fit_mb": peak_mb()}
    start = time.process_time()
    line |= figures(retrieved(model, split), split)  # type: ignore[arg-type]
    return line | {"ranking_cpu_seconds": round(time.process_time() - start, 2)}


def key(case: str, name: str, seed: int, settings: Settings, validate: bool) -> str:
    mark = hashlib.sha256(json.dumps([settings, validate], sort_keys=True).encode()).hexdigest()[:8]
    return f"{case}-{name}-{seed}-{mark}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--bench-dir", type=Path, required=True)
    parser.add_argument("--only", default="", metavar="MODEL,...")
    parser.add_argument("--case", default=",".join(SETTINGS), metavar="CASE,...")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--set", default="", metavar="JSON", help="[model's, trainer's] options over those in this file, to try others")
    parser.add_argument("--here", type=int, default=-1, metavar="SEED", help="run this one seed in this process")
    options = parser.parse_args()
    data_dir, bench_dir = options.data_dir.resolve(), options.bench_dir.resolve()
    tried: list[dict[str, Any]] = json.loads(options.set) if options.set else [{}, {}]
    for case in options.case.split(","):
        if case not in SETTINGS:
            parser.error(f"no case {case!r}; known: {', '.join(SETTINGS)}")
        for name in options.only.split(",") if options.only else SETTINGS[case]:
            known = SETTINGS[case].get(name, ({}, {}))
            settings = {**known[0], **tried[0]}, {**known[1], **tried[1]}
            for seed in range(options.seeds if case == "ml100k" else 1) if options.here < 0 else (options.here,):
                place = options.folder and options.folder.resolve() / key(case, name, seed, settings, options.validate)
                if place and place.with_suffix(".json").exists():
                    print(place.with_suffix(".json").read_text().strip(), flush=True)
                elif options.here >= 0:
                    split = split_of(case, data_dir, bench_dir, options.validate)
                    line: dict[str, Any] = {"case": case, "by": "palate", "model": name, "seed": seed, "validation": options.validate}
                    checkpoint = place and place.with_suffix(".checkpoint")
                    line |= fit(case, name, seed, split, settings, checkpoint, options.every if options.validate else 0)
                    line["settings"] = settings
                    if place:
                        place.with_suffix(".json").write_text(json.dumps(line) + "\n")
                        checkpoint.unlink(missing_ok=True)
                        Clock(checkpoint).forget()
                    print(json.dumps(line), flush=True)
                else:
                    if place:
                        place.parent.mkdir(parents=True, exist_ok=True)
                    rest = ["--data-dir", str(data_dir), "--bench-dir", str(bench_dir), "--case", case, "--only", name, "--here", str(seed)]
                    rest += ["--folder", str(options.folder.resolve())] if options.folder else []
                    rest += (["--validate", "--every", str(options.every)] if options.validate else []) + (
                        ["--set", options.set] if options.set else []
                    )
                    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                    subprocess.run([sys.executable, "-m", "bench.collaborative", *rest], env=alone, cwd=Path(__file__).parent.parent, check=True)


if __name__ == "__main__":
    main()
