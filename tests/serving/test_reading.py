"""Queries and bodies: what fits gets through unchanged, what does not is refused with the place named."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.serving.problems import KINDS, Problem, pointer, printable
from palate.serving.reading import listed, members, parse, query
from palate.serving.routes import RULES
from palate.serving.settings import Settings

LIMITS = Settings()
RULE = {rule.name: rule for rule in RULES}
ASK = RULE["recommend"].query
GIVEN = RULE["recommend_given"].body or {}


def refused(call: Any, *arguments: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        call(*arguments)
    return caught.value


def test_a_query_is_read_with_its_defaults() -> None:
    found = query(b"user=a%20b&k=3&log=false", ASK, LIMITS)
    assert found == {"user": "a b", "k": 3, "scene": "", "request_id": None, "log": False, "why": False}
    assert query(b"", ASK, LIMITS)["k"] == 10


def test_an_unknown_parameter_names_the_nearest_right_one() -> None:
    problem = refused(query, b"user=1&scen=home", ASK, LIMITS)
    assert problem.status == 422
    assert "scen" in problem.detail
    assert "did you mean 'scene'" in problem.detail
    assert problem.errors[0]["parameter"] == "scen"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"k=-1", "k"),
        (b"k=1.5", "k"),
        (b"k=501", "k"),
        (b"k=", "k"),
        (b"k=%D9%A3", "k"),  # an Arabic digit is not a digit of ours
        (b"k=1&k=2", "k"),
        (b"log=yes", "log"),
        (b"user=", "user"),
        (b"user=%00", "user"),
        (b"user=" + b"x" * 600, "user"),
        (b"request_id=a%0Ab", "request_id"),
    ],
)
def test_a_wrong_value_names_its_parameter(text: bytes, name: str) -> None:
    problem = refused(query, text, ASK, LIMITS)
    assert problem.status == 422
    assert problem.errors[0]["parameter"] == name


@pytest.mark.parametrize("text", [b"user=%ff", b"user", b"&&", b"a=1;b", "user=ü".encode(), b"&".join(b"a=1" for _ in range(70))])
def test_a_query_that_is_none_is_malformed(text: bytes) -> None:
    assert refused(query, text, ASK, LIMITS).status in (400, 422)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"\xff", "UTF-8"),
        (b'{"a":1,"a":2}', "twice"),
        (b"NaN", "NaN"),
        (b"1e999", "too large"),
        (b"9" * 30, "too large"),
        (b"[" * 100_000, "deeper"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "deeper"),
    ],
)
def test_a_body_that_is_not_good_json_is_malformed(body: bytes, says: str) -> None:
    problem = refused(parse, body, LIMITS)
    assert problem.status == 400
    assert says in problem.detail


def test_brackets_inside_texts_are_no_depth() -> None:
    assert parse(json.dumps(["[" * 100, '\\"{{{{{{{{{{{{{{{{{{{'] * 20).encode(), LIMITS)[0] == "[" * 100


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"k": "3"}, "/k"),
        ({"k": True}, "/k"),
        ({"history": "abc"}, "/history"),
        ({"history": ["a", 3]}, "/history/1"),
        ({"history": ["a"] * 1001}, "/history"),
        ({"attributes": {"age": {"deep": 1}}}, "/attributes/age"),
        ({"attributes": {"a/b~": [1]}}, "/attributes/a~1b~0"),
        ({"attributes": []}, "/attributes"),
        ({"context": {"n": 2**60}}, "/context/n"),
        ({"user": ""}, "/user"),
        ({"user": "\ud800"}, "/user"),
        ({"histori": []}, "/histori"),
    ],
)
def test_a_wrong_member_is_named_by_its_pointer(body: Any, where: str) -> None:
    problem = refused(members, body, GIVEN, LIMITS)
    assert problem.status == 422
    assert problem.errors[0]["pointer"] == where


def test_a_null_stands_for_a_member_left_out() -> None:
    assert members({"user": None, "k": None}, GIVEN, LIMITS)["k"] == 10


def test_events_come_alone_listed_or_enclosed() -> None:
    one = {"user": "u", "item": "i"}
    assert listed(one, LIMITS) == ([one], True)
    assert listed([one, 3], LIMITS) == ([one, 3], False)
    assert listed({"events": [one]}, LIMITS) == ([one], False)
    assert refused(listed, [], LIMITS).status == 422
    assert refused(listed, 7, LIMITS).status == 422
    assert refused(listed, [one] * 1001, LIMITS).status == 413


def outcome(call: Any, *arguments: Any) -> Any:
    """What the call returns, or the problem it raises; anything else raised fails the test."""
    try:
        return call(*arguments)
    except Problem as problem:
        return problem


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
QUERIES = st.text(max_size=30).map(lambda text: urlencode({"user": text}, errors="replace").encode("ascii"))


@given(st.dictionaries(st.sampled_from([*GIVEN, "x", "", "k "]), PLAIN | st.lists(PLAIN | st.lists(PLAIN, max_size=2), max_size=3)))
@settings(max_examples=50, deadline=None)
def test_any_object_is_read_or_refused(body: dict[str, Any]) -> None:
    found = outcome(members, body, GIVEN, LIMITS)
    if isinstance(found, Problem):
        assert found.status in (400, 422)
        json.loads(found.body())
    else:
        assert set(found) == set(GIVEN)
        assert type(found["k"]) is int
        assert 0 <= found["k"] <= LIMITS.max_k


@given(st.binary(max_size=60) | QUERIES)
@settings(max_examples=150, deadline=None)
def test_any_query_is_read_or_refused(text: bytes) -> None:
    found = outcome(query, text, ASK, LIMITS)
    assert set(found) == set(ASK) if isinstance(found, dict) else found.status in (400, 422)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}":,0123456789eE+-.\\ntrufalsNI ', max_size=100).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    found = outcome(parse, body, LIMITS)
    assert not isinstance(found, Problem) or found.status == 400


@given(st.text())
@settings(deadline=None)
def test_what_clients_wrote_is_safe_to_repeat(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 81
    assert pointer(text).count("/") == 1


def test_a_problem_is_a_problem() -> None:
    for kind, (status, title) in KINDS.items():
        problem = Problem(kind, "why")
        found = json.loads(problem.body())
        assert found == {"type": f"/docs#problem-{kind}", "title": title, "status": status, "detail": "why"}
        assert problem.response().media_type == "application/problem+json"
