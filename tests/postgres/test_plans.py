"""Every statement finds its rows by an index: in a table of 20,000 rows, nothing is read from end to end."""

from __future__ import annotations

import itertools
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from lro_aio.core.record import State
from lro_aio.ports import ListQuery, StatsQuery
from lro_aio.stores.postgres import PostgresStore, lists, places, queues, rows, stats
from lro_aio.testing._store_rows import NOW, create_all, row

from .schemas import analyze_all_but, analyze_emptied

pytestmark = pytest.mark.slow  # so many rows take two seconds

ROWS = 20_000


@pytest.fixture(scope="module")
def store(database: str) -> Iterator[PostgresStore]:
    """An open store whose table was filled behind its back."""
    schema = f"t{uuid.uuid4().hex[:16]}"
    with closing(PostgresStore(f"{database}?schema={schema}")) as store:
        store.open()
        create_all(store, row("seed", handler="job", uid="seed"))
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f'SET search_path = "{schema}"'.encode())
            columns = [name for (name,) in connection.execute("SELECT attname FROM pg_attribute WHERE attrelid ="
                       " 'operations'::regclass AND attnum > 0 ORDER BY attnum").fetchall()]  # fmt: skip
            made = {
                "name": "'p' || i % 40 || '/operations/' || i",
                "parent": "'p' || i % 40",
                "uid": "'uid-' || i",
                "create_time": f"{NOW} + i",
                "handler": "'h' || i % 20",
                "parent_operation": "CASE WHEN i % 10 = 0 THEN 'operations/' || i / 100 ELSE '' END",
                "state": "CASE WHEN i % 100 = 0 THEN 'PENDING' WHEN i % 50 = 1 THEN 'FAILED' ELSE 'SUCCEEDED' END",
                "outcome": "CASE WHEN i % 100 = 0 THEN 0 WHEN i % 50 = 1 THEN 2 ELSE 1 END",
                "check_time": f"CASE WHEN i % 100 = 0 THEN {NOW} + i END",
                "expire_time": f"CASE WHEN i % 100 > 0 THEN {NOW} + 100000 + i END",
                "entries": "1",
            }
            values = ", ".join(made.get(column, column) for column in columns)
            connection.execute(
                f"INSERT INTO operations SELECT {values} FROM operations, generate_series(1, {ROWS}) AS i".encode()
            )
            connection.execute(b"INSERT INTO operations_journal SELECT uid, 'STEP', 'a', 1, 0, '', '' FROM operations")
            fill_queues(connection)
            yield store
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


