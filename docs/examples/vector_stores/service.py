"""The service that docs/calling.md calls: vector stores, over HTTP in two styles and over gRPC.

Usage: uvicorn service:app
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc.aio
from fastapi import FastAPI, Request, Response
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from pydantic import BaseModel, Field

import lro_aio as lro
from lro_aio.servers.fastapi import (
    accepted,
    install_error_handlers,
    lifespan,
    operation_response,
    operations_router,
)
from lro_aio.servers.grpc import add_operations_servicer

handlers = lro.Handlers()


class NewVectorStore(BaseModel):
    name: str = Field(min_length=1)
    files: list[str] = []
    request_id: str = ""


@handlers.handler("create-vector-store", state=NewVectorStore)
async def create_vector_store(op: lro.Operation[NewVectorStore]) -> struct_pb2.Struct:
    files = op.state.files
    for number, file in enumerate(files, 1):
        await asyncio.sleep(0.3)  # stands for work
        if file.startswith("missing"):
            info = error_details_pb2.ErrorInfo(reason="FILE_NOT_FOUND", domain="vectors.example.com")
            info.metadata["file"] = file
            raise lro.failures.NotFoundError(f"there is no file {file}", details=[info])
        await op.progress(number / len(files), f"{number} of {len(files)}: {file}")
    store = struct_pb2.Struct()
    store.update({"name": op.state.name, "fileCount": len(files)})
    return store


client = lro.Client("sqlite:///vector_stores.db", handlers=[handlers])


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[None]:
    server = grpc.aio.server()
    add_operations_servicer(client, server)
    server.add_insecure_port("127.0.0.1:50051")
    async with lifespan(client)(app):  # opens the client, and drains it when the server is told to stop
        await server.start()
        yield
        await client.drain()
        await server.stop(grace=2)


app = FastAPI(title="Vector stores", lifespan=serving)
install_error_handlers(app)


@app.post("/v1/vectorStores")
async def create_in_google_style(new: NewVectorStore) -> Response:
    return operation_response(await client.start("create-vector-store", new, request_id=new.request_id))


@app.post("/azure/vectorStores")
async def create_in_azure_style(new: NewVectorStore, request: Request) -> Response:
    op = await client.start("create-vector-store", new, request_id=new.request_id)
    return accepted(op, request, prefix="/azure")


app.include_router(operations_router(client, style="azure", prefix="/azure"))
app.include_router(operations_router(client))
