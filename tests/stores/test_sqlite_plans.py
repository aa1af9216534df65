"""Which indexes the statements use, and which errors they raise."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery, StatsQuery
from lro_aio.stores.sqlite import SqliteStore, due, lists, queries, rows, writes
from lro_aio.stores.sqlite.errors import KINDS, translated
from lro_aio.testing._store_queues import bounded, claim, finish, next_in_line, seated
from lro_aio.testing._store_rows import NOW, create_all, name_of, row

SQL = queries.load()


def _plan(connection: sqlite3.Connection, statement: str, values: Any) -> str:
    return "\n".join(detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))


_LISTS = [
    ({}, "operations_newest"),
    ({"done": True}, "operations_newest"),
    ({"done": False}, "operations_live"),
    ({"done": False, "parent": "p", "handler": "job"}, "operations_live"),
    ({"states": frozenset({State.RUNNING})}, "operations_live"),
    ({"states": frozenset({State.FAILED, State.CANCELLED})}, "operations_unsuccessful"),
    ({"states": frozenset({State.FAILED}), "parent": "p"}, "operations_unsuccessful"),
    ({"states": frozenset({State.SUCCEEDED, State.RUNNING})}, "operations_newest"),
    ({"parent": "p"}, "operations_by_parent"),
    ({"handler": "job"}, "operations_by_handler"),
    ({"parent_operation": "operations/x"}, "operations_children"),
    ({"parent_operation": "operations/x", "done": False}, "operations_children"),
    ({"parent_operation": ""}, "operations_newest"),
]


@pytest.mark.parametrize(("conditions", "index"), _LISTS)
@pytest.mark.parametrize("after", [None, (NOW, name_of(5))])
def test_a_list_walks_one_index_and_sorts_nothing(
    store: SqliteStore, conditions: dict[str, Any], index: str, after: tuple[float, str] | None
) -> None:
    query = ListQuery(now=NOW, limit=10, after=after, created_from=NOW - 9, created_to=NOW + 9, **conditions)
    statements = list(lists.statements(query))
    assert len(statements) == (1 if after is None else 2)
    with store._reading() as connection:
        for used, where, values in statements:
            plan = _plan(connection, SQL["list"].format(row="*", index=used, conditions=where), values | {"limit": 1})
            assert f"SEARCH operations USING INDEX {index} (" in plan
            assert "TEMP B-TREE" not in plan
            assert "create_time" in plan


@pytest.mark.parametrize(
    ("conditions", "looked_for"),
    [
        ({"states": frozenset({State.RUNNING})}, True),
        ({"states": frozenset({State.RUNNING}), "parent": "p", "handler": "job"}, True),
        ({"done": False, "paused": True}, True),
        ({"done": False}, False),
        ({"states": frozenset({State.SUSPENDED})}, False),
        ({"states": frozenset({State.FAILED})}, False),
        ({"states": frozenset({State.RUNNING}), "parent_operation": "operations/x"}, False),
        ({"paused": True}, False),
    ],
)
def test_what_few_live_rows_are_is_counted_in_an_index(
    store: SqliteStore, conditions: dict[str, Any], looked_for: bool
) -> None:
    query = ListQuery(now=NOW, limit=10, **conditions)
    asked = lists.few(query)
    assert (asked is not None) is looked_for
    if asked is None:
        return
    index, where, values = asked
    with store._reading() as connection:
        counted = _plan(connection, SQL["count_few"].format(index=index, conditions=where), values | {"most": 9})
        assert "SEARCH operations USING COVERING INDEX operations_states (state=?" in counted
        [(used, where, values)] = lists.statements(query, few=True)
        plan = _plan(connection, SQL["list"].format(row="*", index=used, conditions=where), values | {"limit": 1})
        assert "SEARCH operations USING INDEX operations_states (state=?" in plan


@pytest.mark.parametrize("number", [3, 12])
def test_few_and_many_are_listed_alike(store: SqliteStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whichever index is walked: the newest first, page by page, of one parent."""
    monkeypatch.setattr(lists, "FEW", 5)
    create_all(store, *(row(i, create_time=NOW + i % 4, check_time=None) for i in range(100, 120)))
    running = [row(i, state=State.RUNNING, create_time=NOW + i % 4, check_time=None) for i in range(number)]
    create_all(store, *running)
    expected = [one.name for one in sorted(running, key=lambda one: (-one.create_time, one.name))]
    found: list[str] = []
    after = None
    while page := store.list(ListQuery(now=NOW, limit=2, states=frozenset({State.RUNNING}), after=after)):
        found += [one.name for one in page]
        after = (page[-1].create_time, page[-1].name)
    assert found == expected
    assert not store.list(ListQuery(now=NOW, limit=2, states=frozenset({State.RUNNING}), parent="other"))


