"""A world of any size whose preferences are known: what users would do with any item, shown or not, has a stated probability.

Users and items have latent factors that their attributes (age, gender, country; tags, author, words of the title) tell about in part. A
logging policy fills pages of items with known propensities; users look at a page from the top and click, like and buy as ``Truth`` says.
Events can thus be drawn, models be judged against the optimum, and served lists be answered (``Truth.respond``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.tables.events import Events
from palate.tables.world import World

Chances = NDArray[np.float64]
Mask = NDArray[np.bool_]
Scene = str | Sequence[str] | NDArray[np.str_]  # one for all, or one for each

START = 1_704_067_200_000  #: 2024-01-01 UTC, when the first page is shown
DAY = 86_400_000
SCENES = ("home", "search")
BEHAVIOURS = ("click", "like", "buy")
AGES, GENDERS, COUNTRIES = (18, 70), ("female", "male"), ("BR", "CN", "DE", "FR", "IN", "JP", "NG", "US")
CHUNK = 50_000  #: pages drawn at once: bounds the memory beside the table of events itself


@dataclass(frozen=True, slots=True)
class Truth:
    """What users like. All in logits: P(click | looked at) = sigmoid(taste + appeal + level), taste = <user * scene, item>.

    ``users`` float32 ``[U, D]``, ``items`` float32 ``[I, D]``, ``appeal`` float32 ``[I]``, ``price`` float32 ``[I]``, ``scenes`` float32
    ``[S, D]``. ``position_bias``: a place p (from 0) is looked at with probability ``(1 + p) ** -position_bias``.
    """

    users: Floats
    items: Floats
    appeal: Floats
    price: Floats
    scenes: Floats
    level: float
    position_bias: float

    def probability(self, users: Ints, items: Ints, behaviour: str = "click", scene: Scene = "home") -> Chances:
        """float64 ``[N]``: the chance that user n, looking at item n, does this ("like" and "buy" include the click before them).

        ``users``, ``items`` int64 ``[N]`` rows of the world's tables; one ``scene`` or one for each.
        """
        users, items = np.atleast_1d(users), np.atleast_1d(items)
        taste = np.einsum("nd,nd->n", self.users[users] * self.scenes[_scene_rows(scene)], self.items[items])
        return self._chance(taste.astype(np.float64), items, behaviour)

    def of_user(self, user: int, behaviour: str = "click", scene: str = "home") -> Chances:
        """float64 ``[I]``: ``probability`` of one user for every item."""
        taste = self.items @ (self.users[user] * self.scenes[_scene_rows(scene)])
        return self._chance(taste.astype(np.float64), np.arange(len(self.items)), behaviour)

    def best(self, user: int, k: int, exclude: Ints | Sequence[int] = (), behaviour: str = "click", scene: str = "home") -> Ints:
        """int64 ``[<=k]``: the items this user would most likely take, best first (ties by row), none of ``exclude``."""
        chance = self.of_user(user, behaviour, scene)
        chance[np.asarray(exclude, np.int64)] = -1.0
        k = max(0, min(k, int((chance >= 0).sum())))
        bound = np.partition(chance, len(chance) - k)[len(chance) - k] if k else 2.0
        near = np.flatnonzero(chance >= bound)
        return near[np.lexsort((near, -chance[near]))][:k].astype(np.int64)

    def looked_at(self, positions: Ints) -> Chances:
        """float64: the chance that a place on the page, counted from 0, is looked at."""
        return (1.0 + np.asarray(positions, np.float64)) ** -self.position_bias

    def draw(self, rng: np.random.Generator, users: Ints, items: Ints, positions: Ints, scene: Scene = "home") -> dict[str, Mask]:
        """What users do with items shown at these positions: for each behaviour a mask ``[N]``. A like or a purchase follows a click."""
        click = self.probability(users, items, "click", scene)
        clicked = rng.random(len(click)) < click * self.looked_at(positions)
        done = {"click": clicked}
        for behaviour in ("like", "buy"):
            then = np.zeros(len(click), bool)
            chance = self.probability(users[clicked], items[clicked], behaviour, scene if isinstance(scene, str) else np.asarray(scene)[clicked])
            then[clicked] = rng.random(len(chance)) < chance / click[clicked]
            done[behaviour] = then
        return done

    def respond(
        self, rng: np.random.Generator, user: int, items: Ints | Sequence[int], positions: Ints | Sequence[int] | None = None, scene: str = "home"
    ) -> list[tuple[str, ...]]:
        """How one user answers a served page: for each item the kinds of events, () where it is passed over. Positions count from 0."""
        rows = np.asarray(items, np.int64)
        places = np.arange(len(rows)) if positions is None else np.asarray(positions, np.int64)
        done = self.draw(rng, np.full(len(rows), user, np.int64), rows, places, scene)
        return [tuple(behaviour for behaviour in BEHAVIOURS if done[behaviour][n]) for n in range(len(rows))]

    def _chance(self, taste: Chances, items: Ints, behaviour: str) -> Chances:
        click = _sigmoid(taste + self.appeal[items] + self.level)
        if behaviour == "click":
            return click
        if behaviour == "like":  # taste alone decides, whatever made the user click
            return click * _sigmoid(0.8 * taste - 3.2)
        if behaviour == "buy":
            return click * _sigmoid(0.6 * taste + 0.3 * self.appeal[items] - 3.6 - 0.8 * np.log(self.price[items]))
        raise ValueError(f"behaviour must be one of {', '.join(map(repr, BEHAVIOURS))}, not {behaviour!r}")


def synthetic(
    users: int = 1000,
    items: int = 500,
    events: int = 50_000,
    seed: int = 0,
    *,
    dim: int = 8,
    categories: int = 16,
    authors: int = 0,
    days: int = 60,
    page: int = 10,
    click_rate: float = 0.3,
    position_bias: float = 0.3,
    taste: float = 1.6,
    explored: float = 0.3,
) -> World:
    """A seeded world; its rows of users and items are the rows that ``truth`` speaks of, and their ids "u<row>" and "i<row>".

    ``events``: rows of the table, impressions and what followed them together; the last page is cut off where that number is reached, so
    it is exact (and the last days may stay empty). Kinds: "impression", "click", "like", "buy" (value: the price paid). Each impression
    bears the ``request_id`` of its page, ``scene``, ``position`` (from 0) and ``propensity``: the probability with which the policy chose
    this item for this place, given the user, the moment and the items above it. Later events of the page bear the same.

    ``click_rate``: mean chance of a click on what the policy shows, if looked at. ``taste``: the spread of taste in logits. ``explored``:
    share of places filled by popularity alone; the others by the user's liking for categories. 40 % of the items appear while the
    world runs ("created", ms). ``authors`` 0: one for every 20 items. Raises ValueError.
    """
    _sane(users=(users, 1), items=(items, 4), events=(events, 1), dim=(dim, 1), categories=(categories, 1), authors=(authors, 0))
    _sane(days=(days, 1), page=(page, 1))
    if not (0 < click_rate < 1 and 0 < explored <= 1 and position_bias >= 0):
        raise ValueError("click_rate lies between 0 and 1, explored above 0 and up to 1, position_bias is not negative")
    rng = np.random.default_rng(seed)
    categories = min(categories, items)
    page = min(page, max(1, items // 4))  # a page must find enough items at every moment
    centres = _rows_of_length_one(rng, categories, dim)
    user_frame, user_factors = _people(rng, users, centres)
    item_frame, item_factors, appeal, category, weight = _things(rng, items, centres, authors or max(2, items // 20), days, page)
    truth = Truth(
        users=user_factors * np.float32(taste),
        items=item_factors,
        appeal=appeal,
        price=item_frame["price"].to_numpy().astype(np.float32),
        scenes=np.stack([np.ones(dim), np.exp(0.5 * rng.standard_normal(dim))]).astype(np.float32),
        level=0.0,
        position_bias=position_bias,
    )
    policy = _Policy(truth, centres, category, weight, item_frame["created"].to_numpy(), explored)
    activity = np.cumsum(rng.lognormal(0.0, 1.0, users))
    pilot = _pages(rng, 400, page, activity, policy, START + days * DAY)
    truth = _levelled(truth, pilot, click_rate)
    drawn = _drawn(rng, truth, policy, activity, events, page, days, _rows_a_page(rng, truth, pilot, page))
    return World(Events(drawn), user_frame, item_frame, f"synthetic-{users}-{items}-{events}-{seed}", "made up: free of terms", truth)


# ── people and things ──


def _people(rng: np.random.Generator, n: int, centres: Floats) -> tuple[pl.DataFrame, Floats]:
    """Users with attributes, and factors that these tell about in part."""
    dim = centres.shape[1]
    age = rng.integers(*AGES, n)
    gender, country = rng.integers(0, len(GENDERS), n), rng.choice(len(COUNTRIES), n, p=_zipf(len(COUNTRIES), 0.7))
    told = _rows_of_length_one(rng, 6, dim)[(age - AGES[0]) * 6 // (AGES[1] - AGES[0])]
    told += 0.6 * _rows_of_length_one(rng, len(GENDERS), dim)[gender]
    told += 0.6 * _rows_of_length_one(rng, len(COUNTRIES), dim)[country]
    loved = centres[rng.integers(0, len(centres), (n, 2))].sum(1)  # two favourite categories
    factors = 0.7 * told + 1.0 * loved + 0.4 * rng.standard_normal((n, dim)).astype(np.float32)
    factors /= np.sqrt(np.mean(np.sum(factors**2, 1), dtype=np.float64))
    frame = pl.DataFrame(
        {
            "id": _ids("u", np.arange(n)),
            "age": age,
            "gender": _named(GENDERS, gender),
            "country": _named(COUNTRIES, country),
        }
    )
    return frame, factors.astype(np.float32) * np.float32(np.sqrt(dim))


def _things(
    rng: np.random.Generator, n: int, centres: Floats, authors: int, days: int, page: int
) -> tuple[pl.DataFrame, Floats, Floats, Ints, Chances]:
    """Items with attributes; factors, appeal, category and popularity."""
    count, dim = centres.shape
    category = rng.choice(count, n, p=_zipf(count, 0.6))
    category[:count] = np.arange(count)  # none is empty
    second = rng.integers(0, count, n)
    two = (rng.random(n) < 0.5) & (second != category)
    author = rng.choice(authors, n, p=_zipf(authors, 0.8))
    factors = centres[category] + 0.6 * two[:, None] * centres[second]
    factors += 0.4 * _rows_of_length_one(rng, authors, dim)[author] + (0.5 / np.sqrt(dim)) * rng.standard_normal((n, dim)).astype(np.float32)
    factors /= np.sqrt(np.mean(np.sum(factors**2, 1), dtype=np.float64))
    appeal = (0.5 * rng.standard_normal(n) + 0.3 * rng.standard_normal(authors)[author]).astype(np.float32)
    weight = np.exp(1.1 * rng.standard_normal(n) + 0.8 * appeal)  # a long tail that better items lead a little
    created = np.where(rng.random(n) < 0.6, START - rng.integers(1, 365, n) * DAY, START + rng.integers(0, days * DAY, n))
    created[: max(count, 2 * page)] = START - 365 * DAY
    tags = np.char.add("tag", np.arange(count).astype(str))
    listed = pl.DataFrame({"a": _named(tags, category), "b": pl.select(pl.when(pl.Series(two)).then(_named(tags, second))).to_series()})
    frame = pl.DataFrame(
        {
            "id": _ids("i", np.arange(n)),
            "title": _titles(rng, category, np.where(two, second, category), count),
            "category": _named(tags, category),
            "tags": listed.select(pl.concat_list("a", "b").list.drop_nulls()).to_series(),
            "author": _ids("a", author),
            "price": np.round(np.exp(rng.normal(0.7, 0.6, n)), 2).clip(0.5, 50.0),
            "created": created,
        }
    )
    return frame, factors.astype(np.float32), appeal, category, weight


def _titles(rng: np.random.Generator, first: Ints, second: Ints, count: int) -> pl.Series:
    """Four words: two of the category, one of the second (if any), one that says nothing."""
    words = _words(rng, 40 * (count + 1))
    picks = [40 * group + rng.integers(0, 40, len(first)) for group in (first, first, second, np.full(len(first), count))]
    return (
        pl.DataFrame({str(n): words.gather(pl.Series(pick)) for n, pick in enumerate(picks)})
        .select(pl.concat_str(pl.all(), separator=" "))
        .to_series()
    )


def _words(rng: np.random.Generator, n: int) -> pl.Series:
    """n different words that can be said aloud."""
    syllables = np.array([consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"])
    drawn = rng.permutation(min(len(syllables) ** 3, max(4 * n, 1000)))[:n]
    base = len(syllables)
    return pl.Series(
        ["".join(syllables[[d % base, (d // base + d) % base, (d // base**2 + 3 * d) % base]]) + (f"{d:x}" if d >= base**2 else "") for d in drawn]
    )


# ── the policy that filled the logged pages ──


class _Policy:
    """Each place: with chance ``explored`` an item by popularity, else a category by the user's liking and an item of it by popularity;
    an item that stands above already is drawn again. Only items that exist at that moment."""

    def __init__(self, truth: Truth, centres: Floats, category: Ints, weight: Chances, created: Ints, explored: float) -> None:
        self.truth, self.centres, self.category, self.weight, self.explored = truth, centres, category, weight, explored
        self.by_time = np.argsort(created, kind="stable")
        self.times = created[self.by_time]
        self.mass = np.concatenate([[0.0], np.cumsum(weight[self.by_time])])
        self.by_category = np.lexsort((created, category))
        self.keys = (category[self.by_category].astype(np.int64) << 44) + created[self.by_category]
        self.category_mass = np.concatenate([[0.0], np.cumsum(weight[self.by_category])])
        self.first = np.searchsorted(category[self.by_category], np.arange(len(centres)))

    def fill(self, rng: np.random.Generator, users: Ints, times: Ints, page: int) -> tuple[Ints, Floats]:
        """Pages for n requests: items int64 and propensities float32, both ``[n, page]``."""
        n, count = len(users), len(self.centres)
        liking = self.truth.users[users] @ self.centres.T  # [n, C]
        liking = np.exp(liking - liking.max(1, keepdims=True)).astype(np.float64)
        liking /= liking.sum(1, keepdims=True)
        bounds = np.cumsum(liking, 1)
        there = np.searchsorted(self.times, times, side="right")
        total = self.mass[there]  # popularity of all items there are at the moment
        moments = (np.arange(count, dtype=np.int64)[None, :] << 44) + times[:, None]
        low = self.category_mass[self.first]
        high = self.category_mass[np.searchsorted(self.keys, moments.ravel(), side="right")].reshape(n, count)
        chosen, chance = np.empty((n, page), np.int64), np.empty((n, page), np.float64)
        for place in range(page):
            again = np.arange(n)
            while len(again):
                explore = rng.random(len(again)) < self.explored
                point = rng.random(len(again))
                of = np.minimum((rng.random(len(again))[:, None] > bounds[again]).sum(1), count - 1)
                wide = np.searchsorted(self.mass, point * total[again], side="right") - 1
                narrow = np.searchsorted(self.category_mass, low[of] + point * (high[again, of] - low[of]), side="right") - 1
                last = np.searchsorted(self.keys, moments[again, of], side="right") - 1
                row = np.where(explore, self.by_time[np.minimum(wide, there[again] - 1)], self.by_category[np.clip(narrow, self.first[of], last)])
                chosen[again, place] = row
                again = again[(chosen[again, :place] == row[:, None]).any(1)]
            row = chosen[:, place]
            of, every = self.category[row], np.arange(n)
            inside = self.weight[row] / (high[every, of] - low[of])
            chance[:, place] = self.explored * self.weight[row] / total + (1 - self.explored) * liking[every, of] * inside
        above = np.cumsum(chance, 1) - chance  # drawing again until it is new = choosing among what is left
        return chosen, np.minimum(chance / (1.0 - above), 1.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Pages:
    """Requests in order of time: users, times, scenes ``[n]``; items and propensities ``[n, page]``."""

    users: Ints
    times: Ints
    scenes: Ints
    items: Ints
    propensities: Floats


def _pages(rng: np.random.Generator, n: int, page: int, activity: Chances, policy: _Policy, until: int, times: Ints | None = None) -> _Pages:
    users = np.minimum(np.searchsorted(activity, rng.random(n) * activity[-1], side="right"), len(activity) - 1)
    times = np.sort(rng.integers(START, until, n)) if times is None else times
    scenes = (rng.random(n) < 0.35).astype(np.int64)
    items, propensities = policy.fill(rng, users, times, page)
    return _Pages(users, times, scenes, items, propensities)


def _levelled(truth: Truth, pilot: _Pages, click_rate: float) -> Truth:
    """The same truth with the level that gives the wanted share of clicks on what the policy shows."""
    width = pilot.items.shape[1]
    users, scenes = np.repeat(pilot.users, width), np.array(SCENES)[np.repeat(pilot.scenes, width)]
    logits = _logit(truth.probability(users, pilot.items.ravel(), "click", scenes))
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).mean() < click_rate else (low, middle)
    return Truth(truth.users, truth.items, truth.appeal, truth.price, truth.scenes, low, truth.position_bias)


def _rows_a_page(rng: np.random.Generator, truth: Truth, pilot: _Pages, page: int) -> float:
    users, scenes = np.repeat(pilot.users, page), np.array(SCENES)[np.repeat(pilot.scenes, page)]
    done = truth.draw(rng, users, pilot.items.ravel(), np.tile(np.arange(page), len(pilot.users)), scenes)
    return page + sum(int(mask.sum()) for mask in done.values()) / len(pilot.users)


# ── events ──


def _drawn(
    rng: np.random.Generator, truth: Truth, policy: _Policy, activity: Chances, events: int, page: int, days: int, rows_a_page: float
) -> pl.DataFrame:
    """The table of events, oldest first, drawn chunk by chunk."""
    expected = int(np.ceil(events / rows_a_page * 1.05)) + 8
    names = (_ids("u", np.arange(len(activity))), _ids("i", np.arange(len(policy.weight))))
    parts: list[pl.DataFrame] = []
    height, held = 0, None
    for number, times in _moments(rng, expected, days):
        pages = _pages(rng, len(times), page, activity, policy, 0, times)
        part = _rows(rng, truth, pages, number, names)
        part = (part if held is None else pl.concat([held, part])).sort("time", maintain_order=True)
        settled = int(np.searchsorted(part["time"].to_numpy(), times[-1], side="left"))  # what follows may still mix with the next chunk
        parts.append(part[:settled])
        held, height = part[settled:], height + settled
        if height >= events:
            break
    if held is not None and height < events:
        parts.append(held)
    return pl.concat(parts, rechunk=False)[:events]


def _moments(rng: np.random.Generator, n: int, days: int) -> Iterator[tuple[int, Ints]]:
    """Ascending times of n pages over the days in chunks, each with the number of its first page; evenings are busier."""
    left, first, begin, end = n, 0, START, START + days * DAY
    while left > 0:
        size = min(CHUNK, left)
        until = begin + round((end - begin) * size / left)
        times = rng.integers(begin, max(until, begin + 1), size)
        hour = (times % DAY) / DAY
        quiet = rng.random(size) > 0.6 + 0.4 * np.sin(2 * np.pi * (hour - 0.6))
        times = np.where(quiet & (times + DAY // 3 < until), times + DAY // 3, times)
        yield first, np.sort(times)
        left, first, begin = left - size, first + size, until


def _rows(rng: np.random.Generator, truth: Truth, pages: _Pages, number: int, names: tuple[pl.Series, pl.Series]) -> pl.DataFrame:
    """Events of these pages: impressions at the page's moment, clicks some seconds later, likes and purchases after them."""
    n, page = pages.items.shape
    which = np.repeat(np.arange(n), page)
    users, items, positions = pages.users[which], pages.items.ravel(), np.tile(np.arange(page), n)
    done = truth.draw(rng, users, items, positions, np.array(SCENES)[pages.scenes[which]])
    clicked = pages.times[which] + 1000 * (1 + 3 * positions) + rng.integers(0, 3000, len(which))
    moments = {"click": clicked, "like": clicked + rng.integers(2000, 60_000, len(which)), "buy": clicked + rng.integers(60_000, 600_000, len(which))}
    shown = [np.arange(len(which))] + [np.flatnonzero(done[behaviour]) for behaviour in BEHAVIOURS]
    at = np.concatenate([pages.times[which]] + [moments[behaviour][done[behaviour]] for behaviour in BEHAVIOURS])
    rows = np.concatenate(shown)
    kinds = np.repeat(np.arange(len(shown)), [len(part) for part in shown])
    value = pl.DataFrame({"price": truth.price[items[rows]], "bought": kinds == len(BEHAVIOURS)}).select(pl.when("bought").then("price")).to_series()
    return pl.DataFrame(
        {
            "user": names[0].gather(pl.Series(users[rows])),
            "item": names[1].gather(pl.Series(items[rows])),
            "time": at,
            "kind": _named(("impression", *BEHAVIOURS), kinds),
            "value": value,
            "request_id": _ids("r", number + np.arange(n)).gather(pl.Series(which[rows])),
            "scene": _named(SCENES, pages.scenes[which[rows]]),
            "position": positions[rows],
            "propensity": pages.propensities.ravel()[rows].astype(np.float64),
        }
    )


