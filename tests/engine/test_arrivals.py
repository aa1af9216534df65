"""A wake-up that comes before what it is for, or that leaves it to the engine to see what is true."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.core.errors import StoreUnavailableError, WorkerUnavailableError

DAY = 86400.0


class Elsewhere:
    """A scheduler that notes what it is given, and never wakes anybody."""

    local = False
    horizon = 6 * 3600.0

    def __init__(self):
        self.taken = []

    async def open(self, host):
        pass

    async def close(self):
        pass

    async def schedule(self, record):
        self.taken.append((record.handover, record.schedule_handle))
        return f"wait-{len(self.taken)}"

    async def cancel(self, record):
        pass


@pytest.fixture
def elsewhere():
    return Elsewhere()


@pytest.fixture
def wakes():
    return []


@pytest.fixture
def start(elsewhere, wakes, lro_clock):
    """An operation that has suspended with these arguments, and its client."""

    async def make(**wait):
        services = wait.pop("services", None)
        client = lro.Client(
            "sqlite://",
            scheduler=elsewhere,
            dispatch="local",
            clock=lro_clock,
            drain_timeout=0,
            services=services,
        )

        @client.handler("waiter", resume_points=("on",))
        async def waiter(op):
            if op.resume_point == "":
                return op.suspend(resume_at="on", **wait)
            wakes.append((op.wake_reason, [child.name for child in op.children if not child.done]))
            return None

        await client.__aenter__()
        await client.engine.sweeper.stop()  # it would hand over again what is due, before the hand-over is noted
        if "children" in wait:
            wait["children"] = [
                (await client.create(lease=False)).name if child is None else child for child in wait["children"]
            ]
        op = await client.start("waiter")
        await lro_clock.settle()
        record = await client.server_host.record(op.name)
        return client, op, record

    return make


async def arrive(client, record, reason=None, **options):
    run = await client.engine.dispatcher.resume(
        record.name, record.wait.token, reason=reason, **{"early": False, **options}
    )
    if run is not None:
        await run.ended()
    return run is not None


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", [None, lro.WakeReason.ELAPSED, lro.WakeReason.CHILDREN_DONE])
async def test_who_comes_before_the_end_of_the_sleep_is_sent_on(start, elsewhere, wakes, lro_clock, reason):
    """Handed over again, as a new wait: what brought it is about to end."""
    client, _, record = await start(sleep=100 * DAY)
    await lro_clock.advance(29 * DAY)
    assert not await arrive(client, record, reason)
    assert not wakes
    assert elsewhere.taken[-1] == (len(elsewhere.taken) - 1, "")
    now = await client.server_host.record(record.name)
    assert (now.state, now.handover, now.wait.token) == (record.state, len(elsewhere.taken), record.wait.token)
    await lro_clock.advance(71 * DAY)
    assert await arrive(client, now, reason)
    assert [why for why, _ in wakes] == [lro.WakeReason.ELAPSED if reason is None else reason]
    await client.aclose()


@pytest.mark.asyncio
async def test_a_few_seconds_are_sat_out(start, elsewhere, wakes, lro_clock):
    """The scheduler's clock is a little ahead: no new wait for that, and nobody runs early."""
    client, _, record = await start(sleep=100)
    await lro_clock.advance(97)
    before = len(elsewhere.taken)
    arriving = asyncio.create_task(arrive(client, record, lro.WakeReason.ELAPSED))
    await lro_clock.settle()
    assert not wakes
    assert not arriving.done()
    await lro_clock.advance(3)
    assert await arriving
    assert len(elsewhere.taken) == before
    await client.aclose()


@pytest.mark.asyncio
async def test_whoever_resumes_by_hand_wakes_at_once(start, wakes, lro_clock):
    client, _, record = await start(sleep=100 * DAY)
    assert await client.resume(record.name, record.wait.token)
    await lro_clock.settle()
    assert [why for why, _ in wakes] == [lro.WakeReason.ELAPSED]
    await client.aclose()


