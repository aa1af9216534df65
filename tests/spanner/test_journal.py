"""The journal on Spanner: what it costs in calls, and tables that have none."""

import os
import re
from collections import Counter

import grpc
import pytest

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.journal import Entry, Kind
from lro_aio.core.record import State
from lro_aio.stores.spanner import schema
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import migrate
from lro_aio.stores.spanner.queue_tables import queues_ddl
from lro_aio.stores.spanner.table import INDEXES, OPTIONAL
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_journal import NoJournalContract
from lro_aio.testing._store_rows import NOW, create_all, name_of, only, put, remove, row, update
from lro_aio.testing.store_contract import WriteContract

ON_EMULATOR = bool(os.environ.get("SPANNER_EMULATOR_HOST"))
LISTS = [index for index in INDEXES if "CreateTime DESC" in index.keys]
both_variants = pytest.mark.parametrize("variant", schema.VARIANTS)


def ddl_of_before(variant, table="Operations"):
    """The table as the releases before made it: no journal, no queues, and lists look each row up."""
    later = queues_ddl(table)
    statements = [text for text in schema.ddl(table, variant) if "_Journal" not in text and text not in later]
    lists = {index.ddl(table): index.ddl(table).partition(" STORING")[0] for index in LISTS}
    statements = [lists.get(text, text) for text in statements]
    columns = "|".join(OPTIONAL)
    return [re.sub(rf"^  ({columns}) .*,\n", "", text, flags=re.MULTILINE) for text in statements]


def appending(number, *keys):
    entries = tuple(Entry(kind=Kind.STEP, key=key, time=NOW) for key in keys)
    return Change(name_of(number), lambda record: record, appends=entries)


class Calls:
    """The calls that one block makes."""

    def __init__(self, fake):
        self.fake = fake

    def __enter__(self):
        self.before = Counter(self.fake.rpcs)
        return self

    def __exit__(self, *_):
        self.made = Counter(self.fake.rpcs) - self.before


@pytest.mark.not_on_emulator("it counts no calls")
@both_variants
def test_an_entry_costs_no_call_of_its_own(variant, open_store):
    """It goes with the row, in the commit. Only where it is there already, as after a lost answer, one read more."""
    with FakeSpanner(variant=variant) as fake:
        store = open_store(fake.url)
        create_all(store, row())
        with Calls(fake) as first:
            store.apply([appending(1, "a", "b")])
        assert first.made == {"Read": 1, "Commit": 1}
        with Calls(fake) as again:
            (outcome,) = store.apply([appending(1, "b", "c")])
        assert again.made == {"Read": 3, "Commit": 2}
        assert outcome.entries == 3
        with Calls(fake) as read:
            (entries,) = store.journal([name_of(1), name_of(2)]).values()
        assert read.made == {"ExecuteStreamingSql": 1}
        assert [entry.key for entry in entries] == ["a", "b", "c"]


@pytest.mark.not_on_emulator("it counts no calls")
def test_a_batch_that_appends_nothing_sends_nothing_about_the_journal(open_store):
    with FakeSpanner() as fake:
        store = open_store(fake.url)
        with Calls(fake) as calls:
            store.apply([put(row(1)), put(row(2))])
            store.apply([update(name_of(1), owner="x"), remove(name_of(2))])
            store.read([name_of(1)])
        assert calls.made == {"Read": 3, "Commit": 2}
        with Calls(fake) as nothing:
            assert store.journal([]) == store.journal([name_of(1)], kinds=[]) == {}
        assert not nothing.made


@both_variants
def test_a_table_of_the_release_before_goes_on_and_a_migration_gives_it_a_journal(
    variant, spanner_database, apply_ddl, open_store
):
    """Processes that have it open from before go on too, and leave the journal and the trail of others alone."""
    url = spanner_database(None)
    apply_ddl(url, ddl_of_before(variant))
    old = open_store(url)
    assert not old.keeps_journal
    create_all(old, row(1, trail="1.000 CLAIMED w"))
    assert only(old, name_of(1)) == row(1)
    (refused,) = old.apply([appending(1, "a")])
    assert isinstance(refused, lro.StoreSchemaError)
    assert "lro spanner migrate" in str(refused)

    stored = sum(len(index.storing) for index in LISTS)
    assert len(migrate(Location.parse(url)).statements) == len(OPTIONAL) + stored + 1 + len(queues_ddl("T"))
    new = open_store(url)
    assert new.keeps_journal
    assert only(new, name_of(1)) == row(1)
    new.apply([update(name_of(1), trail="2.000 CANCEL "), appending(1, "a")])
    old.apply([update(name_of(1), owner="old"), put(row(2))])
    assert only(new, name_of(1)) == row(1, owner="old", trail="2.000 CANCEL ", entries=1)
    assert only(new, name_of(2)) == row(2)
    old.apply([remove(name_of(1))])
    create_all(old, row(1))
    assert new.journal([name_of(1)]) == {}


@pytest.mark.not_on_emulator("it has no fault points")
@both_variants
def test_a_commit_whose_answer_is_lost_with_its_session_appends_once(variant, open_store):
    """The store runs the transaction again by itself, and finds what it has appended."""
    with FakeSpanner(variant=variant) as fake:
        store = open_store(fake.url)
        create_all(store, row())
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, when="after")
        (outcome,) = store.apply([appending(1, "a")])
        assert outcome.entries == 1
        assert len(store.journal([name_of(1)])[name_of(1)]) == 1


@pytest.mark.timeout(480 if ON_EMULATOR else 60)
@both_variants
class TestWithoutJournal(WriteContract, NoJournalContract):
    """The contract holds on a table that has no journal, but for the journal."""

    @pytest.fixture
    def make_store(self, variant, spanner_database, apply_ddl):
        url = spanner_database(None)
        apply_ddl(url, ddl_of_before(variant))
        return lambda: lro.SpannerStore.from_url(f"{url}&timeout=20")

    # What takes long here, and is the same with a journal, which the fast lane has.

    @pytest.mark.slow
    @pytest.mark.not_on_emulator("a commit of a thousand rows takes it a quarter of a minute, and it has no limits")
    def test_a_thousand_rows_in_one_batch(self, store):
        super().test_a_thousand_rows_in_one_batch(store)

    @pytest.mark.slow
    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
    def test_every_field_comes_back_from_a_changed_row(self, store, state):
        super().test_every_field_comes_back_from_a_changed_row(store, state)

    @pytest.mark.slow
    def test_no_update_is_lost(self, clients):
        super().test_no_update_is_lost(clients)
