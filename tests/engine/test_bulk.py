"""Bulk actions: what they select, that each operation is acted on once and in time, and that nothing ends them."""

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.stats import Count
from lro_aio.engine.handlers import OwnHandlers
from lro_aio.testing import FakeSpanner, FaultyStore

from .over_stores import ON_SPANNER

HANDLERS = lro.Handlers()
STARTED = []


@HANDLERS.handler(resume_points=("on",))
async def nap(op: lro.Operation[int]) -> lro.Suspended:
    return op.suspend(resume_at="on", sleep=10**6)


@HANDLERS.handler
async def fails(op: lro.Operation[int]) -> None:
    STARTED.append(op.state)
    raise lro.failures.NotFoundError("no file")


@pytest.fixture(params=["sqlite", ON_SPANNER])
def url(request, tmp_path):
    """A store that several clients share."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/o.db"
        return
    with FakeSpanner() as fake:
        yield fake.url


@pytest_asyncio.fixture
async def client(url, lro_clock):
    STARTED.clear()
    async with lro.Client(url, handlers=HANDLERS, clock=lro_clock, drain_timeout=0) as client:
        yield client


async def started(client, clock, handler, number):
    """So many operations, made a moment before what comes next."""
    made = [await client.start(handler, i) for i in range(number)]
    await clock.advance(1)
    return [op.name for op in made]


async def states(client, names):
    return [(await client.engine.rows.record(name)).state.value for name in names]


async def run(op, clock, seconds=60):
    """Let a bulk action come to its end."""
    for _ in range(seconds):
        if (await op.fetch()).done:
            break
        await clock.advance(1)
    return await op.result()


@pytest.mark.asyncio
async def test_without_force_nothing_is_done(client, lro_clock):
    names = await started(client, lro_clock, nap, 12)
    preview = await client.cancel_operations('handler = "nap"')
    assert isinstance(preview, lro.BulkPreview)
    assert (preview.verb, preview.count) == ("cancel", Count(12))
    assert len(preview.sample) == 10
    assert set(preview.sample) <= set(names)
    assert set(await states(client, names)) == {"SUSPENDED"}


@pytest.mark.asyncio
async def test_each_verb_acts_on_what_it_is_for(client, lro_clock):
    naps = await started(client, lro_clock, nap, 3)
    failed = await started(client, lro_clock, fails, 2)
    paused = await client.pause_operations("*", force=True, reason="the disk is full")
    assert await run(paused, lro_clock) == lro.BulkResult(done=3, skipped=0, failed=0)
    told = (await client.history(naps[0]))[-1]
    assert (told.kind, told.text) == ("PAUSED", f"the disk is full (by {paused.name})")
    assert (await client.unpause_operations("*")).count == Count(3)
    assert (await run(await client.unpause_operations("paused = true", force=True), lro_clock)).done == 3
    assert (await client.history(naps[0]))[-1].kind == "UNPAUSED"
    again = await client.rerun_operations("state = FAILED", force=True)
    assert (await run(again, lro_clock)).done == 2
    assert sorted(STARTED) == [0, 0, 1, 1]
    assert (await run(await client.cancel_operations('handler = "nap"', force=True), lro_clock)).done == 3
    assert set(await states(client, naps)) == {"CANCELLED"}
    asked = next(entry for entry in await client.history(naps[0]) if entry.kind == "CANCEL")
    assert asked.text.startswith("by operations/")
    assert (await run(await client.delete_operations('handler = "fails"', force=True), lro_clock)).done == 4
    with pytest.raises(lro.OperationNotFoundError):
        await client.get_operation(failed[0])


@pytest.mark.asyncio
async def test_the_metadata_tells_how_far_it_has_come(client, lro_clock):
    await started(client, lro_clock, nap, 5)
    op = await client.cancel_operations('handler = "nap"', force=True, reason="end of trial", per_second=2)
    await lro_clock.settle()
    await op.fetch()
    told = dict(op.metadata)
    assert (told["verb"], told["filter"], told["reason"]) == ("cancel", 'handler = "nap"', "end of trial")
    assert (told["total"], told["done"], told["failed"], told["progress"]) == (5, 2, 0, 0.4)
    assert told["message"] == "cancel: 2 of 5"
    await run(op, lro_clock)
    await op.fetch()
    assert (op.metadata["done"], op.metadata["progress"]) == (5, 1.0)


@pytest.mark.asyncio
async def test_where_they_are_too_many_to_count_no_total_is_told(open_client, lro_clock):
    client = await open_client("sqlite://", handlers=HANDLERS, limits=lro.Limits(scan_rows=1, max_page_size=2))
    names = await started(client, lro_clock, nap, 20)
    text = f'name = "{names[-1]}" OR name = "{names[0]}"'
    assert (await client.cancel_operations(text)).count.more
    op = await client.cancel_operations(text, force=True)
    assert (await run(op, lro_clock)).done == 2
    assert {"total", "progress"}.isdisjoint(dict(op.metadata))
    assert op.metadata["message"] == "cancel: 2"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_rate_is_kept(client, lro_clock):
    names = await started(client, lro_clock, nap, 30)
    await client.cancel_operations('handler = "nap"', force=True, per_second=4)
    await lro_clock.settle()
    for second in range(7):
        assert (await states(client, names)).count("CANCELLED") == 4 * (second + 1)
        await lro_clock.advance(1)
    slow = await started(client, lro_clock, nap, 3)
    op = await client.cancel_operations('handler = "nap"', force=True, per_second=0.1)
    for done in range(1, 4):
        await lro_clock.settle()
        assert (await states(client, slow)).count("CANCELLED") == done
        await lro_clock.advance(10)
    assert (await op.fetch()).done


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "position"), [("", 0), ("  ", 0), ("state = BROKEN", 8), ("handler ==", 9), ("nonsense = 1", 0)]
)
async def test_a_filter_that_is_wrong_or_says_nothing_is_refused_with_its_place(client, text, position):
    for force in (False, True):
        with pytest.raises(lro.InvalidFilterError) as caught:
            await client.delete_operations(text, force=force)
        assert caught.value.position == position
    assert not (await client.list_operations('handler = "lro.bulk"')).operations


@pytest.mark.asyncio
@pytest.mark.parametrize("per_second", [0, -1, float("nan"), float("inf"), 1e-9, 1e9])
async def test_a_rate_that_is_none_is_refused(client, per_second):
    with pytest.raises(ValueError, match="per_second"):
        await client.cancel_operations("*", per_second=per_second)


@pytest.mark.asyncio
@pytest.mark.parametrize("per_second", [True, "5", None])
async def test_a_rate_that_is_no_number_is_refused(client, per_second):
    with pytest.raises(TypeError, match="per_second"):
        await client.cancel_operations("*", per_second=per_second)


@pytest.mark.asyncio
async def test_a_process_that_dies_leaves_the_rest_to_another(client, open_client, url, abandon, lro_clock):
    """Nothing is rerun twice, and the counts are those of all operations."""
    await started(client, lro_clock, fails, 9)
    STARTED.clear()
    op = await client.rerun_operations('handler = "fails"', force=True, per_second=3)
    await lro_clock.advance(1)
    assert 3 <= len(STARTED) < 9
    abandon(client)
    other = await open_client(url, handlers=HANDLERS)
    for _ in range(12):
        await lro_clock.advance(10)
    result = await (await other.operation(op.name)).result()
    assert result == lro.BulkResult(done=9, skipped=0, failed=0)
    assert sorted(STARTED) == list(range(9))


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_between_any_two_writes_is_mended(open_client, lro_clock, when):
    """Every write fails once, or loses its answer: each operation is paused, unpaused, and counted, once."""
    store = FaultyStore(lro.SqliteStore("sqlite://"))
    client = await open_client(store, handlers=HANDLERS)
    for nth in range(1, 9):
        names = await started(client, lro_clock, nap, 4)
        op = await client.rerun_operations('handler = "fails"', force=True)
        await run(op, lro_clock)
        for act, kind in ((client.pause_operations, "PAUSED"), (client.unpause_operations, "UNPAUSED")):
            op = await act('handler = "nap"', force=True, per_second=2)
            store.fail("apply", nth=nth, when=when)
            result = await run(op, lro_clock, 300)
            assert (result.done, result.failed) == (4, 0)
            assert [[e.kind for e in await client.history(name)].count(kind) for name in names] == [1] * 4
        await run(await client.delete_operations("*", force=True, per_second=500), lro_clock)


@pytest.mark.asyncio
async def test_what_was_deleted_before_a_crash_counts_as_done(open_client, lro_clock):
    store = FaultyStore(lro.SqliteStore("sqlite://"))
    client = await open_client(store, handlers=HANDLERS)
    for nth in range(1, 6):
        await started(client, lro_clock, fails, 3)
        op = await client.delete_operations('handler = "fails"', force=True)
        store.fail("apply", nth=nth, when="after")
        assert await run(op, lro_clock, 300) == lro.BulkResult(done=3, skipped=0, failed=0)


@pytest.mark.asyncio
async def test_a_request_with_an_id_is_one_action(client, lro_clock):
    await started(client, lro_clock, nap, 1)
    asked = {"force": True, "reason": "tidy", "request_id": "ticket-17"}
    first = await client.pause_operations("handler = nap", **asked)
    again = await client.pause_operations("handler = nap", **asked)
    assert (await run(again, lro_clock)).done == 1
    assert first.name == again.name
    with pytest.raises(lro.OperationAlreadyExistsError):
        await client.cancel_operations("handler = nap", **asked)


@pytest.mark.asyncio
async def test_two_at_once_do_not_disturb_each_other(client, lro_clock):
    names = await started(client, lro_clock, nap, 8)
    ops = [await client.cancel_operations('handler = "nap"', force=True, per_second=3) for _ in range(2)]
    results = [await run(op, lro_clock) for op in ops]
    assert set(await states(client, names)) == {"CANCELLED"}
    assert sum(result.failed for result in results) == 0
    assert all(result.done + result.skipped <= 8 for result in results)


@pytest.mark.asyncio
async def test_a_cancel_ends_it_and_leaves_what_was_done(client, lro_clock):
    names = await started(client, lro_clock, nap, 9)
    op = await client.cancel_operations('handler = "nap"', force=True, per_second=2)
    await lro_clock.advance(1)
    await client.cancel_operation(op.name)
    await lro_clock.advance(60)
    with pytest.raises(lro.OperationCancelledError):
        await op.result()
    done = (await states(client, names)).count("CANCELLED")
    assert 2 <= done < 9
    await op.fetch()
    assert op.metadata["done"] == done


@pytest.mark.asyncio
async def test_what_is_made_later_is_left_out(client, lro_clock):
    names = await started(client, lro_clock, nap, 6)
    op = await client.cancel_operations('handler = "nap"', force=True, per_second=2)
    await lro_clock.advance(0.5)
    later = await client.start(nap, 7)
    await run(op, lro_clock)
    assert set(await states(client, names)) == {"CANCELLED"}
    assert await states(client, [later.name]) == ["SUSPENDED"]


@pytest.mark.asyncio
async def test_reruns_are_not_rerun_by_the_action_that_made_them(client, lro_clock):
    """Not even where they are made, and fail, in the moment in which the action began."""
    for i in range(3):
        await client.start(fails, i)
    await lro_clock.settle()
    STARTED.clear()
    op = await client.rerun_operations("*", force=True, per_second=1000)
    assert (await run(op, lro_clock)).done == 3
    await lro_clock.advance(30)
    assert sorted(STARTED) == [0, 1, 2]


@pytest.mark.asyncio
async def test_it_never_acts_on_itself_nor_on_another_unless_that_is_named(client, lro_clock):
    await started(client, lro_clock, nap, 4)
    first = await client.pause_operations('handler = "nap"', force=True, per_second=0.01)
    await lro_clock.advance(1)
    second = await client.cancel_operations("*", force=True)
    assert (await run(second, lro_clock)).done == 4
    assert not (await first.fetch()).done
    third = await client.cancel_operations('handler = "lro.bulk"', force=True)
    assert (await run(third, lro_clock)).done == 1
    assert (await first.fetch()).error.code == lro.Code.CANCELLED


@pytest.mark.asyncio
async def test_a_filter_that_no_index_serves(client, lro_clock):
    names = await started(client, lro_clock, nap, 5)
    text = f'name = "{names[1]}" OR name = "{names[3]}"'
    assert set((await client.cancel_operations(text)).sample) == {names[1], names[3]}
    assert (await run(await client.cancel_operations(text, force=True), lro_clock)).done == 2
    assert (await states(client, names)).count("CANCELLED") == 2


@pytest.mark.asyncio
async def test_a_parent_bounds_it_and_has_it(client, lro_clock):
    mine = await client.start(nap, 1, parent="projects/a")
    other = await client.start(nap, 2, parent="projects/b")
    await lro_clock.advance(1)
    op = await client.cancel_operations("*", force=True, parent="projects/a/operations")
    assert op.name.startswith("projects/a/operations/")
    assert (await run(op, lro_clock)).done == 1
    assert await states(client, [mine.name, other.name]) == ["CANCELLED", "SUSPENDED"]


@pytest.mark.asyncio
async def test_a_front_end_starts_it_and_a_worker_runs_it(open_client, url, lro_clock):
    """Also with a rerun of a handler that the worker does not have: some other process has it."""
    worker = await open_client(url, handlers=HANDLERS)
    await started(worker, lro_clock, fails, 2)
    await worker.aclose()
    front = await open_client(url, worker=False)
    op = await front.rerun_operations("state = FAILED", force=True)
    await open_client(url)
    for _ in range(4):
        await lro_clock.advance(10)
    assert (await op.result()).done == 2
    assert (await front.stats()).oldest_due.handler == "fails"


@pytest.mark.asyncio
async def test_what_refuses_is_counted_and_named(client, lro_clock):
    held = await client.create(operation_id="mine")
    await started(client, lro_clock, nap, 1)
    result = await run(await client.pause_operations("*", force=True), lro_clock)
    assert (result.done, result.failed) == (1, 1)
    assert result.errors[0].startswith("operations/mine: ")
    await held.done()


@pytest.mark.asyncio
async def test_of_many_that_refuse_all_are_counted_and_ten_are_named(open_client, lro_clock):
    client = await open_client("sqlite://")
    held = [await client.create() for _ in range(12)]
    await lro_clock.advance(1)
    result = await run(await client.pause_operations("*", force=True), lro_clock)
    assert (result.failed, len(result.errors)) == (12, 10)
    for op in held:
        await op.done()


@pytest.mark.asyncio
async def test_a_long_one_lets_others_have_its_slot(open_client, lro_clock):
    """Even where it never waits for long."""
    client = await open_client("sqlite://", handlers=HANDLERS, max_running=1)
    await started(client, lro_clock, nap, 60)
    op = await client.cancel_operations('handler = "nap"', force=True, per_second=1.5)
    other = await client.start(fails, 0)
    await lro_clock.advance(10)
    assert not (await other.fetch()).done
    await lro_clock.advance(15)
    assert (await other.fetch()).done
    assert not (await op.fetch()).done
    assert (await run(op, lro_clock)).done == 60


@pytest.mark.asyncio
async def test_a_process_that_closes_hands_it_over(client, open_client, url, lro_clock):
    names = await started(client, lro_clock, nap, 6)
    op = await client.pause_operations('handler = "nap"', force=True, per_second=2)
    await lro_clock.settle()
    await client.aclose()
    other = await open_client(url, handlers=HANDLERS)
    for _ in range(6):
        await lro_clock.advance(2)
    result = await (await other.operation(op.name)).result()
    assert result == lro.BulkResult(done=6, skipped=0, failed=0)
    assert [[e.kind for e in await other.history(name)].count("PAUSED") for name in names] == [1] * 6


@pytest.mark.asyncio
async def test_an_outage_is_waited_for(open_client, lro_clock):
    """Of the reads too: nothing fails, and nothing is left out."""
    store = FaultyStore(lro.SqliteStore("sqlite://"))
    client = await open_client(store, handlers=HANDLERS)
    names = await started(client, lro_clock, nap, 6)
    op = await client.cancel_operations('handler = "nap"', force=True, per_second=2)
    for method in ("list", "apply", "list"):
        store.fail(method, times=3)
        await lro_clock.advance(1)
    assert (await run(op, lro_clock, 300)).done == 6
    assert set(await states(client, names)) == {"CANCELLED"}


@pytest.mark.asyncio
async def test_a_default_of_the_client_does_not_pause_it(open_client, lro_clock):
    client = await open_client("sqlite://", handlers=HANDLERS, pause_on_failure=True, max_running=1)
    await started(client, lro_clock, nap, 3)
    assert (await run(await client.cancel_operations("*", force=True), lro_clock)).done == 3


def test_the_name_of_its_handler_is_taken():
    registry = OwnHandlers()

    @registry.handler("lro.bulk")
    async def mine(op):
        return None

    with pytest.raises(ValueError, match=r"'lro\.bulk' is registered already"):
        lro.Client("sqlite://", handlers=registry)
