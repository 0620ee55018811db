"""A recipe and its trained parts put together: the funnel that answers, and the run that keeps the parts.

``workflow`` makes ``Parts`` by training, ``open_run`` reads them back; both get the funnel from the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from palate import catalog
from palate.build import build
from palate.candidates import Candidates, Request
from palate.contracts import Counter, Forest, Model, Others, Recaller, Rehearsal, Retriever, Similar
from palate.datasets.interactions import Interactions
from palate.features.pipeline import FeaturePipeline
from palate.funnel.filters import Available, Exclude, Seen
from palate.funnel.funnel import Funnel, Route
from palate.funnel.steps import Index, Prerank, Rank, VectorRetriever
from palate.recipe import Plan, Recipe, RecipeError
from palate.schema import Schema
from palate.state.askers import Askers
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows, objects
from palate.store import Draft, Run, RunError

_ROWS = ("users", "items", "times", "signals", "values")
CONTEXT = "context."  #: before the names of columns of context in a table of events


@dataclass(frozen=True)
class Showing:
    """A retriever as a part of another: of histories it is shown the events with the bit ``taken`` (0: all), as it would be as a route."""

    retriever: Retriever
    taken: int

    def retrieve(self, request: Request, k: int) -> Candidates:
        return self.retriever.retrieve(request.showing(self.taken), k)

    def __getattr__(self, name: str) -> Any:
        if name in ("add", "remove"):
            return getattr(self.retriever, name)
        if name == "grounds":
            grounds = self.retriever.grounds  # type: ignore[attr-defined]
            return lambda request, candidates: grounds(request.showing(self.taken), candidates)
        raise AttributeError(name)


@dataclass
class Parts:
    """Everything trained that a funnel needs. ``powers`` are those of the tasks in the final score."""

    recipe: Recipe
    items: Catalogue
    users: Catalogue
    pipeline: FeaturePipeline | None = None
    models: dict[str, Any] = field(default_factory=dict)
    powers: dict[str, float] = field(default_factory=dict)

    def retriever(self, model: str, index: Mapping[str, Any] | None = None) -> Retriever:
        """The model as a route: as it is, or behind an index where it gives vectors (one without gradients only where the route names one)."""
        trained = self.models[model]
        if isinstance(trained, (Counter, Recaller)) and not (index and hasattr(trained, "search_with")):
            return trained
        options = dict(index or {"name": "Exact"})
        return self.behind(model, build(catalog.load(options.pop("name"), "index"), options, where="[[recall]] index"))

    def behind(self, model: str, near: Index) -> Retriever:
        """A model that gives vectors as a route that asks this index, which is filled with the items' vectors."""
        trained = self.models[model]
        if isinstance(trained, Recaller) and not trained.inner:
            raise RecipeError(f"[[recall]] {model}: {type(trained).__name__} has no vectors for an index: its scores are no inner product")
        if isinstance(trained, (Counter, Recaller)):  # factors of users and items, such as iALS's
            factors = trained.items  # type: ignore[union-attr]
            taken = np.flatnonzero(factors.any(1))  # what nobody took has none: all of it would lie in one list, as near as anything
            return trained.search_with(near.fit(factors[taken], taken))  # type: ignore[union-attr]
        return VectorRetriever(trained, self._features, near, self.items)

    def routes(self) -> list[Route]:
        return [
            Route(plan.model, self.retriever(plan.model, plan.index), plan.quota, plan.priority, plan.deadline_ms, self.taken(plan.model))
            for plan in self.recipe.recall
        ]

    def taken(self, model: str) -> int:
        """The bit of the events that this model is shown of histories: of the signal it was fitted on where it reads no features, else of any.

        A hybrid is shown all, and its parts what they are shown as routes.
        """
        if self.recipe.models[model].parts or not isinstance(self.models[model], (Counter, Recaller)):
            return 0
        return self.positive

    @property
    def positive(self) -> int:
        """The bit of the signal that models without features are fitted on."""
        return 1 << [signal.name for signal in self.recipe.signals].index(self.recipe.positive)

    def others(self, rehearse: Callable[[Sequence[str], float], Rehearsal] | None = None) -> Others:
        """The models that are trained, for hybrids to be made of. One that has a route of its own is behind the index named there."""

        def named(model: str) -> Retriever:
            index = next((plan.index for plan in self.recipe.recall if plan.model == model and not self.taken(model)), None)
            return Showing(self.retriever(model, index), self.taken(model))

        return Others(named, self.positive, rehearse)

    def funnel(self, **options: Any) -> Funnel:
        """The whole funnel as the recipe lists it. Withdrawn, already taken and already shown items are always filtered.

        ``options`` are Funnel's own.
        """
        recipe = self.recipe
        filters = [Available(self.items), Exclude(), Seen()]
        filters += [self._step(table, "filter") for table in recipe.filters]
        prerank = rank = None
        if recipe.prerank and recipe.prerank.model in self.models:
            prerank = Prerank(self.models[recipe.prerank.model], self._features, recipe.prerank.keep)
        if recipe.rank and recipe.rank.model in self.models:
            rank = Rank(self.models[recipe.rank.model], self._features, self.powers or dict(recipe.rank.powers))
        rerank = [self._step(table, "rerank") for table in recipe.rerank]
        fallback = self.models.get(recipe.fallback)
        deadlines = {f"{name}_ms": stage.deadline_ms for name, stage in (("prerank", recipe.prerank), ("rank", recipe.rank)) if stage}
        return Funnel(self.routes(), filters, prerank, rank, rerank, **{"fallback": fallback, **deadlines, **options})

    @property
    def _features(self) -> FeaturePipeline:
        if self.pipeline is None:
            raise RecipeError("a model with weights reads features; add [[features]] to the recipe")
        return self.pipeline

    def _step(self, table: Mapping[str, Any], kind: str) -> Any:
        options = dict(table)
        cls = catalog.load(options.pop("name"), kind)
        return build(cls, options, self.items, where=f"[[{'filters' if kind == 'filter' else kind}]]")

    def similar(self) -> Similar | None:
        """The first recall model that knows which items go together."""
        names = self.recipe.with_parts(plan.model for plan in self.recipe.recall)
        return next((self.models[name] for name in names if isinstance(self.models.get(name), Similar)), None)


