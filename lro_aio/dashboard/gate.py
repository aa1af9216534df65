"""The dashboard for whoever has a link, without any accounts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from lro_aio.dashboard.access import Access, Authorize
from lro_aio.dashboard.app import Dashboard
from lro_aio.servers.http import Receive, Scope, Send

__all__ = ["TokenGate"]


class TokenGate:
    """An ASGI application that lets in who comes with a token in the link, and knows them by a cookie from then on.

    Args:
        make: Makes the application from the function that tells those who were let in from others.
        access: What they may do.
        port: Browsers send cookies to all ports of a machine: each server has its own.
    """

    def __init__(self, make: Callable[[Authorize], Dashboard], access: Access, port: int) -> None:
        self.token = secrets.token_urlsafe(24)
        self._access = access
        self._cookie = f"lro_dashboard_{port}"
        self._app = make(self._authorize)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if any(self._is_token(given) for given in query.get("token", ())):
                # At once to a page without it: a link with a token must not get into a history or a screenshot.
                answer = Response(status_code=303, headers={"Location": "./", "Referrer-Policy": "no-referrer"})
                answer.set_cookie(self._cookie, self.token, httponly=True, samesite="lax")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _authorize(self, request: Request) -> Access | None:
        return self._access if self._is_token(request.cookies.get(self._cookie, "")) else None

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
