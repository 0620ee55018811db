"""ListingEmbedding where markets hide styles, and where only bookings say what clicks were for."""

import numpy as np
import polars as pl
import pytest

from palate.candidates import DAY
from palate.datasets.interactions import Interactions
from palate.recall.embedding.listingembedding import ListingEmbedding
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows
from tests.conftest import Beats
from tests.worlds import more

MARKETS, EACH = 8, 12  # of each market's listings, even ones are of one style and odd ones of the other
PLACES = np.arange(MARKETS * EACH)


def catalogue():
    return Catalogue.of(pl.DataFrame({"id": [f"l{row}" for row in PLACES], "market": [f"m{row // EACH}" for row in PLACES]}))


def fitted(clicked, bookings=None, **options):
    """From sessions of clicks, a user each; ``bookings`` are places in them."""
    users = np.repeat(np.arange(len(clicked)), [len(one) for one in clicked])
    signals = np.concatenate([np.where(np.arange(len(one)) == (bookings[row] if bookings else -1), 3, 1) for row, one in enumerate(clicked)])
    items = np.concatenate(clicked)
    rows = EventRows(users, items, DAY + np.arange(len(items)), signals.astype(np.uint32), np.ones(len(items), np.float32), ("click", "book"))
    return ListingEmbedding(catalogue(), **{"dim": 16, "epochs": 30, "learning_rate": 0.2} | options).fit(
        Interactions.of(rows, len(clicked), len(PLACES))
    )


def searches(strength, seed=0):
    """Sessions of four clicks in one market: a listing of the session's style is ``strength`` times as likely as another."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(more(600)):
        style, market = random.integers(2), random.integers(MARKETS)
        odds = np.where(np.arange(EACH) % 2 == style, strength, 1.0)
        found.append(market * EACH + random.choice(EACH, 4, replace=False, p=odds / odds.sum()))
    return found


def bookings_of_a_style(seed=0):
    """Sessions in one market: two listings of a style, each before one of either style, then a booking of the market's first of that style.

    The next click says nothing; what is booked in the end does.
    """
    random = np.random.default_rng(seed)
    found = []
    for _ in range(more(600)):
        style, market = random.integers(2), random.integers(MARKETS)
        own = 2 + style + 2 * random.choice(EACH // 2 - 1, 3, replace=False)
        either = random.permutation([own[2], 3 - style + 2 * random.integers(EACH // 2 - 1)])
        found.append(market * EACH + np.array([own[0], either[0], own[1], either[1], style]))
    return found


def told_apart(model):
    """How often, within a market, of two clicked listings the one of a third's own style is the nearer: 0.5 if styles were not learned."""
    ways = model.ways().reshape(MARKETS, EACH, -1)[:, 2:]
    near = np.einsum("mad,mbd->mab", ways, ways)
    style = np.arange(EACH - 2) % 2
    own = [near[:, a, style == style[a]][:, np.flatnonzero(style == style[a]) != a] for a in range(EACH - 2)]
    other = [near[:, a, style != style[a]] for a in range(EACH - 2)]
    return np.mean([(x[:, :, None] > y[:, None]).mean() for x, y in zip(own, other, strict=True)])


def test_wrong_answers_of_the_same_market_tell_styles_apart(beats: Beats):
    with_markets, without = (told_apart(fitted(searches(6.0), market=market)) for market in ("market", ""))
    beats(0.1, "own style the nearer", ListingEmbedding=with_markets, wrong_answers_of_all_markets=without)
    assert abs(told_apart(fitted(searches(1.0), market="market")) - 0.5) < 0.06


def test_what_was_booked_tells_what_all_clicks_before_it_were_for(beats: Beats):
    clicked = bookings_of_a_style()
    with_bookings, without = (told_apart(fitted(clicked, [4] * len(clicked), booked=booked, window=1, market="market")) for booked in ("book", ""))
    beats(0.1, "own style the nearer", ListingEmbedding=with_bookings, without_bookings=without)


def test_the_last_booking_of_a_session_counts():
    model = ListingEmbedding(catalogue(), booked="book")
    rows = EventRows(
        np.array([0, 0, 0, 1, 1]),
        np.array([4, 2, 7, 3, 5]),
        np.arange(5),
        np.array([2, 2, 1, 1, 1], np.uint32),
        np.ones(5, np.float32),
        ("click", "book"),
    )
    data = Interactions.of(rows, 2, 9)
    assert model._bookings(data, np.array([0, 3, 5]), np.array([1, 0, 2, 3, 4])).tolist() == [2, -1]


def test_refuses():
    for options in ({"window": 0}, {"negatives": 0}, {"oversample": 0}, {"market_negatives": 0}, {"gap_hours": -1.0}, {"dim": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ListingEmbedding(catalogue(), **options)
    with pytest.raises(ValueError, match="did you mean 'market'"):
        ListingEmbedding(catalogue(), market="markt")
    with pytest.raises(ValueError, match="did you mean 'book'"):
        fitted([np.array([1, 2])], booked="boook")
