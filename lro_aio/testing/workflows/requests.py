"""The HTTP calls of executions: signed, sent over loopback, recorded, and failed where a test asks for that."""

from __future__ import annotations

import http.client
import ipaddress
import json
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from lro_aio.testing.oidc import Flaw, LocalIssuer
from lro_aio.testing.workflows.values import ResourceLimitError, WorkflowError

__all__ = ["Caller", "HttpFault", "Request", "When"]

MAX_RESPONSE = 2 * 1024 * 1024
"""Bytes (https://cloud.google.com/workflows/quotas)."""

HttpFault = int | Literal["refused", "dropped", "timeout"]
"""A status, or what happens to the connection."""
When = Literal["before", "after"]


@dataclass(slots=True)
class Request:
    """One HTTP call of an execution."""

    execution: str
    """The execution's name."""
    method: str
    url: str
    body: Any
    """What was sent as JSON."""
    time: float
    """Engine time."""
    authorization: str = ""
    flaw: Flaw | None = None
    """What is wrong with its token, where ``spoil`` asked for it."""
    status: int | None = None
    """Status of the answer that the execution got; None: no answer, or none yet."""
    answer: Any = None
    """Body of the answer that the execution got."""


@dataclass(slots=True)
class _Planned:
    path: str
    left: int
    fault: HttpFault | None = None
    when: When = "before"
    flaw: Flaw | None = None


@dataclass(slots=True)
class Caller:
    """Makes the HTTP calls of all executions of a fake. Thread-safe."""

    issuer: LocalIssuer
    requests: deque[Request] = field(default_factory=lambda: deque(maxlen=10_000))
    faults: int = 0
    """How many calls have failed as planned."""
    _planned: list[_Planned] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, fault: HttpFault, times: int, path: str, when: When) -> None:
        """Make the next calls whose URL contains ``path`` fail."""
        with self._lock:
            self._planned.append(_Planned(path, times, fault=fault, when=when))

    def spoil(self, flaw: Flaw, times: int, path: str) -> None:
        """Give the next calls whose URL contains ``path`` a bad token."""
        with self._lock:
            self._planned.append(_Planned(path, times, flaw=flaw))

    def _draw(self, url: str, *, flaw: bool) -> _Planned | None:
        with self._lock:
            for planned in self._planned:
                if planned.left > 0 and planned.path in url and (planned.flaw is not None) == flaw:
                    planned.left -= 1
                    self.faults += 1
                    return planned
        return None

    def call(
        self,
        execution: str,
        now: float,
        method: str,
        args: dict[str, Any],
        opened: Callable[[http.client.HTTPConnection], None],
    ) -> dict[str, Any]:
        """Make a call.

        Args:
            execution: Name of the execution that makes it.
            now: Engine time.
            method: In lower case; "request": the one in ``args``.
            args: The arguments of the step ``http.*``.
            opened: Called with the connection, so that another thread can cut it.

        Raises:
            WorkflowError: The call failed.
            ResourceLimitError: The answer is too large.
        """
        url: str = args["url"]
        verb = str(args.get("method", "GET") if method == "request" else method).upper()
        request = Request(execution, verb, url, args.get("body"), now)
        headers = {str(key): str(value) for key, value in args.get("headers", {}).items()}
        self._sign(request, args.get("auth"), headers)
        self.requests.append(request)
        status, received, answer = self._answer(request, args, headers, opened)
        request.status, request.answer = status, answer
        if status >= 400:  # https://cloud.google.com/workflows/docs/reference/syntax/catching-errors; 3xx is an answer
            sentence = f"HTTP server responded with error code {status}"
            raise WorkflowError(sentence, "HttpError", code=status, headers=received, body=answer)
        return {"code": status, "headers": received, "body": answer}

    def _answer(
        self,
        request: Request,
        args: dict[str, Any],
        headers: dict[str, str],
        opened: Callable[[http.client.HTTPConnection], None],
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body: the server's, or what a test has planned instead."""
        planned = self._draw(request.url, flaw=False)
        if planned is None:
            return self._send(request, args, headers, opened)
        if planned.when == "after":
            self._send(request, args, headers, opened)
        return _broken(planned.fault), {}, "a fault of the fake Workflows"

    def _sign(self, request: Request, auth: dict[str, str] | None, headers: dict[str, str]) -> None:
        if auth is None:
            return
        if auth.get("type") != "OIDC":
            raise WorkflowError(f"the fake cannot sign with {auth.get('type')!r}", "AuthError")
        planned = self._draw(request.url, flaw=True)
        request.flaw = planned.flaw if planned is not None else None
        token = self.issuer.token(auth.get("audience", request.url), request.flaw)
        headers["Authorization"] = request.authorization = f"Bearer {token}"

    @staticmethod
    def _send(
        request: Request,
        args: dict[str, Any],
        headers: dict[str, str],
        opened: Callable[[http.client.HTTPConnection], None],
    ) -> tuple[int, dict[str, str], Any]:
        url = urlsplit(request.url)
        host = url.hostname or ""
        if url.scheme != "http" or not (host == "localhost" or _loopback(host)):
            # No request leaves the machine: each has a token.
            raise WorkflowError(f"the fake calls http:// on loopback only, not {request.url}", "ConnectionFailedError")
        target = url.path or "/"
        query = "&".join(part for part in (url.query, urlencode(args.get("query", {}))) if part)
        body = None
        if isinstance(request.body, str):
            body = request.body.encode()
        elif request.body is not None:
            body = json.dumps(request.body).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        with closing(http.client.HTTPConnection(host, url.port, timeout=args.get("timeout", 300))) as connection:
            try:
                connection.connect()
            except OSError as exc:
                raise WorkflowError(f"could not connect to {host}: {exc}", "ConnectionFailedError") from exc
            opened(connection)
            try:
                connection.request(request.method, f"{target}?{query}" if query else target, body, headers)
                with connection.getresponse() as response:
                    raw = response.read(MAX_RESPONSE + 1)
                    received = dict(response.getheaders())
                    status = response.status
            except TimeoutError as exc:
                raise WorkflowError("the call timed out", "TimeoutError") from exc
            except (OSError, http.client.HTTPException) as exc:
                raise WorkflowError(f"connection broken: {exc!r}", "ConnectionError") from exc
        return status, received, _decoded(raw, response.headers.get_content_type())


def _broken(fault: HttpFault | None) -> int:
    """The status of a planned failure.

    Raises:
        WorkflowError: It is a failure without a status.
    """
    if isinstance(fault, int):
        return fault
    if fault == "refused":
        raise WorkflowError("could not connect to the server", "ConnectionFailedError")
    if fault == "timeout":
        raise WorkflowError("the call timed out", "TimeoutError")
    raise WorkflowError("connection broken", "ConnectionError")


def _loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _decoded(raw: bytes, kind: str) -> Any:
    if len(raw) > MAX_RESPONSE:
        raise ResourceLimitError(f"the response is larger than {MAX_RESPONSE} bytes")
    try:
        text = raw.decode()
        return json.loads(text) if kind == "application/json" and text else text
    except ValueError as exc:
        raise WorkflowError(f"the response cannot be read: {exc}", "ResponseTypeError") from exc
