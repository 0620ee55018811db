"""Offline protocols: which questions a cut leaves to ask, and the run that asks them of anything that recommends.

The models are fitted on events before the cut and stay as they are; what a question lets them see is a matter of the protocol:

``warm``       each user with a history, at the cut; right is what the user took at any time after it
``rolling``    each moment after the cut at which a user took something, with all that came strictly before it
``cold_users`` each user whose first event comes after the cut, at the cut: no history, attributes only
``cold_items`` every user who later takes an item that nobody had touched before the cut; only such items are right
``prefixes``   each moment after the cut at which a user goes on with a session, with what came before it in this session and nothing else
``fold_in``    each user that nothing was learnt from, with a part of what they did; right is the rest (strong generalisation)

Every item of the catalogue competes. Ranking among a few sampled items is there for comparison with papers that do it
(``candidates=``), and labelled, since it does not order systems as full ranking does (Krichene, Rendle, KDD 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Candidates, Histories, Ints, Ragged, Request, offsets_of
from palate.evaluation.judged import Judged
from palate.evaluation.metrics.ranking import judge, table
from palate.state.past import Past, ragged_places
from palate.state.rows import EventRows
from palate.tables.splits import HALF_HOUR

Recommend = Callable[[Request, int], Candidates]
Progress = Callable[[int, int], None]  # questions asked, questions in all


@dataclass(frozen=True)
class Questions:
    """N questions: who asks, when, and what turned out to be right.

    ``relevant``: the right items of each question. ``later``: every item the question's user had an event with in the time it looks at, and
    ``signals`` uint32 what those events showed (bit s: ``names[s]``). ``groups``: which questions belong to a named group, bool ``[N]``.
    ``known``: what each question's user had done, where the protocol and not the moment says it.
    """

    name: str
    users: Ints
    now: Ints
    relevant: Ragged
    later: Ragged
    signals: NDArray[np.uint32]
    names: tuple[str, ...]
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    dropped: int = 0  #: right items that could not be recommended, because the user had used them before
    known: Histories | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: NDArray[np.bool_] | Ints) -> Questions:
        """The questions at ``chosen`` (a mask or ascending positions)."""
        places: Ints = np.arange(len(self))[chosen]
        inside = _inside(self.later.offsets, places)
        return replace(
            self,
            users=self.users[places],
            now=self.now[places],
            relevant=_pick(self.relevant, places),
            later=_pick(self.later, places),
            signals=self.signals[inside],
            groups={name: mask[places] for name, mask in self.groups.items()},
            known=None if self.known is None else _part(self.known, places),
        )

    def sample(self, most: int, seed: int = 0) -> Questions:
        """At most so many questions, drawn evenly."""
        if len(self) <= most:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False)))


def _inside(offsets: Ints, places: Ints) -> Ints:
    lengths = offsets[places + 1] - offsets[places]
    return np.repeat(offsets[places] - offsets_of(lengths)[:-1], lengths) + np.arange(lengths.sum())


def _pick(lists: Ragged, places: Ints) -> Ragged:
    return Ragged(lists.values[_inside(lists.offsets, places)], offsets_of(lists.offsets[places + 1] - lists.offsets[places]))


def _part(known: Histories, places: Ints) -> Histories:
    inside = _inside(known.offsets, places)
    offsets = offsets_of(known.offsets[places + 1] - known.offsets[places])
    return Histories(known.items[inside], known.times[inside], known.signals[inside], known.values[inside], offsets)


def _known(rows: EventRows) -> EventRows:
    return rows.take((rows.users >= 0) & (rows.items >= 0))


def _made(
    name: str,
    rows: EventRows,
    users: Ints,
    now: Ints,
    owners: Ints,
    events: EventRows,
    signal: str,
    repeats: bool,
    only: NDArray[np.bool_] | None,
    known: Histories | None = None,
) -> Questions:
    """Questions from ``events``, of which event m answers question ``owners[m]``; ``only`` bool [n_items] limits what is right."""
    if signal not in rows.names:
        raise ValueError(f"no signal {signal!r}; the events show {', '.join(rows.names) or 'none'}")
    span = np.int64(rows.items.max(initial=0) + 1)
    order = np.argsort(owners * span + events.items, kind="stable")
    keys = (owners * span + events.items)[order]
    opens = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    shown = np.bitwise_or.reduceat(events.signals[order], opens) if len(opens) else np.empty(0, np.uint32)
    keys = keys[opens]
    right = (shown & rows.bit(signal)) != 0
    if only is not None:
        right &= only[keys % span]
    dropped = 0
    if not repeats:  # a pair that the user had before cannot be recommended again
        if known is None:
            pairs, first = np.unique(rows.users * span + rows.items, return_index=True)
            mine = users[keys // span] * span + keys % span
            again = rows.times[first[np.searchsorted(pairs, mine)]] < now[keys // span]
        else:
            again = np.isin(keys, np.repeat(np.arange(len(known)), np.diff(known.offsets)) * span + known.items)
        dropped = int((right & again).sum())
        right &= ~again
    later = Ragged(keys % span, offsets_of(np.bincount(keys // span, minlength=len(users))))
    relevant = Ragged(keys[right] % span, offsets_of(np.bincount(keys[right] // span, minlength=len(users))))
    asked = Questions(name, users, now, relevant, later, shown, rows.names, {}, dropped, known)
    return asked.take(np.diff(relevant.offsets) > 0)


def warm(rows: EventRows, cut: int, signal: str, *, repeats: bool = False) -> Questions:
    """One question at the cut for each user who has events before it and shows ``signal`` after it.

    Groups: thirds of the users by the length of their history. ``repeats``: items used before count as right too.
    """
    rows = _known(rows)
    after = rows.since(cut)
    counts = np.bincount(rows.before(cut).users, minlength=int(rows.users.max(initial=-1)) + 1)
    after = after.take(counts[after.users] > 0)
    users, owners = np.unique(after.users, return_inverse=True)
    asked = _made("warm users", rows, users, np.full(len(users), cut, np.int64), owners, after, signal, repeats, None)
    length = counts[asked.users]
    low, high = np.quantile(length, (1 / 3, 2 / 3)) if len(length) else (0, 0)
    groups = {"short history": length <= low, "middle history": (length > low) & (length <= high), "long history": length > high}
    return replace(asked, groups=groups)


def cold_users(rows: EventRows, cut: int, signal: str) -> Questions:
    """One question at the cut for each user whose first event comes after it."""
    rows = _known(rows)
    after = rows.since(cut)
    counts = np.bincount(rows.before(cut).users, minlength=int(rows.users.max(initial=-1)) + 1)
    after = after.take(counts[after.users] == 0)
    users, owners = np.unique(after.users, return_inverse=True)
    return _made("cold users", rows, users, np.full(len(users), cut, np.int64), owners, after, signal, False, None)


def cold_items(rows: EventRows, cut: int, signal: str, *, n_items: int = 0) -> Questions:
    """One question at the cut for each user who later takes an item without any event before it; only such items are right.

    Groups: users with and without a history.
    """
    rows = _known(rows)
    before, after = rows.before(cut), rows.since(cut)
    cold = np.bincount(before.items, minlength=max(n_items, int(rows.items.max(initial=0)) + 1)) == 0
    counts = np.bincount(before.users, minlength=int(rows.users.max(initial=-1)) + 1)
    users, owners = np.unique(after.users, return_inverse=True)
    asked = _made("cold items", rows, users, np.full(len(users), cut, np.int64), owners, after, signal, False, cold)
    return replace(asked, groups={"warm users": counts[asked.users] > 0, "cold users": counts[asked.users] == 0})


def rolling(rows: EventRows, cut: int, signal: str, *, repeats: bool = False, most: int = 0, seed: int = 0) -> Questions:
    """One question for each moment after the cut at which a user shows ``signal``; right is what was taken at that moment.

    Past shows only events strictly before the moment, so events of the same instant do not see each other. ``most``: at most so many
    questions, drawn evenly (0: all). Groups: users seen before that moment or not, and the first and second half of the questions' time.
    """
    rows = _known(rows)
    after = rows.since(cut)
    span = np.int64(after.times.max(initial=cut) - cut + 1)
    moments, owners = np.unique(after.users * span + (after.times - cut), return_inverse=True)
    asked = _made("rolling", rows, moments // span, moments % span + cut, owners, after, signal, repeats, None)
    met, first = np.unique(rows.users, return_index=True)
    known = rows.times[first[np.searchsorted(met, asked.users)]] < asked.now
    half = np.median(asked.now) if len(asked) else 0
    groups = {"known users": known, "first visits": ~known, "first half": asked.now <= half, "second half": asked.now > half}
    asked = replace(asked, groups=groups)
    return asked.sample(most, seed) if most else asked


def prefixes(rows: EventRows, cut: int, signal: str, *, gap: int = HALF_HOUR, repeats: bool = True, most: int = 0, seed: int = 0) -> Questions:
    """One question for each moment after the cut at which a user who is in the middle of a session shows ``signal``.

    Known is what came strictly before the moment in the same session, whatever the user had done in earlier ones; a pause of more than ``gap``
    ms begins a new one. Where ``repeats`` count, nothing used may be excluded: ``evaluate(..., exclude_seen=False)``. ``most``: at most so many
    questions, drawn evenly (0: all). Groups: sessions of which one event is known, two to four, or more.
    """
    rows = _known(rows)
    order = np.argsort(rows.users, kind="stable")
    users, times, every = rows.users[order], rows.times[order], np.arange(len(order))
    other, pause = np.diff(users, prepend=-1) != 0, np.diff(times, prepend=0)
    begin = np.maximum.accumulate(np.where(other | (pause > gap), every, 0))  # where the event's session begins
    moment = np.maximum.accumulate(np.where(other | (pause > 0), every, 0))  # where the events of its instant begin
    chosen = np.flatnonzero((times >= cut) & (moment > begin))
    places, owners = np.unique(moment[chosen], return_inverse=True)
    inside, offsets = ragged_places(begin[places], places - begin[places])
    before = order[inside]
    known = Histories(rows.items[before], rows.times[before], rows.signals[before], rows.values[before], offsets)
    asked = _made("session prefixes", rows, users[places], times[places], owners, rows.take(order[chosen]), signal, repeats, None, known)
    length = np.diff(asked.known.offsets) if asked.known is not None else np.empty(0)
    groups = {"one event known": length == 1, "two to four": (length > 1) & (length < 5), "five or more": length >= 5}
    asked = replace(asked, groups=groups)
    return asked.sample(most, seed) if most else asked


def fold_in(rows: EventRows, signal: str, *, share: float = 0.8, ordered: bool = True, seed: int = 0, repeats: bool = False) -> Questions:
    """One question for each user of ``rows``, of whom nothing was learnt: the first ``ceil(share * n)`` of n events are known.

    First in order of time (those of the instant at the border are all asked for) or drawn at random; a user who has but one part is not
    asked. Ask on a past that holds only what was learnt from: else counters at the moment would know what is asked for.

    Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018, section 4 (strong generalisation; drawn at random there).
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    rows = _known(rows)
    users, owner, counts = np.unique(rows.users, return_inverse=True, return_counts=True)
    chance = np.arange(len(rows)) if ordered else np.random.default_rng(seed).permutation(len(rows))
    order = np.lexsort((chance, owner))
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows)) - np.repeat(offsets_of(counts)[:-1], counts)
    later = place >= np.ceil(share * counts - 1e-9)[owner]
    now = np.full(len(users), np.iinfo(np.int64).max)
    if ordered:
        np.minimum.at(now, owner[later], rows.times[later])
        later = rows.times >= now[owner]
    else:
        now = np.full(len(users), rows.times.max(initial=-1) + 1)
    both = (np.bincount(owner[later], minlength=len(users)) > 0) & (np.bincount(owner[~later], minlength=len(users)) > 0)
    before = np.flatnonzero(~later & both[owner])
    before = before[np.argsort(owner[before], kind="stable")]  # within a user oldest first
    offsets = offsets_of(np.bincount(owner[before], minlength=len(users))[both])
    known = Histories(rows.items[before], rows.times[before], rows.signals[before], rows.values[before], offsets)
    after = np.flatnonzero(later & both[owner])
    numbers = np.cumsum(both) - 1
    return _made("strong generalisation", rows, users[both], now[both], numbers[owner[after]], rows.take(after), signal, repeats, None, known)


