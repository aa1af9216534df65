"""What is wrong with a Spanner store is told before any operation is accepted, together with the fix."""

import asyncio
import contextlib
import logging
import re
import shlex
import threading
import time
from types import SimpleNamespace

import grpc
import pytest
import pytest_asyncio
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import migrate
from lro_aio.stores.spanner.table import OPTIONAL
from lro_aio.testing import FakeSpanner

CREATE = "CREATE TABLE Operations (key STRING(MAX) NOT NULL, {columns}) PRIMARY KEY (key)"


@pytest.fixture
def fake():
    with FakeSpanner(variant="bytes") as started:
        yield started


@pytest.fixture
def bare():
    """A database without a table."""
    with FakeSpanner(variant=None) as started:
        yield started


@pytest_asyncio.fixture
async def open_client(fake):
    """Clients are closed before the fake goes."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(store, **options):
            options = {"drain_timeout": 0, **options}
            return await stack.enter_async_context(lro.Client(store, **options))

        yield make


class refused(contextlib.AbstractAsyncContextManager):
    """In the block it is mended: before, the client does not open, and takes nothing; after it, the same one does."""

    def __init__(self, client, error, *sentences):
        self.client, self.error, self.sentences = client, error, sentences

    async def __aenter__(self):
        threads = {thread.name for thread in threading.enumerate()}
        for _ in range(2):
            with pytest.raises(self.error) as info:
                await self.client.__aenter__()
            for sentence in self.sentences:
                assert sentence in str(info.value)
        with pytest.raises(RuntimeError, match="is not open"):
            await self.client.create()
        left = {thread.name for thread in threading.enumerate()} - threads
        assert not [name for name in left if name.startswith("lro-aio")]
        return info

    async def __aexit__(self, kind, exc, trace):
        if exc is None:
            async with self.client:
                op = await self.client.create(lease=False)
                assert (await self.client.get_operation(op.name)).name == op.name


def command(url):
    return f"`lro spanner migrate {shlex.quote(url)}`"


# Where it is


@pytest.mark.asyncio
@pytest.mark.parametrize("part", ["project", "instance", "database"])
async def test_a_place_that_does_not_exist_is_told_with_what_to_make(fake, part):
    """The same client opens once it is there."""
    parts = {"project": "other-project", "instance": "other-instance", "database": "other-database"}
    fixes = {
        "project": "create the instance 'test-instance' first, or correct the project and instance in spanner://other-",
        "instance": "create the instance 'other-instance' first, or correct the project and instance in spanner://test-",
        "database": (
            "create the database first: gcloud spanner databases create other-database"
            " --instance=test-instance --project=test-project"
        ),
    }
    there = FakeSpanner(variant="bytes", **{part: parts[part]})
    there._port = int(fake.host.rpartition(":")[2])
    client = lro.Client(fake.url.replace(getattr(fake.location, part), parts[part]), drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, "not found", fixes[part]):
        fake.stop()
        await there.start()
    there.stop()


@pytest.mark.asyncio
async def test_a_table_that_does_not_exist_is_told_with_the_command_that_makes_it(bare):
    client = lro.Client(bare.url, drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, "there is no table Operations", command(bare.url)):
        migrate(Location.parse(bare.url), "bytes")


@pytest.mark.asyncio
async def test_another_table_is_named(fake):
    url = fake.url.replace("table=Operations", "table=Others")
    client = lro.Client(url, drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, "there is no table Others", command(url)):
        migrate(Location.parse(url), "bytes")


# What it looks like


@pytest.mark.asyncio
async def test_a_table_without_our_columns_is_told_with_all_of_them_and_the_command(bare):
    bare.execute_ddl(CREATE.format(columns="Operation BYTES(MAX) NOT NULL, State BYTES(MAX), ResumePoint STRING(MAX)"))
    client = lro.Client(bare.url, drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, f"{command(bare.url)} fixes this") as info:
        told = re.search("missing columns: ([^;]*);", str(info.value))[1].split(", ")
        migrate(Location.parse(bare.url))
    assert set(told) == {*bare.rows()[0]} - {
        *("key", "Operation", "State", "ResumePoint"),
        *OPTIONAL,
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("Operation STRING(MAX) NOT NULL", "column Operation has the type STRING(MAX);"),
        ("Other INT64", "column Operation is missing;"),
        ("Operation BYTES(MAX) NOT NULL, Claim STRING(MAX)", "column Claim has the type STRING(MAX) instead of INT64"),
        (
            "Operation BYTES(MAX) NOT NULL, Mine INT64 NOT NULL",
            "column Mine, which does not belong to lro_aio, is NOT NULL and has no default",
        ),
    ],
)
async def test_a_table_that_no_migration_can_mend_is_told_with_each_column_and_its_type(bare, columns, sentence):
    bare.execute_ddl(CREATE.format(columns=columns))
    client = lro.Client(bare.url, drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, sentence, "name another table (?table=NAME)"):
        bare.execute_ddl("DROP TABLE Operations")
        migrate(Location.parse(bare.url), "bytes")


# Who asks


@pytest.mark.asyncio
@pytest.mark.parametrize("rpc", ["CreateSession", "ExecuteSql"])
@pytest.mark.parametrize(
    ("code", "sentences"),
    [
        (
            grpc.StatusCode.PERMISSION_DENIED,
            ("no permission to use projects/test-project/", "grant the role roles/spanner.databaseUser"),
        ),
        (
            grpc.StatusCode.UNAUTHENTICATED,
            ("Spanner does not accept the credentials for projects/", "`gcloud auth application-default login`"),
        ),
    ],
    ids=["permission", "credentials"],
)
async def test_a_missing_permission_is_told_with_the_role_that_has_it(fake, rpc, code, sentences):
    fake.fail(rpc, code, times=1000)
    client = lro.Client(fake.url, drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, *sentences):
        fake.fail(rpc, code, times=0)


@pytest.mark.asyncio
async def test_missing_credentials_are_told_with_what_gives_some(fake, monkeypatch, tmp_path):
    """Without a call to anybody: neither to Spanner nor to a metadata server."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    monkeypatch.delenv("SPANNER_EMULATOR_HOST", raising=False)
    sentences = (
        "no credentials for projects/test-project/instances/test-instance/databases/test-database",
        "nowhere.json",
        "`gcloud auth application-default login`",
        "host=HOST:PORT",
    )
    client = lro.Client("spanner://test-project/test-instance/test-database", drain_timeout=0)
    async with refused(client, lro.StoreSchemaError, *sentences):
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", fake.host)


