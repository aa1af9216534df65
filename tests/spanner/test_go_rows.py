"""The table shared with a service in Go: it reads and writes ``Operation``, and knows nothing of our columns."""

import asyncio
import contextlib
import time
import uuid

import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.testing import ManualClock

from .go_service import GoService

both_versions = pytest.mark.parametrize("go", [1, 2], indirect=True, ids=["v1", "v2"])
YEAR = 365 * 86400


@pytest.fixture
def url(spanner_database):
    return spanner_database("proto")


@pytest.fixture
def go(url, request):
    """The Go service, version 1 unless the test says otherwise; the clock of version 2 is five minutes ahead."""
    with GoService(url, getattr(request, "param", 1), ahead=300) as service:
        yield service


@pytest.fixture
def clock():
    """Engine time that begins now: the other program's times are real."""
    return ManualClock(start=round(time.time(), 6))


@pytest_asyncio.fixture
async def open_client(clock, spanner_database):
    async with contextlib.AsyncExitStack() as stack:

        async def make(url, **options):
            options = {"clock": clock, "drain_timeout": 0, **options}
            return await stack.enter_async_context(lro.Client(url, **options))

        yield make


@pytest_asyncio.fixture
async def client(open_client, url):
    return await open_client(url)


async def names(client, filter="", **options):  # noqa: A002 (the RPC's word)
    return {operation.name async for operation in client.iter_operations(filter, **options)}


def text(value):
    return wrappers_pb2.StringValue(value=value)


def metadata(operation):
    found = wrappers_pb2.StringValue()
    assert operation.metadata.Unpack(found)
    return found.value


# A row of theirs, seen from here


@pytest.mark.asyncio
@both_versions
async def test_their_operation_is_read_and_listed_by_every_filter(client, go, clock):
    live, ended, failed = (go.create(text(word)) for word in ("a", "b", "c"))
    ended = go.succeed(ended, text("yes"))
    failed = go.fail(failed, 5, "no")
    ours = await client.create(lease=False)
    assert await client.get_operation(live.name) == live
    assert await client.get_operation(ended.name) == ended
    assert await client.get_operation(failed.name) == failed
    theirs = {live.name, ended.name, failed.name}
    hour_ago, in_an_hour = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.time() + away)) for away in (-3600, 3600)
    )
    for query, expected in {
        "": {*theirs, ours.name},
        "done = false": {live.name, ours.name},
        "done = true": {ended.name, failed.name},
        "state = RUNNING": {live.name, ours.name},
        "state = SUCCEEDED": {ended.name},
        "state = FAILED": {failed.name},
        "state = SUSPENDED": set(),
        "state = RUNNING AND done = true": set(),
        'handler = ""': {*theirs, ours.name},
        'handler = "work"': set(),
        f'create_time > "{hour_ago}" AND create_time < "{in_an_hour}"': {*theirs, ours.name},
        f'create_time > "{in_an_hour}"': set(),
        "error.code = NOT_FOUND": {failed.name},
        "metadata.value = a": {live.name},
        "response.value = yes": {ended.name},
    }.items():
        assert await names(client, query) == expected, query
        assert await names(client, query, parent="-") == expected, query
    assert await names(client, parent="projects/p") == set()


@pytest.mark.asyncio
@both_versions
async def test_their_operation_is_waited_for_in_every_way(client, go, clock):
    operation = go.create(text("0"))

    @client.handler("collect", resume_points=("collected",))
    async def collect(op):
        if op.resume_point == "":
            return op.suspend(resume_at="collected", children=[operation.name])
        (child,) = op.children
        return lro.unmarshal_operation(child, wrappers_pb2.StringValue)[0]

    suspended = await client.start(collect)
    op, waiter = await client.operation(operation.name), await client.create(lease=False)
    seen = []

    async def watch():
        async for snapshot in client.watch(operation.name):
            seen.append(metadata(snapshot))
        return snapshot

    waits = [
        client.wait_operation(operation.name),
        op.result(wrappers_pb2.StringValue),
        waiter.wait(children=[operation.name], timeout=None),
        watch(),
        lro.wait_operation(operation.name, client, timeout=600, clock=clock),
    ]
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await clock.advance(10)
    operation.metadata.Pack(text("1"))
    go.write(operation)
    await clock.advance(10)
    assert not [task for task in tasks if task.done()]
    ended = go.succeed(operation, text("yes"))
    await clock.advance(15)
    last, result, children, watched, polled = await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert last == children[0] == watched == polled == ended
    assert result.value == "yes"
    assert seen == ["0", "1", "1"]
    assert (await asyncio.wait_for(suspended.result(wrappers_pb2.StringValue), 20)).value == "yes"