def asked_in_parts(questions: Questions, past: Past, k: int, chunk: int, exclude_seen: bool = True) -> Iterator[tuple[slice, Request]]:
    """The questions as requests of at most ``chunk``; ``parameters["k"]`` is ``k``, no randomness, nothing excluded but what was used."""
    for start in range(0, len(questions), chunk):
        part = slice(start, min(start + chunk, len(questions)))
        users, now = questions.users[part], questions.now[part]
        if questions.known is None:
            yield part, past.request(users, now, exclude_seen=exclude_seen, parameters={"k": k})
            continue
        known = _part(questions.known, np.arange(part.start, part.stop))
        request = past.request(users, now, exclude_seen=False, context={}, parameters={"k": k})
        yield part, replace(request, histories=known, exclude=_distinct(known) if exclude_seen else None)


def _distinct(known: Histories) -> Ragged:
    """Each list's items, each once, ascending."""
    span = np.int64(known.items.max(initial=0) + 1)
    pairs = np.unique(np.repeat(np.arange(len(known)), np.diff(known.offsets)) * span + known.items)
    return Ragged(pairs % span, offsets_of(np.bincount(pairs // span, minlength=len(known))))


def evaluate(
    recommend: Recommend,
    past: Past,
    questions: Questions,
    ks: tuple[int, ...] = (5, 10, 20),
    *,
    system: str = "",
    exclude_seen: bool = True,
    chunk: int = 1024,
    candidates: int | Ragged = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judged:
    """Ask every question and judge the answers at each of ``ks``.

    ``candidates`` > 0 ranks the right items among that many others drawn evenly instead of among all, or among those that are given for each
    question, and says so in the label.
    """
    given = candidates if isinstance(candidates, Ragged) else None
    if given is not None and len(given) != len(questions):
        raise ValueError(f"candidates are given for {len(given)} questions, and there are {len(questions)}")
    few = given is not None or candidates != 0
    k = max(ks)
    items = np.full((len(questions), k), -1, np.int64)
    rng = np.random.default_rng(seed)
    if few:
        chunk = max(1, min(chunk, 20_000_000 // max(past.n_items, 1)))
    for part, request in asked_in_parts(questions, past, past.n_items if few else k, chunk, exclude_seen):
        found = recommend(request, past.n_items if few else k)
        if len(found) != part.stop - part.start:
            raise ValueError(f"{part.stop - part.start} questions were asked and {len(found)} answered")
        if few:
            places = np.arange(part.start, part.stop)
            right = _pick(questions.relevant, places)
            others = _competing(right, request, past.n_items, candidates, rng) if isinstance(candidates, int) else _there(right, past.n_items)
            if given is not None:
                others |= _there(_pick(given, places), past.n_items)
            found = found.take(others[found.requests, found.items])
        items[part] = table(found, k)
        if progress is not None:
            progress(part.stop, len(questions))
    how = f"{candidates} random" if given is None else f"{len(given.values) / max(len(given), 1):.4g} given"
    label = f"sampled: {how} candidates, not comparable with full ranking" if few else "full ranking"
    metrics = judge(items, questions.relevant, ks)
    return Judged(system, questions.name, questions.users, questions.now, items, metrics, dict(questions.groups), ks, label)


def _there(lists: Ragged, n_items: int) -> NDArray[np.bool_]:
    """bool ``[B, n_items]``: which items stand in each list."""
    found = np.zeros((len(lists), n_items), bool)
    found[np.repeat(np.arange(len(lists)), np.diff(lists.offsets)), lists.values] = True
    return found


def _competing(right: Ragged, request: Request, n_items: int, candidates: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """bool ``[B, n_items]``: the right items and ``candidates`` others that are neither right nor excluded."""
    allowed = _there(right, n_items)
    chance = rng.random(allowed.shape)
    chance[allowed] = np.inf
    if request.exclude is not None:
        chance[np.repeat(np.arange(len(right)), np.diff(request.exclude.offsets)), request.exclude.values] = np.inf
    count = min(candidates, n_items)
    drawn = np.argpartition(chance, count - 1, axis=1)[:, :count]
    rows = np.arange(len(right))[:, None]
    allowed[rows, drawn] |= np.isfinite(chance[rows, drawn])
    return allowed
