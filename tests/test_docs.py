"""The pages keep their word: every block of README.md and docs/add_a_model.md is run as it stands, and every example."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from safetensors.numpy import load_file

from palate.serving.routes import RULES

ROOT = Path(__file__).parents[1]
THINGS = ("lamp", "desk", "chair", "rug", "shelf", "mirror", "clock", "vase", "stool", "sofa", "bench", "plant")


@dataclass(frozen=True)
class Block:
    """A fenced block, its language, and the last line of text before it."""

    language: str
    text: str
    before: str


def blocks(page: Path, heading: str = "") -> list[Block]:
    """All of a page, or those below one heading."""
    found, before, fence, lines = [], "", "", list[str]()
    below = not heading
    for line in page.read_text("utf-8").splitlines():
        if fence:
            if line != "```":
                lines.append(line)
                continue
            if below:
                found.append(Block(fence, "\n".join(lines) + "\n", before))
            fence, lines = "", []
        elif line.startswith("```"):
            fence = line[3:] or "text"
        elif line.startswith("#"):
            below = not heading or line.lstrip("# ") == heading
        elif line.strip():
            before = line
    return found


@dataclass(frozen=True)
class Shell:
    """A folder where commands run with ``palate`` and ``python`` of this environment, and the palate that lies in ``package``."""

    folder: Path
    package: Path
    programs: Path

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        unset = {name: value for name, value in os.environ.items() if not name.startswith(("PALATE_", "PYTEST_"))}
        return {**unset, "PATH": path, "PYTHONPATH": str(self.package), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, text: str) -> str:
        """What the commands print; the first that fails ends them and the test."""
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def shell(folder: Path, package: Path = ROOT) -> Shell:
    programs = folder / ".programs"
    programs.mkdir(parents=True)
    for name, call in (("python", ""), ("palate", " -m palate.cli")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{call} "$@"\n', "utf-8")
        (programs / name).chmod(0o755)
    return Shell(folder, package, programs)


# ── docs/add_a_model.md ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_about_adding_a_model(tmp_path: Path) -> None:
    """Block by block: a file is written, a line is put below the one that the page names, commands run."""
    copy = tmp_path / "palate"
    for folder in ("palate", "tests/contract"):
        shutil.copytree(ROOT / folder, copy / folder)
    for name in ("tests/__init__.py", "tests/worlds.py", "pyproject.toml"):
        shutil.copy2(ROOT / name, copy / name)
    (copy / "recipes").mkdir()
    here = shell(copy, copy)
    assert "FwFM" not in (copy / "palate/catalog.py").read_text("utf-8"), "the catalog has it by now: let the page add another model"
    kinds, said = [], ""
    for block in blocks(ROOT / "docs/add_a_model.md"):
        if block.language == "sh":
            kinds.append("commands")
            said += here.run(block.text)
            continue
        named = re.findall(r"`([^`]+)`", block.before)
        target = copy / named[0]
        if target.exists():
            kinds.append("line")
            lines = target.read_text("utf-8").splitlines(keepends=True)
            (place,) = (n for n, line in enumerate(lines) if f'Entry("{named[1]}"' in line)
            lines.insert(place + 1, block.text)
            target.write_text("".join(lines), "utf-8")
        else:
            kinds.append("file")
            target.write_text(block.text, "utf-8")
    assert kinds == ["file", "line", "commands", "commands", "file", "commands"]
    assert re.search(r"^FwFM +rank +.*Pan et al", said, re.MULTILINE), said
    tested = re.search(r"(\d+) passed", said)
    assert tested, said
    assert int(tested[1]) >= 20
    assert "failed" not in said
    assert "All checks passed" in said
    assert re.search(r"^choose +[\d,]+ +0\.\d", said, re.MULTILINE), "no AUC of the task"
    assert "funnel - similar" in said
    page = json.loads(here.run("palate recommend runs/fwfm --user u1 -k 5 --why --json"))
    assert len(page["items"]) == 5
    assert all(0 < one["scores"]["choose"] < 1 for one in page["items"]), "the ranker did not score"
    (weights,) = (copy / "runs/fwfm").rglob("model-ranker.safetensors")
    assert "strength" in load_file(weights)


# ── README.md ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The folder that README's commands start from: a shop's events and items."""
    folder = tmp_path_factory.mktemp("shop")
    here, chance = shell(folder), random.Random(5)
    people = ["ada", "grace", "joan", *(f"p{n}" for n in range(40))]
    with open(folder / "events.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time", "kind"])
        for person in people:
            first = 0 if person == "ada" else chance.randrange(0, 8)
            for step, thing in enumerate(chance.sample(range(5), 4)):
                rows.writerow([person, THINGS[(first + thing) % len(THINGS)], 1_700_000_000 + 86_400 * (7 * step + chance.randrange(7)), "buy"])
    with open(folder / "items.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "price"])
        rows.writerows([thing, thing.title(), 10 + len(thing)] for thing in THINGS)
    return here


@pytest.fixture(scope="module")
def trained(shop: Shell) -> Shell:
    """README's commands but the last, which serves until it is stopped."""
    (block,) = blocks(ROOT / "README.md", "Your own data")
    *others, last = block.text.strip().splitlines()
    assert last == "palate serve runs/shop"
    said = shop.run("\n".join(others))
    assert "172 accepted" in said or re.search(r"accepted\D*172|172\D*accepted", said), said
    assert "runs/shop: ready" in said
    assert re.search(r"^NDCG ", said, re.MULTILINE), said
    return shop


def test_your_own_data(trained: Shell) -> None:
    assert (trained.folder / "shop.toml").is_file()
    assert (trained.folder / "runs/shop/current").is_file()


def test_in_python(trained: Shell) -> None:
    (block,) = blocks(ROOT / "README.md", "In Python")
    (trained.folder / "ask.py").write_text(block.text + ASKED, "utf-8")
    lines = trained.run("python ask.py").splitlines()
    assert len(lines) == 6
    assert [line.split()[0] for line in lines[:-1]] == ["0", "1", "2", "3", "4"]
    assert {line.split()[1] for line in lines[:-1]} <= set(THINGS)
    assert lines[-1] == "both lists hold"


ASKED = """
again = palate.Recommender.load("runs/shop")
stranger = again.recommend(history=["lamp", "desk"], k=5)
assert len(stranger.items) == 5 and not {"lamp", "desk"} & set(stranger.ids) and not stranger.notes
first = again.recommend("ada", k=5).ids
again.record([{"user": "ada", "item": "lamp", "kind": "buy"}])
second = again.recommend("ada", k=5).ids
assert second and not {"lamp", *first} & set(second)
again.close()
print("both lists hold")
"""


@dataclass(frozen=True)
class Served:
    port: int
    key: str
    folder: Path

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, str]:
        """Status and text."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method), timeout=120) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def served(trained: Shell) -> Iterator[Served]:
    """README's last command, on a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["palate", "serve", "runs/shop", "--port", str(port)]
    environment = trained.environment
    with open(trained.folder / "served.log", "wb") as log:
        command[0] = str(trained.programs / "palate")
        process = subprocess.Popen(command, cwd=trained.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        here, until = Served(port, "", trained.folder), time.monotonic() + 300
        while True:
            assert process.poll() is None, (trained.folder / "served.log").read_text("utf-8")
            assert time.monotonic() < until, (trained.folder / "served.log").read_text("utf-8")
            try:
                if here.call("GET", "/health/ready")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        key = (trained.folder / "runs/shop/state/first_key").read_text("utf-8").strip()
        yield Served(port, key, trained.folder)
    finally:
        process.terminate()
        code = process.wait(15)
    assert code == 0


def verbs() -> list[tuple[str, str]]:
    """Each verb and path of the table under "Over HTTP"."""
    table = (ROOT / "README.md").read_text("utf-8").partition("## Over HTTP")[2].partition("\n## ")[0]
    found, verb = [], ""
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row):
            said, _, path = name.rpartition(" ")
            verb = said or verb
            found.append((verb, path))
    return found


