"""A server process for the tests of ``lro``: a store with operations of every kind, on gRPC and HTTP.

Writes its two ports to its output once it answers. Each line of its input is the number of a gate to open; it ends when
its input does. Over HTTP, Google's style is below ``/v1``
and Azure's below ``/azure/v1``.
"""

import asyncio
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import uvicorn
from fastapi import FastAPI
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.servers.fastapi import operations_router
from lro_aio.servers.grpc import add_operations_servicer

handlers = lro.Handlers()
TYPE = "tests.Unknown"
gates = defaultdict(asyncio.Event)


@dataclass
class Gate:
    number: int


@handlers.handler("gated", state=Gate)
async def gated(op):
    """Half done until its gate is opened."""
    await op.progress(0.5, "half [bold]way[/] \x1b[31m")
    await gates[op.state.number].wait()
    return wrappers_pb2.StringValue(value="opened")


@handlers.handler("quick")
async def quick(op):
    """Ends at once."""
    return wrappers_pb2.Int64Value(value=7)


@handlers.handler("broken")
async def broken(op):
    """Fails."""
    raise lro.OperationFailedError("the disk is full [red]", code=lro.Code.RESOURCE_EXHAUSTED)


@handlers.handler("stuck", pause_on_failure=True)
async def stuck(op):
    """Fails, and waits for somebody."""
    raise lro.OperationFailedError("no such [red] bucket", name="operations/another", code=lro.Code.NOT_FOUND)


@handlers.handler("asleep", resume_points=("on",))
async def asleep(op):
    """Sleeps for long."""
    return op.suspend(resume_at="on", sleep=10**6)


@handlers.handler("asks")
async def asks(op):
    """Ends with the first message."""
    return await op.receive("approval")


@handlers.handler("hears")
async def hears(op):
    """Waits for a message that nobody sends."""
    return await op.receive("end")


def unknown_message():
    """A message of a type that no other process has."""
    file = descriptor_pb2.FileDescriptorProto(name="tests_unknown.proto", package="tests", syntax="proto3")
    field = file.message_type.add(name="Unknown").field.add(name="n", number=1)
    field.type, field.label = field.TYPE_INT64, field.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(TYPE))(n=5)


async def fill(client):
    for number in range(3):
        await client.start("asks", operation_id=f"asks-{number}", parent="inbox")
        await client.start("hears", operation_id=f"hears-{number}", parent="inbox")
    done = await client.start("quick", operation_id="done")
    failed = await client.start("broken", operation_id="failed")
    for operation in (done, failed):
        await client.wait_operation(operation.name, 20)
    strange = await client.create(operation_id="strange", metadata=unknown_message())
    await strange.done(unknown_message())
    cancelled = await client.create(operation_id="cancelled", lease=False)
    await cancelled.fail(lro.OperationCancelledError())
    await client.create(operation_id="elsewhere", parent="projects/p", lease=False)
    nan = struct_pb2.Struct()
    nan.update({"progress": float("nan")})
    await client.create(operation_id="nan", lease=False, metadata=nan)
    for number in range(36):
        await client.start("gated", Gate(number), operation_id=f"gate-{number}")
    for number in range(4):
        await client.create(operation_id=f"spare-{number}", lease=False)


async def fill_with_waits(client):
    """Instead: what operators step in for."""
    for name in ("quick", "stuck"):
        await client.start(name, operation_id="done" if name == "quick" else name)
    for number in range(3):
        await client.start("asleep", operation_id=f"asleep-{number}")
    await client.wait_operation("operations/done", 20)
    async with asyncio.timeout(20):
        while not (await client.list_operations("paused = true")).operations:
            await asyncio.sleep(0.01)


class Log(grpc.aio.ServerInterceptor):
    """Writes down which methods are called, beside the store."""

    def __init__(self, url):
        self.path = Path(url.removeprefix("sqlite:///")).with_name("calls.log")

    async def intercept_service(self, continuation, handler_call_details):
        with self.path.open("a") as log:
            log.write(f"{handler_call_details.method}\n")
        return await continuation(handler_call_details)


async def main(url, port, what="everything"):
    server = grpc.aio.server(interceptors=[Log(url)])
    client = lro.Client(url, handlers=[handlers], lease=lro.LeasePolicy(2), drain_timeout=0)
    add_operations_servicer(client, server)
    async with client:
        if not (await client.list_operations(page_size=1)).operations:
            await (fill if what == "everything" else fill_with_waits)(client)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        app = FastAPI()
        app.include_router(operations_router(client))
        app.include_router(operations_router(client, style="azure", prefix="/azure/v1"))
        http = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        serving = asyncio.create_task(http._serve())
        while not http.started:
            await asyncio.sleep(0.01)
        print(bound, http.servers[0].sockets[0].getsockname()[1], flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            gates[int(line)].set()
        http.should_exit = True
        await serving
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
