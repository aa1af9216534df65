"""Rows to values and back, whatever they hold."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lro_aio.core import names as core_names
from lro_aio.core.record import Record, Seat, State, Wait, Wake, WakeReason
from lro_aio.stores.sqlite import SqliteStore, rows
from lro_aio.testing._store_rows import create_all, name_of, only, put, remove, row

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_moment = st.floats(min_value=0, max_value=1e11)
_maybe = st.none() | _moment
_number = st.integers(0, 2**62)
_name = st.from_regex(r"([a-z]{1,5}/){0,3}operations/[a-z0-9]{1,10}", fullmatch=True)
_waits = st.builds(
    Wait,
    token=st.text(max_size=9),  # JSON: even half a surrogate pair
    sleep_until=_moment,
    children=st.lists(_name, max_size=4).map(tuple),
    service=_text,
    deadline=_maybe,
    poll_interval=_moment,
    max_poll_interval=_maybe,
    poll_endpoint=_text,
    on_cancel=_text,
    rerun=st.booleans(),
)
_wakes = st.builds(
    Wake,
    reason=st.sampled_from(WakeReason),
    children=st.lists(_name, max_size=4).map(tuple),
    service=_text,
    pending=st.lists(_name, max_size=4).map(tuple),
    error=_text,
)
_seats = st.builds(
    Seat,
    queue=st.just(""),  # of a queue, the row would stand in line
    key=_text,
    priority=st.integers(-(2**62), 2**62),
    whole=st.booleans(),
    steps=st.booleans(),
)
_BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": _text,
    "bytes": st.binary(max_size=50),
    "int": _number,
    "bool": st.booleans(),
    "float": _moment,
    "float | None": _maybe,
    "State": st.sampled_from(State),
    "Wait | None": st.none() | _waits,
    "Wake | None": st.none() | _wakes,
    "Seat | None": st.none() | _seats,
}
_records = st.builds(
    Record, **({f.name: _BY_TYPE[str(f.type)] for f in dataclasses.fields(Record)} | {"name": st.just(name_of(1))})
)


@pytest.fixture(scope="module")
def memory() -> Iterator[SqliteStore]:
    store = SqliteStore("sqlite://")
    store.open()
    yield store
    store.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(first=_records, second=_records)
def test_any_row_comes_back_and_any_row_replaces_it(memory: SqliteStore, first: Record, second: Record) -> None:
    memory.apply([put(first)])
    assert only(memory, first.name) == first
    kept = {f: getattr(first, f) for f in ("uid", "create_time", "handler", "parent_operation")}
    for changed in (second, dataclasses.replace(second, **kept), dataclasses.replace(second, state=first.state)):
        memory.apply([put(changed)])
        assert only(memory, first.name) == changed
    memory.apply([remove(first.name)])


def test_rows_are_written_in_the_order_of_the_table_the_name_first(memory: SqliteStore) -> None:
    """Every column of it: the fields of a record and what is derived from them. Batches are sorted by the name."""
    with memory._reading() as connection:
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(operations)")]
    assert list(rows.WRITTEN) == columns
    assert columns[0] == "name"
    assert sorted(columns) == sorted([*(field.name for field in dataclasses.fields(Record)), "parent", "outcome"])


def test_a_record_that_is_made_without_its_constructor_leaves_out_no_work_of_it() -> None:
    assert not hasattr(Record, "__post_init__")


def stored(record: Record) -> dict[str, Any]:
    """What SQLite makes of the values of a record: NULL of a NaN."""
    with closing(sqlite3.connect(":memory:")) as connection:
        values = rows.encode(record)
        return dict(
            zip(
                rows.WRITTEN,
                connection.execute(f"SELECT {', '.join('?' * len(values))}", values).fetchone(),
                strict=True,
            )
        )


def test_what_is_none_is_null(memory: SqliteStore) -> None:
    """And nothing that takes sqlite3 long to bind: None has no type that it knows."""
    record = row(1)
    create_all(memory, record)
    none = [field.name for field in dataclasses.fields(Record) if getattr(record, field.name) is None]
    assert {"end_time", "wait", "seat"} <= set(none)
    with memory._reading() as connection:
        kinds = connection.execute(f"SELECT {', '.join(f'typeof({name})' for name in none)} FROM operations").fetchone()
    assert set(kinds) == {"null"}
    assert {type(value) for value in rows.encode(record)} <= {str, int, float, bytearray}


@given(first=_records, second=_records)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])  # on a machine that is busy
def test_a_column_that_a_write_leaves_out_does_not_differ(first: Record, second: Record) -> None:
    """For any two records, and for a record and itself with one field of the other."""
    for new in (second, *(first.evolve(**{name: getattr(second, name)}) for name in rows.COLUMNS)):
        before, after = stored(first), stored(new)
        assert rows.same_row(first, new) is all(before[column] == after[column] for column in rows.FIXED)
        assert rows.ended_alike(first, new) is all(before[column] == after[column] for column in rows.ENDED)
    assert {"name", "parent", *rows.FIXED, *rows.ENDED, *rows.PROGRESS} == set(rows.WRITTEN)


def test_a_decoded_record_is_like_any_other(store: SqliteStore) -> None:
    create_all(store, row(1))
    found = only(store, name_of(1))
    assert type(found) is Record
    assert hash(found) == hash(row(1))
    assert dataclasses.replace(found, owner="x") == row(1, owner="x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.owner = "x"  # type: ignore[misc]  # that is the point


@given(name=_name)
@settings(max_examples=50)
def test_the_parent_is_what_names_says(name: str) -> None:
    parent = rows.WRITTEN.index("parent")
    assert rows.encode(row(1, handler="x"))[parent] == ""
    assert rows.encode(dataclasses.replace(row(1), name=name))[parent] == core_names.parse(name).parent


def test_zero_bytes_in_texts_come_back(store: SqliteStore) -> None:
    record = row(1, owner="a\0b", wait=Wait(token="\0", sleep_until=0.0))
    create_all(store, record)
    assert only(store, name_of(1)) == record
