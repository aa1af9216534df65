"""The handler of deliveries: it tries for a day, asleep in between, and survives whatever ends a process."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2
from google.rpc import error_details_pb2

from lro_aio.core import failures
from lro_aio.core.errors import OperationFailedError, StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.core.names import MalformedIdError
from lro_aio.core.policies import RetryPolicy, grown, spread
from lro_aio.core.status import DOMAIN
from lro_aio.core.webhooks import HANDLER, origin_of
from lro_aio.engine.handlers import Handlers, OwnHandlers
from lro_aio.engine.operation import Operation
from lro_aio.engine.suspension import Suspended
from lro_aio.webhooks.rules import Target, Webhooks
from lro_aio.webhooks.sending import Answer, RefusedAddressError, Sender
from lro_aio.webhooks.signing import headers_of

__all__ = ["Delivered", "DeliveryState", "handlers"]

logger = logging.getLogger("lro_aio")

DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""Seconds before the second try, the third and so on (Standard Webhooks); the last one until the day is over."""
DAY = 86_400.0
LONGEST_PAUSE = 21_600.0
"""Seconds for which a receiver can ask to be left alone."""
SOON, LATER = 1.0, 60.0
"""Seconds to wait for a place among the tries under way: at first, and at most."""
GONE = 410
REMEMBERED = 3600.0
"""Seconds for which a URL that answered so is not asked by this process."""
MOST_REMEMBERED = 1000

_RETRY = RetryPolicy(on=(StoreUnavailableError,), max_attempts=1000, initial_delay=1.0, max_delay=60.0)


@dataclass(kw_only=True)
class DeliveryState:
    """The state of a delivery: what is sent where, and how it went so far."""

    url: str
    id: str
    """Of the event: ``webhook-id`` of each try."""
    body: str
    about: str
    """Name of the operation."""
    replay: bool = False
    """Whether it was sent before, and somebody wants it sent again."""
    tries: int = 0
    since: float = 0.0
    """Epoch seconds of the first try that failed: the day counts from there, however late it was."""
    crowded: int = 0
    """How often there was no place for a try since the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The result of a delivery: the receiver has it."""

    status: int
    """Of HTTP."""
    tries: int


def handlers(rules: Webhooks, max_running: int) -> Handlers:
    """The handler of a client with webhooks.

    Args:
        rules: What is allowed.
        max_running: Of the client: deliveries get a quarter of it.
    """
    sender = Sender(rules, max(1, max_running // 4))
    gone: dict[str, float] = {}
    registry = OwnHandlers()

    @registry.handler(HANDLER, state=DeliveryState, retry=_RETRY, pause_on_failure=False, resume_points=())
    async def deliver(op: Operation[DeliveryState]) -> Delivered | Suspended:
        """Tell a receiver of an event, at least once."""
        return await _Delivery(op, rules, sender, gone).go()

    return registry


class _Delivery:
    """One run of a delivery, which is one try.

    Args:
        op: The operation.
        rules: What is allowed.
        sender: Shared by all deliveries of the client.
        gone: By URL: monotonic seconds up to which it is not asked.
    """

    def __init__(self, op: Operation[DeliveryState], rules: Webhooks, sender: Sender, gone: dict[str, float]) -> None:
        self._op = op
        self._state = op.state
        self._rules = rules
        self._sender = sender
        self._gone = gone
        self._clock = op.client.clock

    async def go(self) -> Delivered | Suspended:
        """Try once. Sleep where that failed, until the day is over.

        Raises:
            OperationFailedError: It is given up, for the reason that it gives.
        """
        state = self._state
        try:
            target = self._rules.allows(state.url)
        except MalformedIdError as exc:
            raise self._given_up(failures.PermissionDeniedError, "WEBHOOK_NOT_ALLOWED", str(exc)) from exc
        if not state.replay and self._gone.get(state.url, -math.inf) > self._clock.monotonic():
            raise self._is_gone()
        with self._sender.place(target) as free:
            if not free:
                state.crowded += 1
                return self._op.suspend(
                    resume_at="", sleep=spread(grown(SOON, 2, state.crowded - 1, LATER), longer=1.0)
                )
            answer = await self._tried(target)
        state.tries, state.crowded = state.tries + 1, 0
        if answer.taken:
            return Delivered(status=answer.status, tries=state.tries)
        return await self._failed(answer)

    async def _tried(self, target: Target) -> Answer:
        state, body = self._state, self._state.body.encode()
        headers = headers_of(state.id, self._clock.time(), body, self._rules.keys(target))
        try:
            return await self._sender.send(target, headers, body)
        except RefusedAddressError as exc:
            why = "the receiver is at an address that is not public"  # which one is for the log alone
            raise self._given_up(
                failures.PermissionDeniedError, "WEBHOOK_ADDRESS_REFUSED", why, logged=str(exc)
            ) from exc

    async def _failed(self, answer: Answer) -> Suspended:
        """Sleep until the next try; raises where there is none."""
        state, now = self._state, self._clock.time()
        if answer.status == GONE:
            self._remember()
            raise self._is_gone()
        state.since = state.since or now
        left = state.since + DAY - now
        if left <= 0:
            why = f"{state.tries} tries failed; the last one: {answer}"
            raise self._given_up(failures.UnavailableError, "WEBHOOK_NOT_DELIVERED", why)
        asked = min(answer.retry_after or 0.0, LONGEST_PAUSE)
        delay = min(max(DELAYS[min(state.tries, len(DELAYS)) - 1], asked), left)
        logger.info(
            "%s was not delivered to %s: %s; the next try is in %.0f s",
            self._op.name,
            origin_of(state.url),
            answer,
            delay,
            extra=event("webhook_failed", operation=self._op.name, handler=HANDLER),
        )
        await self._op.set_metadata(_metadata(state, str(answer)))
        return self._op.suspend(resume_at="", sleep=delay)

    def _remember(self) -> None:
        self._gone[self._state.url] = self._clock.monotonic() + REMEMBERED
        if len(self._gone) > MOST_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _is_gone(self) -> OperationFailedError:
        return self._given_up(failures.NotFoundError, "WEBHOOK_GONE", "the receiver answers 410 Gone")

    def _given_up(
        self, kind: type[OperationFailedError], reason: str, why: str, *, logged: str = ""
    ) -> OperationFailedError:
        state = self._state
        known = {"operation": state.about, "receiver": origin_of(state.url), "tries": str(state.tries)}
        info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=known)
        logger.warning(
            "%s is given up, and %s does not learn of %s: %s",
            self._op.name,
            origin_of(state.url),
            state.about,
            logged or why,
            extra=event("webhook_given_up", operation=self._op.name, handler=HANDLER),
        )
        return kind(f"the webhook of {state.about} is given up: {why}", details=[info])


def _metadata(state: DeliveryState, last: str) -> struct_pb2.Struct:
    """How it goes, for operators."""
    members: dict[str, Any] = {
        "operation": state.about,
        "receiver": origin_of(state.url),
        "id": state.id,
        "tries": state.tries,
        "message": last,
    }
    told = struct_pb2.Struct()
    told.update(members)
    return told