def test_the_table_of_verbs_is_the_service_s_own() -> None:
    written = {(verb, re.sub(r"\{\w+\}", "{}", path.partition("?")[0])) for verb, path in verbs()}
    assert written == {(rule.method, re.sub(r"\{\w+\}", "{}", rule.path)) for rule in RULES if rule.path not in ("/openapi.json", "/")}
    (asked,) = (path for verb, path in verbs() if "?" in path)
    (rule,) = (rule for rule in RULES if (rule.method, rule.path) == ("GET", "/v1/recommendations"))
    assert re.findall(r"(\w+)=", asked) == list(rule.query)


BODIES = {
    "POST /v1/recommendations": {"history": ["lamp", "desk"], "k": 3},
    "POST /v1/events": {"user": "grace", "item": "rug", "kind": "buy", "event_id": "e1"},
    "PUT /v1/items/{id}": {"attributes": {"title": "Lamp"}},
    "PUT /v1/users/{id}": {"attributes": {"town": "north"}},
}


def filled(path: str) -> str:
    values = {"user": "ada", "k": "3", "scene": "", "request_id": "page-1", "log": "false", "why": "true"}
    path = re.sub(r"(\w+)=", lambda name: f"{name[0]}{values[name[1]]}", path)
    return path.replace("{id}", "p7" if "users" in path else "lamp")


