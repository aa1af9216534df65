"""``op.wait``, and operations of foreign services, waited for and suspended on."""

import asyncio
import datetime
from datetime import timedelta

import pytest
from google.longrunning import operations_pb2

import lro_aio as lro
from lro_aio.core.errors import OperationNotFoundError


class Billing:
    """A foreign service: operations that a test ends, and failures that it asks for."""

    def __init__(self):
        self.ended = set()
        self.polls = []
        self.failures = []
        self.hang = False

    async def get_operation(self, name):
        self.polls.append(name)
        if self.hang:
            await asyncio.Event().wait()
        if self.failures:
            raise self.failures.pop()
        if name.endswith("nobody"):
            raise OperationNotFoundError(name)
        return operations_pb2.Operation(name=name, done=name in self.ended)


class Stub:
    """The same as a gRPC stub has it."""

    def __init__(self, service):
        self.service = service

    async def GetOperation(self, request):
        return await self.service.get_operation(request.name)


@pytest.fixture
def billing():
    return Billing()


@pytest.fixture(params=["service", "stub"])
def service(request, billing):
    return billing if request.param == "service" else Stub(billing)


@pytest.fixture
def foreign(open_client, store, service):
    async def make(**options):
        client = await open_client(store, services={"billing": service}, **options)
        wakes = []

        @client.handler("invoice", state=dict, resume_points=("paid",))
        async def invoice(op):
            if op.resume_point == "":
                return op.suspend(resume_at="paid", service="billing", **op.state)
            wakes.append((client.clock.time(), op.wake_reason, [(c.name, c.done, c.error.code) for c in op.children]))
            return None

        return client, wakes

    return make


@pytest.mark.asyncio
async def test_wait_sleeps_first_and_returns_the_children_in_order(client, lro_clock):
    me, one, two = [await client.create() for _ in range(3)]
    waiting = asyncio.create_task(me.wait(sleep=timedelta(seconds=10), children=[two.name, one.name, two.name]))
    await one.done()
    await lro_clock.advance(11)
    assert not waiting.done()
    await two.fail("no")
    await lro_clock.advance(0)
    assert [(child.name, child.done, child.error.message) for child in await waiting] == [
        (two.name, True, "no"),
        (one.name, True, ""),
        (two.name, True, "no"),
    ]


@pytest.mark.asyncio
async def test_wait_that_only_sleeps_returns_no_children(client, lro_clock):
    op = await client.create()
    waiting = asyncio.create_task(op.wait(sleep=10))
    await lro_clock.advance(9)
    assert not waiting.done()
    await lro_clock.advance(1)
    assert await waiting == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"sleep": 0},
        {"sleep": datetime.timedelta(0)},
        {"children": []},
        {"children": [], "sleep": 0},
        {"children": [], "timeout": 0},
        {"children": [], "service": "billing"},
    ],
    ids=str,
)
@pytest.mark.asyncio
async def test_a_wait_for_nothing_returns_at_once_and_lets_others_run(open_client, client, arguments):
    waiting = await open_client("sqlite://", services={"billing": client})
    op, turns = await waiting.create(), []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    assert await op.wait(**arguments) == []
    assert turns


@pytest.mark.asyncio
async def test_a_missing_child_is_done_with_not_found(client):
    op = await client.create()
    (child,) = await op.wait(children=["operations/nobody"])
    assert (child.name, child.done, child.error.code) == ("operations/nobody", True, lro.Code.NOT_FOUND)


@pytest.mark.asyncio
async def test_the_timeout_of_wait_starts_after_the_sleep_and_its_error_tells_all(client, lro_clock):
    me, one, two = [await client.create() for _ in range(3)]
    waiting = asyncio.create_task(me.wait(sleep=100, children=[one.name, two.name], timeout=50))
    await one.done()
    await lro_clock.advance(149)
    assert not waiting.done()
    await lro_clock.advance(1)
    with pytest.raises(lro.WaitDeadlineExceededError, match="waited 50 s; 1 operation") as caught:
        await waiting
    assert caught.value.timeout == 50
    assert caught.value.pending == (two.name,)
    assert [(op.name, op.done) for op in caught.value.finished] == [(one.name, True)]


