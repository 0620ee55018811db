"""Writes docs/board.md from bench/results/*.json: for each figure ours, what stands beside it, their ratio, the target, and whether it is met.

    python -m bench.board

Only figures of recorded runs appear; a peer's figure only where the peer ran in the same run. ``python -m bench.run`` calls this at its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, BOARD = ROOT / "bench" / "results", ROOT / "docs" / "board.md"
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One figure. ``met`` None: nothing stood beside it in that run, or there is no target."""

    name: str
    ours: str
    beside: str = "–"
    ratio: float | None = None
    target: str = "–"
    met: bool | None = None
    protocol: str = ""

    def cells(self) -> list[str]:
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}" if self.ratio < 100 else f"{self.ratio:.0f}"
        return [self.name, self.ours, self.beside, ratio, self.target, {True: "yes", False: "**no**", None: "–"}[self.met], self.protocol]


def recall(lines: Sequence[Line]) -> list[Row]:
    """Quality, CPU seconds and memory of each fit beside implicit's."""
    rows = []
    for case in dict.fromkeys(line["case"] for line in lines):
        mine = [line for line in lines if line["case"] == case and line.get("by") == "palate"]
        alike = [line for line in mine if line.get("keep", "source") == "source"]
        peers = [line for line in lines if line["case"] == case and str(line.get("by", "")).startswith("implicit")]
        metrics = [name for name in alike[0] if "@" in name and not name.startswith("served")]
        seeds = f"{len(alike)} seed{'s' if len(alike) > 1 else ''}"
        asked = "full ranking, seen items left out"
        for name in metrics:
            ours, theirs = mean(alike, name), mean(peers, name)
            apart = deviation(peers, name)
            if case.startswith("ials") and apart:
                target, bound = "≥ peer − 1 deviation", theirs - apart
            else:
                target, bound = ("≥ 0.99 ×", 0.99 * theirs) if case.startswith("ials") else ("≥ 0.98 ×", 0.98 * theirs)
            beside = f"{theirs:.4f}" + (f" ± {apart:.4f}" if apart else "")
            rows.append(Row(f"{case}: {name}", f"{ours:.4f}", *against(beside, ours, theirs, target, ours >= bound), f"{seeds}, {asked}"))
        targets = [line for line in mine if line.get("keep") == "target"]
        recbole = [line for line in lines if line["case"] == case and str(line.get("by", "")).startswith("recbole")]
        for name in metrics if targets else ():
            ours, theirs = mean(targets, name), mean(recbole, name)
            other = against(f"RecBole {theirs:.4f}", ours, theirs, "≥ 0.98 ×" if "ml100k" in case else "–", ours >= 0.98 * theirs)
            rows.append(Row(f"{case}, keep = target: {name}", f"{ours:.4f}", *other, f"each target's neighbours are kept; {asked}"))
        most = {"ials-ml100k": 1.0, "ials-ml100k-weak": 1.0, "ials-gowalla": 1.0, "itemcf-gowalla": 1.5}.get(case)
        ours, theirs = mean(alike, "cpu_seconds"), mean(peers, "cpu_seconds")
        jit = f"compilation apart: {alike[0]['jit_seconds']:.1f} s"
        limit = f"≤ {most:.1f} ×" if most else "–"
        met = ours <= most * theirs if most else None
        rows.append(Row(f"{case}: CPU s of the fit", f"{ours:.2f}", *against(f"{theirs:.2f}", ours, theirs, limit, met), jit))
        if peers:
            added = [group[0]["rss_fit_mb"] - group[0]["rss_before_mb"] for group in (alike, peers)]
            limit, met = ("≤ 1.0 ×", added[0] <= added[1]) if case == "itemcf-gowalla" else ("–", None)
            ratio = added[0] / added[1] if added[1] > 0 else None
            rows.append(
                Row(f"{case}: MB the fit added", f"{added[0]:.0f}", f"{added[1]:.0f}", ratio, limit, met, "peak resident size, before and after")
            )
        rows.append(Row(f"{case}: one request, p50 µs", f"{mean(alike, 'request_p50_us'):.0f}", protocol="history of up to 200 items, 200 wanted"))
    return rows


