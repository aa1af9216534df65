"""Schedules over HTTP: ``/v1/schedules``, with the verbs of AIP-152's jobs."""

from __future__ import annotations

import datetime
import math
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from lro_aio.core.calendars import iso
from lro_aio.core.schedules import PARENT, info_json
from lro_aio.engine.schedules import FASTEST
from lro_aio.servers._openapi import REASON_BODY, RERUN_BODY, Answers, body
from lro_aio.servers._routes import Act, Endpoint, Members, Routes, path_name, read_members, response
from lro_aio.servers.errors import invalid
from lro_aio.servers.http import Reply, operation_json

__all__ = ["add_reads", "add_writes"]

LASTS = 5.0
"""Seconds for which one ``:backfill`` starts operations. Its answer says where to go on, and when."""
MOST_UPCOMING = 1000
USUAL_RATE = 10.0

_REASON: Members = {"reason": ("reason", str)}
_RUN: Members = {"requestId": ("request_id", str), "request_id": ("request_id", str)}
_NAMED: dict[str, Any] = {
    "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
}
"""OpenAPI of the name in the path."""
_COUNTED: dict[str, Any] = {
    "parameters": [
        *_NAMED["parameters"],
        {
            "name": "upcoming",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_UPCOMING},
            "description": "how many of its next moments; 5 without it",
        },
    ]
}
_BACKFILL: Members = {
    "start": ("start", str),
    "end": ("end", str),
    "perSecond": ("per_second", (int, float)),
    "per_second": ("per_second", (int, float)),
}
_TIME = {"type": "string", "format": "date-time"}
_BACKFILL_BODY = body(
    {
        "start": {**_TIME, "description": "the moment itself is one of them"},
        "end": {**_TIME, "description": "in the past; the moment itself is not"},
        "perSecond": {"type": "number", "minimum": 0.001, "maximum": FASTEST, "default": USUAL_RATE},
    },
    ["start", "end"],
)
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")


def add_reads(routes: Routes, answers: Answers) -> None:
    """Add the routes that change nothing. They stand before those that take any GET below the prefix."""
    client = routes.calls.client

    async def page(request: Request, name: str) -> Response:  # noqa: ARG001 (all routes have one signature)
        return response(Reply(200, {"schedules": [info_json(info) for info in await client.schedules.list()]}))

    async def get(request: Request, name: str) -> Response:
        count, info = _upcoming(request), await client.schedules.get(_id(name))
        if count is not None:
            info = replace(info, upcoming=await client.schedules.upcoming(_id(name), count))
        return response(Reply(200, info_json(info)))

    pages, gets = routes.endpoint("list_schedules", page, _collection), _one(routes, "get_schedule", get)
    routes.add("GET", f"/{PARENT}", pages, "ListSchedules", responses=answers.schedules)
    routes.add("GET", f"/{PARENT}/{{name}}", gets, "GetSchedule", _COUNTED, responses=answers.schedule)


def add_writes(routes: Routes, answers: Answers) -> None:
    """Add the verbs. They stand before those of operations, whose paths would match as well."""
    client = routes.calls.client

    async def run(request: Request, name: str) -> Response:
        asked = await read_members(request, _RUN)
        started = await client.schedules.run(_id(name), request_id=asked.get("request_id") or None)
        return response(Reply(200, operation_json(started.proto)))

    async def pause(request: Request, name: str) -> Response:
        asked = await read_members(request, _REASON)
        await client.schedules.pause(_id(name), asked.get("reason", ""))
        return response(Reply(200, info_json(await client.schedules.get(_id(name)))))

    async def unpause(request: Request, name: str) -> Response:
        asked = await read_members(request, _REASON)
        await client.schedules.unpause(_id(name), asked.get("reason", ""))
        return response(Reply(200, info_json(await client.schedules.get(_id(name)))))

    async def backfill(request: Request, name: str) -> Response:
        asked = await read_members(request, _BACKFILL)
        start, end = (_time(asked, member) for member in ("start", "end"))
        rate = asked.get("per_second", USUAL_RATE)
        filled = await client.schedules.backfill_for(LASTS, _id(name), start, end, per_second=rate)
        told: dict[str, Any] = {"operations": [operation_json(op.proto) for op in filled.made]}
        if filled.next_start is not None:
            told |= {"nextStart": iso(filled.next_start), "nextTime": iso(math.ceil(filled.next_time))}
        return response(Reply(200, told))

    async def delete(request: Request, name: str) -> Response:  # noqa: ARG001 (as above)
        await client.schedules.delete(_id(name))
        return response(Reply(200, {}))

    path = f"/{PARENT}/{{name}}"
    runs = _one(routes, "run_schedule", run)
    routes.add("POST", f"{path}:run", runs, "RunSchedule", _NAMED | RERUN_BODY, responses=answers.operation)
    for verb, act in {"pause": pause, "unpause": unpause}.items():
        endpoint, title = _one(routes, f"{verb}_schedule", act), f"{verb.title()}Schedule"
        routes.add("POST", f"{path}:{verb}", endpoint, title, _NAMED | REASON_BODY, responses=answers.schedule)
    fills, deletes = _one(routes, "backfill_schedule", backfill), _one(routes, "delete_schedule", delete)
    described = _NAMED | _BACKFILL_BODY
    routes.add("POST", f"{path}:backfill", fills, "BackfillSchedule", described, responses=answers.backfill)
    routes.add("DELETE", path, deletes, "DeleteSchedule", _NAMED, responses=answers.nothing)


def _one(routes: Routes, verb: str, act: Act) -> Endpoint:
    return routes.endpoint(verb, act, _name)


async def _collection(_: Request) -> str:
    return PARENT


async def _name(request: Request) -> str:
    return f"{PARENT}/{await path_name(request)}"


def _id(name: str) -> str:
    return name.removeprefix(f"{PARENT}/")


def _upcoming(request: Request) -> int | None:
    """How many moments are asked for; None: as many as usual.

    Raises:
        RequestError: It is no number that may be asked for.
    """
    text = request.query_params.get("upcoming")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MOST_UPCOMING):
        raise invalid("upcoming", f"must be a whole number from 1 to {MOST_UPCOMING}")
    return int(text)


def _time(asked: dict[str, Any], member: str) -> datetime.datetime:
    """A time in a body.

    Raises:
        RequestError: It is not there, or has another form.
    """
    text = asked.get(member, "")
    with suppress(ValueError):  # the 31st of June
        if _RFC_3339.fullmatch(text):
            return datetime.datetime.fromisoformat(text.upper())
    raise invalid(member, "must be a time with its zone, such as 2026-01-31T00:00:00Z")
