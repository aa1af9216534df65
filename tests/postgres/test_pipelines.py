"""What the store sends to a server, and when."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from lro_aio.stores.postgres import PostgresStore, connections
from lro_aio.testing._store_rows import NOW, create_all, name_of, row


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The kinds of the messages that were sent since, as libpq's own trace has them."""
    made = connections.Connector.connect
    with tempfile.TemporaryFile("w+b", buffering=0) as trace:

        def connect(self: connections.Connector, *args: object, **options: object) -> connections.Link:
            link = made(self, *args, **options)
            link.pgconn.trace(trace.fileno())
            return link

        monkeypatch.setattr(connections.Connector, "connect", connect)

        def kinds() -> list[str]:
            trace.seek(0)
            lines = (line.split(b"\t") for line in trace.read().splitlines())
            return [parts[3].decode() for parts in lines if len(parts) > 3 and parts[1] == b"F"]

        yield kinds


def test_nothing_is_sent_behind_the_end_of_a_transaction(url: str, sent: Callable[[], list[str]]) -> None:
    """A pooler would lend a server for a flush, and never learn that it is free again."""
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, row(1), row(2))
        store.read([name_of(1)])
        store.look(now=NOW, routes=[("", None)], limit=10, owner="")
        store.purge(now=NOW, limit=10)
    assert sent().count("Sync") > 4
    assert "Flush" not in sent()