def rank(lines: Sequence[Line]) -> list[Row]:
    """DeepFM's AUC and speed beside RecBole's, and what a request costs with and without halves."""
    rows = []
    fits = [line for line in lines if line["bench"] == "deepfm_ml100k_ctr"]
    seeds, peers = [line for line in fits if "seed" in line], [line for line in fits if line.get("peer") == "recbole"]
    how = f"mean of {len(seeds)} seeds, the peer one; same fields, widths, dropout, batch; early stop on validation rows"
    ours, theirs = mean(seeds, "test_auc"), mean(peers, "test_auc")
    beside = against(f"{theirs:.4f}", ours, theirs, "≥ −.001", ours >= theirs - 0.001)
    rows.append(Row("DeepFM: test AUC", f"{ours:.4f}", *beside, how))
    ours, theirs = mean(seeds, "rows_per_cpu_second"), mean(peers, "rows_per_cpu_second")
    beside = against(f"{theirs:,.0f}", ours, theirs, "≥ 1.5 ×", ours >= 1.5 * theirs)
    rows.append(Row("DeepFM: rows a CPU second", f"{ours:,.0f}", *beside, "training only, scoring taken off"))
    for line in lines:
        if line["bench"] == "deepfm_request_300":
            both = line["halves_us"], line["whole_us"]
            kind = "beside: everything computed for each candidate"
            rows.append(Row("DeepFM: 300 candidates, µs", f"{both[0]}", f"{both[1]}", both[0] / both[1], protocol=kind))
    return rows


def ctr(lines: Sequence[Line]) -> list[Row]:
    """Each ranker on each data set, beside what a peer has; rows a CPU second beside a peer of the same run."""
    from palate.reproduce import ROWS

    rows = []
    for row in ROWS:
        mine = [line for line in lines if line["row"] == row.name and line["by"] == "palate"]
        if not mine:
            continue
        peers = [line for line in lines if line["row"] == row.name and line["by"] != "palate"]
        seeds = f"{len(mine)} seed{'s' if len(mine) > 1 else ''}"
        cost = f"{mean(mine, 'cpu_seconds'):.0f} CPU s, peak {mean(mine, 'peak_mb'):.0f} MB"
        for name in [name for name in mine[0] if name.partition(":")[0] in ("auc", "rmse")]:
            ours, apart = mean(mine, name), deviation(mine, name)
            shown = f"{ours:.4f}" + (f" ± {apart:.4f}" if apart else "")
            title = f"{row.model} on {row.case}: {name.replace(':', ' ')}"
            if name in row.theirs:
                theirs = row.theirs[name]
                target, met = (f"≥ −{row.within:g}", ours >= theirs - row.within) if row.within is not None else ("–", None)
                rows.append(Row(title, shown, f"{row.source.split(',')[0]} {theirs:.4f}", ours / theirs, target, met, f"{seeds}; {cost}"))
            elif "minus_deepfm" in mine[0]:
                line = mine[-1]  # of all seeds
                for short, whose in {"plain": "DeepFM without histories", "deepfm": "DeepFM with them pooled"}.items():
                    more, low, high = (line[f"{key}_{short}"] for key in ("minus", "low", "high"))
                    how = f"{seeds}; difference {more:+.4f} [{low:+.4f}, {high:+.4f}]; {cost}"
                    rows.append(Row(title, shown, f"{whose} {ours - more:.4f}", ours / (ours - more), "above it, 95 % sure", low > 0, how))
            else:
                rows.append(Row(title, shown, protocol=f"{seeds}; {cost}"))
        rate, name = SPEED.get(row.model), "rows_per_cpu_second"
        timed = [line for line in peers if name in line]
        if rate and timed:
            ours, theirs = mean(mine, name), mean(timed, name)
            beside = against(f"{timed[0]['by']} {theirs:,.0f}", ours, theirs, f"≥ {rate:g} ×", ours >= rate * theirs)
            rows.append(Row(f"{row.model} on {row.case}: rows a CPU second", f"{ours:,.0f}", *beside, "same widths, dropout and batch; one thread"))
        if row.model == "FFM" and peers:
            ours, theirs = mean(mine, "cpu_seconds"), mean(peers, "cpu_seconds")
            beside = against(f"{peers[0]['by']} {theirs:.2f}", ours, theirs, "≤ 2 ×", ours <= 2 * theirs)
            rows.append(Row(f"{row.model} on {row.case}: CPU s of a whole fit", f"{ours:.2f}", *beside, "one thread"))
    return rows