@pytest.mark.parametrize(("verb", "path"), verbs(), ids=" ".join)
def test_every_verb_and_path_answers(served: Served, verb: str, path: str) -> None:
    status, text = served.call(verb, filled(path), BODIES.get(f"{verb} {path}"), served.key)
    assert 200 <= status < 300, text
    if "recommendations" in path:
        assert len(json.loads(text)["items"]) == 3


def test_what_the_table_says_of_them(served: Served) -> None:
    def get(path: str) -> dict[str, object]:
        status, text = served.call("GET", path)  # from this machine, without a key
        assert status == 200, text
        return dict(json.loads(text))

    page = get("/v1/recommendations?user=joan&k=3&request_id=same")
    assert get("/v1/recommendations?user=joan&k=3&request_id=same")["items"] == page["items"]
    looked = get("/v1/recommendations?user=p1&k=3&log=false")
    assert get("/v1/recommendations?user=p1&k=3&log=false")["items"] == looked["items"]
    assert "trace" in get("/v1/recommendations?user=p1&k=3&log=false&why=true")
    event = {"user": "p2", "item": "rug", "kind": "buy", "event_id": "once"}
    assert served.call("POST", "/v1/events", event)[0] == 401
    told = [json.loads(served.call("POST", "/v1/events", [event], served.key)[1]) for _ in range(2)]
    assert [(one["accepted"], one["duplicate"]) for one in told] == [(1, 0), (0, 1)]
    assert served.call("PUT", "/v1/items/quilt", {"attributes": {"title": "Quilt"}}, served.key)[0] < 300
    assert any(one["item"] == "quilt" for one in get("/v1/recommendations?user=p3&k=20&log=false")["items"])  # type: ignore[attr-defined]
    status, text = served.call("DELETE", "/v1/users/p5", key=served.key)
    assert status == 200
    assert json.loads(text)["stale"] == ["hot", "new", "similar"]


def test_every_page_that_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"`(recipes/[\w.]+)`", text):
        assert (ROOT / target).exists(), target


def test_the_example_s_list_lies_between_popularity_and_the_optimum(tmp_path: Path) -> None:
    assert [path.name for path in (ROOT / "examples").glob("*.py")] == ["a_world_with_known_tastes.py"], "run the others here, too"
    said = shell(tmp_path).run(f'python "{ROOT / "examples/a_world_with_known_tastes.py"}"')
    chance, popular, ours, best = (float(line.split()[-1]) for line in said.strip().splitlines())
    assert chance < popular < ours < best
