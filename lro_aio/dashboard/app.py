"""``Dashboard``: the ASGI application."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

import anyio.to_thread
from google.rpc import status_pb2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lro_aio.client import Client
from lro_aio.core.codes import Code
from lro_aio.core.errors import InvalidFilterError, LroError, OperationNotFoundError
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.status import make_status
from lro_aio.dashboard.access import Access, Authorize, Guard
from lro_aio.dashboard.actions import Actions, Done, Order, Outcome, check, new_id, read_order
from lro_aio.dashboard.limits import texts_of
from lro_aio.dashboard.live import NewsStream
from lro_aio.dashboard.looks import Shared
from lro_aio.dashboard.rendering import render, static, version
from lro_aio.dashboard.showing import Show, Shower
from lro_aio.dashboard.sources import PAGES, Sources
from lro_aio.dashboard.texts import jsonable
from lro_aio.servers._signals import drained_on_signal
from lro_aio.servers.errors import RequestError, invalid, status_of
from lro_aio.servers.http import Receive, Scope, Send, http_error

__all__ = ["Dashboard"]

MOST_BODY = 4 * 1024 * 1024
"""Bytes of a form: a message may have one MiB, and each of its bytes three characters."""
MOST_FIELDS = 1100
NO_METHOD = 405
AWAY = 5
"""Seconds after which a page that could not be made is asked for again, where no script does it."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with less, forms would be sent from the origin "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer."""
HTML = {"Content-Type": "text/html; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that was let in."""

    request: Request
    access: Access
    page: str
    """The path below the dashboard's own."""


Answer = Response | NewsStream