def calibration(lines: Sequence[Line]) -> list[Row]:
    """Calibration errors with few negatives kept."""
    rows = []
    for line in lines:
        how = f"{line['task']}; {line['trained_on']:,} rows; AUC {line['auc']:.4f}"
        beside = f"uncorrected {line['error_uncorrected']:.4f}" if "error_uncorrected" in line else "–"
        ratio = line["error"] / line["error_uncorrected"] if line.get("error_uncorrected") else None
        rows.append(Row(f"{line['case']}, {line['rows']}: calibration error", f"{line['error']:.4f}", beside, ratio, protocol=how))
    return rows


def rankers(lines: Sequence[Line]) -> list[Row]:
    """The funnel's final list with other rankers."""
    rows = []
    for line in lines:
        how = f"seed {line['seed']}; {line['users']} users; validation {line['validation']}; {line['cpu_seconds']:.0f} CPU s"
        if "minus_deepfm" in line:
            base = line["ndcg@10"] - line["minus_deepfm"]
            gap = f"; difference {line['minus_deepfm']:+.4f} [{line['low']:+.4f}, {line['high']:+.4f}]"
            rows.append(Row(f"{line['model']}: NDCG@10", f"{line['ndcg@10']:.4f}", f"DeepFM {base:.4f}", line["ndcg@10"] / base, protocol=how + gap))
        else:
            rows.append(Row(f"{line['model']}: NDCG@10", f"{line['ndcg@10']:.4f}", protocol=how))
    return rows


def routes(lines: Sequence[Line]) -> list[Row]:
    """Merged recall and the final list with more routes."""
    rows = []
    for line in lines:
        with_ = "with " + ", ".join(line["routes"]) if line["routes"] else "as it is"
        how = f"seed {line['seed']}; {line['users']} users; {line['merged_candidates']:.0f} candidates a request; {line['cpu_seconds']:.0f} CPU s"
        for key, name in {"merged_recall": "merged recall", "ndcg@10": "final NDCG@10"}.items():
            if f"more:{key}" not in line:
                rows.append(Row(f"{with_}: {name}", f"{line[key]:.4f}", protocol=how))
                continue
            more, low, high = line[f"more:{key}"]
            before = line[key] - more
            gap = f"{how}; difference {more:+.4f} [{low:+.4f}, {high:+.4f}]"
            rows.append(Row(f"{with_}: {name}", f"{line[key]:.4f}", f"as it is {before:.4f}", line[key] / before, protocol=gap))
    return rows


def requests(lines: Sequence[Line]) -> list[Row]:
    """What a request costs that searches a long history."""
    rows = []
    for line in lines:
        over = line.get("over_din")
        beside: tuple[str, float | None, str, bool | None] = ("DIN, 100 events", over, "≤ 2 ×", over <= 2) if over else ("–", None, "–", None)
        rows.append(Row(line["system"], f"{line['milliseconds']:.1f} ms", *beside))
    return rows


def step(lines: Sequence[Line]) -> list[Row]:
    """A training step as the tables grow."""
    rows = []
    for line in lines:
        if "system" in line:
            shown = f"{line['milliseconds']:.0f} ms"
            rows.append(Row(f"{line['system']}, {line['rows']:,} rows a field", shown, protocol=f"{line['rows_per_cpu_second']:,} rows a CPU second"))
        else:
            growth, ratio = line["largest_over_smallest"], line["speed_ratio_to_dense"]
            rows.append(Row("largest tables against smallest", f"{growth:.2f} ×", target="≤ 1.3 ×", met=growth <= 1.3))
            rows.append(Row("rows a second against dense tables", f"{ratio:.2f} ×", target="≥ 1.4 ×", met=ratio >= 1.4))
    return rows


