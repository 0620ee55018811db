"""DeepFM on the fixed MovieLens-100K click split: quality over seeds, rows per CPU second, and what one request costs.

    python -m bench.rank --bench-dir FOLDER [--seeds 3] [--peer PYTHON]

FOLDER holds ``splits/ml100k_ctr``. ``--peer`` names the interpreter of an environment with RecBole (``peers/setup_peers.sh rb``), which is then
run between our seeds. One JSON line a measurement. Fields, widths, dropout and batch are those of RecBole's DeepFM; early stopping
looks at the validation rows, the test rows are looked at once.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import log_loss, roc_auc_score

from bench import peers
from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.layers.halves import rows
from palate.rank.interaction.deepfm import DeepFM
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer

FIELDS = ("user_id", "item_id", "age", "gender", "occupation", "zip2", "release_year", "genre1")
OWNERS = {"item_id": "item", "release_year": "item", "genre1": "item"}


def read(folder: Path) -> tuple[Schema, dict[str, Pointwise]]:
    """The three parts with vocabularies of the training rows only."""
    parts = {name: pl.read_csv(folder / f"{name}.csv", infer_schema=False) for name in ("train", "valid", "test")}
    features: list[Feature] = []
    ids: dict[str, dict[str, np.ndarray[Any, Any]]] = {name: {} for name in parts}
    for field in FIELDS:
        known = {value: place + 2 for place, value in enumerate(parts["train"][field].fill_null("").unique(maintain_order=True))}
        features.append(Feature(field, OWNERS.get(field, "user"), "category", len(known) + 2))  # type: ignore[arg-type]
        for name, frame in parts.items():
            ids[name][field] = np.array([known.get(value, 1) for value in frame[field].fill_null("")], np.int64)
    sets = {}
    for name, frame in parts.items():
        labels = {"click": frame["label"].cast(pl.Float32).to_numpy()}
        sets[name] = Pointwise(ids[name], labels, frame["user_id"].cast(pl.Int64).to_numpy())
    return Schema(tuple(features), (Label("click"),), user_id="user_id", item_id="item_id"), sets


def predict(model: DeepFM, rows_: Pointwise) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with torch.inference_mode():
        batch = rows_.batch(torch.arange(len(rows_)))
        return batch["label:click"].numpy(), model.predict(batch)[:, 0].numpy()


def train(schema: Schema, sets: dict[str, Pointwise], seed: int, epochs: int = 50) -> tuple[DeepFM, dict[str, Any]]:
    torch.manual_seed(seed)
    model = DeepFM(schema, dim=10, hidden=(128, 128, 128), dropout=0.2)
    trainer = Trainer(epochs=epochs, batch_size=2048, patience=5, seed=seed, threads=1)
    scoring = 0.0

    def score() -> float:
        nonlocal scoring
        start = time.process_time()
        labels, scores = predict(model, sets["valid"])
        value = float(roc_auc_score(labels, scores))
        scoring += time.process_time() - start
        return value

    start = time.process_time()
    fitting = trainer.fit(model, sets["train"], score)
    seconds = time.process_time() - start - scoring
    figures = {"seed": seed, "epochs": len(fitting.losses), "valid_auc": round(max(fitting.scores), 4), "cpu_seconds": round(seconds, 2)}
    return model, figures | {"rows_per_cpu_second": round(fitting.rows / seconds)}


def request_cost(repeats: int = 300) -> dict[str, Any]:
    """Microseconds for one user, 300 cached items, three tasks, hidden (256, 128): the user's half and the sum, one thread."""
    features = [Feature(f"u{n}", "user", "category", 1000) for n in range(5)] + [Feature("history", "user", "sequence", 5000, length=50)]
    features += [Feature("item", "item", "category", 5000), Feature("tags", "item", "sequence", 30, length=6), Feature("year", "item", "number")]
    features += [Feature(f"p{n}", "pair", "number") for n in range(16)]
    schema = Schema(tuple(features), (Label("choose"), Label("like"), Label("love")))
    model = DeepFM(schema).eval()
    generator = torch.Generator().manual_seed(0)

    def columns(owner: str, size: int) -> Batch:
        batch = Batch()
        for f in schema.of(owner):  # type: ignore[arg-type]
            shape = (size, f.length) if f.kind == "sequence" else (size,)
            numbers = f.kind == "number"
            batch[f.name] = torch.rand(shape, generator=generator) if numbers else torch.randint(f.vocab_size, shape, generator=generator)
        return batch

    user, pairs, catalogue = columns("user", 1), columns("pair", 300), columns("item", 5000)
    chosen = torch.randint(5000, (300,), generator=generator)
    times: dict[str, list[float]] = {"whole": [], "user": [], "pairs": [], "rows": [], "combine": [], "halves": []}
    with torch.inference_mode():
        cache = model.half(catalogue, "item")
        every = Batch({name: values.expand(300, *values.shape[1:]) for name, values in user.items()} | pairs | catalogue.take(chosen))
        for _ in range(repeats):
            clock = [time.perf_counter()]
            expected = model(every)
            clock.append(time.perf_counter())
            one = model.half(user, "user", "context")
            clock.append(time.perf_counter())
            rest = model.half(pairs, "pair")
            clock.append(time.perf_counter())
            items = rows(cache, chosen)
            clock.append(time.perf_counter())
            found = model.combine(items, rest, one)
            clock.append(time.perf_counter())
            for name, span in zip(("whole", "user", "pairs", "rows", "combine"), np.diff(clock), strict=True):
                times[name].append(span * 1e6)
            times["halves"].append((clock[-1] - clock[1]) * 1e6)
    gap = float((expected - found).abs().max())
    return {f"{name}_us": round(float(np.median(spans))) for name, spans in times.items()} | {"largest_difference": gap}


