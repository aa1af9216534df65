"""Suspects run one at a time, when everything else has run for long enough; others are not held up for long."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.errors import WorkerUnavailableError
from lro_aio.core.record import Record, State
from lro_aio.engine.slots import Slots
from lro_aio.engine.trials import Trials


@pytest.fixture
def slots(lro_clock):
    slots = Slots(4, lro_clock.monotonic)
    trials = Trials(slots, lro_clock)
    slots.trials = trials
    slots.on_free(lambda: None, lambda: None, trials.look)
    return slots


def row(name):
    return Record(name=name, uid=name, state=State.RUNNING, create_time=0.0, update_time=0.0, handler="h")


def run(slots, name):
    slots.begin_claim(name)
    slots.end_claim(name, row(name))


def turn(slots, name, most=1, length=10.0):
    return asyncio.create_task(slots.trials.turn(name, length=length, most=most))


async def step(clock, seconds=0.0):
    await clock.advance(seconds)
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_an_empty_process_gives_the_turn_at_once_and_claims_nothing_else(slots, lro_clock):
    suspect = turn(slots, "a")
    await step(lro_clock)
    assert suspect.done()
    run(slots, "a")
    assert slots.free == 0
    assert slots.expects("a")
    slots.trials.over("a")
    assert slots.free == 3
    assert not slots.expects("a")


@pytest.mark.asyncio
async def test_the_turn_comes_when_all_others_have_run_for_as_long_as_the_trial(slots, lro_clock):
    run(slots, "old")
    await step(lro_clock, 6)
    run(slots, "young")
    suspect = turn(slots, "a")
    await step(lro_clock, 9)
    assert not suspect.done()
    assert slots.free == 0, "else the youngest would never be old enough"
    await step(lro_clock, 1)
    assert suspect.done()


@pytest.mark.asyncio
async def test_the_turn_comes_at_once_when_the_young_have_ended(slots, lro_clock):
    run(slots, "young")
    suspect = turn(slots, "a")
    await step(lro_clock)
    assert not suspect.done()
    slots.clear(row("young"))
    await step(lro_clock)
    assert suspect.done()


@pytest.mark.asyncio
async def test_who_is_to_be_alone_comes_first_and_is_alone(slots, lro_clock):
    run(slots, "young")
    waiting = {name: turn(slots, name, most) for name, most in (("a", 2), ("b", 1), ("c", 1))}
    await step(lro_clock)
    await step(lro_clock, 10)
    order = []
    for _ in range(3):
        (name,) = [name for name, task in waiting.items() if task.done()]
        order.append(name)
        del waiting[name]
        slots.trials.over(name)
        await step(lro_clock)
    assert order == ["b", "c", "a"]


@pytest.mark.asyncio
async def test_as_many_as_may_share_a_trial_and_as_there_are_slots_get_their_turn_together(slots, lro_clock):
    run(slots, "old")
    await step(lro_clock, 60)
    waiting = {name: turn(slots, name, 16) for name in "abcde"}
    await step(lro_clock)
    first = [name for name, task in waiting.items() if task.done()]
    assert (first, [waiting[name].result() for name in first]) == (["a", "b", "c"], [3, 3, 3])
    for name in "ab":
        slots.trials.over(name)
    await step(lro_clock)
    assert not waiting["d"].done(), "one of them is still on trial"
    slots.trials.over("c")
    await step(lro_clock)
    assert waiting["d"].result() == waiting["e"].result() == 2


@pytest.mark.asyncio
async def test_what_waits_for_a_slot_comes_before_the_next_suspect(slots, lro_clock):
    claimed = []

    def fill():
        for record, _ in slots.take_waiting():
            claimed.append(record.name)
            slots.give_up(record.name)
            run(slots, record.name)

    slots.on_free(fill, lambda: None, slots.trials.look)
    first, second = turn(slots, "a"), turn(slots, "b")
    await step(lro_clock)
    assert (first.done(), second.done()) == (True, False)
    slots.wait(row("fresh"), None)
    slots.tell_free()
    assert claimed == []
    slots.trials.over("a")
    await step(lro_clock)
    assert claimed == ["fresh"]
    assert not second.done()
    await step(lro_clock, 10)
    assert second.done()


@pytest.mark.asyncio
async def test_what_needs_no_slot_waits_for_the_end_of_a_trial_and_not_for_a_slot(slots, lro_clock):
    for name in "bcd":
        run(slots, name)
    await step(lro_clock, 10)
    suspect = turn(slots, "a")
    await step(lro_clock)
    assert suspect.done()
    run(slots, "a")
    slots.wait(row("fresh"), None)
    slots.wait(row("schedule"), None, light=True)
    assert slots.take_waiting() == []
    slots.trials.over("a")
    assert slots.free == 0
    assert [record.name for record, _ in slots.take_waiting()] == ["schedule"]
    assert slots.waits("fresh")


@pytest.mark.asyncio
async def test_the_turn_comes_when_what_was_about_to_be_claimed_waits_again(slots, lro_clock):
    """It had a slot, the suspect came before its claim was sent, and took the slot back."""
    slots.wait(row("fresh"), None)
    slots.take_waiting()
    suspect = turn(slots, "a")
    await step(lro_clock)
    assert not suspect.done()
    slots.give_up("fresh")
    assert not slots.has_free()
    slots.wait(row("fresh"), None)
    await step(lro_clock)
    assert suspect.done()


@pytest.mark.asyncio
async def test_nobody_gets_a_turn_when_the_process_shuts_down(slots, lro_clock):
    run(slots, "young")
    suspect = turn(slots, "a")
    await step(lro_clock)
    slots.close()
    slots.trials.close()
    with pytest.raises(WorkerUnavailableError):
        await suspect
    with pytest.raises(WorkerUnavailableError):
        await slots.trials.turn("b", length=1.0, most=1)
    assert not slots.suspects


@pytest.mark.asyncio
async def test_a_suspect_whose_handler_asks_for_a_retry_runs_again(client, store, lro_clock):
    """It waits for its time, as one that is no suspect, and then for its turn."""

    @client.handler("flaky")
    async def flaky(op):
        if not op.retries:
            raise lro.RetryLater("later", after=10)

    op = await client.start("flaky")
    await lro_clock.settle()
    store.inner.apply([Change(op.name, lambda row: row.evolve(attempt=2))])  # as after two crashes before
    await lro_clock.advance(11)
    assert (await client.get_operation(op.name)).done