def stream(lines: Sequence[Line]) -> list[Row]:
    """Peak memory of training from files."""
    rows = []
    for line in lines:
        how = f"{line['files_gb']} GB of files; {line['rows_per_cpu_second']:,} rows a CPU second"
        rows.append(Row(f"{line['rows']:,} rows: peak GB", f"{line['peak_gb']:.2f}", target="≤ 4", met=line["peak_gb"] <= 4, protocol=how))
    return rows


SPEED = {"DeepFM": 1.5, "DCNv2": 1.5, "WideDeep": 1.2, "MMoE": 2.0}  #: times the peer's rows a CPU second that are owed


def index(lines: Sequence[Line]) -> list[Row]:
    """Of each index the quickest point with recall@100 of .95 or more, and the default one."""
    rows = []
    for name in dict.fromkeys(line["vectors"] for line in lines):
        some = [line for line in lines if line["vectors"] == name and not line.get("in_bulk")]
        exact = next(line for line in some if line["index"] == "Exact")
        for kind, bits in dict.fromkeys((line["index"], line["bits"]) for line in some if line["index"] != "Exact"):
            points = [line for line in some if (line["index"], line.get("bits")) == (kind, bits)]
            good = [line for line in points if line["recall"] >= 0.95]
            best = max(good, key=lambda line: line["ratio"]) if good else max(points, key=lambda line: line["recall"])
            for line in points:
                if line is not best and not line["default"]:
                    continue
                option = next(f"{key} {line[key]}" for key in ("probes", "search") if key in line)
                marks = [mark for mark, here in (("default", line["default"]), ("quickest at ≥ .95", line is best and bool(good))) if here]
                judged = line["recall"] >= 0.95 and line["ratio"] >= 10 if line["items"] >= 100_000 else None
                rows.append(
                    Row(
                        f"{name}: {kind}, {bits} bits, {option}",
                        f"recall {line['recall']:.3f}, {line['per_cpu_second']:,}/s",
                        f"Exact {exact['per_cpu_second']:,}/s",
                        line["ratio"],
                        "recall ≥ .95, ≥ 10 ×" if judged is not None else "–",
                        judged,
                        f"{line['items']:,} x {line['dim']}; {' and '.join(marks) or 'best recall'}",
                    )
                )
    return rows


def serving(lines: Sequence[Line]) -> list[Row]:
    """Latency and throughput of the service, beside libserving where it ran."""
    rows = []
    for line in lines:
        if line["system"] != "palate":
            continue
        peers = [other for other in lines if other["system"] != "palate" and other["concurrency"] == line["concurrency"]]
        clients = f"{line['concurrency']} client{'s' if line['concurrency'] > 1 else ''}"
        how = f"{line['dataset']}; page log {'on' if line['page_log'] else 'off'}; load {line['load1']}"
        for name, most in (("p50_ms", 1.0), ("p99_ms", 1.0)):
            ours, theirs = line[name], mean(peers, name)
            judged = line["concurrency"] == 1
            beside = against(f"{theirs:.1f}", ours, theirs, f"≤ {most:.1f} ×" if judged else "–", ours <= most * theirs if judged else None)
            rows.append(Row(f"{clients}: {name.replace('_', ' ')}", f"{ours:.1f}", *beside, how))
        ours, theirs = line["qps"], mean(peers, "qps")
        judged = line["concurrency"] == 16
        beside = against(f"{theirs:.0f}", ours, theirs, "≥ 0.6 ×" if judged else "–", ours >= 0.6 * theirs if judged else None)
        rows.append(Row(f"{clients}: pages a second", f"{ours:.0f}", *beside, how))
        if "cpu_ms_per_request" in line:
            rows.append(Row(f"{clients}: CPU ms a page", f"{line['cpu_ms_per_request']:.1f}", protocol=how))
    return rows


