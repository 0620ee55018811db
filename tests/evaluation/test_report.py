"""The page is whole, self-contained, escaped and drawn right; the terminal's tables line up."""

from __future__ import annotations

import re
import xml.etree.ElementTree as tree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import Ragged
from palate.evaluation import offline, plots, report
from palate.evaluation.stages import Lists, measure
from palate.state.past import Past
from tests.evaluation.test_offline import CUT, chance, spy
from tests.evaluation.test_stages import N_ITEMS, QUOTAS, toy

HOSTILE = "<script>alert('x')</script>\"'&"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    rows = chance(N_ITEMS)
    past, asked = Past(rows, 30, N_ITEMS), offline.warm(rows, CUT, "taken")
    tasks = {"choose": ("taken", ""), "like": ("like", "taken")}
    sets = Ragged.of([[item % 5] for item in range(N_ITEMS)])
    lists = Lists(N_ITEMS, np.bincount(rows.items, minlength=N_ITEMS), 30, sets)
    measured = measure(toy, past, asked, QUOTAS, (5, 10), tasks=tasks, tops=(5,), lists=lists, replicates=10)
    rolling = offline.evaluate(spy([], N_ITEMS), past, offline.rolling(rows, CUT, "taken", most=50), system="lowest")
    return {
        "title": "A world",
        "subtitle": "by chance",
        "facts": [{"label": "Events", "value": "900", "note": ""}],
        "funnel": measured.figures(replicates=50),
        "protocols": [rolling.figures(replicates=50)],
        "training": [{"name": "ranker", "loss": [0.7, 0.5, 0.45], "score": [0.6, 0.7, 0.69], "score_name": "AUC", "best": 1}],
        "latency": [{"name": "one client", "milliseconds": np.random.default_rng(0).gamma(3, 2, 300).tolist()}],
        "notes": ["A note."],
        "terms": "Terms of use.",
    }


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "rect", "polyline", "polygon", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_page_is_whole_and_self_contained(results: dict[str, Any], tmp_path: Path) -> None:
    page = report.write(results, tmp_path / "report.html").read_text(encoding="utf-8")
    reader = read(page)
    assert not re.search(r"(?:src|href|action|url)\s*[=(]|@import|https?:", page)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in reader.tags}
    text = " ".join(reader.words)
    for words in ("What the funnel keeps", "The list against every route alone", "The ranker, task by task", "The final list", "Who is shown"):
        assert words in text
    for words in ("Other protocols", "Training", "Latency", "A note.", "Terms of use.", "rolling", "second half", "NDCG@10", "p99"):
        assert words in text
    svgs = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(svgs) >= 14
    for svg in svgs:
        drawn = tree.fromstring(svg)
        places = [
            value for one in drawn.iter() for name, value in one.attrib.items() if name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "points")
        ]
        assert places
        assert all(np.isfinite(float(value)) for one in places for value in re.split("[ ,]", one))
    assert 'aria-label="recall of each route at its quota"' in page


@pytest.mark.parametrize("part", ["title", "funnel", "protocols", "training", "latency", "facts", "notes"])
def test_any_part_may_be_missing(results: dict[str, Any], part: str) -> None:
    read(report.render({key: value for key, value in results.items() if key != part}))
    read(report.render({part: results[part]}))
    report.text({part: results[part]})


def test_another_signal_that_counts_has_its_own_table(results: dict[str, Any]) -> None:
    other = {**results["funnel"], "signal": "loved"}
    assert "When loved is what counts" in report.render({**results, "also": [other]})
    assert "when loved is what counts" in report.text({**results, "also": [other]})
    assert "what counts" not in report.render(results) + report.text(results)


def test_hostile_names_are_escaped(results: dict[str, Any]) -> None:
    page = report.render(_renamed(results))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    read(page)


def _renamed(value: Any, key: str = "") -> Any:
    """The same results with every text made hostile (but those that steer the page)."""
    if isinstance(value, dict):
        return {name: _renamed(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, key) for one in value]
    return HOSTILE + value if isinstance(value, str) and key not in ("kind", "metric") else value