def schema_for(schema: Schema, plan: Plan) -> Schema:
    """What a model may read: a two-tower model sees each side by itself, a ranker everything, both without what the plan leaves out."""
    seen = schema.only("user", "item", "context") if plan.entry.kind in ("recall", "prerank") else schema
    return seen.without(plan.without)


def make(
    recipe: Recipe,
    model: str,
    items: Catalogue,
    pipeline: FeaturePipeline | None,
    interactions: Interactions | None = None,
    users: Catalogue | None = None,
    others: Others | None = None,
) -> Any:
    """A fresh model of the recipe; one that reads features, and any ranker, gets the part of the schema that it may read."""
    plan = recipe.models[model]
    provided: list[Any] = [items, interactions, others, Askers(users if users is not None else Catalogue("users"))]
    cls = plan.entry.load()
    if isinstance(cls, type) and issubclass(cls, Recaller):
        torch.manual_seed(recipe.seed)
    elif plan.entry.kind == "rank" or (isinstance(cls, type) and issubclass(cls, Model)):
        if pipeline is None:
            raise RecipeError(f"[models.{model}]: {plan.entry.name} reads features; add [[features]] to the recipe")
        provided.append(schema_for(pipeline.schema, plan))
        torch.manual_seed(recipe.seed)
    return recipe.make(model, *provided)


def save(parts: Parts, base: EventRows, draft: Draft) -> None:
    """Write all parts of a run; ``base`` are the events that the service starts from."""
    draft.text("recipe.toml", parts.recipe.text)
    draft.frame("items.parquet", parts.items.frame())
    draft.frame("users.parquet", parts.users.frame())
    draft.frame("events.parquet", frame_of(base))
    if parts.pipeline is not None:
        draft.json("pipeline.json", parts.pipeline.to_json())
        draft.arrays("pipeline.safetensors", parts.pipeline.arrays())
    for name, model in parts.models.items():
        draft.arrays(f"model-{name}.safetensors", arrays_of(model))
    draft.json("powers.json", parts.powers)


def frame_of(rows: EventRows) -> pl.DataFrame:
    """Events by catalogue row as a table; what is known of their context as columns ``context.<name>``."""
    context = {f"{CONTEXT}{name}": pl.Series(values.tolist(), strict=False) for name, values in rows.context.items()}
    return pl.DataFrame({column: getattr(rows, column) for column in _ROWS} | context)


def arrays_of(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """All that a trained model is made of, by name."""
    if isinstance(model, (Counter, Forest)):
        return dict(model.arrays())
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}


def load_weights(model: Any, arrays: Mapping[str, np.ndarray[Any, Any]], where: str) -> Any:
    """The model with these arrays; RunError where names or shapes are not the model's."""
    if isinstance(model, (Counter, Forest)):
        return _read_back(model, arrays, where)
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in arrays:
            raise RunError(f"{where}: has no array {name!r}")
        if tuple(arrays[name].shape) != tuple(tensor.shape):
            raise RunError(f"{where}: array {name!r} has the shape {arrays[name].shape}, the model wants {tuple(tensor.shape)}")
    for name in arrays:
        if name not in wanted:
            raise RunError(f"{where}: has an array {name!r} that the model does not know")
    model.load_state_dict({name: torch.from_numpy(np.array(arrays[name])) for name in wanted})
    return model.eval()


