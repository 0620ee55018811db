"""The report: one self-contained page of HTML (inline CSS and SVG, no script, no address outside it), and tables for the terminal.

``write`` takes a plain dict. Every part may be missing; its section is then left out.

``title subtitle terms`` texts, ``facts`` ``[{label, value, note}]`` the tiles on top, ``notes`` ``[text]``;
``funnel`` what ``stages.Measured.figures`` gives; ``protocols`` ``[what Judged.figures gives]`` other protocols;
``training`` ``[{name, loss: [...], score: [...], score_name, best}]`` one entry a model, one number an epoch;
``latency`` ``[{name, milliseconds: [...]}]``; ``sections`` ``[{title, how, plots: [{name, plot}], columns, rows}]`` what other tools have to show.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from palate.evaluation import plots
from palate.evaluation.judged import BEFORE
from palate.evaluation.plots import number

PAGE = "report.html.j2"
LIST_METRICS = ("coverage", "novelty", "diversity", "gini", "popularity", "popularity_lift", "long_tail")
RANKING = ("ndcg", "recall", "hit", "mrr", "map", "precision", "f1")
MOST_SYSTEMS = 7  #: curves in one plot


def render(results: Mapping[str, Any]) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    funnel = results.get("funnel") or {}
    return environment.get_template(PAGE).render(
        title=str(results.get("title", "Report")),
        subtitle=str(results.get("subtitle", "")),
        terms=str(results.get("terms", "")),
        notes=[str(note) for note in results.get("notes", [])],
        facts=list(results.get("facts", [])),
        funnel=funnel,
        plots=_funnel_plots(funnel) if funnel else {},
        systems=_systems_table(funnel),
        also=[{"signal": one.get("signal", ""), "questions": one["questions"], "systems": _systems_table(one)} for one in results.get("also", [])],
        protocols=[_protocol(one) for one in results.get("protocols", [])],
        training=_training(results.get("training", [])),
        latency=[
            {"name": str(one["name"]), "plot": plots.histogram(one["milliseconds"], f"latency, {one['name']}", "milliseconds")}
            for one in results.get("latency", [])
            if len(one["milliseconds"])
        ],
        sections=[{**one, "rows": [[_cell(value) for value in row] for row in one["rows"]]} for one in results.get("sections", [])],
        interval=interval,
    )


def write(results: Mapping[str, Any], path: str | Path) -> Path:
    """Writes the page and gives its path."""
    path = Path(path)
    path.write_text(render(results), encoding="utf-8")
    return path


def interval(one: Mapping[str, Any] | None) -> str:
    """``"[low, high]"``, or nothing."""
    if not one or one.get("low") is None or one.get("high") is None:
        return ""
    return f"[{number(one['low'])}, {number(one['high'])}]"


def _row(label: str, one: Mapping[str, Any] | None, strong: bool = False, note: str = "") -> dict[str, Any]:
    one = one or {"value": None, "low": None, "high": None}
    return {"label": label, "value": one["value"], "low": one["low"], "high": one["high"], "strong": strong, "note": note}


def _funnel_plots(funnel: Mapping[str, Any]) -> dict[str, Any]:
    """Every plot of the funnel's part by name; empty Markup where there is nothing to draw."""
    made: dict[str, Any] = {}
    stages = funnel.get("stages", [])
    routes = [stage for stage in stages if stage["kind"] == "route"]
    band = [stage for stage in stages if stage["kind"] != "route"]
    made["survival"] = plots.funnel(
        [{"label": stage["name"], "value": stage["recall"]["value"], "note": f"{number(stage['size'])} items"} for stage in band],
        "share of the right items that are still there after each stage",
    )
    rows = [_row(f"{stage['name']} · {stage['quota']}", stage["recall"]) for stage in routes]
    rows += [_row("merged", stage["recall"], True) for stage in band if stage["name"] == "merged"]
    made["routes"] = plots.forest(rows, "recall of each route at its quota", bars=True)
    made["top"] = plots.forest(
        [_row(f"top {one['k']}", one["recall"]) for one in funnel.get("ranker_top", [])], "share of the ranker's best that pre-rank keeps", bars=True
    )
    systems = funnel.get("systems", [])
    made["metrics"] = []
    for metric in dict.fromkeys(row["metric"] for row in funnel.get("comparisons", [])):
        rows = [_row(one["system"], one["metrics"][metric], at == 0) for at, one in enumerate(systems) if metric in one["metrics"]]
        rows = rows[:1] + sorted(rows[1:], key=lambda row: -(row["value"] or 0.0))
        against = [
            {"label": row["against"], "value": row["difference"], "low": row["low"], "high": row["high"], "note": _p(row["p_permutation"])}
            for row in funnel["comparisons"]
            if row["metric"] == metric
        ]
        against.sort(key=lambda row: row["value"] if row["value"] is not None else 0.0)
        made["metrics"].append(
            {
                "name": pretty(metric),
                "values": plots.forest(rows, f"{metric} of each system", brief=True, width=450),
                "differences": plots.forest(against, f"{metric}: funnel minus the other", zero=True, brief=True, width=450),
            }
        )
    curves = [{"name": task["name"], "x": task["curve"]["predicted"], "y": task["curve"]["observed"], "weights": task["curve"]["rows"]}
              for task in funnel.get("tasks", []) if "curve" in task]  # fmt: skip
    made["calibration"] = [
        {
            "name": curve["name"],
            "plot": plots.lines(
                [curve],
                f"calibration of {curve['name']}",
                "predicted probability",
                "observed share",
                diagonal=True,
                x_range=_together(curve["x"], curve["y"]),
                y_range=_together(curve["x"], curve["y"]),
                width=340,
                height=310,
            ),
        }
        for curve in curves
    ]
    shares = dict(funnel.get("popularity") or {})
    shown = {name: shares[name] for name in [name for name in shares if name not in ("taken", BEFORE)][:MOST_SYSTEMS]}
    if shown and "taken" in shares:
        shown["taken"] = shares["taken"]
    made["tenths"] = plots.lines(
        [{"name": name, "x": list(range(10)), "y": one["tenths"], "dots": True, "faint": name == "taken"} for name, one in shown.items()],
        "share of places by popularity of the item",
        "tenth of the catalogue, most taken first",
        "share of all places",
        names=[str(place) for place in range(1, 11)],
        y_range=(0.0, max([max(one["tenths"]) for one in shown.values()], default=1.0) * 1.06),
        height=340,
    )
    made["lorenz"] = plots.lines(
        [{"name": name, "x": one["lorenz"]["x"], "y": one["lorenz"]["y"], "faint": name == "taken"} for name, one in shown.items()],
        "how evenly the places are shared out",
        "share of items, least shown first",
        "share of places",
        diagonal=True,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        height=340,
    )
    return made


