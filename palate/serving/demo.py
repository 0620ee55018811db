"""``palate demo``: real data from the download to a service that learns, in one go, each step said as it happens."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.assembly import OpenRun, open_run
from palate.evaluation.report import text
from palate.recipe import Recipe
from palate.serving.process import Client, Service
from palate.store import RunError
from palate.workflow import evaluate, train, write_report

Say = Callable[[str], None]


class DemoError(ValueError):
    """The demo could not go on; the text says at which step and why."""


def run_demo(out: Path, recipe: Path | None, data: Path | None, say: Say) -> None:
    """All of it. A run that is at ``out`` already is used again."""
    begun = time.perf_counter()
    run = _trained(out, recipe, data, say)
    _measured(run, out, say)
    key = "demo_" + secrets.token_urlsafe(24)
    say("")
    say("== The service")
    with tempfile.TemporaryDirectory(prefix="palate-demo-") as state, Service(out, Path(state), key) as service:
        say(f"   palate serve {out} listens on http://127.0.0.1:{service.port}")
        _asked(run, Client(service.port, key), say)
        took = _timed(run, Client(service.port), say)
    say(f"   stopped (exit code {service.code})")
    page = write_report(run, out / "report.html", more={"latency": [{"name": "GET /v1/recommendations, one client", "milliseconds": took}]})
    say("")
    say(f"Done in {time.perf_counter() - begun:.0f} s. The report with plots: {page}. Serve it yourself: palate serve {out}")


def _trained(out: Path, recipe: Path | None, data: Path | None, say: Say) -> OpenRun:
    try:
        run = open_run(out)
    except RunError:
        if (out / "current").exists():
            raise
    else:
        say(f"== A run is at {out} already and is used again (another one: --out)")
        return run
    plan = Recipe.load(recipe or recipe_file())
    if data is not None:
        plan = replace(plan, data=replace(plan.data, options={**plan.data.options, "folder": str(data.resolve())}))
    say(f"== Data and training: {plan.name}")
    return train(plan, out, report=lambda line: say(f"   {line}"))


def recipe_file() -> Path:
    """recipes/movielens.toml beside the package or below the present folder; DemoError where neither is."""
    places = [Path(__file__).parents[2] / "recipes" / "movielens.toml", Path(__file__).parents[1] / "recipes" / "movielens.toml"]
    places.append(Path("recipes/movielens.toml"))
    for place in places:
        if place.is_file():
            return place
    raise DemoError("recipes/movielens.toml is not there; name a recipe with --recipe")


def _measured(run: OpenRun, out: Path, say: Say) -> None:
    say("")
    say("== What each stage achieves, on events later than everything it learnt from")
    kept = out / f"evaluation-{run.run.version}.json"
    if kept.is_file():
        found = json.loads(kept.read_text("utf-8"))
    else:
        found = evaluate(run, report=lambda line: say(f"   {line}"))
    for line in text(found).splitlines():
        say(f"   {line}")


def _asked(run: OpenRun, client: Client, say: Say) -> None:
    """The three kinds of askers, then the loop: answer, events, another answer."""
    items, users = run.items, run.users
    known = users.ids[int(run.base.users[-1])]
    titles = items.column("title") if "title" in items.attribute_names else items.ids

    def show(head: str, page: Mapping[str, Any]) -> list[str]:
        ids = [one["item"] for one in page["items"]]
        degraded = f" (did without {', '.join(page['degraded'])})" if page["degraded"] else ""
        say(f"   {head}{degraded}")
        for one in page["items"][:5]:
            say(f"      {one['position'] + 1}. {titles[items.row(one['item'])]}  [{one['item']}]")
        if not ids:
            raise DemoError(f"{head}: the list is empty")
        return ids

    first = show(f"for the known user {known}:", client.call("GET", "/v1/recommendations", user=known, k=10))
    taken = [items.ids[row] for row in dict.fromkeys(run.base.items[run.base.users == run.base.users[0]][-5:].tolist())]
    names = ", ".join(str(titles[items.row(one)]) for one in taken[:3])
    show(
        f"for somebody who saw {names} … ({len(taken)} in all):",
        client.call("POST", "/v1/recommendations", {"history": taken, "k": 10, "log": False}),
    )
    show("for a stranger:", client.call("GET", "/v1/recommendations", user="a-stranger", k=10, log="false"))
    liked = first[:3]
    kind = next((kind for signal in run.signals for kind in signal.kinds), "event")
    told = [{"user": known, "item": one, "kind": kind, "value": 5.0, "event_id": f"demo-{one}"} for one in liked]
    outcome = client.call("POST", "/v1/events", told)
    again = client.call("POST", "/v1/events", told)
    say(f"   told that {known} liked {len(liked)} of them: {outcome['accepted']} accepted; told again: {again['duplicate']} duplicates")
    second = show(f"for {known} now:", client.call("GET", "/v1/recommendations", user=known, k=10))
    repeated = set(first) & set(second)
    if outcome["accepted"] != len(liked) or again["duplicate"] != len(liked):
        raise DemoError(f"events were not counted once each: {outcome}, {again}")
    if repeated:
        raise DemoError(f"shown twice: {', '.join(sorted(repeated))}")
    say(f"   the list has moved on: {len(second)} items, none of which was shown before")


def _timed(run: OpenRun, client: Client, say: Say) -> list[float]:
    users = [users for users in run.users.ids if users][:200]
    for user in users[:20]:
        client.call("GET", "/v1/recommendations", user=user, k=10, log="false")
    took = []
    for place in range(200):
        begun = time.perf_counter()
        client.call("GET", "/v1/recommendations", user=users[place % len(users)], k=10)
        took.append((time.perf_counter() - begun) * 1e3)
    took.sort()
    say(f"   200 pages, whole funnel and page log, one client: p50 {took[99]:.1f} ms, p99 {took[197]:.1f} ms")
    return took
