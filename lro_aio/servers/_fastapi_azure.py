"""The routes of ``operations_router(client, style="azure")``."""

from __future__ import annotations

import contextlib

from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.errors import OperationNotFoundError
from lro_aio.servers._openapi import SENT_BODY, azure_answers
from lro_aio.servers._routes import Routes, query_parameters, read_sent, response
from lro_aio.servers.azure import error_reply, monitor_reply, page_json, refuse_repeatability
from lro_aio.servers.calls import Calls
from lro_aio.servers.errors import invalid
from lro_aio.servers.http import Reply

__all__ = ["add_routes"]

LIST_PARAMETERS = query_parameters(
    ("filter", "string", "AIP-160 filter"),
    ("maxpagesize", "integer", "0 takes the default"),
    ("pageToken", "string", "from the nextLink of the previous page"),
)


def add_routes(router: APIRouter, calls: Calls, prefix: str) -> None:
    """Add the routes, in the order in which they are tried."""

    async def get(request: Request, name: str) -> Response:  # noqa: ARG001 (all routes have one signature)
        return response(monitor_reply(await calls.record(name), calls.client.clock.time()))

    async def page(request: Request, parent: str) -> Response:
        found = await calls.page(_list_request(request, parent))
        token = found.response.next_page_token
        return response(Reply(200, page_json(found.records, _next_link(request, token) if token else None)))

    async def cancel(request: Request, name: str) -> Response:
        refuse_repeatability(request.headers)
        await calls.cancel(name)
        return await get(request, name)

    async def send(request: Request, name: str) -> Response:
        refuse_repeatability(request.headers)
        await calls.send(name, await read_sent(request, calls.client))
        return await get(request, name)

    async def delete(request: Request, name: str) -> Response:  # noqa: ARG001 (all routes have one signature)
        with contextlib.suppress(OperationNotFoundError):  # Azure's DELETE answers 204 for what does not exist, too
            await calls.delete(name)
        return Response(status_code=204)

    routes = Routes(router, calls, prefix, error_reply)
    answers = azure_answers(calls.client)
    described = answers.operation
    routes.add_get(get, "GetStatusMonitor", described)
    routes.add_lists(page, get, LIST_PARAMETERS, answers.page)
    routes.add("GET", "/{name:path}", routes.endpoint("get", get), "GetStatusMonitor", responses=described)
    routes.add("POST", "/{name:path}:cancel", routes.endpoint("cancel", cancel), "CancelOperation", responses=described)
    sends = routes.endpoint("send", send)
    routes.add("POST", "/{name:path}:send", sends, "SendToOperation", SENT_BODY, responses=described)
    deletes = routes.endpoint("delete", delete)
    routes.add("DELETE", "/{name:path}", deletes, "DeleteStatusMonitor", responses=answers.nothing)


def _next_link(request: Request, token: str) -> str:
    """The URL of the next page, with the path that a proxy has taken away and that the application is told of."""
    url, root = request.url, request.scope.get("root_path", "").rstrip("/")
    if not url.path.startswith(f"{root}/"):
        url = url.replace(path=root + url.path)
    return str(url.include_query_params(pageToken=token))


def _list_request(request: Request, parent: str) -> operations_pb2.ListOperationsRequest:
    query = request.query_params
    for name in ("top", "skip", "orderby", "select", "expand"):
        if name in query:
            raise invalid(name, "is not supported")
    asked = operations_pb2.ListOperationsRequest(
        name=parent, filter=query.get("filter", ""), page_token=query.get("pageToken", "")
    )
    try:
        asked.page_size = int(query.get("maxpagesize", "0"))
    except ValueError as exc:
        raise invalid("maxpagesize", "is not an integer") from exc
    return asked
