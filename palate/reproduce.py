"""Published figures, and figures of peers, beside ours: each row names a data set with fixed parts, a model, and who reports what.

``run`` trains the row's model anew, with settings that were chosen on the validation part, and looks at the test part once.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from palate import catalog
from palate.build import build
from palate.contracts import Model
from palate.datasets import clicks
from palate.datasets.clicks import Clicks
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc, grouped_auc, log_loss, rmse
from palate.schema import Label, nearest
from palate.training.trainer import Progress, Trainer

BLOCK = 8_192  #: rows predicted at a time
USUAL: dict[str, Any] = {"epochs": 30, "batch_size": 2048, "learning_rate": 0.001, "patience": 3}
FUSED: dict[str, Any] = {"dim": 10, "hidden": (64, 64, 64), "other": (64, 64, 64), "heads": 1, "dropout": 0.4, "first": "none", "second": "none"}
LONG: dict[str, Any] = {"epochs": 6, "batch_size": 4096, "learning_rate": 0.002, "patience": 1}
WIDE: dict[str, Any] = {"dim": 10, "hidden": (128, 128, 128), "dropout": 0.2}  # the peers' widths
TASKS: dict[str, Any] = {"dim": 10, "hidden": (64,), "tower": (32,), "dropout": 0.2}  # the same for several tasks
SETTLED: dict[str, Any] = {"epochs": 8, "batch_size": 4096, "learning_rate": 0.008, "schedule": "cosine", "patience": 8}
NEW: dict[str, Any] = SETTLED | {"epochs": 6, "learning_rate": 0.004, "patience": 6}
SHORT: dict[str, Any] = {"batch_size": 4096, "learning_rate": 0.02, "weight_decay": 1.0, "patience": 1}


@dataclass(frozen=True)
class Row:
    """``theirs``: figures by name (``auc:<task>``, ``log_loss:<task>``, ``rmse:<task>``), each of ``source``. ``options`` are the model's,
    ``training`` the trainer's beside ``USUAL``. ``within``: how far below theirs ours may lie; None: nobody says how far."""

    case: str
    model: str
    theirs: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: WIDE)
    training: Mapping[str, Any] = field(default_factory=dict)
    within: float | None = None

    @property
    def name(self) -> str:
        return f"{self.model.lower()}-{self.case}"


def _anime_scenes(data_dir: Path | None, report: clicks.Report) -> Clicks:
    """What was watched is rated 8 or more; the scene is the kind (series, film, ...)."""
    found = clicks.anime(data_dir, report)
    return replace(found, schema=replace(found.schema, domain="kind", labels=(Label("high"),)))


def _anime_stars(data_dir: Path | None, report: clicks.Report) -> Clicks:
    """How many stars a watched title gets; none where it is not rated."""
    return clicks.anime(data_dir, report, stars=True)


def _ml1m_plain(data_dir: Path | None, report: clicks.Report, strangers: bool = False) -> Clicks:
    """The same rows, and nothing of what the user did before."""
    found = clicks.ml1m(data_dir, report, strangers=strangers)
    return replace(found, schema=found.schema.without(["history*"]))


CASES: dict[str, Callable[[Path | None, clicks.Report], Clicks]] = {
    "ml100k": clicks.ml100k,
    "ml100k-two": clicks.ml100k_two_tasks,
    "ml1m": clicks.ml1m,
    "ml1m-plain": _ml1m_plain,
    "ml1m-new": partial(clicks.ml1m, strangers=True),
    "ml1m-new-plain": partial(_ml1m_plain, strangers=True),
    "anime": clicks.anime,
    "anime-scenes": _anime_scenes,
    "anime-stars": _anime_stars,
    "retailrocket": clicks.retailrocket,
}

FUXICTR, RECBOLE, XLEARN, RECHUB = (
    f"{peer}, measured on this split" for peer in ("FuxiCTR 2.3.10", "RecBole 1.2.1", "xlearn 0.4.0", "torch-rechub 0.9.0")
)

