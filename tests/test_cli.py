"""The command line as its users meet it: a process, its two streams and its exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from palate import cli
from tests.serving.world import item, make_run, user, write_tables

HEAVY = ("torch", "polars", "numpy", "scipy", "numba", "faiss", "fastapi", "starlette", "uvicorn", "jinja2")


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Palate = Callable[..., Done]


@pytest.fixture
def palate(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Palate:
    """Runs the program's ``main`` as if it had been called with these arguments: a process for each would take a minute in all."""

    def run(*arguments: str, cwd: Path | None = None) -> Done:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["palate", *arguments])
            patch.setenv("COLUMNS", "200")
            if cwd is not None:
                patch.chdir(cwd)
            capfd.readouterr()
            code: object = 0
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
            out, err = capfd.readouterr()
        return Done(int(code or 0), out, err)  # type: ignore[call-overload]

    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    make_run(folder)
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["catalog"], ["catalog", "--json"], ["serve", "--help"]])
def test_what_only_tells_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, palate.cli\n"
        f"sys.argv = ['palate', *{arguments!r}]\n"
        "try:\n    palate.cli.main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stderr


def test_importing_palate_loads_nothing_heavy() -> None:
    code = f"import sys, palate; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_catalog_lists_what_exists(palate: Palate) -> None:
    done = palate("catalog", "--json")
    entries = json.loads(done.stdout)
    assert all(set(entry) == {"name", "kind", "summary", "paper"} for entry in entries)
    names = {entry["name"] for entry in entries}
    assert {"Popular", "Fresh", "Tag", "UserCF", "ItemCF", "Swing", "IALS", "Content", "DSSM", "DeepFM", "MLP", "MMR"} <= names
    assert done.stderr == ""
    listed = palate("catalog").stdout
    assert all(name in listed for name in names)
    only = json.loads(palate("catalog", "--json", "--kind", "rank").stdout)
    assert {entry["kind"] for entry in only} == {"rank"}
    wrong = palate("catalog", "--kind", "rnak")
    assert wrong.returncode == 2
    assert "did you mean 'rank'" in wrong.stderr


