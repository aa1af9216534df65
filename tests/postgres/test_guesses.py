"""A change of a row that this process knows is written at once: nothing is lost or done twice where it is not so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lro_aio as lro
from lro_aio.core.change import Change, Outcome, run
from lro_aio.core.journal import Appending, Entry
from lro_aio.core.record import Record, State
from lro_aio.stores.postgres import PostgresStore, kept
from lro_aio.testing._store_rows import create_all, name_of, only, put, remove, update

from ..waiting import block_until
from .proxy import Proxy
from .rows import row

ROWS = range(1, 4)
NAMES = [name_of(number) for number in ROWS]


@pytest.fixture
def url(emptied: str) -> str:
    """Tables that the tests here share."""
    return emptied


@pytest.fixture
def store(proxy: Proxy) -> Iterator[PostgresStore]:
    """An open store that reaches the server through the proxy, and knows one row."""
    with closing(PostgresStore(proxy.url)) as store:
        store.open()
        create_all(store, row())
        yield store


@pytest.fixture
def other(url: str) -> Iterator[PostgresStore]:
    """That of another process."""
    with closing(PostgresStore(url)) as store:
        store.open()
        yield store


def count(number: int = 1, *keys: str) -> Change:
    """Count in the claim how often it was carried out, and append to the journal."""
    entries = tuple(Entry(kind="STEP", key=key, time=0.0) for key in keys)
    return Change(name_of(number), lambda record: record.evolve(claim=record.claim + 1), appends=entries)


def once() -> Callable[[bytes], bool]:
    """Whether a packet is the first one that has to do with the row."""
    left = [True]
    return lambda data: name_of(1).encode() in data and bool(left) and left.pop()


def keys_of(store: PostgresStore, number: int = 1) -> list[str]:
    return [entry.key for entry in store.journal([name_of(number)]).get(name_of(number), [])]


def trips(proxy: Proxy, call: Callable[[], object]) -> int:
    before = proxy.turns
    call()
    return proxy.turns - before


@dataclass
class Model:
    """What a batch does, by the rules of ``core.change`` alone."""

    rows: dict[str, Record | None]
    entries: dict[tuple[str, str, str], int]

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        journal = Appending(self.entries)
        outcomes = run(changes, self.rows, journal)
        self.entries |= {(e.uid, e.kind, e.key): e.number for _, e in journal.left(self.rows)}
        uids = {record.uid for record in self.rows.values() if record is not None}
        self.entries = {place: number for place, number in self.entries.items() if place[0] in uids}
        return outcomes


def refuse(_: Record | None) -> Record:
    raise lro.LroError("not so")


def check_running(record: Record) -> None:
    if record.state is not State.RUNNING:
        raise lro.LroError("it does not run")


UIDS = itertools.count()
KINDS: dict[str, Callable[[int, int], Change]] = {
    "make": lambda n, _: (
        lambda new: Change(new.name, lambda there: there or new, creates=True)
    )(row(n, uid=f"uid-{n}-{next(UIDS)}")),
    "run": lambda n, _: update(name_of(n), state=State.RUNNING),
    "end": lambda n, _: update(name_of(n), state=State.SUCCEEDED, check_time=None),
    "count": lambda n, _: count(n),
    "append": lambda n, key: count(n, str(key % 3)),
    "append two": lambda n, key: count(n, str(key % 3), "more"),
    "large": lambda n, size: update(name_of(n), state_data=bytes(kept.LARGEST * (size % 2) + size)),
    "nothing": lambda n, _: Change(name_of(n), lambda record: record),
    "refuse": lambda n, _: Change(name_of(n), refuse, creates=True),
    "remove": lambda n, _: remove(name_of(n)),
    "guarded": lambda n, by: Change(
        name_of(n), lambda record: record.evolve(claim=record.claim + 1), guard=(name_of(by % 3 + 1), check_running)
    ),
}  # fmt: skip
CHANGES = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(ROWS), st.integers(0, 5))
BATCHES = st.lists(st.tuples(st.booleans(), st.lists(CHANGES, min_size=1, max_size=4)), min_size=3, max_size=12)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=BATCHES)
def test_two_processes_do_what_one_would(
    store: PostgresStore, other: PostgresStore, batches: list[tuple[bool, list[tuple[str, int, int]]]]
) -> None:
    """In whatever order they change the same rows, and whatever each believes to know of them."""
    other.apply([remove(name) for name in NAMES])
    model = Model(dict.fromkeys(NAMES), {})
    for here, kinds in batches:
        made = [KINDS[kind](number, more) for kind, number, more in kinds]
        outcomes = (store if here else other).apply(made)
        wanted = model.apply(made)
        assert [type(one) for one in outcomes] == [type(one) for one in wanted]
        assert [one for one in outcomes if isinstance(one, Record)] == [
            one for one in wanted if isinstance(one, Record)
        ]
        assert {one.name: one for one in other.read(NAMES)} == {n: r for n, r in model.rows.items() if r is not None}
        found = {(e.uid, str(e.kind), e.key): e.number for entries in other.journal(NAMES).values() for e in entries}
        assert found == {(uid, str(kind), key): number for (uid, kind, key), number in model.entries.items()}


def test_what_this_process_wrote_is_changed_in_one_round_trip(store: PostgresStore, proxy: Proxy) -> None:
    store._notices.close()  # its heartbeat would count
    proxy.delay = 0.05
    store.apply([count(1, "first")])  # statements are prepared once
    assert trips(proxy, lambda: store.apply([count(1, "second"), count(1, "third")])) == 1
    assert keys_of(store) == ["first", "second", "third"]
    assert only(store, name_of(1)).claim == 3


def test_large_rows_and_those_that_nobody_holds_are_not_kept(store: PostgresStore) -> None:
    """Nor more rows than a bound: a process that starts a million does not remember them."""
    create_all(store, row(2, state_data=bytes(kept.LARGEST)), row(3, owner=""))
    assert [*store._kept.known(NAMES)] == [name_of(1)]
    many = {f"operations/{number}": row(number) for number in range(kept.MOST)}
    store._kept.written(many, dict.fromkeys(many, "1"))
    store._kept.written({"operations/0": row(0), "operations/last": row("last")}, {"operations/0": "2"})
    assert [*store._kept.known([name_of(1), "operations/0", "operations/last"])] == ["operations/0"]


@pytest.mark.parametrize("keys", [(), ("a",)])
def test_a_guess_whose_answer_is_lost_is_found_and_not_carried_out_again(
    store: PostgresStore, proxy: Proxy, keys: tuple[str, ...]
) -> None:
    proxy.resets = once()
    (outcome,) = store.apply([count(1, *keys)])
    assert isinstance(outcome, Record)
    assert outcome.claim == only(store, name_of(1)).claim == 1
    assert keys_of(store) == list(keys)


@pytest.mark.parametrize("came", [True, False])
@pytest.mark.parametrize("keys", [(), ("a",)])
def test_a_guess_whose_answer_is_lost_is_not_repeated_on_what_another_has_written_since(
    store: PostgresStore, other: PostgresStore, proxy: Proxy, came: bool, keys: tuple[str, ...]
) -> None:
    """Whether it was written before that, the journal alone can tell: by an entry that is not there."""
    first = once()

    def broken(data: bytes) -> bool:
        if first(data):
            if not came:
                other.apply([update(name_of(1), owner="other")])
            return True
        return False

    if came:
        proxy.swallows = broken
        with ThreadPoolExecutor(1) as pool:
            outcomes = pool.submit(store.apply, [count(1, *keys)])
            block_until(lambda: only(other, name_of(1)).claim == 1)
            other.apply([update(name_of(1), owner="other")])
            proxy.reset()
            error = outcomes.exception()
    else:
        proxy.holds = broken
        try:
            error = None
            store.apply([count(1, *keys)])
        except lro.StoreUnavailableError as exc:
            error = exc
    told = came or not keys
    assert isinstance(error, lro.StoreUnavailableError) is told
    proxy.let_through.set()
    assert only(other, name_of(1)) == row(claim=int(came or not told), owner="other", entries=len(keys))
    assert keys_of(other) == list(keys)


def test_a_guess_that_never_came_is_not_taken_for_what_another_has_appended(
    store: PostgresStore, other: PostgresStore, proxy: Proxy
) -> None:
    """Two processes send a message each: what it makes of the row is the same."""
    first = once()

    def lost(data: bytes) -> bool:
        if first(data):
            other.apply([message("from another")])
            return True
        return False

    proxy.holds = lost
    (outcome,) = store.apply([message("lost")])
    assert isinstance(outcome, Record)
    proxy.let_through.set()
    assert outcome.entries == 2
    assert keys_of(store) == ["from another", "lost"]


def test_a_guess_that_the_server_gave_up_is_not_taken_for_what_another_has_written(
    store: PostgresStore, other: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Both count from the same row."""
    other.apply([count(1)])
    sql.execute("CREATE SEQUENCE tries")
    sql.execute(
        f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('{store._location.schema}.tries') = 1
            THEN RAISE EXCEPTION 'a fault of the test' USING ERRCODE = '40P01'; END IF;
            RETURN NULL; END $$""".encode()
    )
    sql.execute("CREATE TRIGGER fail BEFORE UPDATE ON operations FOR EACH STATEMENT EXECUTE FUNCTION fail()")
    assert store.apply([count(1)]) == store.read([name_of(1)]) == [row(claim=2)]


def message(key: str) -> Change:
    """As those to an operation that does not wait for them: only the journal keeps it."""
    return Change(name_of(1), lambda record: record, appends=(Entry(kind="MESSAGE", key=key, time=0.0),))


@pytest.mark.parametrize("keys", [(), ("a",)])
def test_a_guess_that_comes_late_changes_nothing(store: PostgresStore, proxy: Proxy, keys: tuple[str, ...]) -> None:
    """Its connection broke, the change was repeated on another one, and only then the network delivers the first."""
    proxy.holds = once()
    (outcome,) = store.apply([count(1, *keys)])
    assert isinstance(outcome, Record)
    before = sessions(store)
    proxy.let_through.set()
    block_until(lambda: sessions(store) < before)  # the server has carried it out, and found that nobody is there
    assert outcome.claim == only(store, name_of(1)).claim == 1
    assert keys_of(store) == list(keys)


def sessions(store: PostgresStore) -> int:
    """Sessions of the server that are not the one that asks."""
    with psycopg.connect(store._location.dsn, autocommit=True) as own:
        (found,) = own.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
    return int(found)


@pytest.mark.parametrize("code", ["40001", "53100", "23514"])
def test_a_commit_that_fails_at_its_end_has_written_nothing(
    store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]], code: str
) -> None:
    """Not the guess, and not what is done in its place. A conflict is repeated, and any other error is told."""
    sql.execute("CREATE SEQUENCE tries")
    sql.execute(
        f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('{store._location.schema}.tries') <= 2
            THEN RAISE EXCEPTION 'a fault of the test' USING ERRCODE = '{code}'; END IF;
            RETURN NULL; END $$""".encode()
    )
    sql.execute(
        "CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON operations DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    if code == "40001":
        (outcome,) = store.apply([count(1, "a")])
    else:
        with pytest.raises((lro.StoreUnavailableError, psycopg.Error), match="a fault of the test"):
            store.apply([count(1, "a")])
        assert only(store, name_of(1)).claim == 0
        assert keys_of(store) == []
        (outcome,) = store.apply([count(1, "a")])
    assert isinstance(outcome, Record)
    assert outcome.claim == only(store, name_of(1)).claim == 1
    assert keys_of(store) == ["a"]


def test_a_value_that_cannot_be_sent_takes_nothing_of_its_batch_along(store: PostgresStore) -> None:
    """What is queued before it is not committed by the end of the pipeline."""
    create_all(store, row(2))
    for batch in ([put(row(3)), update(name_of(1), owner="\ud800")], [count(1), update(name_of(2), trail="\ud800")]):
        with pytest.raises(UnicodeEncodeError):
            store.apply(batch)
        assert [one.claim for one in store.read(NAMES)] == [0, 0]
    (outcome,) = store.apply([count(1)])
    assert isinstance(outcome, Record)
    assert outcome.claim == 1


def test_a_guess_waits_for_nobody(store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]) -> None:
    """Whoever holds a row is about to change it. The rest of the batch is written meanwhile."""
    create_all(store, row(2))
    with ThreadPoolExecutor(1) as pool, sql.transaction(force_rollback=True):
        sql.execute("SELECT FROM operations WHERE name = %s FOR UPDATE", [name_of(1)])
        outcomes = pool.submit(store.apply, [count(1, "a"), count(2, "a")])
        block_until(lambda: only(store, name_of(2)).claim)
        assert (only(store, name_of(1)).claim, keys_of(store), keys_of(store, 2)) == (0, [], ["a"])
    assert [one.claim for one in outcomes.result(20) if isinstance(one, Record)] == [1, 1]
    assert keys_of(store) == ["a"]


