"""Webhooks: which ends are told, that a delivery is there if and only if the end is, and that it comes."""

import asyncio
import contextlib

import pytest
import pytest_asyncio
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.webhooks import COLLECTION, HANDLER
from lro_aio.testing import FakeSpanner, FaultyStore
from lro_aio.webhooks.delivering import Delivered

from ..receiver import OTHER_SECRET, SECRET, receiving, response
from ..waiting import reached, until
from .over_stores import ON_SPANNER

HANDLERS = lro.Handlers()


@HANDLERS.handler
async def works(op: lro.Operation[int]) -> str:
    return "made"


@HANDLERS.handler
async def fails(op: lro.Operation[int]) -> None:
    raise lro.failures.NotFoundError("no file")


@HANDLERS.handler(resume_points=("on",))
async def nap(op: lro.Operation[int]) -> lro.Suspended:
    return op.suspend(resume_at="on", sleep=10**6)


@HANDLERS.handler(pause_on_failure=True)
async def pauses(op: lro.Operation[int]) -> None:
    raise OSError("no file")


@pytest_asyncio.fixture
async def receiver():
    async with receiving() as found:
        yield found


@pytest_asyncio.fixture
async def client(open_client, store, receiver):
    return await open_client(store, handlers=HANDLERS, webhooks=receiver.rules())


def hook(receiver, *events):
    return lro.Webhook(receiver.url, **({"events": events} if events else {}))


async def deliveries(client):
    page = await client.server_host.page(filter="", page_size=100, page_token="", parent=COLLECTION)
    return [record for record in page.records if record.handler == HANDLER]


async def told(receiver, number=1):
    await until(lambda: len(receiver.requests) >= number)
    return [request.told for request in receiver.requests]


@pytest.mark.asyncio
async def test_a_receiver_is_told_of_the_end_and_can_check_who_tells(client, receiver, lro_clock):
    op = await client.start(works, 1, webhook=hook(receiver))
    assert await op.result() == "made"
    (event,) = await told(receiver)
    assert event["type"] == "operation.succeeded"
    assert event["data"]["name"] == op.name
    assert event["data"]["handler"] == "works"
    assert event["data"]["state"] == "SUCCEEDED"
    assert event["data"]["done"] is True
    assert "made" not in str(event)
    (request,) = receiver.requests
    assert request.path == "/hooks?for=me"
    assert lro.webhooks.verify(request.body, request.headers, SECRET, now=lro_clock.time()) == event


@pytest.mark.asyncio
async def test_a_delivery_ends_with_what_the_receiver_said(client, receiver):
    await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    (delivery,) = await deliveries(client)
    await reached(client, delivery.name, "SUCCEEDED")
    result = (await client.operation(delivery.name)).result
    assert await result() == Delivered(status=204, tries=1)


@pytest.mark.asyncio
async def test_a_failure_is_told_with_code_and_reason_and_without_its_text(client, receiver):
    await client.start(fails, 1, webhook=hook(receiver))
    (event,) = await told(receiver)
    assert event["type"] == "operation.failed"
    assert event["data"]["code"] == "NOT_FOUND"
    assert "no file" not in str(event)


@pytest.mark.asyncio
async def test_only_the_chosen_events_are_told(client, receiver):
    await client.start(works, 1, webhook=hook(receiver, "failed"))
    await client.start(fails, 1, webhook=hook(receiver, "failed"))
    (event,) = await told(receiver)
    assert event["type"] == "operation.failed"
    assert len(await deliveries(client)) == 1


@pytest.mark.asyncio
async def test_a_cancel_of_what_sleeps_is_told(client, receiver):
    op = await client.start(nap, 1, webhook=hook(receiver))
    await reached(client, op.name, "SUSPENDED")
    await client.cancel_operation(op.name)
    (event,) = await told(receiver)
    assert (event["type"], event["data"]["code"]) == ("operation.cancelled", "CANCELLED")