def _together(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """One range for both axes, so that the diagonal is one."""
    high = max([*xs, *ys, 1e-6])
    low = min([*xs, *ys])
    pad = (high - low) * 0.08 or 0.05
    return (0.0 if low < high * 0.3 else max(0.0, low - pad)), min(1.0, high + pad)


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "p < .001" if value < 0.001 else f"p = {value:.3f}".replace("0.", ".")


def pretty(metric: str) -> str:
    """``ndcg@10`` as people write it."""
    name, _, k = metric.partition("@")
    words = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "f1": "F1", "long_tail": "long tail", "popularity_lift": "popularity lift", "gini": "Gini"}
    text = words.get(name, name)
    return (text if text[0].isupper() else text[0].upper() + text[1:]) + (f"@{k}" if k else "")


def _systems_table(funnel: Mapping[str, Any]) -> dict[str, Any]:
    """Every system by every metric at every k."""
    systems = funnel.get("systems", [])
    ks = funnel.get("ks", [])
    if not systems:
        return {}
    names = [name for name in (*RANKING, *LIST_METRICS) if any(f"{name}@{k}" in systems[0]["metrics"] for k in ks)]
    few = [name for name in names if name in (*RANKING, *LIST_METRICS[:4])]
    k = 10 if 10 in ks else ks[0]
    return {
        "ks": ks,
        "final": [{"name": pretty(name), "cells": [systems[0]["metrics"].get(f"{name}@{k}") for k in ks]} for name in names],
        "k": k,
        "columns": [pretty(name) for name in few],
        "all": [{"name": one["system"], "cells": [one["metrics"].get(f"{name}@{k}") for name in few]} for one in systems],
    }


def _protocol(judged: Mapping[str, Any]) -> dict[str, Any]:
    """One protocol as a table: all questions and each group."""
    metrics = [name for name in ("ndcg@10", "recall@10", "hit@10", "mrr@10", "recall@20") if name in judged["metrics"]] or list(judged["metrics"])[:5]
    rows = [{"name": "all", "questions": judged["questions"], "cells": [judged["metrics"][name] for name in metrics]}]
    for group, one in judged["groups"].items():
        if one["questions"]:
            rows.append({"name": group, "questions": one["questions"], "cells": [one["metrics"].get(name) for name in metrics]})
    return {
        "name": judged["protocol"],
        "system": judged["system"],
        "label": judged["label"],
        "questions": judged["questions"],
        "users": judged["users"],
        "columns": [pretty(name) for name in metrics],
        "rows": rows,
    }


