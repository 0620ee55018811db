"""Models that read lists in order, on data sets with fixed parts: quality over seeds, CPU seconds and peak memory, a process a run.

    python -m bench.sequences [--only NAME,...] [--seeds 3] [--data-dir FOLDER] [--bench-dir FOLDER] [--kept FILE] [--checkpoints FOLDER]
    python -m bench.sequences --only ml100k/GRU4Rec --set negatives=512 --set learning_rate=0.02

``--only``: data sets (``ml1m``, ``beauty``, ``diginetica``, ``ml100k``), models, or both as ``ml100k/GRU4Rec``. All items are ranked; what a user
took before is not, but in diginetica, where sessions repeat. Early stopping looks at the validation rows, the test rows are looked at once.
``--kept`` names earlier results: what stands there with the same settings is printed again and not run; with ``--checkpoints`` a run that was
stopped goes on at its last epoch. With ``--set`` (an option of the model or of the trainer, as JSON) nothing but the validation rows is looked
at: for choosing settings. One JSON line a run, and one with the mean over seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from bench.clock import Clock
from palate import catalog
from palate.build import build
from palate.candidates import Histories, Ints, Ragged, Request, offsets_of
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows
from palate.training.trainer import Trainer


@dataclass(frozen=True)
class Asked:
    """Lists (item rows), whose they are (-1: a stranger's), and the item that came next."""

    users: Ints
    lists: Ragged
    wanted: Ints


@dataclass(frozen=True)
class Case:
    """``train`` one list a user; ``anew``: items of the list asked about may come again. ``k`` of the figures; ``first`` chooses the epoch."""

    train: Sequences
    valid: Asked
    test: Asked
    k: int
    first: str
    anew: bool = False


@dataclass(frozen=True)
class Setting:
    """A catalog name, its options, the trainer's, how negatives are drawn, and where all this comes from."""

    name: str
    options: dict[str, Any]
    training: dict[str, Any]
    note: str
    drawn: dict[str, float] = field(default_factory=lambda: {"uniform": 1.0})
    power: float = 0.75


def lists_of(frame: pl.DataFrame, column: str = "items") -> list[Ints]:
    return [np.array(one, np.int64) - 1 for one in frame[column].to_list()]


def sequences(lists: list[Ints], items: int) -> Sequences:
    flat = np.concatenate(lists) if lists else np.empty(0, np.int64)
    return Sequences(offsets_of(np.array([len(one) for one in lists], np.int64)), flat, items)


def left_out(lists: list[Ints], items: int, users: Iterable[int] | None = None) -> Case:
    """The last item of each list is tested; the last but one (of all ``users``, or of some) is for validation and not in training."""
    some = set(range(len(lists)) if users is None else users)
    chosen = np.array(sorted(some), np.int64)
    train = [one[: -2 if user in some else -1] for user, one in enumerate(lists)]
    valid = Asked(chosen, Ragged.of([lists[user][:-2] for user in chosen]), np.array([lists[user][-2] for user in chosen]))
    test = Asked(np.arange(len(lists)), Ragged.of([one[:-1] for one in lists]), np.array([one[-1] for one in lists]))
    return Case(sequences(train, items), valid, test, 10, "ndcg@10")


def ml1m(data_dir: Path, _bench_dir: Path) -> Case:
    """gSASRec's split: validation by 512 users."""
    frame = pl.read_parquet(data_dir / "ml-1m-seq/sequences.parquet")
    row = {user: place for place, user in enumerate(frame["user"].to_list())}
    held = [row[user] for user in pl.read_parquet(data_dir / "ml-1m-seq/validation_users.parquet")["user"].to_list()]
    return left_out(lists_of(frame), 3416, held)


def beauty(data_dir: Path, _bench_dir: Path) -> Case:
    return left_out(lists_of(pl.read_parquet(data_dir / "beauty/sequences.parquet")), 12_101)


def diginetica(data_dir: Path, _bench_dir: Path) -> Case:
    """Validation: 5,000 prefixes, as the test examples are, of a hundredth of the training sessions, drawn by chance.

    Without the latest sessions, which are nearest to those of the test, a model would be judged below what is published of all of them.
    """
    sessions = lists_of(pl.read_parquet(data_dir / "diginetica/train_sessions.parquet"))
    frame = pl.read_parquet(data_dir / "diginetica/test_examples.parquet")
    random = np.random.default_rng(0)
    held = random.random(len(sessions)) < 0.01
    prefixes = [(one[:stop], one[stop]) for one, out in zip(sessions, held, strict=True) if out for stop in range(1, len(one))]
    some = random.choice(len(prefixes), min(5000, len(prefixes)), replace=False)
    valid = Asked(np.full(len(some), -1), Ragged.of([prefixes[n][0] for n in some]), np.array([prefixes[n][1] for n in some]))
    test = Asked(np.full(len(frame), -1), Ragged.of(lists_of(frame)), frame["target"].to_numpy().astype(np.int64) - 1)
    return Case(sequences([one for one, out in zip(sessions, held, strict=True) if not out], 43_097), valid, test, 20, "mrr@20", anew=True)


def ml100k(_data_dir: Path, bench_dir: Path) -> Case:
    """Each list is the user's rows in the file's order, which is that of time."""
    parts = {part: pl.read_csv(bench_dir / f"splits/ml100k_seq_loo/{part}.tsv", separator="\t") for part in ("train", "valid", "test")}
    ids = {name: np.unique(np.concatenate([part[name].to_numpy() for part in parts.values()])) for name in ("user_id", "item_id")}
    rows = [[np.searchsorted(ids[name], part[name].to_numpy()) for name in ids] for part in parts.values()]
    users, items = (np.concatenate([part[n] for part in rows]) for n in range(2))  # train, then valid, then test
    order = np.argsort(users, kind="stable")
    lists = np.split(items[order], np.cumsum(np.bincount(users))[:-1])
    return left_out(lists, len(ids["item_id"]))


CASES: dict[str, Callable[[Path, Path], Case]] = {"ml1m": ml1m, "beauty": beauty, "diginetica": diginetica, "ml100k": ml100k}

RECTOOLS = "RecTools' run: 64 wide, 2 blocks, 2 heads, 50 items, batches of 128 lists; "
GSASREC = "gSASRec's configuration file for ML-1M, narrower for a CPU (theirs: 256 wide, 3 blocks); "
S3REC = "S3-Rec's SASRec on Beauty: 64 wide, 2 blocks, 2 heads, 50 items, dropout .5; "
UNTRIED = "the paper's where it says so, otherwise not tried"


def sasrec(loss: str, note: str, *, dim: int, length: int, dropout: float, heads: int = 1, negatives: int = 1, **training: Any) -> Setting:
    options = {"dim": dim, "blocks": 2, "heads": heads, "length": length, "dropout": dropout, "loss": loss, "negatives": negatives}
    return Setting("SASRec", options, {"learning_rate": 0.001, "epochs": 200, "patience": 10, "batch_size": 128, **training}, note)


def long(name: str, options: dict[str, Any], note: str = UNTRIED, **training: Any) -> Setting:
    return Setting(name, options, {"learning_rate": 0.001, "epochs": 100, "patience": 5, "batch_size": 128, **training}, note)


SETTINGS: dict[str, dict[str, Setting]] = {
    "ml100k": {
        "SASRec": sasrec("full", RECTOOLS + "its loss (all items), dropout .2", dim=64, length=50, dropout=0.2, heads=2, batch_size=64, patience=5),
        "SASRec-gbce": sasrec("gbce", RECTOOLS + "256 negatives", dim=64, length=50, dropout=0.2, heads=2, negatives=256, batch_size=64, patience=5),
        "GRU4Rec": Setting(
            "GRU4Rec",
            {"dim": 100, "dropout": 0.3, "length": 200, "negatives": 512},
            {"learning_rate": 0.005, "epochs": 30, "patience": 3, "batch_size": 32},
            "batches of 32 lists and cross-entropy as in the official port's examples; adam, 512 negatives",
        ),
        "BERT4Rec": long("BERT4Rec", {"dim": 64, "length": 50, "masked": 0.2}, batch_size=64),
        "NextItNet": long("NextItNet", {"dim": 64, "length": 50}, batch_size=64),
        "Caser": long(
            "Caser", {"dim": 50, "length": 5, "targets": 3}, "the paper's for MovieLens: L 5, T 3, 50 wide, 16 and 4 filters", batch_size=512
        ),
        "SRGNN": long("SRGNN", {"dim": 64, "length": 20}, batch_size=512),
        "CL4SRec": long(
            "CL4SRec",
            {"dim": 64, "length": 50, "negatives": 256},
            "rate and patience by the validation rows (NDCG@10 .112, with .001 and 5 .090)",
            batch_size=64,
            learning_rate=0.003,
            patience=10,
        ),
        "MIND": long("MIND", {"dim": 64, "length": 50, "negatives": 128}, batch_size=512),
        "ComiRec": long("ComiRec", {"dim": 64, "length": 50, "negatives": 128}, batch_size=512),
    },
    "ml1m": {
        "SASRec-one": sasrec(
            "binary", "gSASRec's file for SASRec: 128 wide, 200 items, dropout .5", dim=128, length=200, dropout=0.5, epochs=400, patience=60
        ),
        "SASRec-gbce": sasrec("gbce", GSASREC + "t .75", dim=128, length=200, dropout=0.2, negatives=256, batch_size=64, patience=20),
        "SASRec-full": sasrec("full", GSASREC + "softmax over all items", dim=128, length=200, dropout=0.2, batch_size=64),
        "GRU4Rec": long(
            "GRU4Rec", {"dim": 256, "dropout": 0.3, "length": 200, "negatives": 2048}, "2048 negatives: the official port", batch_size=64
        ),
        "BERT4Rec": long(
            "BERT4Rec", {"dim": 64, "length": 200, "masked": 0.2}, "the paper's: 64 wide, 2 blocks, 2 heads, 200 items, .2", patience=10
        ),
        "NextItNet": long("NextItNet", {"dim": 128, "length": 200, "dilations": (1, 4, 1, 4)}),
        "Caser": long(
            "Caser", {"dim": 50, "length": 5, "targets": 3}, "the paper's for MovieLens: L 5, T 3, 50 wide, 16 and 4 filters", batch_size=1024
        ),
        "SRGNN": long("SRGNN", {"dim": 64, "length": 20}, batch_size=1024),
        "CL4SRec": long("CL4SRec", {"dim": 64, "length": 200, "negatives": 256}, batch_size=64),
        "MIND": long("MIND", {"dim": 64, "length": 50, "negatives": 128}, batch_size=1024),
        "ComiRec": long("ComiRec", {"dim": 64, "length": 50, "negatives": 128}, batch_size=1024),
    },
    "beauty": {
        "SASRec-one": sasrec("binary", S3REC + "one negative", dim=64, length=50, dropout=0.5, heads=2, batch_size=256, patience=30),
        "SASRec-full": sasrec("full", S3REC + "softmax over all items", dim=64, length=50, dropout=0.5, heads=2, batch_size=256),
        "GRU4Rec": long("GRU4Rec", {"dim": 64, "dropout": 0.4, "length": 50, "negatives": 2048}),
        "BERT4Rec": long("BERT4Rec", {"dim": 64, "length": 50, "masked": 0.4, "negatives": 2048}),
        "CL4SRec": long("CL4SRec", {"dim": 64, "length": 50, "dropout": 0.5, "negatives": 512}, batch_size=256),
    },
    "diginetica": {
        "GRU4Rec": long(
            "GRU4Rec",
            {"dim": 100, "dropout": 0.3, "length": 20, "negatives": 2048, "shared": True},
            "100 wide, 2048 negatives: the official port; the rate by the first epoch on the validation rows (with .001 far less)",
            learning_rate=0.004,
            patience=2,
        ),
        "SRGNN": Setting(
            "SRGNN",
            {"dim": 100, "length": 20, "negatives": 2048},
            {"learning_rate": 0.001, "schedule": "step", "every": 3, "factor": 0.1, "l2": 1e-5, "epochs": 12, "patience": 3, "batch_size": 100},
            "the paper's: 100 wide, batches of 100, a tenth of the rate every 3 epochs, l2 1e-5; a sampled softmax where it takes all items",
            {"popularity": 1.0},
        ),
        "SASRec": long("SASRec", {"dim": 100, "length": 20, "loss": "sampled", "negatives": 2048}),
    },
}


def given(case: Case) -> Interactions:
    """The training lists as what models are made with."""
    train = case.train
    users = np.repeat(np.arange(len(train)), np.diff(train.offsets))
    size = len(users)
    rows = EventRows(users, train.items, np.arange(size), np.ones(size, np.uint32), np.ones(size, np.float32), ("taken",))
    return Interactions.of(rows, len(train), train.n_items)


def figures(model: Recaller, case: Case, asked: Asked) -> dict[str, float]:
    """Recall (a hit, one item being wanted), NDCG and reciprocal rank at ``case.k``."""
    places = np.full(len(asked.wanted), -1)
    for start in range(0, len(places), 1000):
        stop = min(start + 1000, len(places))
        lists = Ragged.of([asked.lists[n] for n in range(start, stop)])
        size, now = len(lists.values), np.zeros(stop - start, np.int64)
        histories = Histories(lists.values, np.zeros(size, np.int64), np.zeros(size, np.uint32), np.ones(size, np.float32), lists.offsets)
        found = model.retrieve(Request(asked.users[start:stop], histories, now, exclude=None if case.anew else lists), case.k)
        right = np.flatnonzero(found.items == asked.wanted[start:stop][found.requests])
        places[start + found.requests[right]] = right - found.offsets[found.requests[right]]
    hit, place = places >= 0, places.clip(0)
    gains = {"recall": hit * 1.0, "ndcg": hit / np.log2(place + 2), "mrr": hit / (place + 1)}
    return {f"{name}@{case.k}": round(float(values.mean()), 5) for name, values in gains.items()}


def one(name: str, seed: int, data_dir: Path, bench_dir: Path, tried: dict[str, Any], checkpoint: Path | None) -> dict[str, Any]:
    """Fit once; figures of the test rows, or, where something is tried, of the validation rows alone."""
    which, _, label = name.partition("/")
    setting, case = SETTINGS[which][label], CASES[which](data_dir, bench_dir)
    trainers = {option.name for option in fields(Trainer)}
    training = setting.training | {key: value for key, value in tried.items() if key in trainers}
    options = setting.options | {key: value for key, value in tried.items() if key not in trainers}
    torch.manual_seed(seed)
    model = build(catalog.load(setting.name), options, given(case), Catalogue())
    sampler = Sampler(torch.from_numpy(case.train.counts), setting.drawn, setting.power)
    clock, reached = Clock(checkpoint), []

    def score() -> float:
        with clock.aside():
            now = figures(model, case, case.valid)[case.first]
        reached.append((round(clock.seconds, 1), now))
        return now

    examples = model.learn_from(case.train, sampler)
    fitting = Trainer(seed=seed, threads=1, **training, report=clock.report).fit(model, examples, score, checkpoint)
    line = {"case": which, "model": label, "seed": seed, "epochs": len(fitting.losses), "best": fitting.best}
    line |= {f"valid:{case.first}": max(fitting.scores), "cpu_seconds": round(clock.seconds, 1)}
    line |= {"reached": reached} if len(reached) == len(fitting.scores) else {}  # of a run that went on elsewhere only a part is known
    line |= figures(model, case, case.valid if tried else case.test)
    return line | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def settings(name: str) -> str:
    """A short name of everything that decides a row's figures but the code."""
    which, _, label = name.partition("/")
    return hashlib.sha256(repr(SETTINGS[which][label]).encode()).hexdigest()[:12]


def alone(name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "bench.sequences", "--one", name, "--seed", str(seed)]
    command += ["--data-dir", str(given.data_dir), "--bench-dir", str(given.bench_dir)]
    command += [word for text in given.set for word in ("--set", text)]
    if given.checkpoints and not given.set:
        given.checkpoints.mkdir(parents=True, exist_ok=True)
        command += ["--checkpoint", str(given.checkpoints / f"{name.replace('/', '-')}-{settings(name)}-{seed}")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"bench": "sequences", "by": "palate", **line, "settings": settings(name)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="data sets, models, or DATA/MODEL, joined by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bench-dir", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        tried = {name: json.loads(value) for name, _, value in (text.partition("=") for text in given.set)}
        print(json.dumps(one(given.one, given.seed, given.data_dir, given.bench_dir, tried, given.checkpoint)), flush=True)
        return 0
    names = [f"{which}/{label}" for which, some in SETTINGS.items() for label in some]
    asked = [word for word in given.only.split(",") if word]
    unknown = [word for word in asked if not any(word in (name, *name.split("/")) for name in names)]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; known: {', '.join(names)}")
    known = json.loads(given.kept.read_text("utf-8"))["lines"] if given.kept and given.kept.is_file() else []
    mine = {(f"{line['case']}/{line['model']}", line["seed"], line["settings"]): line for line in known if "seed" in line}
    for name in names:
        if asked and not any(word in (name, *name.split("/")) for word in asked):
            for line in known:  # what is not asked for stays
                if line["by"] == "palate" and f"{line['case']}/{line['model']}" == name:
                    print(json.dumps(line), flush=True)
            continue
        lines = []
        for seed in range(given.seeds):
            lines.append((None if given.set else mine.get((name, seed, settings(name)))) or alone(name, seed, given))
            print(json.dumps(lines[-1] | ({"tried": given.set} if given.set else {})), flush=True)
        mean = {key: round(float(np.mean([line[key] for line in lines])), 4) for key in lines[0] if "@" in key or key == "cpu_seconds"}
        print(
            json.dumps({"bench": "sequences", "by": "palate", "case": lines[0]["case"], "model": lines[0]["model"], "mean_of": len(lines), **mean}),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
