"""Near: what is around the place of the one who asks, the popular before the rest, less the further away."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from palate.candidates import Candidates, Floats, Ints, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.index.topk import Doubles, Table, flat
from palate.recall.content.shelves import known
from palate.state.askers import Askers
from palate.state.catalogue import Catalogue
from palate.state.past import ragged_places

EARTH = 6371.0088  #: mean radius in km
BLOCK = 2_000_000  #: distances held at once
FUZZ = 1e-9  #: degrees by which a box is wider than the circle in it


class Near:
    """``score(s) = (1 + popularity(s)) ** popular * exp(-d / scale_km)`` of the items at a distance d of at most ``radius_km``.

    d is the great-circle distance (haversine). ``latitude`` and ``longitude`` name attributes, in degrees, of the items and of those who ask:
    in the request's context, else in its attributes, else in the catalogue of users; where none tells, the place is that of the history's last
    item that has one. Without any there are no candidates. Items are kept in bands of latitude, by longitude within a band, so that a request
    looks at no more than the box around its circle. Both catalogues are read live.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        askers: Askers | None = None,
        latitude: str = "latitude",
        longitude: str = "longitude",
        radius_km: float = 50.0,
        scale_km: float = 10.0,
        popular: float = 1.0,
    ) -> None:
        if radius_km <= 0 or scale_km <= 0:
            raise ValueError(f"radius_km and scale_km must be above 0, not {radius_km} and {scale_km}")
        self.catalogue, self.askers = catalogue, askers or Askers(Catalogue("users"))
        self.latitude, self.longitude = known(catalogue, latitude), known(catalogue, longitude)
        self.radius_km, self.scale_km, self.popular = radius_km, scale_km, popular
        self._reach = np.degrees(min(radius_km / EARTH, np.pi))
        self._band = max(self._reach, 0.01)  # degrees: a circle touches three bands
        self._popularity: Floats | None = None
        self._lock = threading.Lock()

    @staticmethod
    def reads(latitude: str = "latitude", longitude: str = "longitude", **_others: Any) -> tuple[str, ...]:
        """The columns of a request's context that a Near with these options asks for."""
        return latitude, longitude

    def fit(self, interactions: Interactions) -> Self:
        return self._set(np.bincount(interactions.items, minlength=interactions.n_items).astype(np.float32))

    def _set(self, popularity: Floats) -> Self:
        self._popularity, self._version = popularity, -1
        self._order, self._keys, self._places = np.empty(0, np.int64), np.empty(0), np.empty((0, 2))
        return self

    @property
    def popularity(self) -> Floats:
        """How many users took each item, float32 ``[I]``."""
        if self._popularity is None:
            raise RuntimeError("this Near is not fitted")
        return self._popularity

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"popularity": self.popularity}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        return self._set(flat(arrays["popularity"], np.float32))

    def _refresh(self) -> None:
        """Items in order of band and longitude, as the catalogue has them now; after a change only the changed ones are moved."""
        catalogue, version = self.catalogue, self.catalogue.version
        if version == self._version:
            return
        n = len(catalogue)  # a writer may be at work: rows from here on belong to the next version
        changed = np.arange(n) if self._version < 0 else catalogue.changed_since(self._version)
        changed = changed[changed < n]
        kept = ~np.isin(self._order, changed)
        order, keys = self._order[kept], self._keys[kept]
        places = np.concatenate((self._places, np.full((n - len(self._places), 2), np.nan)))
        columns = [catalogue.column(name) if name in catalogue.attribute_names else [None] * n for name in (self.latitude, self.longitude)]
        places[changed] = degrees(*([column[row] for row in changed.tolist()] for column in columns))
        there = changed[~np.isnan(places[changed, 0])]
        added = np.floor(places[there, 0] / self._band) * 360 + places[there, 1]
        sorted_ = np.argsort(added, kind="stable")
        at = np.searchsorted(keys, added[sorted_])
        self._order, self._keys, self._places = np.insert(order, at, there[sorted_]), np.insert(keys, at, added[sorted_]), places
        self._version = version

    def _where(self, request: Request) -> Doubles:
        """Each requester's latitude and longitude ``[B, 2]``, NaN where it is not known."""
        found = degrees(self.askers.told(request, self.latitude), self.askers.told(request, self.longitude))
        past = request.histories
        there = (past.items >= 0) & (past.items < len(self._places))
        there[there] = ~np.isnan(self._places[past.items[there], 0])
        last = np.maximum.accumulate(np.append(-1, np.where(there, np.arange(len(there)), -1)))[past.offsets[1:]]
        wanted = np.isnan(found[:, 0]) & (last >= past.offsets[:-1])
        found[wanted] = self._places[past.items[last[wanted]]]
        return found

    def _boxes(self, where: Doubles) -> tuple[Ints, Ints, Ints]:
        """Runs of the order that hold every item within the radius of places ``[N, 2]``: which place, where a run begins, its length."""
        reach = np.radians(self._reach)
        polar = np.abs(where[:, 0]) + self._reach >= 90
        narrow = np.cos(np.radians(np.where(polar, 0.0, where[:, 0])))
        wide = np.where(polar, 180.0, np.degrees(np.arcsin(np.minimum(np.sin(reach) / narrow, 1))) + FUZZ)
        bands = np.floor((where[:, :1] - self._reach) / self._band) + np.arange(3)  # [N, 3]
        west, east = (where[:, 1] - wide)[:, None] + [-360, 0, 360], (where[:, 1] + wide)[:, None] + [-360, 0, 360]  # a box may lie across 0 degrees
        ends = [np.searchsorted(self._keys, (bands[:, :, None] * 360 + np.clip(end, 0, 360)[:, None]).ravel()) for end in (west, east)]
        return np.repeat(np.arange(len(where)), 9), ends[0], np.maximum(ends[1] - ends[0], 0)

    def retrieve(self, request: Request, k: int) -> Candidates:
        popularity = self.popularity
        with self._lock:
            self._refresh()
            where, order, places = self._where(request), self._order, self._places
            asking = np.flatnonzero(~np.isnan(where[:, 0]))
            owner, begin, lengths = self._boxes(where[asking])
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        cuts = np.flatnonzero(np.diff(np.cumsum(lengths) // BLOCK)) + 1
        for some in np.split(np.arange(len(owner)), cuts):
            items = order[ragged_places(begin[some], lengths[some])[0]]
            who = np.repeat(asking[owner[some]], lengths[some])
            away = haversine(where[who], places[items])
            inside = away <= self.radius_km
            parts.append((who[inside], items[inside], away[inside]))
        who, items, away = (np.concatenate(column) for column in zip(*parts, strict=True))
        taken = np.where(items < len(popularity), popularity[np.minimum(items, len(popularity) - 1)] if len(popularity) else 0.0, 0.0)
        scores = (1 + taken) ** self.popular * np.exp(-away / self.scale_km)
        offsets, each = offsets_of(np.bincount(who, minlength=len(request))), np.arange(len(request) + 1)
        table = Table.of(offsets, items, scores, len(places))
        return table.best(each, each[:-1], np.ones(len(request)), k, request.exclude, self.catalogue.available)


def degrees(latitudes: list[Any], longitudes: list[Any]) -> Doubles:
    """Places ``[N, 2]``, longitudes from 0 to 360; NaN where one of the two is missing or no number, or a latitude is beyond a pole."""
    found = np.full((len(latitudes), 2), np.nan)
    for axis, values in enumerate((latitudes, longitudes)):
        found[:, axis] = [value if isinstance(value, (int, float, np.number)) else np.nan for value in values]
    found[:, 1] = found[:, 1] % 360 % 360  # a hair below 0 becomes 360 at first
    found[~(np.isfinite(found).all(1) & (np.abs(found[:, 0]) <= 90))] = np.nan
    return found


def haversine(one: Doubles, other: Doubles) -> Doubles:
    """Kilometres between places ``[N, 2]`` in degrees."""
    (lat, lon), (other_lat, other_lon) = np.radians(one).T, np.radians(other).T
    part = np.sin((other_lat - lat) / 2) ** 2 + np.cos(lat) * np.cos(other_lat) * np.sin((other_lon - lon) / 2) ** 2
    distance: Doubles = 2 * EARTH * np.arcsin(np.sqrt(np.minimum(part, 1)))
    return distance