def test_training_and_asking(palate: Palate, tmp_path: Path) -> None:
    write_tables(tmp_path)
    done = palate("train", "recipe.toml", "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "run"
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    for arguments in (["--user", user(2)], ["--history", f"{item(1)},{item(2)}"], ["--user", "stranger"]):
        page = json.loads(palate("recommend", "run", *arguments, "-k", "5", "--json", cwd=tmp_path).stdout)
        assert len(page["items"]) == 5
        assert {one["item"] for one in page["items"]} <= {item(n) for n in range(60)}
    people = palate("recommend", "run", "--user", user(2), "-k", "3", cwd=tmp_path)
    assert people.returncode == 0
    assert "Thing " in people.stdout
    assert len(people.stdout.strip().splitlines()) == 5
    assert not (tmp_path / "run" / "state").exists()
    measured = palate("evaluate", "run", "--json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["funnel"]["stages"]
    assert "itemcf" in palate("evaluate", "run", cwd=tmp_path).stdout
    assert palate("report", "run", "--out", "page.html", cwd=tmp_path).stdout.strip() == "page.html"
    assert "<svg" in (tmp_path / "page.html").read_text("utf-8")
    checked = palate("doctor", "run", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert all(one["ok"] for one in json.loads(checked.stdout))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["recomend"], 2, "recommend"),
        (["recommend", "nowhere", "--user", "1"], 1, "palate train"),
        (["recommend", "run"], 2, "--history"),
        (["recommend", "run", "--user", "u1", "-k", "-1"], 2, "'-k'"),
        (["recommend", "run", "--user", ""], 1, "empty"),
        (["train", "nothing.toml", "--out", "x"], 1, "nothing.toml"),
        (["train", "recipe.toml"], 2, "--out"),
        (["train", "broken.toml", "--out", "x"], 1, "did you mean"),
        (["import", "nothing.csv"], 1, "nothing.csv"),
        (["import", "events.csv", "--kind", "evnts"], 2, "events"),
        (["import", "events.csv", "--column", "usr"], 2, "ours=theirs"),
        (["serve", "nowhere", "--port", "0"], 1, "palate train"),
        (["serve", "run", "--host", "0.0.0.0"], 1, "palate key add"),
        (["serve", "run", "--port", "70000"], 2, "--port"),
        (["serve", "run", "--prot", "1"], 2, "--port"),
        (["key", "list"], 2, "--state"),
        (["key", "add", "me", "--state", "keys", "--scopes", "raed"], 1, "did you mean 'read'"),
    ],
)
def test_mistakes_are_told_without_a_traceback(palate: Palate, world: Path, arguments: list[str], code: int, says: str) -> None:
    recipe = (world / "recipe.toml").read_text("utf-8")
    (world / "broken.toml").write_text(recipe.replace("neighbors =", "neigbors ="), "utf-8")
    done = palate(*arguments, cwd=world)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_changed_run_is_refused_and_doctor_says_so(palate: Palate, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    victim = next(run.glob("*/items.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    done = palate("recommend", str(run), "--user", "u1")
    assert done.returncode == 1
    assert "SHA-256" in done.stderr
    checked = palate("doctor", str(run), "--json")
    assert checked.returncode == 1
    assert [one["check"] for one in json.loads(checked.stdout) if not one["ok"]] == ["run"]


def test_import_counts_every_row(palate: Palate, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user,item,time,value\na,1,1700000000,5\nb,2,1700000001,much\n,3,1700000002,1\n", "utf-8")
    stopped = palate("import", "e.csv", cwd=tmp_path)
    assert stopped.returncode == 1
    assert "much" in stopped.stderr
    assert "e.csv" in stopped.stderr
    skipped = palate("import", "e.csv", "--on-bad", "skip", "--out", "e.parquet", "--json", cwd=tmp_path)
    assert skipped.returncode == 0, skipped.stderr
    report = json.loads(skipped.stdout)
    assert (report["read"], report["accepted"], report["rejected"]) == (3, 1, 2)
    assert {row["column"] for row in report["rejected_rows"]} == {"value", "user"}
    again = json.loads(palate("import", "e.parquet", "--json", cwd=tmp_path).stdout)
    assert (again["read"], again["accepted"]) == (1, 1)
    aside = palate("import", "e.csv", "--on-bad", "aside", "--out", "f.parquet", cwd=tmp_path)
    assert aside.returncode == 0, aside.stderr
    assert "much" in (tmp_path / "f.rejected.csv").read_text("utf-8")
    (tmp_path / "i.csv").write_text("movie,genres\n7,A|B\n8,\n", "utf-8")
    items = palate("import", "i.csv", "--kind", "items", "--column", "id=movie", "--multi", "genres", "--json", cwd=tmp_path)
    assert json.loads(items.stdout)["accepted"] == 2


def test_keys_are_made_listed_and_taken_away(palate: Palate, tmp_path: Path) -> None:
    made = palate("key", "add", "shop", "--state", str(tmp_path), "--scopes", "read,write")
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.strip()) > 40
    assert palate("key", "list", "--state", str(tmp_path)).stdout == "shop\tread,write\n"
    assert palate("key", "remove", "shop", "--state", str(tmp_path)).returncode == 0
    assert palate("key", "list", "--state", str(tmp_path)).stdout == ""


def test_progress_shows_on_a_terminal_only(world: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "palate.cli", "train", "recipe.toml", "--out", "watched", "--json"]
    running = subprocess.Popen(command, cwd=world, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    out, _ = running.communicate(timeout=600)
    assert running.returncode == 0, seen
    assert b"training" in seen
    assert json.loads(out)["run"] == "watched"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m palate.cli catalog --json | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=600, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout == "[\n"
