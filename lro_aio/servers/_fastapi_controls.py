"""The verbs for operators, in Google's style: ``:cancel``, ``:pause``, ``:unpause``, ``:rerun`` (AIP-136)."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from lro_aio.servers import _fastapi_bulk as bulk
from lro_aio.servers._openapi import operation_responses
from lro_aio.servers._routes import Routes, response
from lro_aio.servers.errors import invalid
from lro_aio.servers.http import Reply, operation_json, parse_object, read_body

__all__ = ["add_routes"]

MAX_BODY = 64 * 1024
"""Most bytes of a request's body, which holds a reason or an id."""


def add_routes(routes: Routes) -> None:
    """Add the routes. They stand before those that take any POST below the prefix."""
    calls = routes.calls

    async def cancel(request: Request, name: str) -> Response:
        asked = await _members(request, "reason", "name")  # the name is the path's, whatever the body says
        await calls.cancel(name, asked.get("reason", ""))
        return response(Reply(200, {}))

    async def pause(request: Request, name: str) -> Response:
        asked = await _members(request, "reason")
        await calls.pause(name, asked.get("reason", ""))
        return response(Reply(200, {}))

    async def unpause(request: Request, name: str) -> Response:
        asked = await _members(request, "reason")
        await calls.unpause(name, asked.get("reason", ""))
        return response(Reply(200, {}))

    async def rerun(request: Request, name: str) -> Response:
        asked = await _members(request, "requestId", "request_id")
        made = await calls.rerun(name, asked.get("requestId", asked.get("request_id")) or None)
        return response(Reply(200, operation_json(made)))

    bulk.add_routes(routes, {"cancel": cancel, "pause": pause, "unpause": unpause, "rerun": rerun})
    described = operation_responses(calls.client)
    routes.add("POST", "/{name:path}:cancel", routes.endpoint("cancel", cancel), "CancelOperation")
    routes.add("POST", "/{name:path}:pause", routes.endpoint("pause", pause), "PauseOperation")
    routes.add("POST", "/{name:path}:unpause", routes.endpoint("unpause", unpause), "UnpauseOperation")
    routes.add("POST", "/{name:path}:rerun", routes.endpoint("rerun", rerun), "RerunOperation", responses=described)


async def _members(request: Request, *known: str) -> dict[str, str]:
    """The members of the body, all of them texts."""
    members = parse_object(await read_body(request.receive, request.headers, MAX_BODY))
    for name, value in members.items():
        if name not in known:
            raise invalid("body", f"has an unknown member; known: {', '.join(known) or 'none'}")
        if not isinstance(value, str):
            raise invalid(name, "must be a string")
    return members
