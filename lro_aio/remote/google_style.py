"""Operations of an HTTP service in the style of Google's APIs: each is a resource, the proto3 JSON of ``Operation``."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import httpx
from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.errors import RemoteProtocolError
from lro_aio.core.payloads import Json, status_of_json
from lro_aio.remote import retry_after
from lro_aio.remote.addresses import Addresses
from lro_aio.remote.answers import check, json_of, refused
from lro_aio.remote.messages import check_name, reply_of
from lro_aio.remote.transport import Place, Reply

__all__ = ["GoogleStyle"]

STATES = ("status", "state", "phase", "provisioningState", "operationType")
"""Members of other kinds of operations, and of resources, that ``Operation`` does not have. Beside ``metadata``, which
it does have, only the first counts."""


class GoogleStyle:
    """Where operations are, and how to read answers.

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
        """A name alone, from which the URL follows."""
        if place != self.place(place.name):
            raise ValueError("it has parts that such a service does not use")

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
        """The name is percent-encoded as google/api/http.proto says for ``{name=**}``."""
        return self._addresses.below(f"{self._prefix}/{quote(place.name, safe='/')}{verb}")

    def reply(self, response: httpx.Response, place: Place) -> Reply:
        """An ``Operation``."""
        check(response, place.name)
        return _reply(json_of(response, place.name), response, place, retry_after.of_headers(response.headers))


def _reply(body: Any, raw: Any, place: Place | None = None, after: float | None = None) -> Reply:
    """What the JSON says. Metadata and response stay JSON, so that no type need be known.

    Args:
        body: The JSON.
        raw: The answer that it came in.
        place: Where it was asked for, which stays the operation's name. None: the body has the name.
        after: The answer's Retry-After.
    """
    known = "" if place is None else place.name
    _check_form(body, known)
    name, done = body.get("name"), body.get("done")
    if place is None:
        if not done:  # one that is done may have no name (AIP-151, validate_only)
            try:
                check_name(name or "")
            except ValueError as exc:
                raise RemoteProtocolError(name or "", "the operation has no name by which to ask for it") from exc
        place = Place(name or "")
    error, response, metadata = (body.get(key) for key in ("error", "response", "metadata"))
    if done and not isinstance(error, dict | None):
        raise RemoteProtocolError(place.name, "its error is not a google.rpc.Status")
    return Reply(
        place,
        raw,
        done=bool(done),
        metadata=None if metadata is None else Json(metadata),
        response=None if not done or error is not None or response is None else Json(response),
        error=None if not done or error is None else status_of_json(error),
        retry_after=after,
    )


def _check_form(body: Any, name: str) -> None:
    """Refuse JSON that is not an ``Operation``.

    A member that tells the state in another way, while ``done`` is missing, means another kind of operation: Azure's,
    Compute Engine's, Cloud SQL's. Read as an ``Operation``, it would never end.

    Raises:
        RemoteProtocolError: It is not one.
    """
    if not isinstance(body, dict) or not body.keys() & {"name", "done"}:
        raise RemoteProtocolError(name, "its JSON is not a google.longrunning.Operation")
    if not isinstance(body.get("name"), str | None) or not isinstance(body.get("done"), bool | None):
        raise RemoteProtocolError(
            name, "its JSON is not a google.longrunning.Operation: name is not text, or done not a boolean"
        )
    states = STATES[:1] if "metadata" in body else STATES
    if body.get("done") is None and (found := next((key for key in states if key in body), None)) is not None:
        kind = f" of kind {str(body['kind'])[:80]!r}" if "kind" in body else ""
        hint = "" if kind else '; for a service in Azure\'s style, say style="azure"'
        raise RemoteProtocolError(
            name,
            f"its JSON{kind} has {found!r} (of the value {str(body[found])[:80]!r}) and no 'done': it is not a"
            f" google.longrunning.Operation{hint}",
        )
