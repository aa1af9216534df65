"""Schedules over HTTP: ``/v1/schedules``, with the verbs of AIP-152's jobs."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from lro_aio.core.schedules import PARENT, info_json
from lro_aio.servers._openapi import REASON_BODY, RERUN_BODY, Answers
from lro_aio.servers._routes import Act, Endpoint, Members, Routes, path_name, read_members, response
from lro_aio.servers.http import Reply, operation_json

__all__ = ["add_reads", "add_writes"]

_REASON: Members = {"reason": ("reason", str)}
_RUN: Members = {"requestId": ("request_id", str), "request_id": ("request_id", str)}
_NAMED: dict[str, Any] = {
    "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
}
"""OpenAPI of the name in the path."""


def add_reads(routes: Routes, answers: Answers) -> None:
    """Add the routes that change nothing. They stand before those that take any GET below the prefix."""
    client = routes.calls.client

    async def page(request: Request, name: str) -> Response:  # noqa: ARG001 (all routes have one signature)
        return response(Reply(200, {"schedules": [info_json(info) for info in await client.schedules.list()]}))

    async def get(request: Request, name: str) -> Response:  # noqa: ARG001 (as above)
        return response(Reply(200, info_json(await client.schedules.get(_id(name)))))

    pages, gets = routes.endpoint("list_schedules", page, _collection), _one(routes, "get_schedule", get)
    routes.add("GET", f"/{PARENT}", pages, "ListSchedules", responses=answers.schedules)
    routes.add("GET", f"/{PARENT}/{{name}}", gets, "GetSchedule", _NAMED, responses=answers.schedule)


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

    path = f"/{PARENT}/{{name}}"
    runs = _one(routes, "run_schedule", run)
    routes.add("POST", f"{path}:run", runs, "RunSchedule", _NAMED | RERUN_BODY, responses=answers.operation)
    for verb, act in {"pause": pause, "unpause": unpause}.items():
        endpoint, title = _one(routes, f"{verb}_schedule", act), f"{verb.title()}Schedule"
        routes.add("POST", f"{path}:{verb}", endpoint, title, _NAMED | REASON_BODY, responses=answers.schedule)


def _one(routes: Routes, verb: str, act: Act) -> Endpoint:
    return routes.endpoint(verb, act, _name)


async def _collection(_: Request) -> str:
    return PARENT


async def _name(request: Request) -> str:
    return f"{PARENT}/{await path_name(request)}"


def _id(name: str) -> str:
    return name.removeprefix(f"{PARENT}/")
