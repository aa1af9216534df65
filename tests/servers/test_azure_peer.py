"""Azure's own Python client against the Azure-style face, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from azure.core import AsyncPipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import policies
from azure.core.pipeline.transport import AsyncioRequestsTransport
from azure.core.polling import AsyncLROPoller
from azure.core.polling.async_base_polling import AsyncLROBasePolling
from azure.core.rest import HttpRequest
from fastapi import Body, Depends, FastAPI, Request

import lro_aio as lro
from lro_aio.servers.fastapi import accepted, install_error_handlers, operation_id_from_request, operations_router
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing import FaultyStore

pytestmark = pytest.mark.asyncio

ServeHttp = Callable[[Any], Any]
DEFAULT_INTERVAL = 77.0
"""Seconds that the peer would wait if the server did not say."""


class Transport(AsyncioRequestsTransport):
    """The real one; it notes how long the poller meant to sleep, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.asked = asyncio.Event()

    async def sleep(self, duration: float) -> None:
        self.slept.append(duration)
        self.asked.set()
        await asyncio.sleep(0.01)


class Service:
    """What a client library of Azure would be for this service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.transport = Transport()
        self.client = AsyncPipelineClient(
            url,
            transport=self.transport,
            policies=[policies.RequestIdPolicy(), policies.AsyncRetryPolicy(), policies.ContentDecodePolicy()],
        )

    async def begin(self, handler: str, *, operation_id: str | None = None) -> AsyncLROPoller[Any]:
        headers = {} if operation_id is None else {"Operation-Id": operation_id}
        request = HttpRequest("POST", f"{self.url}/jobs/{handler}", json={"value": 21}, headers=headers)
        first = await self.client.send_request(request, _return_pipeline_response=True)
        first.http_response.raise_for_status()
        return AsyncLROPoller(self.client, first, result_of, polling())

    def resume(self, token: str) -> AsyncLROPoller[Any]:
        return AsyncLROPoller.from_continuation_token(
            polling(), token, client=self.client, deserialization_callback=result_of
        )


def polling() -> AsyncLROBasePolling[Any, Any, Any]:
    return AsyncLROBasePolling(DEFAULT_INTERVAL, lro_options={"final-state-via": "operation-location"})


def result_of(answer: Any) -> Any:
    return answer.http_response.json()["result"]


def app_of(client: lro.Client) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app, style="azure")

    @app.post("/jobs/{handler}")
    async def start(
        handler: str,
        value: Annotated[int, Body(embed=True)],
        request: Request,
        operation_id: Annotated[str | None, Depends(operation_id_from_request)],
    ) -> Any:
        kind = client.handlers.get(handler).codec.kind
        state = None if kind is None else kind(value)
        return accepted(await client.start(handler, state, operation_id=operation_id), request)

    app.include_router(operations_router(client, style="azure"))
    return app


@pytest.fixture
def service(client: lro.Client, serve_http: ServeHttp) -> Callable[[], Any]:
    @asynccontextmanager
    async def served() -> AsyncIterator[Service]:
        async with serve_http(app_of(client)) as http:
            made = Service(str(http.base_url).rstrip("/"))
            async with made.client:
                yield made

    return served


async def test_poller_waits_as_long_as_the_server_says_and_gets_the_result(
    service: Callable[[], Any], gates: Any
) -> None:
    async with service() as azure:
        poller = await azure.begin("held")
        assert (poller.status(), poller.done()) == ("Running", False)
        waiting = asyncio.create_task(poller.result())
        await asyncio.wait_for(azure.transport.asked.wait(), 10)
        gates.go.set()
        assert await asyncio.wait_for(waiting, 10) == "21"
        assert (poller.status(), poller.done()) == ("Succeeded", True)
        assert set(azure.transport.slept) == {1}


async def test_operation_that_has_ended_already_needs_no_poll(service: Callable[[], Any], client: lro.Client) -> None:
    async with service() as azure:
        await (await azure.begin("double", operation_id="mine")).result()
        again = await azure.begin("double", operation_id="mine")
        assert again.status() == "Succeeded"
        assert await again.result() == "42"


async def test_continuation_token_goes_on_in_another_client(service: Callable[[], Any], gates: Any) -> None:
    async with service() as azure:
        token = (await azure.begin("held")).continuation_token()
        other = Service(azure.url)
        async with other.client:
            poller = other.resume(token)
            assert poller.status() == "Running"
            gates.go.set()
            assert await asyncio.wait_for(poller.result(), 10) == "21"


async def test_failure_is_raised_with_code_message_and_details(service: Callable[[], Any]) -> None:
    async with service() as azure:
        poller = await azure.begin("fails")
        with pytest.raises(HttpResponseError, match="the disk is full") as caught:
            await asyncio.wait_for(poller.result(), 10)
    assert poller.status() == "Failed"
    error = caught.value.error
    assert error is not None
    assert error.code == "ResourceExhausted"
    assert error.innererror["code"] == "RESOURCE_EXHAUSTED"
    assert error.innererror["details"][0]["reason"] == "OPERATION_FAILED"
    assert caught.value.continuation_token == poller.continuation_token()


async def test_cancel_ends_the_poll_with_canceled(service: Callable[[], Any], gates: Any) -> None:
    async with service() as azure:
        poller = await azure.begin("held", operation_id="mine")
        await asyncio.wait_for(gates.started.wait(), 10)
        cancelled = await azure.client.send_request(HttpRequest("POST", f"{azure.url}/v1/operations/mine:cancel"))
        assert (cancelled.status_code, cancelled.json()["id"]) == (200, "mine")
        with pytest.raises(HttpResponseError, match='"status":"Canceled"'):
            await asyncio.wait_for(poller.result(), 10)
        assert poller.status() == "Canceled"


async def test_errors_of_the_server_are_the_peers_own_exceptions(service: Callable[[], Any]) -> None:
    async with service() as azure:
        await azure.begin("held", operation_id="mine")
        with pytest.raises(HttpResponseError) as caught:
            await azure.begin("double", operation_id="mine")
        assert (caught.value.status_code, caught.value.error.code) == (400, "AlreadyExists")
        answer = await azure.client.send_request(HttpRequest("GET", f"{azure.url}/v1/operations/none"))
        with pytest.raises(HttpResponseError, match="does not exist") as unknown:
            answer.raise_for_status()
        assert unknown.value.error.code == "NotFound"


async def test_poll_that_fails_is_repeated_when_the_server_says(handlers: lro.Handlers, serve_http: ServeHttp) -> None:
    store = FaultyStore(SqliteStore("sqlite://"))
    async with lro.Client(store, handlers=[handlers]) as client, serve_http(app_of(client)) as http:
        azure = Service(str(http.base_url).rstrip("/"))
        async with azure.client:
            poller = await azure.begin("sleeps")
            store.fail("read", error=lambda: lro.StoreUnavailableError("away", retry_after=6.5))
            await poller.polling_method().update_status()
            assert azure.transport.slept == [7]
            assert poller.status() == "Running"