@pytest.mark.asyncio
async def test_the_default_timeout_is_420_seconds_and_none_is_for_ever(client, lro_clock):
    me, child = await client.create(), await client.create()
    waiting = asyncio.create_task(me.wait(children=[child.name]))
    patient = asyncio.create_task(me.wait(children=[child.name], timeout=None))
    await lro_clock.advance(419)
    assert not waiting.done()
    await lro_clock.advance(1)
    with pytest.raises(lro.WaitDeadlineExceededError):
        await waiting
    await lro_clock.advance(86400)
    assert not patient.done()
    await child.done()
    assert len(await patient) == 1


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, {}),
        (ValueError, {"sleep": -1}),
        (ValueError, {"children": ["operations/a"], "timeout": -1}),
        (ValueError, {"children": ["operations/a"], "poll_interval": 0}),
        (ValueError, {"children": ["operations/a"], "service": "nobody"}),
        (TypeError, {"children": ["operations/a"], "service": object()}),
        (TypeError, {"children": "operations/a"}),
        (TypeError, {"children": ""}),
        (ValueError, {"children": [], "service": "nobody"}),
        (lro.InvalidOperationNameError, {"children": ["a"]}),
    ],
)
@pytest.mark.asyncio
async def test_bad_arguments_of_wait_are_refused(client, error, arguments):
    op = await client.create()
    with pytest.raises(error):
        await op.wait(**arguments)


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.asyncio
async def test_wait_takes_a_foreign_service_by_name_or_as_an_object(foreign, billing, service, lro_clock, by_name):
    client, _ = await foreign()
    op = await client.create()
    given = "billing" if by_name else service
    waiting = asyncio.create_task(
        op.wait(children=["operations/b", "operations/nobody"], service=given, poll_interval=7)
    )
    await lro_clock.advance(20)
    assert len(billing.polls) == 4, "a look at both, then one every 7 s at the one that is pending"
    billing.ended.add("operations/b")
    await lro_clock.advance(2)
    assert [(c.done, c.error.code) for c in await waiting] == [(True, 0), (True, lro.Code.NOT_FOUND)]


@pytest.mark.asyncio
async def test_a_failing_foreign_service_is_asked_again_until_the_timeout(foreign, billing, lro_clock):
    client, _ = await foreign()
    op = await client.create()
    billing.failures = [OSError("down"), OSError("down")]
    waiting = asyncio.create_task(op.wait(children=["operations/b"], service="billing", timeout=10))
    await lro_clock.advance(6)
    assert not billing.failures
    billing.failures = [OSError("down for good")] * 10
    await lro_clock.advance(4)
    with pytest.raises(lro.WaitDeadlineExceededError) as caught:
        await waiting
    assert caught.value.pending == ("operations/b",)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.asyncio
async def test_a_foreign_service_that_never_answers_does_not_outlast_the_timeout(foreign, billing, lro_clock):
    client, _ = await foreign()
    op = await client.create()
    billing.hang = True
    waiting = asyncio.create_task(op.wait(children=["operations/b"], service="billing", timeout=10))
    await lro_clock.advance(10)
    with pytest.raises(lro.WaitDeadlineExceededError):
        await asyncio.wait_for(waiting, 5)


@pytest.mark.asyncio
async def test_suspend_polls_a_foreign_service_at_its_interval(foreign, billing, lro_clock):
    client, wakes = await foreign()
    began = lro_clock.time()
    await client.start("invoice", {"children": ["operations/b"], "poll_interval": 10})
    await lro_clock.advance(25)
    assert len(billing.polls) == 3
    billing.ended.add("operations/b")
    await lro_clock.advance(10)
    assert wakes == [(began + 30, lro.WakeReason.CHILDREN_DONE, [("operations/b", True, 0)])]


@pytest.mark.asyncio
async def test_a_missing_foreign_child_is_done_with_not_found(foreign, lro_clock):
    client, wakes = await foreign()
    await client.start("invoice", {"children": ["operations/nobody"]})
    await lro_clock.advance(1)
    assert wakes[0][2] == [("operations/nobody", True, lro.Code.NOT_FOUND)]


@pytest.mark.asyncio
async def test_failing_polls_are_repeated_and_end_at_the_deadline(foreign, billing, lro_clock):
    client, wakes = await foreign()
    began = lro_clock.time()
    billing.failures = [OSError("down")] * 1000
    op = await client.start("invoice", {"children": ["operations/b"], "timeout": 60, "sleep": 5})
    await lro_clock.advance(66)
    assert len(billing.polls) > 10
    # The timeout bounds the wait although nobody can say how the child is: it comes back as not done.
    assert [(why, children) for _, why, children in wakes] == [
        (lro.WakeReason.CHILDREN_TIMEOUT, [("operations/b", False, 0)])
    ]
    assert wakes[0][0] >= began + 65
    assert (await op.fetch()).done


