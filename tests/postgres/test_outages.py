"""Whatever the network and the server do, a call ends within the deadline, and the next one finds the way back."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.record import Record
from lro_aio.ports import ListQuery
from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing._store_rows import create_all, name_of, only, put_or_count, update

from ..waiting import block_until
from .proxy import Proxy
from .rows import row
from .server import Server

TIMEOUT = 0.5
SOON = 15.0
"""Seconds: TCP alone would wait for a quarter of an hour, and a statement for whoever holds its row."""


@pytest.fixture
def url(emptied: str) -> str:
    """Tables that the tests here share."""
    return emptied


@pytest.fixture
def behind(proxy: Proxy) -> Iterator[PostgresStore]:
    """An open store that reaches the server through the proxy, with one row."""
    with closing(PostgresStore(proxy.url)) as store:
        store.open()
        create_all(store, row())
        yield store


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, row())
        yield store


@contextmanager
def hastened(store: PostgresStore) -> Iterator[None]:
    """A call within may take ``TIMEOUT``; one that is to succeed may take longer on a busy machine."""
    usual = store._location
    store._location = store._connector._location = dataclasses.replace(usual, timeout=TIMEOUT)
    yield
    store._location = store._connector._location = usual


def step() -> Change:
    """A change that counts how often it was carried out."""
    return Change(name_of(1), lambda record: dataclasses.replace(record, claim=record.claim + 1))


def writes(store: PostgresStore) -> Callable[[bytes], bool]:
    """Whether a packet is the last one of a commit: only that has the notice in it."""
    own = store._notice[1].encode()
    return lambda data: own in data


CALLS: dict[str, Callable[[PostgresStore], object]] = {
    "apply": lambda store: store.apply([step()]),
    "read": lambda store: store.read([name_of(1)]),
    "look": lambda store: store.look(now=0.0, routes=[("job", "")], limit=1, owner=""),
    "list": lambda store: store.list(ListQuery(now=0.0, limit=1)),
    "purge": lambda store: store.purge(now=0.0, limit=1),
    "journal": lambda store: store.journal([name_of(1)]),
    "unfinished": lambda store: store.unfinished([name_of(1)]),
}


@pytest.mark.parametrize(
    "call", [pytest.param(name, marks=[] if name in ("apply", "read") else pytest.mark.slow) for name in CALLS]
)
def test_a_call_into_a_dead_network_ends_at_the_deadline(behind: PostgresStore, proxy: Proxy, call: str) -> None:
    """TCP alone would wait for a quarter of an hour; the first call after it finds the server again."""
    CALLS[call](behind)  # it has a connection, and its statement is prepared
    proxy.open.clear()
    began = time.monotonic()
    with hastened(behind), pytest.raises(lro.StoreUnavailableError, match="no answer in time"):
        CALLS[call](behind)
    assert time.monotonic() - began < SOON
    proxy.open.set()
    CALLS[call](behind)


@pytest.mark.parametrize("known", [True, False])
def test_a_commit_whose_answer_is_swallowed_is_carried_out_once(
    behind: PostgresStore, proxy: Proxy, known: bool
) -> None:
    """Its outcome is not known, so it is not repeated by itself."""
    behind.apply([step()])
    if known:
        proxy.swallows = lambda data: name_of(1).encode() in data
    else:
        behind._forget()
        proxy.swallows = writes(behind)
    with hastened(behind), pytest.raises(lro.StoreUnavailableError):
        behind.apply([step()])
    proxy.swallows = lambda _: False
    assert only(behind, name_of(1)).claim == 2


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_connection_that_is_reset_while_it_commits_leaves_one_change(
    behind: PostgresStore, proxy: Proxy, known: bool
) -> None:
    """What was written in one round trip is found; of any other change, the outcome is not known."""
    behind.apply([step()])
    proxy.resets = writes(behind)
    if known:
        behind.apply([step()])
    else:
        behind._forget()
        with pytest.raises(lro.StoreUnavailableError):
            behind.apply([step()])
    proxy.resets = lambda _: False
    assert only(behind, name_of(1)).claim == 2


def test_connections_that_died_while_they_were_idle_are_replaced_without_an_error(
    behind: PostgresStore, proxy: Proxy
) -> None:
    """Nothing was under way, so nothing is unknown: for reads and for changes."""
    only(behind, name_of(1))
    proxy.reset()
    assert only(behind, name_of(1)).claim == 0
    (outcome,) = behind.apply([step()])
    assert isinstance(outcome, Record)
    assert outcome.claim == 1
    proxy.reset()
    create_all(behind, row(2))


def test_a_start_whose_answer_is_lost_is_found_and_not_made_again(behind: PostgresStore, proxy: Proxy) -> None:
    """It is sent all at once, so one whose connection was dead before looks the same from here."""
    own, left = writes(behind), [True]
    proxy.resets = lambda data: own(data) and bool(left) and left.pop()
    new = row(2, initial_data=b"\0", expire_time=1 / 3, seat=None)
    outcomes = behind.apply([put_or_count(new)])
    assert not left
    assert outcomes == [new]
    assert only(behind, new.name) == new


def test_what_a_batch_has_made_is_told_of_although_the_rest_of_it_waits_in_vain(store: PostgresStore, url: str) -> None:
    with psycopg.connect(url.partition("?")[0]) as other, closing(PostgresStore(url)) as another:
        another.open()  # it does not know that the row is there
        schema = url.partition("schema=")[2]
        other.execute(f'SELECT FROM "{schema}".operations WHERE name = %s FOR UPDATE'.encode(), [name_of(1)])
        with hastened(another):
            outcomes = another.apply([put_or_count(row(1)), put_or_count(row(2))])
        other.rollback()
    assert isinstance(outcomes[0], lro.StoreUnavailableError)
    assert outcomes[1] == row(2) == only(store, name_of(2))
    assert only(store, name_of(1)).claim == 0


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_row_that_others_hold_is_waited_for_until_the_deadline(store: PostgresStore, url: str, known: bool) -> None:
    """And no longer; other rows go on. The server still waits to write what follows from a row that is known."""
    create_all(store, row(2))
    if not known:
        store._forget()
    with psycopg.connect(url.partition("?")[0]) as other:
        schema = url.partition("schema=")[2]
        other.execute(f'SELECT FROM "{schema}".operations WHERE name = %s FOR UPDATE'.encode(), [name_of(1)])
        began = time.monotonic()
        with hastened(store), pytest.raises(lro.StoreUnavailableError):
            store.apply([step()])
        assert time.monotonic() - began < SOON
        store.apply([update(name_of(2), revision=2)])
        other.rollback()
    (outcome,) = store.apply([step()])
    assert outcome == only(store, name_of(1))
    assert only(store, name_of(1)).claim in ((1, 2) if known else (1,))


@pytest.mark.slow
def test_a_process_that_stands_still_in_a_transaction_does_not_hold_its_rows_for_long(url: str) -> None:
    """The server hangs up on it after half of the deadline; what it does then is refused, and done anew."""
    with closing(PostgresStore(url, timeout=4)) as stopped, closing(PostgresStore(url, timeout=20)) as other:
        stopped.open()
        other.open()
        create_all(stopped, row())
        reached, go_on = threading.Event(), threading.Event()

        def stand(record: Record) -> Record:
            reached.set()
            assert go_on.wait(20)
            return dataclasses.replace(record, claim=record.claim + 10)

        outcomes: list[object] = []
        thread = threading.Thread(target=lambda: outcomes.append(_outcome(stopped, stand)))
        thread.start()
        assert reached.wait(20)
        other.apply([step()])
        go_on.set()
        thread.join(20)
        done = only(other, name_of(1)).claim
        assert (done == 11) == (not isinstance(outcomes[0], Exception))
        assert done in (1, 11)


def _outcome(store: PostgresStore, event: Callable[..., object]) -> object:
    try:
        return store.apply([Change(name_of(1), event)])[0]
    except lro.LroError as exc:
        return exc


def test_a_read_only_server_is_refused_with_what_to_do(database: str, url: str) -> None:
    """As a standby is: nothing there would be kept."""
    readonly = f"{url}&options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(lro.StoreSchemaError, match=r"read only.*name the primary"):
        PostgresStore(readonly).open()


@pytest.mark.slow
def test_of_several_hosts_the_one_that_takes_writes_is_used(database: str, url: str) -> None:
    """One that does not answer, and is named first, is passed over."""
    port = urlsplit(database).port
    several = url.replace(f"127.0.0.1:{port}", f"127.0.0.1:1,127.0.0.1:{port}")
    with closing(PostgresStore(several, timeout=4)) as store:
        store.open()
        create_all(store, row())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_failover_is_followed_to_the_new_primary() -> None:
    """A standby is refused; with all hosts in the URL, the store goes on where the primary is now."""
    with Server() as primary, Server(standby_of=primary) as standby:
        with pytest.raises(lro.StoreSchemaError, match="is a standby"):
            PostgresStore(standby.url).open()
        both = f"postgresql://lro@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/lro"
        with closing(PostgresStore(both, timeout=5)) as store:
            store.open()
            create_all(store, row(1))
            block_until(lambda: _replayed(primary, standby))
            primary.stop()
            with pytest.raises(lro.StoreUnavailableError):
                store.apply([step()])
            standby.promote()
            block_until(lambda: _answers(store))
            store.apply([step()])
            assert only(store, name_of(1)).claim == 1


def _replayed(primary: Server, standby: Server) -> bool:
    with psycopg.connect(primary.url) as one, psycopg.connect(standby.url) as other:
        (written,) = one.execute("SELECT pg_current_wal_lsn()").fetchone()
        return other.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone() == (True,)


def _answers(store: PostgresStore) -> bool:
    try:
        store.read([name_of(1)])
    except lro.StoreUnavailableError:
        return False
    return True


def test_a_server_that_is_not_there_is_said_to_be_unavailable(database: str, url: str) -> None:
    """With the place and without the password."""
    gone = url.replace("lro@", "lro:secret@").replace(f":{urlsplit(database).port}/", ":1/")
    with pytest.raises(lro.StoreUnavailableError, match="refused") as caught:
        PostgresStore(gone).open()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(PostgresStore(gone))


def test_closing_ends_calls_that_are_under_way(behind: PostgresStore, proxy: Proxy) -> None:
    """Within a second, although the network is dead."""
    behind.read([name_of(1)])
    behind._location = dataclasses.replace(behind._location, timeout=50)
    proxy.open.clear()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            behind.read([name_of(1)])
        except lro.StoreUnavailableError as exc:
            errors.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    began = time.monotonic()
    block_until(lambda: behind._pools[1]._busy)
    behind.close()
    assert time.monotonic() - began < SOON
    thread.join(SOON)
    assert len(errors) == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_that_restarts_at_once_loses_nothing_that_was_committed() -> None:
    """Under load: whatever was said to be stored is there, and nothing is there twice."""
    with Server(fsync=True) as server, closing(PostgresStore(server.url, timeout=5)) as store:
        store.open()
        create_all(store, *(row(i) for i in range(4)))
        stop = threading.Event()
        counts = [[0, 0] for _ in range(4)]  # of each row: said to be stored, and unknown

        def write(number: int) -> None:
            one = Change(name_of(number), lambda record: dataclasses.replace(record, claim=record.claim + 1))
            while not stop.is_set():
                try:
                    store.apply([one])
                    counts[number][0] += 1
                except lro.StoreUnavailableError:
                    counts[number][1] += 1
                    stop.wait(0.02)

        threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = [said for said, _ in counts]
            block_until(lambda before=before: all(now[0] >= old + 20 for now, old in zip(counts, before, strict=True)))
            server.restart()
        stop.set()
        for thread in threads:
            thread.join(20)
        for number, (said, unknown) in enumerate(counts):
            assert said <= only(store, name_of(number)).claim <= said + unknown
