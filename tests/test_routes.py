"""How a recipe's routes become retrievers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from palate.assembly import Parts
from palate.datasets.interactions import Interactions
from palate.index.ivf import IVF
from palate.recall.factor.ials import IALS
from palate.recall.popular.popular import Popular
from palate.recipe import Recipe
from palate.state.catalogue import Catalogue
from tests.recall.made import interactions, lists, random_matrix, request

RECIPE = """
name = "routes"
[data]
source = "synthetic"
[signals]
click = { kinds = ["click"] }
[models.ials]
name = "IALS"
dim = 8
[models.popular]
name = "Popular"
[[recall]]
model = "ials"
index = { name = "IVF", lists = 3, probes = 3 }
[[recall]]
model = "popular"
index = { name = "IVF" }
"""


def parts(recipe: str, data: Interactions) -> Parts:
    items = Catalogue.of(pl.DataFrame({"id": [f"i{n}" for n in range(data.n_items)]}))
    models = {"ials": IALS(8).fit(data), "popular": Popular().fit(data)}
    return Parts(Recipe.parse(recipe), items, Catalogue("users"), None, models)


def test_factors_are_looked_for_in_the_index_that_a_route_names(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    search = IVF.search

    def counted(index: IVF, *given: Any) -> Any:
        searched.append(len(index))
        return search(index, *given)

    monkeypatch.setattr(IVF, "search", counted)
    data = interactions(random_matrix())
    asked = request([[3, 4, 5], []], exclude=[[3, 4, 5], []])
    with_index, popular = (route.retriever for route in parts(RECIPE, data).routes())
    found = with_index.retrieve(asked, 5)
    assert searched == [24], "nobody took the last item"
    popular.retrieve(asked, 5)
    assert searched == [24], "a model without vectors has no use for an index"
    plain = parts(RECIPE.replace('index = { name = "IVF", lists = 3, probes = 3 }', ""), data).retriever("ials").retrieve(asked, 5)
    assert searched == [24], "all are compared where the route names none"
    assert lists(found) == lists(plain), "every list was probed"
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-5)
