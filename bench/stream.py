"""Rows that are larger than the memory they may take: training from files, 5 and 20 million rows, peak memory of each.

    python -m bench.stream [--rows 5000000,20000000] [--folder FOLDER]

26 categories of 100,000 values each (drawn like real ones: few are frequent), one label, an MLP; one epoch, in a process of its own. The files
are written in parts first, in another process, so that the peak is the training's.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.datasets.stored import Stored
from palate.rank.interaction.mlp import MLP
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer

FIELDS, VALUES, PART = 26, 100_000, 1_000_000


def parts(rows: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    for start in range(0, rows, PART):
        random = np.random.default_rng((seed, start))
        size = min(PART, rows - start)
        columns = {f"f{n}": (VALUES * random.random(size) ** 3).astype(np.int32) + 2 for n in range(FIELDS)}
        odd = (columns["f0"] % 2) ^ (columns["f1"] % 2)
        yield {**columns, "label:click": (odd == (random.random(size) < 0.2)).astype(np.float32), "group": np.zeros(size, np.int32)}


def train(folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    schema = Schema(tuple(Feature(f"f{n}", "user", "category", VALUES + 2) for n in range(FIELDS)), (Label("click"),))
    rows = Stored(folder)
    model = MLP(schema, dim=4, hidden=(32,), dropout=0.0)
    begun = time.process_time()
    fitting = Trainer(epochs=1, batch_size=16_384, tables="adagrad", table_learning_rate=0.05).fit(model, rows)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1024**2)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
    line = {"bench": "stream", "rows": len(rows), "files_gb": round(size, 2), "peak_gb": round(peak, 2), "loss": round(fitting.losses[-1], 4)}
    return line | {"cpu_seconds": round(seconds, 1), "rows_per_cpu_second": round(len(rows) / seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="5000000,20000000")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train is not None:
        print(json.dumps(train(given.train)), flush=True)
        return
    for rows in map(int, given.rows.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="palate-rows-", dir=given.folder))
        try:
            Stored.write(folder, parts(rows))
            subprocess.run([sys.executable, "-m", "bench.stream", "--train", str(folder)], check=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