class Dashboard:
    """Pages for operators, as an ASGI application: mount it anywhere, or run it by itself.

    Its links are relative, so that it works below any prefix and behind any proxy. It needs no JavaScript; with it,
    pages follow what happens. All who look at the same share one look at the store a second.

    Run by itself, it opens the client with its lifespan, and closes it. Mounted, it leaves that to the application.

    Args:
        client: Whose operations are shown: of every parent. A front end (``worker=False``) will do.
        authorize: Called with each request (Starlette's), and decides what its caller may do. It may be async. None of
            it refuses the request; an exception does too. Without ``authorize``, requests from this machine may look,
            and nobody may do anything.
        show: Called with everything that is shown of payloads, errors and messages, and gives what is shown instead.
        title: Stands above every page.
        authorize_timeout: Real seconds or a timedelta after which ``authorize`` has refused.
    """

    def __init__(
        self,
        client: Client,
        *,
        authorize: Authorize | None = None,
        show: Show | None = None,
        title: str = "Operations",
        authorize_timeout: Duration = 5.0,
    ) -> None:
        self._client = client
        self._guard = Guard(authorize, timeout=seconds(authorize_timeout, "authorize_timeout"))
        self._sources = Sources(client, Shower(show))
        self._pages: Shared[bytes] = Shared(client.clock)
        self._actions = Actions(client)
        self._title = title

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or open and close the client with the server."""
        if scope["type"] == "lifespan":
            await _lifespan(self._client, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        request = Request(scope, receive)
        answer = await self._answer(request, _path_below(scope))
        if isinstance(answer, Response):
            for key, value in HEADERS.items():
                answer.headers.setdefault(key, value)
        await answer(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Answer:
        if path == "":  # without the slash, relative links would lead beside the dashboard
            asked = _raw_path(request.scope) or request.scope.get("root_path", "").rstrip("/")
            return Response(status_code=307, headers={"Location": f"./{asked.rpartition('/')[2]}/"})
        access = await self._guard.access(request)
        if access is None:
            status = make_status(Code.PERMISSION_DENIED, "you may not see this", reason="ACCESS_DENIED")
            return await self._problem(_Call(request, Access(), path), status)
        call = _Call(request, access, path.removeprefix("/"))
        try:
            if request.method in ("GET", "HEAD"):
                return await self._get(call)
            if request.method == "POST":
                return await self._post(call)
            raise _no_method()
        except Exception as exc:  # noqa: BLE001 (`status_of` logs what is not ours)
            return await self._problem(
                call, status_of(exc, client=self._client, expose=self._client.expose_errors), exc
            )

    async def _get(self, call: _Call) -> Answer:
        query = call.request.query_params
        first, _, rest = call.page.partition("/")
        if first == "static" and (file := static(rest)) is not None:
            return Response(file[0], headers={"Content-Type": file[1], "Cache-Control": "private, max-age=31536000"})
        if call.page == "events" and call.request.method == "GET" and (page := query.get("of", "overview")) in PAGES:
            return NewsStream(self._client, lambda: self._word(page, query))
        if first == "api" and rest in PAGES:
            look = await self._sources.look(rest, query)
            return await anyio.to_thread.run_sync(_json, look.data)
        page = call.page or "overview"
        if page in PAGES and first != "overview":
            return await self._show_page(call, page, query)
        if page in ("confirm", "act"):
            raise _no_method()
        raise RequestError(make_status(Code.NOT_FOUND, "there is no such page", reason="PAGE_NOT_FOUND"))

    async def _show_page(self, call: _Call, page: str, query: Mapping[str, str]) -> Response:
        try:
            look = await self._sources.look(page, query)
        except InvalidFilterError as exc:
            if page != "operations":
                raise
            data = {"operations": [], "filter": query.get("filter", ""), "nextPageToken": ""}
            return await self._page(call, f"{page}.html", 400, data=data, problem=exc, first=True)
        extra: dict[str, Any] = {"first": not query.get("page")} if page == "operations" else {}
        if page == "operation":
            extra["curl"] = _curl(call.request, query.get("name", ""))
        live = _events(page, query, look.tag)
        made = partial(self._made, call, f"{page}.html", data=look.data, problem=None, live=live, **extra)
        seen = (call.page, call.access, live["url"], look.tag, extra.get("curl"))
        return Response(await self._pages.at(seen, made), headers=HTML)  # fifty tabs of one person are one page

    async def _post(self, call: _Call) -> Response:
        if call.page not in ("confirm", "act"):
            raise _no_method()
        check_origin(call.request)
        order = read_order(await _form(call.request))
        if call.page == "confirm":
            return await self._confirm(call, order)
        try:
            check(order, call.access)
        except RequestError as exc:
            if exc.status.code != Code.INVALID_ARGUMENT:
                raise
            return await self._confirm(call, order, exc)
        done = await self._actions.act(order, call.access)
        self._sources.forget()
        return await self._done(call, order, done)

    async def _confirm(self, call: _Call, order: Order, problem: RequestError | None = None) -> Response:
        if problem is None:
            check(order, call.access)
        found = await self._actions.preview(order) if order.filter else None
        queue = await self._actions.queue(order.names[0]) if order.verb == "limit" else None
        if queue is not None and problem is None:
            order = replace(order, limits=texts_of(queue.bounds))
        return await self._page(
            call, "confirm.html", 200 if problem is None else 400,
            order=order, found=found, queue=queue, id=new_id(), problem=problem and problem.status.message,
        )  # fmt: skip

    async def _done(self, call: _Call, order: Order, done: Done) -> Response:
        if done.bulk:
            return _see_other(_operation_link(done.bulk))
        only = done.outcomes[0] if len(done.outcomes) == 1 else None
        if only is not None and not only.problem:
            return _see_other(_after(order, only))
        return await self._page(call, "result.html", 200 if only is None else only.code.http, order=order, done=done)

    async def _word(self, page: str, query: Mapping[str, str]) -> tuple[str, str]:
        """What a stream of news says now."""
        try:
            return "look", (await self._sources.look(page, query)).tag
        except OperationNotFoundError:
            return "gone", "The operation was deleted, or has expired."
        except Exception as exc:  # noqa: BLE001 (`status_of` logs what is not ours; the next look may do)
            return "away", " ".join(self._status_of(exc).message.split())

    def _status_of(self, exc: Exception) -> status_pb2.Status:
        return status_of(exc, client=self._client, expose=self._client.expose_errors)

    async def _page(self, call: _Call, template: str, status: int = 200, **values: Any) -> Response:
        retry = {"Retry-After": str(values["retry"])} if values.get("retry") else {}
        return Response(await self._made(call, template, **values), status, {**HTML, **retry})

    async def _made(self, call: _Call, template: str, **values: Any) -> bytes:
        made = partial(
            render, template, title=self._title, page=call.page, access=call.access, now=self._client.clock.time(),
            version=version(), **{"live": None, "retry": None, **values},
        )  # fmt: skip
        return await anyio.to_thread.run_sync(made)  # of a megabyte, it takes a while

    async def _problem(self, call: _Call, status: status_pb2.Status, exc: Exception | None = None) -> Response:
        code = Code.of(status.code)
        number = exc.http if isinstance(exc, RequestError) and exc.http is not None else code.http
        if call.page.removeprefix("/").startswith(("api/", "events")):
            reply = http_error(status, number)
            return Response(reply.content(), number, {"Content-Type": "application/json", **reply.headers})
        away = code is Code.UNAVAILABLE and call.request.method == "GET"
        made = await self._page(
            call, "problem.html", number,
            code=code.name, number=number, message=status.message, retry=AWAY if away else None,
            inside=call.access != Access() or exc is not None,
        )  # fmt: skip
        if number == NO_METHOD:
            made.headers["Allow"] = "GET, HEAD, POST"
        return made


def check_origin(request: Request) -> None:
    """Refuse a form that a page of another site sends.

    Raises:
        RequestError: It comes from elsewhere, or does not say where it comes from, as programs do.
    """
    sites = request.headers.getlist("sec-fetch-site")
    origins = request.headers.getlist("origin")
    if sites:
        fine = sites == ["same-origin"]
    else:  # an older browser, or one that was reached without TLS
        hosts = request.headers.getlist("host")
        fine = len(origins) == len(hosts) == 1 and origins[0].partition("://")[2].lower() == hosts[0].lower() != ""
    if not fine:
        sentence = "this was not sent from a page of the dashboard"
        raise RequestError(make_status(Code.PERMISSION_DENIED, sentence, reason="CROSS_ORIGIN"))


def _no_method() -> RequestError:
    return RequestError(
        make_status(Code.UNIMPLEMENTED, "no such method here", reason="METHOD_NOT_ALLOWED"), http=NO_METHOD
    )


def _path_below(scope: Scope) -> str:
    """The path without that of the application, whichever of the two ways its framework has of telling it."""
    path, root = str(scope["path"]), scope.get("root_path", "").rstrip("/")
    below = path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path
    asked = _raw_path(scope)
    return below.rstrip("/") if asked and not asked.endswith("/") else below  # Litestar adds a slash of its own


def _raw_path(scope: Scope) -> str:
    """The path as it was asked for, as far as the server tells."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.partition(b"?")[0].decode("latin-1")


