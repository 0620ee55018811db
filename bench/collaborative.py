"""Autoencoders, graph and neural models of who took what: full ranking, CPU seconds of the fit, memory. One JSON line a fit.

    python -m bench.collaborative [--only NAME,...] [--seeds 3] [--data-dir FOLDER] [--bench-dir FOLDER] [--kept FILE] [--checkpoints FOLDER]
                                  [--validate [--every 5]]

``--only``: cases (``ml100k``, ``gowalla``, ``music``, ``music-random``), models, or both as ``gowalla/LightGCN``. BENCH_DIR holds
``splits/ml100k_general_8_1_1`` (Recall@10 and NDCG@10), DATA_DIR ``gowalla/`` (at 20; ``LONG`` with one seed) and ``amazon-music/`` (at 20: the
latest item of each user, or a random fifth of the training rows). Each fit runs in a process of its own, on one thread. ``--kept`` names earlier
results: what stands there with the same settings is printed again and not run; with ``--checkpoints`` a fit that was stopped goes on at its last
epoch.

``--validate`` fits on what is left of the training rows (ML-100K has validation rows, of Gowalla a fifth of each user's that lies together is cut
off, of music a random fifth) and prints the figures on the rest after every ``--every`` epochs; the settings below were chosen by it, the test rows
were looked at with them alone.
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
from bench.ranked import Split, cut, figures, gowalla, ml100k, music, peak_mb
from bench.recall import interactions, retrieved
from bench.towers import Towers
from palate import catalog
from palate.build import build
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.training.trainer import Trainer

TOWERS = ("YouTubeDNN",)
LONG = ("LightGCN",)  #: twenty minutes and more on Gowalla
Settings = tuple[dict[str, Any], dict[str, Any]]  #: of the model, of the trainer
SETTINGS: dict[str, dict[str, Settings]] = {
    "ml100k": {  # after each its best NDCG@10 on the validation rows (seed 0), which also chose the epochs
        "AutoRec": ({"form": "user", "regularization": 1.0}, {"epochs": 31, "batch_size": 128, "learning_rate": 0.003}),  # .2211
        "CDAE": ({"dim": 100, "loss": "square"}, {"epochs": 25, "batch_size": 128, "learning_rate": 0.003}),  # .2395
        "MultDAE": ({"dim": 100}, {"epochs": 36, "batch_size": 128, "learning_rate": 0.003}),  # .2608
        "MultVAE": ({"dim": 128, "hidden": (), "anneal": 100, "beta": 0.3}, {"epochs": 42, "batch_size": 128, "learning_rate": 0.003}),  # .2600
        "RBM": ({"dim": 200}, {"epochs": 43, "batch_size": 64, "learning_rate": 0.003}),  # .2522
        "DBN": ({"hidden": (100, 50)}, {"epochs": 43, "batch_size": 64, "learning_rate": 0.01}),  # .2363
        "GMF": ({"dim": 64}, {"epochs": 7, "batch_size": 2048, "learning_rate": 0.005, "l2": 1e-5}),  # .2211
        "NCFMLP": ({"dim": 64, "hidden": (128, 64), "dropout": 0.1}, {"epochs": 14, "batch_size": 2048, "learning_rate": 0.003}),  # .2189
        "NeuMF": (
            {"dim": 32},
            {"epochs": 5, "batch_size": 2048, "learning_rate": 0.01, "l2": 3e-5},
        ),  # .2303 after 6; twice as wide .2399 in twice the time
        "ConvNCF": ({"dim": 16}, {"epochs": 19, "batch_size": 2048, "learning_rate": 0.005}),  # .1930
        "SimpleX": ({"own": 0.2, "margin": 0.6, "weight": 20.0}, {"epochs": 46, "batch_size": 64, "learning_rate": 0.01}),  # .2489
        "LightGCN": (
            {"layers": 2, "loss": "softmax", "regularization": 0.0, "temperature": 0.2},
            {"epochs": 28, "batch_size": 128, "learning_rate": 0.02},
        ),  # .2678
        "SGL": ({"contrast": 0.005, "temperature": 0.2}, {"epochs": 21, "batch_size": 2048, "learning_rate": 0.01}),  # .2457
        "SimGCL": ({"contrast": 0.02, "noise": 0.1}, {"epochs": 40, "batch_size": 2048, "learning_rate": 0.01}),  # .2450
    },
    "gowalla": {  # the same; but for LightGCN of a random tenth of each user's, which favours other models than the test rows do (``ranked.cut``)
        "LightGCN": (
            {"layers": 2, "loss": "softmax", "regularization": 0.0, "temperature": 0.1},
            {"epochs": 40, "batch_size": 1024, "learning_rate": 0.02},
        ),  # .1032, .1095, .1132, .1142 after 4, 8, 16, 20 (40 not tried); a falling rate, three times the rate, 3 layers, a temperature of .2: less
        "MultVAE": ({"dim": 200, "hidden": (), "anneal": 1000}, {"epochs": 20, "batch_size": 512, "learning_rate": 0.003}),  # .1061
        "NeuMF": (
            {"dim": 64, "hidden": (64, 32, 16)},
            {"epochs": 30, "batch_size": 8192, "learning_rate": 0.005, "l2": 1e-6},
        ),  # .0675 of a twelfth of the users after 20, still rising
        "SimpleX": (
            {"own": 0.8, "margin": 0.9, "weight": 250.0},
            {"epochs": 20, "batch_size": 64, "learning_rate": 0.01, "schedule": "cosine"},
        ),  # .1029; twice and four times the batch (and .01, .005) .0986 and .0802, all by the authors' margin and weight
        "YouTubeDNN": (
            {"dim": 64, "hidden": (), "temperature": 0.1},
            {"epochs": 6, "batch_size": 1024, "learning_rate": 0.005, "width": 50, "uniform": 1024},
        ),  # .0921; a temperature of .15, a dropout of .4, half the batch with a falling rate no better
    },
    "music": {  # the same; three interactions an item: what views of thinned graphs are for
        "LightGCN": ({"layers": 2}, {"epochs": 80, "batch_size": 2048, "learning_rate": 0.005}),  # .0727
        "SGL": ({"layers": 2, "contrast": 0.1}, {"epochs": 50, "batch_size": 2048, "learning_rate": 0.005}),  # .0815
        "SimGCL": ({"layers": 2, "contrast": 0.2}, {"epochs": 30, "batch_size": 2048, "learning_rate": 0.005}),  # .0832
    },
    "music-random": {  # the same
        "LightGCN": ({"layers": 2}, {"epochs": 150, "batch_size": 2048, "learning_rate": 0.005}),  # .0612
        "SGL": ({"layers": 2, "contrast": 0.1}, {"epochs": 50, "batch_size": 2048, "learning_rate": 0.005}),  # .0633
        "SimGCL": ({"layers": 2, "contrast": 0.2}, {"epochs": 30, "batch_size": 2048, "learning_rate": 0.005}),  # .0653
    },
}


def split_of(case: str, data_dir: Path, bench_dir: Path, validate: bool) -> Split:
    if case == "ml100k":
        return ml100k(bench_dir, "valid" if validate else "test")
    split = gowalla(data_dir) if case == "gowalla" else music(data_dir)
    split = cut(split, 0.2, seed=1) if case == "music-random" else split
    return cut(split, 0.2, together=case == "gowalla") if validate else split


def fit(case: str, name: str, seed: int, split: Split, settings: Settings, checkpoint: Path | None, every: int) -> dict[str, Any]:
    """One line: the figures on what is asked, CPU seconds and memory; with ``every`` also those on the way, on stderr, and the best weights' last."""
    options, training = settings
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = interactions(split)
    training = {"seed": seed, **training} | ({"patience": 10**9} if every else {})
    model: Any
    if name in TOWERS:
        towers = Towers(name, options, data, seed, **{option: training.pop(option) for option in ("width", "uniform") if option in training})
        model, examples, asked = towers.model, towers.examples, towers.figures
    else:
        model, sequences = build(catalog.load(name, "recall"), options, data), Sequences.unordered(data)
        examples = model.learn_from(sequences, Sampler(torch.from_numpy(sequences.counts), training.pop("sampler", None)))

        def asked(split: Split) -> dict[str, float]:
            return figures(retrieved(model, split), split)

    before, clock = peak_mb(), Clock(checkpoint)
    epoch = clock.epochs

    def score() -> float:
        nonlocal epoch
        epoch += 1
        if epoch % every:
            return -1.0
        line = {"case": case, "model": name, "epoch": epoch, "cpu_seconds": round(clock.seconds, 1)}
        with clock.aside():
            now = asked(split)
        print(json.dumps(line | now), file=sys.stderr, flush=True)
        return now[f"ndcg@{split.k}"]

    fitting = Trainer(**training, report=clock.report).fit(model, examples, score if every else None, checkpoint)
    line: dict[str, Any] = {"cpu_seconds": round(clock.seconds, 2), "epochs": fitting.best, "loss": round(fitting.losses[-1], 4)}
    line |= {"rss_before_mb": before, "rss_fit_mb": peak_mb()}
    start = time.process_time()
    line |= asked(split)
    return line | {"ranking_cpu_seconds": round(time.process_time() - start, 2)}


