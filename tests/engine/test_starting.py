"""Starting and making operations: names, states, repeats, and arguments that leave no trace."""

import asyncio
import uuid
from dataclasses import dataclass, field

import pytest
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.core.codec import fingerprint
from lro_aio.core.record import State
from lro_aio.stores.spanner import SpannerStore
from lro_aio.testing import FaultyStore

from ..waiting import until


@dataclass
class Order:
    item: str = "tea"
    count: int = 1
    tags: set[str] = field(default_factory=set)


@pytest.fixture
def runs():
    """States with which the handler ``order`` ran."""
    return []


@pytest.fixture
def lro_handlers(runs):
    handlers = lro.Handlers()

    @handlers.handler("order", state=Order)
    async def order(op):
        runs.append((op.name, op.state))
        return wrappers_pb2.StringValue(value=f"{op.state.count} {op.state.item}")

    return handlers


@pytest.mark.asyncio
async def test_start_returns_a_named_operation_that_ends_with_the_handlers_message(lro_client):
    op = await lro_client.start("order", Order(count=3))
    assert op.name == f"operations/{op.id}"
    assert isinstance(op.proto, operations_pb2.Operation)
    assert not op.proto.done
    assert (await op.result(wrappers_pb2.StringValue)).value == "3 tea"
    assert op.client is lro_client


@pytest.mark.asyncio
async def test_without_a_state_the_handler_gets_a_default_one(lro_client, runs):
    op = await lro_client.start("order")
    await op.result()
    assert runs == [(op.name, Order())]


@pytest.mark.asyncio
async def test_the_decorated_function_stands_for_its_name(lro_client):
    @lro_client.handler()
    async def brew(op):
        assert op.state is None
        return wrappers_pb2.StringValue(value="hot")

    op = await lro_client.start(brew)
    assert (await op.result(wrappers_pb2.StringValue)).value == "hot"
    assert (await lro_client.list_operations('handler="brew"')).operations[0].name == op.name


@pytest.mark.asyncio
async def test_metadata_is_visible_from_the_start(lro_client):
    members = struct_pb2.Struct()
    members["step"] = "queued"
    op = await lro_client.create(members)
    found = struct_pb2.Struct()
    assert (await lro_client.get_operation(op.name)).metadata.Unpack(found)
    assert found["step"] == "queued"


@pytest.mark.parametrize("parent", ["", "operations"])
@pytest.mark.asyncio
async def test_no_parent_and_the_bare_collection_are_the_same(lro_client, parent):
    op = await lro_client.start("order", operation_id="one", parent=parent)
    assert op.name == "operations/one"


@pytest.mark.asyncio
async def test_the_parent_stands_before_the_name_and_separates_lists(lro_client):
    op = await lro_client.start("order", parent="projects/p/locations/l", operation_id="one")
    assert op.name == "projects/p/locations/l/operations/one"
    assert [o.name for o in (await lro_client.list_operations(parent="projects/p/locations/l")).operations] == [op.name]
    assert not (await lro_client.list_operations()).operations


@pytest.mark.asyncio
async def test_a_request_id_gives_the_same_operation_again_and_runs_it_once(lro_client, runs):
    first = await lro_client.start("order", Order(count=2, tags={"a", "b"}), request_id="r-1")
    second = await lro_client.start("order", Order(count=2, tags={"b", "a"}), request_id="r-1")
    await first.result()
    third = await lro_client.start("order", Order(count=2, tags={"a", "b"}), request_id="r-1")
    assert first.name == second.name == third.name
    assert third.proto.done
    assert len(runs) == 1


@pytest.mark.asyncio
async def test_concurrent_repeats_of_one_request_are_one_operation(lro_client, runs):
    started = await asyncio.gather(*(lro_client.start("order", request_id="r-1") for _ in range(50)))
    await started[0].result()
    assert len({op.name for op in started}) == 1
    assert len(runs) == 1


@pytest.mark.asyncio
async def test_two_processes_that_get_the_same_request_run_it_once(open_client, tmp_path, lro_handlers, runs):
    url = f"sqlite:///{tmp_path}/ops.db"
    clients = [await open_client(url, handlers=[lro_handlers]) for _ in range(2)]
    started = await asyncio.gather(*(c.start("order", request_id="r-1") for c in clients for _ in range(5)))
    async with asyncio.timeout(5):
        await asyncio.gather(*(op.result() for op in started))
    assert len({op.name for op in started}) == 1
    assert len(runs) == 1