ROWS: tuple[Row, ...] = (
    Row("ml100k", "LR", options={}),
    Row("ml100k", "FM", {"auc:click": 0.7721}, XLEARN, {"dim": 10}),
    Row("ml100k", "FFM", {"auc:click": 0.7814}, XLEARN, {}, SHORT, within=0.001),
    Row("ml100k", "GBDT", options={}),
    Row("ml100k", "LambdaMART", options={}),
    Row("ml100k", "GBDTLR", options={"penalty": 1000.0}),
    Row("ml100k", "WideDeep", {"auc:click": 0.7818, "log_loss:click": 0.5606}, FUXICTR, within=0.002),
    Row("ml100k", "DeepFM", {"auc:click": 0.7817, "log_loss:click": 0.5608}, FUXICTR, within=0.002),
    Row("ml100k", "NFM", {"auc:click": 0.7633, "log_loss:click": 0.5762}, RECBOLE, within=0.002),
    Row("ml100k", "DCN", {"auc:click": 0.7792, "log_loss:click": 0.5620}, RECBOLE, within=0.002),
    Row("ml100k", "DCNv2", {"auc:click": 0.7809, "log_loss:click": 0.5634}, FUXICTR, within=0.002),
    Row("ml100k", "FinalMLP", {"auc:click": 0.7804, "log_loss:click": 0.5594}, FUXICTR, FUSED, within=0.002),
    *(Row("ml100k", model) for model in ("GDCN", "xDeepFM", "AutoInt", "FiBiNET", "AllInteraction", "NeuralInteraction", "MixedCross", "MLP")),
    Row("ml100k-two", "MMoE", {"auc:like": 0.7767, "auc:five": 0.7943}, RECHUB, TASKS | {"experts": 4}, within=0.0),
    Row("ml100k-two", "PLE", {"auc:like": 0.7720, "auc:five": 0.7855}, RECHUB, TASKS, within=0.0),
    Row("ml100k-two", "SharedBottom", options=TASKS),
    *(Row("anime", model, training=LONG) for model in ("SharedBottom", "MMoE", "PLE", "ESMM")),
    *(Row("retailrocket", model) for model in ("SharedBottom", "ESMM")),
    *(Row("anime-scenes", model, training=LONG) for model in ("MLP", "STAR", "PEPNet")),
    Row("anime-stars", "MLP", training=LONG),
    Row("anime-stars", "WatchTime", options=WIDE | {"form": "exact"}, training=LONG),  # four in five are rated: the known form is far above
    Row("ml1m-plain", "DeepFM", training=SETTLED),
    *(Row("ml1m", model, training=SETTLED) for model in ("DeepFM", "YouTubeRank", "DIN", "SIM", "CAN", "ConvLSTM", "DIEN")),
    Row("ml1m", "MIMN", training=LONG | {"epochs": 2}),  # an epoch costs what twelve of DIN's do
    Row("ml1m-new-plain", "DeepFM", training=NEW),
    *(Row("ml1m-new", model, training=NEW) for model in ("DeepFM", "YouTubeRank", "DIN", "SIM", "CAN", "ConvLSTM", "DIEN")),
)


def find(name: str) -> Row:
    """The row of that name; LookupError names the nearest right one."""
    for row in ROWS:
        if row.name == name.lower():
            return row
    raise LookupError(f"there is no row {name!r}{nearest(name.lower(), [row.name for row in ROWS])}")


def run(
    row: Row,
    data: Clicks,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    keep: Callable[[NDArray[np.float32]], object] | None = None,
) -> dict[str, Any]:
    """Train on the training part until the validation part says stop, then measure once on the test part: figures as plain JSON.

    ``keep`` is given the test part's predictions ``[N, T]``.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    begun = time.process_time()
    model = build(catalog.load(row.model, "rank"), dict(row.options), data.schema, where=row.name)
    train, valid, test = (data.parts[part] for part in clicks.PARTS)
    found: dict[str, Any] = {"row": row.name, "model": row.model, "case": row.case, "seed": seed}
    if isinstance(model, Model):
        trainer = build(Trainer, {**USUAL, **row.training, "seed": seed}, report, where=row.name)
        scoring = 0.0

        def score() -> float:
            nonlocal scoring
            start = time.process_time()
            value = judged(model, valid, data.schema.labels)
            scoring += time.process_time() - start
            return value

        fitting = trainer.fit(model, train, score)
        found |= {"epochs": len(fitting.losses), "valid": round(max(fitting.scores), 5)}
        found["cpu_seconds"] = round(time.process_time() - begun, 2)
        found["rows_per_cpu_second"] = round(fitting.rows / max(found["cpu_seconds"] - scoring, 1e-9))
    else:
        model.fit(train, valid)
        found |= {"cpu_seconds": round(time.process_time() - begun, 2), "valid": round(judged(model, valid, data.schema.labels), 5)}
    labels, predicted = predict(model, test)
    if keep is not None:
        keep(predicted)
    for t, label in enumerate(data.schema.labels):
        known = np.isfinite(labels[label.name])
        truth, guess = labels[label.name][known], predicted[known, t].astype(np.float64)
        if label.kind == "number":
            found[f"rmse:{label.name}"] = round(rmse(truth, guess), 5)
        else:
            found[f"auc:{label.name}"] = round(auc(truth, guess), 5)
            found[f"log_loss:{label.name}"] = round(log_loss(truth, np.clip(guess, 1e-7, 1 - 1e-7)), 5)
            found[f"grouped_auc:{label.name}"] = round(grouped_auc(truth, guess, test.groups.numpy()[known]), 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"peak_mb": round(peak / (1e6 if sys.platform == "darwin" else 1024), 1)}


@torch.inference_mode()
def predict(model: Any, rows: Pointwise) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Labels by task ``[N]`` and predictions ``[N, T]``."""
    every = torch.arange(len(rows))
    labels = {name.removeprefix("label:"): values.numpy() for name, values in rows.labels.take(every).items()}
    return labels, torch.cat([model.predict(rows.batch(chosen)) for chosen in every.split(BLOCK)]).numpy()


def judged(model: Any, rows: Pointwise, labels: Sequence[Label]) -> float:
    """What early stopping looks at: the mean over tasks of the AUC (of a number: minus the RMSE)."""
    truths, predicted = predict(model, rows)
    scores = []
    for t, label in enumerate(labels):
        known = np.isfinite(truths[label.name])
        truth, guess = truths[label.name][known], predicted[known, t]
        scores.append(-rmse(truth, guess) if label.kind == "number" else auc(truth, guess))
    return float(np.mean(scores))


def beside(row: Row, found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """For each figure its name, our mean over seeds, our deviation and theirs, as text."""
    table = []
    for name in found[0]:
        if ":" in name or name in ("cpu_seconds", "peak_mb"):
            values = [float(one[name]) for one in found]
            apart = f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else "-"
            table.append((name, f"{np.mean(values):.4f}", apart, f"{row.theirs[name]:.4f}" if name in row.theirs else "-"))
    return table