@pytest.mark.asyncio
@both_versions
async def test_a_cancel_from_here_is_an_end_that_they_read(client, go):
    operation = go.create()
    await client.cancel_operation(operation.name)
    read, *_ = go.read(operation.name)
    assert (read.done, read.error.code) == (True, lro.Code.CANCELLED)
    assert await names(client, "state = CANCELLED") == {operation.name}
    assert await client.get_operation(operation.name) == read


@pytest.mark.asyncio
@both_versions
async def test_their_operation_is_deleted_from_here(client, go):
    ended, live = go.succeed(go.create(), text("yes")), go.create()
    for operation in (ended, live):
        await client.delete_operation(operation.name)
        with pytest.raises(lro.OperationNotFoundError):
            await client.get_operation(operation.name)
    assert await names(client, parent="-") == set()
    assert go.read(ended.name) is None
    assert go.read(live.name) is not None, "it runs to its end, unseen (rule 13)"
    go.succeed(live, text("yes"))
    await client.sweep()
    assert go.read(live.name) is None


@pytest.mark.asyncio
async def test_what_version_1_writes_after_a_delete_is_a_new_operation(client, go):
    """Rule 1 does not bind it: it writes whatever it has, by insert-or-update."""
    operation = go.succeed(go.create(), text("yes"))
    await client.delete_operation(operation.name)
    go.write(operation)
    assert await client.get_operation(operation.name) == operation


@pytest.mark.asyncio
@both_versions
async def test_whoever_has_the_name_may_drive_their_operation_from_here(client, go):
    operation = go.create()
    op = await client.operation(operation.name)
    await op.set_metadata(text("here"))
    await op.done(text("yes"))
    read, state, resume_point, _ = go.read(operation.name)
    assert lro.unmarshal_operation(read, wrappers_pb2.StringValue, wrappers_pb2.StringValue) == (
        text("yes"),
        text("here"),
    )
    if go.version == 2:
        assert (state is not None, resume_point) == (True, "resumePoint1"), "not ours to touch"


@pytest.mark.asyncio
@both_versions
async def test_the_sweep_gives_what_they_ended_its_expiry(open_client, url, go, clock):
    client = await open_client(url, retention=lro.RetentionPolicy(7 * 86400))
    live, ended = go.create(), go.succeed(go.create(), text("yes"))
    assert go.column(ended.name, "ExpireTime") is None
    await client.sweep()
    assert go.column(ended.name, "ExpireTime") is not None
    assert go.column(live.name, "ExpireTime") is None
    before = await client.get_operation(ended.name)
    assert before == ended
    await clock.advance(6 * 86400)
    assert await client.get_operation(ended.name) == ended
    await clock.advance(2 * 86400)
    with pytest.raises(lro.OperationNotFoundError):
        await client.get_operation(ended.name)
    assert await names(client) == {live.name}


@pytest.mark.asyncio
@both_versions
async def test_their_operation_is_never_claimed_or_failed_here(open_client, url, go, clock):
    client = await open_client(url, max_attempts=1)
    runs = []

    @client.handler("work", resume_points=("resumePoint1",))
    async def work(op):
        runs.append(op.name)

    operation = go.create(text("mine"))
    before = go.read(operation.name)
    for _ in range(3):
        await clock.advance(YEAR)
        await client.sweep()
    assert go.read(operation.name) == before
    assert (await client.get_operation(operation.name)) == operation
    assert runs == []


# A row of ours, seen from there


@pytest.mark.asyncio
@both_versions
async def test_our_operations_are_what_they_expect(client, go, clock):
    """The id is a UUID, there is no parent, no resume point is "", and there is always a time of update."""

    @client.handler("step", resume_points=("later",))
    async def step(op):
        return op.suspend(resume_at="later", sleep=60) if op.resume_point == "" else text("stepped")

    @client.handler("fails")
    async def fails(op):
        raise lro.OperationNotFoundError("operations/x")

    parent = await client.create(text("m"), lease=False)
    made = {
        "live": parent,
        "leased": await client.create(),
        "done": await client.create(lease=False, request_id="r"),
        "cancelled": await client.create(),
        "step": await client.start(step),
        "fails": await client.start(fails),
        "child": await parent.start_child(step, key="a"),
    }
    await made["done"].done(text("yes"))
    await made["cancelled"].cancel()
    await clock.settle()
    for key, op in made.items():
        collection, _, identifier = op.name.partition("/")
        assert (collection, str(uuid.UUID(identifier))) == ("operations", identifier), key
        operation, _, resume_point, update_time = go.read(op.name)
        assert operation == await client.get_operation(op.name), key
        assert resume_point == ("later" if key in ("step", "child") else ""), key
        assert update_time.startswith("20"), key
    await clock.advance(60)
    for key, code in {"done": 0, "cancelled": 1, "step": 0, "fails": 5}.items():
        operation, *_ = go.read(made[key].name)
        assert (operation.done, operation.error.code) == (True, code), key
    assert lro.unmarshal_operation(go.read(made["step"].name)[0], wrappers_pb2.StringValue)[0] == text("stepped")
    assert not go.read(parent.name)[0].done


