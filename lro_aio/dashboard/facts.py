"""What the pages and the JSON API tell, as plain values: made of the client's own descriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.bulk import HANDLER
from lro_aio.core.description import Description, problem_of
from lro_aio.core.history import HistoryEntry
from lro_aio.core.names import OWN
from lro_aio.core.proto_json import any_json, status_json
from lro_aio.core.queues import InLine
from lro_aio.core.record import Record, State
from lro_aio.core.rerunning import links
from lro_aio.core.shown_progress import progress_of
from lro_aio.core.stats import Count, DueRoute, FailureGroup, Stats, total
from lro_aio.core.timeline import Span
from lro_aio.core.webhooks import shown_state
from lro_aio.dashboard.deliveries import of_webhooks
from lro_aio.dashboard.showing import Shower, members_json, state_json
from lro_aio.dashboard.texts import Moment

__all__ = ["NOT_AGAIN", "failing_filter", "held", "of_operation", "of_stats", "quoted", "summary", "with_left"]

MOST_SPANS = 400
"""Spans that are told: the first and the last ones."""
MOST_ENTRIES = 400
"""Entries of a history that are told: the last ones."""


def of_stats(told: Stats | None, pace: dict[str, Any] | None, show: Shower) -> dict[str, Any]:
    """How it goes with all operations.

    Args:
        told: None where the store cannot tell.
        pace: See ``Pace.note``.
        show: Asked before texts are told.
    """
    stats = told if told is not None else Stats(time=0.0)
    handlers: dict[str, dict[str, Any]] = {}
    own: dict[str, list[Count]] = {}
    for cell in stats.counts:
        if cell.handler.startswith(OWN):
            own.setdefault(cell.state.value, []).append(cell.count)
        else:
            handlers.setdefault(cell.handler, {})[cell.state.value] = _count(cell.count)
    return {
        "counted": told is not None,
        "states": {state.value: _count(count) for state, count in stats.states.items()},
        "paused": _count(stats.paused),
        "ends": pace,
        "handlers": [{"handler": handler, "states": states} for handler, states in sorted(handlers.items())],
        "own": {state: _count(total(counts)) for state, counts in own.items()},
        "running": [{"owner": one.owner, **_count(one.count)} for one in stats.running],
        "queues": [
            {"name": one.queue, "waiting": _count(one.waiting), "running": _count(one.running)} for one in stats.queues
        ],
        "due": [_due(due) for due in stats.due],
        "unserved": [_due(due) for due in stats.unserved],
        "failures": [_group(group, show) for group in stats.failures],
    }


def _count(of: Count) -> dict[str, Any]:
    return {"count": of.number, "more": of.more}


def _due(due: DueRoute) -> dict[str, Any]:
    return {
        "handler": due.handler,
        "resumePoint": due.resume_point,
        "since": Moment(due.since),
        "name": due.name,
        **_count(due.count),
    }


def _group(group: FailureGroup, show: Shower) -> dict[str, Any]:
    return {
        "handler": group.handler,
        "code": group.code,
        "reason": group.reason,
        "message": show.text(group.message, group.name, group.handler),
        "name": group.name,
        "time": Moment(group.time),
        "filter": (alike := failing_filter(group.handler, group.code, group.reason)),
        "todo": f"{alike} AND {NOT_AGAIN}",
        **_count(group.count),
    }


NOT_AGAIN = "rerun = false"
"""Of a filter: who runs all of them again runs none twice that somebody has run again."""


def with_left(groups: Sequence[Mapping[str, Any]], failed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups of what failed alike, with what nobody has run again yet; last those of which nothing is left.

    Args:
        groups: From ``of_stats``.
        failed: The page of what has failed and was not run again, the newest first.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in failed["operations"]:
        error = one["error"] or {"code": "", "reason": ""}
        found.setdefault((one["handler"], error["code"], error["reason"]), []).append(one["name"])
    more = bool(failed["nextPageToken"])
    told = []
    for group in groups:
        names = found.get((group["handler"], group["code"], group["reason"]), [])
        left = {"count": min(len(names), group["count"]), "more": more}
        told.append({**group, "left": left, "next": names[0] if names else ""})
    return sorted(told, key=lambda group: not (group["left"]["count"] or group["left"]["more"]))


def failing_filter(handler: str, code: str, reason: str) -> str:
    """The filter of operations that failed alike."""
    alike = f"error.code = {code} AND error.reason = {quoted(reason)}"
    return f"state = FAILED AND handler = {quoted(handler)} AND {alike}"


def quoted(text: str) -> str:
    """A text as a filter has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return f'"{escaped}"'


def summary(record: Record, show: Shower) -> dict[str, Any]:
    """One line of a list."""
    operation = record.to_operation()
    return {
        "name": record.name,
        "handler": record.handler,
        "state": record.state.value,
        "paused": record.paused,
        "cancelRequested": record.cancel_requested,
        "runAgain": bool(links(record.trail, "as")),
        "createTime": Moment(record.create_time),
        "endTime": _moment(record.end_time),
        "progress": None if record.done else _progress(operation, record.handler, show),
        "error": _error_line(record, show),
    }


def held(record: Record) -> dict[str, Any]:
    """An operation that a process runs."""
    return {
        "name": record.name,
        "handler": record.handler,
        "resumePoint": record.resume_point,
        "owner": record.owner,
        "attempt": record.attempt,
        "leaseExpireTime": _moment(record.lease_expire_time),
        "createTime": Moment(record.create_time),
    }


def _moment(when: float | None) -> Moment | None:
    return None if when is None else Moment(when)


