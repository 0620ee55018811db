"""Offline protocols: which questions a cut leaves to ask, and the run that asks them of anything that recommends.

The models are fitted on events before the cut and stay as they are; what a question lets them see is a matter of the protocol:

``warm``       each user with a history, at the cut; right is what the user took at any time after it
``rolling``    each moment after the cut at which a user took something, with all that came strictly before it
``cold_users`` each user whose first event comes after the cut, at the cut: no history, attributes only
``cold_items`` every user who later takes an item that nobody had touched before the cut; only such items are right

Every item of the catalogue competes. Ranking among a few sampled items is there for comparison with papers that do it
(``candidates=``), and labelled, since it does not order systems as full ranking does (Krichene, Rendle, KDD 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Candidates, Ints, Ragged, Request, offsets_of
from palate.evaluation.judged import Judged
from palate.evaluation.metrics.ranking import judge, table
from palate.state.past import Past
from palate.state.rows import EventRows

Recommend = Callable[[Request, int], Candidates]
Progress = Callable[[int, int], None]  # questions asked, questions in all


@dataclass(frozen=True)
class Questions:
    """N questions: who asks, when, and what turned out to be right.

    ``relevant``: the right items of each question. ``later``: every item the question's user had an event with in the time it looks at, and
    ``signals`` uint32 what those events showed (bit s: ``names[s]``). ``groups``: which questions belong to a named group, bool ``[N]``.
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


def _known(rows: EventRows) -> EventRows:
    return rows.take((rows.users >= 0) & (rows.items >= 0))


def _made(
    name: str, rows: EventRows, users: Ints, now: Ints, owners: Ints, events: EventRows, signal: str, repeats: bool, only: NDArray[np.bool_] | None
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
        pairs, first = np.unique(rows.users * span + rows.items, return_index=True)
        mine = users[keys // span] * span + keys % span
        again = rows.times[first[np.searchsorted(pairs, mine)]] < now[keys // span]
        dropped = int((right & again).sum())
        right &= ~again
    later = Ragged(keys % span, offsets_of(np.bincount(keys // span, minlength=len(users))))
    relevant = Ragged(keys[right] % span, offsets_of(np.bincount(keys[right] // span, minlength=len(users))))
    asked = Questions(name, users, now, relevant, later, shown, rows.names, {}, dropped)
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


def asked_in_parts(questions: Questions, past: Past, k: int, chunk: int, exclude_seen: bool = True) -> Iterator[tuple[slice, Request]]:
    """The questions as requests of at most ``chunk``; ``parameters["k"]`` is ``k``, no randomness, nothing excluded but what was used."""
    for start in range(0, len(questions), chunk):
        part = slice(start, min(start + chunk, len(questions)))
        yield part, past.request(questions.users[part], questions.now[part], exclude_seen=exclude_seen, parameters={"k": k})


def evaluate(
    recommend: Recommend,
    past: Past,
    questions: Questions,
    ks: tuple[int, ...] = (5, 10, 20),
    *,
    system: str = "",
    exclude_seen: bool = True,
    chunk: int = 1024,
    candidates: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judged:
    """Ask every question and judge the answers at each of ``ks``.

    ``candidates`` > 0 ranks the right items among that many others drawn evenly instead of among all, and says so in the label.
    """
    k = max(ks)
    items = np.full((len(questions), k), -1, np.int64)
    rng = np.random.default_rng(seed)
    if candidates:
        chunk = max(1, min(chunk, 20_000_000 // max(past.n_items, 1)))
    for part, request in asked_in_parts(questions, past, past.n_items if candidates else k, chunk, exclude_seen):
        found = recommend(request, past.n_items if candidates else k)
        if len(found) != part.stop - part.start:
            raise ValueError(f"{part.stop - part.start} questions were asked and {len(found)} answered")
        if candidates:
            right = _pick(questions.relevant, np.arange(part.start, part.stop))
            found = found.take(_competing(right, request, past.n_items, candidates, rng)[found.requests, found.items])
        items[part] = table(found, k)
        if progress is not None:
            progress(part.stop, len(questions))
    label = f"sampled: {candidates} random candidates, not comparable with full ranking" if candidates else "full ranking"
    metrics = judge(items, questions.relevant, ks)
    return Judged(system, questions.name, questions.users, questions.now, items, metrics, dict(questions.groups), ks, label)


def _competing(right: Ragged, request: Request, n_items: int, candidates: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """bool ``[B, n_items]``: the right items and ``candidates`` others that are neither right nor excluded."""
    allowed = np.zeros((len(right), n_items), bool)
    allowed[np.repeat(np.arange(len(right)), np.diff(right.offsets)), right.values] = True
    chance = rng.random(allowed.shape)
    chance[allowed] = np.inf
    if request.exclude is not None:
        chance[np.repeat(np.arange(len(right)), np.diff(request.exclude.offsets)), request.exclude.values] = np.inf
    count = min(candidates, n_items)
    drawn = np.argpartition(chance, count - 1, axis=1)[:, :count]
    rows = np.arange(len(right))[:, None]
    allowed[rows, drawn] |= np.isfinite(chance[rows, drawn])
    return allowed
