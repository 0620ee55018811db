"""One user, 300 candidates, one thread: what a long history costs a request that searches it, beside DIN's that weighs a short one.

    python -m bench.requests [--repeats 60]

The user's part is expanded over the candidates as the funnel does it. All models are asked in turn, so that what else the machine does hits them
alike; the ratio is the median over turns of SIM's CPU time over DIN's. One JSON line a model.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from torch import Tensor

from palate.batch import Batch
from palate.contracts import Ranker
from palate.rank.behavior.din import DIN
from palate.rank.behavior.sim import SIM
from palate.schema import Feature, Label, Schema

ITEMS, CATEGORIES, CANDIDATES = 20_000, 200, 300


def schema_of(length: int) -> Schema:
    return Schema(
        (
            Feature("user_id", "user", "category", 10_000),
            Feature("history", "user", "sequence", ITEMS, length=length, shares="item_id"),
            Feature("history_genre", "user", "sequence", CATEGORIES, length=length, shares="genre"),
            Feature("hour", "context", "category", 26),
            Feature("item_id", "item", "category", ITEMS),
            Feature("genre", "item", "category", CATEGORIES),
        ),
        (Label("click"),),
        user_id="user_id",
        item_id="item_id",
        history="history",
    )


def request(schema: Schema) -> Batch:
    """A user whose history is full, and other candidates."""
    random, found = torch.Generator().manual_seed(0), dict[str, Tensor]()
    for feature in schema.features:
        one = feature.owner in ("user", "context")
        shape = (1 if one else CANDIDATES, *([feature.length] if feature.kind == "sequence" else []))
        values = torch.randint(2, feature.vocab_size, shape, generator=random)
        found[feature.name] = values.expand(CANDIDATES, *shape[1:]) if one else values
    return Batch(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    short, long = schema_of(100), schema_of(10_000)
    asked: dict[str, tuple[Ranker, Batch]] = {
        "DIN, 100 events": (DIN(short).eval(), request(short)),
        "SIM, 10,000 events, hard search": (SIM(long, hard="genre").eval(), request(long)),
        "SIM, 10,000 events, soft search": (SIM(long).eval(), request(long)),
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    with torch.inference_mode():
        for turn in range(options.repeats + 5):
            for name, (model, batch) in asked.items():
                start = time.process_time()
                model(batch)
                if turn >= 5:
                    times[name].append(time.process_time() - start)
    din = np.array(times["DIN, 100 events"])
    for name, spans in times.items():
        line = {"system": name, "milliseconds": round(1000 * float(np.median(spans)), 2)}
        ratio = {} if spans is times["DIN, 100 events"] else {"over_din": round(float(np.median(np.array(spans) / din)), 2)}
        print(json.dumps({"bench": "requests", **line, **ratio}), flush=True)


if __name__ == "__main__":
    main()
