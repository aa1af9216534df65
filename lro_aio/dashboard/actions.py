"""What is done from the dashboard: to one operation, to some, or to all that a filter selects."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lro_aio.client import Client
from lro_aio.core import strict_json
from lro_aio.core.bulk import EVERYTHING, BulkPreview
from lro_aio.core.bulk import VERBS as BULK_VERBS
from lro_aio.core.codes import Code
from lro_aio.core.logs import event
from lro_aio.core.queues import QueueStatus
from lro_aio.core.status import make_status
from lro_aio.dashboard.access import VERBS, Access
from lro_aio.dashboard.limits import LIMITS, read_limits
from lro_aio.dashboard.texts import plain
from lro_aio.servers.errors import RequestError, invalid, status_of

__all__ = ["KINDS", "Actions", "Done", "Order", "Outcome", "check", "new_id", "read_order"]

logger = logging.getLogger("lro_aio")

LONGEST_REASON = 1000
"""Characters. A history shows the beginning."""
MOST_NAMES = 1000
"""Operations that one form names."""
MOST_ORDERS = 256
"""Orders that are remembered, so that one that comes twice is carried out once."""
KINDS = {"queue": ("pause", "unpause", "limit"), "schedule": ("run", "pause", "unpause")}
"""What can be done to what is no operation: a field of the form names one."""
AT_ONCE = 50
"""Operations of an order that are acted on at a time."""

_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Of an order that is about to be confirmed."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a form asks for."""

    verb: str
    kind: str = ""
    """One of ``KINDS``, of which ``names`` has one; "" for operations."""
    names: tuple[str, ...] = ()
    filter: str = ""
    """Instead of names: which operations, as for ``Client.cancel_operations``."""
    reason: str = ""
    topic: str = ""
    payload: str = ""
    """JSON; "" is null."""
    limits: tuple[str, ...] = ()
    """What a queue is to allow: a text for each of ``LIMITS``."""
    unset: bool = False
    """Instead of limits: let hold again what the handlers declare."""
    id: str = ""
    """The same when a form is sent twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one operation."""

    name: str
    problem: str = ""
    """Why it was refused; "" where it was done."""
    code: Code = Code.OK
    made: str = ""
    """The operation that runs it again, or that a schedule has started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an order."""

    outcomes: tuple[Outcome, ...] = ()
    bulk: str = ""
    """The operation that carries it out, where it is for a filter."""


def read_order(fields: Sequence[tuple[str, str]]) -> Order:
    """The order that a form holds.

    Raises:
        RequestError: It is not one that could be carried out.
    """
    said = dict(fields)
    verb = said.get("verb", "")
    kind = next((kind for kind in KINDS if kind in said), "")
    verbs = KINDS.get(kind, VERBS)
    if verb not in verbs:
        raise invalid("verb", f"must be one of {', '.join(verbs)}")
    if len(said.get("reason", "")) > LONGEST_REASON:
        raise invalid("reason", f"is longer than {LONGEST_REASON} characters")
    order = Order(
        verb=verb,
        kind=kind,
        reason=said.get("reason", ""),
        topic=said.get("topic", ""),
        payload=said.get("payload", ""),
        limits=tuple(said.get(name, "") for name in LIMITS) if verb == "limit" else (),
        unset="unset" in said,
        id=said.get("id", ""),
    )
    if kind:
        if not said[kind]:
            raise invalid(kind, "is missing")
        return replace(order, names=(said[kind],))
    if said.get("scope") == "all":
        if verb not in BULK_VERBS:
            raise invalid("verb", f'cannot be "{verb}" for all that a filter selects: go back, and select some of them')
        return replace(order, filter=said.get("filter", "").strip() or EVERYTHING)
    names = tuple(dict.fromkeys(value for key, value in fields if key == "name"))
    if not names:
        raise invalid("name", "is missing: select operations first")
    if len(names) > MOST_NAMES:
        raise invalid("name", f"is there more than {MOST_NAMES} times: use a filter")
    return replace(order, names=names)