def fill_queues(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Four queues of 5,000 tickets each, of which 20 hold places, and 400 are READY; 500 keys, and many starts.

    And many queues in which nobody is.
    """
    connection.execute("""INSERT INTO operations_queues (name, bounds, declared, paused, turn, last, number, starts,
        clock, rests_until) SELECT 'q' || i, '{"rate":[500,60.0],"rate_per_key":[9,1.0]}', '[]', false, 0, 0, 0, 2500,
        0, 0 FROM generate_series(0, 1999) AS i""")
    connection.execute(
        f"""INSERT INTO operations_tickets SELECT ('uid-' || i)::bytea, 'p' || i % 40 || '/operations/' || i,
        'q' || i % 4, 'k' || i % 500, 'h' || i % 3, i % 2, i, i,
        CASE WHEN i < 80 THEN 2 WHEN i < 1680 THEN 1 ELSE 0 END, 0 FROM generate_series(0, {ROWS - 1}) AS i""".encode()
    )
    connection.execute(
        f"""INSERT INTO operations_queue_keys SELECT 'q' || i % 4, 'k' || i % 500, 0, 20, 0, {NOW} + i,
        CASE WHEN i % 10 = 0 THEN {NOW} + i END FROM generate_series(0, 1999) AS i ON CONFLICT DO NOTHING""".encode()
    )
    connection.execute("""INSERT INTO operations_queue_starts SELECT 'q' || i % 4,
        CASE WHEN i % 2 = 0 THEN '' ELSE 'k' || i % 500 END, i, i FROM generate_series(1, 10000) AS i""")


KNOWN = ["new", "analyzed", "emptied", "tiny"]
"""What the server believes of the tables: nothing, the truth, or that they are empty, or have a few rows."""
MADE = ["for any values", "for these values"]
"""Plans: of statements that are prepared, and behind a pooler."""


@pytest.fixture(scope="module", params=[*itertools.product(KNOWN, MADE)], ids=", ".join)
def explain(request: pytest.FixtureRequest, store: PostgresStore) -> Any:
    """``explain(statement, values)``: the plan as text. With ``run``, it is also carried out, and undone."""
    known, made = request.param
    link = store._connector.connect(time.monotonic() + 60)
    link.execute(f'SET search_path = "{store._location.schema}"'.encode())
    if known == "analyzed":
        link.execute("ANALYZE")
    elif known == "emptied":
        analyze_emptied(link, store._location.schema)
    elif known == "tiny":
        analyze_all_but(link, store._location.schema, 3)

    def plan(statement: bytes, values: Any, *, run: bool = False) -> str:
        if made == MADE[0]:
            statement, values = prepared(link, statement, values)
        # Values stand in the text: EXPLAIN takes no parameters of a type that is not known.
        text = (b"EXPLAIN (ANALYZE) " if run else b"EXPLAIN ") + statement.replace(b")b", b")s").replace(b"%b", b"%s")
        with link.transaction(force_rollback=True):
            return "\n".join(line for (line,) in psycopg.ClientCursor(link).execute(text, values))

    yield plan
    link.close()


def prepared(link: psycopg.Connection[Any], statement: bytes, values: Any) -> tuple[bytes, list[Any]]:
    """A call of the statement, which is prepared for it, and its values in their order."""
    link.execute("DEALLOCATE ALL", prepare=False)
    if isinstance(values, dict):
        names = list(dict.fromkeys(re.findall(rb"%\((\w+)\)b", statement)))
        values = [values[name.decode()] for name in names]
        statement = re.sub(rb"%\((\w+)\)b", lambda found: b"$%d" % (names.index(found[1]) + 1), statement)
    else:
        numbers = itertools.count(1)
        statement = re.sub(rb"%b", lambda _: b"$%d" % next(numbers), statement)
    psycopg.ClientCursor(link).execute(b"PREPARE called AS " + statement)
    return b"EXECUTE called" + (b"(" + b", ".join([b"%s"] * len(values)) + b")" if values else b""), values


NAMES = [f"p{i % 40}/operations/{i}" for i in range(0, 2000, 10)]
LOOK = {
    "now": NOW + 1000, "handlers": ["h0", "h1"], "points": ["", None], "limit": 100, "owner": "me", "skipped": "me",
    "overdue": NOW,
}  # fmt: skip
STATEMENTS = {
    "read": {"names": NAMES}, "lock": {"names": NAMES}, "unfinished": {"names": NAMES},
    "journal": {"names": NAMES, "kinds": ["STEP"]},
    "appended": {"names": NAMES[:3], "kinds": ["STEP"] * 3, "keys": [b"a"] * 3},
    "due": LOOK, "next_check": LOOK, "unknown": LOOK, "remove": [NAMES], "orphans": {"names": NAMES, "owners": ["me"]},
}  # fmt: skip


BY_NAME = {"operations_pkey", "operations_journal_pkey", "operations_due"}


def found_by_name(plan: str) -> bool:
    """Whether rows are found in indexes that begin with what is known of them, and no more of them than are wanted."""
    used = set(re.findall(r"using (\w+) on", plan))
    return used <= BY_NAME and "Seq Scan" not in plan and most_read(plan) <= len(NAMES)


def most_read(plan: str) -> int:
    """The most rows that a part of a plan that was carried out has read, or left out."""
    # Since version 18, rows have decimals.
    found = re.findall(r"Scan.*actual.*rows=([\d.]+) loops=(\d+)", plan)
    read = [round(float(rows) * int(loops)) for rows, loops in found]
    return max(read + [int(rows) for rows in re.findall(r"Removed by .*: (\d+)", plan)], default=0)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_the_table_from_end_to_end(store: PostgresStore, explain: Any, name: str) -> None:
    plan = explain(store._texts[name], STATEMENTS[name], run=True)
    assert found_by_name(plan), plan


@pytest.mark.parametrize("count", [1, len(NAMES)])
@pytest.mark.parametrize("large", [(), ("state_data", "trail")])
def test_changed_rows_are_found_by_their_names(
    store: PostgresStore, explain: Any, large: tuple[str, ...], count: int
) -> None:
    encoded = rows.encode(row())
    place = rows.WRITTEN.index
    others = tuple(encoded[place(column)] for column in (*rows.SMALL, *large))
    known = [(name, *others) for name in NAMES[:count]]
    for call in (
        store._texts.update(large).of(known),
        store._texts.change(large).of([(*values, "123") for values in known]),
        store._texts.follow.of([(name, "uid", "STEP", b"a", 1, 0.0, "", b"") for name in NAMES[:count]]),
    ):
        plan = explain(*call, run=True)
        assert "operations_pkey" in plan, plan
        assert found_by_name(plan), plan


def test_what_is_due_is_found_in_the_index_of_what_is_due(store: PostgresStore, explain: Any) -> None:
    for name in ("due", "next_check", "unknown"):
        assert "operations_due" in explain(store._texts[name], LOOK)


@pytest.mark.parametrize("owners", [1, 1_000])
def test_what_the_dead_held_is_found_by_one_scan_of_the_index_of_what_is_due(
    store: PostgresStore, explain: Any, owners: int
) -> None:
    """However many have died; the rows that nobody holds stand for theirs here, and are all that are due."""
    dead = ["", *(f"host:{i}:aaaa" for i in range(owners - 1))]
    plan = explain(store._texts["held_by"], {"owners": dead}, run=True)
    assert set(re.findall(r"using (\w+) on", plan)) == {"operations_due"}, plan
    assert plan.count("Index Only Scan using operations_due") == 1, plan
    assert "Seq Scan" not in plan, plan
    assert most_read(plan) <= ROWS / 100 + 1, plan


QUERIES = {
    "operations_newest": [{}, {"done": True}, {"created_from": NOW + 500, "created_to": NOW + 900}],
    "operations_live": [{"done": False}, {"states": frozenset({State.RUNNING})}],
    "operations_unsuccessful": [{"states": frozenset({State.FAILED, State.CANCELLED})}],
    "operations_by_parent": [{"parent": "p7"}],
    "operations_by_handler": [{"handler": "h7"}],
    "operations_children": [{"parent_operation": "operations/7"}],
}


@pytest.mark.parametrize("explain", [*itertools.product(KNOWN[:2], MADE)], ids=", ".join, indirect=True)
@pytest.mark.parametrize("after", [None, (NOW + 10_000, "p0/operations/10000")])
@pytest.mark.parametrize("index", QUERIES)
def test_a_page_is_a_range_of_the_index_that_has_its_order(
    store: PostgresStore, explain: Any, index: str, after: tuple[float, str] | None
) -> None:
    """The first page and one in the middle cost the same."""
    for options in QUERIES[index]:
        for limit in (10, 1000):
            query = ListQuery(now=NOW, limit=limit, after=after, **options)
            for conditions, values in lists.parts(query):
                text = store._texts.list("list", outline=True, conditions=conditions)
                plan = explain(text, values | {"limit": limit})
                assert "Seq Scan" not in plan, plan
                assert "Bitmap" not in plan, plan
                assert "Index" in plan, plan
                if index not in plan:
                    assert f"{index} is not used" == plan


def test_expired_rows_are_found_by_their_time(store: PostgresStore, explain: Any) -> None:
    plan = explain(store._texts["purge"], [NOW, 100])
    assert "operations_expiry" in plan
    assert "Seq Scan" not in plan, plan


COUNTED = {
    "count_states": ["operations_states"],
    "count_owners": ["operations_states"],
    "count_due": ["operations_due"],
    "failures": ["operations_unsuccessful"],
}


@pytest.mark.parametrize("most", [10, 10_000])
@pytest.mark.parametrize("name", stats.STATEMENTS)
def test_counts_stop_at_their_bound_in_an_index(store: PostgresStore, explain: Any, name: str, most: int) -> None:
    """No bitmap either: it would be made of all rows of a state before the first is counted."""
    plan = explain(store._texts[name], stats.values(StatsQuery(now=NOW + 1000, most=most)))
    assert "Seq Scan" not in plan, plan
    assert "Bitmap" not in plan, plan
    used = set(re.findall(r"using (\w+) on", plan))
    assert used == {*COUNTED[name]}, plan


WANTED = {
    "queues": ["q1", "q1", "q2"], "keys": ["k1", "", "k2"], "uids": [b"uid-1", b"uid-5000"], "steps": [b"uid-9"],
    "most": 64,
}  # fmt: skip
SERVED = {"handlers": ["h1", "h2", "none"], "now": NOW, "most": 64}
NEXT = {
    "queues": ["q1", "q2"], "handlers": ["h1", "h1"], "limits": [20, 20], "ripe": ["q1", "q2"],
    "moments": [NOW + 9, NOW + 9], "most": 32,
}  # fmt: skip
STATUS = {"now": NOW, "names": ["q1"], "most": 10_000, "keys": 100}
QUEUED: dict[str, Any] = {
    **dict.fromkeys(places.FETCHED, WANTED),
    **dict.fromkeys(queues.LINE, SERVED),
    **dict.fromkeys(queues.NEXT, NEXT),
    "remove_tickets": [[b"uid-1"]],
    "put_queues": [["q1"], [1], [1], [1], [1], [1.0], [1.0]],
    "resettle": {"queues": ["q1", "q2"], "keys": ["k1", "k2"], "ready": [16, 0], "most": 10_000},
    "put_keys": [["q1"], ["k1"], [1], [1], [1.0], [1.0], [None]],
    "trim_starts": [["q1", "q2"], ["", "k2"], [5, 5]],
    "queue_terms": {"queue": "q1"},
    "put_terms": {"queue": "q1", "bounds": "", "override": None, "declared": "[]", "paused": False},
    "forget_idle": {"now": NOW, "limit": 100},
    "some_keys": {"queue": "q1", "key": "k1", "most": 100},
}


@pytest.mark.parametrize("name", QUEUED)
def test_who_is_next_in_line_is_found_by_seeks(store: PostgresStore, explain: Any, name: str) -> None:
    """However long a line is: nothing is read from end to end, and no line is sorted."""
    plan = explain(store._texts[name], QUEUED[name], run=name not in ("put_terms", "remove_tickets"))
    assert "Bitmap" not in plan, plan
    assert "Seq Scan on operations" not in plan, plan
    assert most_read(plan) < 1_000, plan


def test_a_decision_about_many_places_is_found_by_seeks(store: PostgresStore, explain: Any) -> None:
    """Also where there are more values than any planner takes for granted."""
    many = range(0, 2000, 10)
    wanted = {
        "queues": [f"q{i % 4}" for i in many], "keys": [f"k{i % 500}" for i in many],
        "uids": [b"uid-%d" % i for i in many], "steps": [b"uid-%d" % i for i in many], "most": 1,
    }  # fmt: skip
    for name in places.FETCHED:
        plan = explain(store._texts[name], wanted, run=True)
        assert "Seq Scan on operations" not in plan, plan
        assert most_read(plan) < 1_000, plan


@pytest.mark.parametrize("name", [*queues.STATUS, "wake_keys"])
def test_what_operators_ask_for_is_in_indexes(store: PostgresStore, explain: Any, name: str) -> None:
    plan = explain(store._texts[name], STATUS | {"queue": "q1"})
    assert "Seq Scan on operations" not in plan, plan


@pytest.mark.parametrize("name", ["stale_queues", "remove_stale"])
def test_who_is_stale_is_sought_among_those_who_are_first(store: PostgresStore, explain: Any, name: str) -> None:
    """Each costs one seek: 80 hold places, 1,600 are READY, and of a key whose time has come, 16 stand behind."""
    values: dict[str, Any] = {"now": NOW}
    if name == "remove_stale":
        values |= {"queues": ["q1"], "of": ["q1"], "keys": ["k1"]}
    plan = explain(store._texts[name], values, run=True)
    assert "Seq Scan on operations" not in plan, plan
    assert most_read(plan) <= 80 + 1_600 + 16, plan


def test_where_one_stands_is_counted_in_an_index(store: PostgresStore, explain: Any) -> None:
    plan = explain(store._texts["in_line"], queues.standing_values("uid-5000"), run=True)
    assert "Seq Scan on operations" not in plan, plan
    assert "operations_tickets_keys" in plan, plan
