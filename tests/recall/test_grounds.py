"""Why an item is offered: what the models say, against what they would say by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from palate.candidates import Candidates, Request
from palate.recall.factor.ease import EASE
from palate.recall.factor.gfcf import GFCF
from palate.recall.factor.slim import SLIM
from palate.recall.factor.svd import SVD
from palate.recall.multi_interest.comirec import ComiRec
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.neighbor.session import Session
from palate.recall.neighbor.swing import Swing
from palate.recall.neighbor.usercf import UserCF
from palate.recall.sequential.gru4rec import GRU4Rec
from palate.recall.sequential.srgnn import SRGNN
from tests.worlds import Shop, Town

SHOP = Shop()
USERS = [0, 3, 7]


def offered(model: Any, request: Request) -> Candidates:
    found = model.retrieve(replace(request, exclude=None), 12)
    assert len(found.items)
    return found


def history(request: Request, b: int) -> list[int]:
    return list(dict.fromkeys(request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]].tolist()))


@pytest.mark.parametrize(
    "model",
    [ItemCF(), Swing(), SLIM(l1=0.1, l2=5.0), EASE(regularization=20.0), GFCF(dim=5), GFCF(dim=5, alpha=0.0)],
    ids=lambda one: type(one).__name__,
)
def test_a_linear_model_names_the_item_that_gives_most(model: Any) -> None:
    """A history scores the sum of what its items score alone: so what one gives is what a history of it alone is offered."""
    model.fit(SHOP.interactions)
    request = SHOP.request(USERS)
    candidates = offered(model, request)
    found = model.grounds(request, candidates)
    alone = np.zeros((SHOP.items, SHOP.items))
    for item in range(SHOP.items):
        lists = model.retrieve(SHOP.stranger([item]), SHOP.items)
        alone[item, lists.items] = lists.scores
    for n, (item, b) in enumerate(zip(candidates.items.tolist(), candidates.requests.tolist(), strict=True)):
        given = {own: alone[own, item] for own in history(request, b) if own != item}
        if max(given.values()) > 1e-5:
            assert given[int(found.items[n])] == pytest.approx(max(given.values()), rel=1e-3)
            assert found.strength[n] == pytest.approx(max(given.values()), rel=1e-3)
    assert found.text == "goes with {item}"
    assert (found.items >= 0).sum() > 20


def test_users_are_counted_not_named() -> None:
    model, request = UserCF(neighbors=9).fit(SHOP.interactions), SHOP.request(USERS)
    candidates = offered(model, request)
    found, near = model.grounds(request, candidates), model.neighborhood(request)
    for n, (item, b) in enumerate(zip(candidates.items.tolist(), candidates.requests.tolist(), strict=True)):
        alike = near.columns[near.offsets[b] : near.offsets[b + 1]]
        assert found.strength[n] == sum(
            item in SHOP.interactions.items[SHOP.interactions.offsets[v] : SHOP.interactions.offsets[v + 1]] for v in alike
        )
    assert (found.items == -1).all()
    assert found.text.format(item="", strength=found.strength[0]) == f"taken by {int(found.strength[0])} of the users most like you"


def test_a_session_names_what_brought_the_sessions_that_hold_the_candidate() -> None:
    town = Town()
    model = Session(neighbors=8, recent=2.0, age_days=20.0).fit(town.interactions)
    request = town.request(list(range(12)))
    candidates, (offsets, items, weights) = offered(model, request), model.current(request)
    found, lists, table = model.grounds(request, candidates), model.lists, model._by_item
    sessions = [lists.columns[lists.offsets[s] : lists.offsets[s + 1]].tolist() for s in range(len(lists))]
    near = table.best(offsets, items, weights, 8)
    named = 0
    for n, (item, b) in enumerate(zip(candidates.items.tolist(), candidates.requests.tolist(), strict=True)):
        given = {}
        for place in range(offsets[b], offsets[b + 1]):
            row = slice(table.starts[items[place]], table.stops[items[place]])
            share = dict(zip(table.columns[row].tolist(), table.values[row].tolist(), strict=True))
            close = near.items[near.offsets[b] : near.offsets[b + 1]].tolist()
            given[int(items[place])] = weights[place] * sum(share.get(s, 0.0) for s in close if item in sessions[s])
        given.pop(item, None)
        if given and max(given.values()) > 0:
            named += 1
            assert given[int(found.items[n])] == pytest.approx(max(given.values()), rel=1e-4)
            assert found.strength[n] == pytest.approx(max(given.values()), rel=1e-4)
    assert named > 20


@pytest.mark.parametrize("kind", ["factors", "network"])
def test_vectors_name_the_nearest_item(kind: str) -> None:
    torch.manual_seed(0)
    model: Any = SVD(dim=4).fit(SHOP.interactions) if kind == "factors" else GRU4Rec(SHOP.interactions, dim=8, length=6).eval()
    request = SHOP.request(USERS)
    candidates = offered(model, request)
    found = model.grounds(request, candidates)
    vectors = model.items / np.linalg.norm(model.items, axis=1, keepdims=True)
    for n, (item, b) in enumerate(zip(candidates.items.tolist(), candidates.requests.tolist(), strict=True)):
        past = request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]].tolist()
        near = {own: float(vectors[own] @ vectors[item]) for own in (past if kind == "factors" else past[-6:]) if own != item}
        assert found.strength[n] == pytest.approx(max(0.0, *near.values()), abs=1e-5)
        assert found.items[n] == -1 or near[int(found.items[n])] == pytest.approx(max(near.values()), abs=1e-5)
    assert (found.items >= 0).mean() > 0.8


@pytest.mark.parametrize("cls", [SRGNN, ComiRec])
def test_what_the_places_give_by_attention_is_the_score(cls: Any) -> None:
    torch.manual_seed(0)
    model = cls(SHOP.interactions, *([SHOP.catalogue] if cls is ComiRec else []), dim=8, length=7).eval()
    request = SHOP.request(USERS)
    candidates, batch = offered(model, request), model.asked(request)
    items = torch.from_numpy(candidates.items).view(3, 12) + 1
    with torch.no_grad():
        given = model.speaks(batch, items)  # [B, C, L]
    assert given.shape == (3, 12, batch["history"].shape[1])
    np.testing.assert_allclose(given.masked_fill(batch["history"][:, None] == 0, 0).sum(2).flatten(), candidates.scores, rtol=1e-3, atol=1e-5)
    found, past = model.grounds(request, candidates), batch["history"][:, None].expand_as(given)
    given = given.masked_fill((past == 0) | (past == items[..., None]), 0)
    np.testing.assert_allclose(found.strength, given.amax(2).clamp(min=0).flatten(), rtol=1e-4, atol=1e-6)
    assert (found.items >= 0).mean() > 0.5
