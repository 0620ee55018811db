"""A model of rows as a route: trained by a recipe, read back, behind an index, and refused where its weights do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from palate.assembly import OpenRun, load_weights, make, open_run
from palate.candidates import Histories, Request
from palate.datasets.interactions import Interactions
from palate.recipe import Recipe, RecipeError
from palate.recommender import Recommender
from palate.store import RunError
from palate.tables.sources.synthetic import synthetic
from palate.workflow import train

TEXT = """
name = "list"
positive = "click"
[data]
source = "synthetic"
[signals]
click = { kinds = ["click"] }
[models.next]
name = "SASRec"
dim = 16
length = 10
negatives = 8
training = { epochs = 2, batch_size = 32, sampler = { uniform = 0.5, popularity = 0.5 } }
[models.hot]
name = "Popular"
[[recall]]
model = "next"
quota = 30
[[recall]]
model = "hot"
quota = 5
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    world = synthetic(users=80, items=60, events=3000, seed=2)
    return train(Recipe.parse(TEXT), tmp_path_factory.mktemp("rows") / "run", world=world, report=lambda line: None)


def asked(history: list[int]) -> Request:
    size = len(history)
    lists = Histories(np.array(history), np.arange(size), np.ones(size, np.uint32), np.ones(size, np.float32), np.array([0, size]))
    return Request(np.array([-1]), lists, np.array([10**12]))


def test_it_is_read_back_as_it_was_published(trained: OpenRun) -> None:
    again, request = open_run(trained.folder), asked([3, 8, 1])
    for model in (trained.parts.models["next"], again.parts.models["next"]):
        found = model.retrieve(request, 9)
        assert len(found.items) == 9
        np.testing.assert_array_equal(found.scores, trained.parts.models["next"].retrieve(request, 9).scores)


def test_the_recommender_serves_its_items(trained: OpenRun) -> None:
    known = [str(item) for item in trained.items.ids[:3]]
    with Recommender.load(trained.folder) as recommender:
        page = recommender.recommend(history=known, k=20)
    offered = trained.parts.models["next"].retrieve(asked([0, 1, 2]), 30).items
    assert len(page.items) == 20
    assert not page.degraded
    assert len({trained.items.ids[row] for row in offered} & set(page.ids)) >= 15


def test_behind_an_index_it_offers_the_same(trained: OpenRun) -> None:
    plain = trained.parts.models["next"].retrieve(asked([3, 8, 1]), 9)
    behind = open_run(trained.folder).parts.retriever("next", {"name": "Exact"}).retrieve(asked([3, 8, 1]), 9)
    assert set(plain.items.tolist()) == set(behind.items.tolist())
    np.testing.assert_allclose(plain.scores, behind.scores, rtol=1e-5)


def test_weights_of_another_catalogue_are_refused(trained: OpenRun) -> None:
    fresh = make(trained.recipe, "next", trained.items, None, Interactions.empty(80, 7))
    weights = {name: values.numpy() for name, values in trained.parts.models["next"].state_dict().items()}
    with pytest.raises(RunError, match="the shape"):
        load_weights(fresh, weights, "model-next.safetensors")


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("popularity = 0.5", "popular = 0.5", "did you mean 'popularity'"),
        ("popularity = 0.5", "popularity = -1.0", "share of 'popularity'"),
        ("sampler = { uniform = 0.5, popularity = 0.5 }", "sampler = 3", "sampler"),
        ("length = 10", "lenght = 10", "did you mean 'length'"),
    ],
)
def test_a_mistake_in_the_recipe_is_named(before: str, after: str, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        Recipe.parse(TEXT.replace(before, after))