def funnel(lines: Sequence[Line]) -> list[Row]:
    """The final list beside the best single route, by case and seed."""
    rows = []
    done = [line for line in lines if "system" in line]
    for case, seed in dict.fromkeys((line["case"], line["seed"]) for line in done):
        some = [line for line in done if (line["case"], line["seed"]) == (case, seed)]
        whole = next(line for line in some if line["system"] == "funnel")
        routes = [line for line in some if "funnel_minus_route" in line]
        best = max(routes, key=lambda line: line["ndcg@10"])
        gap = f"difference {best['funnel_minus_route']:+.4f} [{best['low']:+.4f}, {best['high']:+.4f}]"
        how = f"seed {seed}; {whole['users']:,} users; {gap}"
        met = all(line["low"] > 0 for line in routes)
        values = whole["ndcg@10"], best["ndcg@10"]
        beside = f"{best['system']} {values[1]:.4f}"
        ratio = values[0] / values[1] if values[1] else None
        rows.append(Row(f"{case}: NDCG@10", f"{values[0]:.4f}", beside, ratio, "above every route, 95 % sure", met, how))
        optimum = next((line for line in some if line["system"] == "optimum"), None)
        if optimum is not None:
            name = "expected_click_rate@10"
            both = whole[name], optimum[name]
            kind = "known probability of a click, mean of the first ten"
            rows.append(Row(f"{case}: expected clicks", f"{both[0]:.4f}", f"optimum {both[1]:.4f}", both[0] / both[1], protocol=kind))
    return rows


def worlds(lines: Sequence[Line]) -> list[Row]:
    """Each model in its own world and in the null world, beside the plain alternative."""
    rows = []
    for line in lines:
        how = f"{line['figure']}{', less is better' if line['figure'] == 'error' else ''}; n = {line['size']:,}; {line['cpu_seconds']:.1f} CPU s"
        values = f"{line['ours']:.3f}", f"{line['plain']} {line['theirs']:.3f}"
        target = f"margin {line['margin']:+.3f} > {line['stated']:+.3f}"
        rows.append(Row(f"{line['model']}: {line['world']}", *values, target=target, met=line["margin"] > line["stated"], protocol=how))
    return rows


def scale(lines: Sequence[Line]) -> list[Row]:
    """Time and memory of the large world, and a request's p99 beside that of the small one."""
    rows = []
    worlds = [line for line in lines if line["stage"] == "whole"]
    how = f"{worlds[-1]['users']:,} users, {worlds[-1]['items']:,} items, {worlds[-1]['events']:,} events" if worlds else ""
    full = bool(worlds) and worlds[-1]["events"] >= 20_000_000
    for line in lines:
        if line["stage"] == "summary":
            for name, most in (("minutes", 60), ("peak_gb", 16)):
                target, met = (f"≤ {most}", line[name] <= most) if full else ("–", None)
                rows.append(Row(name.replace("_", " ").replace("gb", "GB"), f"{line[name]}", target=target, met=met, protocol=how))
            if "p99_ratio" in line:
                small, large = line["p99_ms"]
                kind = "one client, in process; beside: the small world"
                target, met = ("≤ 3 ×", line["p99_ratio"] <= 3) if full else ("–", None)
                rows.append(Row("a request's p99, ms", f"{large}", f"{small}", line["p99_ratio"], target, met, kind))
    return rows


@dataclass(frozen=True)
class Area:
    title: str
    rows: Callable[[Sequence[Line]], list[Row]]
    protocol: str


