"""Operations of an HTTP service, in Google's style or in Azure's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Protocol

import httpx

from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy
from lro_aio.core.tracing import HEADER, current_traceparent
from lro_aio.remote import bodies
from lro_aio.remote.addresses import Addresses
from lro_aio.remote.answers import call_failed, check_done, refused
from lro_aio.remote.azure import AzureStyle
from lro_aio.remote.google_style import GoogleStyle
from lro_aio.remote.transport import CallOptions, MetadataSource, Place, Reply, Transport, metadata_of
from lro_aio.remote.turns import Turns

__all__ = ["HttpTransport"]

WAIT_GRACE = 15.0
"""Seconds beyond the length of a long-poll after which the request is given up."""

NO_SUCH_METHOD = (405, 501)

_ACCEPT = httpx.Headers({"accept": "application/json", **bodies.ACCEPTED})


class Style(Protocol):
    """Where operations are, and what answers say of them."""

    kind: str
    cancel_body: ClassVar[dict[str, Any] | None]

    def place(self, name: str) -> Place: ...

    def check(self, place: Place) -> None: ...

    def started(self, answer: Any) -> Reply: ...

    def next_url(self, place: Place) -> httpx.URL: ...

    def url(self, place: Place, verb: str = "") -> httpx.URL: ...

    def reply(self, response: httpx.Response, place: Place) -> Reply: ...


STYLES: dict[str, type[GoogleStyle | AzureStyle]] = {"google": GoogleStyle, "azure": AzureStyle}


class HttpTransport(Transport):
    """Asks with an ``httpx.AsyncClient``.

    =====================  ==============================================  ===================================
    style                  "google"                                        "azure"
    =====================  ==============================================  ===================================
    an operation's name    resource name                                   address of its status monitor
    what starts one gives  an ``Operation``: the ``httpx.Response``, its   the ``httpx.Response``: it has
                           JSON, or a message                              ``Operation-Location`` or the like
    a poll                 GET ``{base_url}/v1/{name}``                    GET of the address; after a success
                                                                           GET of the result, if need be
    cancel, delete         POST ``...:cancel``, DELETE                     the same
    send                   POST ``...:send``                               the same
    =====================  ==============================================  ===================================

    Redirects are followed if the httpx client is told to follow them, wherever they lead.

    Args:
        client: Opened and closed by the caller. It has its own proxies, certificates and credentials. Its timeouts do
            not apply here.
        base_url: Of the service, such as "https://api.example.com" or "https://example.com/jobs". Goes into tokens,
            which are then refused for any other service.
        style: How the service represents operations.
        headers: Sent with every request: a mapping, pairs, or a function, sync or async, that returns them for each
            request. A function that raises counts as a failed poll.
        prefix: Between ``base_url`` and resource names.
        origins: Further origins, such as "https://status.example.com", to which the service may send the transport. It
            goes to no other, since the client's credentials would go along.
        long_polls: Whether to wait for ends by ``POST {name}:wait`` ("google"). A service that turns out not to have it
            is polled.
        timeout: Seconds or a timedelta that one request may take in all.
        poll: How often handles poll.
        retry: How often they repeat a failed poll.
        max_calls: Polls under way at a time, and twice as many requests of all kinds but long-polls. Where answers come
            quickly there are fewer, since an httpx client is slow with many. Twice this and ``max_waits`` together
            should stay below the connections that the client may open, by default 100.
        max_waits: Long-polls open at a time.

    Raises:
        ValueError: Another style; ``base_url`` or one of ``origins`` is not an absolute URL of http or https, or has
            credentials in it.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_url: str | httpx.URL,
        *,
        style: Literal["google", "azure"] = "google",
        headers: MetadataSource = (),
        prefix: str = "/v1",
        origins: Iterable[str] = (),
        long_polls: bool = False,
        timeout: Duration = 15.0,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
        max_calls: int = 20,
        max_waits: int = 32,
    ) -> None:
        if style not in STYLES:
            raise ValueError(f'style must be "google" or "azure", not {style!r}')
        if style == "azure" and long_polls:
            raise ValueError("services in Azure's style have no long-polls")
        if prefix and not prefix.startswith("/"):
            raise ValueError(f"prefix must be empty or begin with a slash, not {prefix!r}")
        addresses = Addresses(base_url, origins)
        super().__init__(
            address=addresses.base_url,
            timeout=timeout,
            poll=poll,
            retry=retry,
            max_calls=max_calls,
            max_waits=max_waits,
            long_polls=None if long_polls else False,
        )
        self._client = client
        self._headers = headers
        self._style: Style = STYLES[style](addresses, prefix.rstrip("/"))
        self._turns: Turns | None = None
        self.kind = self._style.kind

    def place(self, name: str) -> Place:
        """A resource name; in Azure's style the address of a status monitor, or a name below ``base_url``."""
        return self._style.place(name)

    def check(self, place: Place) -> None:
        """As the base class. A place of another origin is refused, too."""
        self._style.check(place)

    def started(self, answer: Any) -> Reply:
        """The answer to the request that started an operation."""
        return self._style.started(answer)

    async def fetch(self, place: Place, options: CallOptions) -> Reply:
        """GET."""
        return self._style.reply(await self._call("GET", self._style.next_url(place), place, options), place)

    async def wait(self, place: Place, length: float, options: CallOptions) -> Reply:
        """POST ``:wait``."""
        url, body = self._style.url(place, ":wait"), {"timeout": f"{length:.3f}s"}
        response = await self._call("POST", url, place, options, json=body, held=length)
        # Until one was answered, 404 may mean "no such route" as well as "no such operation". A poll tells which.
        missing = response.status_code == httpx.codes.NOT_FOUND and self.long_polls is not True
        if missing or response.status_code in NO_SUCH_METHOD:
            raise refused(response, place.name, Code.UNIMPLEMENTED)
        return self._style.reply(response, place)

    async def cancel(self, place: Place, options: CallOptions) -> None:
        """POST ``:cancel``."""
        url, body = self._style.url(place, ":cancel"), self._style.cancel_body
        check_done(await self._call("POST", url, place, options, json=body), place.name)

    async def send(self, place: Place, topic: str, payload: Any, message_id: str, options: CallOptions) -> None:
        """POST ``:send``, which services of this package have."""
        json.dumps(payload, allow_nan=False)  # an older httpx sends NaN, which is no JSON
        body = {"topic": topic, "payload": payload, "messageId": message_id}
        check_done(await self._call("POST", self._style.url(place, ":send"), place, options, json=body), place.name)

    async def delete(self, place: Place, options: CallOptions) -> None:
        """DELETE."""
        check_done(await self._call("DELETE", self._style.url(place), place, options), place.name)

    async def _call(
        self,
        method: str,
        url: httpx.URL,
        place: Place,
        options: CallOptions,
        *,
        json: Any = None,
        held: float = 0.0,
    ) -> httpx.Response:
        limit = options.timeout or (held + WAIT_GRACE if held else self.timeout)
        try:
            headers = _ACCEPT.copy()
            if trace := current_traceparent():
                headers[HEADER] = trace
            for pairs in (await metadata_of(self._headers, place.name, limit), options.metadata):
                if pairs:
                    headers.update(pairs)
        except (UnicodeError, TypeError) as exc:
            raise RemoteCallError(place.name, f"a header cannot be sent: {exc}", code=Code.INTERNAL) from exc
        try:
            async with asyncio.timeout(limit):  # httpx itself bounds each read, but not how many there are
                # The poller bounds the long-polls. They would hold up the others, or wait for them.
                turns = None if held else self._turns_here()
                turn = await turns.begin() if turns is not None else 0
                try:
                    response = await bodies.request(
                        self._client, method, url, name=place.name, headers=headers, json=json, timeout=None
                    )
                finally:
                    if turns is not None:
                        turns.end(turn)
        except TimeoutError as exc:
            problem = f"no answer within {limit:g} s"
            raise RemoteCallError(place.name, problem, code=Code.DEADLINE_EXCEEDED, transient=True) from exc
        except httpx.RequestError as exc:
            raise call_failed(exc, place.name) from exc
        options.answered(response)
        return response

    def _turns_here(self) -> Turns:
        """Of the running event loop. Polls take half of them at most: requests of users need not wait for those."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns.loop is not loop:
            self._turns = Turns(2 * self.max_calls, loop)
        return self._turns
