"""One value of a text changes, and nothing else: neither another value nor a comment."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.wording import put, written

TEXT = """# what it is
name = "a # shop"  # its name
[models.ranker]  # the ranker
name = "DeepFM"
hidden = [  # wide
    64, # and
    32,
]
training = { epochs = 3, learning_rate = 1e-3 }  # short
"dim" = 8

# routes
[[recall]]
model = "ranker"
[models.light]
training.epochs = 2
note = '''
[models.none]
dim = 1'''
[models.light.seen]
days = 3
[models]
hot = { name = "Popular" }"""


@pytest.mark.parametrize(
    ("way", "value", "line"),
    [
        ("models.ranker.dim", 16, '"dim" = 16'),
        ("models.ranker.hidden", [8], "hidden = [8]"),
        ("models.ranker.training.epochs", 5, "training = { epochs = 5, learning_rate = 0.001 }  # short"),
        ("models.ranker.training.patience", 5, "training = { epochs = 3, learning_rate = 0.001, patience = 5 }  # short"),
        ("models.ranker.dropout", 0.25, '"dim" = 8\ndropout = 0.25\n\n# routes'),
        ("models.light.training.epochs", 9, "training.epochs = 9"),
        ("models.light.training.seed", 9, "dim = 1'''\ntraining.seed = 9\n"),
        ("models.light.seen.kind", 'a "b" \\', 'days = 3\nkind = "a \\"b\\" \\\\"\n'),
        ("models.hot.half", True, 'hot = { name = "Popular", half = true }'),
        ("models.hot.sampler", {"uniform": 0.5, "by hand": [1]}, 'hot = { name = "Popular", sampler = { uniform = 0.5, "by hand" = [1] } }'),
        ("name", "new", 'name = "new"  # its name'),
    ],
)
def test_a_value_is_put_where_it_stands(way: str, value: Any, line: str) -> None:
    text = put(TEXT, way.split("."), value)
    assert line in text
    wanted = inner = tomllib.loads(TEXT)
    for key in way.split(".")[:-1]:
        inner = inner.setdefault(key, {})
    inner[way.split(".")[-1]] = value
    assert tomllib.loads(text) == wanted
    kept = {row for row in TEXT.splitlines() if "#" in row and not row.startswith(("hidden", "    64", "training"))}
    assert kept <= set(text.splitlines()) | ({'name = "a # shop"  # its name'} if way == "name" else set())


def test_what_cannot_be_put_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no table \[model\]"):
        put(TEXT, ("model", "x"), 1)
    with pytest.raises(ValueError, match="no table, to put 'deep' into"):
        put(TEXT, ("models", "ranker", "dim", "deep"), 1)
    with pytest.raises(ValueError, match="cannot be written in TOML"):
        written({1, 2})


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, VALUES)
def test_any_value_survives(first: Any, second: Any) -> None:
    text = put(TEXT, ("models", "ranker", "dim"), first)
    assert tomllib.loads(text)["models"]["ranker"]["dim"] == first
    text = put(text, ("models", "ranker", "dim"), second)
    assert tomllib.loads(text)["models"]["ranker"] == {**tomllib.loads(TEXT)["models"]["ranker"], "dim": second}
