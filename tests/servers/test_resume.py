"""The endpoints that a scheduler calls, as an ASGI application and as a FastAPI router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from starlette.applications import Starlette
from starlette.routing import Mount

import lro_aio as lro
from lro_aio.servers.resume import MAX_PENDING_BYTES, ResumeApp, _first, allow_unverified
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import until
from .resuming import HttpTo, Make, reason_of, suspended

pytestmark = pytest.mark.asyncio


class TestResume:
    async def test_answers_when_the_run_has_ended(
        self, client: lro.Client, make_app: Make, http_to: HttpTo, gates: Any
    ) -> None:
        name, token = await suspended(client)
        async with http_to(make_app(client)) as http:
            body = {"operation": name, "resumeToken": token, "reason": "POLL_FAILED", "error": "the child is gone"}
            call = asyncio.create_task(http.post("/lro/resume", json=body))
            await asyncio.wait_for(gates.started.wait(), 10)
            assert not call.done()
            gates.go.set()
            answer = await asyncio.wait_for(call, 10)
        assert (answer.status_code, answer.json()) == (200, {"resumed": True})
        woken, _ = await client.unmarshal_operation(name, struct_pb2.Struct)
        assert woken is not None
        assert dict(woken) == {"reason": "POLL_FAILED", "error": "the child is gone"}

    async def test_reason_defaults_to_elapsed_and_snake_case_is_taken(
        self, client: lro.Client, make_app: Make, http_to: HttpTo, gates: Any
    ) -> None:
        gates.go.set()
        name, token = await suspended(client)
        async with http_to(make_app(client)) as http:
            answer = await http.post("/lro/resume", json={"operation": name, "resume_token": token})
        assert answer.json() == {"resumed": True}
        woken, _ = await client.unmarshal_operation(name, struct_pb2.Struct)
        assert woken is not None
        assert woken["reason"] == "ELAPSED"

    async def test_nothing_to_do_is_200(self, client: lro.Client, make_app: Make, http_to: HttpTo, gates: Any) -> None:
        """An unknown name, another token, the token of a run that has ended: the scheduler must not come again."""
        gates.go.set()
        name, token = await suspended(client)
        async with http_to(make_app(client)) as http:

            async def resumed(operation: str, resume_token: str) -> Any:
                answer = await http.post("/lro/resume", json={"operation": operation, "resumeToken": resume_token})
                return answer.status_code, answer.json()

            assert await resumed("operations/none", token) == (200, {"resumed": False})
            assert await resumed("no name at all", token) == (200, {"resumed": False})
            assert await resumed(name, "another") == (200, {"resumed": False})
            assert await resumed(name, token) == (200, {"resumed": True})
            assert await resumed(name, token) == (200, {"resumed": False})

    async def test_live_run_is_425_with_a_time_to_come_back(
        self, client: lro.Client, make_app: Make, http_to: HttpTo, gates: Any
    ) -> None:
        name, token = await suspended(client)
        async with http_to(make_app(client)) as http:
            body = {"operation": name, "resumeToken": token}
            first = asyncio.create_task(http.post("/lro/resume", json=body))
            await asyncio.wait_for(gates.started.wait(), 10)
            second = await http.post("/lro/resume", json=body)
            assert (second.status_code, reason_of(second)) == (425, "OPERATION_BUSY")
            assert second.json()["error"]["code"] == 425
            assert 1 <= int(second.headers["retry-after"]) <= 30
            gates.go.set()
            assert (await asyncio.wait_for(first, 10)).json() == {"resumed": True}

    async def test_run_that_a_drain_gives_up_is_503_and_its_token_stays_good(
        self, tmp_path: Path, handlers: lro.Handlers, make_app: Make, http_to: HttpTo, gates: Any
    ) -> None:
        url = f"sqlite:///{tmp_path}/operations.db"
        async with lro.Client(url, handlers=[handlers], drain_timeout=0) as client, http_to(make_app(client)) as http:
            name, token = await suspended(client)
            body = {"operation": name, "resumeToken": token}
            call = asyncio.create_task(http.post("/lro/resume", json=body))
            await asyncio.wait_for(gates.started.wait(), 10)
            await client.drain(0)
            answer = await asyncio.wait_for(call, 10)
            assert (answer.status_code, reason_of(answer)) == (503, "WORKER_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
            again = await http.post("/lro/resume", json=body)
            assert (again.status_code, reason_of(again)) == (503, "WORKER_UNAVAILABLE")
        gates.go.set()
        async with lro.Client(url, handlers=[handlers], worker=False) as front:
            assert not (await front.get_operation(name)).done
        async with lro.Client(url, handlers=[handlers]) as second, http_to(make_app(second)) as http:
            await http.post("/lro/resume", json=body)  # or the second client's own sweep was faster
            assert (await second.wait_operation(name, timeout=10)).done

    async def test_process_without_the_handler_is_503(
        self, tmp_path: Path, handlers: lro.Handlers, make_app: Make, http_to: HttpTo
    ) -> None:
        url = f"sqlite:///{tmp_path}/operations.db"
        async with lro.Client(url, handlers=[handlers]) as client:
            name, token = await suspended(client)
            async with lro.Client(url) as other, http_to(make_app(other)) as http:
                answer = await http.post("/lro/resume", json={"operation": name, "resumeToken": token})
        assert (answer.status_code, reason_of(answer)) == (503, "WORKER_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1

    async def test_store_that_does_not_answer_is_503(
        self, handlers: lro.Handlers, make_app: Make, http_to: HttpTo
    ) -> None:
        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client, http_to(make_app(client)) as http:
            store.fail("read")
            answer = await http.post("/lro/resume", json={"operation": "operations/a", "resumeToken": "t"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

    async def test_closed_client_is_503(self, handlers: lro.Handlers, make_app: Make, http_to: HttpTo) -> None:
        client = lro.Client("sqlite://", handlers=[handlers])
        async with http_to(make_app(client)) as http:
            for path in ("resume", "poll", "sweep"):
                answer = await http.post(f"/lro/{path}", json={"operation": "operations/a", "resumeToken": "t"})
                assert (answer.status_code, reason_of(answer)) == (503, "CLIENT_CLOSED")

    async def test_scheduler_that_hangs_up_during_the_claim_does_not_stop_the_run(
        self, handlers: lro.Handlers, gates: Any
    ) -> None:
        """The claim commits all the same, so the run has to start: else the row would wait for its lease to end."""
        gates.go.set()
        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client:
            name, token = await suspended(client)
            body = json.dumps({"operation": name, "resumeToken": token}).encode()
            let_go = store.hold("apply")
            before = store.calls["apply"]
            call = asyncio.create_task(_post(ResumeApp(client, allow_unverified), "/lro/resume", body))
            await until(lambda: store.calls["apply"] > before)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            let_go()
            assert (await client.wait_operation(name, timeout=10)).done


async def _post(app: Any, path: str, body: bytes, **scope: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    unread = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    base = {"type": "http", "method": "POST", "path": path, "headers": [], "root_path": ""}
    await app({**base, **scope}, receive, send)
    return sent


class RemoteScheduler:
    """Keeps what it was handed; ``go`` holds it while it takes a wait."""

    local = False
    horizon = 3600.0

    def __init__(self) -> None:
        self.waits: asyncio.Queue[Any] = asyncio.Queue()
        self.go = asyncio.Event()
        self.go.set()

    async def open(self, host: Any) -> None:
        pass

    async def close(self) -> None:
        pass

    async def schedule(self, record: Any) -> str:
        self.waits.put_nowait(record)
        await self.go.wait()
        return "handle"

    async def cancel(self, record: Any) -> None:
        pass


class TestRemoteScheduler:
    async def test_whole_life_runs_inside_resume_requests(
        self, handlers: lro.Handlers, make_app: Make, http_to: HttpTo, gates: Any
    ) -> None:
        """The answer comes after the next wait is handed over: a frozen process could not do it later."""
        gates.go.set()
        scheduler = RemoteScheduler()
        clock = ManualClock()
        async with (
            lro.Client("sqlite://", handlers=[handlers], scheduler=scheduler, clock=clock) as client,
            http_to(make_app(client)) as http,
        ):

            async def wake() -> Any:
                record = await asyncio.wait_for(scheduler.waits.get(), 10)
                body = {"operation": record.name, "resumeToken": record.wait.token}
                return asyncio.create_task(http.post("/lro/resume", json=body))

            op = await client.start("sleeps")
            assert (await client.server_host.record(op.name)).claim == 0
            first = await wake()
            scheduler.go.clear()
            second_wait = await asyncio.wait_for(scheduler.waits.get(), 10)
            await asyncio.wait({first}, timeout=0.05)
            assert not first.done()
            scheduler.go.set()
            assert (await asyncio.wait_for(first, 10)).json() == {"resumed": True}
            await clock.advance(3600)
            scheduler.waits.put_nowait(second_wait)
            assert (await asyncio.wait_for(await wake(), 10)).json() == {"resumed": True}
            assert (await client.get_operation(op.name)).done

    @pytest.mark.parametrize("reason", ["ELAPSED", "STEP_BUDGET", "CHILDREN_DONE"])
    async def test_call_before_the_sleep_is_over_is_handed_over_again(
        self, handlers: lro.Handlers, make_app: Make, http_to: HttpTo, gates: Any, reason: str
    ) -> None:
        """So comes a scheduler that does not reach as far as the wait; the token stays good."""
        gates.go.set()
        scheduler = RemoteScheduler()
        clock = ManualClock()
        async with (
            lro.Client("sqlite://", handlers=[handlers], scheduler=scheduler, dispatch="local", clock=clock) as client,
            http_to(make_app(client)) as http,
        ):
            name, token = await suspended(client)
            await asyncio.wait_for(scheduler.waits.get(), 10)
            body = {"operation": name, "resumeToken": token, "reason": reason}
            answer = await http.post("/lro/resume", json=body)
            assert (answer.status_code, answer.json()) == (200, {"resumed": False})
            again = await asyncio.wait_for(scheduler.waits.get(), 10)
            assert (again.name, again.wait.token) == (name, token)
            await clock.advance(3600)
            assert (await http.post("/lro/resume", json=body)).json() == {"resumed": True}
            woken, _ = await client.unmarshal_operation(name, struct_pb2.Struct)
            assert woken is not None
            assert woken["reason"] == ("ELAPSED" if reason == "STEP_BUDGET" else reason)
            assert (await http.post("/lro/resume", json=body)).json() == {"resumed": False}

    async def test_step_budget_resumes_with_the_reason_that_is_true(
        self, make_app: Make, http_to: HttpTo, gates: Any
    ) -> None:
        registry = lro.Handlers()

        @registry.handler("waits", state=list[str], resume_points=("done",))
        async def waits(op: lro.Operation[list[str]]) -> lro.Suspended | struct_pb2.Struct:
            if not op.resume_point:
                return op.suspend(resume_at="done", children=op.state, timeout=3600)
            woken = struct_pb2.Struct()
            woken["reason"] = str(op.wake_reason)
            return woken

        scheduler = RemoteScheduler()
        clock = ManualClock()
        async with (
            lro.Client("sqlite://", handlers=[registry], scheduler=scheduler, dispatch="local", clock=clock) as client,
            http_to(make_app(client)) as http,
        ):
            child = await client.create(lease=False)
            waiting = [await suspended(client, "waits", [child.name]) for _ in range(2)]

            async def resumed(name: str, token: str) -> Any:
                body = {"operation": name, "resumeToken": token, "reason": "STEP_BUDGET"}
                return (await http.post("/lro/resume", json=body)).json()["resumed"]

            async def reason_of_wake(name: str) -> Any:
                woken, _ = await client.unmarshal_operation(name, struct_pb2.Struct)
                assert woken is not None
                return woken["reason"]

            assert await resumed(*waiting[0]) is False
            await clock.advance(3600)
            assert await resumed(*waiting[0]) is True
            assert await reason_of_wake(waiting[0][0]) == "CHILDREN_TIMEOUT"
            await child.done()
            assert await resumed(*waiting[1]) is True
            assert await reason_of_wake(waiting[1][0]) == "CHILDREN_DONE"

    async def test_names_that_the_row_does_not_wait_for_are_not_kept(self, make_app: Make, http_to: HttpTo) -> None:
        """A body holds ten thousand of them, and the row would."""
        registry, told = lro.Handlers(), []

        @registry.handler("waits", state=list[str], resume_points=("done",))
        async def waits(op: lro.Operation[list[str]]) -> lro.Suspended | None:
            if not op.resume_point:
                return op.suspend(resume_at="done", children=op.state, timeout=3600)
            record = op.record.wake
            told.append(() if record is None else record.pending)
            return None

        async with (
            lro.Client("sqlite://", handlers=[registry], scheduler=RemoteScheduler(), dispatch="local") as client,
            http_to(make_app(client)) as http,
        ):
            child = await client.create(lease=False)
            name, token = await suspended(client, "waits", [child.name])
            body = {"operation": name, "resumeToken": token, "reason": "CHILDREN_TIMEOUT"}
            body["pending"] = [child.name, *(f"operations/other-{n}" for n in range(10_000))]  # type: ignore[assignment]
            assert (await http.post("/lro/resume", json=body)).json() == {"resumed": True}
        assert told == [(child.name,)]


class TestPoll:
    @pytest.fixture
    def services(self) -> dict[str, Any]:
        return {"billing": Billing()}

    @pytest_asyncio.fixture
    async def waiting(self, services: dict[str, Any]) -> AsyncIterator[tuple[lro.Client, Any]]:
        """A client, and a function that starts an operation that waits for the names."""
        registry = lro.Handlers()

        @registry.handler("waits", state=list[str], resume_points=("done",))
        async def waits(op: lro.Operation[list[str]]) -> lro.Suspended | None:
            if op.resume_point:
                return None
            service = "billing" if op.state[0].startswith("bills") else None
            return op.suspend(resume_at="done", children=op.state, service=service, timeout=3600, poll_interval=3000)

        async with lro.Client("sqlite://", handlers=[registry], services=services, drain_timeout=0) as client:
            yield client, lambda names: suspended(client, "waits", names)

    async def test_pending_are_those_that_have_not_ended_in_the_rows_order(
        self, waiting: Any, make_app: Make, http_to: HttpTo
    ) -> None:
        client, wait_for = waiting
        a, b, c = [await client.create() for _ in range(3)]
        name, token = await wait_for([a.name, b.name, c.name])
        await b.done()
        async with http_to(make_app(client)) as http:

            async def pending(**more: Any) -> Any:
                answer = await http.post("/lro/poll", json={"operation": name, "resumeToken": token, **more})
                assert answer.status_code == 200
                return answer.json()

            assert await pending() == {"pending": [a.name, c.name]}
            assert await pending(operations=[c.name, b.name, a.name]) == {"pending": [a.name, c.name]}
            assert await pending(operations=[c.name, "operations/not-waited-for"]) == {"pending": [c.name]}
            assert await pending(operations=[]) == {"pending": []}
            await c.delete()
            assert await pending() == {"pending": [a.name]}

    async def test_answer_names_500_at_most(self, waiting: Any, make_app: Make, http_to: HttpTo) -> None:
        client, wait_for = waiting
        children = [op.name for op in await asyncio.gather(*(client.create(lease=False) for _ in range(501)))]
        name, token = await wait_for(children)
        async with http_to(make_app(client)) as http:
            answer = await http.post("/lro/poll", json={"operation": name, "resumeToken": token})
        assert answer.json() == {"pending": children[:500]}

    async def test_answer_is_bounded_by_its_bytes_too(self, waiting: Any, make_app: Make, http_to: HttpTo) -> None:
        """500 names of 500 bytes, held twice, would be all that a workflow execution can hold."""
        client, wait_for = waiting
        parent = "x" * 370
        made = [client.create(operation_id="y" * 100 + f"{n:03}", parent=parent, lease=False) for n in range(100)]
        children = [op.name for op in await asyncio.gather(*made)]
        name, token = await wait_for(children)
        async with http_to(make_app(client)) as http:
            answer = await http.post("/lro/poll", json={"operation": name, "resumeToken": token})
        pending = answer.json()["pending"]
        assert pending == children[: len(pending)]
        assert 31 * 1024 < len(answer.content) < 32 * 1024 + 100

    async def test_one_name_is_always_told(self) -> None:
        """Nothing pending would mean that the wait is over."""
        assert _first(["x" * MAX_PENDING_BYTES, "y"]) == ["x" * MAX_PENDING_BYTES]
        assert _first([]) == []

    async def test_nothing_is_pending_for_a_wait_that_is_over(
        self, waiting: Any, make_app: Make, http_to: HttpTo
    ) -> None:
        client, wait_for = waiting
        child = await client.create()
        name, token = await wait_for([child.name])
        async with http_to(make_app(client)) as http:
            for operation, of in ((name, "another"), ("operations/none", token), ("no name", token)):
                body = {"operation": operation, "resumeToken": of, "operations": [child.name]}
                assert (await http.post("/lro/poll", json=body)).json() == {"pending": []}
            await client.cancel_operation(name)
            answer = await http.post("/lro/poll", json={"operation": name, "resumeToken": token})
            assert answer.json() == {"pending": []}

    async def test_children_of_a_foreign_service_are_asked_there(
        self, waiting: Any, services: dict[str, Any], make_app: Make, http_to: HttpTo
    ) -> None:
        client, wait_for = waiting
        name, token = await wait_for(["bills/operations/a", "bills/operations/b"])
        services["billing"].done.add("bills/operations/a")
        async with http_to(make_app(client)) as http:
            body = {"operation": name, "resumeToken": token}
            assert (await http.post("/lro/poll", json=body)).json() == {"pending": ["bills/operations/b"]}
            services["billing"].broken = True
            answer = await http.post("/lro/poll", json=body)
            assert (answer.status_code, "secret" in answer.text) == (503, False)


class Billing:
    def __init__(self) -> None:
        self.done: set[str] = set()
        self.broken = False

    async def get_operation(self, name: str) -> operations_pb2.Operation:
        if self.broken:
            raise ConnectionError("secret address")
        return operations_pb2.Operation(name=name, done=name in self.done)


class TestSweep:
    async def test_repairs_what_is_due(self, handlers: lro.Handlers, make_app: Make, http_to: HttpTo) -> None:
        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client, http_to(make_app(client)) as http:
            before = store.calls["look"]
            answer = await http.post("/lro/sweep")
            assert (answer.status_code, answer.json()) == (200, {})
            assert store.calls["look"] > before
            store.fail("due")
            store.fail("purge")
            assert (await http.post("/lro/sweep", json={})).status_code == 503


class TestAsgi:
    async def test_mounted_in_another_application(self, client: lro.Client, http_to: HttpTo) -> None:
        app = Starlette(routes=[Mount("/internal", ResumeApp(client, allow_unverified))])
        async with http_to(app) as http:
            assert (await http.post("/internal/lro/sweep")).status_code == 200
            assert (await http.post("/internal/sweep")).status_code == 404

    async def test_another_prefix(self, client: lro.Client, http_to: HttpTo) -> None:
        async with http_to(ResumeApp(client, allow_unverified, prefix="/tasks/")) as http:
            assert (await http.post("/tasks/sweep")).status_code == 200
            assert (await http.post("/lro/sweep")).status_code == 404

    async def test_served_by_uvicorn(self, client: lro.Client, serve_http: Callable[[Any], Any], gates: Any) -> None:
        gates.go.set()
        name, token = await suspended(client)
        async with serve_http(ResumeApp(client, allow_unverified)) as http:
            answer = await http.post("/lro/resume", json={"operation": name, "resumeToken": token})
            assert answer.json() == {"resumed": True}
            assert (await http.get("/lro/resume")).status_code == 405
        assert (await client.get_operation(name)).done

    async def test_websockets_are_closed(self, client: lro.Client) -> None:
        sent = await _post(ResumeApp(client, allow_unverified), "/lro/resume", b"", type="websocket")
        assert sent == [{"type": "websocket.close", "code": 1008}]