def test_sleeping_rows_cost_the_list_of_what_runs_nothing(store: SqliteStore) -> None:
    def steps() -> int:
        counted = 0

        def step() -> int:
            nonlocal counted
            counted += 1
            return 0

        with store._reading() as connection:
            connection.set_progress_handler(step, 1)
        store.list(ListQuery(now=NOW, limit=5, states=frozenset({State.RUNNING})))
        with store._reading() as connection:
            connection.set_progress_handler(None, 0)
        return counted

    create_all(store, row(1, state=State.RUNNING), *(row(i, state=State.SUSPENDED) for i in range(10, 20)))
    steps()  # the first use of a reader's connection loads the schema
    few = steps()
    create_all(store, *(row(i, state=State.SUSPENDED) for i in range(20, 1020)))
    assert steps() == few


@pytest.mark.parametrize(
    ("statement", "values", "expected"),
    [
        ("read", ("[]",), "SEARCH operations USING INDEX sqlite_autoindex_operations_1 (name=?)"),
        ("unfinished", ("[]",), "SEARCH operations USING INDEX sqlite_autoindex_operations_1 (name=?)"),
        (
            "due",
            ("a", "b", 1.0, "me", 1),
            "COVERING INDEX operations_due (handler=? AND resume_point=? AND check_time<?)",
        ),
        (
            "next_check",
            ("a", "b", 1.0, "me"),
            "COVERING INDEX operations_due (handler=? AND resume_point=? AND check_time>?)",
        ),
        ("due_rows", ("[]",), "SEARCH operations USING INTEGER PRIMARY KEY (rowid=?)"),
        ("purge", (1.0, 1), "operations_expiry (expire_time<?)"),
        ("next_handler", ("PENDING", "a"), "COVERING INDEX operations_states (state=? AND handler>?)"),
        ("count", ("PENDING", "a", 5), "COVERING INDEX operations_states (state=? AND handler=?)"),
        ("count_paused", ("PENDING", "a", 5), "COVERING INDEX operations_states (state=? AND handler=? AND paused=?"),
        ("oldest_due", ("a", "b", 1.0), "operations_due (handler=? AND resume_point=? AND check_time<?)"),
        (
            "count_due",
            ("a", "b", 1.0, 5),
            "COVERING INDEX operations_due (handler=? AND resume_point=? AND check_time<?)",
        ),
        ("failures", (1.0, 5), "USING INDEX operations_unsuccessful"),
    ],
)
def test_a_statement_seeks(store: SqliteStore, statement: str, values: Any, expected: str) -> None:
    with store._writing() as connection:
        plan = _plan(connection, SQL[statement], values)
    assert expected in plan
    assert statement == "failures" or "SCAN operations" not in plan  # that one stops at its limit
    assert statement == "due_rows" or "TEMP B-TREE" not in plan  # that one sorts the rows of one page


def test_progress_touches_fewer_indexes_than_an_end(store: SqliteStore) -> None:
    """SQLite rewrites an index where a column of it is named, whether or not its value differs."""
    made = row(1)
    statements = {
        "written": (writes._written_text(1), rows.encode(made)),
        "progressed": (writes._progress_text(1), rows.encode(made)),
        "ended": (writes._ended_text(1), rows.encode_ended(made)),
        "moved": (writes._moved_text(1), rows.encode_moved(made)),
    }
    with store._writing() as connection:
        touched = {
            what: [code for _, code, *_ in connection.execute(f"EXPLAIN {text}", values)].count("IdxDelete")
            for what, (text, values) in statements.items()
        }
    # due, states, expiry, and two of the lists; due, states
    assert touched == {"written": 5, "progressed": 2, "ended": 5, "moved": 2}


def test_a_row_is_moved_by_a_seek_on_its_name(store: SqliteStore) -> None:
    with store._writing() as connection:
        plan = _plan(connection, writes._moved_text(2), rows.encode_moved(row(1)) + rows.encode_moved(row(2)))
    assert "SEARCH operations USING INDEX sqlite_autoindex_operations_1 (name=?)" in plan
    assert "SCAN operations" not in plan


def test_what_was_analyzed_when_there_was_one_row_lets_nobody_walk_through_all(tmp_path: Path) -> None:
    """Somebody's own ``ANALYZE``, or a tool's: the table has grown since."""
    path = tmp_path / "ops.db"
    store = SqliteStore(path)
    store.open()
    create_all(store, row(1))
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("ANALYZE")
    store.close()
    store.open()
    some = [row(1), row(2)]
    statements = {
        writes._moved_text(2): [value for one in some for value in rows.encode_moved(one)],
        writes._ended_text(2): [value for one in some for value in rows.encode_ended(one)],
        SQL["due_small"]: ["[1, 2]", due.SMALL],
        SQL["due_rows"]: ["[1, 2]"],
    }
    try:
        with store._writing() as connection:
            plans = [_plan(connection, statement, values) for statement, values in statements.items()]
    finally:
        store.close()
    for plan in plans:
        assert "SEARCH operations USING IN" in plan
        assert "SCAN operations" not in plan


