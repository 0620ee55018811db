"""One step of training on 26 fields of 16 entries, batch 4,096: what it costs as the tables grow, and beside dense tables.

    python -m bench.step [--steps 15] [--sizes 10000,100000,1000000]

A tower (256, 128) over categories, Zipf-like ids. Beside ours, at the middle size, the same tower over one ``nn.Embedding`` a field, all
of it by torch's fused Adam. Each system's steps are timed in CPU seconds, one thread, after three that are not. One JSON line a
measurement. The largest tables take 5 GB with their moments.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.layers.towers import Tower
from palate.rank.interaction.mlp import MLP
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer

FIELDS, DIM, BATCH, HIDDEN = 26, 16, 4096, (256, 128)


class Dense(nn.Module):
    """The same tower over a table a field whose gradients are dense."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows + 2, DIM) for _ in range(FIELDS))
        self.tower = Tower(FIELDS * DIM, HIDDEN, 1)

    def loss(self, batch: Batch) -> Tensor:
        fields = torch.cat([table(batch[f"f{n}"]) for n, table in enumerate(self.tables)], 1)
        return nn.functional.binary_cross_entropy_with_logits(self.tower(fields)[:, 0], batch["label:click"])


def examples(rows: int, steps: int) -> Pointwise:
    random = np.random.default_rng(0)
    size = BATCH * steps
    ids = {f"f{n}": (2 + rows * random.random(size) ** 3).astype(np.int64) for n in range(FIELDS)}
    return Pointwise(ids, {"click": random.integers(0, 2, size).astype(np.float32)}, np.arange(size))


def seconds(step: Callable[[Batch], None], data: Pointwise, steps: int) -> float:
    """Median CPU seconds of a step, making its batch included."""
    found = []
    for n in range(steps + 3):
        start = time.process_time()
        step(data.batch(torch.arange(n * BATCH, (n + 1) * BATCH)))
        found.append(time.process_time() - start)
    return float(np.median(found[3:]))


def stepper(model: MLP | Dense, optimizers: list[torch.optim.Optimizer]) -> Callable[[Batch], None]:
    def step(batch: Batch) -> None:
        loss = model.loss(batch)
        float(loss.detach())
        model.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    model.train()
    return step


def ours(rows: int, steps: int) -> float:
    schema = Schema(tuple(Feature(f"f{n}", "item", "category", rows + 2) for n in range(FIELDS)), (Label("click"),))
    model = MLP(schema, dim=DIM, hidden=HIDDEN, dropout=0.0)
    return seconds(stepper(model, list(Trainer().optimizers(model).values())), examples(rows, steps + 3), steps)


def dense(rows: int, steps: int) -> float:
    model = Dense(rows)
    return seconds(stepper(model, [torch.optim.Adam(model.parameters(), 0.001, fused=True)]), examples(rows, steps + 3), steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, found = [int(size) for size in options.sizes.split(",")], {}
    for rows in sizes:
        found[rows] = ours(rows, options.steps)
        gc.collect()
        line = {"system": "ours", "rows": rows, "milliseconds": round(1000 * found[rows], 1), "rows_per_cpu_second": round(BATCH / found[rows])}
        print(json.dumps({"bench": "step", **line}), flush=True)
    middle = sizes[len(sizes) // 2]
    peer = dense(middle, options.steps)
    line = {"system": "dense tables, fused Adam", "rows": middle, "milliseconds": round(1000 * peer, 1), "rows_per_cpu_second": round(BATCH / peer)}
    print(json.dumps({"bench": "step", **line}), flush=True)
    growth = {"largest_over_smallest": round(found[sizes[-1]] / found[sizes[0]], 2), "speed_ratio_to_dense": round(peer / found[middle], 2)}
    print(json.dumps({"bench": "step", **growth}), flush=True)


if __name__ == "__main__":
    main()