@pytest.mark.asyncio
async def test_a_deadline_is_told(client, receiver, lro_clock):
    op = await client.start(nap, 1, webhook=hook(receiver), deadline=60)
    await reached(client, op.name, "SUSPENDED")
    await lro_clock.advance(61)
    (event,) = await told(receiver)
    assert (event["type"], event["data"]["reason"]) == ("operation.failed", "DEADLINE_EXCEEDED")


@pytest.mark.asyncio
async def test_an_end_by_hand_is_told(client, receiver):
    op = await client.create(lease=False, webhook=hook(receiver))
    visitor = await client.operation(op.name)
    await visitor.done(wrappers_pb2.StringValue(value="by hand"))
    (event,) = await told(receiver)
    assert (event["type"], event["data"]["handler"]) == ("operation.succeeded", "")


@pytest.mark.asyncio
async def test_a_creator_that_is_lost_is_told(open_client, tmp_path, receiver, lro_clock, abandon):
    url = f"sqlite:///{tmp_path}/o.db"
    first = await open_client(FaultyStore(lro.SqliteStore(url)), webhooks=receiver.rules())
    await first.create(webhook=hook(receiver))
    await open_client(url, webhooks=receiver.rules())
    abandon(first)
    for _ in range(10):
        await lro_clock.advance(10)
    event, *again = await told(receiver)  # again, where the clock went on for ten seconds before it had answered
    assert event["data"]["reason"] == "CREATOR_LOST"
    assert again == [event] * len(again)


@pytest.mark.asyncio
async def test_a_pause_is_told_where_that_was_asked_for_and_the_end_after_it(client, receiver):
    op = await client.start(pauses, 1, webhook=hook(receiver, "paused", "cancelled"))
    (event,) = await told(receiver)
    assert event["type"] == "operation.paused"
    assert (event["data"]["done"], event["data"]["code"]) == (False, "UNKNOWN")
    await client.cancel_operation(op.name)
    _, event = await told(receiver, 2)
    assert event["type"] == "operation.cancelled"
    assert len({request.id for request in receiver.requests}) == 2


@pytest.mark.asyncio
async def test_what_was_deleted_is_not_told(client, receiver):
    op = await client.start(nap, 1, webhook=hook(receiver))
    await reached(client, op.name, "SUSPENDED")
    await client.delete_operation(op.name)
    await client.start(works, 1, webhook=hook(receiver))
    assert [event["data"]["handler"] for event in await told(receiver)] == ["works"]


@pytest.mark.asyncio
async def test_the_services_own_receivers_are_told_of_what_is_started_and_not_of_children(open_client, store, receiver):
    handlers = lro.Handlers()

    @handlers.handler
    async def child(op: lro.Operation[int]) -> None:
        return None

    @handlers.handler
    async def parent(op: lro.Operation[int]) -> None:
        await (await op.start_child(child, 1, key="a")).result()

    rules = receiver.rules(receivers=[lro.Webhook(f"{receiver.origin}/all")], origins=[], allow_http=True)
    client = await open_client(store, handlers=handlers, webhooks=rules)
    await (await client.start(parent, 1)).result()
    bulk = await client.cancel_operations("*", force=True)
    await bulk.result()
    await client.create(lease=False)
    assert [event["data"]["handler"] for event in await told(receiver)] == ["parent"]
    assert len(await deliveries(client)) == 1
    with pytest.raises(ValueError, match=r"webhook\.url must be of an origin that this service allows"):
        await client.start(parent, 1, webhook=hook(receiver))


async def family(open_client, store, receiver, start):
    """A client with a parent that starts the child ``works`` as ``start(op, webhook)`` says."""
    handlers = lro.Handlers()
    handlers.include(HANDLERS)

    @handlers.handler
    async def parent(op: lro.Operation[dict[str, str]]) -> None:
        await start(op, lro.Webhook(**op.state))

    return await open_client(store, handlers=handlers, webhooks=receiver.rules())


async def by_call(op, webhook):
    assert await op.call(works, 1, key="a", webhook=webhook) == "made"


