"""A table of the Go package's second version, as its documentation makes it, and a service of ours that joins it."""

import asyncio
import logging
import time
from base64 import b64encode

import pytest
import pytest_asyncio
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import migrate
from lro_aio.testing import ManualClock

from .go_service import GoService

BUNDLE = "CREATE PROTO BUNDLE (google.longrunning.Operation, google.rpc.Status, google.protobuf.`Any`)"
TABLE = """CREATE TABLE p_launchpad_v1_Operations (
    key STRING(MAX) NOT NULL AS (Operation.name) STORED,
    Operation google.longrunning.Operation NOT NULL,
    State BYTES(MAX),
    ResumePoint STRING(MAX),
    Method STRING(MAX),
    UpdateTime TIMESTAMP NOT NULL,
) PRIMARY KEY (key), ROW DELETION POLICY (OLDER_THAN(UpdateTime, INTERVAL 90 DAY))"""
GOB = bytes(range(256))
DAY = 86400


@pytest.fixture
def url(spanner_database, apply_ddl):
    """Of the table, migrated."""
    url = spanner_database(None)
    apply_ddl(url, [BUNDLE, TABLE])
    url = url.replace("table=Operations", "table=p_launchpad_v1_Operations")
    migrate(Location.parse(url))
    return url


@pytest.fixture
def go(url):
    with GoService(url, version=2, state=GOB) as service:
        yield service


@pytest.fixture
def clock():
    return ManualClock(start=round(time.time(), 6))


@pytest_asyncio.fixture
async def client(url, clock):
    async with lro.Client(url, clock=clock, drain_timeout=0) as client:
        yield client


def text(value):
    return wrappers_pb2.StringValue(value=value)


def opaque(go, name):
    """What a service in Go keeps for itself."""
    return go.column(name, "State"), go.column(name, "ResumePoint"), go.column(name, "Method")


KEPT = (b64encode(GOB).decode(), "resumePoint1", "CreateAgent")


@pytest.mark.asyncio
async def test_their_operations_are_listed_waited_for_ended_and_deleted_and_their_gob_stays(client, go, clock):
    waited, completed, failed, cancelled, deleted = (go.create(text("m")) for _ in range(5))
    listed = {operation.name async for operation in client.iter_operations("done = false")}
    assert listed == {one.name for one in (waited, completed, failed, cancelled, deleted)}
    before = go.column(completed.name, "UpdateTime")

    waiting = asyncio.create_task(client.wait_operation(waited.name))
    await clock.advance(5)
    go.succeed(waited, text("by go"))
    await clock.advance(5)
    assert (await asyncio.wait_for(waiting, 10)).done
    await (await client.operation(completed.name)).done(text("by us"))
    await (await client.operation(failed.name)).fail(lro.failures.NotFoundError("no"))
    await client.cancel_operation(cancelled.name)
    await client.delete_operation(deleted.name)
    await client.sweep()

    assert lro.unmarshal_operation(go.read(completed.name)[0], wrappers_pb2.StringValue)[0] == text("by us")
    assert go.read(failed.name)[0].error.code == lro.Code.NOT_FOUND
    assert go.read(cancelled.name)[0].error.code == lro.Code.CANCELLED
    with pytest.raises(lro.OperationNotFoundError):
        await client.get_operation(deleted.name)
    for operation in (waited, completed, failed, cancelled, deleted):
        assert opaque(go, operation.name) == KEPT
    assert go.column(completed.name, "UpdateTime") > before  # by which their policy counts


@pytest.mark.asyncio
async def test_a_failure_without_a_code_is_a_failure(client, go):
    """``Fail`` sets a message alone."""
    failed = go.fail(go.create(), 0, "scheduling cloudtask: no queue")
    assert await client.get_operation(failed.name) == failed
    assert [one.name async for one in client.iter_operations("state = FAILED")] == [failed.name]
    with pytest.raises(lro.failures.UnknownError, match="no queue"):
        await (await client.operation(failed.name)).result()


@pytest.mark.asyncio
async def test_our_operations_run_in_their_table(client, go):
    @client.handler("work")
    async def work(op):
        return text(await op.step("think", think))

    async def think():
        return "ours"

    op = await client.start(work)
    assert (await op.result(wrappers_pb2.StringValue)).value == "ours"
    assert lro.unmarshal_operation(go.read(op.name)[0], wrappers_pb2.StringValue)[0] == text("ours")


@pytest.mark.asyncio
async def test_a_policy_that_removes_live_rows_is_told_when_a_store_opens(url, caplog):
    with caplog.at_level(logging.WARNING, "lro_aio"):
        async with lro.Client(url):
            pass
    (told,) = [record for record in caplog.records if getattr(record, "event", "") == "other_row_deletion_policy"]
    assert "90 days after their UpdateTime" in told.getMessage()
    assert "--replace-ttl" in told.getMessage()


@pytest.mark.asyncio
async def test_nothing_is_told_of_a_policy_of_our_own(url, caplog):
    migrate(Location.parse(url), replace_ttl=True)
    with caplog.at_level(logging.WARNING, "lro_aio"):
        async with lro.Client(url):
            pass
    assert caplog.records == []


@pytest.mark.asyncio
async def test_what_waits_for_long_is_woken_before_their_policy_removes_it(client, clock):
    """A wake-up writes the row, and its days count anew."""

    @client.handler("waits")
    async def waits(op):
        return text(await op.receive("news", str))

    op = await client.start(waits)
    for _ in range(4):
        await clock.advance(60 * DAY)
        await client.sweep()
    updated = (await client.server_host.record(op.name)).update_time
    assert updated >= clock.time() - 90 * DAY
    await client.send(op.name, "news", "late")
    await clock.advance(2)
    assert (await op.result(wrappers_pb2.StringValue)).value == "late"