def test_an_entry_that_comes_again_is_passed_over(store: PostgresStore) -> None:
    """It costs the guess, and not the others of its batch."""
    create_all(store, row(2))
    store.apply([count(1, "a")])
    outcomes = store.apply([count(1, "a", "b"), count(2, "a")])
    assert [one.claim for one in outcomes if isinstance(one, Record)] == [2, 1]
    assert keys_of(store) == ["a", "b"]
    assert keys_of(store, 2) == ["a"]


def test_what_is_known_of_a_server_is_forgotten_with_its_connection(store: PostgresStore, proxy: Proxy) -> None:
    """The next one may be a standby that has taken over, and lacks the last commits."""
    assert [*store._kept.known(NAMES)] == [name_of(1)]
    proxy.reset()
    create_all(store, row(2))
    assert [*store._kept.known(NAMES)] == [name_of(2)]


def test_what_is_written_while_a_new_connection_is_made_is_forgotten_too(
    store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Its answer may come from the server before, behind the moment at which that one was forgotten."""
    with ThreadPoolExecutor(1) as pool:
        with sql.transaction():
            sql.execute("SELECT FROM operations WHERE name = %s FOR UPDATE", [name_of(1)])
            outcomes = pool.submit(store.apply, [count(1)])
            block_until(lambda: waiting(store) == 1)
            store.read(NAMES)
        outcomes.result()
    assert store._kept.known(NAMES) == {}
    store.apply([count(1)])
    assert [*store._kept.known(NAMES)] == [name_of(1)]


def waiting(store: PostgresStore) -> int:
    """Sessions of the server that wait for a lock."""
    with psycopg.connect(store._location.dsn, autocommit=True) as own:
        (found,) = own.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return int(found)


def test_processes_that_guess_of_the_same_rows_do_not_wait_for_each_other_in_a_circle(
    store: PostgresStore, other: PostgresStore
) -> None:
    """Each names the rows in another order."""
    create_all(store, *(row(number) for number in range(2, 30)))
    numbers = list(range(1, 30))

    def work(one: PostgresStore, order: Sequence[int]) -> None:
        for _ in range(30):
            outcomes = one.apply([count(number) for number in order])
            assert all(isinstance(outcome, Record) for outcome in outcomes)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [store, other] * 2, [numbers, numbers[::-1]] * 2))
    assert {record.claim for record in store.read([name_of(number) for number in numbers])} == {120}
