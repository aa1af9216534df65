"""What the FastAPI routers of every style share: access control, the call, and the style's answer to its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException as StarletteHTTPException

from lro_aio.client import Client
from lro_aio.core.errors import InvalidOperationNameError
from lro_aio.core.names import parse
from lro_aio.servers._openapi import Responses
from lro_aio.servers.calls import Calls
from lro_aio.servers.errors import cut_off, invalid
from lro_aio.servers.forms import refuse_forms
from lro_aio.servers.http import Reply, parse_object, read_body
from lro_aio.servers.sending import most_sent

__all__ = [
    "Act",
    "Endpoint",
    "Members",
    "NameOf",
    "Routes",
    "collection_name",
    "either",
    "path_name",
    "query_parameters",
    "read_members",
    "read_sent",
    "response",
]

NAME_PARAMETER = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "resource name, with its slashes",
}

MAX_BODY = 64 * 1024
"""Most bytes of a body with members: a filter, a reason or an id."""

KINDS: dict[type | tuple[type, ...], str] = {str: "a string", bool: "a boolean", (int, float): "a number"}
"""Types of JSON, in words."""

Members = Mapping[str, tuple[str, type | tuple[type, ...]]]
"""What a body may have: by member, the argument that it is, and its type."""

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
Act = Callable[[Request, str], Awaitable[Response]]
NameOf = Callable[[Request], Awaitable[str]]


class _OperationName(Convertor[str]):
    """What looks like the name of one operation, without a verb. The others go the long way, to their errors."""

    regex = r"(?:[^:\n]+/)??operations/[^/:\n]+"  # lazy: most names have no parent

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("lro_operation", _OperationName())


def response(reply: Reply) -> Response:
    """A reply as a FastAPI response."""
    return Response(reply.content(), reply.status, dict(reply.headers), "application/json")


async def read_sent(request: Request, client: Client) -> bytes:
    """The body of a message to an operation, as far as it may be one that the client takes."""
    return await read_body(request.receive, request.headers, most_sent(client.server_host.limits.message))


async def read_members(request: Request, known: Members) -> dict[str, Any]:
    """The arguments that a body has.

    Raises:
        RequestError: It is no JSON object, has other members or one in two spellings, or one has the wrong type.
    """
    found: dict[str, Any] = {}
    for name, value in parse_object(await read_body(request.receive, request.headers, MAX_BODY)).items():
        if name not in known:
            raise invalid("body", f"has an unknown member; known: {', '.join(known)}")
        argument, kind = known[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise invalid(name, f"must be {KINDS[kind]}")
        if argument in found:
            raise invalid(name, "is there twice")
        found[argument] = value
    return found


async def path_name(request: Request) -> str:
    """The name in the path. What the router does not see in it stays, and makes it invalid.

    An encoded slash separates nothing, and a line break at the end is not the end of the path.
    """
    name: str = request.path_params["name"]
    raw: bytes = request.scope.get("raw_path") or b""
    name = name.replace("/", "%2F") if b"%2f" in raw.partition(b"?")[0].lower() else name
    return name + _line_break(request)


async def collection_name(request: Request) -> str:
    """The collection below the name in the path, or the top level where the path has none."""
    if "name" in request.path_params:
        return f"{await path_name(request)}/operations"
    return "operations" + _line_break(request)


def either(many: Endpoint, one: Endpoint) -> Endpoint:
    """``x/operations/operations`` is an operation, and not the collection below ``x/operations``."""

    async def answer(request: Request) -> Response:  # no partial: older releases of FastAPI do not read its annotations
        try:
            parse(await collection_name(request))
        except InvalidOperationNameError:
            return await many(request)
        return await one(request)

    return answer


def _line_break(request: Request) -> str:
    return "\n" if request.scope["path"].endswith("\n") else ""


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes of one router below one prefix.

    Args:
        router: The router that gets them.
        calls: The calls that they make.
        prefix: Path before the names.
        on_error: The style's answer for an exception.
    """

    router: APIRouter
    calls: Calls
    prefix: str
    on_error: Callable[[BaseException, Client], Reply]

    def endpoint(self, verb: str, act: Act, name_of: NameOf = path_name) -> Endpoint:
        """The endpoint of one verb."""

        async def endpoint(request: Request) -> Response:
            try:
                if request.method == "POST":
                    refuse_forms(request.headers)
                name = await name_of(request)
                await self.calls.allow(request, verb, name)
                return await act(request, name)
            except StarletteHTTPException:
                raise  # FastAPI answers it
            except asyncio.CancelledError:
                stopped = cut_off(self.calls.client)
                if stopped is None:
                    raise
                return response(self.on_error(stopped, self.calls.client))
            except Exception as exc:  # noqa: BLE001 (whatever it is, the caller gets the style's error body)
                return response(self.on_error(exc, self.calls.client))

        return endpoint

    def add(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        name: str,
        parameters: dict[str, Any] | None = None,
        *,
        responses: Responses,
        described: bool = True,
    ) -> None:
        """Add a route. The first route that matches is taken.

        Args:
            method: Of HTTP.
            path: After the prefix.
            endpoint: Answers.
            name: The route's.
            parameters: OpenAPI of what is not in the path.
            responses: FastAPI's description of the answers.
            described: Whether it stands in the OpenAPI document.
        """
        more = dict(parameters or {})
        if "{name:path}" in path:
            more["parameters"] = [NAME_PARAMETER, *more.get("parameters", ())]
        self.router.add_api_route(
            f"{self.prefix}{path}",
            endpoint,
            methods=[method],
            response_model=None,
            status_code=next(status for status in responses if isinstance(status, int)),
            response_class=Response,  # with no type of its own, which the document would name
            responses=responses,
            name=name,
            openapi_extra=more,
            summary=name,
            include_in_schema=described,
        )

    def add_get(self, get: Act, name: str, responses: Responses) -> None:
        """Add the route of what is asked for most, before all others: each of those costs as much as the answer does.

        Args:
            get: Answers for an operation.
            name: The route's. Another one of this name describes it.
            responses: As for ``add``.
        """
        self.add("GET", "/{name:lro_operation}", self.endpoint("get", get), name, responses=responses, described=False)

    def add_lists(self, page: Act, get: Act, parameters: dict[str, Any], responses: Responses) -> None:
        """Add the lists of the top level and of every parent.

        Args:
            page: Answers with the list of a parent.
            get: Answers for an operation whose id is "operations".
            parameters: OpenAPI of the query.
            responses: As for ``add``.
        """
        many = self.endpoint("list", page, collection_name)
        one = self.endpoint("get", get, collection_name)
        self.add("GET", "/operations", many, "ListOperations", parameters, responses=responses)
        of_parent = either(many, one)
        self.add("GET", "/{name:path}/operations", of_parent, "ListOperationsOfParent", parameters, responses=responses)


def query_parameters(*parameters: tuple[str, str, str]) -> dict[str, Any]:
    """OpenAPI of query parameters, each a (name, type, description). All are optional."""
    return {
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": kind}, "description": text}
            for name, kind, text in parameters
        ]
    }