@pytest.mark.asyncio
async def test_no_credentials_at_all_are_told_likewise(monkeypatch, tmp_path):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "SPANNER_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    client = lro.Client("spanner://p-1/i-1/d-1")
    with pytest.raises(lro.StoreSchemaError, match=r"no credentials for .*gcloud auth application-default login"):
        await client.__aenter__()


# What is written


@pytest.mark.parametrize(
    "url",
    [
        "spanner:",
        "spanner://",
        "spanner://p-1",
        "spanner://p-1/i-1",
        "spanner:///i-1/d-1",
        "spanner://p-1/i-1/d-1/more",
        "spanner://p-1/I-1/d-1",
        "spanner://p-1/i-1/d.1",
        "spanner://user@p-1/i-1/d-1",
        "spanner://p-1/i-1/d-1#part",
        "spanner://p-1/i-1/d-1?table=",
        "spanner://p-1/i-1/d-1?table=A&table=B",
        "spanner://p-1/i-1/d-1?tabel=A",
        "spanner://p-1/i-1/d-1?host=localhost",
        "spanner://p-1/i-1/d-1?host=localhost:1&endpoint=spanner.googleapis.com",
        "spanner://p-1/i-1/d-1?timeout=soon",
        "spanner://p-1/i-1/d-1?timeout=-1",
        "spanner://p-1/i-1/d-1?database_role=a-b",
    ],
)
def test_a_malformed_url_is_refused_when_the_client_is_made_and_the_form_is_told(url):
    with pytest.raises(ValueError, match=r"expected spanner://PROJECT/INSTANCE/DATABASE\?table=TABLE, with host="):
        lro.Client(url)


@pytest.mark.parametrize("table", ["a-b", "1a", "a b", "a`b", "x" * 128])
def test_what_cannot_be_a_table_is_refused_when_the_client_is_made(table):
    with pytest.raises(ValueError, match="cannot be the name of the table"):
        lro.Client(lro.SpannerStore(project="p-1", instance="i-1", database="d-1", table=table))


# What a row holds