def _events(page: str, query: Mapping[str, str], tag: str) -> dict[str, str]:
    asked = {key: query[key] for key in ("name", "filter", "page") if query.get(key)}
    return {"url": f"events?{urlencode({'of': page, **asked}, errors='replace')}", "tag": tag}


def _after(order: Order, outcome: Outcome) -> str:
    """Where what was done is seen."""
    if outcome.made:
        return _operation_link(outcome.made)
    if order.kind:
        return f"{order.kind}s"
    return "operations" if order.verb == "delete" else _operation_link(outcome.name)


def _operation_link(name: str) -> str:
    return f"operation?{urlencode({'name': name})}"


def _curl(request: Request, name: str) -> str:
    """The command that gives the same as JSON."""
    scope = request.scope
    root = scope.get("root_path", "").rstrip("/")
    host = request.headers.get("host", "localhost")
    url = f"{scope['scheme']}://{host}{root}/api/operation?{urlencode({'name': name}, errors='replace')}"
    return f"curl -s {shlex.quote(url)}"


async def _form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form, also where ``authorize`` has read the body before.

    Raises:
        RequestError: It is too long, has too many fields, or its sender hung up.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                raise invalid("body", f"is over {MOST_BODY} bytes")
    except ClientDisconnect as exc:
        raise invalid("body", "is incomplete: the client hung up") from exc
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as exc:
        raise invalid("body", "has too many fields") from exc


def _see_other(where: str) -> Response:
    return Response(status_code=303, headers={"Location": where})


def _json(data: Any) -> Response:
    content = json.dumps(jsonable(data), separators=(",", ":")).encode()
    return Response(content, headers={"Content-Type": "application/json"})


async def _lifespan(client: Client, receive: Receive, send: Send) -> None:
    """Open the client for as long as the server runs, unless somebody else has opened it."""
    async with AsyncExitStack() as stack:
        await receive()
        try:
            if not client.is_open:
                await stack.enter_async_context(client)
        except Exception as exc:  # whatever it is, the server is told, as ASGI asks for
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            if isinstance(exc, LroError):
                return
            raise
        await stack.enter_async_context(drained_on_signal(client))
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