class _Watched(Mapping[str, "np.ndarray[Any, Any]"]):
    """Arrays that remember which of them were asked for."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.arrays = arrays
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        self.asked.append(name)
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def _read_back(model: Any, arrays: Mapping[str, np.ndarray[Any, Any]], where: str) -> Any:
    """A model without gradients from its arrays, refused where it would not write the same ones again."""
    watched = _Watched(arrays)
    try:
        made = model.from_arrays(watched)
        again = made.arrays()
    except KeyError as error:
        raise RunError(f"{where}: has no array {watched.asked[-1]!r}") from error
    except (ValueError, TypeError, IndexError, AssertionError) as error:
        asked = ", ".join(map(repr, dict.fromkeys(watched.asked)))
        raise RunError(f"{where}: the arrays {asked} do not fit a {type(model).__name__} ({error})") from error
    for name, array in arrays.items():
        if name not in again:
            raise RunError(f"{where}: has an array {name!r} that the model does not know")
        if array.shape != again[name].shape:
            raise RunError(f"{where}: array {name!r} has the shape {array.shape}, the model makes {again[name].shape} of it")
    return made


class OpenRun:
    """A run read back: recipe, catalogues, events and the parts of the funnel."""

    def __init__(self, path: str | Path, version: str | None = None) -> None:
        self.run = Run(path, version)
        self.folder = self.run.path
        self.recipe = Recipe.parse(self.run.text("recipe.toml"), str(self.run.folder / "recipe.toml"))
        self.items = Catalogue.of(self.run.frame("items.parquet"), name="items")
        self.users = Catalogue.of(self.run.frame("users.parquet"), name="users")
        self.base = self.rows("events.parquet")
        self.parts = self._parts()
        self._version = self.items.version

    def _parts(self) -> Parts:
        run, recipe = self.run, self.recipe
        pipeline = None
        if "pipeline.json" in run:
            pipeline = FeaturePipeline.from_saved(run.json("pipeline.json"), run.arrays("pipeline.safetensors")).bind(self.users, self.items)
        parts = Parts(recipe, self.items, self.users, pipeline, powers=run.json("powers.json"))
        for name in recipe.with_parts(recipe.models):
            file = f"model-{name}.safetensors"
            if file in run:
                arrays = run.arrays(file)
                sizes = arrays.get("sizes", np.zeros(2, np.int64))  # of what a model without features was fitted on
                if sizes.shape != (2,) or not (sizes >= 0).all() or sizes[0] > len(self.users) or sizes[1] > len(self.items):
                    raise RunError(f"{file}: the array 'sizes' does not fit the run's {len(self.users)} users and {len(self.items)} items")
                fresh = make(recipe, name, self.items, pipeline, Interactions.empty(*map(int, sizes)), self.users, parts.others())
                parts.models[name] = load_weights(fresh, arrays, file)
        return parts

    def rows(self, name: str) -> EventRows:
        """Events by catalogue row out of one of the run's files."""
        frame = self.run.frame(name)
        columns = {column: frame[column].to_numpy() for column in _ROWS}
        context = {name.removeprefix(CONTEXT): objects(frame[name].to_list()) for name in frame.columns if name.startswith(CONTEXT)}
        return EventRows(**columns, names=tuple(signal.name for signal in self.recipe.signals), context=context)

    @property
    def signals(self) -> tuple[Any, ...]:
        return self.recipe.signals

    @property
    def windows(self) -> tuple[int, ...]:
        return self.recipe.state.window_ms

    @property
    def bucket(self) -> int:
        return self.recipe.state.bucket_ms

    @property
    def history_limit(self) -> int:
        return self.recipe.state.history

    @property
    def seen(self) -> dict[str, Any]:
        return self.recipe.state.seen

    @property
    def versions(self) -> dict[str, str]:
        return {"run": self.run.version, "recipe": self.recipe.name}

    @property
    def similar(self) -> Similar | None:
        return self.parts.similar()

    @property
    def pipeline(self) -> FeaturePipeline | None:
        return self.parts.pipeline

    @property
    def base_sequence(self) -> dict[str, int]:
        """For each log that events of ``base`` are from: the number of the last one. A state over that log goes on from there."""
        return {str(name): int(last) for name, last in self.run.manifest.get("log", {}).items()}

    @property
    def start(self) -> EventRows:
        """What a service starts from: ``base``, and of a run trained from a log also what was held out, since its log is not read again."""
        return self.base.joined(self.rows("test.parquet")) if self.base_sequence else self.base

    def funnel(self, **options: Any) -> Funnel:
        """A funnel whose routes know the items of now, those that came after the models were fitted too."""
        made = self.parts.funnel(**options)
        late = np.arange(self.run.manifest.get("fitted", len(self.items)), len(self.items), dtype=np.int64)
        changed = np.union1d(late, self.items.changed_since(self._version))
        there = self.items.available[changed]
        for tell, rows in ((made.add, changed[there]), (made.remove, changed[~there])):
            if len(rows):
                tell(rows)
        return made


def open_run(path: str | Path, version: str | None = None) -> OpenRun:
    """Read the current version of a run (or the one named); RunError says what is missing or altered."""
    return OpenRun(path, version)
