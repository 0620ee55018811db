"""Pairs that matter are found among many that do not, by each of three measures; the recipe that results can be read."""

import tomllib

import numpy as np
import pytest

from palate.crosses import measure, with_crosses
from palate.datasets.pointwise import Pointwise
from palate.schema import Feature, Label, Schema

NAMES = "abcdef"


def world(size: int, seed: int, pairs: tuple[tuple[int, int], ...]) -> Pointwise:
    """Six columns of eight values; each named pair shifts the log-odds by how its two values meet, and every column shifts them alone."""
    tastes = np.random.default_rng(7)
    alone, met = tastes.normal(0, 0.7, (6, 8)), tastes.normal(0, 1.5, (2, 8, 8))
    random = np.random.default_rng(seed)
    values = random.integers(0, 8, (size, 6))
    logit = alone[np.arange(6), values].sum(1)
    for n, (i, j) in enumerate(pairs):
        logit = logit + met[n, values[:, i], values[:, j]]
    labels = (random.random(size) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Pointwise({name: values[:, n] + 2 for n, name in enumerate(NAMES)}, {"click": labels}, np.arange(size))


SCHEMA = Schema(tuple(Feature(name, "item", "category", 10) for name in NAMES), (Label("click"),))


def test_the_two_pairs_that_matter_are_found_by_every_measure() -> None:
    found = measure(SCHEMA, world(12_000, 0, ((0, 1), (2, 4))), world(4_000, 1, ((0, 1), (2, 4))))
    assert len(found) == 15
    for by in ("gate", "gradient", "permutation"):
        best = sorted(found, key=lambda pair: -getattr(pair, by))[:2]
        assert {pair.of for pair in best} == {("a", "b"), ("c", "e")}, by
    assert sum(pair.gate == 0 for pair in found) >= 8, "the penalty closes gates"
    assert found[1].gate > 3 * found[2].gate


def test_where_no_pair_matters_every_gate_closes() -> None:
    found = measure(SCHEMA, world(12_000, 0, ()), world(4_000, 1, ()))
    assert all(pair.gate == 0 for pair in found)


def test_one_category_has_no_pair() -> None:
    with pytest.raises(ValueError, match="two categories"):
        measure(Schema(SCHEMA.features[:1], SCHEMA.labels), world(10, 0, ()), world(10, 1, ()))


def test_a_last_batch_of_one_row_is_no_error() -> None:
    assert len(measure(SCHEMA, world(1025, 0, ()), world(200, 1, ()), epochs=1)) == 15


def test_the_text_that_results_names_the_columns() -> None:
    text = with_crosses('name = "x"\n', [("user.city", "item.genre")])
    assert text.endswith('\n[[features]]\nname = "Cross"\nof = ["user.city", "item.genre"]\n')
    odd = ("user.mother's café", 'item.a "b" \\ c')
    assert tomllib.loads(with_crosses("", [odd]))["features"] == [{"name": "Cross", "of": list(odd)}]
