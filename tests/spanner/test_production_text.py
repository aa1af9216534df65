"""What the service is sent is what the tests run. Google's emulator asks for a hint and three columns more, and only it
gets them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from google.cloud.spanner_v1 import types

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.ports import ListQuery
from lro_aio.stores.spanner import queries
from lro_aio.stores.spanner.emulator import HINT
from lro_aio.stores.spanner.table import INDEXES
from lro_aio.testing._store_rows import NOW, create_all, name_of, only, row, update

ON_EMULATOR = bool(os.environ.get("SPANNER_EMULATOR_HOST"))

# In the emulator's own words (1.5.28).
NO_HINT = (
    "The emulator is not able to determine whether the null filtered index Operations_Due can be used to answer this"
    " query as it may filter out nulls that may be required to answer the query. Please test this query against Cloud"
    " Spanner. If you confirm against Cloud Spanner that the null filtered index can be used to answer the query, set"
    " the hint @{spanner_emulator.disable_query_null_filtered_index_check=true} on the table, or the query statement to"
    " bypass this check in the emulator."
)
NO_VALUE = (
    "Implicit use of primary key default value for column `Operations.UpdateTime` is not allowed in Update/Delete"
    " mutations. The column must have a specific value."
)

LISTS = [
    {},
    {"parent": "p"},
    {"handler": "job"},
    {"handler": ""},
    {"parent_operation": "operations/p"},
    {"parent_operation": "", "handler": "job", "parent": "p"},
    {"created_from": 1.0, "created_to": 2.0, "states": frozenset({State.RUNNING}), "done": False},
]


def statements() -> dict[str, queries.Query]:
    """Every form of every statement."""
    found = {
        f"list {conditions} after {after}": queries.listed(
            "Operations", ListQuery(now=NOW, limit=5, **conditions), limit=5, after=after
        )
        for conditions in LISTS
        for after in (None, (1.0, "operations/a"))
    }
    for overdue in (None, 1.0):
        for own in (False, True):
            found[f"look {overdue} {own}"] = queries.look(
                "Operations", now=NOW, routes=[("job", "")], limit=5, owner="me", own=own, overdue=overdue
            )
    handlers = ["a", "b"]
    found |= {
        "next handler": queries.next_handler("Operations", "a"),
        "count": queries.count_ended_well("Operations", handlers, 5),
        "told apart": queries.told_apart("Operations", handlers, [0, 2], 5, paused=True),
        "due": queries.due("Operations", now=NOW, limit=5),
        "failures": queries.failures("Operations", now=NOW, limit=5),
    }
    return found | {"expired": queries.expired("Operations", now=NOW, limit=5)}


def test_a_journal_is_found_by_the_key_of_its_table() -> None:
    assert queries.journal("Operations", ["operations/a"], None).sql.endswith(
        " FROM Operations_Journal WHERE key IN UNNEST(@names)"
    )


@pytest.mark.parametrize("sql", [pytest.param(query.sql, id=name) for name, query in statements().items()])
def test_a_statement_says_of_each_column_of_its_null_filtered_index_that_it_wants_no_null(sql: str) -> None:
    """Otherwise the service may refuse the index, however the other conditions are put."""
    null_filtered = {index.name("Operations"): index.keys for index in INDEXES if index.null_filtered}
    scans = re.findall(r"@\{FORCE_INDEX=(\w+)\} WHERE (.*?) (?:ORDER BY|LIMIT)", sql)
    assert scans
    for name, where in scans:
        for key in null_filtered.get(name, ()):
            assert f"{key.removesuffix(' DESC')} IS NOT NULL" in where.split(" AND ")


def test_no_statement_has_the_hint() -> None:
    assert not [query.sql for query in statements().values() if "emulator" in query.sql]


@pytest.fixture(params=["proto", "bytes"])
def store(request: pytest.FixtureRequest, spanner_database: Callable[[str], str]) -> Iterator[lro.SpannerStore]:
    opened = lro.SpannerStore.from_url(spanner_database(request.param))
    opened.open()
    create_all(opened, row())
    yield opened
    opened.close()


@pytest.fixture
def sent(store: lro.SpannerStore, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the store sends from here on: ``sql``, and the columns of ``updates``. With ``strict`` it is refused as the
    emulator does, where it is the fake that answers.
    """
    seen = SimpleNamespace(sql=[], updates=[], strict=False, meanwhile=lambda: None)
    client: Any = store._connection._client
    execute_sql, commit = client.execute_sql, client.commit

    def note_sql(request: Any, **options: Any) -> Any:
        seen.sql.append(request.sql)
        if seen.strict and "FORCE_INDEX" in request.sql and not request.sql.startswith(HINT):
            seen.meanwhile()
            raise InvalidArgument(NO_HINT)
        return execute_sql(request=request, **options)

    def note_commit(request: Any, **options: Any) -> Any:
        for mutation in types.CommitRequest.pb(request).mutations:
            columns = set(mutation.update.columns)
            seen.updates.append(columns)
            if seen.strict and "key" in columns and not {"UpdateTime", "CreateTime", "SchemaVersion"} <= columns:
                seen.meanwhile()
                raise FailedPrecondition(NO_VALUE)
        return commit(request=request, **options)

    monkeypatch.setattr(client, "execute_sql", note_sql)
    monkeypatch.setattr(client, "commit", note_commit)
    return seen


