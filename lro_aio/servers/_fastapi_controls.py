"""The verbs for operators, in Google's style: ``:cancel``, ``:pause``, ``:unpause``, ``:rerun`` (AIP-136)."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from lro_aio.servers import _fastapi_bulk as bulk
from lro_aio.servers import _fastapi_schedules as schedules
from lro_aio.servers._openapi import REASON_BODY, RERUN_BODY, Answers
from lro_aio.servers._routes import Members, Routes, read_members, response
from lro_aio.servers.http import Reply, operation_json

__all__ = ["add_routes"]

_REASON: Members = {"reason": ("reason", str)}
_CANCEL: Members = {**_REASON, "name": ("name", str)}
_RERUN: Members = {"requestId": ("request_id", str), "request_id": ("request_id", str)}


def add_routes(routes: Routes, answers: Answers) -> None:
    """Add the routes. They stand before those that take any POST below the prefix."""
    calls = routes.calls

    async def cancel(request: Request, name: str) -> Response:
        asked = await read_members(request, _CANCEL)  # the name is the path's, whatever the body says
        await calls.cancel(name, asked.get("reason", ""))
        return response(Reply(200, {}))

    async def pause(request: Request, name: str) -> Response:
        asked = await read_members(request, _REASON)
        await calls.pause(name, asked.get("reason", ""))
        return response(Reply(200, {}))

    async def unpause(request: Request, name: str) -> Response:
        asked = await read_members(request, _REASON)
        await calls.unpause(name, asked.get("reason", ""))
        return response(Reply(200, {}))

    async def rerun(request: Request, name: str) -> Response:
        asked = await read_members(request, _RERUN)
        made = await calls.rerun(name, asked.get("request_id") or None)
        return response(Reply(200, operation_json(made)))

    bulk.add_routes(routes, answers, {"cancel": cancel, "pause": pause, "unpause": unpause, "rerun": rerun})
    schedules.add_writes(routes, answers)
    for verb, act in {"cancel": cancel, "pause": pause, "unpause": unpause}.items():
        endpoint, title = routes.endpoint(verb, act), f"{verb.title()}Operation"
        routes.add("POST", f"/{{name:path}}:{verb}", endpoint, title, REASON_BODY, responses=answers.nothing)
    reruns = routes.endpoint("rerun", rerun)
    routes.add("POST", "/{name:path}:rerun", reruns, "RerunOperation", RERUN_BODY, responses=answers.operation)