@pytest.mark.parametrize("limits", [{"state": 6 * 2**20}, {"response": 6 * 2**20 + 1}, {"metadata": 5 * 2**20}])
def test_limits_beyond_a_row_are_refused_when_the_client_is_made(limits):
    with pytest.raises(
        ValueError, match=r"bytes together, but a row of the store spanner://.* holds 7340032; lower one"
    ):
        lro.Client("spanner://p-1/i-1/d-1", limits=lro.Limits(**limits))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_the_largest_limits_let_through_fits_and_is_read_again(fake, open_client):
    """A row of several megabytes, in base64, is less than the 10 MB that one unary answer holds."""
    limits = lro.Limits(state=3 * 2**20, metadata=1 * 2**20, response=3 * 2**20)
    client = await open_client(fake.url, limits=limits)
    metadata, response = (wrappers_pb2.BytesValue(value=bytes(n - 128)) for n in (limits.metadata, limits.response))
    op = await client.create(metadata, state=wrappers_pb2.BytesValue)
    op.state = wrappers_pb2.BytesValue(value=bytes(limits.state - 16))
    await op.save()
    await client.sweep()
    await op.done(response)
    assert (await op.result(wrappers_pb2.BytesValue)) == response
    assert [found.name async for found in client.iter_operations("done = true")] == [op.name]
    await client.delete_operation(op.name)
    assert not fake.rows()


@pytest.mark.asyncio
async def test_a_wait_that_no_row_holds_ends_the_operation_with_the_reason(fake, open_client, lro_clock, caplog):
    """The limit for its children's names may be larger than that. What could be written and not be read again is
    refused too, and what could be suspended and not be woken; it is the only one."""
    limits = lro.Limits(children=1 << 30)
    client = await open_client(fake.url, clock=lro_clock, expose_errors=True, limits=limits)
    children = [f"operations/{i:036}" for i in range(55_000)]

    @client.handler("wait", state=wrappers_pb2.Int64Value, resume_points=("on",))
    async def wait(op):
        return op.suspend(resume_at="on", sleep=60, children=children[: op.state.value])

    small, large = await asyncio.gather(*(client.start(wait, wrappers_pb2.Int64Value(value=n)) for n in (1, 55_000)))
    await lro_clock.settle()
    with pytest.raises(lro.OperationFailedError) as info:
        await large.result()
    assert "the store refuses what the operation has to write" in str(info.value)
    assert "including the names of its children; the limit is 7733248" in caplog.text
    await client.sweep()
    assert not (await small.fetch()).done
    assert not [record for record in caplog.records if small.name in record.getMessage()]


# What time it is


@pytest.mark.asyncio
@pytest.mark.parametrize(("offset", "words"), [(12.0, " s behind the store's"), (-12.0, " s ahead of the store's")])
async def test_a_clock_that_is_wrong_by_more_than_a_quarter_of_the_lease_is_refused(fake, monkeypatch, offset, words):
    """Measured by the timestamp of the first read, before anything is committed."""
    machine = SimpleNamespace(time=lambda: time.time() - offset, monotonic=time.monotonic)
    monkeypatch.setattr("lro_aio.stores.spanner.connection.time", machine)
    client = lro.Client(fake.url, lease=lro.LeasePolicy(30), drain_timeout=0)
    async with refused(client, lro.ClockSkewError, words, "at most 7.5 s", "synchronise the clock") as info:
        assert info.value.offset == pytest.approx(offset, abs=2)  # less by what the answer took
        assert info.value.limit == 7.5
        assert not fake.rpcs["Commit"]
        machine.time = lambda: time.time() - offset * 0.5


@pytest.mark.asyncio
async def test_a_clock_that_goes_wrong_later_is_measured_by_every_commit(fake, open_client, caplog):
    client = await open_client(fake.url, sweep=lro.SweepPolicy(interval=0.05))
    await client.create(lease=False)
    assert abs(client.store.clock_offset) < 1
    fake.clock_offset = 60.0
    await client.create(lease=False)
    assert client.store.clock_offset == pytest.approx(60, abs=1)
    async with asyncio.timeout(10):
        while not any("synchronise the clock" in entry.getMessage() for entry in caplog.records):
            await asyncio.sleep(0.01)
    assert {entry.levelno for entry in caplog.records} == {logging.WARNING}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_as_many_children_as_a_row_holds_are_waited_for_and_handed_back(fake, open_client, lro_clock):
    """40,000: suspended, woken at the timeout with all of them pending, and ended."""
    client = await open_client(fake.url, clock=lro_clock, limits=lro.Limits(children=1 << 30))
    children = [f"operations/{i:036}" for i in range(40_000)]
    for child in children[:2]:
        await client.create(operation_id=child.partition("/")[2], lease=False)

    @client.handler("wait", resume_points=("on",))
    async def wait(op):
        if op.resume_point == "":
            return op.suspend(resume_at="on", children=children, timeout=60)
        return wrappers_pb2.Int64Value(value=sum(not child.done for child in op.children))

    op = await client.start(wait)
    await lro_clock.advance(61)
    assert await op.result(wrappers_pb2.Int64Value) == wrappers_pb2.Int64Value(value=2)