@pytest.mark.asyncio
@both_versions
@pytest.mark.parametrize("outcome", ["renewal", "result"])
async def test_a_run_of_ours_that_they_end_stops_and_writes_nothing_over_it(client, go, clock, outcome):
    """Found by the next renewal, or by the commit of what the handler returns, whichever is first."""
    gate, reasons = asyncio.Event(), []

    @client.handler("work")
    async def work(op):
        try:
            await gate.wait()
        except asyncio.CancelledError:
            reasons.append(op.cancel_reason)
            raise
        return text("ours")

    op = await client.start(work)
    await clock.settle()
    ended = go.succeed(op.proto, text("theirs"))
    if outcome == "renewal":
        await clock.advance(10)
        assert reasons == [lro.CancelReason.LEASE_LOST]
    gate.set()
    await clock.settle()
    assert client.engine.leases.held == 0
    assert go.read(op.name)[0] == ended
    assert (await op.result(wrappers_pb2.StringValue)).value == "theirs"
    await client.sweep()
    assert go.read(op.name)[0] == ended
    assert await names(client, "state = SUCCEEDED") == {op.name}
    assert await names(client, "done = false") == set()
    assert go.column(op.name, "ExpireTime") is not None


@pytest.mark.asyncio
@both_versions
async def test_a_wait_of_ours_that_they_end_is_over(client, go, clock):
    runs = []

    @client.handler("nap", resume_points=("on",))
    async def nap(op):
        runs.append(op.resume_point)
        return op.suspend(resume_at="on", sleep=60) if op.resume_point == "" else None

    op = await client.start(nap)
    await clock.settle()
    ended = go.fail(op.proto, 9, "enough")
    await clock.advance(YEAR / 100)
    await client.sweep()
    assert runs == [""]
    assert go.read(op.name)[0] == ended
    assert await names(client, "state = FAILED") == {op.name}


@pytest.mark.asyncio
async def test_an_old_state_that_they_write_over_a_run_of_ours_changes_its_metadata_only(client, go, clock):
    gate = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await op.set_metadata(text("new"))
        await gate.wait()
        return text("ours")

    op = await client.start(work, metadata=text("old"))
    await clock.settle()
    go.write(op.proto)
    await clock.advance(3600)
    assert metadata(await op.fetch()) == "old"
    gate.set()
    await clock.settle()
    assert (await op.result(wrappers_pb2.StringValue)).value == "ours"
    assert go.read(op.name)[0].done


@pytest.mark.asyncio
async def test_an_old_state_that_they_write_over_an_end_of_ours_makes_it_theirs(open_client, url, go, clock):
    """Version 1 does not look before it writes. It is live again then: nobody here claims it, and who waits waits."""
    client = await open_client(url, max_attempts=1)
    runs = []

    @client.handler("work")
    async def work(op):
        runs.append(op.name)
        return text("ours")

    op = await client.start(work)
    old = op.proto
    assert (await op.result(wrappers_pb2.StringValue)).value == "ours"
    go.write(old)
    assert await client.get_operation(op.name) == old
    assert await names(client, "done = false") == await names(client, "state = RUNNING") == {op.name}
    assert await names(client, "done = true") == await names(client, "state = SUCCEEDED") == set()
    for _ in range(3):
        await clock.advance(86400)
        await client.sweep()
    assert runs == [op.name]
    assert await client.get_operation(op.name) == old
    waiting = asyncio.create_task(client.wait_operation(op.name))
    await clock.advance(5)
    assert not waiting.done()
    ended = go.fail(old, 13, "theirs")
    await clock.advance(5)
    assert await asyncio.wait_for(waiting, 10) == ended
    assert await names(client, "state = FAILED") == {op.name}


@pytest.mark.asyncio
async def test_an_end_of_ours_that_they_make_live_again_is_cancelled_from_here(client, go):
    op = await client.create()
    old = op.proto
    await op.done(text("ours"))
    go.write(old)
    await client.cancel_operation(op.name)
    assert go.read(op.name)[0].error.code == lro.Code.CANCELLED
    assert (await client.get_operation(op.name)).error.code == lro.Code.CANCELLED


# A table of theirs

