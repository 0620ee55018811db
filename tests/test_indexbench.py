"""palate index bench: honest figures, a choice that follows from them, and files that are refused with a reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from palate import cli, indexbench
from palate.evaluation.report import render
from palate.indexbench import Bench, Point, Vectors, bench, matrix, of_files
from palate.workflow import train
from tests.index.test_index import clusters
from tests.serving.world import write_tables


def point(name: str, recall: float, p50: float, megabytes: float) -> Point:
    return Point(name, {"probes": 8}, recall, p50, 2 * p50, p50, 1.0, megabytes)


def test_what_is_recommended_follows_from_the_figures() -> None:
    points = [point("Exact", 1.0, 1000, 100), point("A", 0.97, 100, 90), point("B", 0.96, 110, 20), point("C", 0.95, 130, 1), point("D", 0.5, 1, 1)]

    def chosen(recall: float) -> str:
        return Bench(Vectors("made", np.ones((9, 2), np.float32), np.ones((3, 2), np.float32)), 3, recall, points).chosen.name

    assert [chosen(recall) for recall in (0.4, 0.95, 0.965, 0.99)] == ["D", "B", "A", "Exact"]
    assert points[1].recipe == 'index = { name = "A", probes = 8 }'


@pytest.fixture(scope="module")
def measured() -> Bench:
    return bench(Vectors("made", clusters(1_500, 8, 0), clusters(30, 8, 1)), 10, 0.9, ("IVF", "PQ"))


def test_figures_are_measured(measured: Bench) -> None:
    by = {(one.name, *one.options.values()): one for one in measured.points}
    assert [name for name, *_ in by] == ["Exact"] + ["IVF"] * 8 + ["PQ"] * 2
    assert by["Exact",].recall == 1.0
    assert by["PQ", 4].recall < by["PQ", 2].recall < 1.0
    assert by["PQ", 4].megabytes < by["PQ", 2].megabytes < by["Exact",].megabytes
    assert by["IVF", 4].recall <= by["IVF", 96].recall
    assert all(0 < one.p50 <= one.p99 and one.build >= 0 for one in measured.points)
    assert measured.chosen.recall >= 0.9
    found = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert found["recommended"]["recipe"] == measured.chosen.recipe
    assert (found["size"], found["dim"], found["queries"], len(found["points"])) == (1_500, 8, 30, 11)


def test_the_page_draws_every_index(measured: Bench) -> None:
    page = render(measured.page())
    assert page.count("<svg") == 2
    assert page.count('class="mark"') == 2, "what is recommended is ringed"
    for text in ("IVF", "PQ", "Exact", "µs, median", "recall@10", "probes = 12", "index = {"):
        assert text in page
    assert "<script" not in page


def test_equal_vectors_do_not_count_against_an_index() -> None:
    same = np.repeat(clusters(20, 4, 0), 30, axis=0)
    assert {one.recall for one in bench(Vectors("made", same, same[:5]), 10, 0.9, ("KDTree",)).points if one.options.get("search", 0) == 0} == {1.0}


def test_questions_of_a_matrix_are_left_out_of_it(tmp_path: Path) -> None:
    vectors = clusters(300, 4, 0)
    np.save(tmp_path / "v.npy", vectors.astype(np.float64))
    found = of_files(tmp_path / "v.npy")
    assert (len(found.vectors), len(found.queries)) == (270, 30)
    assert "left out" in found.note
    everything = np.concatenate([found.vectors, found.queries])
    assert (np.sort(everything, axis=0) == np.sort(vectors, axis=0)).all()
    np.save(tmp_path / "q.npy", np.ones((3, 5)))
    with pytest.raises(ValueError, match="questions of 5 numbers do not fit vectors of 4"):
        of_files(tmp_path / "v.npy", tmp_path / "q.npy")


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (np.array([{"a": 1}], object), "Python objects, which are never loaded"),
        (np.ones(4), r"matrix \[N, D\] with something in it, not \[4\]"),
        (np.ones((0, 4)), r"not \[0, 4\]"),
        (np.array([["a"]]), "must be numbers, not <U1"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), "1 vectors are not finite as 32-bit numbers, the first that of row 1"),
        (np.array([[1e300, 2.0]]), "not finite as 32-bit"),
    ],
)
def test_a_bad_matrix_is_refused(kept: np.ndarray, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", kept, allow_pickle=True)
    with pytest.raises(ValueError, match=said):
        matrix(tmp_path / "bad.npy")


def test_a_file_that_is_none_of_these_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.ones((50, 4), np.float32))
    monkeypatch.setattr(indexbench, "MOST_BYTES", 400)
    with pytest.raises(ValueError, match="50 vectors of 4 numbers are too many for a bench; give a sample of at most 25"):
        matrix(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="no matrix in NumPy's"):
        matrix(path)
    path.write_text("no numbers")
    with pytest.raises(ValueError, match="no matrix in NumPy's"):
        matrix(path)
    with pytest.raises(OSError):
        matrix(tmp_path / "none.npy")
    with pytest.raises(ValueError, match="there is no index 'HNWS'"):
        bench(Vectors("made", np.ones((50, 4), np.float32), np.ones((3, 4), np.float32)), 3, 0.9, ("HNWS",))


FACTORS = """
[models.factors]
name = "IALS"
dim = 8
iterations = 2
[[recall]]
model = "factors"
quota = 10
"""


def test_the_command_over_a_runs_own_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe.read_text("utf-8") + FACTORS, "utf-8")
    opened = train(recipe, tmp_path / "run", holdout=False)
    asked = indexbench.of_run(tmp_path / "run")
    model = opened.parts.models["factors"]
    taken = np.flatnonzero(model.items.any(1))
    assert (asked.vectors == model.items[taken]).all()
    assert asked.queries.any(1).all()
    assert asked.exclude is not None, "people are not offered what they took"
    assert len(asked.exclude) == len(asked.queries)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["palate", "index", "bench", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (int(end.value.code or 0), *capsys.readouterr())

    page = tmp_path / "page.html"
    code, out, _ = run(str(tmp_path / "run"), "--index", "LSH", "--k", "3", "--json", "--html", str(page))
    assert code == 0
    found = json.loads(out)
    assert [one["name"] for one in found["points"]] == ["Exact", "LSH", "LSH", "LSH"]
    assert found["vectors"] == "factors of run"
    assert "<svg" in page.read_text("utf-8")
    code, out, _ = run(str(tmp_path / "run"), "--index", "LSH", "--k", "3")
    assert code == 0
    assert "In a route of a recipe:\nindex = { name = " in out
    code, _, err = run(str(tmp_path / "run"), "--model", "factor")
    assert code == 1
    assert "no model 'factor' with vectors; did you mean 'factors'" in err
    code, _, err = run(str(tmp_path / "nothing.npy"))
    assert code == 1
    assert "nothing.npy" in err
    assert run(str(tmp_path / "nothing.npy"), "--model", "factors")[0] == 2
    monkeypatch.setattr(type(model), "user_vectors", lambda self, request: np.zeros((len(request), 8), np.float32))
    with pytest.raises(ValueError, match="factors has no vector for any of"):
        indexbench.of_run(opened)
