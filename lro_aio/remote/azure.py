"""Operations of an HTTP service in Azure's style: a status monitor each, or a ``Location`` to ask.

The rules are those of https://github.com/microsoft/api-guidelines, azure/Guidelines.md and
azure/ConsiderationsForServiceDesign.md, "Long-Running Operations", and what older services do.

===========  ========================================================================================================
Step         How the next answer is read
===========  ========================================================================================================
(none)       The status monitor: ``{"status": ..., "error"?, "result"?}``
"location"   202: not yet. Another success: done, and the body is the response
"result"     The same, after the status monitor said Succeeded and had no ``result``
===========  ========================================================================================================
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import httpx
from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteProtocolError
from lro_aio.remote import retry_after
from lro_aio.remote.addresses import Addresses
from lro_aio.remote.answers import check, json_of, object_of, refused
from lro_aio.remote.azure_errors import status_of_error
from lro_aio.remote.payloads import Json
from lro_aio.remote.transport import Place, Reply

__all__ = ["AzureStyle"]

MONITOR, LOCATION, RESULT = "", "location", "result"

MONITOR_HEADERS = ("operation-location", "azure-asyncoperation")

NO_PROGRESS = {"id", "name", "kind", "status", "error", "result", "resourceLocation"}
"""Members of a status monitor that are no metadata."""


class AzureStyle:
    """Where operations are, and what answers say of them.

    ``Place.name`` is the first address that the service gave, ``link`` the one to ask next where it is another, and
    ``result`` that of the final GET, while the status monitor runs.

    Args:
        addresses: Of the service.
        prefix: Between the base URL and names that are no addresses.
    """

    kind = "azure"
    cancel_body: ClassVar[dict[str, Any] | None] = None

    def __init__(self, addresses: Addresses, prefix: str) -> None:
        self._addresses = addresses
        self._prefix = prefix

    def place(self, name: str) -> Place:
        """The address of a status monitor: a URL, its path with the query, or a name below the base URL and prefix."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"{name!r} is not the address of a status monitor")
        if not name.startswith("/") and "://" not in name:
            name = str(self._addresses.below(f"{self._prefix}/{name}"))
        return Place(self._addresses.short(self._addresses.resolve(name)))

    def check(self, place: Place) -> None:
        """Only allowed origins, and steps that there are."""
        if place.step not in (MONITOR, LOCATION, RESULT):
            raise ValueError(f"no step of such an operation is called {place.step[:40]!r}")
        for address in (place.name, place.link, place.result):
            self._addresses.resolve(address)

    def started(self, answer: Any) -> Reply:
        """An ``httpx.Response``: where to go on, or, without such a header, the result."""
        if not isinstance(answer, httpx.Response):
            raise TypeError(f"expected an httpx.Response, not {type(answer).__name__}")
        if not answer.is_success:
            raise refused(answer, "")
        after = retry_after.of_headers(answer.headers)
        if monitor := self._monitor_link(answer, ""):
            place = Place(monitor, result=self._final(answer))
            if self._is_monitor(answer, monitor):
                return self._monitor(answer, place)
            return Reply(place, answer, done=False, retry_after=after)
        if answer.status_code != httpx.codes.ACCEPTED:  # a Location with 201 is the new resource's
            return _ended(Place(""), answer)
        if location := self._link(answer, "location", ""):
            return Reply(Place(location, step=LOCATION), answer, done=False, retry_after=after)
        raise RemoteProtocolError("", "202 without Operation-Location and Location")

    def next_url(self, place: Place) -> httpx.URL:
        """Where the next look goes."""
        return self._addresses.resolve(place.link or place.name)

    def url(self, place: Place, verb: str = "") -> httpx.URL:
        """The status monitor, or an action on it."""
        url = self._addresses.resolve(place.name)
        path, mark, query = url.raw_path.decode("ascii").partition("?")
        return url.copy_with(raw_path=f"{path}{verb}{mark}{query}".encode("ascii"))

    def reply(self, response: httpx.Response, place: Place) -> Reply:
        """What the step makes of it."""
        if place.step == RESULT and not response.is_success:
            raise refused(response, place.name)  # 404 too: the operation was there, and has succeeded
        check(response, place.name)
        return self._monitor(response, place) if place.step == MONITOR else self._landed(response, place)

    def _landed(self, response: httpx.Response, place: Place) -> Reply:
        if response.status_code != httpx.codes.ACCEPTED:
            return _ended(place, response)
        moved = _moved(place, self._link(response, "location", place.name))
        return Reply(moved, response, done=False, retry_after=retry_after.of_headers(response.headers))

    def _monitor(self, response: httpx.Response, place: Place) -> Reply:
        body = json_of(response, place.name)
        word = body.get("status") if isinstance(body, dict) else None
        if not isinstance(word, str):
            raise RemoteProtocolError(place.name, "its status monitor has no status")
        metadata = _metadata(body)
        match word.casefold():
            case "succeeded":
                if body.get("result") is not None:
                    return Reply(place, response, done=True, metadata=metadata, response=Json(body["result"]))
                found = self._resolved(body.get("resourceLocation"), response, place.name) or place.result
                if not found:
                    return Reply(place, response, done=True, metadata=metadata)
                landing = Place(place.name, link=found, step=RESULT)
                return Reply(landing, response, done=False, metadata=metadata, retry_after=0.0)
            case "failed" | "canceled" | "cancelled" as end:
                error = _error(body.get("error"), cancelled=end != "failed")
                return Reply(place, response, done=True, metadata=metadata, error=error)
        moved = _moved(place, self._monitor_link(response, place.name))
        after = retry_after.of_headers(response.headers)
        return Reply(moved, response, done=False, metadata=metadata, retry_after=after)

    def _is_monitor(self, started: httpx.Response, monitor: str) -> bool:
        """Whether the answer to a start is the status monitor already, as the guidelines want, and not a resource."""
        body, own_id = object_of(started), self._addresses.resolve(monitor).path.rpartition("/")[2]
        return started.status_code == httpx.codes.ACCEPTED and body.get("id") == own_id and "status" in body

    def _final(self, started: httpx.Response) -> str:
        """Where the result will be, if the status monitor does not have it or say so."""
        request = _request(started)
        if request is None:
            return ""
        if request.method in ("PUT", "PATCH"):
            return self._resolved(str(request.url), started, "")
        return self._link(started, "location", "") if request.method == "POST" else ""

    def _monitor_link(self, response: httpx.Response, name: str) -> str:
        return next(filter(None, (self._link(response, header, name) for header in MONITOR_HEADERS)), "")

    def _link(self, response: httpx.Response, header: str, name: str) -> str:
        return self._resolved(response.headers.get(header), response, name)

    def _resolved(self, address: Any, response: httpx.Response, name: str) -> str:
        """An address that the service gave, as it is kept; "" for none."""
        if not isinstance(address, str) or not address:
            return ""
        request = _request(response)
        try:
            return self._addresses.short(self._addresses.resolve(address, None if request is None else request.url))
        except ValueError as exc:
            raise RemoteProtocolError(name, str(exc)) from exc


def _request(response: httpx.Response) -> httpx.Request | None:
    """The request that was answered; None for an answer that was made by hand."""
    try:
        return response.request
    except RuntimeError:
        return None


def _moved(place: Place, link: str) -> Place:
    """The place, if the service named where to go on."""
    return replace(place, link="" if link == place.name else link) if link else place


def _ended(place: Place, response: httpx.Response) -> Reply:
    """Done, with the body, if there is one, as the response."""
    body = json_of(response, place.name) if response.content.strip() else None
    return Reply(place, response, done=True, response=None if body is None else Json(body))


def _metadata(monitor: dict[str, Any]) -> Json | None:
    """The member ``metadata``, which this package's servers send, or all that is said beside the outcome."""
    metadata = monitor.get("metadata")
    if metadata is None:
        metadata = {key: value for key, value in monitor.items() if key not in NO_PROGRESS} or None
    return None if metadata is None else Json(metadata)


def _error(error: Any, *, cancelled: bool) -> status_pb2.Status:
    status = status_of_error(error if isinstance(error, dict) else {})
    if cancelled:
        status.code = int(Code.CANCELLED)
    if not status.message:
        status.message = "the operation was cancelled" if cancelled else "the service did not say why it failed"
    return status