@pytest.mark.asyncio
async def test_a_hanging_foreign_service_holds_up_nobody_else(foreign, billing, lro_clock):
    client, _wakes = await foreign()
    woken = []

    @client.handler("own", state=list[str], resume_points=("on",))
    async def own(op):
        if op.resume_point == "":
            return op.suspend(resume_at="on", children=op.state)
        woken.append(op.wake_reason)
        return None

    billing.hang = True
    await client.start("invoice", {"children": ["operations/b"], "timeout": 30})
    await lro_clock.advance(5)
    child = await client.create()
    op = await client.start("own", [child.name])
    await lro_clock.advance(5)
    await child.done()
    await lro_clock.advance(1)
    assert woken == [lro.WakeReason.CHILDREN_DONE]
    await lro_clock.advance(60)
    nap = await client.start("own", [child.name])
    await lro_clock.advance(1)
    assert (await op.fetch()).done
    assert (await nap.fetch()).done


@pytest.mark.asyncio
async def test_a_cancelled_operations_foreign_children_are_polled_no_more(foreign, billing, lro_clock):
    client, _ = await foreign()
    op = await client.start("invoice", {"children": ["operations/b"]})
    await lro_clock.advance(5)
    await op.cancel()
    before = len(billing.polls)
    await lro_clock.advance(60)
    assert len(billing.polls) == before


@pytest.mark.asyncio
async def test_a_wait_on_a_service_that_is_not_known_here_is_left_to_a_process_that_has_it(
    open_client, tmp_path, lro_clock, billing
):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()
    wakes = []

    @handlers.handler("invoice", resume_points=("paid",))
    async def invoice(op):
        if op.resume_point == "":
            return op.suspend(resume_at="paid", service="billing", children=["operations/b"])
        wakes.append(op.wake_reason)
        return None

    @handlers.handler("nap", resume_points=("on",))
    async def nap(op):
        return op.suspend(resume_at="on", sleep=100) if op.resume_point == "" else None

    first = await open_client(url, handlers=[handlers], services={"billing": billing})
    op = await first.start("invoice")
    await lro_clock.advance(1)
    await first.aclose()
    billing.ended.add("operations/b")
    other = await open_client(url, handlers=[handlers])
    slept = await other.start("nap")
    await lro_clock.advance(200)
    assert not wakes
    assert (await slept.fetch()).done
    await open_client(url, handlers=[handlers], services={"billing": billing})
    for _ in range(20):
        await lro_clock.advance(10)
    assert (await other.get_operation(op.name)).done
    assert wakes == [lro.WakeReason.CHILDREN_DONE]


@pytest.mark.asyncio
async def test_rows_whose_service_is_unknown_here_starve_nobody(open_client, tmp_path, lro_clock, billing):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()

    @handlers.handler("invoice", resume_points=("paid",))
    async def invoice(op):
        return op.suspend(resume_at="paid", service="billing", children=["operations/b"])

    @handlers.handler("nap", resume_points=("on",))
    async def nap(op):
        return op.suspend(resume_at="on", sleep=100) if op.resume_point == "" else None

    first = await open_client(url, handlers=[handlers], services={"billing": billing})
    for _ in range(20):
        await first.start("invoice")
    await lro_clock.advance(1)
    await first.aclose()
    other = await open_client(url, handlers=[handlers], sweep=lro.SweepPolicy(batch=10))
    await lro_clock.advance(60)
    slept = await other.start("nap")
    await lro_clock.advance(130)
    assert (await slept.fetch()).done


@pytest.mark.asyncio
async def test_a_child_that_the_service_answers_under_its_canonical_name_has_ended(foreign, billing, lro_clock):
    """A service may be asked by a project's id and answer with its number."""
    client, wakes = await foreign()

    async def canonical(name):
        return operations_pb2.Operation(name=name.replace("projects/id/", "projects/17/"), done=True)

    billing.get_operation = canonical
    await client.start("invoice", {"children": ["projects/id/operations/b"]})
    await lro_clock.advance(10)
    assert [(why, children) for _, why, children in wakes] == [
        (lro.WakeReason.CHILDREN_DONE, [("projects/17/operations/b", True, 0)])
    ]
