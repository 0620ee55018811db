"""Few negatives kept, and what probabilities mean then: calibration error on the test rows with the logit corrected and without.

    python -m bench.calibration [--data-dir FOLDER] [--rate 0.1]

retailrocket (a view is put into the cart, one in nine) and the rule of ml1m (a rating above 3). An MLP is trained on all rows, and on few negatives
with the rate in the loss; the answers of the second are also read as they would be without it: p / (p + rate (1 - p)).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.datasets import clicks
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc, calibration_error
from palate.rank.interaction.mlp import MLP
from palate.reproduce import CASES, judged, predict
from palate.training.trainer import Trainer


def measured(case: str, data: clicks.Clicks, rate: float, seed: int = 0) -> list[dict[str, Any]]:
    task = data.schema.labels[0].name
    valid, test = data.parts["valid"], data.parts["test"]
    lines = []
    for name, rows in (("all rows", data.parts["train"]), (f"1 in {1 / rate:.0f} negatives", data.parts["train"].thinned(rate, seed))):
        torch.manual_seed(seed)
        model = MLP(data.schema, dim=10, hidden=(64, 32), dropout=0.2)
        trainer = Trainer(epochs=10, batch_size=2048, patience=2, seed=seed, threads=1)
        fitting = trainer.fit(model, rows, lambda model=model: judged(model, valid, data.schema.labels))  # type: ignore[misc]
        labels, predicted = predict(model, test)
        found = predicted[:, 0].astype(np.float64)
        line = {"bench": "calibration", "case": case, "task": task, "rows": name, "trained_on": len(rows), "epochs": len(fitting.losses)}
        line |= {"auc": round(auc(labels[task], found), 4), "error": round(calibration_error(labels[task], found), 4)}
        if not isinstance(rows, Pointwise):
            line["error_uncorrected"] = round(calibration_error(labels[task], found / (found + rate * (1 - found))), 4)
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--cases", nargs="*", default=["retailrocket", "ml1m"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for case in given.cases:
        for line in measured(case, CASES[case](given.data_dir, lambda line: None), given.rate):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