def _training(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for model in models:
        drawn: list[Markup] = []
        for values, label in ((model.get("loss", []), "training loss"), (model.get("score", []), str(model.get("score_name", "score")))):
            if len(values):
                curve = {"name": label, "x": list(range(1, len(values) + 1)), "y": values, "dots": True}
                if label != "training loss" and model.get("best") is not None:
                    curve["mark"] = int(model["best"])
                drawn.append(plots.lines([curve], f"{label} of {model['name']}", "epoch", label, width=340, height=230))
        if drawn:
            made.append({"name": str(model["name"]), "plots": drawn})
    return made


def text_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> str:
    """A table for the terminal: words to the left, numbers to the right; no escape codes."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [all(_is_number(row[at]) for row in rows if at < len(row)) and bool(rows) for at in range(len(headers))]
    widths = [max([_width(headers[at]), *(_width(row[at]) for row in cells)]) for at in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        padded = [_pad(value, widths[at], right[at]) for at, value in enumerate(values)]
        return "  ".join(padded).rstrip()

    lines = ([title, ""] if title else []) + [line(list(headers)), "  ".join("─" * width for width in widths)]
    return "\n".join(lines + [line(row) for row in cells])


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):  # an interval
        text = interval(value)
        return number(value.get("value")) + (f" {text}" if text else "")
    if value is None or isinstance(value, float):
        return number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "".join(letter if letter.isprintable() else "�" for letter in str(value))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float, Mapping))


def _width(text: str) -> int:
    """Columns on a terminal: East Asian letters take two, combining marks none."""
    return sum(0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * max(0, width - _width(text))
    return space + text if right else text + space


def text(results: Mapping[str, Any]) -> str:
    """The whole report for the terminal: stages, tasks, lists and paired tests."""
    funnel = results.get("funnel") or {}
    parts = []
    if funnel:
        stages = [[s["name"], s.get("quota"), s["size"], s["recall"], s.get("only")] for s in funnel["stages"]]
        title = f"{funnel['protocol']}: {funnel['questions']:,} questions, {funnel['label']}"
        parts.append(text_table(("stage", "quota", "items", "recall", "only here"), stages, title))
        kept = [[f"ranker's top {one['k']}", one["recall"]] for one in funnel["ranker_top"]]
        if funnel["survival"]:
            parts.append(text_table(("kept by pre-rank", "share"), [["right items", funnel["survival"]], *kept]))
        keys = ("auc", "grouped_auc", "log_loss", "calibration_ratio", "calibration_error")
        if funnel["tasks"]:
            rows = [[task["name"], task["rows"], *(task.get(key) for key in keys)] for task in funnel["tasks"]]
            parts.append(text_table(("task", "rows", "AUC", "grouped AUC", "log loss", "predicted/observed", "calibration error"), rows))
        table = _systems_table(funnel)
        if table:
            rows = [[row["name"], *row["cells"]] for row in table["final"]]
            parts.append(text_table(("final list", *(f"@{k}" for k in table["ks"])), rows))
            rows = [[row["name"], *(cell and cell["value"] for cell in row["cells"])] for row in table["all"]]
            parts.append(text_table((f"@{table['k']}", *table["columns"]), rows))
        rows = [
            [
                f"funnel - {row['against']}",
                pretty(row["metric"]),
                {"value": row["difference"], "low": row["low"], "high": row["high"]},
                _p(row["p_permutation"]),
            ]
            for row in funnel["comparisons"]
        ]
        if rows:
            parts.append(text_table(("paired test", "metric", "difference", "p"), rows))
    for other in results.get("also", []):
        table = _systems_table(other)
        rows = [[row["name"], *(cell and cell["value"] for cell in row["cells"])] for row in table["all"]]
        title = f"when {other.get('signal', '')} is what counts: {other['questions']:,} questions"
        parts.append(text_table((f"@{table['k']}", *table["columns"]), rows, title))
    for judged in results.get("protocols", []):
        one = _protocol(judged)
        title = f"{one['name']} ({one['system']}): {one['questions']:,} questions, {one['label']}"
        parts.append(
            text_table(("group", "questions", *one["columns"]), [[row["name"], row["questions"], *row["cells"]] for row in one["rows"]], title)
        )
    return "\n\n".join(parts)
