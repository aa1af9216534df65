"""What an acceptance review found: each of these was once false."""

import asyncio
import contextlib
import dataclasses
import os
import threading
import time

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_rows import create_all, name_of, only, row

from ..waiting import block_until

pytestmark = pytest.mark.skipif(bool(os.environ.get("SPANNER_EMULATOR_HOST")), reason="faults of the fake")


@pytest.fixture
def fake():
    with FakeSpanner() as started:
        yield started


@pytest.fixture
def store(fake):
    with contextlib.closing(lro.SpannerStore.from_url(fake.url)) as patient:  # a busy machine may need longer
        patient.open()
        create_all(patient, row())
    store = lro.SpannerStore.from_url(f"{fake.url}&timeout=1")
    block_until(lambda: _opened(store))
    yield store
    store.close()


def _opened(store):
    with contextlib.suppress(lro.StoreUnavailableError):
        store.open()
        return True
    return False


def step():
    """A change that tells how often it was carried out."""
    return Change(name_of(1), lambda record: dataclasses.replace(record, claim=record.claim + 1))


def test_a_session_that_cannot_be_made_costs_everybody_one_timeout_and_not_one_after_the_other(fake, store):
    """Ten threads may be in the store at a time: the last would wait for longer than a lease."""
    took = []

    def read():
        began = time.monotonic()
        with pytest.raises(lro.StoreUnavailableError):
            store.read([name_of(1)])
        took.append(time.monotonic() - began)

    store._connection._sessions.forget(store._connection._sessions.shared(1))
    fake.latency = 20
    threads = [threading.Thread(target=read) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    fake.latency = 0
    assert len(took) == 10
    assert max(took) < 5, "half of what ten timeouts of a second take"


def test_a_commit_whose_answer_was_lost_says_nothing_false_about_the_clock(fake, store):
    """Its timestamp is from the first time that it was sent."""
    fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, times=4, when="after")
    store.apply([step()])
    assert abs(store.clock_offset) < 0.05


def test_a_precommit_token_that_was_lost_is_no_refusal(fake, store):
    """The server asked for the commit once more, with a token that never arrived: nothing is stored yet."""
    fake.commit_retry = True
    fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, when="after")
    claim = only(store, name_of(1)).claim
    assert store.apply([step()])[0].claim == claim + 1
    assert only(store, name_of(1)).claim == claim + 1


def test_a_precommit_token_that_was_lost_leaves_no_lock(fake, store):
    fake.commit_retry = True
    fake.fail("Commit", grpc.StatusCode.ABORTED, times=2)
    fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, when="after")
    claim = only(store, name_of(1)).claim
    assert store.apply([step()])[0].claim == claim + 1


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("variant", ["proto", "bytes"])
async def test_a_row_of_theirs_that_is_more_than_one_answer_holds_is_read_listed_and_deleted(variant):
    """A cell holds 10 MiB, and a unary answer less of it, in base64. Such a row must not spoil every list."""
    with FakeSpanner(variant=variant) as fake:
        theirs = operations_pb2.Operation(name=name_of(1))
        theirs.metadata.Pack(wrappers_pb2.BytesValue(value=bytes(9 * 2**20)))
        columns, values = ["Operation"], [theirs.SerializeToString()]
        if variant == "bytes":
            columns, values = ["key", "Outcome", *columns], [theirs.name, 0, *values]
        fake.write("Operations", "insert", columns, [values])
        async with lro.Client(fake.url) as client:
            small = await client.create(lease=False)
            found = await asyncio.gather(client.get_operation(theirs.name), client.get_operation(small.name))
            assert found == [theirs, operations_pb2.Operation(name=small.name)]
            listed, token = [], ""
            while not listed or token:
                page = await client.list_operations(page_token=token)
                listed += [operation.name for operation in page.operations]
                token = page.next_page_token
            assert sorted(listed) == sorted([theirs.name, small.name])
            await client.delete_operation(theirs.name)
            with pytest.raises(lro.OperationNotFoundError):
                await client.get_operation(theirs.name)


@pytest.mark.asyncio
async def test_a_row_that_cannot_be_read_stops_no_sweep_and_no_list(caplog):
    """Rule 3: another program may write anything into a BYTES column."""
    with FakeSpanner(variant="bytes") as fake:
        columns = ["key", "Operation", "Uid", "Status", "Handler", "CheckTime", "Outcome"]
        due = time.time_ns() - 10**9
        fake.write("Operations", "insert", columns, [[name_of(1), b"\xff\xff", "u", "PENDING", "work", due, 0]])
        async with lro.Client(fake.url) as client:

            @client.handler("work")
            async def work(op):
                return wrappers_pb2.StringValue(value="done")

            await client.sweep()
            op = await client.start(work)
            await asyncio.wait_for(op.result(), 10)
            assert [found.name for found in (await client.list_operations()).operations] == [op.name]
    assert f"row skipped: the stored row of operation {name_of(1)!r}" in caplog.text


def test_the_rollback_that_nobody_waits_for_is_held_until_it_is_answered(fake, store):
    """gRPC cancels a call that nobody holds any more, on a busy machine before it is sent: the locks would stay."""
    connection = store._connection
    transaction = connection.begin(("key",), [name_of(1)], previous=b"", budget=connection.budget(), tag="test")
    fake.rpcs.clear()
    fake.latency = 1.0
    connection.end(transaction, lro.StoreUnavailableError("test"))
    assert [call.done() for call in connection._abandoned] == [False]
    block_until(lambda: not connection._abandoned)
    assert fake.rpcs["Rollback"] == 1