#: who says what of the rows of these benches, by case and model: Recall and NDCG (or HR, P and MRR) of the places that the case asks for
SAID: dict[str, tuple[str, dict[str, float]]] = {
    "ml100k LightGCN": ("RecBole", {"recall@10": 0.2379, "ndcg@10": 0.2834, "cpu_seconds": 54.6}),
    "ml100k MultVAE": ("cornac", {"recall@10": 0.2470, "ndcg@10": 0.2702, "cpu_seconds": 19.0}),
    "ml100k NeuMF": ("RecBole", {"recall@10": 0.2131, "ndcg@10": 0.2556, "cpu_seconds": 18.1}),
    "ml100k GRU4Rec": ("official port", {"recall@10": 0.1824, "ndcg@10": 0.0950, "cpu_seconds": 71.0}),
    "ml100k SASRec": ("RecTools", {"recall@10": 0.1357, "ndcg@10": 0.0688, "cpu_seconds": 135.0}),
    "gowalla LightGCN": ("BARS", {"recall@20": 0.1820, "ndcg@20": 0.1547}),
    "gowalla SimpleX": ("BARS", {"recall@20": 0.1872, "ndcg@20": 0.1557}),
    "gowalla MultVAE": ("BARS", {"recall@20": 0.1641, "ndcg@20": 0.1335}),
    "gowalla NeuMF": ("BARS", {"recall@20": 0.1399, "ndcg@20": 0.1212}),
    "gowalla YouTubeDNN": ("BARS", {"recall@20": 0.1754, "ndcg@20": 0.1473}),
    "ml1m SASRec-one": ("gSASRec's authors", {"recall@10": 0.2392, "ndcg@10": 0.1259}),
    "ml1m SASRec-gbce": ("gSASRec's authors", {"recall@10": 0.3003, "ndcg@10": 0.1726}),
    "beauty SASRec-one": ("S3-Rec's authors", {"recall@10": 0.0605, "ndcg@10": 0.0318}),
    "diginetica GRU4Rec": ("official port", {"recall@20": 0.4995, "mrr@20": 0.1542}),
    "diginetica SRGNN": ("SR-GNN's authors", {"recall@20": 0.5073, "mrr@20": 0.1759}),
}


#: what a fit may cost, as a share of the CPU seconds of a peer of the same run
SHARES = {"EASE": 1.0, "SLIM": 1 / 3, "BPR": 1.0, "LightGCN": 0.25, "NeuMF": 0.25, "MultVAE": 1.0}
SOONER = {"SASRec": 1 / 3, "GRU4Rec": 1.0}  #: the same, until the validation rows show the peer's NDCG@10


def recalled(lines: Sequence[Line]) -> list[Row]:
    """Quality, CPU seconds, memory of each model on each case, mean and deviation over seeds and folds; judged beside a peer of the same run."""
    rows = []
    mine = [line for line in lines if line.get("by") == "palate" and "mean_of" not in line]
    for case, model in dict.fromkeys((line["case"], line["model"]) for line in mine):
        some = [line for line in mine if (line["case"], line["model"]) == (case, model)]
        peers = [line for line in lines if line.get("by") != "palate" and (line["case"], line.get("model")) == (case, model)]
        who, said = next(iter(some[0].get("peer", {}).items()), SAID.get(f"{case} {model}", ("", {})))
        runs = f"{len(some)} run{'s' if len(some) > 1 else ''}"
        for key in [key for key in some[0] if "@" in key or key in ("rmse", "cpu_seconds")]:
            ours, apart = mean(some, key), deviation(some, key)
            shown = (f"{ours:.2f}" if key == "cpu_seconds" else f"{ours:.4f}") + (f" ± {apart:.4f}" if apart else "")
            if peers and key in peers[0]:
                theirs, share = mean(peers, key), SHARES.get(model)
                if key == "cpu_seconds":
                    target, met = (f"≤ {share:.2g} ×", ours <= share * theirs) if share else ("–", None)
                else:
                    target, met = ("≤ 1.01 ×", ours <= 1.01 * theirs) if key == "rmse" else ("≥ 0.99 ×", ours >= 0.99 * theirs)
                rows.append(Row(f"{case} {model}: {key}", shown, f"{peers[0]['by']} {theirs:g}", ours / theirs, target, met, f"{runs}, the peer one"))
            elif key in said:
                recorded, least = f"{runs}; the other's figure is a recorded one", 0.98 if "gowalla" in case else 0.99
                target, met = ("≤ 1 ×", ours <= said[key]) if key == "rmse" else (f"≥ {least} ×", ours >= least * said[key])
                if key == "cpu_seconds":  # of another day
                    target, met = "–", None
                rows.append(Row(f"{case} {model}: {key}", shown, f"{who} {said[key]:g}", ours / said[key], target, met, recorded))
            else:
                rows.append(Row(f"{case} {model}: {key}", shown, protocol=runs))
        if model in SOONER and (peers or "cpu_seconds" in said) and all("reached" in line for line in some):
            wanted, theirs = (mean(peers, key) if peers else said[key] for key in ("ndcg@10", "cpu_seconds"))
            firsts = [next((seconds for seconds, score in line["reached"] if score >= wanted), float("inf")) for line in some]
            ours, share = sum(firsts) / len(firsts), SOONER[model]
            beside = against(f"{peers[0]['by'] if peers else who} {theirs:g}", ours, theirs, f"≤ {share:.2g} ×", ours <= share * theirs)
            rows.append(Row(f"{case} {model}: CPU s to the peer's ndcg@10", f"{ours:.1f}", *beside, f"{runs}; ours on the validation rows"))
        if peers:
            ours, theirs = max(float(line.get("rss_fit_mb") or line["peak_mb"]) for line in some), mean(peers, "peak_mb")
            beside = against(f"{peers[0]['by']} {theirs:.0f}", ours, theirs, "≤ 1 ×", ours <= theirs)
            rows.append(Row(f"{case} {model}: peak MB", f"{ours:.0f}", *beside, "whole processes"))
    return rows


