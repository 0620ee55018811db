"""The bench keeps what it measures and the board says it truly: from recorded lines, and from one real (small) measurement."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bench import board, peers, run
from bench.clock import Clock
from palate.training.trainer import Progress
from tests.conftest import Beats

MACHINE = {
    "cores": 2,
    "machine": "x86_64",
    "python": "3.11.7",
    "libraries": {"numpy": "2.3.0"},
    "load_before": 0.1,
    "load_after": 1.2,
}


def recorded(folder: Path, name: str, lines: list[dict[str, Any]]) -> None:
    result = {"command": f"python -m bench.{name}", "seconds": 1.0, "machine": MACHINE, "lines": lines}
    (folder / f"{name}.json").write_text(json.dumps(result), "utf-8")


def table(folder: Path) -> dict[str, list[str]]:
    """The rows of the written board by their first cell."""
    board.write(folder, folder / "board.md")
    rows = [line.strip("|").split(" | ") for line in (folder / "board.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert all(len(row) == 7 for row in rows)
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def fit(case: str, by: str, seconds: float, quality: float, added: float = 10.0, **more: Any) -> dict[str, Any]:
    line = {"case": case, "by": by, "cpu_seconds": seconds, "rss_before_mb": 100.0, "rss_fit_mb": 100.0 + added, "recall@10": quality, **more}
    return line | ({"jit_seconds": 0.5, "request_p50_us": 70.0, "served_recall@10": 0.9} if by == "palate" else {})


def test_fits_are_judged_against_the_peer_of_the_same_run(tmp_path: Path) -> None:
    lines = [fit("ials-ml100k", "palate", 1.0, quality) for quality in (0.270, 0.272)]
    lines += [fit("ials-ml100k", "implicit 0.7.3", 2.0, quality) for quality in (0.270, 0.274)]
    lines += [fit("itemcf-gowalla", "palate", 3.2, 0.11, 30.0, keep="source"), fit("itemcf-gowalla", "palate", 9.9, 0.2, keep="target")]
    lines += [fit("itemcf-gowalla", "implicit 0.7.3", 2.0, 0.11, 20.0), {"case": "ials-ml100k", "compared": "palate / implicit", "cpu_ratio": 9}]
    lines += [fit("itemcf-ml100k", "palate", 1.0, 0.20, keep="source"), fit("itemcf-ml100k", "palate", 1.0, 0.23, keep="target")]
    lines += [{"case": "itemcf-ml100k", "by": "recbole-1.2.1", "keep": "target", "cpu_seconds": 1.0, "recall@10": 0.24}]
    recorded(tmp_path, "recall", lines)
    rows = table(tmp_path)
    assert rows["itemcf-ml100k, keep = target: recall@10"][:5] == ["0.2300", "RecBole 0.2400", "0.96", "≥ 0.98 ×", "**no**"]
    assert rows["itemcf-ml100k: recall@10"][:5] == ["0.2000", "–", "–", "≥ 0.98 ×", "–"]
    assert rows["ials-ml100k: recall@10"][:5] == ["0.2710", "0.2720 ± 0.0028", "1.00", "≥ peer − 1 deviation", "yes"]
    assert rows["ials-ml100k: CPU s of the fit"][:5] == ["1.00", "2.00", "0.50", "≤ 1.0 ×", "yes"]
    assert rows["itemcf-gowalla: CPU s of the fit"][:5] == ["3.20", "2.00", "1.60", "≤ 1.5 ×", "**no**"]  # the other way of keeping is not counted
    assert rows["itemcf-gowalla: MB the fit added"][:5] == ["30", "20", "1.50", "≤ 1.0 ×", "**no**"]
    assert not any("served" in name for name in rows)


def test_what_a_fit_costs_is_judged_beside_a_peer_that_ran_and_not_beside_a_recorded_figure(tmp_path: Path) -> None:
    ours = [
        {"case": "ml100k", "by": "palate", "model": "LightGCN", "seed": n, "cpu_seconds": 3.0, "rss_fit_mb": 400.0, "ndcg@10": 0.3} for n in (0, 1)
    ]
    peer = {"case": "ml100k", "by": "recbole-1.2.1", "model": "LightGCN", "cpu_seconds": 10.0, "peak_mb": 390.0, "ndcg@10": 0.28}
    recorded(tmp_path, "collaborative", [*ours, peer])
    rows = table(tmp_path)
    assert rows["ml100k LightGCN: ndcg@10"][:5] == ["0.3000", "recbole-1.2.1 0.28", "1.07", "≥ 0.99 ×", "yes"]
    assert rows["ml100k LightGCN: cpu_seconds"][:5] == ["3.00", "recbole-1.2.1 10", "0.30", "≤ 0.25 ×", "**no**"]
    assert rows["ml100k LightGCN: peak MB"][:5] == ["400", "recbole-1.2.1 390", "1.03", "≤ 1 ×", "**no**"]
    recorded(tmp_path, "collaborative", ours)
    assert table(tmp_path)["ml100k LightGCN: ndcg@10"][1:5] == ["RecBole 0.2834", "1.06", "≥ 0.99 ×", "yes"]
    assert table(tmp_path)["ml100k LightGCN: cpu_seconds"][3:5] == ["–", "–"]
    recorded(tmp_path, "collaborative", [{**ours[0], "case": "gowalla", "recall@20": 0.1783, "ndcg@20": 0.1547}])
    assert table(tmp_path)["gowalla LightGCN: recall@20"][1:5] == ["BARS 0.182", "0.98", "≥ 0.98 ×", "**no**"]


def test_how_soon_a_peer_s_figure_is_reached(tmp_path: Path) -> None:
    same = {"case": "ml100k", "model": "SASRec", "peak_mb": 1.0}
    ours = [
        {**same, "by": "palate", "seed": seed, "cpu_seconds": 90.0, "ndcg@10": 0.1, "reached": [[10.0, 0.05], [20.0 + seed, 0.07], [30.0, 0.06]]}
        for seed in (0, 2)
    ]
    recorded(tmp_path, "sequences", [*ours, {**same, "by": "rectools-0.19.0", "cpu_seconds": 60.0, "ndcg@10": 0.07}])
    assert table(tmp_path)["ml100k SASRec: CPU s to the peer's ndcg@10"][:5] == ["21.0", "rectools-0.19.0 60", "0.35", "≤ 0.33 ×", "**no**"]


def test_a_peer_s_line_stays_until_another_comes() -> None:
    ours, one, other = ({"by": by, "case": "ml100k", "model": model} for by, model in (("palate", "EASE"), ("lenskit", "EASE"), ("cornac", "BPR")))
    assert peers.earlier([ours, one, other], [ours]) == [one, other]
    assert peers.earlier([ours, one, other], [ours, {**one, "cpu_seconds": 1.0}]) == [other]
    assert peers.earlier([], [{"system": "exact"}]) == []


def test_a_world_s_line_stays_until_it_is_judged_again() -> None:
    one, two = ({"model": "DIN", "plain": "MLP", "world": world, "figure": "AUC", "ours": 0.8} for world in ("where it wins", "where it loses"))
    assert run.others([one, two], [{**one, "ours": 0.9}]) == [two]
    assert run.others([one], [{**one, "figure": "error"}, {**one, "plain": "LR"}]) == [one]


def test_without_a_peer_nothing_is_said_to_be_met(tmp_path: Path) -> None:
    recorded(tmp_path, "recall", [fit("ials-ml100k", "palate", 1.0, 0.27)])
    recorded(tmp_path, "rank", [{"bench": "deepfm_ml100k_ctr", "seed": 0, "test_auc": 0.78, "rows_per_cpu_second": 100_000}])
    rows = table(tmp_path)
    assert rows["ials-ml100k: CPU s of the fit"][:5] == ["1.00", "–", "–", "≤ 1.0 ×", "–"]
    assert rows["DeepFM: test AUC"][:5] == ["0.7800", "–", "–", "≥ −.001", "–"]


@pytest.mark.parametrize(("auc", "rate", "met"), [(0.7801, 151_000, ("yes", "yes")), (0.7779, 149_000, ("**no**", "**no**"))])
def test_the_ranker_s_rows(tmp_path: Path, auc: float, rate: int, met: tuple[str, str]) -> None:
    lines = [{"bench": "deepfm_ml100k_ctr", "peer": "recbole", "test_auc": 0.7800, "rows_per_cpu_second": 100_000}]
    lines += [{"bench": "deepfm_ml100k_ctr", "seed": seed, "test_auc": auc, "rows_per_cpu_second": rate} for seed in (0, 1)]
    lines += [{"bench": "deepfm_ml100k_ctr", "mean_of": 2, "test_auc": 0.9, "rows_per_cpu_second": 1}]
    recorded(tmp_path, "rank", [*lines, {"bench": "deepfm_request_300", "whole_us": 1500, "halves_us": 600}])
    rows = table(tmp_path)
    assert (rows["DeepFM: test AUC"][4], rows["DeepFM: rows a CPU second"][4]) == met
    assert rows["DeepFM: 300 candidates, µs"][:3] == ["600", "1500", "0.40"]


def test_funnel_serving_and_scale(tmp_path: Path) -> None:
    shared = {"bench": "funnel", "case": "ml100k", "seed": 7, "users": 100}
    routes = [("ials", 0.20, 0.01), ("hot", 0.10, -0.01)]
    lines: list[dict[str, Any]] = [{**shared, "system": "funnel", "ndcg@10": 0.25}, {"bench": "funnel", "case": "ml1m", "left_out": "no data"}]
    lines += [{**shared, "system": name, "ndcg@10": value, "funnel_minus_route": 0.05, "low": low, "high": 0.1} for name, value, low in routes]
    recorded(tmp_path, "funnel", lines)
    served = {"system": "palate", "dataset": "movielens", "page_log": True, "load1": 0.5, "concurrency": 1}
    recorded(
        tmp_path,
        "serving",
        [{**served, "p50_ms": 3.0, "p99_ms": 9.0, "qps": 300.0}, {"system": "peer", "concurrency": 1, "p50_ms": 4.0, "p99_ms": 8.0, "qps": 200.0}],
    )
    whole = {"stage": "whole", "users": 1_000_000, "items": 1_000_000, "events": 20_000_000}
    recorded(tmp_path, "scale", [whole, {"stage": "summary", "minutes": 55.0, "peak_gb": 17.5, "p99_ms": [5.0, 14.0], "p99_ratio": 2.8}])
    rows = table(tmp_path)
    assert rows["ml100k: NDCG@10"][1:3] == ["ials 0.2000", "1.25"]
    assert rows["ml100k: NDCG@10"][4] == "**no**"  # one route is not beaten for sure
    assert (rows["1 client: p50 ms"][4], rows["1 client: p99 ms"][4]) == ("yes", "**no**")
    assert [rows[name][4] for name in ("minutes", "peak GB", "a request's p99, ms")] == ["yes", "**no**", "yes"]


def test_a_real_measurement_is_kept_and_shown(tmp_path: Path) -> None:
    kept = run.record("index", ["--items", "400", "--queries", "4"], tmp_path)
    result = json.loads(kept.read_text("utf-8"))
    assert result["command"] == "python -m bench.index --items 400 --queries 4"
    assert result["machine"]["cores"] >= 1
    assert all(line["bench"] == "index" for line in result["lines"])
    assert str(tmp_path) not in kept.read_text("utf-8")
    rows = table(tmp_path)
    assert any(name.startswith("made: HNSW, 32 bits") for name in rows)
    assert all(cells[4] == "–" for name, cells in rows.items() if name.startswith("made"))  # 400 vectors are no 100,000


def test_what_cannot_run_is_left_out_and_old_results_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, "recall", [fit("ials-ml100k", "palate", 1.0, 0.27)])
    places = ["--results", str(tmp_path), "--board", str(tmp_path / "board.md")]
    missing = ["--data-dir", str(tmp_path / "no"), "--bench-dir", str(tmp_path / "no"), "--run", str(tmp_path / "no")]
    assert run.main(["--only", "recall,serving", *missing, *places]) == 0
    said = capfd.readouterr().err
    assert "recall is left out: its data are not there" in said
    assert "serving is left out: there is no run" in said
    assert "ials-ml100k" in (tmp_path / "board.md").read_text("utf-8")


def test_a_module_that_fails_is_told_by_the_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "splits").mkdir()
    places = ["--results", str(tmp_path), "--board", str(tmp_path / "board.md")]
    assert run.main(["--only", "rank", "--bench-dir", str(tmp_path), *places]) == 1
    assert "rank failed" in capfd.readouterr().err
    assert not (tmp_path / "rank.json").exists()
    with pytest.raises(SystemExit):
        run.main(["--only", "rnak", *places])


def test_a_world_is_judged_by_its_margin_and_each_comparison_kept(beats: Beats, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    beats(0.05, DIN=0.81, MLP=0.72)
    beats(-0.02, "error", ESMM_of_all=0.31, MLP=0.30)  # a little worse, but not by more
    with pytest.raises(AssertionError, match=r"DIN 0\.8100, MLP 0\.7200: \+0\.0900, not \+0\.1"):
        beats(0.1, DIN=0.81, MLP=0.72)
    lines = [{**line, "world": f"{n}"} for n, (_, line) in enumerate(request.node.user_properties)]
    recorded(tmp_path, "worlds", lines)
    rows = table(tmp_path)
    assert rows["DIN: 0"][:5] == ["0.810", "MLP 0.720", "–", "margin +0.090 > +0.050", "yes"]
    assert rows["ESMM of all: 1"][3:5] == ["margin -0.010 > -0.020", "yes"]
    assert rows["DIN: 2"][3:5] == ["margin +0.090 > +0.100", "**no**"]


def test_a_fit_that_was_stopped_has_cost_what_both_its_processes_did(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fit.checkpoint"
    clock = Clock(checkpoint)
    assert clock.epochs == 0
    with clock.aside():
        before = time.process_time()
        while time.process_time() < before + 0.05:
            pass
    assert clock.seconds < 0.04
    checkpoint.touch()
    clock.report(Progress(3, 9, 5, 5, 0.0, 1.0))
    clock.report(Progress(4, 9, 2, 5, 0.0, 1.0))  # in the middle of an epoch nothing is kept
    kept = tmp_path / "fit.checkpoint.clock"
    epochs, seconds = json.loads(kept.read_text())
    kept.write_text(json.dumps([epochs, seconds + 100]))
    again = Clock(checkpoint)
    assert again.epochs == 3
    assert 100 <= again.seconds < 101
    checkpoint.unlink()
    assert Clock(checkpoint).seconds < 1  # begun anew
    again.forget()
    assert not list(tmp_path.iterdir())