BUNDLE = "CREATE PROTO BUNDLE (google.longrunning.Operation, google.rpc.Status, google.protobuf.`Any`)"
SEEDS = {
    "v1": "",
    "v1 with Checkpoint": ", Checkpoint BYTES(MAX)",
    "v1 with State": ", State BYTES(MAX), ResumePoint STRING(MAX)",
    "v2": ", State BYTES(MAX), ResumePoint STRING(MAX), UpdateTime TIMESTAMP NOT NULL",
    "v2, nullable": ", State BYTES(MAX), ResumePoint STRING(MAX), UpdateTime TIMESTAMP",
}


@pytest.fixture
def seed(spanner_database, apply_ddl):
    """``seed(more, policy)``: the URL of a database with a table of the Go package."""

    def make(more="", policy=""):
        url = spanner_database(None)
        table = "p_AlisManagedOperations"
        create = (
            f"CREATE TABLE {table} (key STRING(MAX) NOT NULL AS (Operation.name) STORED,"
            f" Operation google.longrunning.Operation NOT NULL{more}) PRIMARY KEY (key){policy}"
        )
        apply_ddl(url, [BUNDLE, create])
        return url.replace("table=Operations", f"table={table}")

    return make


def upgrade(url, **options):
    from lro_aio.stores.spanner.location import Location
    from lro_aio.stores.spanner.migrate import migrate

    return migrate(Location.parse(url), **options)


@pytest.mark.asyncio
@pytest.mark.parametrize("more", SEEDS.values(), ids=SEEDS)
async def test_a_table_of_theirs_is_used_by_both_after_the_migration(open_client, seed, clock, more):
    url = seed(more)
    with GoService(url, version=2 if "UpdateTime" in more else 1) as go:
        live, ended, failed = go.create(text("old")), go.succeed(go.create(), text("yes")), go.fail(go.create(), 5, "")
        upgrade(url)
        client = await open_client(url)

        @client.handler("work", resume_points=("on",))
        async def work(op):
            return op.suspend(resume_at="on", sleep=YEAR) if op.resume_point == "" else text("done")

        for operation in (live, ended, failed):
            assert await client.get_operation(operation.name) == operation
        assert await names(client) == {live.name, ended.name, failed.name}
        assert await names(client, "done = true") == {ended.name, failed.name}
        await client.sweep()
        assert go.column(ended.name, "ExpireTime") is not None
        assert go.read(live.name)[0] == live

        op, new = await client.start(work), go.create()
        waiting = [asyncio.create_task(client.wait_operation(name)) for name in (live.name, new.name)]
        await clock.advance(5)
        go.succeed(live, text("late"))
        go.succeed(new, text("new"))
        await clock.advance(5)
        assert [operation.done for operation in await asyncio.wait_for(asyncio.gather(*waiting), 10)] == [True, True]
        await clock.advance(YEAR)
        assert (await op.result(wrappers_pb2.StringValue)).value == "done"
        assert isinstance(go.read(op.name)[0], operations_pb2.Operation)


@pytest.mark.asyncio
async def test_a_wait_that_their_retention_policy_cuts_short_is_refused_until_it_is_replaced(open_client, seed, clock):
    """Without --replace-ttl the policy stays, and the row of a longer wait would be gone before its time."""
    url = seed(SEEDS["v2"], ", ROW DELETION POLICY (OLDER_THAN(UpdateTime, INTERVAL 30 DAY))")
    assert upgrade(url).kept_policy == "OLDER_THAN(UpdateTime, INTERVAL 30 DAY)"

    def handlers(said):
        found = lro.Handlers()

        @found.handler("nap", resume_points=("on",))
        async def nap(op):
            if op.resume_point == "on":
                return text("slept")
            try:
                return op.suspend(resume_at="on", sleep=31 * 86400)
            except ValueError as exc:
                said.append(str(exc))
                return op.suspend(resume_at="on", sleep=29 * 86400)

        return found

    said = []
    async with lro.Client(url, handlers=[handlers(said)], clock=clock, drain_timeout=0) as client:
        op = await client.start("nap")
        await clock.advance(30 * 86400)
        assert (await op.result(wrappers_pb2.StringValue)).value == "slept"
    (reason,) = said
    assert "OLDER_THAN(UpdateTime, INTERVAL 30 DAY)" in reason
    assert "removes rows 30 days after their UpdateTime" in reason
    assert f"lro spanner migrate '{url}' --replace-ttl" in reason

    upgrade(url, replace_ttl=True)
    said.clear()
    client = await open_client(url, handlers=[handlers(said)])
    op = await client.start("nap")
    await clock.advance(30 * 86400)
    assert not (await op.fetch()).done
    await clock.advance(86400)
    assert (await op.result(wrappers_pb2.StringValue)).value == "slept"
    assert said == []
