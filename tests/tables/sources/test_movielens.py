"""MovieLens-100K: from a folder in either format, from the cached wheel, and what is said when there is no way to it."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from palate.tables.report import ImportFailed
from palate.tables.sources import movielens
from palate.tables.sources.movielens import GENRES, movielens_100k


def flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES)


OFFICIAL = {  # the published layout with made-up rows
    "u.data": "2\t1\t5\t881250949\n1\t3\t1\t881250950\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
    "u.item": f"1|Añejo (1995)|01-Jan-1995||http://x|{flags('Animation', 'Comedy')}\n2|unknown||||{flags('unknown')}\n"
    f'3|"Quoted" Film: Part (2) (1997) (V)|02-Feb-1997||http://y|{flags("Film-Noir")}\n',
}
ATOMIC = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n2\t1\t5\t881250949\n1\t3\t1\t881250950\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tAñejo\t1995\tAnimation Comedy\n"
    '2\tunkonwn\tunkonwn\tunknown\n3\t"Quoted" Film: Part (2) (1997)\tV\tFilm-Noir\n',
}


def test_both_folders_give_the_same_world(tmp_path: Path) -> None:
    for name, text in OFFICIAL.items():
        (tmp_path / "official" / "ml-100k").mkdir(parents=True, exist_ok=True)
        (tmp_path / "official" / "ml-100k" / name).write_text(text, encoding="latin-1")
    for name, text in ATOMIC.items():
        (tmp_path / "atomic").mkdir(exist_ok=True)
        (tmp_path / "atomic" / name).write_text(text, encoding="utf-8")
    told: list[str] = []
    official, atomic = (movielens_100k(folder=tmp_path / kind, report=told.append) for kind in ("official", "atomic"))
    assert_frame_equal(official.events.frame, atomic.events.frame)
    assert_frame_equal(official.users, atomic.users)
    assert_frame_equal(official.items, atomic.items)
    assert official.items.rows() == [
        ("1", "Añejo", 1995, ["Animation", "Comedy"]),
        ("2", "unknown", None, ["unknown"]),
        ("3", '"Quoted" Film: Part (2)', 1997, ["Film-Noir"]),
    ]
    assert official.events.frame.row(0) == ("2", "1", 881250949000, "rating", 5.0, None, None)
    assert official.users.rows()[1] == ("2", 53, "F", "other", "T8H1N")
    assert "Harper" in told[0]
    assert "commercial" in told[0]


def test_no_way_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with pytest.raises(ImportFailed, match=r"(?s)holds neither u.data.*two ways.*pip fetch it.*folder="):
        movielens_100k(folder=tmp_path, report=told.append)
    assert told[0] == movielens.TERMS
    monkeypatch.setattr(movielens.sys, "executable", str(tmp_path / "no-python-here"))
    with pytest.raises(ImportFailed, match=r"(?s)pip could not fetch recbole==1.2.1.*two ways.*folder="):
        movielens_100k(cache=tmp_path / "cache", report=told.append)
    assert list((tmp_path / "cache").iterdir()) == []  # nothing half done is left


def test_a_wrong_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(Path(command[-1]) / movielens.WHEEL, "w") as archive:
            archive.writestr("ml-100k.inter", "x")
        return subprocess.CompletedProcess(command, 0, "", "")

    (tmp_path / movielens.WHEEL).write_bytes(b"damaged")
    monkeypatch.setattr(movielens.subprocess, "run", pip)
    told: list[str] = []
    with pytest.raises(ImportFailed, match="is not the expected one"):
        movielens_100k(cache=tmp_path, report=told.append)
    assert any("damaged" in line for line in told)


def test_the_data_set_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        movielens_100k(report=lambda _: None)
    except ImportFailed as error:
        pytest.skip(f"needs pip and a package index, or the wheel in the cache: {error.reason}")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a cached wheel needs no pip")

    monkeypatch.setattr(movielens.subprocess, "run", never)
    world = movielens_100k(report=lambda _: None)
    frame = world.events.frame
    assert (len(frame), frame["user"].n_unique(), frame["item"].n_unique()) == (100_000, 943, 1682)
    assert frame["value"].value_counts().sort("value")["count"].to_list() == [6110, 11370, 27145, 34174, 21201]
    assert set(frame["user"]) == set(world.users["id"])
    assert set(frame["item"]) == set(world.items["id"])
    assert (frame["time"].min(), frame["time"].max()) == (874724710000, 893286638000)
    assert world.items["year"].null_count() == 1
    assert world.items["genres"].list.explode().n_unique() == 19
    assert world.items.schema == {"id": pl.String, "title": pl.String, "year": pl.Int64, "genres": pl.List(pl.String)}
    assert world.terms == movielens.TERMS