@pytest.mark.asyncio
async def test_an_empty_request_id_is_none(lro_client):
    names = {(await lro_client.start("order", request_id="")).name for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize("identity", [{"request_id": "r-1"}, {"operation_id": "o-1"}])
@pytest.mark.asyncio
async def test_the_same_id_for_another_request_is_refused(lro_client, runs, identity):
    op = await lro_client.start("order", Order(count=1), **identity)
    with pytest.raises(lro.OperationAlreadyExistsError, match="was started with another request") as caught:
        await lro_client.start("order", Order(count=2), **identity)
    assert caught.value.name == op.name
    await op.result()
    assert [state.count for _, state in runs] == [1]


@pytest.mark.parametrize("stored", [None, Order(), Order(count=2)])
@pytest.mark.parametrize("asked", [None, Order(), Order(count=2)])
@pytest.mark.asyncio
async def test_a_row_of_an_earlier_release_is_compared_by_the_scheme_of_that_release(lro_client, stored, asked):
    """It hashed the default of a state that was left out, and fields that had their default."""
    starter = lro_client.engine.starter
    before = fingerprint("order", Order() if stored is None else stored, scheme="1")
    record = starter._new_record("", {"handler": "order", "fingerprint": before, "check_time": None}, request_id="r-1")
    await starter._create(record)
    same = (stored or Order()) == (asked or Order())
    if same:
        assert (await lro_client.start("order", asked, request_id="r-1")).name == record.name
    else:
        with pytest.raises(lro.OperationAlreadyExistsError):
            await lro_client.start("order", asked, request_id="r-1")


@pytest.mark.asyncio
async def test_parent_and_handler_are_part_of_a_requests_identity(lro_client):
    @lro_client.handler("other", state=Order)
    async def other(op):
        return None

    ops = [
        await lro_client.start("order", request_id="r-1"),
        await lro_client.start("order", request_id="r-1", parent="tenants/a"),
        await lro_client.start("other", request_id="r-1"),
    ]
    assert len({op.name for op in ops}) == 3


@pytest.mark.asyncio
async def test_a_fingerprint_of_the_callers_own_decides_what_is_the_same_request(lro_client):
    first = await lro_client.start("order", Order(count=1), request_id="r-1", fingerprint="tea please")
    again = await lro_client.start("order", Order(count=2), request_id="r-1", fingerprint="tea please")
    assert again.name == first.name
    with pytest.raises(lro.OperationAlreadyExistsError):
        await lro_client.start("order", Order(count=1), request_id="r-1", fingerprint=b"coffee")
    request = wrappers_pb2.StringValue(value="tea")
    one = await lro_client.create(request_id="m", fingerprint=request)
    assert (await lro_client.create(request_id="m", fingerprint=request)).name == one.name


@pytest.mark.asyncio
async def test_a_repeated_create_is_a_visitors_operation(lro_client):
    mine = await lro_client.create(request_id="r-1")
    theirs = await lro_client.create(request_id="r-1")
    assert theirs.name == mine.name
    assert (mine.claim, theirs.claim) == (1, 0)
    await mine.done()
    with pytest.raises(lro.OperationDoneError):
        await theirs.done()


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, {"request_id": "x" * 129}),
        (ValueError, {"request_id": "tab\there"}),
        (ValueError, {"request_id": "größe"}),
        (ValueError, {"operation_id": ""}),
        (ValueError, {"operation_id": "a/b"}),
        (ValueError, {"operation_id": "a", "request_id": "b"}),
        (lro.InvalidOperationNameError, {"parent": "projects//x"}),
        (lro.InvalidOperationNameError, {"parent": "/projects"}),
        (TypeError, {"metadata": "text"}),
        (lro.PayloadTooLargeError, {"metadata": wrappers_pb2.BytesValue(value=b"x" * 65_537)}),
        (lro.PayloadTooLargeError, {"state": Order(item="x" * 1_048_577)}),
        (lro.StateCodecError, {"state": Order(count="many")}),
        (lro.StateCodecError, {"state": "text"}),
    ],
)
@pytest.mark.asyncio
async def test_bad_arguments_of_start_are_refused_and_leave_no_trace(
    open_client, store, lro_handlers, error, arguments
):
    client = await open_client(store, handlers=[lro_handlers])
    with pytest.raises(error):
        await client.start("order", **arguments)
    assert store.calls["apply"] == 0
    assert not (await client.list_operations(parent="-")).operations


@pytest.mark.asyncio
async def test_a_payload_over_its_limit_names_field_size_and_limit(open_client, store):
    client = await open_client(store, limits=lro.Limits(metadata=100))
    with pytest.raises(lro.PayloadTooLargeError, match="metadata") as caught:
        await client.create(wrappers_pb2.BytesValue(value=b"x" * 200))
    assert (caught.value.field, caught.value.limit) == ("metadata", 100)
    assert caught.value.size > 200


