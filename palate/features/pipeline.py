"""FeaturePipeline: fitted once on training events, saved without pickle, and the same object in bulk offline and for one request online."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self, TypeVar, get_args

import numpy as np

from palate.candidates import DAY, Candidates, Counts, Histories, Ints, Request
from palate.features import audience, clock, counters, cross, hashing, history, match, numbers, transforms
from palate.features.counters import Counted, Routed, RouteScore
from palate.features.cross import Cross
from palate.features.fitting import Training
from palate.features.hashing import FID
from palate.features.history import History
from palate.features.kinds import Column, Part, Static, Timed, Transform, View, Vocal, check_audience, checked_length, context_of
from palate.features.numbers import Bucket
from palate.features.sheet import Lookups, Sheet
from palate.features.vocabulary import Vocabulary
from palate.schema import Label, Schema, nearest
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows

FORMAT = 2  #: of ``to_json``
MODULES = (transforms, numbers, hashing, history, counters, cross, clock, match, audience)  #: where transforms are
CHUNK = 1_000_000  #: training events crossed at a time
RESERVED = ("group", "weight", "kept", "log_q", "item_row", "user_row")  #: columns of a batch that are no features

Bound = TypeVar("Bound")


class FeaturePipeline:
    """``features``: the transforms of a recipe (copied: fitting leaves the given ones as they are); ``labels``: the tasks.

    Raises ValueError for a name used twice, a part played twice, a share that does not exist.
    """

    def __init__(self, features: Sequence[Transform], labels: Sequence[Label] = ()) -> None:
        self.features: tuple[Transform, ...] = tuple(copy.copy(feature) for feature in features)
        self.labels = tuple(labels)
        self._by_name = self._checked_names()
        self._parts = self._checked_parts()
        self._resolve_shares()
        self._static: dict[str, list[Static]] = {"user": [], "item": [], "context": []}
        self._timed: dict[str, list[Timed]] = {"user": [], "item": [], "context": [], "pair": []}
        for feature in self.features:
            if isinstance(feature, Static):
                self._static[feature.owner].append(feature)
            elif isinstance(feature, Timed):
                self._timed[feature.owner].append(feature)
        self._schema: Schema | None = None
        self._users: Sheet | None = None
        self._items: Sheet | None = None
        self._lookups: Lookups | None = None

    # ---- what it needs and makes

    @property
    def schema(self) -> Schema:
        if self._schema is None:
            raise ValueError("the feature pipeline is not fitted: call fit(users, items, rows) first")
        return self._schema

    @property
    def windows(self) -> tuple[int, ...]:
        """The counters' windows it reads, ms (0: all time), ascending: what the state has to keep."""
        return tuple(sorted({window * DAY for feature in self.features if isinstance(feature, Counted) for window in feature.windows}))

    @property
    def audience(self) -> int:
        """How many of an item's last events it reads: what the state has to keep."""
        return max((feature.audience for feature in self.features if isinstance(feature, Timed)), default=0)

    @property
    def context(self) -> tuple[str, ...]:
        """The context columns of a request that it reads."""
        return context_columns(self.features)

    @property
    def historic(self) -> bool:
        """Whether columns of the users, histories themselves apart, are made of what a user did."""
        timed = (*self._timed["user"], *self._timed["context"])
        return any(one.historic for one in timed if not isinstance(one, History))

    @property
    def routes(self) -> tuple[str, ...]:
        """The recall routes whose scores or ranks it reads."""
        return tuple(dict.fromkeys(feature.route for feature in self.features if isinstance(feature, Routed)))

    @property
    def items(self) -> Catalogue:
        """The catalogue of items that ``bind`` gave it."""
        return self._bound(self._items).catalogue

    # ---- fitting

    def fit(
        self,
        users: Catalogue,
        items: Catalogue,
        rows: EventRows,
        counts: Counts | None = None,
        context: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """Learn vocabularies, scales and shares from the training events ``rows`` and the attributes of the users and items in them.

        ``context``: values of the events' context columns, one a row (None: those of ``rows``). ``counts`` is only asked whether it counts what
        the features need. Binds the catalogues. Raises ValueError for an unknown column, signal or window.
        """
        known = (rows.users >= 0) & (rows.items >= 0)
        told: Mapping[str, Any] = rows.context if context is None else context
        given = {name: checked_length(name, values, len(rows)) for name, values in told.items()}
        if not known.all():
            given = {name: [values[n] for n in np.flatnonzero(known).tolist()] for name, values in given.items()}
            rows = rows.take(known)
        training = Training({"user": users, "item": items}, {"user": rows.users, "item": rows.items}, given)
        tallies: dict[str, dict[str, int]] = {}
        for feature in self.features:
            if isinstance(feature, Timed):
                feature.fit(rows)
                if counts is not None and isinstance(feature, Counted):
                    feature.places(counts)
                if counts is not None:
                    check_audience(feature.feature_name, feature.audience, counts)
            training.check(feature)
            if isinstance(feature, Vocal) and not (isinstance(feature, History) and feature.shares):
                tally = tallies.setdefault(feature.shares or feature.feature_name, {})
                for value, count in feature.tally(*training.weighted(feature)).items():
                    tally[value] = tally.get(value, 0) + count
            elif isinstance(feature, Bucket):
                feature.fit(training.weighted(feature)[0], *training.rated(feature, rows))
            elif isinstance(feature, Static):
                feature.fit(training.weighted(feature)[0])
        self._share({name: self._vocal(name).build(tally) for name, tally in tallies.items()})
        self.bind(users, items)
        for feature in self.features:
            if isinstance(feature, Cross):
                feature.fit_pairs(self._as_requests(rows, given))
        return self

    def _as_requests(self, rows: EventRows, context: Mapping[str, Sequence[Any]]) -> Iterator[View]:
        """The events as requests, each with its item as the only candidate."""
        for start in range(0, len(rows), CHUNK):
            here = slice(start, start + CHUNK)
            some = rows.take(here)
            told = {name: values[here] for name, values in context.items()}
            request = Request(some.users, Histories.empty(len(some)), some.times, context=told)
            candidates = Candidates(some.items, np.zeros(len(some), np.float32), np.arange(len(some) + 1))
            yield View(request, candidates, self._bound(self._lookups))

    def notes(self) -> tuple[str, ...]:
        """What a person who trains should hear of what was fitted, such as how many values share a bucket."""
        return tuple(note for feature in self.features if (note := feature.note()))

    def fit_routes(self, candidates: Candidates) -> Self:
        """Learn the scale of each route's scores (for ``RouteScore`` with ``scale = "fitted"``) from candidates of earlier time."""
        for feature in self.features:
            if isinstance(feature, RouteScore) and feature.scale == "fitted":
                column = candidates.columns.get(f"{feature.route}.score")
                feature.fit_route(np.empty(0, np.float32) if column is None else np.asarray(column, np.float32))
        return self

    def bind(self, users: Catalogue, items: Catalogue) -> Self:
        """Read attributes from these catalogues from now on; their later changes are taken in by themselves."""
        assert self.schema
        self._users = Sheet(self._static["user"], users)
        self._items = Sheet(self._static["item"], items)
        self._lookups = Lookups([feature for feature in self.features if isinstance(feature, Timed)], users, items)
        return self

    # ---- encoding

    def encode_users(self, request: Request) -> dict[str, Column]:
        """Columns of the users and of the context, ``[B, ...]``."""
        users, lookups = self._bound(self._users), self._bound(self._lookups)
        columns = users.gather(request.users)
        for static in self._static["user"]:
            if request.attributes and static.attribute in request.attributes and static.attribute != "id":
                given = checked_length(static.attribute, request.attributes[static.attribute], len(request))
                places = [b for b, value in enumerate(given) if value is not None]
                for name, column in zip(static.names(), static.encode([given[b] for b in places]), strict=True):
                    columns[name][places] = column
        for static in self._static["context"]:
            columns.update(zip(static.names(), static.encode(context_of(request, static.attribute)), strict=True))
        if self._timed["user"] or self._timed["context"]:
            view = View(request, None, lookups)
            for timed in (*self._timed["user"], *self._timed["context"]):
                columns.update(zip(timed.names(), timed.encode(view), strict=True))
        _tapped(request, None, columns)
        return columns

    def encode_items(self, rows: Ints) -> dict[str, Column]:
        """Columns of these item rows that depend on nothing else, ``[N, ...]``; -1 is an item that nobody knows."""
        columns = self._bound(self._items).gather(rows)
        return {**columns, **self._of_items(rows)} if self._timed["item"] else columns

    def item_columns(self) -> dict[str, Column]:
        """``encode_items`` of every item of the catalogue, ``[n_items, ...]``. Do not change them."""
        columns = self._bound(self._items).everything()
        return {**columns, **self._of_items(np.arange(len(self.items)))} if self._timed["item"] else columns

    def _of_items(self, rows: Ints) -> dict[str, Column]:
        view = View(_NOBODY, None, self._bound(self._lookups), rows)
        return {name: column for timed in self._timed["item"] for name, column in zip(timed.names(), timed.encode(view), strict=True)}

    def user_columns(self) -> dict[str, Column]:
        """Static columns of every user of the catalogue, ``[n_users, ...]``. Do not change them."""
        return self._bound(self._users).everything()

    def histories(self) -> list[tuple[History, Column]]:
        """The histories among the features, each with the id that stands in it for every item of the catalogue, int64 ``[n_items]``."""
        lookups = self._bound(self._lookups).everything()
        return [(one, lookups[one.feature_name]) for one in self._timed["user"] if isinstance(one, History)]

    def encode_pairs(self, request: Request, candidates: Candidates) -> dict[str, Column]:
        """What depends on the time or on both sides, one row a candidate: ``[N, ...]``."""
        if len(request) != len(candidates):
            raise ValueError(f"candidates of {len(candidates)} requests do not belong to {len(request)} requests")
        view = View(request, candidates, self._bound(self._lookups))
        columns: dict[str, Column] = {}
        for timed in self._timed["pair"]:
            columns.update(zip(timed.names(), timed.encode(view), strict=True))
        _tapped(request, candidates, columns)
        return columns

    def encode(self, request: Request, candidates: Candidates) -> dict[str, Column]:
        """All columns, one row a candidate: ``[N, ...]``; those of a user are repeated for each of its candidates."""
        pairs = self.encode_pairs(request, candidates)
        lengths = np.diff(candidates.offsets)
        columns = {name: column.repeat(lengths, 0) for name, column in self.encode_users(request).items()}
        return {**columns, **self.encode_items(candidates.items), **pairs}

    # ---- persistence

    def to_json(self) -> dict[str, Any]:
        """Everything but the vocabularies, as plain JSON."""
        saved = [{"name": type(f).__name__, "options": f.options(), "learnt": f.learnt()} for f in self.features]
        return {"format": FORMAT, "features": saved, "labels": [asdict(label) for label in self.labels], "schema": self.schema.to_json()}

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The vocabularies: ``"<feature>.bytes"`` uint8 and ``"<feature>.offsets"`` int64."""
        return {f"{name}.{key}": array for name in self._vocal_roots() for key, array in self._vocal(name).vocabulary.arrays().items()}

    @classmethod
    def from_saved(cls, json: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """What ``to_json`` and ``arrays`` gave; ``bind`` it before use. Raises ValueError if they do not fit each other."""
        if json.get("format") != FORMAT:
            raise ValueError(f"a saved feature pipeline has the format {json.get('format')!r}; this version reads {FORMAT}")
        made = cls([_transform(one["name"], one["options"]) for one in json["features"]], [Label(**label) for label in json["labels"]])
        for feature, one in zip(made.features, json["features"], strict=True):
            feature.restore(one["learnt"])
        try:
            roots = {name: made._vocal(name) for name in made._vocal_roots()}
            made._share({name: root.restored({k: arrays[f"{name}.{k}"] for k in root.kept}) for name, root in roots.items()})
        except KeyError as error:
            raise ValueError(f"a saved feature pipeline lacks the array {error}") from None
        if made.schema != Schema.from_json(json["schema"]):
            raise ValueError("a saved feature pipeline is damaged: its schema does not fit its vocabularies")
        return made

    # ---- inside

    def _checked_names(self) -> dict[str, Transform]:
        found: dict[str, Transform] = {}
        for feature in self.features:
            for name in feature.names():
                if name in found:
                    raise ValueError(f"two features have the name {name!r}: give one of them another label")
                if "." in name or ":" in name or name in RESERVED:
                    raise ValueError(f"{name!r} cannot be the name of a feature (no '.' or ':', nor {', '.join(RESERVED)}): give it a label")
                found[name] = feature
        return found

    def _checked_parts(self) -> dict[str, str]:
        wanted: dict[str, tuple[str, type]] = {"user_id": ("user", transforms.Category), "item_id": ("item", transforms.Category)}
        wanted["history"] = ("user", History)
        parts: dict[str, str] = {}
        for feature in self.features:
            if not feature.part:
                continue
            name = feature.feature_name
            if feature.part not in get_args(Part):
                raise ValueError(f"feature {name!r}: no part {feature.part!r}{nearest(feature.part, filter(None, get_args(Part)))}")
            if feature.part in parts:
                raise ValueError(f"{parts[feature.part]!r} and {name!r} cannot both play the part {feature.part!r}")
            owner, kind = wanted.get(feature.part, (None, transforms.Category))
            plays = isinstance(feature, kind) or (kind is transforms.Category and isinstance(feature, FID) and feature.length == 1)
            if not plays or (owner and feature.owner != owner):
                raise ValueError(f"feature {name!r} cannot play the part {feature.part!r}: that takes a {kind.__name__} of {owner or 'any side'}")
            parts[feature.part] = name
        return parts

    def _resolve_shares(self) -> None:
        """Make ``shares`` of every feature the one whose vocabulary it uses in the end, "" if its own."""
        vocal = [feature for feature in self.features if isinstance(feature, Vocal)]
        for feature in vocal:
            if isinstance(feature, History) and not feature.shares:
                over = [other for other in vocal if isinstance(other, Static) and other.column == feature.column]
                if over and feature not in self._chain(over[0]):
                    feature.shares = over[0].feature_name
        chains = [self._chain(feature) for feature in vocal]
        for feature, chain in zip(vocal, chains, strict=True):
            feature.shares = chain[-1].feature_name if len(chain) > 1 else ""

    def _chain(self, feature: Vocal) -> list[Vocal]:
        """The feature, the one it shares with, the one that shares with, and so on. Shares may be named by feature or by column."""
        chain = [feature]
        while wanted := chain[-1].shares:
            columns = (other for other in self.features if isinstance(other, Vocal) and isinstance(other, Static) and other.column == wanted)
            named = self._by_name.get(wanted) or next(columns, None)
            if named is None:
                known = [other.feature_name for other in self.features if isinstance(other, Vocal) and other is not feature]
                raise ValueError(f"feature {feature.feature_name!r} shares {wanted!r}, which does not exist{nearest(wanted, known)}")
            if not isinstance(named, Vocal):
                raise ValueError(f"feature {feature.feature_name!r} shares {named.feature_name!r}, which has no vocabulary")
            if named in chain:
                raise ValueError(f"features share in a circle: {' -> '.join(other.feature_name for other in [*chain, named])}")
            chain.append(named)
        return chain

    def _vocal(self, name: str) -> Vocal:
        found = self._by_name[name]
        assert isinstance(found, Vocal)
        return found

    def _vocal_roots(self) -> list[str]:
        return [feature.feature_name for feature in self.features if isinstance(feature, Vocal) and not feature.shares]

    def _share(self, vocabularies: Mapping[str, Vocabulary]) -> None:
        """Hand out the vocabularies; with them the schema is complete."""
        for feature in self.features:
            if isinstance(feature, Vocal):
                feature.vocabulary = vocabularies[feature.shares or feature.feature_name]
        columns = tuple(column for feature in self.features for column in feature.columns())
        self._schema = Schema(columns, self.labels, **self._parts)

    def _bound(self, sheet: Bound | None) -> Bound:
        if sheet is None:
            raise ValueError("the feature pipeline has no catalogues: call bind(users, items) first")
        return sheet


_NOBODY = Request(np.empty(0, np.int64), Histories.empty(0), np.empty(0, np.int64))


def context_columns(features: Sequence[Transform]) -> tuple[str, ...]:
    """The context columns of a request that these features read, without the ``context.`` before them."""
    read = (column.partition(".") for feature in features for column in feature.reads)
    return tuple(dict.fromkeys(attribute for side, _, attribute in read if side == "context"))


def _transform(name: str, options: Mapping[str, Any]) -> Transform:
    for module in MODULES:
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, Transform):
            return found(**options)
    raise ValueError(f"a saved feature pipeline names the transform {name!r}, which this version does not have")


def _tapped(request: Request, candidates: Candidates | None, columns: dict[str, Column]) -> None:
    """Whoever wants to know what models see of a request leaves a list at ``parameters["tap"]``."""
    tap = request.parameters.get("tap")
    if tap is not None:
        tap.append((candidates, columns))
