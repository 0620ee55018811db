"""Users and items: ids first, attributes of one or several values, bad rows named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from palate.tables.entities import read_entities
from palate.tables.report import ImportFailed

CSV = "item_id,title,year,genres\n1,Toy Story,1995,Animation|Comedy\n2,Heat,,\n07,Ran,1985, Drama | War\n"
ATOMIC = "item_id:token\ttitle:token_seq\tyear:float\tgenres:token_seq\n1\tToy Story\t1995\tAnimation Comedy\n2\tHeat\t\t\n07\tRan\t1985\tDrama War\n"


def test_csv_parquet_frames_and_atomic_files_agree(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text(CSV)
    (tmp_path / "i.item").write_text(ATOMIC)
    items, report = read_entities(tmp_path / "i.csv", multi=("genres",))
    assert items.columns == ["id", "title", "year", "genres"]
    assert items["id"].to_list() == ["1", "2", "07"]
    assert items["genres"].to_list() == [["Animation", "Comedy"], [], ["Drama", "War"]]
    assert items["year"].to_list() == [1995, None, 1985]
    assert (report.read, report.accepted, report.columns) == (3, 3, {"id": "item_id"})
    items.write_parquet(tmp_path / "i.parquet")
    assert_frame_equal(read_entities(tmp_path / "i.parquet")[0], items)
    raw = pl.read_csv(tmp_path / "i.csv", infer_schema=False)
    for table in (raw, raw.to_pandas(), raw.to_arrow()):
        assert_frame_equal(read_entities(table, multi=("genres",))[0], items)
    atomic, _ = read_entities(tmp_path / "i.item")
    assert_frame_equal(atomic.drop("title"), items.drop("title"), check_dtypes=False)
    assert atomic["title"].to_list()[0] == ["Toy", "Story"]


def test_bad_rows_are_named_and_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("id,age\na,30\n,40\na,50\nb,old\nc,inf\nd,\n")
    users, report = read_entities(path, numbers=("age",), on_bad="aside")
    assert users.rows() == [("a", 30.0), ("d", None)]
    assert [str(r) for r in report.rejected] == [
        "users.csv, row 3, column 'id': '' is empty",
        "users.csv, row 4, column 'id': 'a' is an id that an earlier row bears",
        "users.csv, row 5, column 'age': 'old' is not a number",
        "users.csv, row 6, column 'age': 'inf' is not a finite number",
    ]
    assert report.accepted + len(report.rejected) == report.read
    assert pl.read_csv(report.aside)["rejected_row"].to_list() == [3, 4, 5, 6]
    with pytest.raises(ImportFailed, match=r"users.csv, row 3, column 'id': '' is empty"):
        read_entities(path)


def test_bad_options_are_named() -> None:
    for options, words in (
        ({"id_column": "item"}, "no column 'item'; did you mean 'item_id'"),
        ({"multi": ("genre",)}, "no column 'genre'; did you mean 'genres'"),
        ({"numbers": ("yeer",)}, "no column 'yeer'; did you mean 'year'"),
    ):
        with pytest.raises(ImportFailed, match=words):
            read_entities(CSV.encode(), name="i.csv", **options)  # type: ignore[arg-type]
    with pytest.raises(ImportFailed, match="name it with id_column="):
        read_entities(b"name,age\na,1\n", name="u.csv")


def test_ids_by_name_and_numbers_without_point_zero() -> None:
    users, _ = read_entities(pd.DataFrame({"userId": [1.0, 2.0], "age": [20, 30]}))
    assert users["id"].to_list() == ["1", "2"]
    users, report = read_entities(pl.DataFrame({"id": [9], "code": ["x"]}), id_column="code")
    assert users.columns == ["id"]
    assert report.notes == ("column 'id' ignored: its name is taken by 'code'",)
