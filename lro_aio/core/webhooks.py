"""Whom an operation tells of its end, and what is written in the transaction of that end.

A delivery is an operation of a handler of our own: the row of it is made by the change that makes the event happen, so
that both are there or neither. What an operation wants told is the first line of its trail: operations that want
nothing told carry nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from google.rpc import status_pb2

from lro_aio.core import names, trail
from lro_aio.core.codes import Code
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State, Wait
from lro_aio.core.status import reason_of

__all__ = [
    "COLLECTION",
    "ENDS",
    "EVENTS",
    "HANDLER",
    "MOST_CHARACTERS",
    "Telling",
    "Webhook",
    "WebhookRules",
    "again",
    "as_at_the_start",
    "deliveries",
    "described",
    "noted",
    "origin_of",
    "sent_again",
    "shown_state",
    "tellings",
    "told",
    "wanted",
]

HANDLER = "lro.webhook"
"""Name of the handler that delivers."""
COLLECTION = "lro/webhooks"
"""Parent of the deliveries: whoever lists the operations of a service does not see them among those."""
ENDS = ("succeeded", "failed", "cancelled")
EVENTS = (*ENDS, "paused")
MOST_CHARACTERS = 2000
"""Of a URL."""

_YEAR_10000 = 253_402_300_800.0
_CODEC = "json;v=1"
_TO = " to "
_AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told what becomes of an operation: ``start(..., webhook=lro.Webhook(url))``."""

    url: str
    """Where to POST to. What is allowed is up to ``Client(webhooks=...)``, and checked when an operation is started."""
    events: Sequence[str] = ENDS
    """Of what: "succeeded", "failed", "cancelled", "paused". Default: of the end, whichever it is."""

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):
            raise TypeError(f"Webhook.url must be a text, not {type(self.url).__name__}")
        if isinstance(self.events, str) or not all(isinstance(event, str) for event in self.events):
            raise TypeError(f"Webhook.events must be a sequence of texts, not {self.events!r}")
        unknown = [event for event in self.events if event not in EVENTS]
        if unknown or not self.events:
            raise ValueError(f"Webhook.events must be some of {', '.join(EVENTS)}, not {self.events!r}")
        object.__setattr__(self, "events", tuple(dict.fromkeys(self.events)))


class WebhookRules(Protocol):
    """Which webhooks a service allows, and its own receivers: ``lro.Webhooks``."""

    @property
    def receivers(self) -> Sequence[Webhook]:
        """Told of every operation that is started here."""
        ...

    def check(self, webhook: Webhook) -> None:
        """Refuse a webhook that is not allowed.

        Raises:
            MalformedIdError: It says why.
        """
        ...


class Telling(NamedTuple):
    """A delivery of an event, as the row of the operation knows it."""

    time: float
    """Epoch seconds at which it was made."""
    event: str
    """Of ``EVENTS``."""
    delivery: str
    """Its name."""
    again: bool = False
    """Whether it was told before, and somebody wanted it told once more."""


def noted(webhooks: Sequence[Webhook], now: float) -> str:
    """The trail with which an operation begins that has webhooks."""
    told_of = [{"url": hook.url, **({} if hook.events == ENDS else {"events": hook.events})} for hook in webhooks]
    return f"{now:.3f} {trail.WEBHOOKS} {_json(told_of)}"


def as_at_the_start(record: Record, now: float) -> str:
    """The trail with which the same operation begins once more; "" where it has no webhooks."""
    return noted(wanted(record), now) if trail.is_pinned(record.trail) else ""


def wanted(record: Record) -> tuple[Webhook, ...]:
    """The webhooks of an operation."""
    if not trail.is_pinned(record.trail):
        return ()
    first = next(trail.happenings(record.trail))
    return tuple(_read(item) for item in json.loads(first.text))


def described(record: Record) -> str:
    """Whom an operation tells of what, for people. The query of a URL is left out: it may be a secret."""
    return "; ".join(f"{', '.join(hook.events)} to {hook.url.partition('?')[0]}" for hook in wanted(record))


def told(before: Record | None, after: Record) -> tuple[Record, tuple[Record, ...]]:
    """What a change has to tell: the row, which notes it, and the rows of the deliveries.

    Of what was deleted, nothing is told (rule 13).

    Args:
        before: The row before the change; None: there was none.
        after: The row after it.
    """
    if not trail.is_pinned(after.trail) or after.deleted:
        return after, ()
    event = _event(before, after)
    made = deliveries(after, event) if event else ()
    for delivery in made:
        text = f"operation.{event}{_TO}{delivery.name}"
        after = after.evolve(trail=trail.noted(after.trail, after.update_time, trail.WEBHOOK, text))
    return after, made