AREAS = {
    "recall": Area(
        "Recall models",
        recall,
        "iALS and ItemCF beside implicit. ML-100K: 8:1:1 within each user, k = 10; Gowalla: LightGCN's split, k = 20. Every item is ranked. "
        "Each fit in a process of its own on one thread; settings are the peer's. `weak` is a second, lightly regularised setting.",
    ),
    "factor": Area(
        "Factor models",
        recalled,
        "ML-100K: 8:1:1 within each user, every item ranked, seen ones left out. Ratings: RMSE of ML-1M's and ML-100K's held-out folds.",
    ),
    "collaborative": Area(
        "Autoencoders, graphs, neural models",
        recalled,
        "ML-100K: 8:1:1 within each user, k = 10; Gowalla: LightGCN's split, k = 20; music: Amazon's, three interactions an "
        "item, for the contrastive models beside LightGCN: the latest item of each user, or a random fifth of all, k = 20. Every item is ranked.",
    ),
    "sequences": Area(
        "Lists in order",
        recalled,
        "The last item of each list is asked for among all; ml1m: gSASRec's validation users; diginetica: every prefix of the test sessions.",
    ),
    "rank": Area(
        "Ranker",
        rank,
        "DeepFM beside RecBole's on MovieLens-100K (rating of 4 or more, random 8:1:1, 8 fields), one thread. The test rows are looked at once.",
    ),
    "ctr": Area(
        "Rankers",
        ctr,
        "Every ranker on data sets with fixed parts (`palate reproduce --list`), early stop on the validation rows, the test rows looked at once "
        "(twice for those of ml1m that are trained for eight epochs); mean ± deviation over seeds. Peers' figures of quality are those recorded "
        "on the same split, not of this run; where a row compares speed the peer ran in this run. ml1m: AutoInt's rule with the user's 50 films "
        "before the row; DeepFM reads them pooled. ml1m-new: the same rows parted by users, who are not known by id; the 50 films are those "
        "clicked.",
    ),
    "rankers": Area(
        "The funnel with other rankers",
        rankers,
        "MovieLens-100K, `recipes/movielens.toml` with another [models.ranker]; warm users, history fixed at the cut, every item ranked.",
    ),
    "routes": Area(
        "The funnel with more routes",
        routes,
        "MovieLens-100K, `recipes/movielens.toml` with more [[recall]] of 100 candidates each; warm users, history fixed at the cut.",
    ),
    "worlds": Area(
        "Mechanism worlds",
        worlds,
        "The worlds of the tests with more rows (n; lists or users where a world is made of those). Where a model's idea must win the margin it "
        "must have is above 0, where it must not lose below; it is stated for the test's size and not demanded here.",
    ),
    "calibration": Area(
        "Few negatives",
        calibration,
        "Expected calibration error (ten bins) on the test rows; `uncorrected`: the same answers without ln(rate) in the logit.",
    ),
    "step": Area(
        "A step", step, "26 fields of 16 entries, batch 4,096, a tower (256, 128), median of 15 steps, one thread; dense: one table a field."
    ),
    "requests": Area("A request", requests, "One user, 300 candidates, one thread, CPU time; the ratio is the median of 60 turns."),
    "stream": Area("Rows in files", stream, "26 categories of 100,000 values, an MLP, one epoch, one thread; the peak is the training process's."),
    "index": Area(
        "Vector indexes",
        index,
        "Recall@100 against every vector compared, inner product, one query at a time, one thread, queries a CPU second, best of three rounds. "
        "`made`: vectors shaped like trained ones; `gowalla`: iALS vectors.",
    ),
    "serving": Area(
        "Service",
        serving,
        "The whole funnel over HTTP in one process (recall, ranker, re-rank), pages of 10, kept-alive connections, client on the same machine.",
    ),
    "funnel": Area(
        "Funnel",
        funnel,
        "The final list beside every route of its own: users who were there before the cut, history fixed at the cut, every item ranked, "
        "differences paired by user with 95 % bootstrap intervals.",
    ),
    "scale": Area("Scale", scale, "The synthetic world; features, all models, indexes and requests, on the threads that the recorded command names."),
}


