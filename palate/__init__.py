"""palate: from an event log to served recommendations."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {  # loaded when first used, so that ``import palate`` costs nothing
    "Events": "palate.tables.events",
    "FeaturePipeline": "palate.features.pipeline",
    "Recipe": "palate.recipe",
    "Recommender": "palate.recommender",
    "train": "palate.workflow",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'palate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
