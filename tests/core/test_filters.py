"""Promises of filters: what they match, what they refuse and where, and what a store may rely on."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import pytest
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.core import filters
from lro_aio.core.codec import pack
from lro_aio.core.errors import InvalidFilterError
from lro_aio.core.filters import Filter, Pushdown, parse
from lro_aio.core.record import Record, State
from lro_aio.core.status import make_status

ENDED = {State.SUCCEEDED, State.FAILED, State.CANCELLED}
T0 = 1_700_000_000.0
T0_TEXT = "2023-11-14T22:13:20Z"


def record(state: State = State.RUNNING, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "name": "operations/a",
        "uid": "u",
        "state": state,
        "create_time": T0,
        "update_time": T0,
        "handler": "render",
    }
    if state in ENDED:
        fields["end_time"] = T0 + 60
    return Record(**(fields | changes))


def with_metadata(message: Message, **changes: Any) -> Record:
    return record(metadata=pack(message), **changes)


def failed(code: int = 5, message: str = "no such file") -> Record:
    return record(State.FAILED, error=make_status(code, message, reason="NO_FILE").SerializeToString())


def struct(**members: Any) -> struct_pb2.Struct:
    value = struct_pb2.Struct()
    value.update(members)
    return value


def matches(text: str, row: Record) -> bool:
    return parse(text).matches(row)


def attempt(text: str) -> Filter | InvalidFilterError:
    try:
        return parse(text)
    except InvalidFilterError as exc:
        return exc


def refused(text: str) -> InvalidFilterError:
    error = attempt(text)
    assert isinstance(error, InvalidFilterError), f"{text!r} was taken"
    return error


# The row's own fields


@pytest.mark.parametrize("text", ["", " ", "\t\n "])
def test_an_empty_filter_takes_every_row(text: str) -> None:
    assert parse(text).empty
    assert parse(text).text == text
    assert parse(text).matches(record())
    assert parse(text).pushdown() == Pushdown(exact=True)
    assert not parse("done=true").empty


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("done=true", False),
        ("done=false", True),
        ("done!=true", True),
        ("done:false", True),
        ('done="false"', True),
        ("done:*", False),
        ("state=RUNNING", True),
        ("state!=RUNNING", False),
        ("state:RUNNING", True),
        ("state:*", True),
        ("name=operations/a", True),
        ("name != operations/a", False),
        ('name="operations/*"', True),
        ('name="*/a"', True),
        ('name="*ration*"', True),
        ('name="a*"', False),
        ('name!="*/b"', True),
        ('name="*"', True),
        ('name:"operations/*"', True),
        ('name="operations/\\*"', False),
        ("name<operations/b", True),
        ("name>=operations/b", False),
        ("name:*", True),
        ("handler=render", True),
        ("handler='render'", True),
        ("handler:*", True),
        ('handler=""', False),
        ("handler=Render", False),
        (f"create_time={T0_TEXT}", True),
        (f"create_time!={T0_TEXT}", False),
        (f"create_time<={T0_TEXT}", True),
        (f"create_time<{T0_TEXT}", False),
        ("create_time>2023-11-14T22:13:19.999Z", True),
        ("create_time=2023-11-14T23:13:20+01:00", True),
        ("create_time=2023-11-14T22:13:20.000001Z", False),
        ('create_time >= "2023-11-14t17:43:20-04:30"', True),
        ("create_time:*", True),
        ("end_time:*", False),
        ("end_time>1970-01-01T00:00:00Z", False),
        ("end_time!=1970-01-01T00:00:00Z", False),
        ("NOT end_time=1970-01-01T00:00:00Z", True),
        ("error:*", False),
        ("error.code=5", False),
        ("error.code!=5", False),
        ("error.message:*", False),
        ("error.reason=NO_FILE", False),
        ('error.reason=""', False),
    ],
)
def test_fields_of_a_running_row(text: str, expected: bool) -> None:
    assert matches(text, record()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("done=true", True),
        ("done:*", True),
        ("error:*", True),
        ("error.code=5", True),
        ("error.code=NOT_FOUND", True),
        ("error.code:NOT_FOUND", True),
        ("error.code!=NOT_FOUND", False),
        ("error.code!=CANCELLED", True),
        ("error.code>=5", True),
        ("error.code<5", False),
        ("error.code:*", True),
        ('error.message="no*"', True),
        ("error.message!=x", True),
        ("error.reason=NO_FILE", True),
        ('error.reason="NO_*"', True),
        ("error.reason!=NO_FILE", False),
        ("error.reason:*", True),
        ("error.reason=no_file", False),
        ("end_time=2023-11-14T22:14:20Z", True),
        ("end_time:*", True),
        ("response:*", False),
        ("response.@type!=x.Y", False),
    ],
)
def test_fields_of_a_failed_row(text: str, expected: bool) -> None:
    assert matches(text, failed()) is expected


def test_times_are_compared_to_the_microsecond_that_a_client_was_shown() -> None:
    row = record(create_time=1_731_622_400.123457)
    assert matches("create_time=2024-11-14T22:13:20.123457Z", row)
    assert matches("create_time<2024-11-14T22:13:20.123458Z", row)


# Logic


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("done=false state=RUNNING", True),
        ("done=false state=FAILED", False),
        ("done=true OR done=false AND done=false OR done=true", True),
        ("done=false OR done=false AND done=true", False),  # as in AND before OR, it would be true
        ("done=false OR done=true done=true", False),
        ("(done=false) OR (done=true done=true)", True),
        ("NOT done=true", True),
        ("-done=true", True),
        ("-(done=true OR state=RUNNING)", False),
        ("NOT(done=true)", True),
        ("NOT done=true OR done=true", True),
        ("NOT (NOT (NOT done=true))", True),
        ("done=false AND(state=RUNNING)", True),
        ("(((done = false)))", True),
        ("done\n=\tfalse", True),
        ("handler=a OR handler=b OR handler=render", True),
    ],
)
def test_or_binds_tighter_than_and_and_adjacency_is_and(text: str, expected: bool) -> None:
    assert matches(text, record()) is expected


def test_the_order_of_terms_has_no_meaning() -> None:
    row = with_metadata(struct(pages=3))
    terms = ["metadata.pages=3", "metadata.@type=google.protobuf.Struct", "state=RUNNING"]
    assert matches(" ".join(terms), row)
    assert matches(" ".join(reversed(terms)), row)


# Refusals


@pytest.mark.parametrize(
    ("text", "position", "sentence"),
    [
        ("color=red", 0, "unknown field 'color'"),
        ("done=true AND  color=red", 15, "unknown field 'color'"),
        ("-color=red", 1, "unknown field"),
        ("error.color=1", 0, "unknown field 'error.color'"),
        ("name.x=1", 0, "unknown field"),
        ("metadata.@type.x=1", 0, "unknown field"),
        ("done", 0, "search over all fields is not supported"),
        ("done=true running", 10, "search over all fields is not supported"),
        ('"a phrase"', 0, "search over all fields is not supported"),
        ("done=true and state=FAILED", 10, "write AND, not and"),
        ("done=true or state=FAILED", 10, "write OR, not or"),
        ("lower(name)=a", 0, "functions"),
        ("done=maybe", 5, "true or false"),
        ("done>false", 4, "takes =, !=, : only"),
        ("rerun>false", 5, "takes =, !=, : only"),
        ("rerun=maybe", 6, "true or false"),
        ("state=running", 6, "unknown state 'running'"),
        ('state="*ED"', 6, "unknown state"),
        ("state<FAILED", 5, "takes =, !=, : only"),
        ("create_time>2024-01-01", 12, "RFC 3339"),
        ("create_time>2024-02-30T00:00:00Z", 12, "RFC 3339"),
        ("create_time>2024-01-01T00:00:00", 12, "RFC 3339"),
        ("end_time = 20s", 11, "RFC 3339"),
        ("error=1", 5, "is a message"),
        ("error:x", 6, "is a message"),
        ("error.code=FOUND", 11, "canonical code name"),
        ("error.code>NOT_FOUND", 10, "only"),
        ("metadata=1", 8, "is a message"),
        ("metadata.@type>a.B", 14, "only"),
        ("metadata..x=1", 9, "field name after '.'"),
        ("metadata.=1", 9, "field name after '.'"),
        ("name=", 5, "expected a value after '='"),
        ("name= )", 6, "expected a value after '='"),
        ("name=a=b", 6, "expected a condition, found '='"),
        ("name=AND", 5, "must be quoted"),
        ("name=(a OR b)", 5, "list of values"),
        ("name=a*", 5, "wildcard must be quoted"),
        ("name:*a", 5, "wildcard must be quoted"),
        ("name=*", 5, "asks for presence"),
        ('name="a', 5, "never closed"),
        ("name='a\"", 5, "never closed"),
        ('name="a\\', 5, "never closed"),
        ('name="a\\x"', 7, "unknown escape"),
        ("AND done=true", 0, "found 'AND'"),
        ("done=true AND", 13, "the filter ends here"),
        ("done=true OR AND", 13, "found 'AND'"),
        ("NOT", 3, "the filter ends here"),
        ("-", 1, "the filter ends here"),
        ("NOT NOT done=true", 4, "found 'NOT'"),
        ("- done=true", 1, "directly before"),
        ("()", 1, "found ')'"),
        ("(done=true", 0, "never closed"),
        ("(done=true OR (done=false)", 0, "never closed"),
        ("done=true)", 9, "closes nothing"),
        ("done=true, done=false", 9, "found ','"),
        ("done=true\ud800", 9, "surrogate"),
    ],
)
def test_a_bad_filter_is_refused_with_its_position(text: str, position: int, sentence: str) -> None:
    error = refused(text)
    assert sentence in error.problem
    assert error.position == position
    assert str(error).startswith(f"invalid filter at position {position}: ")


def test_bounds_are_exact_and_named_in_the_error() -> None:
    term = "done=true"
    assert not parse(term.ljust(2000)).empty
    too_long = refused(term.ljust(2001))
    assert (too_long.position, "2000" in too_long.problem) == (2000, True)
    assert not parse("(" * 20 + term + ")" * 20).empty
    too_deep = refused("(" * 21 + term + ")" * 21)
    assert (too_deep.position, "20 deep" in too_deep.problem) == (20, True)
    assert not parse(" ".join([term] * 100)).empty
    too_many = refused(" ".join([term] * 101))
    assert (too_many.position, "100 conditions" in too_many.problem) == (1000, True)
    assert (filters.MAX_LENGTH, filters.MAX_DEPTH, filters.MAX_TERMS) == (2000, 20, 100)


def test_metadata_whose_type_url_has_no_slash_matches_nothing() -> None:
    """Another program may have written it; a list must not fail because of one row."""
    row = record(metadata=any_pb2.Any(type_url="google.protobuf.Struct", value=b"").SerializeToString())
    assert not matches("metadata.x:*", row)
    assert matches("-metadata.x:*", row)


@pytest.mark.parametrize("text", ["(" * 2000, "-(" * 1000, "NOT (" * 400, "metadata" + ".a" * 990 + ":*"])
def test_deep_text_needs_no_deep_stack(text: str) -> None:
    """With little stack left, deep text is refused or read, never a RecursionError."""
    limit = sys.getrecursionlimit()
    depth = 0
    frame = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(depth + 60)
    try:
        result = attempt(text)
        found = isinstance(result, Filter) and result.matches(with_metadata(struct(a=1)))
    finally:
        sys.setrecursionlimit(limit)
    assert not found
    if isinstance(result, InvalidFilterError):
        assert "deep" in result.problem


@pytest.mark.parametrize(
    "text",
    [
        '"' + "\\" * 1999,
        '"' * 2000,
        "name=" + "1" * 1995,
        "metadata.x=" + "9" * 1900 + ".5e9",
        "a." * 1000,
        " " * 2000,
        "x" * 2000,
        "-" * 2000,
    ],
)
def test_reading_the_longest_text_takes_no_time_to_speak_of(text: str) -> None:
    started = time.process_time()
    result = attempt(text)
    if isinstance(result, Filter):
        result.matches(with_metadata(struct(x=1)))
    assert time.process_time() - started < 2


# Pushdown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("done=true", Pushdown(done=True, exact=True)),
        ("done!=true", Pushdown(done=False, exact=True)),
        ("NOT done=true", Pushdown(done=False, exact=True)),
        ("state=RUNNING", Pushdown(done=False, states=frozenset({State.RUNNING}), exact=True)),
        (
            "state=FAILED OR state=CANCELLED",
            Pushdown(done=True, states=frozenset({State.FAILED, State.CANCELLED}), exact=True),
        ),
        ("paused = true", Pushdown(done=False, paused=True, exact=True)),
        ("paused:*", Pushdown(done=False, paused=True, exact=True)),
        ("paused != true", Pushdown(paused=False, exact=True)),
        ("paused=true handler=render", Pushdown(done=False, handler="render", paused=True, exact=True)),
        ("paused=true paused=false", Pushdown(states=frozenset(), exact=True)),
        ("paused=true OR paused=true", Pushdown(done=False, paused=True)),
        ("paused=true OR done=true", Pushdown()),
        ("NOT paused=true", Pushdown()),
        ("error:*", Pushdown(done=True, states=frozenset({State.FAILED, State.CANCELLED}), exact=True)),
        ("done=true AND state=RUNNING", Pushdown(states=frozenset(), exact=True)),
        ("handler=a handler=b", Pushdown(states=frozenset(), exact=True)),
        ("done=true OR done=false", Pushdown(exact=True)),
        ("done=false handler=render", Pushdown(done=False, handler="render", exact=True)),
        ("handler:render", Pushdown(handler="render", exact=True)),
        ('handler="r*"', Pushdown()),
        ("handler!=render", Pushdown()),
        ("handler=a OR handler=a", Pushdown(handler="a")),
        ("handler=a OR handler=b", Pushdown()),
        (f"create_time>={T0_TEXT}", Pushdown(created_from=T0, exact=True)),
        (f"create_time={T0_TEXT}", Pushdown(created_from=T0, created_to=T0, exact=True)),
        (f"create_time<={T0_TEXT} metadata.x=1", Pushdown(created_to=T0)),
        ("create_time:*", Pushdown(exact=True)),
        (f"create_time>{T0_TEXT}", Pushdown(created_from=math.nextafter(T0, math.inf), exact=True)),
        (f"create_time<{T0_TEXT}", Pushdown(created_to=math.nextafter(T0, 0), exact=True)),
        (f"create_time!={T0_TEXT}", Pushdown()),
        (
            f"create_time>={T0_TEXT} create_time>=2023-11-14T22:13:21Z create_time<=2023-11-14T22:13:22Z"
            " create_time<=2023-11-14T22:13:23Z",
            Pushdown(created_from=T0 + 1, created_to=T0 + 2, exact=True),
        ),
        (
            f"create_time={T0_TEXT} OR create_time=2023-11-14T22:13:21Z",
            Pushdown(created_from=T0, created_to=T0 + 1),
        ),
        (f"create_time>={T0_TEXT} OR done=true", Pushdown()),
        (f"create_time<={T0_TEXT} OR done=true", Pushdown()),
        (f"NOT create_time>={T0_TEXT}", Pushdown()),
        ("NOT handler=render", Pushdown()),
        ("NOT (handler=render done=true)", Pushdown()),
        ("NOT error.code=5", Pushdown()),
        (
            "NOT (state=RUNNING OR done=true)",
            Pushdown(done=False, states=frozenset({State.PENDING, State.SUSPENDED}), exact=True),
        ),
        ("rerun=true", Pushdown(done=True)),
        ("rerun=false", Pushdown()),
        ("error.reason=X", Pushdown(done=True, states=frozenset({State.FAILED, State.CANCELLED}))),
        ("error.code=5", Pushdown(done=True, states=frozenset({State.FAILED, State.CANCELLED}))),
        ("response.x=1", Pushdown(done=True, states=frozenset({State.SUCCEEDED}))),
        ("end_time:*", Pushdown(done=True)),
        ("metadata.x=1 OR done=true", Pushdown()),
        ("metadata.x=1 done=true", Pushdown(done=True)),
    ],
)
def test_what_a_store_may_push_down(text: str, expected: Pushdown) -> None:
    assert parse(text).pushdown() == expected


def inside(pushdown: Pushdown, row: Record) -> bool:
    """What a store does with the conditions."""
    return (
        (pushdown.done is None or row.done is pushdown.done)
        and (pushdown.states is None or row.state in pushdown.states)
        and (pushdown.handler is None or row.handler == pushdown.handler)
        and (pushdown.paused is None or row.paused is pushdown.paused)
        and (pushdown.created_from is None or row.create_time >= pushdown.created_from)
        and (pushdown.created_to is None or row.create_time <= pushdown.created_to)
    )


_TIMES = [T0, T0 + 0.000001, T0 + 1, T0 - 1]
_TIME_TEXTS = ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000001Z", "2023-11-14T22:13:21Z", "2023-11-14T22:13:19Z"]
_COMPARATORS = ["=", "!=", "<", "<=", ">", ">=", ":"]
_ERROR = status_pb2.Status(code=5, message="m").SerializeToString()

_ROWS = [
    record(state, handler=handler, create_time=moment, end_time=ended, error=_ERROR, response=pack(struct(x=1)))
    for state in State
    for handler in ("", "a", "b")
    for moment in _TIMES
    for ended in (None, T0, T0 + 1)
]
_ROWS += [row.evolve(paused=True) for row in _ROWS if not row.done]

rows = st.builds(
    record,
    st.sampled_from(list(State)),
    handler=st.sampled_from(["", "a", "b"]),
    create_time=st.sampled_from(_TIMES) | st.floats(T0 - 2, T0 + 2),
    end_time=st.sampled_from([None, T0, T0 + 1]),
    error=st.sampled_from([b"", _ERROR, b"\xff"]),
    response=st.sampled_from([b"", pack(struct(x=1)), b"\xff"]),
    metadata=st.sampled_from([b"", pack(struct(x=1)), pack(struct(x="1", y=2)), b"\xff"]),
)
rows |= rows.map(lambda row: row if row.done else row.evolve(paused=True))
terms = st.one_of(
    st.builds("paused{}{}".format, st.sampled_from(["=", "!=", ":"]), st.sampled_from(["true", "false"])),
    st.builds("done{}{}".format, st.sampled_from(["=", "!=", ":"]), st.sampled_from(["true", "false"])),
    st.builds("state{}{}".format, st.sampled_from(["=", "!=", ":"]), st.sampled_from(list(State.__members__))),
    st.builds("handler{}{}".format, st.sampled_from(_COMPARATORS), st.sampled_from(["a", "b", '""', '"a*"'])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["create_time", "end_time"]),
        st.sampled_from(_COMPARATORS),
        st.sampled_from(_TIME_TEXTS),
    ),
    st.builds("error.code{}{}".format, st.sampled_from(_COMPARATORS), st.integers(0, 6)),
    st.sampled_from(["done:*", "state:*", "handler:*", "create_time:*", "end_time:*", "error:*", "response:*"]),
    st.sampled_from(
        ["metadata.x=1", "metadata.y!=1", "metadata:x", "response.x=1", "error.message:*", "error.reason=X", "name:*"]
    ),
)
trees: st.SearchStrategy[Any] = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
    ),
    max_leaves=8,
)


def unparse(tree: Any) -> str:
    """The tree as text, with every pair of parentheses."""
    if isinstance(tree, str):
        return tree
    parts = [f"({unparse(item)})" for item in tree[1:]]
    return f"NOT {parts[0]}" if tree[0] == "not" else f" {tree[0].upper()} ".join(parts)


def evaluate(tree: Any, row: Record) -> bool:
    """The logic of the tree by itself; only single terms are given to the code under test."""
    if isinstance(tree, str):
        return matches(tree, row)
    kind, *items = tree
    if kind == "not":
        return not evaluate(items[0], row)
    return (all if kind == "and" else any)(evaluate(item, row) for item in items)


_STATE_TERMS = [f"state{c}{state}" for c in ("=", "!=", ":") for state in State]
_TIME_TERMS = [f"{f}{c}{t}" for f in ("create_time", "end_time") for c in _COMPARATORS for t in _TIME_TEXTS]
_OTHER_TERMS = ["handler=a", "handler!=a", "handler<b", 'handler="a*"', 'handler=""', "done=true", "done!=true"]
_OTHER_TERMS += ["paused=true", "paused!=true", "paused=false", "paused:*"]
_OTHER_TERMS += ["error:*", "error.code=5", "error.code!=9", "response:*", "response.x=1", "metadata.x=1", "name:*"]


def test_no_single_term_or_its_negation_hides_a_row() -> None:
    """Every kind of term against every kind of row."""
    for term in _STATE_TERMS + _TIME_TERMS + _OTHER_TERMS:
        for text in (term, f"NOT {term}"):
            parsed = parse(text)
            pushdown = parsed.pushdown()
            for row in _ROWS:
                found = parsed.matches(row)
                assert inside(pushdown, row) or not found, (text, row)
                assert not pushdown.exact or inside(pushdown, row) is found, (text, row)


def test_what_the_public_operation_does_not_show_is_not_matched() -> None:
    """A row that carries what belongs to another state is read as clients see it."""
    odd = record(State.RUNNING, end_time=T0, error=_ERROR, response=pack(struct(x=1)))
    for text in ("end_time:*", "end_time!=2020-01-01T00:00:00Z", "error:*", "error.code=5", "response.x=1"):
        assert not matches(text, odd)
    assert not matches("error.code=5", record(State.SUCCEEDED, error=_ERROR))


@pytest.mark.slow
@given(trees, st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_logic_and_pushdown_agree_with_a_plain_evaluation(tree: Any, found: list[Record]) -> None:
    """No pushdown hides a row that matches, and an exact one lets nothing else in."""
    parsed = parse(unparse(tree))
    pushdown = parsed.pushdown()
    for row in found:
        expected = evaluate(tree, row)
        assert parsed.matches(row) is expected
        assert inside(pushdown, row) or not expected
        if pushdown.exact:
            assert inside(pushdown, row) is expected


@pytest.mark.slow
@given(
    st.lists(st.lists(st.tuples(st.booleans(), terms), min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.sampled_from([" ", " AND ", "\n", "  AND\t"]), min_size=4, max_size=4),
    st.sampled_from(["-", "NOT "]),
    rows,
)
@settings(max_examples=100, deadline=None)
def test_precedence_without_parentheses(
    groups: list[list[tuple[bool, str]]], joins: list[str], negation: str, row: Record
) -> None:
    """A filter without parentheses is a conjunction of disjunctions of conditions, each negated or not."""
    written = [" OR ".join((negation if no else "") + term for no, term in group) for group in groups]
    text = written[0] + "".join(join + part for join, part in zip(joins, written[1:], strict=False))
    expected = all(any(matches(term, row) is not no for no, term in group) for group in groups)
    assert matches(text, row) is expected


_marks = st.sampled_from([*"()-.=:<*\"'\\,! ", "AND", "OR", "NOT", "!=", ">="])
_words = st.sampled_from(
    ["done", "true", "state", "FAILED", "metadata", "@type", "x", "1", "20s", "error", "code", T0_TEXT]
)
_pieces = _marks | _words


@pytest.mark.slow
@given(
    st.text(max_size=60) | st.lists(_pieces, max_size=25).map("".join) | st.lists(_pieces, max_size=25).map(" ".join)
)
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_with_a_position_inside_it(text: str) -> None:
    result = attempt(text)
    if isinstance(result, InvalidFilterError):
        assert 0 <= result.position <= len(text)
        assert result.problem
    else:
        assert result.matches(with_metadata(struct(x=1))) in (True, False)
        assert result.matches(failed()) in (True, False)


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_every_string_can_be_written_as_a_quoted_value(value: str, other: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    row = record(handler=value)
    assert matches(f'handler="{escaped}"', row)
    assert matches(f'handler="{escaped}"', record(handler=other)) is (value == other)
    assert matches(f'handler="{escaped}*"', record(handler=value + other))
    assert matches(f'handler="*{escaped}"', record(handler=other + value))
