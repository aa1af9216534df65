"""The Go package's way to resume: the method is called again, with a header that names the operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import Response
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2
from google.rpc import status_pb2

import lro_aio as lro
from lro_aio.engine.methods import MethodOperation
from lro_aio.servers.fastapi import install_error_handlers, operation_from_request, operation_response
from lro_aio.servers.grpc import ErrorInterceptor, operation_from_context
from lro_aio.servers.oidc import OidcVerifier
from lro_aio.servers.resume import ResumeApp, UnauthenticatedError, allow_unverified
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import reached
from .issuer import ACCOUNT, AUDIENCE, Issuer
from .test_grpc import refused
from .test_grpc_methods import ASK, service, unary
from .test_resume import RemoteScheduler

pytestmark = pytest.mark.asyncio

METHOD = "/example.v1.Reports/Generate"
GOOD = ("authorization", "Bearer good")

Body = Callable[[Any], Awaitable[Any]]


async def verifier(headers: Mapping[str, str], /) -> str:
    match headers.get("authorization"):
        case "Bearer good":
            return "workflow"
        case "Bearer of-another":
            raise PermissionError("another account")
        case _:
            raise UnauthenticatedError("no token")


@pytest.fixture
def handlers() -> lro.Handlers:
    """The callback: goes on with the operations of the method where no call does."""
    registry = lro.Handlers()

    @registry.handler(METHOD, state=list[str], resume_points=("later", "last"))
    async def callback(op: lro.Operation[list[str]]) -> lro.Suspended | wrappers_pb2.StringValue:
        if not op.resume_point:
            return op.suspend(resume_at="later", sleep=3600)
        return wrappers_pb2.StringValue(value=f"the handler, at {op.resume_point}, after {op.state}")

    @registry.handler("other", state=list[str], resume_points=("later",))
    async def other(op: lro.Operation[list[str]]) -> lro.Suspended | None:
        if not op.resume_point:
            return op.suspend(resume_at="later", children=op.state or (), sleep=0 if op.state else 3600, timeout=9999)
        return None

    return registry


@pytest_asyncio.fixture
async def client(handlers: lro.Handlers, lro_clock: ManualClock) -> AsyncIterator[lro.Client]:
    async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock, drain_timeout=0) as opened:
        yield opened


Call = Callable[..., Awaitable[operations_pb2.Operation]]
Serving = Callable[..., AbstractAsyncContextManager[Call]]


@pytest.fixture
def serving(serve_grpc: Any, error_interceptor: ErrorInterceptor) -> Serving:
    """``async with serving(client, body, ...) as call``: a method that does ``body(op)``, and answers with ``op``.

    ``await call(name)`` calls it with the header. The service keeps its operations: it still drives what it answered.
    """
    driven: list[Any] = []

    @asynccontextmanager
    async def serve(client: lro.Client, body: Body | None = None, **options: Any) -> AsyncIterator[Call]:
        options = {"verifier": verifier, **options}

        async def method(request: Any, context: Any) -> Any:
            op = await operation_from_context(client, context, **options)
            driven.append(op)
            if body is not None:
                await body(op)
            return op.proto

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:

            async def call(name: str = "", *metadata: tuple[str, str]) -> operations_pb2.Operation:
                header = ((lro.OPERATION_ID_HEADER, name),) if name else ()
                answer: operations_pb2.Operation = await unary(channel)(ASK, metadata=(*header, *metadata))
                return answer

            yield call

    return serve


async def suspended(client: lro.Client, handler: str = METHOD, state: Any = None) -> str:
    op = await client.start(handler, state)
    return (await reached(client, op.name, "SUSPENDED")).name


async def text_of(client: lro.Client, name: str) -> str:
    response, _ = await client.unmarshal_operation(name, wrappers_pb2.StringValue)
    assert response is not None
    return response.value


class TestResume:
    async def test_verified_call_goes_on_by_hand_where_the_operation_stopped(
        self, client: lro.Client, serving: Serving
    ) -> None:
        seen: list[Any] = []

        async def body(op: lro.Operation[list[str]]) -> None:
            record = await client.server_host.record(op.name)
            seen.append((op.resume_point, op.state, op.wake_reason, op.attempt, record.state, record.claim == op.claim))
            await op.done(wrappers_pb2.StringValue(value="by hand"))

        name = await suspended(client, state=["started"])
        async with serving(client, body, resume_method=METHOD) as call:
            answer = await call(name, GOOD)
        assert seen == [("later", ["started"], lro.WakeReason.ELAPSED, 1, "RUNNING", True)]
        assert (answer.name, answer.done) == (name, True)
        assert await text_of(client, name) == "by hand"

    @pytest.mark.parametrize("resume_method", [None, METHOD])
    async def test_id_alone_names_it_too(self, client: lro.Client, serving: Serving, resume_method: str | None) -> None:
        name = await suspended(client)
        async with serving(client, lambda op: op.done(), resume_method=resume_method) as call:
            assert (await call(name.removeprefix("operations/"), GOOD)).done

    async def test_google_signed_token_proves_the_caller(self, client: lro.Client, serving: Serving) -> None:
        issuer = Issuer()
        try:
            oidc = OidcVerifier(
                audience=AUDIENCE, service_accounts=[ACCOUNT], issuer=issuer.url, certs_url=issuer.certs_url
            )
            name = await suspended(client)
            async with serving(client, lambda op: op.done(), resume_method=METHOD, verifier=oidc) as call:
                bad = ("authorization", f"Bearer {issuer.token(header={'alg': 'none'}, signature='')}")
                code, _, _ = await refused(call(name, bad))
                assert code is grpc.StatusCode.UNAUTHENTICATED
                assert (await call(name, ("authorization", f"Bearer {issuer.token()}"))).done
        finally:
            await asyncio.to_thread(issuer.close)

    async def test_children_are_read_again_and_the_reason_is_what_is_true(
        self, client: lro.Client, serving: Serving
    ) -> None:
        done, open_ = await client.create(), await client.create()
        await done.fail("no paper")
        seen: list[Any] = []

        async def body(op: lro.Operation[Any]) -> None:
            seen.append((op.wake_reason, [(child.name, child.done) for child in op.children]))
            await op.done()

        both = await suspended(client, "other", [done.name, open_.name])
        async with serving(client, body) as call:
            await call(both, GOOD)
        assert seen == [(lro.WakeReason.CHILDREN_TIMEOUT, [(done.name, True), (open_.name, False)])]

    async def test_lease_is_renewed_while_the_method_works(
        self, client: lro.Client, serving: Serving, lro_clock: ManualClock
    ) -> None:
        held: list[Any] = []

        async def body(op: lro.Operation[Any]) -> None:
            held.append(op)

        name = await suspended(client)
        async with serving(client, body, resume_method=METHOD) as call:
            await call(name, GOOD)
            await lro_clock.advance(600)  # the lease lasts 30
            record = await client.server_host.record(name)
            assert (record.state, record.claim) == ("RUNNING", held[0].claim)
            await held[0].done()
        assert (await client.get_operation(name)).done

    async def test_held_operation_can_be_cancelled_and_hears_of_it(self, client: lro.Client, serving: Serving) -> None:
        held: list[Any] = []

        async def body(op: lro.Operation[Any]) -> None:
            held.append(op)

        name = await suspended(client)
        async with serving(client, body, resume_method=METHOD) as call:
            await call(name, GOOD)
        await client.cancel_operation(name)
        assert held[0].cancel_requested
        await held[0].fail(status_pb2.Status(code=1, message="stopped"))
        assert (await client.server_host.record(name)).state == "CANCELLED"

    async def test_resume_endpoint_says_busy_meanwhile_and_nothing_to_do_afterwards(
        self, client: lro.Client, serving: Serving, http_to: Any
    ) -> None:
        name = await suspended(client)
        record = await client.server_host.record(name)
        assert record.wait is not None
        body = {"operation": name, "resumeToken": record.wait.token}
        answers: list[httpx.Response] = []
        async with http_to(ResumeApp(client, allow_unverified)) as http:

            async def work(op: lro.Operation[Any]) -> None:
                answers.append(await http.post("/lro/resume", json=body))
                await op.done()

            async with serving(client, work, resume_method=METHOD) as call:
                await call(name, GOOD)
            answers.append(await http.post("/lro/resume", json=body))
        assert [answer.status_code for answer in answers] == [425, 200]
        assert answers[1].json() == {"resumed": False}


class TestRefusals:
    @pytest.mark.parametrize(
        ("metadata", "code"),
        [
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer forged"),), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer of-another"),), grpc.StatusCode.PERMISSION_DENIED),
            ((GOOD, GOOD), grpc.StatusCode.UNAUTHENTICATED),
        ],
    )
    @pytest.mark.parametrize("resume_method", [None, METHOD])
    async def test_unverified_call_gets_nothing_and_learns_nothing(
        self,
        client: lro.Client,
        serving: Serving,
        metadata: tuple[tuple[str, str], ...],
        code: grpc.StatusCode,
        resume_method: str | None,
    ) -> None:
        ran: list[str] = []

        async def body(op: lro.Operation[Any]) -> None:
            ran.append(op.name)

        name = await suspended(client)
        before = await client.server_host.record(name)
        async with serving(client, body, resume_method=resume_method) as call:
            answers = [await refused(call(sent, *metadata)) for sent in (name, "operations/none", "no name/x")]
        assert [answer[0] for answer in answers] == [code] * 3
        assert answers[0][1] == answers[1][1] == answers[2][1]
        assert await client.server_host.record(name) == before
        assert ran == []

    async def test_verifier_that_cannot_tell_is_an_outage(self, client: lro.Client, serving: Serving) -> None:
        async def down(headers: Mapping[str, str], /) -> str:
            raise lro.StoreUnavailableError("keys")

        name = await suspended(client)
        async with serving(client, verifier=down) as call:
            code, _, _ = await refused(call(name, GOOD))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert (await client.server_host.record(name)).state == "SUSPENDED"

    async def test_running_operation_is_busy(self, client: lro.Client, serving: Serving) -> None:
        name = await suspended(client)
        async with serving(client, resume_method=METHOD) as call:
            await call(name, GOOD)
            code, _, info = await refused(call(name, GOOD))
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "OPERATION_BUSY")

    async def test_one_of_many_calls_at_a_time_gets_the_claim(self, client: lro.Client, serving: Serving) -> None:
        claims: list[int] = []

        async def body(op: lro.Operation[Any]) -> None:
            claims.append(op.claim)

        name = await suspended(client)
        async with serving(client, body, resume_method=METHOD) as call:
            answers = await asyncio.gather(*(call(name, GOOD) for _ in range(20)), return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert {answer.code() for answer in lost} == {grpc.StatusCode.UNAVAILABLE}
        assert (len(lost), len(claims)) == (19, 1)
        assert (await client.server_host.record(name)).claim == claims[0]

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("unknown", "OPERATION_NOT_FOUND"),
            ("ended", "OPERATION_DONE"),
            ("of another method", "INVALID_TRANSITION"),
            ("made by hand", "INVALID_TRANSITION"),
        ],
    )
    async def test_operation_that_cannot_be_resumed_is_refused_and_stays_as_it_is(
        self, client: lro.Client, serving: Serving, kind: str, reason: str
    ) -> None:
        name = "operations/none"
        if kind == "ended":
            name = await suspended(client)
            await client.cancel_operation(name)
        elif kind == "of another method":
            name = await suspended(client, "other")
        elif kind == "made by hand":
            name = (await client.create(lease=False)).name
        before = None if kind == "unknown" else await client.server_host.record(name)
        async with serving(client, resume_method=None if kind == "made by hand" else METHOD) as call:
            code, _, info = await refused(call(name, GOOD))
        assert info.reason == reason
        assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
        if before is not None:
            assert await client.server_host.record(name) == before

    async def test_row_that_suspended_anew_meanwhile_is_not_claimed_for_what_it_was(
        self, client: lro.Client, serving: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the look and the claim, another call may have driven the operation into its next wait."""

        async def on(op: MethodOperation[list[str]]) -> None:
            await op.commit(op.suspend(resume_at="last", sleep=86400))

        name = await suspended(client)
        stale = await client.server_host.record(name)
        async with serving(client, on, resume_method=METHOD) as call:
            await call(name, GOOD)
            now = await client.server_host.record(name)

            async def record(name: str) -> Any:
                return stale

            with monkeypatch.context() as patch:
                patch.setattr(client.engine.rows, "record", record)
                code, _, info = await refused(call(name, GOOD))
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "OPERATION_BUSY")
        assert await client.server_host.record(name) == now

    async def test_process_that_drains_takes_nothing(self, client: lro.Client, serving: Serving) -> None:
        name = await suspended(client)
        async with serving(client, resume_method=METHOD) as call:
            await client.drain(0)
            for sent in (name, ""):
                code, _, info = await refused(call(sent, GOOD))
                assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "WORKER_UNAVAILABLE")
        assert (await client.server_host.record(name)).state == "SUSPENDED"

    async def test_children_that_cannot_be_read_leave_the_row_alone(
        self, handlers: lro.Handlers, serving: Serving
    ) -> None:
        store = FaultyStore(SqliteStore("sqlite://"))
        scheduler = RemoteScheduler()  # the local one would read the children too
        async with lro.Client(
            store, handlers=[handlers], scheduler=scheduler, dispatch="local", drain_timeout=0
        ) as client:
            child = await client.create()
            name = await suspended(client, "other", [child.name])
            async with serving(client) as call:
                store.fail("unfinished")
                code, _, _ = await refused(call(name, GOOD))
                assert code is grpc.StatusCode.UNAVAILABLE
                record = await client.server_host.record(name)
                assert (record.state, record.claim) == ("SUSPENDED", 1)
                await call(name, GOOD)

    async def test_method_without_a_verifier_is_a_mistake(self, client: lro.Client) -> None:
        class Context:
            def invocation_metadata(self) -> tuple[()]:
                return ()

        context: Any = Context()
        with pytest.raises(ValueError, match="resume_method needs a verifier"):
            await operation_from_context(client, context, METHOD)
        with pytest.raises(TypeError, match="no default that accepts everyone"):
            await operation_from_context(client, context, METHOD, verifier="token")  # type: ignore[arg-type]

    async def test_without_a_verifier_nobody_can_drive_it(self, client: lro.Client, serving: Serving) -> None:
        name = await suspended(client)
        async with serving(client, lambda op: op.done(), verifier=None) as call:
            code, _, info = await refused(call(name, GOOD))
        assert (code, info.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")


class TestWholeLife:
    async def test_method_makes_suspends_resumes_and_ends_its_operation(
        self, client: lro.Client, serving: Serving
    ) -> None:
        """As the Go package has it: one method, a switch on the resume point, and no handler that runs."""

        async def body(op: MethodOperation[list[str]]) -> None:
            op.state.append(op.resume_point or "start")
            match op.resume_point:
                case "":
                    await op.commit(op.suspend(resume_at="later", sleep=86400))
                case "later":
                    await op.commit(op.suspend(resume_at="last", sleep=86400))
                case "last":
                    await op.done(wrappers_pb2.StringValue(value=" ".join(op.state)))

        async with serving(client, body, resume_method=METHOD) as call:
            name = (await call()).name
            assert (await client.server_host.record(name)).state == "SUSPENDED"
            await call(name, GOOD)
            assert (await client.server_host.record(name)).resume_point == "last"
            await call(name, GOOD)
        assert await text_of(client, name) == "start later last"

    async def test_where_no_call_comes_the_handler_goes_on(
        self, client: lro.Client, serving: Serving, lro_clock: ManualClock
    ) -> None:
        """What ``WithCallbackFn`` is for: local development, without a workflow."""

        async def body(op: MethodOperation[list[str]]) -> None:
            op.state.append("the method")
            await op.commit(op.suspend(resume_at="last", sleep=86400))

        async with serving(client, body, resume_method=METHOD) as call:
            name = (await call()).name
        await lro_clock.advance(86399)
        assert not (await client.get_operation(name)).done
        await lro_clock.advance(1)
        assert await text_of(client, name) == "the handler, at last, after ['the method']"

    @pytest.mark.parametrize("again", [False, True])
    async def test_where_the_process_ends_first_the_handler_goes_on_elsewhere(
        self, handlers: lro.Handlers, serving: Serving, tmp_path: Path, again: bool
    ) -> None:
        url = f"sqlite:///{tmp_path}/operations.db"
        async with (
            lro.Client(url, handlers=[handlers], drain_timeout=0) as first,
            serving(first, resume_method=METHOD) as call,
        ):
            name = await suspended(first) if again else ""
            name = (await call(name, GOOD)).name
            assert (await first.server_host.record(name)).state == "RUNNING"
        async with lro.Client(url, handlers=[handlers], drain_timeout=0) as second:
            record = await reached(second, name, "SUCCEEDED", "SUSPENDED")
        if again:
            assert record.state == "SUCCEEDED"
        else:
            assert (record.state, record.resume_point) == ("SUSPENDED", "later")

    async def test_exception_that_leaves_the_block_fails_the_operation(
        self, client: lro.Client, serving: Serving
    ) -> None:
        async def body(op: MethodOperation[list[str]]) -> None:
            async with op:
                raise RuntimeError("secret")

        name = await suspended(client)
        async with serving(client, body, resume_method=METHOD) as call:
            await refused(call(name, GOOD))
        operation = await client.get_operation(name)
        assert operation.error.code
        assert "secret" not in operation.error.message

    async def test_handler_that_nobody_has_makes_no_operation(self, client: lro.Client, serving: Serving) -> None:
        async with serving(client, resume_method="/example.v1.Reports/Unknown") as call:
            code, _, info = await refused(call())
        assert (code, info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_HANDLER")
        assert [operation.name async for operation in client.iter_operations()] == []


class TestCommit:
    async def held(self, client: lro.Client, serving: Serving, name: str = "") -> MethodOperation[list[str]]:
        held: list[MethodOperation[list[str]]] = []

        async def body(op: MethodOperation[list[str]]) -> None:
            held.append(op)

        async with serving(client, body, resume_method=METHOD) as call:
            await call(name, GOOD)
        return held[0]

    async def test_takes_only_what_the_same_operation_planned_last(self, client: lro.Client, serving: Serving) -> None:
        op, another = await self.held(client, serving), await self.held(client, serving)
        earlier = op.suspend(resume_at="later", sleep=1)
        op.suspend(resume_at="later", sleep=2)
        for wrong in (earlier, another.suspend(resume_at="later", sleep=1)):
            with pytest.raises(ValueError, match="what suspend\\(\\) of the same operation returned last"):
                await op.commit(wrong)
        assert (await client.server_host.record(op.name)).state == "RUNNING"

    async def test_undeclared_resume_point_is_refused_as_in_a_handler(
        self, client: lro.Client, serving: Serving
    ) -> None:
        op = await self.held(client, serving)
        with pytest.raises(lro.UnknownResumePointError):
            op.suspend(resume_at="nowhere", sleep=1)

    async def test_afterwards_the_object_holds_nothing(self, client: lro.Client, serving: Serving) -> None:
        op = await self.held(client, serving)
        planned = op.suspend(resume_at="later", sleep=1)
        await op.commit(planned)
        with pytest.raises(lro.LeaseLostError):
            await op.commit(planned)
        with pytest.raises(lro.LeaseLostError):
            await op.done()
        with pytest.raises(RuntimeError):
            op.suspend(resume_at="later", sleep=1)
        assert client.engine.leases.held == 0

    async def test_state_that_cannot_be_stored_changes_nothing(self, client: lro.Client, serving: Serving) -> None:
        op = await self.held(client, serving)
        op.state = ["x" * (2 << 20)]
        with pytest.raises(lro.PayloadTooLargeError):
            await op.commit(op.suspend(resume_at="later", sleep=1))
        op.state = ["small"]
        await op.commit(op.suspend(resume_at="later", sleep=1))
        assert (await client.server_host.record(op.name)).state == "SUSPENDED"

    async def test_wait_is_handed_to_the_scheduler(self, handlers: lro.Handlers, serving: Serving) -> None:
        scheduler = RemoteScheduler()
        async with lro.Client("sqlite://", handlers=[handlers], scheduler=scheduler, drain_timeout=0) as client:
            op = await self.held(client, serving)
            await op.commit(op.suspend(resume_at="later", sleep=3600))
            record = scheduler.waits.get_nowait()
            assert (record.name, record.resume_point) == (op.name, "later")

    async def test_cancel_that_came_meanwhile_ends_the_operation(self, client: lro.Client, serving: Serving) -> None:
        op = await self.held(client, serving)
        await client.cancel_operation(op.name)
        await op.commit(op.suspend(resume_at="later", sleep=1))
        assert (await client.server_host.record(op.name)).state == "CANCELLED"


class TestHttp:
    @pytest_asyncio.fixture
    async def http(self, client: lro.Client, http_to: Any) -> AsyncIterator[httpx.AsyncClient]:
        """The service keeps its operations, as the one of ``serving``."""
        app = FastAPI()
        install_error_handlers(app)
        driven: list[Any] = []

        @app.post(METHOD)
        async def generate(request: Request) -> Response:
            op = await operation_from_request(client, request, METHOD, verifier=verifier)
            driven.append(op)
            if op.resume_point:
                await op.done(wrappers_pb2.StringValue(value=f"over HTTP, at {op.resume_point}"))
            return operation_response(op)

        async with http_to(app) as opened:
            yield opened

    async def test_what_the_go_packages_workflow_posts_resumes_the_operation(
        self, client: lro.Client, http: httpx.AsyncClient
    ) -> None:
        name = await suspended(client)
        headers = {"x-alis-operation-id": name, "Authorization": "Bearer good"}
        answer = await http.post(METHOD, json={"data": {}}, headers=headers)
        assert (answer.status_code, answer.json()["done"]) == (200, True)
        assert await text_of(client, name) == "over HTTP, at later"
        assert (await http.post(METHOD, headers=headers)).json()["error"]["status"] == "FAILED_PRECONDITION"

    async def test_call_without_the_header_makes_one(self, client: lro.Client, http: httpx.AsyncClient) -> None:
        made = (await http.post(METHOD)).json()
        assert "done" not in made
        assert (await client.server_host.record(made["name"])).handler == METHOD

    @pytest.mark.parametrize(
        ("authorization", "status"), [(None, 401), ("Bearer forged", 401), ("Bearer of-another", 403)]
    )
    async def test_unverified_call_is_refused(
        self, client: lro.Client, http: httpx.AsyncClient, authorization: str | None, status: int
    ) -> None:
        name = await suspended(client)
        headers = {"x-alis-operation-id": name} | ({"authorization": authorization} if authorization else {})
        assert (await http.post(METHOD, headers=headers)).status_code == status
        assert (await client.server_host.record(name)).state == "SUSPENDED"

    async def test_running_operation_is_503_with_a_time_to_come_back(
        self, client: lro.Client, http: httpx.AsyncClient
    ) -> None:
        name = (await http.post(METHOD)).json()["name"]
        answer = await http.post(METHOD, headers={"x-alis-operation-id": name, "authorization": "Bearer good"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
