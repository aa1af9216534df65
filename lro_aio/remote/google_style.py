"""Operations of an HTTP service in the style of Google's APIs: a resource each, as proto3 JSON of ``Operation``."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import httpx
from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.errors import RemoteProtocolError
from lro_aio.remote import retry_after
from lro_aio.remote.addresses import Addresses
from lro_aio.remote.answers import check, json_of, refused
from lro_aio.remote.messages import check_name, reply_of
from lro_aio.remote.payloads import Json, status_of_json
from lro_aio.remote.transport import Place, Reply

__all__ = ["GoogleStyle"]


class GoogleStyle:
    """Where operations are, and what answers say of them.

    Args:
        addresses: Of the service.
        prefix: Between the base URL and the names.
    """

    kind = "http"
    cancel_body: ClassVar[dict[str, Any] | None] = {}

    def __init__(self, addresses: Addresses, prefix: str) -> None:
        self._addresses = addresses
        self._prefix = prefix

    def place(self, name: str) -> Place:
        """A resource name."""
        return Place(check_name(name))

    def check(self, place: Place) -> None:
        """Only a name: the URL follows from it."""
        if place != self.place(place.name):
            raise ValueError("it has more parts than such a service needs")

    def started(self, answer: Any) -> Reply:
        """An ``httpx.Response``, its JSON, or an ``Operation``."""
        if isinstance(answer, operations_pb2.Operation):
            return reply_of(answer)
        if isinstance(answer, dict):
            return _reply(answer, answer)
        if not isinstance(answer, httpx.Response):
            raise TypeError(f"expected an httpx.Response, JSON or an Operation, not {type(answer).__name__}")
        if not answer.is_success:
            raise refused(answer, "")
        return _reply(json_of(answer, ""), answer, after=retry_after.of_headers(answer.headers))

    def next_url(self, place: Place) -> httpx.URL:
        """The operation itself."""
        return self.url(place)

    def url(self, place: Place, verb: str = "") -> httpx.URL:
        """The name percent-encoded as google/api/http.proto has it for ``{name=**}``."""
        return self._addresses.below(f"{self._prefix}/{quote(place.name, safe='/')}{verb}")

    def reply(self, response: httpx.Response, place: Place) -> Reply:
        """An ``Operation``."""
        check(response, place.name)
        return _reply(json_of(response, place.name), response, place, retry_after.of_headers(response.headers))


def _reply(body: Any, raw: Any, place: Place | None = None, after: float | None = None) -> Reply:
    """What the JSON says. Metadata and response stay JSON, so that no type need be known.

    Args:
        body: The JSON.
        raw: What it came as.
        place: Where it was asked for: that stays its name. None: the body tells.
        after: The answer's Retry-After.
    """
    known = "" if place is None else place.name
    if not isinstance(body, dict) or not body.keys() & {"name", "done"}:
        raise RemoteProtocolError(known, "its JSON is no Operation")
    name, done = body.get("name"), body.get("done")
    if not isinstance(name, str | None) or not isinstance(done, bool | None):
        raise RemoteProtocolError(known, "its JSON is no Operation: name is no text, or done no boolean")
    if place is None:
        if not done:  # one that is done already may have none (AIP-151, validate_only)
            try:
                check_name(name or "")
            except ValueError as exc:
                raise RemoteProtocolError(name or "", "the operation has no name to ask for it by") from exc
        place = Place(name or "")
    error, response, metadata = (body.get(key) for key in ("error", "response", "metadata"))
    if done and not isinstance(error, dict | None):
        raise RemoteProtocolError(place.name, "its error is no google.rpc.Status")
    return Reply(
        place,
        raw,
        done=bool(done),
        metadata=None if metadata is None else Json(metadata),
        response=None if not done or error is not None or response is None else Json(response),
        error=None if not done or error is None else status_of_json(error),
        retry_after=after,
    )