def _progress(operation: operations_pb2.Operation, handler: str, show: Shower) -> dict[str, Any] | None:
    found = progress_of(operation)
    if found.fraction is None and not found.message:
        return None
    return {"fraction": found.fraction, "message": show.text(found.message, operation.name, handler)}


def _error_line(record: Record, show: Shower) -> dict[str, Any] | None:
    """Why it has failed, or is paused or will fail."""
    problem = problem_of(record)
    if problem is None:
        return None
    message = show.text(problem.message, record.name, record.handler)
    return {"code": problem.code, "reason": problem.reason, "message": message}


def of_operation(
    told: Description, record: Record, children: Sequence[Record], others: Mapping[str, Record], show: Shower
) -> dict[str, Any]:
    """Everything about one operation.

    Args:
        told: Its description.
        record: Its row.
        children: Some of the operations that it started, the newest first.
        others: The rows of its deliveries and of the operation that it runs again, by name, as far as they are there.
        show: Asked before payloads and texts are told.
    """

    def text(value: str) -> str:
        return show.text(value, told.name, told.handler)

    error = problem_of(record) if record.state is State.FAILED else None
    state = shown_state(told.handler, state_json(record.state_data, record.state_codec))
    return {
        **summary(record, show),
        "failedAlike": "" if error is None else failing_filter(record.handler, error.code, error.reason),
        "uid": told.uid,
        "resumePoint": told.resume_point,
        "updateTime": Moment(told.update_time),
        "expireTime": _moment(told.expire_time),
        "deadline": _moment(told.deadline),
        "attempt": told.attempt,
        "retries": told.retries,
        "runs": told.runs,
        "crashes": told.crashes,
        "owner": told.owner,
        "leaseExpireTime": _moment(told.lease_expire_time),
        "waitsFor": text(told.waits_for),
        "queues": [_in_line(place, text) for place in told.queues],
        "waitsIn": list(dict.fromkeys(place.queue for place in told.queues if not place.held)),
        "pauseReason": text(told.pause_reason),
        "cleaning": told.cleaning,
        "parentOperation": told.parent_operation,
        "childStates": {state.value: _count(count) for state, count in told.children.items()},
        "children": [summary(child, show) for child in children],
        **of_webhooks(record, others, show),
        "rerunOf": told.rerun_of,
        "reruns": list(told.reruns),
        "journalEntries": told.entries,
        "othersToRerun": _others(others.get(told.rerun_of)),
        "bulk": told.handler == HANDLER,
        "bulkResult": _bulk_result(record) if told.handler == HANDLER else None,
        "handlerState": show("state", state, told.name, told.handler),
        "operation": _as_clients_see(told.operation, told.handler, show),
        "timeline": [_span(span, text) for span in _ends(told.timeline)],
        "timelineSpans": len(told.timeline),
        "history": [_entry(entry, text) for entry in told.history[-MOST_ENTRIES:]],
        "historyEntries": len(told.history),
    }


def _in_line(place: InLine, text: Callable[[str], str]) -> dict[str, Any]:
    """Where it stands in a queue. Keys are computed from payloads."""
    return {
        "queue": place.queue,
        "key": text(place.key),
        "step": text(place.step),
        "stepKey": text(place.step_key),
        "priority": place.priority,
        "running": place.held,
        "since": Moment(place.since),
        "ahead": _count(place.ahead),
        "paused": place.paused,
        "restsUntil": _moment(place.rests_until),
    }


def _bulk_result(record: Record) -> dict[str, Any] | None:
    """What an action on many came to; None before its end."""
    found, state = members_json(record.response), state_json(record.state_data, record.state_codec)
    if not found or not isinstance(state, dict):
        return None
    return {
        "verb": str(state.get("verb", "")),
        **{key: int(found.get(key, 0)) for key in ("done", "failed", "skipped")},
    }


def _others(source: Record | None) -> str:
    """The filter of what failed as the operation that was run again, and was not run again itself; "" for none."""
    if source is None or source.state is not State.FAILED:
        return ""
    error = problem_of(source)
    return "" if error is None else f"{failing_filter(source.handler, error.code, error.reason)} AND {NOT_AGAIN}"


def _ends(timeline: Sequence[Span]) -> Sequence[Span]:
    if len(timeline) <= MOST_SPANS:
        return timeline
    return [*timeline[: MOST_SPANS // 2], *timeline[-MOST_SPANS // 2 :]]


def _span(span: Span, text: Any) -> dict[str, Any]:
    return {
        "kind": span.kind,
        "start": Moment(span.start),
        "end": _moment(span.end),
        "label": text(span.label) if span.kind != "SEGMENT" else span.label,
        "outcome": span.outcome if span.kind != "WAIT" else text(span.outcome),
        "owner": span.owner,
        "error": text(span.error),
        "attempts": span.attempts,
    }


def _entry(entry: HistoryEntry, text: Any) -> dict[str, Any]:
    return {
        "time": Moment(entry.time),
        "kind": entry.kind,
        "name": text(entry.name) if entry.kind != "CREATED" else entry.name,
        "key": text(entry.key),
        "text": text(entry.text),
        "error": text(entry.error),
    }


def _as_clients_see(operation: operations_pb2.Operation, handler: str, show: Shower) -> dict[str, Any]:
    """proto3 JSON of the operation, as far as it may be shown."""

    def shown(part: str, value: Any) -> Any:
        return show(part, value, operation.name, handler)

    members: dict[str, Any] = {"name": operation.name}
    if operation.HasField("metadata"):
        members["metadata"] = shown("metadata", any_json(operation.metadata))
    if operation.done:
        members["done"] = True
    result = operation.WhichOneof("result")
    if result == "error":
        members["error"] = shown("error", status_json(operation.error))
    elif result == "response":
        members["response"] = shown("response", any_json(operation.response))
    return members