def peer(python: str, folder: Path) -> dict[str, Any]:
    """RecBole's DeepFM in the same minute: its own figures."""
    found = peers.results(Path(python), "recbole", folder, ("run_recbole.py", "DeepFM", "ctr", "10"))
    if not found:
        raise SystemExit("the peer gave no result")
    result = found[0]
    rate = 79_999 * result["epochs"] / result["cpu_seconds"]
    return {
        "peer": "recbole",
        "test_auc": result["metrics"]["auc"],
        "cpu_seconds": result["cpu_seconds"],
        "epochs": result["epochs"],
        "rows_per_cpu_second": round(rate),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer", default="", help="interpreter of an environment with RecBole")
    options = parser.parse_args()
    torch.set_num_threads(1)
    schema, sets = read(options.bench_dir / "splits/ml100k_ctr")
    found = []
    for seed in range(options.seeds):
        if options.peer and not seed:
            other = peer(options.peer, options.bench_dir)
            print(json.dumps({"bench": "deepfm_ml100k_ctr", **other}), flush=True)
        model, figures = train(schema, sets, seed)
        labels, scores = predict(model, sets["test"])
        figures |= {"test_auc": round(float(roc_auc_score(labels, scores)), 4), "test_logloss": round(float(log_loss(labels, scores)), 4)}
        print(json.dumps({"bench": "deepfm_ml100k_ctr", **figures}), flush=True)
        found.append(figures)
    mean = {key: round(float(np.mean([one[key] for one in found])), 4) for key in ("test_auc", "test_logloss", "rows_per_cpu_second")}
    line = {"bench": "deepfm_ml100k_ctr", "mean_of": len(found), **mean}
    if options.peer:
        line["speed_ratio"] = round(mean["rows_per_cpu_second"] / other["rows_per_cpu_second"], 2)
    print(json.dumps(line), flush=True)
    print(json.dumps({"bench": "deepfm_request_300", **request_cost()}), flush=True)


if __name__ == "__main__":
    main()