# ── small tools of this file ──


def _scene_rows(scene: Scene) -> Ints | np.int64:
    known = np.array(SCENES)
    rows = np.searchsorted(known, np.asarray(scene))  # SCENES stand in alphabetical order
    if not np.array_equal(known[np.minimum(rows, len(known) - 1)], np.asarray(scene)):
        raise ValueError(f"scene must be one of {', '.join(map(repr, SCENES))}")
    return rows


def _ids(letter: str, numbers: NDArray[np.integer]) -> pl.Series:
    return letter + pl.Series(numbers).cast(pl.String)


def _named(names: Sequence[str] | NDArray[np.str_], codes: NDArray[np.integer]) -> pl.Series:
    return pl.Series(list(names), dtype=pl.String).gather(pl.Series(codes))


def _zipf(n: int, exponent: float) -> Chances:
    weight = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return weight / weight.sum()


def _rows_of_length_one(rng: np.random.Generator, n: int, dim: int) -> Floats:
    drawn = rng.standard_normal((n, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def _sigmoid(logits: Chances) -> Chances:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -50.0, 50.0)))


def _logit(chance: Chances) -> Chances:
    return np.log(chance) - np.log1p(-chance)


def _sane(**sizes: tuple[int, int]) -> None:
    for name, (size, least) in sizes.items():
        if size < least:
            raise ValueError(f"{name} must be at least {least}, not {size}")
