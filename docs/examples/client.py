"""A client that needs nothing of lro-aio.

Usage: python client.py SERVER start TITLE
       python client.py SERVER wait NAME
"""

import asyncio
import sys

import grpc.aio
from google.api_core import operation_async
from google.api_core.operations_v1 import OperationsAsyncClient
from google.longrunning import operations_pb2
from google.protobuf import json_format, struct_pb2


async def start(channel: grpc.aio.Channel, title: str) -> None:
    create_report = channel.unary_unary(
        "/reports.Reports/CreateReport",
        request_serializer=struct_pb2.Struct.SerializeToString,
        response_deserializer=operations_pb2.Operation.FromString,
    )
    request = struct_pb2.Struct()
    request.update({"title": title, "pages": 5})
    operation = await create_report(request)
    print(operation.name)


async def wait(channel: grpc.aio.Channel, name: str) -> None:
    operations = OperationsAsyncClient(channel)
    future = operation_async.from_gapic(
        await operations.get_operation(name),
        operations,
        result_type=struct_pb2.Struct,
        metadata_type=struct_pb2.Struct,
    )
    report = await future.result(timeout=60)
    print(json_format.MessageToJson(report, indent=None, sort_keys=True))


async def main(server: str, verb: str, argument: str) -> None:
    async with grpc.aio.insecure_channel(server) as channel:
        await {"start": start, "wait": wait}[verb](channel, argument)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
