"""Plots as inline SVG: forest, funnel, lines, histogram. Colours and type come from the page's CSS, so they follow light and dark.

Every function takes plain numbers and gives ``Markup``; every text is escaped on its way in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

COLOURS = 8  #: series colours that the page defines, --c1 to --c8
ADVANCE = 6.6  #: mean width of a letter at the plots' type size


def number(value: float | None, digits: int = 3) -> str:
    """A number as people read it: 3 decimals, fewer from 10 on, an en dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or (size >= 10 and float(value).is_integer()):
        return f"{value:.0f}"
    return f"{value:.{1 if size >= 10 else digits}f}"


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Round places between low and high; only whole numbers with ``whole``."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float, step: float) -> str:
    """As many decimals as the step needs."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
    decimals += step > 0 and abs(round(step * 10**decimals) - step * 10**decimals) > 1e-6
    return f"{value:.{min(decimals, 4)}f}"


def _svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    opening = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" style="max-width:{:.0f}px">').format(
        width, height, label, width * 1.15
    )
    return opening + Markup("").join(parts) + Markup("</svg>")


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(x, y, kind, anchor, text)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _colour(place: int, one: Mapping[str, Any]) -> str:
    return "--c:var(--soft)" if one.get("faint") else f"--c:var(--c{place % COLOURS + 1})"


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def forest(rows: Sequence[Mapping[str, Any]], title: str, zero: bool = False, bars: bool = False, brief: bool = False, width: float = 920) -> Markup:
    """One row for each thing: a dot (or a bar from 0) with its interval, and the figures in words.

    rows: ``label``, ``value``, ``low``, ``high`` (None: no interval), optional ``strong`` and ``note``. ``zero``: draw a line at 0.
    ``brief``: the interval is drawn but not written.
    """
    rows = [row for row in rows if row["value"] is not None]
    if not rows:
        return Markup("")
    left = min(200.0, 16 + ADVANCE * max(len(str(row["label"])) for row in rows))
    right = 16 + ADVANCE * max(len(_words(row, brief)) for row in rows)
    ends = [row[end] if row.get(end) is not None else row["value"] for row in rows for end in ("low", "high")]
    low, high = min(ends), max(ends)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero or bars else (low, high)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 0.1
    low, high = (0.0 if bars and low >= 0 else low - pad), high + pad
    step, top = 27.0, 8.0
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    places = ticks(low, high)
    gap = places[1] - places[0] if len(places) > 1 else high - low
    parts = [
        _line(x(place), top, x(place), bottom, "grid") + _text(x(place), bottom + 16, tick_label(place, gap), "tick", "middle") for place in places
    ]
    if zero:
        parts.append(_line(x(0), top, x(0), bottom + 4, "zero"))
    for at, row in enumerate(rows):
        y = top + step * (at + 0.5)
        strong = " strong" if row.get("strong") else ""
        parts.append(_text(left - 10, y + 4, _short(str(row["label"]), 28), "label" + strong, "end"))
        if bars:
            shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="14" rx="2.5" class="bar{}"/>'
            parts.append(Markup(shape).format(x(0), y - 7, max(x(row["value"]) - x(0), 0.5), strong))
        if row.get("low") is not None and row.get("high") is not None:
            parts.append(_line(x(row["low"]), y, x(row["high"]), y, ("whisker on" if bars else "whisker") + strong))
            parts += [_line(x(row[end]), y - 3.5, x(row[end]), y + 3.5, ("whisker on" if bars else "whisker") + strong) for end in ("low", "high")]
        if not bars:
            parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" class="dot{}"/>').format(x(row["value"]), y, strong))
        parts.append(_text(width - right + 12, y + 4, _words(row, brief), "value" + strong))
    return _svg(width, bottom + 24, title, parts)


def _words(row: Mapping[str, Any], brief: bool) -> str:
    given = not brief and row.get("low") is not None and row.get("high") is not None
    interval = f"  [{number(row['low'])}, {number(row['high'])}]" if given else ""
    return f"{number(row['value'])}{interval}" + (f"  {row['note']}" if row.get("note") else "")


def funnel(stages: Sequence[Mapping[str, Any]], title: str, width: float = 920) -> Markup:
    """The share of the right items left after each stage, as a narrowing band. stages: ``label``, ``value``, ``note``."""
    stages = [stage for stage in stages if stage["value"] is not None]
    if not stages:
        return Markup("")
    height, middle = 190.0, 100.0
    slot = width / len(stages)
    block = slot * 0.62
    most = max(max(stage["value"] for stage in stages), 1e-9)
    parts = []
    halves = [max(1.0, 66.0 * stage["value"] / most) for stage in stages]
    for at, (stage, half) in enumerate(zip(stages, halves, strict=True)):
        start = at * slot + (slot - block) / 2
        if at + 1 < len(stages):
            after, end = halves[at + 1], start + slot
            band = [(start + block, middle - half), (end, middle - after), (end, middle + after), (start + block, middle + half)]
            parts.append(Markup('<polygon points="{}" class="band"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in band)))
        shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="3" class="stage{}"/>'
        parts.append(Markup(shape).format(start, middle - half, block, 2 * half, " strong" if at + 1 == len(stages) else ""))
        centre = start + block / 2
        parts.append(_text(centre, middle + 5, number(stage["value"]), "inside" if half > 9 else "value strong", "middle"))
        parts.append(_text(centre, 16, _short(str(stage["label"]), int(slot / ADVANCE)), "label strong", "middle"))
        parts.append(_text(centre, height - 4, _short(str(stage.get("note", "")), int(slot / ADVANCE * 1.1)), "tick", "middle"))
    return _svg(width, height, title, parts)


def lines(
    series: Sequence[Mapping[str, Any]],
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    names: Sequence[str] | None = None,
    log: bool = False,
    width: float = 460,
    height: float = 300,
) -> Markup:
    """Curves in one frame with a legend.

    series: ``name``, ``x``, ``y``, optional ``weights`` (points of that size), ``dots`` (small points), ``mark`` (a place on the curve to be
    pointed out), ``faint`` and ``loose`` (no line from point to point). ``names``: words at x = 0, 1, 2, … in the place of numbers. ``log``: y,
    all above 0, by its logarithm.
    """
    series = [one for one in series if len(one["x"])]
    if log:
        series = [{**one, "y": [math.log10(value) for value in one["y"]]} for one in series]
    if not series:
        return Markup("")
    xs, ys = (np.concatenate([np.asarray(one[axis], float) for one in series]) for axis in "xy")
    xs, ys = xs[np.isfinite(xs)], ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return Markup("")
    x_low, x_high = x_range or (float(xs.min()), float(xs.max()))
    y_low, y_high = y_range or _padded(float(ys.min()), float(ys.max()))
    x_high = x_high if x_high > x_low else x_low + 1
    y_high = y_high if y_high > y_low else y_low + 1
    rows = _legend_rows([str(one["name"]) for one in series], width - 60)
    top, bottom, left, right = 12.0 + 18 * (len(rows) if len(series) > 1 else 0), height - 46, 58.0, width - 14

    def x(value: float) -> float:
        return left + (value - x_low) / (x_high - x_low) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - top)

    parts = [Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="frame"/>').format(left, top, right - left, bottom - top)]
    places = _decades(y_low, y_high) if log else ticks(y_low, y_high, 5)
    gap = places[1] - places[0] if len(places) > 1 else 1.0
    for place in places:
        label = number(10**place) if log else tick_label(place, gap)
        parts.append(_line(left, y(place), right, y(place), "grid") + _text(left - 7, y(place) + 4, label, "tick", "end"))
    if names is None:
        whole = all(float(one).is_integer() for one in xs)
        places = ticks(x_low, x_high, 6, whole)
        gap = places[1] - places[0] if len(places) > 1 else 1.0
        marks = [(place, tick_label(place, gap)) for place in places]
    else:
        marks = [(float(place), name) for place, name in enumerate(names)]
    parts += [_line(x(place), bottom, x(place), bottom + 4, "axis") + _text(x(place), bottom + 17, name, "tick", "middle") for place, name in marks]
    parts.append(_text((left + right) / 2, height - 8, x_label, "axis-label", "middle"))
    middle = (top + bottom) / 2
    turned = '<text x="13" y="{0:.1f}" class="axis-label" text-anchor="middle" transform="rotate(-90 13 {0:.1f})">{1}</text>'
    parts.append(Markup(turned).format(middle, y_label))
    if diagonal:
        start, end = max(x_low, y_low), min(x_high, y_high)
        parts.append(_line(x(start), y(start), x(end), y(end), "diagonal"))
    for at, one in enumerate(series):
        points = [(x(float(a)), y(float(b))) for a, b in zip(one["x"], one["y"], strict=True) if a is not None and b is not None and math.isfinite(b)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points if not one.get("loose"))
        parts.append(
            Markup('<polyline points="{}" class="curve{}" style="{}"/>').format(path, " faint" if one.get("faint") else "", _colour(at, one))
        )
        weights = one.get("weights")
        if weights is not None and len(weights):
            heaviest = max(max(weights), 1e-9)
            for (a, b), weight in zip(points, weights, strict=False):
                radius = 2.0 + 3.5 * math.sqrt(weight / heaviest)
                parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="point" style="{}"/>').format(a, b, radius, _colour(at, one)))
        if one.get("dots"):
            parts += [
                Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.6" class="point solid" style="{}"/>').format(a, b, _colour(at, one)) for a, b in points
            ]
        mark = one.get("mark")
        if mark is not None and 0 <= mark < len(points):
            parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="mark" style="{}"/>').format(*points[mark], _colour(at, one)))
    if len(series) > 1:
        place = 0
        for row, many in enumerate(rows):
            start = left
            for name in many:
                parts.append(
                    Markup('<rect x="{:.1f}" y="{:.1f}" width="14" height="3.5" rx="1.75" class="key" style="{}"/>').format(
                        start, 9 + 18 * row, _colour(place, series[place])
                    )
                )
                parts.append(_text(start + 19, 15 + 18 * row, name, "tick"))
                start += 34 + ADVANCE * len(name)
                place += 1
    return _svg(width, height, title, parts)


def _decades(low: float, high: float) -> list[float]:
    """Logarithms between low and high of 1, 2 and 5 times the powers of ten."""
    every = [power + math.log10(factor) for power in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
    return [place for place in every if low <= place <= high]


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    return (0.0 if 0 <= low <= (high - low) * 0.3 else low - pad), high + pad


def _legend_rows(names: Sequence[str], room: float) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    used = 0.0
    for name in (_short(one, 30) for one in names):
        need = 34 + ADVANCE * len(name)
        if used + need > room and rows[-1]:
            rows.append([])
            used = 0.0
        rows[-1].append(name)
        used += need
    return rows


def histogram(values: Sequence[float], title: str, x_label: str, width: float = 460, height: float = 240, bins: int = 40) -> Markup:
    """How values are spread, with the median, 95th and 99th percentile marked; what lies beyond the 99.5th is in the last bin."""
    data = np.asarray([value for value in values if value is not None and math.isfinite(value)], float)
    if not len(data):
        return Markup("")
    low, high = float(data.min()), float(np.quantile(data, 0.995))
    low = 0.0 if low < (high - low) * 0.5 else low
    high = high if high > low else low + 1
    counts, edges = np.histogram(np.clip(data, low, high), bins=bins, range=(low, high))
    top, bottom, left, right = 34.0, height - 46, 58.0, width - 14
    most = int(counts.max())

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    def y(count: float) -> float:
        return bottom - count / most * (bottom - top)

    places = ticks(0, most, 4)
    gap = places[1] - places[0] if len(places) > 1 else 1.0
    parts = [
        _line(left, y(place), right, y(place), "grid") + _text(left - 7, y(place) + 4, tick_label(place, gap), "tick", "end") for place in places
    ]
    places = ticks(low, high, 6)
    gap = places[1] - places[0] if len(places) > 1 else 1.0
    parts += [_line(x(p), bottom, x(p), bottom + 4, "axis") + _text(x(p), bottom + 17, tick_label(p, gap), "tick", "middle") for p in places]
    for count, start, end in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="bar"/>'
            parts.append(Markup(shape).format(x(start) + 0.5, y(count), max(x(end) - x(start) - 1, 0.5), bottom - y(count)))
    edge = -1e9
    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        value = float(np.quantile(data, share))
        text = f"{name} {number(value, 2)}"
        place = min(x(value), right)
        parts.append(_line(place, top - 6, place, bottom, "percentile"))
        room = ADVANCE * len(text) / 2 + 4
        at = max(place, edge + room, left + room)
        parts.append(_text(min(at, right - room), top - 12 if at <= right - room else top - 24, text, "value", "middle"))
        edge = at + room
    parts.append(_line(left, bottom, right, bottom, "axis"))
    parts.append(_text((left + right) / 2, height - 8, x_label, "axis-label", "middle"))
    return _svg(width, height, title, parts)
