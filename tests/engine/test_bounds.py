"""Rule 9: what is too large is refused or cut before it is written, so that whatever is stored can be read."""

import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2, status_pb2

import lro_aio as lro
from lro_aio.servers.grpc import add_operations_servicer
from lro_aio.testing import FakeSpanner, FaultyStore

from .over_stores import ON_SPANNER

MUCH = 6_000_000
"""Bytes: more than a gRPC client takes, less than a row of Spanner."""


@pytest.fixture(params=["sqlite", ON_SPANNER])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ops.db"
    else:
        with FakeSpanner() as fake:
            yield fake.url


def info():
    return error_details_pb2.ErrorInfo(reason="DISK_FULL", domain="tests")


handlers = lro.Handlers()


@handlers.handler("large-detail")
async def large_detail(op):
    raise lro.failures.DataLossError("see details", details=[wrappers_pb2.BytesValue(value=b"x" * MUCH), info()])


@handlers.handler("large-message")
async def large_message(op):
    await op.fail(status_pb2.Status(code=lro.Code.DATA_LOSS, message="ü" * MUCH))


@handlers.handler("large-status")
async def large_status(op):
    status = status_pb2.Status(code=lro.Code.DATA_LOSS, message="by hand")
    status.details.add().Pack(wrappers_pb2.StringValue(value="x" * MUCH))
    await op.fail(status)


@handlers.handler("many-errors")
async def many_errors(op):
    raise ExceptionGroup("many", [lro.failures.DataLossError(f"{n} " * 10_000) for n in range(50)])


@pytest.mark.asyncio
@pytest.mark.parametrize("handler", ["large-detail", "large-message", "large-status", "many-errors"])
async def test_an_operation_with_a_large_error_ends_and_can_be_read(url, handler):
    server = grpc.aio.server()
    client = lro.Client(url, handlers=[handlers])
    add_operations_servicer(client, server)
    port = server.add_insecure_port("127.0.0.1:0")
    async with client, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await server.start()
        stub = operations_pb2_grpc.OperationsStub(channel)
        op = await client.start(handler)
        await client.wait_operation(op.name, timeout=30)
        found = await stub.GetOperation(operations_pb2.GetOperationRequest(name=op.name))
        assert found.done
        assert found.error.code == lro.Code.DATA_LOSS
        assert found.error.ByteSize() <= lro.Limits().error
        (listed,) = (await stub.ListOperations(operations_pb2.ListOperationsRequest())).operations
        assert listed == found
        await server.stop(None)


@pytest.mark.asyncio
async def test_the_details_that_fit_are_kept(client):
    client.handlers.include(handlers)
    op = await client.start("large-detail")
    with pytest.raises(lro.failures.DataLossError, match="see details") as caught:
        await op.result(timeout=30)
    assert [detail.reason for detail in caught.value.details] == ["DISK_FULL"]


@pytest.mark.asyncio
async def test_a_limit_of_ones_own_holds_for_errors(open_client, store):
    client = await open_client(store, limits=lro.Limits(error=1000))
    op = await client.create()
    await op.fail("x" * 10_000)
    assert (await client.get_operation(op.name)).error.ByteSize() <= 1000


@pytest.mark.asyncio
async def test_the_names_of_children_are_bounded(client, row):
    many = [f"operations/{'c' * 100}{n}" for n in range(20_000)]
    refused = []

    @client.handler("many", resume_points=("up",))
    async def wait_for_many(op):
        if op.resume_point == "up":  # the children are not there, so the wait is over at once
            return None
        try:
            op.suspend(resume_at="up", children=many)
        except lro.PayloadTooLargeError as exc:
            refused.append((exc.field, exc.limit))
        return op.suspend(resume_at="up", children=many[:5000])

    await (await client.start("many")).result()
    assert refused == [("children", lro.Limits().children)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"handler": "n" * 20_000_000}, "handler"), ({"handler": "job", "traceparent": "t" * 20_000_000}, "traceparent")],
)
async def test_what_a_front_end_passes_on_is_bounded(url, arguments, field):
    async with lro.Client(url, worker=False) as client:
        with pytest.raises(lro.PayloadTooLargeError) as caught:
            await client.start(**arguments)
        assert caught.value.field == field
        assert len(str(caught.value)) < 200
        op = await client.start("n" * 128, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
        assert (await client.operation(op.name)).record.handler == "n" * 128


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["", "a\nb", "\ud800"])
async def test_a_front_end_refuses_names_that_no_handler_can_have(client, open_client, store, name):
    front = await open_client(FaultyStore(lro.SqliteStore("sqlite://")), worker=False)
    with pytest.raises(ValueError, match="printable characters"):
        await front.start(name)


@pytest.mark.asyncio
async def test_what_the_store_refuses_for_good_is_an_error_of_this_package(url):
    async with lro.Client(url, worker=False) as client:
        with pytest.raises(lro.StoreRefusedError, match="the store refuses what was to be written") as caught:
            await client.start("job", traceparent="\ud800")  # half a surrogate pair: not Unicode
        assert caught.value.__cause__ is not None
        assert caught.value.code is lro.Code.INTERNAL
        await client.start("job")
