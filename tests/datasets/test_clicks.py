from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from palate.datasets import clicks


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder in the form of the larger MovieLens: 30 users, each with some films in an order of their own, some places unknown."""
    random = np.random.default_rng(0)
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    rows = []
    for user in range(1, 31):
        taken = random.permutation(40)[: random.integers(5, 30)]
        for place, film in enumerate(taken):
            rows.append((user, int(film) + 1, int(random.integers(1, 6)), -1 if user == 3 and place < 2 else place, 1))
    random.shuffle(rows)
    types = {"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Int8, "order": pl.Int32, "fold": pl.Int8}
    pl.DataFrame(rows, schema=types, orient="row").write_parquet(folder / "ratings.parquet")
    users = [(str(user), "FM"[user % 2], "25", str(user % 4), f"{user:05d}") for user in range(1, 31)]
    pl.DataFrame(users, schema=["user_id", "gender", "age", "occupation", "zip"], orient="row").write_parquet(folder / "users.parquet")
    titles = [(str(film), f"Film {film}", "Drama|War" if film % 2 else "Comedy") for film in range(1, 41)]
    pl.DataFrame(titles, schema=["movie_id", "title", "genres"], orient="row").write_parquet(folder / "movies.parquet")
    return tmp_path


def test_a_history_holds_the_user_s_earlier_films_and_no_other(films: Path) -> None:
    data = clicks.ml1m(films, quiet, length=4)
    ratings = pl.read_parquet(films / "ml-1m/ratings.parquet")
    taken = {(user, film): (stars, place) for user, film, stars, place, _ in ratings.iter_rows()}
    assert sum(map(len, data.parts.values())) == sum(stars != 3 for stars, _ in taken.values())
    names = ("user_id", "item_id")
    train = data.parts["train"]
    batch = train.batch(torch.arange(len(train)))
    # ids are given in the order in which training shows the values, users and films each: read them back from the groups and the labels
    users = {}
    for code, user in zip(batch["user_id"].tolist(), batch["group"].tolist(), strict=True):
        assert users.setdefault(code, user) == user
    seen = 0
    film_of = film_codes(data, films)
    for row in range(len(train)):
        user, film = users[int(batch["user_id"][row])], film_of[int(batch["item_id"][row])]
        stars, place = taken[user, film]
        assert float(batch["label:click"][row]) == float(stars > 3)
        before = sorted((at, one) for (whose, one), (_, at) in taken.items() if whose == user and 0 <= at < place)
        expected = [one for _, one in before][-4:] if place >= 0 else []
        found = [film_of.get(code) for code in batch["history"][row].tolist() if code]
        assert [one for one in found if one is not None] == [one for one in expected if one in film_of.values()]
        assert len(found) == len(expected)
        assert (batch["history_genre"][row] > 0).sum() == len(expected)
        seen += len(expected)
    assert seen > 100
    assert data.schema.history == "history"
    assert all(data.schema[name].vocab_size > 2 for name in names)


def test_strangers_are_in_one_part_only_and_known_by_what_they_clicked(films: Path) -> None:
    data = clicks.ml1m(films, quiet, length=40, strangers=True)
    users = [set(part.groups.tolist()) for part in data.parts.values()]
    assert sum(map(len, users)) == len(set.union(*users)) == 30
    assert "user_id" not in data.schema
    liked: dict[int, list[int]] = {}
    for user, _, stars, place, _ in pl.read_parquet(films / "ml-1m/ratings.parquet").iter_rows():
        if stars > 3 and place >= 0:
            liked.setdefault(user, []).append(place)
    longest = dict.fromkeys(liked, 0)
    for part in data.parts.values():
        batch = part.batch(torch.arange(len(part)))
        for user, history, click in zip(batch["group"].tolist(), batch["history"], batch["label:click"].tolist(), strict=True):
            longest[user] = max(longest[user], int((history > 0).sum()) + int(click))
    assert {user: size for user, size in longest.items() if user != 3} == {user: len(places) for user, places in liked.items() if user != 3}


def film_codes(data: clicks.Clicks, films: Path) -> dict[int, int]:
    """The film behind each id, by the order in which the training rows show them."""
    ratings = pl.read_parquet(films / "ml-1m/ratings.parquet").sort("user_id", "order", maintain_order=True)
    kept = ratings.filter(pl.col("rating") != 3)
    part = clicks._parts(len(kept), 2026)
    shown = dict.fromkeys(kept.filter(pl.Series(part == 0))["movie_id"].to_list())
    return {code + 2: film for code, film in enumerate(shown)}


def test_what_only_later_parts_show_is_unknown(films: Path) -> None:
    data = clicks.ml1m(films, quiet)
    for name in ("valid", "test"):
        part = data.parts[name]
        batch = part.batch(torch.arange(len(part)))
        for feature in data.schema.features:
            assert int(batch[feature.name].max()) < feature.vocab_size
            assert int(batch[feature.name].min()) >= (0 if feature.kind == "sequence" else 1)


def test_data_that_is_not_there_is_named_with_the_way_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(clicks.NoData, match=r"anime/watched\.parquet is not there.*--data-dir"):
        clicks.anime(tmp_path, quiet)