def mark(settings: Settings, validate: bool) -> str:
    """A short name of everything that decides a line's figures but the code."""
    return hashlib.sha256(json.dumps([settings, validate], sort_keys=True).encode()).hexdigest()[:8]


def alone(case: str, name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One fit in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "bench.collaborative", "--here", str(seed), "--only", f"{case}/{name}"]
    command += ["--data-dir", str(given.data_dir.resolve()), "--bench-dir", str(given.bench_dir.resolve())]
    command += ["--checkpoints", str(given.checkpoints.resolve())] if given.checkpoints else []
    command += ["--validate", "--every", str(given.every)] if given.validate else []
    command += ["--set", given.set] if given.set else []
    variables = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=variables, cwd=Path(__file__).parent.parent, check=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bench-dir", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--only", default="", help="cases, models, or CASE/MODEL, joined by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--set", default="", metavar="JSON", help="[model's, trainer's] options over those in this file, to try others")
    parser.add_argument("--here", type=int, default=-1, metavar="SEED", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = [(case, name) for case, some in SETTINGS.items() for name in some]
    asked = [word for word in given.only.split(",") if word]
    chosen = [(case, name) for case, name in names if not asked or {case, name, f"{case}/{name}"} & set(asked)]
    unknown = [word for word in asked if not any(word in (case, name, f"{case}/{name}") for case, name in names)]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; known: {', '.join('/'.join(name) for name in names)}")
    tried: list[dict[str, Any]] = json.loads(given.set) if given.set else [{}, {}]
    known = json.loads(given.kept.read_text("utf-8"))["lines"] if given.kept and given.kept.is_file() else []
    mine = {(line["case"], line["model"], line["seed"], line["settings"]): line for line in known if line["by"] == "palate"}
    for line in known:  # what is not asked for stays
        if line["by"] == "palate" and (line["case"], line["model"]) not in chosen:
            print(json.dumps(line), flush=True)
    for case, name in chosen:
        settings = {**SETTINGS[case][name][0], **tried[0]}, {**SETTINGS[case][name][1], **tried[1]}
        short = mark(settings, given.validate)
        for seed in range(1 if case == "gowalla" and name in LONG else given.seeds) if given.here < 0 else (given.here,):
            line = None if given.validate else mine.get((case, name, seed, short))
            if line is None and given.here < 0:
                line = alone(case, name, seed, given)
            elif line is None:
                if given.checkpoints:
                    given.checkpoints.mkdir(parents=True, exist_ok=True)
                checkpoint = given.checkpoints and given.checkpoints / f"{case}-{name}-{seed}-{short}"
                split = split_of(case, given.data_dir, given.bench_dir, given.validate)
                line = {"case": case, "by": "palate", "model": name, "seed": seed, "validation": given.validate, "settings": short}
                line |= fit(case, name, seed, split, settings, checkpoint, given.every if given.validate else 0)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