def test_terminal_tables(results: dict[str, Any]) -> None:
    text = report.text(results)
    assert "\x1b" not in text
    for words in ("warm users", "stage", "mixed", "ranker's top 5", "grouped AUC", "NDCG", "paired test", "rolling (lowest)"):
        assert words in text
    table = report.text_table(
        ("name", "n", "value"), [["a", 1200, 0.5], ["bb\x1b[31m", None, {"value": 1.0, "low": 0.5, "high": 1.5}], ["日本", 3, 2.0]]
    )
    lines = table.splitlines()
    assert lines[0].startswith("name")
    assert "1,200  " in lines[2]
    assert "1.000 [0.500, 1.500]" in lines[3]
    assert "\x1b" not in table
    ends = [len(line) + sum(2 * (letter in "日本") - (letter in "日本") for letter in line) for line in lines[1:]]
    assert len(set(ends)) == 1
    assert report.text_table(("a", "b"), []).splitlines()[0] == "a  b"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (20, "20"), (None, "–"), (float("nan"), "–"), (-0.5, "-0.500")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert plots.number(value) == text


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 9))
def test_ticks_lie_inside_and_are_round(low: float, width: float, most: int) -> None:
    places = plots.ticks(low, low + width, most)
    assert len(places) <= most + 1
    slack = 1e-6 * max(width, abs(low))
    assert all(low - slack <= place <= low + width + slack for place in places)
    assert all(float(place).is_integer() for place in plots.ticks(low, low + width, most, whole=True)) or width < 1e-3 or low == low + width


def test_plots_put_values_where_they_belong() -> None:
    rows = [{"label": "a", "value": 0.2, "low": 0.1, "high": 0.3}, {"label": "b", "value": 0.4, "low": None, "high": None, "strong": True}]
    svg = tree.fromstring(str(plots.forest(rows, "t", zero=True)))
    dots = [float(one.get("cx", "nan")) for one in svg.iter("circle")]
    zero = next(float(one.get("x1", "nan")) for one in svg.iter("line") if one.get("class") == "zero")
    assert dots[1] - zero == pytest.approx(2 * (dots[0] - zero), abs=0.2)
    whiskers = [one for one in svg.iter("line") if "whisker" in (one.get("class") or "")]
    assert float(whiskers[0].get("x1", "nan")) < dots[0] < float(whiskers[0].get("x2", "nan"))
    bars = tree.fromstring(str(plots.forest(rows, "t", bars=True)))
    widths = [float(one.get("width", "nan")) for one in bars.iter("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.3)
    band = tree.fromstring(str(plots.funnel([{"label": "x", "value": 1.0, "note": ""}, {"label": "y", "value": 0.25, "note": ""}], "t")))
    heights = [float(one.get("height", "nan")) for one in band.iter("rect")]
    assert heights[0] == pytest.approx(4 * heights[1], abs=0.2)
    curve = tree.fromstring(str(plots.lines([{"name": "c", "x": [0, 1, 2], "y": [0.0, 1.0, float("nan")], "mark": 1}], "t", "x", "y")))
    points = next(one.get("points", "") for one in curve.iter("polyline")).split()
    assert len(points) == 2
    counts = tree.fromstring(str(plots.histogram([1.0] * 5 + [9.0] * 10, "t", "ms", bins=8)))
    bars_drawn = [float(one.get("height", "nan")) for one in counts.iter("rect")]
    assert bars_drawn[1] == pytest.approx(2 * bars_drawn[0], abs=0.2)


def test_nothing_to_draw_draws_nothing() -> None:
    none = [{"label": "a", "value": None, "low": None, "high": None}]
    drawn = (plots.forest(none, "t"), plots.funnel(none, "t"), plots.lines([], "t", "x", "y"), plots.histogram([float("nan")], "t", "x"))
    assert all(one == "" for one in drawn)
    for flat in ([{"name": "a", "x": [1], "y": [3.0]}], [{"name": "a", "x": [1, 1], "y": [0.0, 0.0]}]):
        tree.fromstring(str(plots.lines(flat, "t", "x", "y")))
    tree.fromstring(str(plots.histogram([0.0], "t", "x")))
    tree.fromstring(str(plots.forest([{"label": "a", "value": 0.0, "low": 0.0, "high": 0.0}], "t", zero=True)))