def scan(store: lro.SpannerStore) -> None:
    look = store.look(now=NOW + 1, routes=[("job", "")], limit=5, owner="me")
    assert [record.name for record in look.due] == [name_of(1)]
    assert [record.name for record in store.list(ListQuery(now=NOW, limit=5, handler="job"))] == [name_of(1)]
    assert store.purge(now=NOW, limit=5) == 0


@pytest.mark.not_on_emulator("it asks for more: see the next test")
def test_the_service_is_sent_no_hint(store: lro.SpannerStore, sent: SimpleNamespace) -> None:
    scan(store)
    assert len(sent.sql) == 3
    assert not [sql for sql in sent.sql if sql.startswith(HINT)]


def test_the_emulator_is_sent_the_same_text_and_then_the_hint_before_it(
    store: lro.SpannerStore, sent: SimpleNamespace
) -> None:
    """What it refuses without the hint is sent again with it, and so is all that follows."""
    sent.strict = not ON_EMULATOR
    scan(store)
    refused, *others = sent.sql
    assert others[0] == HINT + refused
    assert len(others) == 3
    assert all(sql.startswith(HINT) and HINT not in sql.removeprefix(HINT) for sql in others)


@pytest.mark.not_on_emulator("it asks for more: see the next test")
def test_the_service_is_sent_what_changes(store: lro.SpannerStore, sent: SimpleNamespace) -> None:
    store.apply([update(name_of(1), owner="me")])
    assert sent.updates == [{"key", "Owner"}]


def test_the_emulator_is_sent_the_columns_with_a_default_too(store: lro.SpannerStore, sent: SimpleNamespace) -> None:
    """Once it has refused an update without them."""
    generated_key = store._writer.generated_key
    sent.strict = generated_key and not ON_EMULATOR
    for number in (1, 2):
        store.apply([update(name_of(1), claim=number)])
        assert only(store, name_of(1)).claim == number
    more = {"UpdateTime", "CreateTime", "SchemaVersion"} if generated_key else set()
    refused = [{"key", "Claim"}] if generated_key else []
    assert sent.updates == [*refused, *[{"key", "Claim"} | more] * 2]


@pytest.mark.not_on_emulator("its answers cannot be held up")
def test_a_refusal_is_no_end_where_another_thread_has_learned_of_the_emulator_meanwhile(
    store: lro.SpannerStore, sent: SimpleNamespace
) -> None:
    def forget() -> None:
        store._connection.emulator = False

    def learn() -> None:
        store._connection.emulator = True

    sent.strict, sent.meanwhile = True, learn
    scan(store)
    forget()
    sent.strict = store._writer.generated_key
    store.apply([update(name_of(1), claim=1)])
    assert only(store, name_of(1)).claim == 1
