import grpc.aio
from google.longrunning import operations_pb2

from lro_aio.cli.demo import indexer_pb2

class IndexerServiceStub:
    IndexDirectory: grpc.aio.UnaryUnaryMultiCallable[indexer_pb2.IndexDirectoryRequest, operations_pb2.Operation]
    def __init__(self, channel: grpc.aio.Channel) -> None: ...

class IndexerServiceServicer:
    async def IndexDirectory(  # noqa: N802 (the name of the RPC)
        self,
        request: indexer_pb2.IndexDirectoryRequest,
        context: grpc.aio.ServicerContext[indexer_pb2.IndexDirectoryRequest, operations_pb2.Operation],
    ) -> operations_pb2.Operation: ...

def add_IndexerServiceServicer_to_server(  # noqa: N802 (generated)
    servicer: IndexerServiceServicer, server: grpc.aio.Server
) -> None: ...