@pytest.mark.asyncio
async def test_the_engine_sees_by_itself_what_is_true_of_the_children(start, elsewhere, wakes, lro_clock):
    """Pending: sent on. Ended: CHILDREN_DONE. At the deadline: CHILDREN_TIMEOUT, with those that are pending."""
    client, _, record = await start(children=[None, None], timeout=50)
    first, second = record.wait.children
    await lro_clock.advance(10)
    await (await client.operation(first)).done()
    assert not await arrive(client, record)
    assert elsewhere.taken[-1][1] == ""
    await lro_clock.advance(40)
    assert await arrive(client, await client.server_host.record(record.name))
    assert wakes == [(lro.WakeReason.CHILDREN_TIMEOUT, [second])]
    await client.aclose()


@pytest.mark.asyncio
async def test_children_that_have_ended_wake_it(start, wakes, lro_clock):
    client, _, record = await start(children=[None, "operations/nobody"])
    await (await client.operation(record.wait.children[0])).fail("no")
    assert await arrive(client, record)
    assert wakes == [(lro.WakeReason.CHILDREN_DONE, [])]
    await client.aclose()


@pytest.mark.asyncio
async def test_an_old_token_is_nothing_to_do(start, elsewhere, wakes, lro_clock):
    client, op, record = await start(sleep=10)
    await lro_clock.advance(10)
    assert await arrive(client, record)
    before = len(elsewhere.taken)
    assert not await arrive(client, record)
    assert len(wakes) == 1
    assert len(elsewhere.taken) == before
    assert (await op.fetch()).done
    await client.aclose()


@pytest.mark.asyncio
async def test_a_hand_over_that_is_not_noted_yet_is_waited_for(start, elsewhere, wakes, lro_clock):
    """The scheduler was faster than the note: a new hand-over would carry the old one's number, and be taken for it."""
    client, _, record = await start(sleep=100 * DAY)
    noted = (await client.server_host.record(record.name)).handover
    with pytest.raises(WorkerUnavailableError, match="not noted yet"):
        await arrive(client, record, visit=noted)
    assert not await arrive(client, record, visit=noted - 1)
    await client.aclose()


@pytest.mark.asyncio
async def test_a_service_that_does_not_answer_is_asked_again_until_the_deadline(start, wakes, lro_clock):
    class Broken:
        async def get_operation(self, name):
            raise OSError("down")

    client, _, record = await start(
        children=["operations/x"], timeout=50, service="billing", services={"billing": Broken()}
    )
    with pytest.raises(StoreUnavailableError, match="billing"):
        await arrive(client, record)
    assert not wakes
    await lro_clock.advance(50)
    assert await arrive(client, record)
    assert wakes == [(lro.WakeReason.CHILDREN_TIMEOUT, ["operations/x"])]
    await client.aclose()


@pytest.mark.asyncio
async def test_the_handler_never_sees_that_nobody_knew(start, wakes, lro_clock):
    """``reason=None`` of the public method."""
    client, _, record = await start(sleep=10)
    assert not await client.resume(record.name, record.wait.token, reason=None)
    await lro_clock.advance(10)
    assert await client.resume(record.name, record.wait.token, reason=None)
    await lro_clock.settle()
    assert wakes == [(lro.WakeReason.ELAPSED, [])]
    await client.aclose()


@pytest.mark.asyncio
async def test_a_scheduler_is_not_believed_that_the_children_have_ended(start, elsewhere, wakes, lro_clock, caplog):
    client, _, record = await start(children=[None, None], timeout=1000)
    first, second = record.wait.children
    await (await client.operation(first)).done()
    assert await arrive(client, record, lro.WakeReason.CHILDREN_DONE)
    now = await client.server_host.record(record.name)
    assert (now.state, now.wait.children, now.wait.deadline) == (
        "SUSPENDED",
        record.wait.children,
        record.wait.deadline,
    )
    assert now.wait.token != record.wait.token
    assert now.wait.sleep_until == lro_clock.time() + now.wait.poll_interval
    assert (wakes, len(elsewhere.taken)) == ([], 2)
    assert [entry.event for entry in caplog.records] == ["woken_early"]
    await (await client.operation(second)).done()
    await lro_clock.advance(10)
    assert await arrive(client, now, lro.WakeReason.CHILDREN_DONE)
    assert wakes == [(lro.WakeReason.CHILDREN_DONE, [])]
    await client.aclose()