def mean(lines: Iterable[Line], name: str) -> float:
    """NaN of none."""
    values = [float(line[name]) for line in lines]
    return sum(values) / len(values) if values else float("nan")


def deviation(lines: Sequence[Line], name: str) -> float:
    """Over seeds; 0 of one."""
    middle = mean(lines, name)
    return (sum((float(line[name]) - middle) ** 2 for line in lines) / (len(lines) - 1)) ** 0.5 if len(lines) > 1 else 0.0


def against(beside: str, ours: float, theirs: float, target: str, met: bool | None) -> tuple[str, float | None, str, bool | None]:
    """Beside, ratio, target, met; where the peer did not run nothing is judged."""
    return (beside, ours / theirs, target, met) if theirs == theirs else ("–", None, target, None)


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The board as Markdown. ``results`` by name, as ``bench.run`` records them."""
    text = [
        "# The board",
        "",
        "Written by `python -m bench.run` from `bench/results/*.json`; do not edit. Figures are of our own runs only, and a peer's figure stands "
        "here only if the peer ran in the same run on the same machine, but where a section says otherwise. "
        "Time is CPU seconds on one thread unless a row says otherwise: "
        "the machines are shared, so read ratios. `–` under *met*: no target, or nothing ran beside it.",
    ]
    for name, area in AREAS.items():
        if name not in results:
            continue
        found = results[name]
        machine = found["machine"]
        versions = ", ".join(f"{library} {version}" for library, version in machine["libraries"].items())
        text += ["", f"## {area.title}", "", area.protocol, ""]
        text += ["| row | ours | beside | ratio | target | met | protocol |", "|---|---|---|---|---|---|---|"]
        text += [f"| {' | '.join(cell.replace('|', '/') for cell in row.cells())} |" for row in area.rows(found["lines"])]
        load = found.get("note") or f"load {machine['load_before']} before and {machine['load_after']} after"
        text += ["", f"`{found['command']}` on {machine['cores']} cores ({machine['machine']}), Python {machine['python']}, {versions}; {load}."]
    return "\n".join(text) + "\n"


def write(results: Path = RESULTS, board: Path = BOARD) -> None:
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(results.glob("*.json")) if path.stem in AREAS}
    board.write_text(page(found), "utf-8")


if __name__ == "__main__":
    write()