def _steps(store: SqliteStore) -> dict[str, int]:
    """Instructions of SQLite's machine for what a worker and a watcher of live rows ask again and again."""
    routes = [("job", ""), ("job", "collect")]
    asked = {
        "due": lambda: store.look(now=NOW, routes=routes, limit=5, owner="me"),
        "any point": lambda: store.look(now=NOW, routes=[("job", None)], limit=5, owner="me"),
        "next": lambda: store.look(now=NOW - 1, routes=routes, limit=5, owner="me"),
        "unknown": lambda: store.look(now=NOW, routes=[], limit=5, owner="me", overdue=NOW - 1),
        "live": lambda: store.list(ListQuery(now=NOW, limit=5, done=False, parent="", handler="job")),
        "failed": lambda: store.list(ListQuery(now=NOW, limit=5, states=frozenset({State.FAILED}))),
        "stats": lambda: store.stats(StatsQuery(now=NOW, most=2)),
        "read": lambda: store.read([name_of(1), name_of(2)]),
        "unfinished": lambda: store.unfinished([name_of(1), name_of(2)]),
    }
    counted: dict[str, int] = {}
    for what, ask in asked.items():
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        with store._reading() as connection:
            connection.set_progress_handler(step, 1)
        try:
            ask()
        finally:
            with store._reading() as connection:
                connection.set_progress_handler(None, 0)
        counted[what] = count
    return counted


def test_finished_rows_cost_the_live_ones_nothing(store: SqliteStore) -> None:
    """The same number of steps with three finished rows and with three thousand."""

    def finished(number: int) -> Record:
        return row(number, state=State.SUCCEEDED, check_time=None, end_time=NOW, expire_time=NOW + 9)

    create_all(store, *(row(i) for i in range(10)), *(finished(i) for i in range(100, 103)))
    _steps(store)  # the first use of a reader's connection loads the schema
    few = _steps(store)
    create_all(store, *(finished(i) for i in range(103, 3100)))
    assert _steps(store) == few
    assert few["due"] > 0


def test_sleeping_rows_cost_the_sweep_nothing(store: SqliteStore) -> None:
    """The same number of steps with ten rows that are not due and with three thousand, on two routes."""

    def asleep(number: int) -> Record:
        route = ("job", "collect") if number % 2 else ("other", "later")
        later = NOW + 1000 + number
        return row(number, state=State.SUSPENDED, handler=route[0], resume_point=route[1], check_time=later)

    create_all(store, *(asleep(i) for i in range(10)))
    _steps(store)  # as above
    few = _steps(store)
    create_all(store, *(asleep(i) for i in range(10, 3010)))
    many = _steps(store)
    looks = ("due", "any point", "next", "unknown")
    assert {what: many[what] for what in looks} == {what: few[what] for what in looks}
    assert few["unknown"] > 0


_NOT_RESULTS = (
    # Actions of the authorizer, limits and settings share the prefix with the result codes.
    "SQLITE_LIMIT_",
    "SQLITE_DBCONFIG_",
    "SQLITE_CREATE_",
    "SQLITE_DROP_",
    "SQLITE_ALTER_TABLE",
    "SQLITE_ANALYZE",
    "SQLITE_ATTACH",
    "SQLITE_DELETE",
    "SQLITE_DENY",
    "SQLITE_DETACH",
    "SQLITE_DONE",
    "SQLITE_FUNCTION",
    "SQLITE_IGNORE",
    "SQLITE_INSERT",
    "SQLITE_OK",
    "SQLITE_PRAGMA",
    "SQLITE_READ",
    "SQLITE_RECURSIVE",
    "SQLITE_REINDEX",
    "SQLITE_ROW",
    "SQLITE_SAVEPOINT",
    "SQLITE_SELECT",
    "SQLITE_TRANSACTION",
    "SQLITE_UPDATE",
)


def test_every_primary_result_code_is_in_the_table() -> None:
    """Fails when the driver grows one."""
    results = {
        name: value
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_")
        and (name.startswith("SQLITE_READONLY") or not name.startswith(_NOT_RESULTS))
        and not name.startswith("SQLITE_OK_")
    }
    assert {name: value for name, value in results.items() if value & 0xFF not in KINDS} == {}
    assert {value for value in results.values() if value < 256} == set(KINDS)


