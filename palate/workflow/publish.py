"""A whole training, from a recipe to a published run."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from palate import assembly
from palate.assembly import OpenRun, open_run
from palate.recipe import Recipe, RecipeError
from palate.store import Draft, unfinished
from palate.tables.world import World
from palate.training.curves import Curves, Watcher
from palate.workflow.prepared import Prepared, Report, load_world, prepare, quiet
from palate.workflow.training import Training


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    world: World | None = None,
    holdout: bool = True,
    report: Report | None = None,
    watch: Sequence[Watcher] = (),
) -> OpenRun:
    """Follow a recipe and publish a run at ``out``. ``holdout=False`` trains on every event, for serving.

    Curves come to stand beside the version as JSON lines; ``watch``: who else is told how each fitting goes.

    Raises RecipeError, ImportFailed or RunError with the place of the mistake. What was at ``out`` stays until the new version is whole.
    """
    say = report or quiet
    folder = Path(".")
    if not isinstance(recipe, Recipe):
        folder = Path(recipe).resolve().parent
        recipe = Recipe.load(recipe)
    written = Recipe.parse(recipe.text)
    for part in ("models", "recall", "prerank", "rank", "rerank", "filters"):
        if getattr(written, part) != getattr(recipe, part):
            raise RecipeError(f"the recipe's {part} were changed after it was read; change the text and read it again, for a run keeps the text")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    began = time.perf_counter()
    world = world or load_world(recipe, folder, say)
    prepared = prepare(recipe, world, holdout=holdout)
    users, items = prepared.sizes
    say(f"{recipe.name}: {users:,} users, {items:,} items, {len(prepared.train):,} events to learn from, {len(prepared.held):,} held out")
    with unfinished(out, _digest(recipe, prepared)) as folder:
        if any(folder.glob("*.checkpoint")):
            say("  a training of this recipe on these events was cut short: it goes on")
        curves = Curves(folder / "curves.jsonl")
        training = Training(recipe, prepared, say, folder, (curves, *watch))
        parts = training.run()
        draft = Draft(out)
        try:
            fitted, held = len(prepared.items), prepared.rest()
            assembly.save(parts, prepared.train, draft)
            draft.frame("test.parquet", assembly.frame_of(held))
            draft.json("curves.json", training.curves)
            run = draft.publish(
                cut=prepared.cut,
                one_moment=prepared.one_moment,
                fitted=fitted,
                terms=world.terms,
                log=dict(world.log),
                seconds=round(time.perf_counter() - began, 1),
            )
        except BaseException:
            draft.discard()
            raise
        if curves.path.exists():  # not in the manifest: speeds are never the same twice
            curves.path.rename(Path(out) / f"curves-{run.version}.jsonl")
    say(f"trained and published at {out} in {time.perf_counter() - began:.0f} s")
    return open_run(out)


def _digest(recipe: Recipe, data: Prepared) -> str:
    """Names a training by all that it depends on."""
    digest = hashlib.sha256(recipe.text.encode())
    for rows in (one for one in (data.train, data.shown, data.met, data.ranked_out) if one is not None):
        for column in (rows.users, rows.items, rows.times, rows.signals, rows.values):
            digest.update(np.ascontiguousarray(column).tobytes())
        for name, values in rows.context.items():
            digest.update(json.dumps([name, values.tolist()], default=str).encode())
    for catalogue in (data.users, data.items):
        table = io.BytesIO()
        catalogue.frame().write_parquet(table)
        digest.update(table.getbuffer())
    return digest.hexdigest()[:16]