class Actions:
    """Carries orders out.

    Args:
        client: Does it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: OrderedDict[Order, asyncio.Task[Done]] = OrderedDict()

    async def preview(self, order: Order) -> BulkPreview:
        """How many operations the order's filter selects. Raises as ``Client.cancel_operations``."""
        found: BulkPreview = await getattr(self._client, f"{order.verb}_operations")(order.filter)
        return found

    async def queue(self, name: str) -> QueueStatus:
        """How it goes with a queue.

        Raises:
            RequestError: There is none of this name.
        """
        try:
            return await self._client.queues.get(name)
        except LookupError as exc:
            raise _no_queue(exc) from exc

    async def act(self, order: Order, access: Access) -> Done:
        """Carry an order out; once, if it comes twice.

        Raises:
            RequestError: The caller may not, or the order is malformed.
            LroError: An order for a filter was refused.
        """
        check(order, access)
        if not _ID.fullmatch(order.id):
            raise invalid("id", "is missing: begin with the page that asks for a confirmation")
        known = self._known.get(order)
        if known is None or known.get_loop() is not asyncio.get_running_loop():
            known = self._known[order] = asyncio.create_task(self._act(order, access), name="lro-aio-dashboard-act")
            while len(self._known) > MOST_ORDERS:
                self._known.popitem(last=False)
        try:
            done = await asyncio.shield(known)
        except Exception:
            self._known.pop(order, None)  # nothing is known of it: the same may be asked for again
            raise
        if any(outcome.code is Code.UNAVAILABLE for outcome in done.outcomes):
            self._known.pop(order, None)  # likewise
        return done

    async def _act(self, order: Order, access: Access) -> Done:
        who = plain(access.name)[:64] or "the dashboard"
        reason = f"{who}: {order.reason}" if order.reason.strip() else f"by {who}"
        if order.filter:
            act = getattr(self._client, f"{order.verb}_operations")
            started = await act(order.filter, force=True, reason=reason, request_id=order.id)
            _note(order, reason, started.name, f"all of {order.filter!r}")
            return Done(bulk=started.name)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Outcome:
            async with places:
                return await self._one(order, name, reason)

        return Done(outcomes=tuple(await asyncio.gather(*map(one, order.names))))

    async def _one(self, order: Order, name: str, reason: str) -> Outcome:
        try:
            made = await self._do(order, name, reason)
        except Exception as exc:  # noqa: BLE001 (`status_of` logs what is not ours; the others go on)
            status = status_of(exc, client=self._client, expose=self._client.expose_errors)
            return Outcome(name=name, problem=status.message, code=Code.of(status.code))
        _note(order, reason, name if not order.kind else made, f"{order.kind} {name}{_to_what(order)}".strip())
        return Outcome(name=name, made=made)

    async def _do(self, order: Order, name: str, reason: str) -> str:
        client = self._client
        request = hashlib.sha256(f"{order.id}\n{name}".encode()).hexdigest()
        if order.kind == "queue":
            return await self._do_to_queue(order, name)
        if order.kind == "schedule":
            return await self._do_to_schedule(order.verb, name, reason, request)
        match order.verb:
            case "cancel":
                await client.cancel_operation(name, reason=reason)
            case "pause":
                await client.pause_operation(name, reason)
            case "unpause":
                await client.unpause_operation(name, reason)
            case "delete":
                await client.delete_operation(name)
            case "send":
                await client.send(name, order.topic, payload_of(order), message_id=request)
            case "rerun":
                return (await client.rerun_operation(name, request_id=request, reason=reason)).name
            case "replay":
                await client.replay_webhook(name, request_id=request, reason=reason)
        return ""

    async def _do_to_queue(self, order: Order, name: str) -> str:
        queues = self._client.queues
        try:
            match order.verb:
                case "pause":
                    await queues.pause(name)
                case "unpause":
                    await queues.unpause(name)
                case "limit" if order.unset:
                    await queues.unset(name)
                case "limit":
                    bounds = read_limits(order.limits)
                    await queues.set(name, **{limit: getattr(bounds, limit) for limit in LIMITS})
        except LookupError as exc:
            raise _no_queue(exc) from exc
        return ""

    async def _do_to_schedule(self, verb: str, name: str, reason: str, request: str) -> str:
        schedules = self._client.schedules
        match verb:
            case "pause":
                await schedules.pause(name, reason)
            case "unpause":
                await schedules.unpause(name, reason)
            case "run":
                return (await schedules.run(name, request_id=request)).name
        return ""


def check(order: Order, access: Access) -> None:
    """Refuse what the caller may not do, a message that nobody could read, and limits that make no sense.

    Raises:
        RequestError: See above.
    """
    if not access.allows(order.verb):
        sentence = f"your access does not allow you to {order.verb} {order.kind or 'operation'}s"
        raise RequestError(make_status(Code.PERMISSION_DENIED, sentence, reason="ACCESS_DENIED"))
    if order.verb == "send" and order.id:
        payload_of(order)
    if order.verb == "limit" and order.id and not order.unset:
        read_limits(order.limits)


def _no_queue(exc: LookupError) -> RequestError:
    return RequestError(make_status(Code.NOT_FOUND, str(exc.args[0]), reason="QUEUE_NOT_FOUND"))


def _to_what(order: Order) -> str:
    """What a queue allows by an order, for the log: a queue has no history."""
    if order.verb != "limit":
        return ""
    return " to what is declared" if order.unset else f" to {read_limits(order.limits)}"


def payload_of(order: Order) -> Any:
    """The message that an order sends.

    Raises:
        RequestError: It is not JSON.
    """
    if not order.payload.strip():
        return None
    try:
        return strict_json.loads(order.payload.encode())
    except (ValueError, RecursionError) as exc:
        raise invalid("payload", f"is not JSON: {exc}") from exc


def _note(order: Order, reason: str, operation: str, what: str) -> None:
    """Who did what: a delete or a message has no reason in the operation's own history."""
    logger.info(
        "the dashboard: %s %s (%s)",
        order.verb,
        what,
        " ".join(plain(reason).split()),
        extra=event("dashboard_acted", operation=operation),
    )
