"""A run read back: what was altered is refused by name, and what came after the training is offered at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palate.assembly import OpenRun, open_run
from palate.recipe import Recipe
from palate.recommender import Recommender
from palate.store import RunError
from palate.tables.sources.synthetic import synthetic
from palate.workflow import train

TEXT = (Path(__file__).parent.parent / "recipes" / "synthetic.toml").read_text(encoding="utf-8")
WORLD = synthetic(users=120, items=100, events=5000, seed=4)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    return train(Recipe.parse(TEXT.replace("epochs = 4", "epochs = 1")), tmp_path_factory.mktemp("assembly") / "run", world=WORLD)


@pytest.fixture
def copy(trained: OpenRun, tmp_path: Path) -> Path:
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


def version_of(run: Path) -> Path:
    return run / (run / "current").read_text(encoding="ascii")


def altered(run: Path, name: str, change: Callable[[Arrays], Any], vouched: bool = True) -> None:
    """Changes a file of arrays; ``vouched``: the manifest says that it belongs so, as a wrong release would have written it."""
    import hashlib

    path = version_of(run) / name
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    if vouched:
        manifest = json.loads((version_of(run) / "manifest.json").read_text(encoding="utf-8"))
        data = path.read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (version_of(run) / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


MODELS = ("popular", "fresh", "tag", "usercf", "itemcf", "swing", "ials", "content", "two_tower", "ranker", "light")


@pytest.mark.parametrize("name", MODELS)
def test_arrays_that_are_missing_renamed_or_misshapen_are_refused_by_name(copy: Path, name: str) -> None:
    file = f"model-{name}.safetensors"
    original = load_file(version_of(copy) / file)
    key = sorted(original)[0]

    def misshapen(arrays: Arrays) -> None:
        arrays[key] = np.zeros((*arrays[key].shape, 2), arrays[key].dtype)

    for change in (lambda arrays: arrays.pop(key), lambda arrays: arrays.update({"odd": arrays.pop(key)}), misshapen):
        altered(copy, file, change)
        with pytest.raises(RunError, match=file) as told:
            open_run(copy)
        assert repr(key) in str(told.value)
        save_file(original, version_of(copy) / file)
    altered(copy, file, lambda arrays: arrays.update({"odd": np.zeros(3, np.float32)}))
    with pytest.raises(RunError, match=f"{file}.*'odd'"):
        open_run(copy)


def test_files_that_differ_from_the_manifest_are_refused_by_name(copy: Path) -> None:
    for name in sorted(json.loads((version_of(copy) / "manifest.json").read_text(encoding="utf-8"))["files"]):
        path = version_of(copy) / name
        data = path.read_bytes()
        for change in (bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b" ", b""):
            path.write_bytes(change)
            with pytest.raises(RunError, match=name):
                open_run(copy).run.check()
        path.unlink()
        with pytest.raises(RunError, match=name):
            open_run(copy).run.check()
        path.write_bytes(data)
    assert open_run(copy).run.check()


def test_numbers_that_are_not_finite_are_refused_by_name(copy: Path) -> None:
    def broken(arrays: Arrays) -> None:
        key = next(key for key in arrays if arrays[key].dtype == np.float32 and arrays[key].size)
        arrays[key].flat[0] = np.nan

    altered(copy, "model-ranker.safetensors", broken)
    with pytest.raises(RunError, match=r"model-ranker.safetensors.*not finite"):
        open_run(copy)


# ── what came after the training ──


def only(route: str) -> str:
    """The recipe's text with one route and neither pre-rank, ranker, re-rank nor fallback."""
    head = TEXT[: TEXT.index("[[recall]]")].replace('fallback = "popular"\n', "").replace("epochs = 4", "epochs = 1")
    for start, end in (("[models.ranker]", "[models.light]"), ("[models.light]", ""), ('[[features]]\nname = "RouteScore"', "[models.popular]")):
        at = head.index(start)
        head = head[:at] + (head[head.index(end, at) :] if end else "")
    return head + f'[[recall]]\nmodel = "{route}"\nquota = 200\n'


@pytest.mark.parametrize("route", ["fresh", "tag", "content", "two_tower"])
def test_a_new_item_can_be_recommended_at_once_and_after_a_restart(tmp_path: Path, route: str) -> None:
    run = train(Recipe.parse(only(route)), tmp_path / "run", world=WORLD, holdout=False)
    row = int(run.base.items[-1])
    user = run.users.ids[int(run.base.users[-1])]
    like = {name: value for name, value in run.items.attributes(row).items() if name != "created"}
    with Recommender.load(run, tmp_path / "state") as service:
        assert "brand new" not in service.recommend(user, 200, log=False).ids
        assert service.put_item("brand new", like)
        assert "brand new" in service.recommend(user, 200, log=False).ids
        service.put_item("brand new", available=False)
        assert "brand new" not in service.recommend(user, 200, log=False).ids
        service.put_item("brand new", available=True)
    with Recommender.load(run.folder, tmp_path / "state") as service:
        assert "brand new" in service.recommend(user, 200, log=False).ids


def test_items_born_after_the_cut_are_in_the_routes_of_a_run_read_back(trained: OpenRun) -> None:
    fitted = trained.run.manifest["fitted"]
    assert fitted < len(trained.items)
    funnel = trained.funnel(strict=True)
    with Recommender.load(trained) as service:
        request = service.state.request([None, *trained.users.ids[:50]])
    late = {route.name: bool((route.retriever.retrieve(request, 200).items >= fitted).any()) for route in funnel.routes}
    assert {name for name, found in late.items() if found} >= {"fresh", "content", "two_tower"}
