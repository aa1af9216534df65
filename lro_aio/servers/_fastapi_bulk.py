"""The verbs over many operations, in Google's style: ``POST {collection}:cancel`` with a filter (AIP-165)."""

from __future__ import annotations

from functools import partial

from fastapi import HTTPException, Request
from fastapi.responses import Response

from lro_aio.core.bulk import FASTEST, SLOWEST, VERBS, BulkPreview, preview_json
from lro_aio.core.names import collection
from lro_aio.servers._openapi import Answers, body
from lro_aio.servers._routes import Act, Members, Routes, collection_name, either, read_members, response
from lro_aio.servers.calls import BulkRequest
from lro_aio.servers.http import Reply, operation_json

__all__ = ["add_routes"]

_MEMBERS: Members = {
    "filter": ("filter", str),
    "force": ("force", bool),
    "reason": ("reason", str),
    "perSecond": ("per_second", (int, float)),
    "per_second": ("per_second", (int, float)),
    "requestId": ("request_id", str),
    "request_id": ("request_id", str),
}

_BODY = body(
    {
        "filter": {"type": "string", "description": "AIP-160 filter; * is every operation"},
        "force": {"type": "boolean", "description": "false: only count them, and name some"},
        "reason": {"type": "string"},
        "perSecond": {"type": "number", "minimum": SLOWEST, "maximum": FASTEST},
        "requestId": {"type": "string", "description": "the same for a repeat of one request"},
    },
    ["filter"],
)
"""OpenAPI of what they take."""


def add_routes(routes: Routes, answers: Answers, single: dict[str, Act]) -> None:
    """Add the routes. They stand before those of single operations, which their paths would match as well.

    Args:
        routes: Of the router.
        answers: Of the router.
        single: By verb, what answers for an operation whose id is "operations".
    """
    for verb in VERBS:
        many = routes.endpoint(verb, partial(_act, routes, verb), _collection)
        title = f"{verb.title()}Operations"
        routes.add("POST", f"/operations:{verb}", many, title, _BODY, responses=answers.many)
        one = routes.endpoint(verb, single[verb], collection_name) if verb in single else _not_there
        path, of_parent = f"/{{name:path}}/operations:{verb}", either(many, one)
        routes.add("POST", path, of_parent, f"{title}OfParent", _BODY, responses=answers.many)


async def _not_there(_: Request) -> Response:
    raise HTTPException(404)


async def _collection(request: Request) -> str:
    return collection(await collection_name(request))


async def _act(routes: Routes, verb: str, request: Request, name: str) -> Response:
    # Whoever may not see the operations of a collection must not act on them all, or learn how many there are.
    await routes.calls.allow(request, "list", name)
    asked = BulkRequest(**await read_members(request, _MEMBERS))
    found = await routes.calls.bulk(verb, name, asked)
    return response(Reply(200, preview_json(found) if isinstance(found, BulkPreview) else operation_json(found)))
