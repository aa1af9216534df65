"""The client of a vector store service: a module that the makers of the service would ship."""

import uuid

import httpx
from pydantic import BaseModel, Field

import lro_aio as lro


class NewVectorStore(BaseModel):
    name: str
    files: list[str] = []
    request_id: str = Field(default_factory=lambda: str(uuid.uuid4()))


class VectorStore(BaseModel):
    name: str
    file_count: int = Field(alias="fileCount")


class IndexingProgress(BaseModel):
    progress: float
    message: str


class CreateVectorStoreOperation(lro.RemoteOperation[VectorStore]):
    """Its value is a ``VectorStore``, its metadata an ``IndexingProgress``."""

    metadata_type = IndexingProgress


class VectorStoreClient:
    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        self.transport = lro.remote.HttpTransport(http, base_url)
        self._http = http
        self._url = f"{self.transport.address}/v1/vectorStores"

    async def create_vector_store(
        self, new: NewVectorStore, *, wait_until_completed: bool
    ) -> CreateVectorStoreOperation:
        """The convenience method: types in, types out."""
        content = new.model_dump_json().encode()
        return await self.create_vector_store_raw(content, wait_until_completed=wait_until_completed)

    async def create_vector_store_raw(
        self, content: bytes, *, wait_until_completed: bool, timeout: float = 15.0
    ) -> CreateVectorStoreOperation:
        """The protocol method: JSON in, and the handle's ``raw_response`` is the HTTP answer."""
        headers = {"Content-Type": "application/json"}
        response = await self._http.post(self._url, content=content, headers=headers, timeout=timeout)
        operation = CreateVectorStoreOperation(self.transport, response)
        if wait_until_completed:
            await operation.wait_for_completion()
        return operation
