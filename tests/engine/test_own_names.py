"""Names that begin with ``lro.`` are this package's own: no application gives one to anything."""

import pytest

import lro_aio as lro

OURS = r"must not begin with 'lro\.'"


async def plain(op):
    return None


def a_handler():
    lro.Handlers().handler("lro.schedule.mine")(plain)


def a_handler_of_a_client():
    lro.Client("sqlite://").handler("lro.mine")(plain)


def a_resume_point():
    lro.Handlers().handler("mine", resume_points=["lro.mine"])


def a_clean_up():
    lro.Handlers().handler("mine", on_cancel="lro.mine")


def a_segment():
    lro.Handlers().handler("mine")(plain).segment("lro.mine")(plain)


def a_queue():
    lro.Queue("lro.mine", running=1)


def a_schedule():
    lro.Schedule("lro.mine", "report", every=60)


@pytest.mark.parametrize(
    "declare",
    [a_handler, a_handler_of_a_client, a_resume_point, a_clean_up, a_segment, a_queue, a_schedule],
)
def test_nothing_is_declared_with_a_name_of_ours(declare):
    with pytest.raises(ValueError, match=OURS):
        declare()


def test_what_only_looks_like_it_is_taken():
    for name in ("lro", "lro-mine", "LRO.mine", "mine.lro.", "lro_aio"):
        assert lro.Queue(name, running=1).name == name
        lro.Handlers().handler(name)(plain)


async def a_step(op):
    await op.step("lro.mine", plain, op)


async def a_sleep(op):
    await op.sleep("lro.mine", 1)


async def a_receive(op):
    await op.receive("lro.mine")


async def a_suspend(op):
    return op.suspend(resume_at="", messages=["lro.mine"])


async def a_resume_anywhere(op):
    return op.suspend(resume_at="lro.mine", sleep=1)


@pytest.mark.asyncio
@pytest.mark.parametrize("straight", [a_step, a_sleep, a_receive, a_suspend, a_resume_anywhere])
async def test_a_handler_waits_for_nothing_with_a_name_of_ours(client, straight):
    said = []

    @client.handler
    async def mine(op):
        try:
            return await straight(op)
        except ValueError as error:
            said.append(str(error))
            raise

    op = await client.start(mine)
    with pytest.raises(lro.OperationFailedError):
        await op.result()
    assert len(said) == 1
    assert "must not begin with 'lro.'" in said[0]


@pytest.mark.asyncio
async def test_a_message_with_a_topic_of_ours_is_refused(client):
    op = await client.create(lease=False)
    with pytest.raises(ValueError, match=f"topic {OURS}"):
        await client.send(op.name, "lro.mine")


@pytest.mark.asyncio
async def test_a_front_end_starts_nothing_that_looks_like_ours(open_client, store):
    """It need not know the handlers of its workers; that of an own one it does."""
    front = await open_client(store, worker=False)
    with pytest.raises(ValueError, match=f"handler 'lro.typo' {OURS}"):
        await front.start("lro.typo")
    assert (await (await front.cancel_operations("*", force=True)).fetch()).name


@pytest.mark.asyncio
async def test_our_own_handlers_keep_their_names(open_client, store):
    """The other side of it: actions on many and schedules have handlers with such names."""
    handlers = lro.Handlers()
    handlers.handler("report")(plain)
    client = await open_client(store, handlers=handlers, schedules=[lro.Schedule("nightly", "report", every=60)])
    assert {handler.name for handler in client.handlers if handler.own} == {"lro.bulk", "lro.schedule.nightly"}
