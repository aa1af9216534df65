"""``lro.wait_operation`` and ``op.wait(service=)`` with services that fail, hang, and name operations as they like."""

import asyncio
import logging

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

import lro_aio as lro
from lro_aio.engine import remote_polls

NAME = "projects/p/instances/i/databases/d/operations/_auto_12345"  # as Spanner itself names its operations


class Service:
    """Raises what is queued, one for each poll; then the operation runs, or has ended."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.polls = []
        self.done = False
        self.hangs = False

    async def get_operation(self, name):
        self.polls.append(name)
        if self.hangs:
            await asyncio.Event().wait()
        if self.failures:
            raise self.failures.pop(0)
        return operations_pb2.Operation(name=name, done=self.done)


class Stub:
    """The same as a gRPC stub has it."""

    def __init__(self, service):
        self._service = service

    async def GetOperation(self, request):
        return await self._service.get_operation(request.name)


@pytest.fixture(autouse=True)
def _settled(lro_clock):
    """Without a client, nobody else lets the waits of these tests get on before time moves."""

    async def settle():
        for _ in range(20):
            await asyncio.sleep(0)

    detach = lro_clock.attach(settle)
    yield
    detach()


def grpc_error(code, details=""):
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode[code], nothing, nothing, details)


def failed_polls(caplog):
    return [(record.operation, record.getMessage()) for record in caplog.records if record.event == "poll_failed"]


@pytest.mark.parametrize(
    "failure",
    [
        *(
            grpc_error(code)
            for code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN")
        ),
        grpc_error("UNIMPLEMENTED", "Received http2 header with status: 404"),  # an ingress during a deploy
        ConnectionResetError("cut"),
        TimeoutError(),
        lro.StoreUnavailableError("locked"),
        lro.RemoteCallError("operations/a", "busy", transient=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [Service, Stub])
@pytest.mark.asyncio
async def test_a_failure_that_may_pass_is_logged_and_the_poll_repeated(lro_clock, caplog, failure, kind):
    service = Service(failure, failure)
    service.done = True
    waiting = asyncio.create_task(
        lro.wait_operation(NAME, service if kind is Service else Stub(service), clock=lro_clock)
    )
    await lro_clock.advance(10)
    assert (await waiting).done
    assert service.polls == [NAME] * 3
    assert [name for name, _ in failed_polls(caplog)] == [NAME] * 2


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (grpc_error("PERMISSION_DENIED", "not yours"), lro.RemoteCallError),
        (grpc_error("UNIMPLEMENTED", "no such method"), lro.RemoteCallError),
        (grpc_error("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 4)"), lro.RemoteCallError),
        (grpc_error("NOT_FOUND", "long gone"), lro.OperationNotFoundError),
        (lro.RemoteCallError(NAME, "no", code=lro.Code.UNAUTHENTICATED), lro.RemoteCallError),
        (lro.InvalidOperationNameError(NAME), lro.InvalidOperationNameError),
        (TypeError("a defect"), TypeError),
        (KeyError("a defect"), KeyError),
    ],
    ids=repr,
)
@pytest.mark.asyncio
async def test_a_failure_that_will_not_pass_ends_the_wait_at_once(lro_clock, failure, raised):
    service = Service(*[failure] * 9)
    with pytest.raises(raised) as caught:
        await lro.wait_operation(NAME, service, clock=lro_clock)
    assert service.polls == [NAME]
    assert caught.value is failure or (caught.value.__cause__ is failure and failure.details() in str(caught.value))


@pytest.mark.asyncio
async def test_a_wait_that_runs_out_tells_the_last_failure(lro_clock, caplog):
    failure = grpc_error("UNAVAILABLE", "connection\nrefused")
    service = Service(*[failure] * 1000)
    waiting = asyncio.create_task(lro.wait_operation(NAME, service, 10, clock=lro_clock))
    await lro_clock.advance(10)
    with pytest.raises(
        lro.WaitDeadlineExceededError, match="last poll failed: UNAVAILABLE: connection refused"
    ) as caught:
        await waiting
    assert caught.value.__cause__ is failure
    assert caught.value.problem == "UNAVAILABLE: connection refused"
    assert caught.value.operation is None
    told = failed_polls(caplog)
    assert len(told) == len(service.polls)
    assert told[0] == (NAME, f"a poll of operation {NAME} failed: UNAVAILABLE: connection refused")


@pytest.mark.asyncio
async def test_a_failure_that_has_passed_is_not_told(lro_clock):
    service = Service(grpc_error("UNAVAILABLE"))
    waiting = asyncio.create_task(lro.wait_operation(NAME, service, 10, clock=lro_clock))
    await lro_clock.advance(10)
    with pytest.raises(lro.WaitDeadlineExceededError) as caught:
        await waiting
    assert (caught.value.problem, caught.value.__cause__) == ("", None)
    assert caught.value.operation == operations_pb2.Operation(name=NAME)


@pytest.mark.asyncio
async def test_a_service_that_wants_to_be_left_alone_is_until_the_time_is_up(lro_clock):
    service = Service(*[lro.StoreUnavailableError("locked", retry_after=30)] * 9)
    waiting = asyncio.create_task(lro.wait_operation(NAME, service, 77, clock=lro_clock))
    await lro_clock.advance(76)
    assert len(service.polls) == 3, "at 0, 30 and 60 s"
    await lro_clock.advance(1)
    with pytest.raises(lro.WaitDeadlineExceededError):
        await waiting
    assert len(service.polls) == 4, "and a last time at the end"


class TestHanging:
    @pytest.mark.asyncio
    async def test_the_timeout_holds_against_a_service_that_never_answers(self, lro_clock):
        service = Service()
        service.hangs = True
        waiting = asyncio.create_task(lro.wait_operation(NAME, service, 10, clock=lro_clock))
        await lro_clock.advance(10)
        with pytest.raises(lro.WaitDeadlineExceededError, match="no answer before the time was up"):
            await asyncio.wait_for(waiting, 5)
        assert len(service.polls) == 1

    @pytest.mark.parametrize("timeout", [0, 10])
    @pytest.mark.asyncio
    async def test_a_poll_that_begins_when_the_time_is_up_gets_a_moment(self, lro_clock, monkeypatch, timeout):
        monkeypatch.setattr(remote_polls, "LAST_POLL", 0.05)
        service = Service()
        waiting = asyncio.create_task(lro.wait_operation(NAME, service, timeout, clock=lro_clock))
        await lro_clock.advance(timeout - 0.1 if timeout else 0)
        service.hangs = True
        await lro_clock.advance(0.1)
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            await asyncio.wait_for(waiting, 5)
        if timeout:
            assert caught.value.problem == "DEADLINE_EXCEEDED: no answer within 0.05 s"

    @pytest.mark.asyncio
    async def test_one_call_takes_no_longer_than_its_limit(self, lro_clock, monkeypatch):
        monkeypatch.setattr(remote_polls.fetch, "__kwdefaults__", {"most": 0.05})
        monkeypatch.setattr(remote_polls, "CALL_TIMEOUT", 0.05)
        service = Service()
        service.hangs = True
        with pytest.raises(lro.RemoteCallError, match=r"no answer within 0\.05 s") as caught:
            await remote_polls.fetch(service, NAME)
        assert caught.value.transient

    @pytest.mark.asyncio
    async def test_cancelling_the_wait_is_no_failed_poll(self, lro_clock, caplog):
        service = Service()
        service.hangs = True
        waiting = asyncio.create_task(lro.wait_operation(NAME, service, clock=lro_clock))
        await lro_clock.advance(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert failed_polls(caplog) == []


@pytest.mark.asyncio
async def test_a_channel_that_is_closed_meanwhile_ends_the_wait_with_an_error_and_not_as_if_cancelled():
    """grpc.aio raises CancelledError then, though nobody cancelled the task."""

    class Servicer(operations_pb2_grpc.OperationsServicer):
        async def GetOperation(self, request, context):
            asked.set()
            await asyncio.Event().wait()

    asked = asyncio.Event()
    server = grpc.aio.server()
    operations_pb2_grpc.add_OperationsServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        waiting = asyncio.create_task(lro.wait_operation(NAME, operations_pb2_grpc.OperationsStub(channel), 20))
        await asyncio.wait_for(asked.wait(), 10)
        await channel.close()
        with pytest.raises(lro.RemoteCallError, match="cancelled in this process") as caught:
            await asyncio.wait_for(waiting, 10)
        assert caught.value.code is lro.Code.CANCELLED
    finally:
        await server.stop(None)


NAMES = [
    NAME,
    "operation-1700000000000-5f3c",  # Compute Engine
    "//spanner.googleapis.com/projects/p/operations/a",
    "/subscriptions/s/operations/1?api-version=2024-01-01",
    "operations/Ünïcode",
]
BAD_NAMES = ["", " ", "operations/a b", "operations/a\n", "operations/\x00", "operations/\udcff", "x" * 2049]


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.asyncio
    async def test_any_service_names_its_operations_as_it_likes(self, open_client, store, lro_clock, name):
        service = Service()
        service.done = True
        assert (await lro.wait_operation(name, service)).name == name
        client = await open_client(store, services={"billing": service})
        op = await client.create()
        assert [child.name for child in await op.wait(children=[name], service=service)] == [name]
        woken = []

        @client.handler("invoice", resume_points=("paid",))
        async def invoice(op):
            if op.resume_point == "":
                return op.suspend(resume_at="paid", service="billing", children=[name])
            woken.extend(op.children)
            return None

        await client.start("invoice")
        await lro_clock.advance(5)
        assert [(child.name, child.done) for child in woken] == [(name, True)]

    @pytest.mark.parametrize("name", BAD_NAMES)
    @pytest.mark.asyncio
    async def test_what_no_service_can_have_as_a_name_is_refused_before_it_is_asked(self, client, name):
        service = Service()
        with pytest.raises(lro.InvalidOperationNameError):
            await lro.wait_operation(name, service)
        op = await client.create()
        with pytest.raises(lro.InvalidOperationNameError):
            await op.wait(children=[name], service=service)
        assert service.polls == []

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.asyncio
    async def test_names_of_the_client_s_own_operations_keep_their_form(self, client, name):
        op = await client.create()
        with pytest.raises(lro.InvalidOperationNameError):
            await op.wait(children=[name])
        with pytest.raises(lro.InvalidOperationNameError):
            await lro.wait_operation(name, client)


class TestChildren:
    """``op.wait(children=..., service=...)``."""

    @pytest.mark.asyncio
    async def test_every_failed_poll_is_logged_and_the_last_one_told(self, client, lro_clock, caplog):
        failure = grpc_error("PERMISSION_DENIED", "not yours")
        service = Service(*[failure] * 100)
        op = await client.create()
        waiting = asyncio.create_task(op.wait(children=[NAME], service=service, timeout=10))
        await lro_clock.advance(10)
        with pytest.raises(
            lro.WaitDeadlineExceededError, match="last poll failed: PERMISSION_DENIED: not yours"
        ) as caught:
            await waiting
        assert caught.value.__cause__ is failure
        assert failed_polls(caplog) == [
            (NAME, f"a poll of operation {NAME} failed: PERMISSION_DENIED: not yours")
        ] * len(service.polls)

    @pytest.mark.asyncio
    async def test_one_that_fails_or_hangs_does_not_hide_that_another_has_ended(self, client, lro_clock):
        class Uneven(Service):
            async def get_operation(self, name):
                if name == "broken":
                    raise OSError("down")
                if name == "hangs":
                    await asyncio.Event().wait()
                return operations_pb2.Operation(name=name, done=True)

        op = await client.create()
        for bad, told in (("broken", "OSError: down"), ("hangs", "no answer before the time was up")):
            waiting = asyncio.create_task(op.wait(children=[bad, "fine"], service=Uneven(), timeout=10))
            await lro_clock.advance(10)
            with pytest.raises(lro.WaitDeadlineExceededError, match=told) as caught:
                await asyncio.wait_for(waiting, 5)
            assert caught.value.pending == (bad,)
            assert [operation.name for operation in caught.value.finished] == ["fine"]


def test_failed_polls_are_warnings(caplog):
    remote_polls.log_failed_poll("operations/a", OSError("down"))
    assert caplog.record_tuples == [
        ("lro_aio", logging.WARNING, "a poll of operation operations/a failed: OSError: down")
    ]
