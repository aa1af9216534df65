"""Sends one try of a delivery: to an address that was checked, within its time, and without reading what comes back."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from lro_aio.core.policies import seconds
from lro_aio.remote.retry_after import of_headers
from lro_aio.webhooks.addresses import Address, literal
from lro_aio.webhooks.rules import Target, Webhooks

__all__ = ["Answer", "RefusedAddressError", "Sender"]


MOST_ADDRESSES = 4
"""Of a host with more of them, which are tried."""


LOOKUPS = 8
"""Names that are resolved at a time."""


class RefusedAddressError(Exception):
    """The receiver is at an address that may not be connected to."""


def lookup(host: str, port: int) -> list[Address]:
    """The addresses of a name. Blocks.

    Raises:
        OSError: It has none.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(one for info in infos if (one := literal(str(info[4][0]))) is not None))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a try."""

    status: int = 0
    """Of HTTP; 0: no answer came."""
    problem: str = ""
    """Why none came."""
    retry_after: float | None = None
    """Seconds after which the receiver wants to be asked again."""

    @property
    def taken(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status else self.problem


class Sender:
    """The tries of one client, each over a connection of its own.

    Args:
        rules: What is allowed.
        most: Tries at a time, to whatever host.
    """

    def __init__(self, rules: Webhooks, most: int) -> None:
        self._rules = rules
        self._most = most
        self._under_way: Counter[str] = Counter()
        self._context = rules.ssl_context
        # Threads of its own: a name whose servers do not answer holds one for longer than a try may take.
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lro-aio-lookup")
        self._timeout = seconds(rules.timeout, "timeout")

    @contextmanager
    def place(self, target: Target) -> Iterator[bool]:
        """A place for one try while inside; False where there is none: a slow receiver must not hold up the others."""
        free = self._under_way[target.host] < self._rules.per_host and self._under_way.total() < self._most
        if not free:
            yield False
            return
        self._under_way[target.host] += 1
        try:
            yield True
        finally:
            self._under_way[target.host] -= 1
            if not self._under_way[target.host]:
                del self._under_way[target.host]

    async def send(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST once.

        Raises:
            RefusedAddressError: One of the addresses of the host may not be connected to.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(target, headers, body)
        except TimeoutError:
            return Answer(problem=f"no answer within {self._timeout:g} s")

    async def _send(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            addresses = await self._resolved(target)
        except OSError as exc:
            return Answer(problem=f"the name could not be resolved: {exc.strerror or exc}")
        if target.scheme == "https" and self._context is None:
            self._context = await asyncio.to_thread(httpx.create_ssl_context)  # reads hundreds of certificates
        answer = Answer(problem="the name has no address")
        connect = self._timeout / max(1, min(len(addresses), MOST_ADDRESSES))
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return await self._post(target, address, headers, body, connect)
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                answer = Answer(problem=_told(exc))
            except (httpx.HTTPError, httpx.InvalidURL) as exc:  # it may have arrived: no other address, but a later try
                return Answer(problem=_told(exc))
        return answer

    async def _resolved(self, target: Target) -> list[Address]:
        """Every address of the host, once and checked: what it resolves to later is asked by nobody.

        Raises:
            RefusedAddressError: One of them may not be connected to.
            OSError: It has none.
        """
        found = literal(target.host)
        if found is not None:
            addresses = [found]
        else:
            loop = asyncio.get_running_loop()
            addresses = await loop.run_in_executor(self._lookups, lookup, target.host, target.port)
        for address in addresses:
            if problem := self._rules.refused(address):
                raise RefusedAddressError(f"{target.host} is at {address}, which {problem}")
        return addresses

    async def _post(
        self, target: Target, address: Address, headers: Mapping[str, str], body: bytes, connect: float
    ) -> Answer:
        """Connect to the address, and speak as to the host: in TLS, its certificate must be that of the host."""
        host = f"[{address}]" if address.version == 6 else str(address)
        named = {"sni_hostname": target.host} if literal(target.host) is None else {}
        request = httpx.Request(
            "POST",
            f"{target.scheme}://{host}:{target.port}{target.rest}",
            content=body,
            headers={
                "Host": target.origin.partition("://")[2],
                "User-Agent": "lro-aio",
                "Content-Type": "application/json",
                "Connection": "close",
                **headers,
            },
            extensions={"timeout": httpx.Timeout(self._timeout, connect=connect).as_dict(), **named},
        )
        # Not a client, which would follow the environment to a proxy, and log a URL that may hold a secret.
        async with httpx.AsyncHTTPTransport(verify=self._context or False, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            # The status is all that counts. The rest may be large, endless, or for nobody's eyes: it is not read.
            await response.aclose()
            return Answer(status=response.status_code, retry_after=of_headers(response.headers))


def _told(exc: httpx.HTTPError | httpx.InvalidURL) -> str:
    """An error in words. Its text may hold what the receiver has sent: only that of connecting is shown."""
    if isinstance(exc, httpx.ConnectError):
        cause: BaseException | None = exc
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        return "the certificate or TLS failed" if cause is not None else "no connection"
    return f"the answer broke off ({type(exc).__name__})"
