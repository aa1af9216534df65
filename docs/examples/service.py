"""A grpc.aio service that answers with operations.  Usage: python service.py [PORT]"""

import asyncio
import signal
import sys

import grpc
import grpc.aio
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from reports import ReportState, handlers

import lro_aio as lro
from lro_aio.servers.grpc import ErrorInterceptor, add_operations_servicer


class ReportService:
    def __init__(self, client: lro.Client) -> None:
        self.client = client

    async def create_report(
        self, request: struct_pb2.Struct, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        fields = {"title": "", "pages": 3, "request_id": "", **request}
        if not fields["title"]:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "title is missing")
        op = await self.client.start(
            "create-report",
            ReportState(title=fields["title"], pages=int(fields["pages"])),
            request_id=fields["request_id"],
        )
        return op.proto

    def add_to(self, server: grpc.aio.Server) -> None:
        """What protoc generates for a service of your own; Struct in, Operation out."""
        method = grpc.unary_unary_rpc_method_handler(
            self.create_report,
            request_deserializer=struct_pb2.Struct.FromString,
            response_serializer=operations_pb2.Operation.SerializeToString,
        )
        service = grpc.method_handlers_generic_handler("reports.Reports", {"CreateReport": method})
        server.add_generic_rpc_handlers((service,))


async def serve(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    client = lro.Client("sqlite:///reports.db", handlers=[handlers], lease=lro.LeasePolicy(duration=2))
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    ReportService(client).add_to(server)
    add_operations_servicer(client, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")

    async with client:
        await server.start()
        print(f"serving on 127.0.0.1:{port}", flush=True)
        await stop.wait()
        await client.drain()  # hand the work over while the server still answers
        await server.stop(grace=2)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 50051))
