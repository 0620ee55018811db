"""Features of served pages made anew: bit by bit the same, and five ways to make them differ are each found and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.assembly import OpenRun
from palate.cli import app
from palate.features.pipeline import FeaturePipeline
from palate.recipe import Recipe
from palate.recommender import Recommender
from palate.skew import Difference, Skew, compare, skew
from palate.state.live import CountsAsOf, LiveCounts, LiveHistory
from palate.state.samples import Sample, Samples
from palate.tables.sources.synthetic import synthetic
from palate.workflow import train

TEXT = (Path(__file__).parent.parent / "recipes" / "synthetic.toml").read_text(encoding="utf-8")
WORLD = synthetic(users=100, items=80, events=4000, seed=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    text = TEXT.replace("epochs = 4", "epochs = 1")
    return train(Recipe.parse(text), tmp_path_factory.mktemp("skew") / "run", world=WORLD)


def served(trained: OpenRun, folder: Path, before: Callable[[Recommender], Any] = lambda service: None) -> Skew:
    """A service that is asked, told what users did, and asked again; ``before`` breaks it. Then its pages are looked at."""
    with Recommender.load(trained.folder, folder, keep_features=1.0) as service:
        before(service)
        users = [user for user in service.users.ids if user][:12]
        for _ in range(2):
            for user in users:
                page = service.recommend(user, 5)
                service.record([{"user": user, "item": item, "kind": "click"} for item in page.ids[:2]])
        service.recommend(history=service.items.ids[:4], k=5)
        service.recommend("somebody new", 5)
        service.recommend(users[0], 5, log=False)
    return skew(trained.folder, folder)


def test_nothing_differs_where_nothing_is_broken(trained: OpenRun, tmp_path: Path) -> None:
    found = served(trained, tmp_path)
    assert found.clean, found.to_json()
    assert found.pages == 26  # a look leaves no sample
    assert found.rows > 26 * 20
    assert found.features > 15


def lost_counts(patch: pytest.MonkeyPatch) -> str:
    """Every other event is not counted."""
    add, seen = LiveCounts.add, iter(range(10**6))

    def sometimes(self: LiveCounts, *event: Any) -> None:
        if next(seen) % 2:
            add(self, *event)

    patch.setattr(LiveCounts, "add", sometimes)
    return "count"


def reversed_history(patch: pytest.MonkeyPatch) -> str:
    """The latest event is taken for the oldest."""
    add = LiveHistory.add
    patch.setattr(LiveHistory, "add", lambda self, user, item, time, *rest: add(self, user, item, 1000 + time % 1000, *rest))
    return "history"


def stale_attributes(patch: pytest.MonkeyPatch) -> str:
    """What is known of items is a year old."""
    gather = FeaturePipeline.encode_items

    def old(self: FeaturePipeline, rows: Any) -> Any:
        columns = gather(self, rows)
        first = next(name for name in sorted(columns) if "item" in name)
        return {**columns, first: np.roll(columns[first], 1, 0)}

    patch.setattr("palate.recommender.FeaturePipeline.encode_items", old)
    return "item"


def rescaled_routes(patch: pytest.MonkeyPatch) -> str:
    """Half of a float's last bits are lost on the way."""
    encode = FeaturePipeline.encode_pairs

    def rough(self: FeaturePipeline, request: Any, candidates: Any) -> Any:
        columns = encode(self, request, candidates)
        name = next(name for name in columns if name.endswith("_score"))
        columns[name][:] = columns[name].astype(np.float16)
        return columns

    patch.setattr(FeaturePipeline, "encode_pairs", rough)
    return "_score"


def wrong_clock(patch: pytest.MonkeyPatch) -> str:
    """Counters are asked for a moment eight days ahead."""
    items = CountsAsOf.items
    patch.setattr(CountsAsOf, "items", lambda self, rows, now: items(self, rows, np.asarray(now) + 8 * 86_400_000))
    return "count"


FAULTS = (lost_counts, reversed_history, stale_attributes, rescaled_routes, wrong_clock)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_planted_fault_is_found_and_named(trained: OpenRun, tmp_path: Path, fault: Callable[[pytest.MonkeyPatch], str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        named = fault(patch)
        with Recommender.load(trained.folder, tmp_path, keep_features=1.0) as service:
            users = [user for user in service.users.ids if user][:12]
            for _ in range(2):
                for user in users:
                    page = service.recommend(user, 5)
                    service.record([{"user": user, "item": item, "kind": "click"} for item in page.ids[:2]])
    found = skew(trained.folder, tmp_path)  # offline is whole again
    assert not found.clean
    worst = found.differences[0]
    assert named in worst.feature
    assert 0 < worst.differing <= worst.rows
    assert worst.request_id
    assert worst.online != worst.offline
    assert bool(worst.item) == (worst.owner != "user")
    said = CliRunner().invoke(app, ["skew", str(trained.folder), "--state", str(tmp_path)])
    assert said.exit_code == 1
    assert worst.feature in said.stdout


def test_late_events_do_not_change_what_a_page_knew(trained: OpenRun, tmp_path: Path) -> None:
    def late(service: Recommender) -> None:
        user = next(user for user in service.users.ids if user)
        service.recommend(user, 5)
        now = service.state.request([user]).now[0]
        service.record([{"user": user, "item": service.items.ids[3], "kind": "click", "time": int(now) - 5000}])

    assert served(trained, tmp_path, late).clean


def test_a_page_without_candidates_differs_in_nothing() -> None:
    one = Difference("match", "pair")
    for column in (np.empty(0, np.float32), np.empty((0, 3), np.int64)):
        compare(one, Sample({"request_id": "r"}, {"items": np.empty(0, np.int64)}), column, column, [])
    assert (one.rows, one.differing) == (0, 0)


def test_forgotten_users_leave_no_sample_and_the_number_of_samples_is_bounded(trained: OpenRun, tmp_path: Path) -> None:
    with Recommender.load(trained.folder, tmp_path, keep_features=1.0) as service:
        user, other = [user for user in service.users.ids if user][:2]
        service.recommend(user, 5)
        service.recommend(other, 5)
        service.forget(user)
    assert [one.facts["user"] for one in Samples(tmp_path / "features", 0).read()] == [other]
    few = Samples(tmp_path / "few", 1.0, most=3)
    for moment in range(7):
        facts = {"request_id": f"r{moment}", "user": None, "now": moment, "as_of": 0, "scene": "", "given": None, "versions": {}}
        assert few.keep(Sample(facts, {"items": np.arange(2)}))
    assert [one.facts["now"] for one in few.read()] == [4, 5, 6]
    wanted = sum(Samples(tmp_path, 0.1).wants(f"{n}") for n in range(5000))
    assert 400 < wanted < 600


def test_where_nothing_was_sampled_it_says_how_to(trained: OpenRun, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    with pytest.raises(ValueError, match="--keep-features"):
        skew(tmp_path / "run")
