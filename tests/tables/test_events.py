"""Events: every format gives the same table, every bad row is named, nothing is lost."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from palate.tables.events import Events, read_events
from palate.tables.report import ImportFailed, Report

GOOD = """user,item,time,kind,value,scene,position
ann,i1,1704067200,click,,home,1
bob,i2,1704067201.5,rating,4.5,search,2
zoë,i3,1704067300,buy,9.99,home,10
"""


def csv(text: str | bytes, **options: object) -> tuple[Events, Report]:
    return Events.of(text if isinstance(text, bytes) else text.encode(), name="events.csv", **options)


def failure(text: str | bytes, **options: object) -> str:
    with pytest.raises(ImportFailed) as caught:
        csv(text, **options)
    return str(caught.value)


# ── formats ──


def test_every_format_gives_the_same_events(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(GOOD, encoding="utf-8")
    (tmp_path / "e.tsv").write_text(GOOD.replace(",", "\t"), encoding="utf-8")
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    (tmp_path / "quoted.csv").write_text("\n".join(",".join(f'"{f}"' for f in line.split(",")) for line in GOOD.splitlines()), encoding="utf-8")
    header = "user_id:token\titem_id:token\ttimestamp:float\tkind:token\trating:float\tscene:token\tposition:float"
    body = "\n".join(GOOD.replace(",", "\t").splitlines()[1:])
    (tmp_path / "e.inter").write_text(f"{header}\n{body}\n", encoding="utf-8")
    want, report = read_events(tmp_path / "e.csv")
    assert (report.read, report.accepted, len(report.rejected)) == (3, 3, 0)
    assert want.frame.rows()[1] == ("bob", "i2", 1704067201500, "rating", 4.5, None, None, "search", 2)
    frame = pl.read_csv(tmp_path / "e.csv")
    frame.write_parquet(tmp_path / "e.parquet")
    for name in ("e.tsv", "e.csv.gz", "bom.csv", "quoted.csv", "e.inter", "e.parquet"):
        found, report = read_events(tmp_path / name)
        assert report.accepted + len(report.rejected) == report.read == 3
        assert_frame_equal(found.frame, want.frame, check_dtypes=name != "e.inter")  # an atomic "float" position is a float
    tables = {
        "polars": frame,
        "lazy": frame.lazy(),
        "arrow": frame.to_arrow(),
        "pandas": frame.to_pandas(),
        "mapping": frame.to_dict(as_series=False),
    }
    tables["pandas objects"] = frame.to_pandas().astype(object)
    tables["record batches"] = pa.RecordBatchReader.from_batches(frame.to_arrow().schema, frame.to_arrow().to_batches())
    for name, table in tables.items():
        found, _ = Events.of(table)
        assert_frame_equal(found.frame, want.frame), name
    want.write(tmp_path / "ours.parquet")
    assert_frame_equal(read_events(tmp_path / "ours.parquet")[0].frame, want.frame)


def test_pandas_without_pyarrow(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import pandas, polars\n"
        "from palate.tables.events import Events\n"
        "e, r = Events.of(pandas.DataFrame({'user': ['a', 'b'], 'item': [1.0, 2.0], 'time': pandas.to_datetime(['2020-01-01', '2020-01-02'])}))\n"
        "print(e.frame['item'].to_list(), e.frame['time'].to_list())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['1', '2'] [1577836800000, 1577923200000]", done.stderr


def test_tables_load_neither_torch_nor_pandas() -> None:
    modules = "palate.tables.splits, palate.tables.cleaning, palate.tables.entities, palate.tables.sources.movielens, palate.tables.sources.synthetic"
    program = f"import sys, {modules}; print([m for m in ('torch', 'pandas', 'pyarrow', 'fastapi') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_ids_lose_their_point_zero_and_nothing_else() -> None:
    frame = pd.DataFrame({"user": [1.0, np.nan, 3.0, 12345678901.0], "item": ["007", "1.0", "x", " y "], "time": [1, 2, 3, 4]})
    events, report = Events.of(frame, on_bad="skip")
    assert events.frame["user"].to_list() == ["1", "3", "12345678901"]
    assert events.frame["item"].to_list() == ["007", "x", " y "]
    assert [str(r) for r in report.rejected] == ["events, row 2, column 'user': '' is empty"]
    mixed = pd.DataFrame({"user": [1, "b", 2.0], "item": [1, 2, 3], "time": [1, 2, 3]}, dtype=object)
    assert Events.of(mixed)[0].frame["user"].to_list() == ["1", "b", "2"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=20))
def test_ids_of_any_unicode_survive_csv_and_parquet(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    pairs = [(u, i) for u, i in pairs if u.strip() and i.strip()]
    frame = pl.DataFrame(
        {"user": [u for u, _ in pairs], "item": [i for _, i in pairs], "time": [1] * len(pairs)},
        schema_overrides={"user": pl.String, "item": pl.String},
    )
    folder = tmp_path_factory.mktemp("unicode")
    frame.write_csv(folder / "e.csv", quote_style="always")
    frame.write_parquet(folder / "e.parquet")
    for name in ("e.csv", "e.parquet"):
        events, report = read_events(folder / name)
        assert events.frame.select("user", "item").rows() == pairs
        assert report.accepted == len(pairs)


# ── bad input: golden messages ──


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",i,5,1", "events.csv, row 3, column 'user': '' is empty"),
        ("  ,i,5,1", "events.csv, row 3, column 'user': '  ' is empty"),
        ("u,,5,1", "events.csv, row 3, column 'item': '' is empty"),
        ("u,i,,1", "events.csv, row 3, column 'time': '' is empty"),
        ("u,i,yesterday,1", "events.csv, row 3, column 'time': 'yesterday' is not a time (a number since 1970 or ISO 8601)"),
        ("u,i,2024-02-30,1", "events.csv, row 3, column 'time': '2024-02-30' is not a time (a number since 1970 or ISO 8601)"),
        ("u,i,inf,1", "events.csv, row 3, column 'time': 'inf' lies more than a day in the future"),
        ("u,i,-3,1", "events.csv, row 3, column 'time': '-3' lies before 1970"),
        ("u,i,1969-12-31T23:59:59Z,1", "events.csv, row 3, column 'time': '1969-12-31T23:59:59Z' lies before 1970"),
        ("u,i,99999999999,1", "events.csv, row 3, column 'time': '99999999999' lies more than a day in the future"),
        ("u,i,5,many", "events.csv, row 3, column 'rating': 'many' is not a number"),
        ("u,i,5,NaN", "events.csv, row 3, column 'rating': 'NaN' is not a finite number"),
        ("u,i,5,-inf", "events.csv, row 3, column 'rating': '-inf' is not a finite number"),
        ("u,i,5,1e300", "events.csv, row 3, column 'rating': '1e300' is not a finite number"),
        ("u,i,5", "events.csv, row 3, column 'rating': '' is missing: 3 of the header's 4 fields"),
        ("u,i,5,1,extra", "events.csv, row 3, column 'rating': '1,extra' has more than the header's 4 fields"),
        ("u,\udcff,5,1", "events.csv, row 3, column 'item': '\\\\xff' is not valid UTF-8"),
        ('u,"i,5,1', "events.csv, row 3, column 'time': '' is missing: 2 of the header's 4 fields"),
    ],
)
def test_a_bad_row_is_named(row: str, message: str) -> None:
    text = f"user,item,time,rating\na,b,1,2\n{row}\n".encode("utf-8", "surrogateescape")
    assert failure(text) == message
    events, report = csv(text, on_bad="skip")
    assert len(events) == 1
    assert report.read == 2
    assert [str(r) for r in report.rejected] == [message]
    assert report.rejected[0].file == "events.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "events.csv: is empty: not even a header line"),
        ("\n\n", "events.csv: is empty: not even a header line"),
        ("usr,item,time\n", "events.csv: no column 'user'; did you mean 'usr'?: map it with columns={'user': ...}"),
        ("user,thing,time\n", "events.csv: no column 'item'; did you mean 'time'?: map it with columns={'item': ...}"),
        ("user,item\n1,2\n", "events.csv: no column 'time'; did you mean 'item'?: map it with columns={'time': ...}, or say untimed=True"),
        ("user,item,time,user\n", "events.csv, row 1, column 'user': 'user' stands twice in the header"),
    ],
)
def test_a_bad_table_is_named(text: str, message: str) -> None:
    assert failure(text) == message


def test_bad_options_are_named(tmp_path: Path) -> None:
    assert failure(GOOD, columns={"valeu": "scene"}) == "events.csv: events have no column 'valeu'; did you mean 'value'?"
    assert (
        failure(GOOD, columns={"user_id": "user"}) == "events.csv: events have no column 'user_id': write it the other way round, {'user': 'user_id'}"
    )
    assert failure(GOOD, columns={"value": "postion"}) == "events.csv: no column 'postion' (wanted as 'value'); did you mean 'position'?"
    assert failure(GOOD, context=["scen"]) == "events.csv: no column 'scen' (wanted as context); did you mean 'scene'?"
    for option, value in (("on_bad", "ignore"), ("time_unit", "h"), ("duplicates", "merge")):
        with pytest.raises(ValueError, match=f"{option} must be one of"):
            csv(GOOD, **{option: value})
    for path, words in ((tmp_path / "none.csv", "no such file"), (tmp_path, "is not a file")):
        with pytest.raises(ImportFailed, match=words):
            read_events(path)
    for name, content, words in (
        ("e.xls", b"x", "files ending in '.xls' are not known"),
        ("e.parquet", b"PAR1 not really", "is not a readable Parquet file"),
        ("e.csv", gzip.compress(b"user,item,time\n" * 99)[:-9], "is not readable"),
        ("e.inter", b"user\titem\n", "an atomic file's header is name:type"),
        ("f.csv", b"us\xffer,item\n", "header is not valid UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImportFailed, match=words):
            read_events(tmp_path / name)
    with pytest.raises(ImportFailed, match="a table is a path or a polars, pandas or Arrow frame, not int"):
        Events.of(3)
    with pytest.raises(ImportFailed, match="column 'user' holds List"):
        Events.of(pl.DataFrame({"user": [["a"]], "item": ["b"], "time": [1]}))


def test_line_numbers_count_blank_lines_and_line_ends_inside_quotes() -> None:
    text = 'user,item,time\na,"two\nlines",1\n\n\nb,,2\n"c\r\nd",x,3\ne,,4\n'
    _, report = csv(text, on_bad="skip")
    assert [r.row for r in report.rejected] == [6, 9]
    _, report = csv('user,item,time\na,"two\nlines",1\nb,,2\n', on_bad="skip")
    assert [r.row for r in report.rejected] == [4]


def test_old_line_ends_and_other_encodings() -> None:
    events, _ = csv(GOOD.replace("\n", "\r"))
    assert len(events) == 3
    assert csv(GOOD.encode("latin-1"), on_bad="skip")[1].rejected[0].reason == "is not valid UTF-8"


def test_an_empty_table_is_an_empty_table() -> None:
    events, report = csv("user,item,time\n")
    assert len(events) == report.read == 0
    assert Events.of(pl.DataFrame({"user": [], "item": [], "time": []}))[1].accepted == 0


def test_bad_rows_are_put_aside_as_they_came(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('user,item,time,note\na,b,1,x\n,b,2,"y, z"\nc,d,soon,w\n', encoding="utf-8")
    events, report = read_events(path, on_bad="aside")
    assert len(events) == 1
    assert report.aside == tmp_path / "log.csv.rejected.csv"
    aside = pl.read_csv(report.aside)
    assert aside.columns == ["user", "item", "time", "note", "rejected_row", "rejected_column", "rejected_reason"]
    assert aside["rejected_row"].to_list() == [3, 4]
    assert aside["note"].to_list() == ["y, z", "w"]
    _, report = read_events(path, on_bad="aside", aside=tmp_path / "there.csv")
    assert report.aside == tmp_path / "there.csv"
    assert report.aside.is_file()
    with pytest.raises(ValueError, match="name it with aside="):
        csv("user,item,time\n,b,1\n", on_bad="aside")
    assert csv("user,item,time\na,b,1\n", on_bad="aside")[1].aside is None


def test_report_speaks_and_serialises() -> None:
    _, report = csv("user_id,item,time,rating\na,b,1,x\nc,,1,2\nd,e,1,1\nd,e,1,1\n", on_bad="skip")
    assert str(report).splitlines() == [
        "events.csv: read 4, accepted 2, rejected 2",
        "  columns: user from 'user_id', value from 'rating'",
        "  exact duplicates: 1",
        "  1 x column 'item' is empty",
        "  1 x column 'rating' is not a number",
        "    events.csv, row 2, column 'rating': 'x' is not a number",
        "    events.csv, row 3, column 'item': '' is empty",
    ]
    told = report.to_json()
    assert told["accepted"] + told["rejected"] == told["read"] == 4
    assert told["rejected_rows"][0] == {"file": "events.csv", "row": 2, "column": "rating", "value": "x", "reason": "is not a number"}


# ── times ──


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("1704067200", 1704067200000),
        ("1704067200.25", 1704067200250),
        ("2024-01-01", 1704067200000),
        ("2024-01-01T00:00", 1704067200000),
        ("2024-01-01 00:00:00", 1704067200000),
        ("2024-01-01T00:00:00Z", 1704067200000),
        ("2024-01-01T01:00:00+01:00", 1704067200000),
        ("2023-12-31T18:30:00.5-0530", 1704067200500),
        ("2024-01-01T00:00:00.123456+00", 1704067200123),
    ],
)
def test_times_are_read(written: str, moment: int) -> None:
    events, _ = csv(f"user,item,time\na,b,1704067300\na,b,{written}\na,b,1704067200\n")
    assert events.frame["time"].to_list()[1] == moment


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_are_told_by_size_or_by_name(unit: str, factor: int) -> None:
    moments = np.array([1_000_000_000, 1_704_067_200, 1_600_000_000], np.int64)
    for column in (moments * factor, (moments * factor).astype(float), [str(m * factor) for m in moments]):
        frame = pl.DataFrame({"user": ["a"] * 3, "item": ["b"] * 3, "time": column})
        for told in ("auto", unit):
            assert Events.of(frame, time_unit=told)[0].frame["time"].to_list() == (moments * 1000).tolist()


def test_dates_with_and_without_zone() -> None:
    moments = pd.to_datetime(["2024-01-01T01:00:00+01:00", None, "2024-01-01T00:00:00Z"], utc=True).tz_convert("Asia/Tokyo")
    frame = pd.DataFrame({"user": ["a"] * 3, "item": ["b"] * 3, "time": moments})
    for table in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        events, report = Events.of(table, on_bad="skip")
        assert events.frame["time"].to_list() == [1704067200000] * 2
        assert report.rejected[0].reason == "is empty"


def test_the_future_begins_a_day_after_now() -> None:
    now = 1_704_067_200_000
    frame = pl.DataFrame({"user": ["a"] * 3, "item": ["b"] * 3, "time": [now, now + 86_400_000, now + 86_400_001]})
    events, report = Events.of(frame, on_bad="skip", now=now)
    assert len(events) == 2
    assert report.rejected[0].row == 3


def test_untimed_tables_get_their_order() -> None:
    events, _ = csv("user,item\na,b\nc,d\n", untimed=True)
    assert events.frame["time"].to_list() == [0, 1]


# ── duplicates ──


def test_event_ids_count_once() -> None:
    text = "user,item,time,event_id\n,b,1,e1\na,b,1,e1\na,b,2,e1\na,b,3,\na,b,4,\n"
    events, report = csv(text, on_bad="skip")
    assert events.frame["time"].to_list() == [1000, 3000, 4000]  # the first row was bad, so the second bears e1
    assert [(r.row, r.reason) for r in report.rejected] == [(2, "is empty"), (4, "is an event_id that an earlier row bears")]


def test_exact_duplicates_are_counted_and_kept_unless_dropped() -> None:
    text = "user,item,time,rating,event_id,scene\na,b,1,2,,x\na,b,1,2,,y\na,b,1,3,,x\na,b,1,2,e1,x\na,b,1,2,,z\n"
    events, report = csv(text)
    assert (len(events), report.duplicates) == (5, 2)
    events, report = csv(text, duplicates="drop")
    assert events.frame["scene"].to_list() == ["x", "x", "x"]
    assert (report.read, report.accepted, len(report.rejected), report.duplicates) == (5, 3, 2, 2)


# ── accounts ──

CELLS = st.one_of(
    st.sampled_from(["", " ", "a", "b", "1", "2.0", "nan", "inf", "-1", "1e999", "2024-01-01", "9" * 25, '"', '""', "x\ny", "é", "\x00"]),
    st.text(max_size=6),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=12), st.booleans(), st.sampled_from(["keep", "drop"]))
def test_accepted_and_rejected_are_what_was_read(rows: list[list[str]], quoted: bool, duplicates: str) -> None:
    lines = ["user,item,time,value,event_id"]
    lines += [",".join('"' + cell.replace('"', '""') + '"' if quoted else cell for cell in row) for row in rows]
    events, report = csv("\n".join(lines).encode("utf-8", "replace"), on_bad="skip", duplicates=duplicates)
    assert report.accepted + len(report.rejected) == report.read
    assert len(events) == report.accepted
    if quoted:
        assert report.read == len(rows)
    assert not events.frame.select(pl.col("user", "item", "time", "kind").is_null().any()).row(0).count(True)
    assert not events.frame["value"].is_nan().any()


def test_ten_thousand_broken_rows(tmp_path: Path) -> None:
    chance = random.Random(5)
    pieces = [
        "u1",
        "i2",
        "1704067200",
        "5",
        "",
        "nan",
        "\xff",
        "\udc80",
        '"',
        ",",
        "\r",
        "\t",
        "x" * 50,
        "2024-13-01",
        "1e400",
        "-",
        "𐍈",
        "\x00",
        "'",
        ";",
    ]
    good = 0
    lines = [b"user,item,time,value,event_id"]
    for n in range(10_000):
        if chance.random() < 0.2:
            lines.append(f"u{n},i{n},{1_704_067_200 + n},1,e{n}".encode())
            good += 1
        else:
            lines.append(
                "".join(chance.choice([*pieces, ",", ","]) for _ in range(chance.randint(0, 9))).replace('"', "").encode("utf-8", "surrogateescape")
            )
    path = tmp_path / "fuzz.csv"
    path.write_bytes(b"\n".join(lines))
    _, report = read_events(path, on_bad="aside")
    assert report.accepted + len(report.rejected) == report.read
    assert report.accepted >= good
    assert pl.read_csv(report.aside, infer_schema=False).height == len(report.rejected)
    lines[5000] += b'"'  # and one quote that is never closed
    path.write_bytes(b"\n".join(lines))
    _, report = read_events(path, on_bad="skip")
    assert report.accepted + len(report.rejected) == report.read
    with pytest.raises(ImportFailed, match=r"fuzz.csv, row \d+, column"):
        read_events(path)


def test_fast_and_careful_reading_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [f"u{rng.integers(9)},i{rng.integers(9)},{1_700_000_000 + n},{rng.integers(5)}" for n in range(500)]
    plain = "user,item,time,value\n" + "\n".join(rows)
    fast, _ = csv(plain)
    careful, report = csv(plain + "\n\n")  # a blank line is read the careful way
    assert_frame_equal(fast.frame, careful.frame)
    assert report.read == 500


def test_context_types_are_plain() -> None:
    events, report = csv("user,item,time,a,b,c,d,kind2,item_id\nu,i,1,1,1.5,007,,x,y\nu,i,1,-2,2,1,,,z\n")
    frame = events.frame
    assert frame.schema["a"] == pl.Int64
    assert frame.schema["b"] == pl.Float64
    assert frame["c"].to_list() == ["007", "1"]
    assert frame["d"].null_count() == 2
    assert frame["kind2"].to_list() == ["x", None]
    assert events.context == ("a", "b", "c", "d", "kind2", "item_id")
    events, report = Events.of(pl.DataFrame({"uid": ["a"], "user": ["b"], "item": ["c"], "time": [1]}), columns={"user": "uid"})
    assert events.frame["user"].to_list() == ["a"]
    assert report.notes == ("column 'user' ignored: its name is taken by 'uid'",)


def test_events_slice_and_sort() -> None:
    events, _ = csv("user,item,time,kind\na,x,3,click\nb,y,1,buy\nc,z,2,click\n")
    assert events.sorted().frame["user"].to_list() == ["b", "c", "a"]
    assert len(events.before(2000)) == 1
    assert len(events.since(2000)) == 2
    assert len(events.of_kinds("click")) == 2
    assert events.take(np.array([2, 0])).frame["user"].to_list() == ["c", "a"]
    with pytest.raises(ValueError, match="events need the column 'time'"):
        Events(pl.DataFrame({"user": ["a"], "item": ["b"], "kind": ["c"]}))
    with pytest.raises(TypeError, match="column 'user' of events is String, not Int64"):
        Events(pl.DataFrame({"user": [1], "item": ["b"], "time": [1], "kind": ["c"]}))