async def by_start_child(op, webhook):
    await (await op.start_child(works, 1, key="a", webhook=webhook)).result()


@pytest.mark.asyncio
@pytest.mark.parametrize("start", [by_call, by_start_child])
async def test_a_child_tells_whom_its_parent_names(open_client, store, receiver, start):
    client = await family(open_client, store, receiver, start)
    await (await client.start("parent", {"url": receiver.url})).result()
    (event,) = await told(receiver)
    assert (event["type"], event["data"]["handler"]) == ("operation.succeeded", "works")
    assert len(await deliveries(client)) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("start", [by_call, by_start_child])
async def test_a_child_with_a_webhook_that_is_not_allowed_is_not_started(open_client, store, receiver, start):
    client = await family(open_client, store, receiver, start)
    op = await client.start("parent", {"url": "https://elsewhere.example/"})
    with pytest.raises(lro.OperationFailedError):
        await op.result()
    assert [listed.name for listed in (await client.list_operations()).operations] == [op.name]


@pytest.mark.asyncio
async def test_a_child_that_is_there_keeps_its_webhook(open_client, store, receiver):
    async def twice(op, webhook):
        await op.start_child(nap, 1, key="a", webhook=webhook)
        child = await op.start_child(nap, 1, key="a", webhook=lro.Webhook(f"{receiver.origin}/other"))
        await child.cancel()

    client = await family(open_client, store, receiver, twice)
    await (await client.start("parent", {"url": receiver.url})).result()
    await told(receiver)
    assert [request.path for request in receiver.requests] == ["/hooks?for=me"]


@pytest.mark.asyncio
async def test_the_end_of_a_bulk_action_is_told(client, receiver):
    webhook = hook(receiver)
    assert (await client.cancel_operations("*", webhook=webhook)).count.number == 0
    assert await deliveries(client) == []
    actions = [
        await act("*", force=True, webhook=webhook)
        for act in (
            client.cancel_operations,
            client.pause_operations,
            client.unpause_operations,
            client.rerun_operations,
            client.delete_operations,
        )
    ]
    events = await told(receiver, len(actions))
    assert sorted(event["data"]["name"] for event in events) == sorted(op.name for op in actions)
    assert {event["data"]["handler"] for event in events} == {"lro.bulk"}
    with pytest.raises(ValueError, match=r"webhook\.url must be of an origin"):
        await client.cancel_operations("*", force=True, webhook=lro.Webhook("https://elsewhere.example/"))


@pytest.mark.asyncio
async def test_the_history_tells_of_webhook_and_delivery(client, receiver):
    op = await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    history = {entry.kind: entry.text for entry in await client.history(op.name)}
    (delivery,) = await deliveries(client)
    assert history["WEBHOOKS"] == f"succeeded, failed, cancelled to {receiver.origin}/hooks"
    assert history["WEBHOOK"] == f"operation.succeeded to {delivery.name}"
    assert "".join(entry.text for entry in (await client.describe(op.name)).history).count(delivery.name) == 1


@pytest.mark.asyncio
async def test_the_webhook_outlives_whatever_happens_before_the_end(client, receiver, lro_clock):
    """What happens to an operation is kept in 32 lines; its webhook is not one of those that are dropped."""
    op = await client.start(nap, 1, webhook=hook(receiver))
    await reached(client, op.name, "SUSPENDED")
    for _ in range(40):
        await client.pause_operation(op.name)
        await client.unpause_operation(op.name)
    await client.cancel_operation(op.name)
    (event,) = await told(receiver)
    assert event["data"]["name"] == op.name


@pytest.mark.asyncio
async def test_deliveries_are_not_among_the_operations_of_the_service(client, receiver):
    op = await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    assert [listed.name for listed in (await client.list_operations()).operations] == [op.name]
    assert (await client.delete_operations("*")).sample == (op.name,)


