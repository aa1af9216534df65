"""The verbs over many operations, in Google's style: ``POST {collection}:cancel`` with a filter (AIP-165)."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response

from lro_aio.core.bulk import FASTEST, SLOWEST, VERBS, BulkPreview
from lro_aio.core.errors import InvalidOperationNameError
from lro_aio.core.names import collection, parse
from lro_aio.servers._routes import Act, Endpoint, Routes, path_name, response
from lro_aio.servers.calls import BulkRequest
from lro_aio.servers.errors import invalid
from lro_aio.servers.http import Reply, operation_json, parse_object, read_body

__all__ = ["add_routes"]

MAX_BODY = 64 * 1024
"""Most bytes of a request's body: a filter and a reason."""

_MEMBERS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "filter": ("filter", str),
    "force": ("force", bool),
    "reason": ("reason", str),
    "perSecond": ("per_second", (int, float)),
    "per_second": ("per_second", (int, float)),
}
"""Of the body: the argument that each is, and its type in JSON."""

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "filter": {"type": "string", "description": "AIP-160 filter; * is every operation"},
                        "force": {"type": "boolean", "description": "false: only count them, and name some"},
                        "reason": {"type": "string"},
                        "perSecond": {"type": "number", "minimum": SLOWEST, "maximum": FASTEST},
                    },
                    "required": ["filter"],
                    "additionalProperties": False,
                }
            }
        },
    }
}
"""OpenAPI of what they take."""


def add_routes(routes: Routes, single: dict[str, Act]) -> None:
    """Add the routes. They stand before those of single operations, which their paths would match as well.

    Args:
        routes: Of the router.
        single: By verb, what answers for an operation whose id is "operations".
    """
    for verb in VERBS:
        many = routes.endpoint(verb, partial(_act, routes, verb), _collection)
        title = f"{verb.title()}Operations"
        routes.add("POST", f"/operations:{verb}", many, title, _BODY)
        one = routes.endpoint(verb, single[verb], _named_operations) if verb in single else None
        routes.add("POST", f"/{{name:path}}/operations:{verb}", _either(many, one), f"{title}OfParent", _BODY)


def _either(many: Endpoint, one: Endpoint | None) -> Endpoint:
    """``x/operations/operations`` is an operation, and not the collection below ``x/operations``."""

    async def answer(request: Request) -> Response:  # no partial: older releases of FastAPI do not read its annotations
        try:
            parse(await _named_operations(request))
        except InvalidOperationNameError:
            return await many(request)
        if one is None:
            raise HTTPException(404)
        return await one(request)

    return answer


async def _named_operations(request: Request) -> str:
    return f"{await path_name(request)}/operations"


async def _collection(request: Request) -> str:
    name = await _named_operations(request) if "name" in request.path_params else "operations"
    return collection(name)


async def _act(routes: Routes, verb: str, request: Request, name: str) -> Response:
    # Whoever may not see the operations of a collection must not act on them all, or learn how many there are.
    await routes.calls.allow(request, "list", name)
    asked = _request(parse_object(await read_body(request.receive, request.headers, MAX_BODY)))
    found = await routes.calls.bulk(verb, name, asked)
    if not isinstance(found, BulkPreview):
        return response(Reply(200, operation_json(found)))
    told: dict[str, Any] = {"count": found.count.number, "sample": list(found.sample)}
    return response(Reply(200, told | ({"more": True} if found.count.more else {})))


def _request(members: dict[str, Any]) -> BulkRequest:
    asked: dict[str, Any] = {}
    for name, value in members.items():
        if name not in _MEMBERS:
            raise invalid("body", f"has an unknown member; known: {', '.join(_MEMBERS)}")
        argument, kind = _MEMBERS[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise invalid(name, "has a value of the wrong type")
        asked[argument] = value
    return BulkRequest(**asked)
