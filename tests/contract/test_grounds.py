"""What every recall model that can say why it offers an item promises, asked of each one in the catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from palate.candidates import Candidates, Grounds
from palate.contracts import Grounded, Recaller
from tests.contract import test_counters as counters
from tests.contract import test_recallers as recallers
from tests.worlds import Shop

#: these answer with what is popular, new, near or by somebody: their place on the list is all there is to say
SILENT = {"Popular", "Fresh", "Former", "Tag", "Followed", "SimilarAuthors", "Near", "Content"}
MODELS = [pytest.param(name, cls, id=name) for name, cls in counters.found if not hasattr(cls, "encode_user")]
every_model = pytest.mark.parametrize(("name", "cls"), MODELS)


def fitted(cls: Any) -> tuple[Any, Shop]:
    if issubclass(cls, Recaller):
        torch.set_num_threads(1)
        return recallers.fitted(cls, epochs=1), recallers.SHOP
    return counters.fitted(cls), counters.SHOP


def of(grounds: Grounds, candidates: Candidates, b: int) -> tuple[list[int], list[float]]:
    span = slice(candidates.offsets[b], candidates.offsets[b + 1])
    return grounds.items[span].tolist(), grounds.strength[span].tolist()


@every_model
def test_grounds_are_items_of_the_history(name: str, cls: Any) -> None:
    if name in SILENT:
        assert not hasattr(cls, "grounds")
        return
    model, shop = fitted(cls)
    assert isinstance(model, Grounded)
    request = shop.request(list(range(shop.users)))
    offered = model.retrieve(request, 6)
    found = model.grounds(request, offered)
    assert (found.items.dtype, found.strength.dtype) == (np.int64, np.float32)
    assert len(found.items) == len(found.strength) == len(offered.items)
    assert (found.strength >= 0).all()
    assert np.isfinite(found.strength).all()
    for b in range(len(request)):
        own = set(request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]].tolist())
        items, strength = of(found, offered, b)
        for item, of_item, much in zip(offered.items[offered.offsets[b] : offered.offsets[b + 1]].tolist(), items, strength, strict=True):
            assert of_item == -1 or (of_item in own and of_item != item and much > 0)
    if getattr(cls, "inner", True):
        assert (found.strength > 0).mean() > 0.5, "it has nothing to say of most of what it offers"
    for b in (0, 11):  # not another answer because of who else asks
        alone = shop.request([b])
        again = model.retrieve(alone, 6)
        if again.items.tolist() == offered.items[offered.offsets[b] : offered.offsets[b + 1]].tolist():
            np.testing.assert_allclose(model.grounds(alone, again).strength, of(found, offered, b)[1], rtol=1e-4, atol=1e-5)


@every_model
def test_what_it_does_not_know_has_no_grounds(name: str, cls: Any) -> None:
    if name in SILENT:
        return
    model, shop = fitted(cls)
    new = Candidates(np.array([3, shop.items, 10**9]), np.zeros(3, np.float32), np.array([0, 3]))
    found = model.grounds(shop.stranger([2, -1, 5, 10**9, shop.items]), new)
    assert found.items[1:].tolist() == [-1, -1]
    assert found.strength[1:].tolist() == [0, 0]
    nobody = model.grounds(shop.stranger([]), new)
    assert nobody.items.tolist() == [-1, -1, -1]
    assert not nobody.strength.any()
    assert not len(model.grounds(shop.stranger([2]), Candidates.empty(1)).items)
