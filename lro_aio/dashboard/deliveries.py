"""Whom an operation tells of what by webhooks, as plain values: what was delivered, and what is to come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.rpc import status_pb2

from lro_aio.core.description import problem_of
from lro_aio.core.proto_json import status_json
from lro_aio.core.record import Record, State
from lro_aio.core.webhooks import ENDS, HANDLER, Telling, tellings, wanted
from lro_aio.dashboard.showing import Shower, members_json
from lro_aio.dashboard.texts import Moment

__all__ = ["of_webhooks"]


def of_webhooks(record: Record, rows: Mapping[str, Record], show: Shower) -> dict[str, Any]:
    """What an operation tells.

    Args:
        record: Its row.
        rows: Those of its deliveries, by name, as far as they are still there.
        show: Asked before addresses and texts are told.
    """

    def text(value: str) -> str:
        return show.text(value, record.name, record.handler)

    told = tellings(record)
    delivers = record.handler == HANDLER
    return {
        "webhooks": [{"receiver": text(_bare(hook.url)), "events": list(hook.events)} for hook in wanted(record)],
        "deliveries": [_delivery(telling, rows.get(telling.delivery), text) for telling in told],
        "delivers": _state(record).get("about", "") if delivers else "",
        "canReplay": record.done and (delivers or any(telling.event in ENDS for telling in told)),
    }


def _delivery(telling: Telling, row: Record | None, text: Any) -> dict[str, Any]:
    """How it goes with one; of one that has expired, that it was made."""
    known = {
        "name": telling.delivery,
        "event": telling.event,
        "time": Moment(telling.time),
        "again": telling.again,
    }
    if row is None:
        return {**known, "state": "", "receiver": "", "tries": 0, "answer": "", "nextTime": None, "endTime": None}
    state, metadata, result = _state(row), members_json(row.metadata), members_json(row.response)
    problem = problem_of(row)
    answer = f"HTTP {result['status']:.0f}" if "status" in result else str(metadata.get("message", ""))
    next_time = row.wait.ends if row.state is State.SUSPENDED and row.wait is not None else None
    return {
        **known,
        "state": row.state.value,
        "receiver": text(_bare(str(state.get("url", "")))),
        "tries": int(result.get("tries", _tries_of_failed(row) or state.get("tries", 0))),
        "answer": text(problem.message if problem is not None else answer),
        "nextTime": None if next_time is None else Moment(next_time),
        "endTime": None if row.end_time is None else Moment(row.end_time),
    }


def _tries_of_failed(row: Record) -> str:
    """The number, where it has ended: what it tried last is in its error, and not in its state. "" of others."""
    details = status_json(status_pb2.Status.FromString(row.error)).get("details", ()) if row.error else ()
    return next((detail["metadata"]["tries"] for detail in details if "tries" in detail.get("metadata", ())), "")


def _bare(url: str) -> str:
    """Without the query, which may be a secret."""
    return url.partition("?")[0]


def _state(row: Record) -> dict[str, Any]:
    """Of a delivery; nothing where a newer release has another."""
    try:
        found = json.loads(row.state_data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