def _raised(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite words it")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_NAME"
    return error


@pytest.mark.parametrize(
    ("code", "opening", "expected", "sentence"),
    [
        (
            sqlite3.SQLITE_BUSY_SNAPSHOT,
            False,
            StoreUnavailableError,
            "o.db has been locked by another writer for more than 5 s",
        ),
        (sqlite3.SQLITE_IOERR_FSYNC, False, StoreUnavailableError, "reading or writing o.db failed (SQLITE_NAME)"),
        (sqlite3.SQLITE_IOERR_FSYNC, True, StoreUnavailableError, "reading or writing o.db failed (SQLITE_NAME)"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, True, StoreSchemaError, "o.db cannot be written to"),
        (sqlite3.SQLITE_READONLY_DBMOVED, False, StoreUnavailableError, "o.db cannot be written to"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, True, StoreSchemaError, "o.db cannot be opened: check"),
        (sqlite3.SQLITE_CORRUPT_INDEX, False, StoreSchemaError, "o.db is damaged (SQLITE_NAME)"),
        (sqlite3.SQLITE_PROTOCOL, False, StoreUnavailableError, "o.db: as SQLite words it (SQLITE_NAME)"),
    ],
)
def test_errors_say_what_happened_to_which_file(
    code: int, opening: bool, expected: type[Exception], sentence: str
) -> None:
    """Extended codes too; and what is wrong with the file at open may be an outage later."""
    error = _raised(code)
    with pytest.raises(expected) as caught, translated("o.db", busy_timeout=5, opening=opening):
        raise error
    assert sentence in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR, 0xFE])
def test_what_is_wrong_for_good_stays_the_drivers_error(code: int) -> None:
    error = _raised(code)
    with pytest.raises(sqlite3.OperationalError) as caught, translated("o.db", busy_timeout=5):
        raise error
    assert caught.value is error


_SEEKS = [
    "ticket", "step_tickets",
    "queue", "queue_key", "tickets", "held", "held_key", "any_ready", "starts", "next_queue", "next_in_line",
    "next_of_key", "ripe_keys", "next_wake", "line_rows", "idle_keys", "trim_starts", "leave_key", "some_keys",
]  # fmt: skip
_NOTHING: dict[str, Any] = {"leave_key": {"now": None, "queue": None, "key": None}}


@pytest.mark.parametrize("name", _SEEKS)
def test_who_is_next_in_line_is_found_by_seeks(store: SqliteStore, name: str) -> None:
    """However long a line is: nothing is scanned or sorted."""
    with store._reading() as connection:
        plan = _plan(connection, SQL[name], _NOTHING.get(name, [None] * SQL[name].count("?"))).splitlines()
    assert [step for step in plan if "TEMP B-TREE" in step or ("SCAN" in step and "json_each" not in step)] == []


def test_what_an_older_release_has_ended_is_looked_for_among_those_who_are_first(store: SqliteStore) -> None:
    with store._reading() as connection:
        plan = _plan(connection, SQL["stale"], (1.0,))
    assert "SCAN tickets USING INDEX tickets_held" in plan
    assert "SCAN tickets USING INDEX tickets_line" in plan
    assert "queue_keys_wakes (queue=? AND wakes<?)" in plan
    assert "tickets_keys (queue=? AND key=? AND standing=?)" in plan
    assert "SEARCH operations USING INDEX sqlite_autoindex_operations_1 (name=?)" in plan


@pytest.mark.parametrize("name", ["tickets_of", "ahead"])
def test_where_one_stands_is_found_without_a_walk_through_all_that_wait(store: SqliteStore, name: str) -> None:
    values = dict.fromkeys(("uid", "told", "queue", "most", "priority", "turn", "number"))
    with store._reading() as connection:
        plan = _plan(connection, SQL[name], values)
    assert "SEARCH tickets USING" in plan
    assert "SCAN tickets" not in plan


def _work_of_a_hand_over(store: SqliteStore, waiting: int) -> int:
    """Steps of SQLite's machine to end a run, to find who is next, and to claim it."""
    bounded(store, running=1)
    for first in range(0, waiting, 500):
        create_all(store, *(seated(n, f"k{n % 7}") for n in range(first, min(first + 500, waiting))))
    assert claim(store, 0) == [0]
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with store._reading() as reader, store._opened()[0].use() as writer:
        for connection in (reader, writer):
            connection.set_progress_handler(count, 1)
    finish(store, 0)
    (following,) = next_in_line(store)
    assert claim(store, int(following.rpartition("-")[2])) != []
    return steps


@pytest.mark.slow
def test_ten_thousand_that_wait_cost_no_more_for_each_hand_over_than_ten(tmp_path: Path) -> None:
    work = {}
    for waiting in (10, 9_990):
        store = SqliteStore(tmp_path / f"{waiting}.db")
        store.open()
        try:
            work[waiting] = _work_of_a_hand_over(store, waiting)
        finally:
            store.close()
    assert work[9_990] < 1.5 * work[10], work