@pytest.mark.asyncio
async def test_a_rerun_tells_too(client, receiver):
    op = await client.start(fails, 1, webhook=hook(receiver))
    await told(receiver)
    again = await client.rerun_operation(op.name)
    events = await told(receiver, 2)
    assert [event["data"]["name"] for event in events] == [op.name, again.name]


@pytest.mark.asyncio
async def test_a_replay_sends_the_same_id_and_body(client, receiver, lro_clock):
    op = await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    (first,) = await deliveries(client)
    await reached(client, first.name, "SUCCEEDED")
    await lro_clock.advance(3600)
    (again,) = await client.replay_webhook(op.name)
    await told(receiver, 2)
    await client.replay_webhook(first.name)
    await told(receiver, 3)
    assert again.name != first.name
    assert len({(request.id, request.body) for request in receiver.requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 2


def sent_again(history):
    return [entry.text for entry in history if entry.kind == "WEBHOOK" and " again" in entry.text]


@pytest.mark.asyncio
async def test_a_replay_stands_in_the_history_of_the_operation_with_its_reason(client, receiver):
    op = await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    (first,) = await deliveries(client)
    await reached(client, first.name, "SUCCEEDED")
    made = [*await client.replay_webhook(op.name, reason="it was down"), *await client.replay_webhook(first.name)]
    assert sent_again(await client.history(op.name)) == [
        f"operation.succeeded to {made[0].name} again (it was down)",
        f"operation.succeeded to {made[1].name} again",
    ]


@pytest.mark.asyncio
async def test_a_replay_of_one_request_is_sent_once(client, store, receiver):
    """Also where the answer to its write was lost."""
    op = await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    (first,) = await deliveries(client)
    await reached(client, first.name, "SUCCEEDED")
    store.fail("apply", when="after")
    with pytest.raises(lro.StoreUnavailableError):
        await client.replay_webhook(op.name, request_id="r1")
    made = [delivery.name for _ in range(2) for delivery in await client.replay_webhook(op.name, request_id="r1")]
    await told(receiver, 2)
    assert len(set(made)) == 1
    assert len(await deliveries(client)) == 2
    assert len(sent_again(await client.history(op.name))) == 1
    with pytest.raises(ValueError, match="request_id"):
        await client.replay_webhook(op.name, request_id="\n")


@pytest.mark.asyncio
async def test_a_delivery_is_sent_again_although_its_operation_is_gone(client, receiver):
    op = await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    (first,) = await deliveries(client)
    await reached(client, first.name, "SUCCEEDED")
    await client.delete_operation(op.name)
    await client.replay_webhook(first.name)
    await told(receiver, 2)


@pytest.mark.asyncio
async def test_there_is_nothing_to_replay_before_the_end_or_without_a_webhook(client, receiver):
    op = await client.start(nap, 1, webhook=hook(receiver))
    with pytest.raises(lro.OperationNotDoneError):
        await client.replay_webhook(op.name)
    plain = await client.start(works, 1)
    await plain.result()
    with pytest.raises(lro.InvalidTransitionError):
        await client.replay_webhook(plain.name)


@pytest.mark.asyncio
async def test_a_front_end_without_webhooks_refuses_them(open_client, store, receiver):
    client = await open_client(store, handlers=HANDLERS)
    with pytest.raises(ValueError, match="webhook is not allowed"):
        await client.start(works, 1, webhook=hook(receiver))
    with pytest.raises(TypeError, match="webhook must be a Webhook"):
        await client.start(works, 1, webhook=receiver.url)


@pytest.mark.asyncio
async def test_operations_without_a_webhook_cost_what_they_did(open_client, receiver, row):
    """Not one byte, call or change more."""
    costs = []
    for options in ({}, {"webhooks": receiver.rules()}):
        store = FaultyStore(lro.SqliteStore("sqlite://"))
        client = await open_client(store, handlers=HANDLERS, **options)
        before = dict(store.calls), store.changes
        op = await client.start(works, 1)
        await op.result()
        costs.append((store.changes - before[1], store.calls["apply"] - before[0].get("apply", 0)))
        assert "WEBHOOK" not in row(op.name, store).trail
    assert costs[0] == costs[1]


@pytest.fixture(params=["sqlite", ON_SPANNER])
def shared(request, tmp_path):
    """A store that several clients share."""
    if request.param == "sqlite":
        yield lambda: FaultyStore(lro.SqliteStore(f"sqlite:///{tmp_path}/o.db"))
        return
    with FakeSpanner() as fake:
        yield lambda: FaultyStore(lro.SpannerStore.from_url(fake.url))


@pytest.mark.asyncio
@pytest.mark.parametrize("when", ["before", "after"])
async def test_end_and_delivery_are_there_both_or_neither(open_client, shared, receiver, lro_clock, when):
    """The answer to the write of the end is lost, whether or not it was written: it is told once, of one end."""
    store = shared()
    client = await open_client(store, handlers=HANDLERS, webhooks=receiver.rules())
    op = await client.create(lease=False, webhook=hook(receiver))
    store.fail("apply", when=when)
    visitor = await client.operation(op.name)
    with pytest.raises(lro.StoreUnavailableError):
        await visitor.done(wrappers_pb2.StringValue(value="x"))
    assert len(await deliveries(client)) == (1 if when == "after" else 0)
    with contextlib.suppress(lro.OperationDoneError):
        await visitor.done(wrappers_pb2.StringValue(value="x"))
    await lro_clock.advance(60)
    await told(receiver)
    assert len(await deliveries(client)) == 1


@pytest.mark.asyncio
async def test_a_process_that_dies_after_the_post_leaves_it_to_another_which_sends_the_same(
    open_client, shared, receiver, lro_clock, abandon
):
    """The receiver has it, and nobody has noted that: it comes again, with the same id."""
    store = shared()
    first = await open_client(store, handlers=HANDLERS, webhooks=receiver.rules())
    came, gone = asyncio.Event(), asyncio.Event()

    async def holds(writer):
        came.set()
        await gone.wait()
        writer.write(response(200))

    receiver.answers = [holds]
    await first.start(works, 1, webhook=hook(receiver))
    await asyncio.wait_for(came.wait(), 10)
    abandon(first)
    gone.set()
    second = await open_client(shared(), handlers=HANDLERS, webhooks=receiver.rules())
    for _ in range(10):
        if len(receiver.requests) > 1:
            break
        await lro_clock.advance(10)
    await told(receiver, 2)
    (delivery,) = await deliveries(second)
    await reached(second, delivery.name, "SUCCEEDED")
    assert len({(request.id, request.body) for request in receiver.requests}) == 1


@pytest.mark.asyncio
async def test_a_process_that_cannot_deliver_leaves_it_to_one_that_can(open_client, shared, receiver, lro_clock):
    """As the command line does, which cancels and knows no rules."""
    first = await open_client(shared(), handlers=HANDLERS, webhooks=receiver.rules(), worker=False)
    op = await first.start(nap, 1, webhook=hook(receiver))
    plain = await open_client(shared(), worker=False)
    await plain.cancel_operation(op.name)
    assert not receiver.requests
    await open_client(shared(), webhooks=receiver.rules())
    for _ in range(10):
        if receiver.requests:
            break
        await lro_clock.advance(10)
    event, *again = await told(receiver)
    assert event["type"] == "operation.cancelled"
    assert again == [event] * len(again)


@pytest.mark.asyncio
async def test_while_a_secret_is_rotated_both_sign(open_client, store, receiver, lro_clock):
    client = await open_client(store, handlers=HANDLERS, webhooks=receiver.rules(secrets=[OTHER_SECRET, SECRET]))
    await client.start(works, 1, webhook=hook(receiver))
    await told(receiver)
    (request,) = receiver.requests
    for secret in (SECRET, OTHER_SECRET):
        assert lro.webhooks.verify(request.body, request.headers, secret, now=lro_clock.time())