def deliveries(record: Record, event: str) -> tuple[Record, ...]:
    """The rows that deliver an event to each webhook that wants it.

    The same row gives the same deliveries, with the same ids, however often it is asked.

    Args:
        record: The row, as the event left it.
        event: Of ``EVENTS``.
    """
    body = _json(_payload(record, event))
    made = []
    for place, hook in enumerate(wanted(record)):
        if event in hook.events:
            key = f"webhook\n{event}\n{record.revision}\n{place}"
            identifier = names.child_id(record.uid, key)
            state = {"url": hook.url, "id": f"msg_{identifier.replace('-', '')}", "body": body, "about": record.name}
            made.append(_row(identifier, names.child_id(record.uid, f"{key}\nuid"), state, record))
    return tuple(made)


def again(state: Mapping[str, Any], source: Record, *, name: str, uid: str, now: float) -> Record:
    """The row that delivers once more, as the first time: with the same id and body.

    Args:
        state: Of the first delivery.
        source: For its trace.
        name: The id of the new one: the last segment of its name.
        uid: Of the new one.
        now: Epoch seconds.
    """
    kept = {key: state[key] for key in ("url", "id", "body", "about")}
    return _row(name, uid, {**kept, "replay": True}, source.evolve(update_time=now))


def tellings(record: Record) -> tuple[Telling, ...]:
    """What an operation has told so far, oldest first: also of the end where its trail has dropped that line."""
    if not trail.is_pinned(record.trail):
        return ()
    found = [_telling(one) for one in trail.happenings(record.trail) if one.kind == trail.WEBHOOK]
    if record.done and record.expire_time is not None:
        known, event = {telling.delivery for telling in found}, record.state.value.lower()
        missing = [delivery.name for delivery in deliveries(record, event) if delivery.name not in known]
        found += [Telling(record.update_time, event, name) for name in missing]
    return tuple(sorted(found, key=lambda telling: telling.time))


def _telling(happening: trail.Happening) -> Telling:
    what, _, rest = happening.text.partition(_TO)
    name, _, more = rest.partition(" ")
    return Telling(happening.time, what.removeprefix("operation."), name, again=more.startswith(_AGAIN))


def sent_again(record: Record, made: Sequence[Record], *, now: float, reason: str = "") -> Record:
    """Note in the row of an operation that these deliveries tell once more what was told of it.

    Args:
        record: The row.
        made: From ``again``. One that is noted already is not noted twice.
        now: Epoch seconds.
        reason: For people; "" for none.
    """
    known = {telling.delivery for telling in tellings(record)}
    for delivery in made:
        if delivery.name not in known:
            body = json.loads(json.loads(delivery.state_data)["body"])
            text = f"{body['type']}{_TO}{delivery.name} {_AGAIN}{f' ({reason})' if reason else ''}"
            record = record.evolve(trail=trail.noted(record.trail, now, trail.WEBHOOK, text))
    return record


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL that was checked: what may be shown of it, since the rest may be a secret."""
    return "/".join(url.partition("?")[0].split("/")[:3])


def shown_state(handler: str, state: Any) -> Any:
    """The state of an operation for people: of a delivery, without the query of the URL, which may be a secret."""
    if handler == HANDLER and isinstance(state, dict) and isinstance(state.get("url"), str):
        return {**state, "url": state["url"].partition("?")[0]}
    return state


def _read(item: Mapping[str, Any]) -> Webhook:
    """A webhook as it was stored, with the events that this release knows: nothing here keeps a row from its end."""
    hook = Webhook(item["url"])
    object.__setattr__(hook, "events", tuple(event for event in item.get("events", ENDS) if event in EVENTS))
    return hook


def _row(identifier: str, uid: str, state: Mapping[str, Any], source: Record) -> Record:
    now = source.update_time
    return Record(
        name=names.make(COLLECTION, identifier),
        uid=uid,
        state=State.PENDING,
        create_time=now,
        update_time=now,
        handler=HANDLER,
        state_data=_json(state).encode(),
        state_codec=_CODEC,
        # For a process whose runs belong into the requests of a scheduler. Due at once, for any.
        wait=Wait(token=f"{uid}.0", sleep_until=now, rerun=True),
        check_time=now,
        traceparent=source.traceparent,
    )


def _event(before: Record | None, after: Record) -> str:
    if after.done:
        # What another program ended has ended for us once it was found, and given its retention.
        known = before is not None and before.done and before.expire_time is not None
        return "" if known or after.expire_time is None else after.state.value.lower()
    return "paused" if after.paused and not (before is not None and before.paused) else ""


def _payload(record: Record, event: str) -> dict[str, Any]:
    """What a receiver is told: what became of the operation, and not its result, which it fetches."""
    data: dict[str, Any] = {
        "name": record.name,
        "handler": record.handler,
        "state": record.state.value,
        "done": record.done,
        "createTime": _date(record.create_time),
        "updateTime": _date(record.update_time),
    }
    if record.end_time is not None:
        data["endTime"] = _date(record.end_time)
    failure = record.error or record.failure
    if failure:
        status = status_pb2.Status.FromString(failure)
        data["code"] = Code.of(status.code).name
        data["reason"] = reason_of(status)
    return {"type": f"operation.{event}", "timestamp": _date(record.update_time), "data": data}


def _date(when: float) -> str:
    moment = datetime.fromtimestamp(min(max(when, 0.0), _YEAR_10000 - 1), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
