"""Recipes: what they say is read, and every slip of the pen is refused with its line and the nearest right word."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from palate.recipe import Recipe, RecipeError

RECIPES = Path(__file__).parent.parent / "recipes"
TEXT = (RECIPES / "movielens.toml").read_text(encoding="utf-8")
LINES = TEXT.splitlines()


def misspelt(word: str, rng: np.random.Generator) -> str:
    """The word with one letter dropped, doubled, changed or exchanged with the next: another word, one slip away."""
    while True:
        place, kind = int(rng.integers(len(word))), int(rng.integers(4))
        letter = "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)]
        found = [
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + letter + word[place + 1 :],
            word[:place] + word[place : place + 2][::-1] + word[place + 2 :],
        ][kind]
        if found != word and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]+", found):
            return found


def replaced(line: int, start: int, end: int, text: str) -> str:
    row = LINES[line]
    return "\n".join([*LINES[:line], row[:start] + text + row[end:], *LINES[line + 1 :]])


def places(pattern: str, group: int = 1) -> list[tuple[int, int, int, str]]:
    """(line, start, end, text) of every match outside comments."""
    return [
        (line, match.start(group), match.end(group), match.group(group))
        for line, row in enumerate(LINES)
        for match in re.finditer(pattern, row.split("#")[0])
        if match.group(group) is not None
    ]


KEYS = [
    one
    for one in places(r"(?:^|[{,]\s*)([a-z_]+)\s*=")
    if LINES[one[0]].startswith("training") or not re.match(r"(rated|like|love|choose) =", LINES[one[0]])
]
KEYS += [one for one in places(r"[{,]\s*([a-z_]+)\s*=") if one not in KEYS]
CATALOG = places(r'^name = "([A-Za-z_0-9]+)"') + places(r'index = \{ name = "([A-Za-z]+)"')
MODELS = places(r'^model = "([a-z_]+)"') + places(r'^fallback = "([a-z_]+)"') + places(r'^teacher = "([a-z_]+)"')
SIGNALS = places(r'^(?:signal|among|positive) = "([a-z]+)"') + places(r'(?:signal|given) = "([a-z]+)"')
ROUTES = places(r'^route = "([a-z_]+)"')
TABLES = places(r"^\[\[?([a-z]+)[\].]")
NUMBERS = places(r"= ([0-9.]+)(?:$|\s|,)")
CATALOG = [one for one in CATALOG if one[3] != "movielens"]


def mutations() -> Iterator[tuple[str, int, str, str]]:
    """(what, line, the right word, the text of the recipe with the slip in that line)"""
    rng = np.random.default_rng(20)
    for what, found, count in (
        ("key", KEYS, 50),
        ("catalog", CATALOG, 30),
        ("model", MODELS, 20),
        ("signal", SIGNALS, 15),
        ("route", ROUTES, 15),
        ("table", TABLES, 15),
    ):
        for chosen in rng.choice(len(found), count):
            line, start, end, word = found[chosen]
            slip = misspelt(word, rng)
            yield what, line, word, replaced(line, start, end, slip)
    for chosen in rng.choice(len(NUMBERS), 25, replace=False):
        line, start, end, word = NUMBERS[chosen]
        key = re.findall(r"([a-z_]+)\s*=\s*$", LINES[line][:start])[0]
        yield "type", line, key, replaced(line, start, end, f'"{word} or so"')


CASES = list(mutations())


def told(text: str) -> str:
    try:
        Recipe.parse(text, "movielens.toml")
    except RecipeError as error:
        return str(error)
    return ""


def test_slips_are_refused_with_line_key_and_the_nearest_right_word() -> None:
    assert len(CASES) >= 170
    ignored, vague = [], []
    for what, line, word, text in CASES:
        message = told(text)
        if not message:
            ignored.append((what, line + 1, word, text.splitlines()[line]))
        elif f"line {line + 1}:" not in message or word not in message:
            vague.append((what, line + 1, word, text.splitlines()[line], message))
    assert not ignored, ignored[:10]
    assert len(vague) <= 0.05 * len(CASES), "\n".join(map(str, vague[:20]))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_sound(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    assert recipe.recall
    assert recipe.text == path.read_text(encoding="utf-8")
    tables = tomllib.loads(recipe.text)
    assert len(recipe.features) == len(tables.get("features", []))
    assert set(recipe.models) == set(tables["models"])


SHOP = """
name = "shop"
positive = "bought"
[data]
events = "events.csv"
[signals]
bought = { kinds = ["buy"] }
[models.hot]
name = "Popular"
[[recall]]
model = "hot"
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace('events = "events.csv"', ""), "[data] needs one of"),
        (lambda text: text.replace('events = "events.csv"', 'events = "a.csv"\nlog = "state"'), "[data] needs one of"),
        (lambda text: text.replace('name = "shop"', "name = 3"), "name must be a text"),
        (lambda text: text.replace('name = "shop"', 'name = "shop"\nseed = "x"'), "seed must be a whole number"),
        (lambda text: text.replace('name = "shop"', 'name = "shop"\nseed = -1'), "seed must be"),
        (lambda text: text.replace('positive = "bought"', 'positive = ["bought"]'), "positive must be a text"),
        (lambda text: text.replace("[data]", "data = 3\n[date]").replace('events = "events.csv"', ""), "a recipe has no 'date'"),
        (lambda text: text.replace("[[recall]]", "[recall]"), "[[recall]]"),
        (lambda text: text.replace("[models.hot]", "[models]\nhot = 3\n[other]"), "line"),
        (lambda text: text[: text.index("[[recall]]")], "needs 'recall'"),
        (lambda text: text[: text.index("[[recall]]")].replace("[data]", "recall = []\n[data]"), "[[recall]]"),
        (lambda text: text.replace("[signals]", "[signals]\nbad = 3"), "line 7"),
        (lambda text: text + '[split]\nname = "global_time"\nratios = 0.8\n', "'ratio'"),
        (lambda text: text + '[split]\nname = "ratio"\nratio = "much"\n', "'ratio'"),
        (lambda text: text + "[data.options]\nusers = 3\n", "options"),
        (lambda text: text.replace('events = "events.csv"', 'source = "synthetic"\noptions = { user = 30 }'), "'users'"),
        (lambda text: text.replace('events = "events.csv"', 'source = "syntetic"'), "'synthetic'"),
        (lambda text: text.replace('events = "events.csv"', 'events = "e.csv"\ncolumns = { user = 3 }'), "columns"),
        (lambda text: text + "[state]\nseen = { knd = 'exact' }\n", "'kind'"),
        (lambda text: text + "[state]\nseen = { kind = 'blom' }\n", "'bloom'"),
        (lambda text: text + "[state]\nseen = { kind = 'bloom', eror = 0.1 }\n", "'error'"),
        (lambda text: text + "[state]\nwindows = [1.5]\n", "window"),
        (lambda text: text + "[prerank]\nmodel = 'hot'\n", "Popular"),
        (lambda text: text + "[rank]\nmodel = 'hot'\n", "Popular"),
        (lambda text: text + "[models.b]\nname = 'DSSM'\ntraining = { epocs = 3 }\n", "'epochs'"),
        (lambda text: text + "[[rerank]]\nname = 'Explore'\nshare = 2\n", "share"),
        (lambda text: text + "[[filters]]\nname = 'Where'\ncolum = 'x'\n", "'column'"),
        (lambda text: text.replace('name = "Popular"', 'name = "Popular"\nhalf_life_days = "long"'), "half_life_days"),
        (lambda text: text.replace("[[recall]]", '[[recall]]\nmodel = "hot"\n[[recall]]'), "twice"),
        (lambda text: text.replace('model = "hot"', 'model = "hot"\nquota = 0'), "quota"),
        (lambda text: text + "[examples]\nfolds = 0\n", "folds"),
        (lambda text: text + "[examples]\nshare = 1.5\n", "share"),
        (lambda text: text + "[evaluation]\nk = [0]\n", "k"),
        (lambda text: text + '[tasks]\nbuy = { signal = "bought" }\n[models.r]\nname = "MLP"\n[rank]\nmodel = "r"\n', "features"),
        (lambda text: text + '[models.r]\nname = "MLP"\n[rank]\nmodel = "r"\n[[features]]\nname = "Category"\ncolumn = "user.id"\n', "tasks"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused_when_read(change: Callable[[str], str], words: str) -> None:
    assert Recipe.parse(SHOP).positive == "bought"
    text = change(SHOP)
    assert text != SHOP
    message = told(text)
    assert words in message, message or "nothing was said"


def test_toml_that_is_none_and_files_that_are_not_there(tmp_path: Path) -> None:
    assert "not valid TOML" in told("name = [")
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(tmp_path / "none.toml")


RANKED = (
    SHOP
    + """
[state]
windows = [7, 0]
audience = 20
[[features]]
name = "Category"
column = "user.id"
"""
)


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ('name = "Count"\nof = "item"\nsignal = "bought"\nwindow = [7, 0]', ""),
        ('name = "Count"\nof = "item"\nsignal = "bought"\nwindow = [7, 30]', "window 30 is none of [state] windows: 7, 0"),
        ('name = "Active"\nof = "user"\nsignal = "bought"\nwindow = 1', "window 1 is none of [state] windows"),
        ('name = "Newcomer"\nof = "user"\nsignal = "buoght"', "no signal 'buoght'; did you mean 'bought'"),
        ('name = "Rate"\nof = "item"\nsignal = "bought"\namong = "bought"\nprior = "fit"', ""),
        ('name = "Rate"\nof = "item"\nsignal = "bought"\namong = "bought"\nprior = "fitted"', "'prior'"),
        ('name = "Match"\nattribute = "brand"\nwindow = [1, 30]', ""),
        ('name = "Audience"\nattribute = "gender"\nlength = 20', ""),
        ('name = "Audience"\nattribute = "gender"\nlength = 21', "last 21 events of an item; [state] audience keeps 20"),
        ('name = "Bucket"\ncolumn = "item.price"\nby = "tree"\nsignal = "bouht"', "no signal 'bouht'"),
        ('name = "Cross"\nof = ["user.a", "itm.b"]', "column 'itm.b' must read"),
        ('name = "TimeParts"\nparts = ["hours"]', "parts"),
        ('name = "Recency"\nof = "item"', ""),
    ],
)
def test_what_the_state_must_keep_for_a_feature_is_checked(feature: str, words: str) -> None:
    message = told(f"{RANKED}[[features]]\n{feature}\n")
    assert words in message if words else not message, message
    if words:
        assert re.search(r"line (1[6-9]|2\d):", message), message
