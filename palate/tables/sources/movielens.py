"""MovieLens-100K: 100,000 ratings of 1,682 films by 943 users between September 1997 and April 1998, with times.

Taken out of a PyPI wheel that carries it, fetched by the user's own pip (so that the user's index, proxy and cache count), or from a
local folder. Harper, Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from palate.tables.entities import read_entities
from palate.tables.events import Events
from palate.tables.files import load
from palate.tables.report import ImportFailed
from palate.tables.world import World

REQUIREMENT = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
INSIDE = "recbole/dataset_example/ml-100k/ml-100k"
PATIENCE = 600  #: seconds for pip

TERMS = """MovieLens-100K was collected by the GroupLens research group at the University of Minnesota. In short: it may be used for research;
the university guarantees neither its correctness nor its fitness for a purpose and does not endorse results; publications that use it
must cite it; it may not be passed on, nor used for commercial or revenue-bearing purposes, without the group's permission.
The full terms are in the README of the data set that GroupLens publishes. Cite:
  F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
  ACM Transactions on Interactive Intelligent Systems (TiiS) 5, 4, Article 19."""

# fmt: off
GENRES = (  # in the order of the flags of u.item
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror",
    "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
YEAR = r" \((\d{4})\)(?: \(V\))?$"  #: at a title's end; (V) marks a film made for video
UNKNOWN = "unkonwn"  # as the atomic files spell it


def movielens_100k(
    folder: str | os.PathLike[str] | None = None, cache: str | os.PathLike[str] | None = None, report: Callable[[str], object] = print
) -> World:
    """Events of kind "rating" (value 1 to 5); users: age, gender, occupation, zip_code; items: title, year, genres.

    ``folder``: a local copy, as GroupLens publishes it (u.data, u.user, u.item) or as RecBole's atomic files (ml-100k.inter, .user,
    .item). Without it the wheel is fetched once into ``cache`` ($PALATE_CACHE, or palate's folder in ~/.cache) and read there, offline
    afterwards. ``report`` is told the terms of use first. Raises ImportFailed.
    """
    report(TERMS)
    if folder is not None:
        return _from_folder(Path(folder))
    wheel = _wheel(Path(cache) if cache is not None else cache_folder(), report)
    with zipfile.ZipFile(wheel) as archive:
        files = {suffix: archive.read(INSIDE + suffix) for suffix in (".inter", ".user", ".item")}
    return _from_atomic(files)


def cache_folder() -> Path:
    """Where fetched data is kept: $PALATE_CACHE, or palate's folder in ~/.cache."""
    chosen = os.environ.get("PALATE_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "palate"


def _wheel(cache: Path, report: Callable[[str], object]) -> Path:
    """The wheel in the cache, its hash checked; fetched by pip where it is not there."""
    wheel = cache / WHEEL
    if wheel.is_file():
        if _digest(wheel) == SHA256:
            return wheel
        report(f"{wheel} is damaged (its SHA-256 is not the expected one): fetching it again")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as place:
        requirements = Path(place) / "requirements.txt"
        requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:none:", "--only-binary=:all:", "--require-hashes"]
        report(f"fetching {REQUIREMENT} (2 MB; the wheel is read, not installed) with pip into {cache}")
        try:
            done = subprocess.run([*command, "-r", str(requirements), "-d", place], capture_output=True, text=True, timeout=PATIENCE, check=False)
            said = (done.stderr or done.stdout).strip().splitlines()
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        fetched = Path(place) / WHEEL
        if not fetched.is_file():
            why = next((line.strip() for line in reversed(said) if line.startswith("ERROR")), said[-1].strip() if said else "no reason given")
            raise _neither(f"pip could not fetch {REQUIREMENT} ({why})")
        if _digest(fetched) != SHA256:
            raise _neither(f"the wheel that pip fetched for {REQUIREMENT} is not the expected one (SHA-256 differs)")
        shutil.move(fetched, wheel)
    return wheel


def _neither(why: str) -> ImportFailed:
    return ImportFailed(
        f"{why}. There are two ways to MovieLens-100K: let pip fetch it (`python -m pip download --no-deps {REQUIREMENT}` must work here; put "
        f"the wheel into $PALATE_CACHE to go without a network), or give a local copy with folder=, holding u.data, u.user and u.item",
        file="MovieLens-100K",
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _from_folder(folder: Path) -> World:
    for place in (folder, folder / "ml-100k"):
        if (place / "u.data").is_file():
            return _from_official(place)
        if (place / "ml-100k.inter").is_file():
            return _from_atomic({suffix: (place / f"ml-100k{suffix}").read_bytes() for suffix in (".inter", ".user", ".item")})
    raise _neither(f"{folder} holds neither u.data nor ml-100k.inter")


def _from_atomic(files: dict[str, bytes]) -> World:
    events, _ = Events.of(files[".inter"], kind="rating", time_unit="s", name="ml-100k.inter")
    users, _ = read_entities(files[".user"], name="ml-100k.user", numbers=("age",))
    raw, _ = read_entities(files[".item"], name="ml-100k.item")
    items = raw.with_columns(pl.col("movie_title").list.join(" ").replace(UNKNOWN, "unknown"))
    return _world(
        events,
        users,
        items.select(
            "id",
            title=_title("movie_title"),
            year=pl.coalesce(pl.col("release_year").cast(pl.Int64, strict=False), _year("movie_title")),
            genres=pl.col("class"),
        ),
    )


def _from_official(folder: Path) -> World:
    names = ("user", "item", "value", "time")
    events, _ = Events.of(_pipe(folder / "u.data", names, "\t"), kind="rating", time_unit="s", name="u.data")
    users, _ = read_entities(_pipe(folder / "u.user", ("id", "age", "gender", "occupation", "zip_code")), name="u.user", numbers=("age",))
    raw = _pipe(folder / "u.item", ("id", "title", "released", "video", "link", *GENRES))
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    items, _ = read_entities(
        raw.select(
            "id",
            title=_title("title"),
            year=pl.coalesce(_year("title"), pl.col("released").str.extract(r"(\d{4})$").cast(pl.Int64)),
            genres=pl.concat_list(flags).list.drop_nulls(),
        ),
        name="u.item",
    )
    return _world(events, users, items)


def _title(column: str) -> pl.Expr:
    return pl.col(column).str.replace(YEAR, "").str.strip_chars()


def _year(column: str) -> pl.Expr:
    return pl.col(column).str.extract(YEAR).cast(pl.Int64)


def _pipe(path: Path, header: tuple[str, ...], separator: str = "|") -> pl.DataFrame:
    """One of GroupLens's files: Latin-1, no header, no quotes."""
    if not path.is_file():
        raise ImportFailed("no such file", file=str(path))
    return load(path.read_bytes(), name=path.name, suffix=".csv", separator=separator, header=header, quote=None, encoding="latin-1").frame


def _world(events: Events, users: pl.DataFrame, items: pl.DataFrame) -> World:
    users = users.select("id", pl.col("age").cast(pl.Int64), "gender", "occupation", pl.col("zip_code").cast(pl.String))
    return World(events, users, items, "MovieLens-100K", TERMS)