@pytest.mark.asyncio
async def test_a_state_that_cannot_be_encoded_is_an_error_at_the_call_naming_the_field(lro_client):
    with pytest.raises(lro.StateCodecError, match="count") as caught:
        await lro_client.start("order", Order(count=object()))
    assert caught.value.field == "count"


@pytest.mark.asyncio
async def test_a_worker_refuses_to_start_a_handler_that_it_does_not_have(lro_client):
    with pytest.raises(lro.UnknownHandlerError, match=r"'odrer'.*registered: order"):
        await lro_client.start("odrer")
    with pytest.raises(lro.UnknownHandlerError):
        await lro_client.start(test_a_worker_refuses_to_start_a_handler_that_it_does_not_have)
    assert not (await lro_client.list_operations()).operations


@pytest.mark.asyncio
async def test_a_front_end_starts_what_it_does_not_know_and_a_worker_runs_it(open_client, tmp_path, lro_handlers):
    store = FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))
    front = await open_client(store, worker=False)
    op = await front.start("order", Order(count=4))
    assert store.inner.read([op.name])[0].state is State.PENDING
    await open_client(f"sqlite:///{tmp_path}/ops.db", handlers=[lro_handlers])
    async with asyncio.timeout(5):
        assert (await op.result(wrappers_pb2.StringValue)).value == "4 tea"


@pytest.mark.asyncio
async def test_a_front_end_wakes_a_worker_that_is_there_already(open_client, tmp_path, lro_handlers):
    url = f"sqlite:///{tmp_path}/ops.db"
    await open_client(url, handlers=[lro_handlers])
    front = await open_client(url, worker=False)
    async with asyncio.timeout(5):
        assert (await (await front.start("order")).result(wrappers_pb2.StringValue)).value == "1 tea"


@pytest.mark.asyncio
async def test_a_front_end_runs_nothing_itself_even_what_it_knows(open_client, store, lro_handlers, lro_clock, runs):
    front = await open_client(store, worker=False, handlers=[lro_handlers])
    op = await front.start("order")
    await front.sweep()
    await lro_clock.advance(60)
    assert not runs
    assert not (await op.fetch()).done


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_does_not_keep_its_operation_from_running(open_client, store, lro_handlers, runs):
    client = await open_client(store, handlers=[lro_handlers])
    let_go = store.hold("apply")
    call = asyncio.create_task(client.start("order", operation_id="one"))
    await until(lambda: store.calls["apply"])
    call.cancel()
    await asyncio.wait([call])
    let_go()
    await until(lambda: runs)
    assert (await asyncio.wait_for(client.wait_operation("operations/one"), 5)).done
    assert len(runs) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("ordered", "version"), [(True, 7), (False, 4)])
async def test_an_id_is_what_the_store_keeps_best(lro_handlers, lro_clock, ordered: bool, version: int) -> None:
    """Names that rise with time are neighbours in the b-tree of a file, and a hot spot in Spanner."""
    store = FaultyStore(lro.SqliteStore("sqlite://"))
    store.ordered_names = ordered
    made = []
    async with lro.Client(store, handlers=[lro_handlers], clock=lro_clock) as client:
        for _ in range(20):
            await lro_clock.advance(0.01)
            made.append((await client.start("order")).id)
            made.append((await client.create()).id)
            await lro_clock.advance(0.01)
    assert {uuid.UUID(identifier).version for identifier in made} == {version}
    in_order = [identifier for pair in zip(made[::2], made[1::2], strict=True) for identifier in sorted(pair)]
    assert (in_order == sorted(made)) is ordered


def test_only_stores_of_one_file_want_names_in_order() -> None:
    assert lro.SqliteStore("sqlite://").ordered_names
    assert not SpannerStore.ordered_names


@pytest.mark.asyncio
async def test_the_trace_context_of_the_request_is_seen_in_every_segment_and_by_children(open_client, tmp_path):
    seen = []
    handlers = lro.Handlers()

    @handlers.handler("leaf")
    async def leaf(op):
        seen.append(op.traceparent)

    @handlers.handler("root", resume_points=("end",))
    async def root(op):
        seen.append(op.traceparent)
        if op.resume_point == "":
            child = await op.start_child(leaf, key="one")
            return op.suspend(resume_at="end", children=[child])
        return None

    context = f"00-{'a' * 32}-{'b' * 16}-01"
    url = f"sqlite:///{tmp_path}/traces.db"
    async with lro.Client(url, handlers=[handlers]) as client:
        op = await client.start("root", traceparent=context)
        await op.result(timeout=10)
        assert seen == [context] * 3
        assert op.traceparent == (await client.operation(op.name)).traceparent == context
        assert (await client.create(traceparent=context)).traceparent == context
        assert (await client.create()).traceparent == ""
        with pytest.raises(lro.PayloadTooLargeError, match="traceparent"):
            await client.create(traceparent="t" * 257)
