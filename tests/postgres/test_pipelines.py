"""What the store sends to a server, and when."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import pytest

from lro_aio.stores.postgres import PostgresStore, connections
from lro_aio.testing._store_rows import NOW, any_of, create_all, name_of, row, update


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], list[str]]]:
    """The kinds of the messages from here (F) or from the server (B), as libpq's own trace has them."""
    made = connections.Connector.connect
    with tempfile.TemporaryFile("w+b", buffering=0) as trace:

        def connect(self: connections.Connector, *args: object, **options: object) -> connections.Link:
            link = made(self, *args, **options)
            link.pgconn.trace(trace.fileno())
            return link

        monkeypatch.setattr(connections.Connector, "connect", connect)

        def kinds(end: bytes) -> list[str]:
            trace.seek(0)
            lines = (line.split(b"\t") for line in trace.read().splitlines())
            return [parts[3].decode() for parts in lines if len(parts) > 3 and parts[1] == end]

        yield kinds


def test_nothing_is_sent_behind_the_end_of_a_transaction(url: str, messages: Callable[[bytes], list[str]]) -> None:
    """A pooler would lend a server for a flush, and never learn that it is free again."""
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, row(1), row(2))
        store.read([name_of(1)])
        store.look(now=NOW, routes=[("", None)], limit=10, owner="")
        store.purge(now=NOW, limit=10)
    assert messages(b"F").count("Sync") > 4
    assert "Flush" not in messages(b"F")


def test_a_row_that_is_to_be_made_and_is_there_is_no_error(url: str, messages: Callable[[bytes], list[str]]) -> None:
    """Each would be a line in the log of the server."""
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, row(1))
        create_all(store, row(1))
    assert "CommandComplete" in messages(b"B")
    assert "ErrorResponse" not in messages(b"B")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every time that a thread has waited for a socket, and it was ready."""
    found: list[Any] = []
    bounded = connections._bounded

    def counted(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
        inner = bounded(gen, deadline)
        try:
            wanted = next(inner)
            while True:
                if ready := (yield wanted):
                    found.append(ready)
                wanted = inner.send(ready)
        except StopIteration as stop:
            return stop.value

    monkeypatch.setattr(connections, "_bounded", counted)
    return found


def test_a_start_waits_for_the_server_once_and_a_change_twice(url: str, waits: list[Any]) -> None:
    """Not once more for each statement: a thread that waits gives up the interpreter, and must get it back."""
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, row(1))  # prepares the statements
        store.apply([update(name_of(1), claim=1)])
        waits.clear()
        create_all(store, row(2))
        started = len(waits)
        store.apply([update(name_of(2), claim=1)])
    # An answer may come in two parts.
    assert started <= 2
    assert len(waits) - started <= 3


@pytest.mark.slow
def test_a_batch_that_no_buffer_of_a_socket_takes_is_stored(url: str) -> None:
    large = {name_of(i): dataclasses.replace(row(i), response=any_of(b"r" * 2**21)) for i in range(16)}
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, *large.values())
        assert {record.name: record for record in store.read(list(large))} == large
