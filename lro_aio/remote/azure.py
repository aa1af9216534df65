"""Operations of an HTTP service in Azure's style: each has a status monitor, a ``Location``, or only its resource.

The rules are those of https://github.com/microsoft/api-guidelines, azure/Guidelines.md and
azure/ConsiderationsForServiceDesign.md, "Long-Running Operations"; those of ARM, the RPC contract "Asynchronous
Operations"; and what services do in practice.

===========  ==========================================================================================================
Step         How the next answer is read
===========  ==========================================================================================================
(none)       The status monitor: ``{"status": ..., "error"?, "result"?}``. 204, or an empty body: done
"location"   202, or a body that tells of an operation under way: not yet. Any other success: done, with the body
"resource"   The resource of a PUT that has no status monitor: its ``provisioningState`` tells
"result"     202: not yet. Another success: the body is the result, which the status monitor did not have
===========  ==========================================================================================================
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import httpx

from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError, RemoteProtocolError
from lro_aio.core.payloads import Json
from lro_aio.remote import retry_after
from lro_aio.remote.addresses import Addresses
from lro_aio.remote.answers import check, json_of, object_of, refused
from lro_aio.remote.azure_monitor import (
    Outcome,
    State,
    failure_of,
    is_of,
    landed,
    metadata_of,
    monitored,
    provisioned,
    result_of,
)
from lro_aio.remote.transport import Place, Reply

__all__ = ["AzureStyle"]

MONITOR, LOCATION, RESOURCE, RESULT = "", "location", "resource", "result"

MONITOR_HEADERS = ("operation-location", "azure-asyncoperation")


class AzureStyle:
    """Where operations are, and how to read answers.

    ``Place.name`` is the first address that the service gave, ``link`` the address to ask next if it is another, and
    ``result``, while the status monitor tells of the operation, the address of the final GET.

    Args:
        addresses: Of the service.
        prefix: Between the base URL and names that are not addresses.
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
        """A known step, and addresses of allowed origins."""
        if place.step not in (MONITOR, LOCATION, RESOURCE, RESULT):
            raise ValueError(f"such an operation has no step {place.step[:40]!r}")
        for address in (place.name, place.link, place.result):
            self._addresses.resolve(address)

    def started(self, answer: Any) -> Reply:
        """An ``httpx.Response``: what it tells of the operation, and where to ask next."""
        if not isinstance(answer, httpx.Response):
            raise TypeError(f"expected an httpx.Response, not {type(answer).__name__}")
        if not answer.is_success:
            raise refused(answer, "")
        if monitor := self._monitor_link(answer, ""):
            place = Place(monitor, result=self._final(answer))
            if self._tells_of(answer, monitor):
                return self._monitor(answer, place, object_of(answer))
            return _running(place, answer)
        if answer.status_code == httpx.codes.ACCEPTED and (location := self._link(answer, "location", "")):
            return self._accepted(answer, Place(location, step=LOCATION))
        return self._resource(answer)

    def next_url(self, place: Place) -> httpx.URL:
        """Where the next poll goes."""
        return self._addresses.resolve(place.link or place.name)

    def url(self, place: Place, verb: str = "") -> httpx.URL:
        """The status monitor, or an action on it.

        Raises:
            RemoteCallError: The operation has only its resource, which a DELETE would delete.
        """
        if place.step == RESOURCE:
            problem = "the operation has no status monitor, which could cancel it or be deleted"
            raise RemoteCallError(place.name, problem, code=Code.UNIMPLEMENTED)
        url = self._addresses.resolve(place.name)
        path, mark, query = url.raw_path.decode("ascii").partition("?")
        return url.copy_with(raw_path=f"{path}{verb}{mark}{query}".encode("ascii"))

    def reply(self, response: httpx.Response, place: Place) -> Reply:
        """What the answer says, read as the step requires."""
        if place.step == RESULT:
            if not response.is_success:
                raise refused(response, place.name)  # also for 404: the operation was there, and has succeeded
            return self._landed(response, place, None)
        body = object_of(response)
        if place.step == MONITOR and response.is_success:
            return self._monitor(response, place, body)
        state = provisioned(body) if place.step == RESOURCE else landed(body, place.link or place.name)
        if not response.is_success and state is not None and _has_failed(state):
            return _failed(place, response, body, state)  # the HTTP status says it, too
        check(response, place.name)
        return self._landed(response, place, state)

    def _accepted(self, answer: httpx.Response, place: Place) -> Reply:
        """A start with a ``Location``. The body may already say that it has failed; a result is at the address."""
        body = object_of(answer)
        state = _failure_in(body)
        return _running(place, answer) if state is None else _failed(place, answer, body, state)

    def _resource(self, answer: httpx.Response) -> Reply:
        """A start without a status monitor: the body is the result, or a resource that tells its state."""
        body, request = object_of(answer), _request(answer)
        address = ""
        if request is not None and request.method in ("PUT", "PATCH"):
            address = self._resolved(str(request.url), answer, "")
        state = provisioned(body) or _failure_in(body)
        if not address and state is not None and answer.status_code == httpx.codes.CREATED:
            address = self._link(answer, "location", "")  # the resource that a POST has made
        place = Place(address, step=RESOURCE)
        accepted = answer.status_code == httpx.codes.ACCEPTED
        if state is not None and _has_failed(state):
            return _failed(place if address else Place(""), answer, body, state)
        if (accepted and state is None) or (state is not None and state.outcome is Outcome.RUNNING):
            if address:
                return _running(place, answer, state)
            if accepted:
                raise RemoteProtocolError("", "202 without Operation-Location, Azure-AsyncOperation or Location")
        return _ended(Place(""), answer)

    def _landed(self, response: httpx.Response, place: Place, state: State | None) -> Reply:
        """An answer that is the result, once the operation has ended."""
        accepted = response.status_code == httpx.codes.ACCEPTED
        if state is not None and _has_failed(state):
            return _failed(place, response, object_of(response), state)
        if (accepted and state is None) or (state is not None and state.outcome is Outcome.RUNNING):
            return _running(_moved(place, self._link(response, "location", place.name)), response, state)
        return _ended(place, response, state)

    def _monitor(self, response: httpx.Response, place: Place, body: Any) -> Reply:
        """What the status monitor says. The body is {} where it is no object, or nothing at all."""
        if not body and response.content.strip():
            body = json_of(response, place.name)
        state = monitored(body)
        if state is None:
            return self._wordless(response, place, body)
        if _has_failed(state):
            return _failed(place, response, body, state)
        if state.outcome is Outcome.RUNNING:
            moved = _moved(place, self._monitor_link(response, place.name))
            return _running(moved, response, state, body)
        if state.word not in (body.get("status"), body.get("runtimeStatus")):  # the monitor has become the resource
            return Reply(place, response, done=True, response=Json(body))
        final = self._resolved(body.get("resourceLocation"), response, place.name) or place.result
        if final and body.get("result") is None:
            landing = Place(place.name, link=final, step=RESULT)
            return Reply(landing, response, done=False, metadata=metadata_of(body, state), retry_after=0.0)
        member, result = result_of(body) or ("", None)
        metadata = metadata_of(body, state, member)
        return Reply(place, response, done=True, metadata=metadata, response=None if result is None else Json(result))

    def _wordless(self, response: httpx.Response, place: Place, body: Any) -> Reply:
        """A status monitor without a state: with 202 the work goes on; another success without a body is the end."""
        if response.status_code == httpx.codes.ACCEPTED:
            return _running(_moved(place, self._monitor_link(response, place.name)), response)
        if response.content.strip():
            found = ", ".join(map(repr, list(body)[:10])) if isinstance(body, dict) else type(body).__name__
            raise RemoteProtocolError(place.name, f"its status monitor has no status, but {found or 'nothing'}")
        if place.result:
            return Reply(Place(place.name, link=place.result, step=RESULT), response, done=False, retry_after=0.0)
        return Reply(place, response, done=True)

    def _tells_of(self, started: httpx.Response, monitor: str) -> bool:
        """Whether the answer to a start already is the status monitor, as the guidelines want, and not a resource."""
        body, request = object_of(started), _request(started)
        if not isinstance(body.get("status"), str):
            return False
        if started.status_code != httpx.codes.ACCEPTED and request is not None and request.method in ("PUT", "PATCH"):
            return False  # the resource, whatever its members
        return _failure_in(body) is not None or is_of(body, self._addresses.resolve(monitor).path)

    def _final(self, started: httpx.Response) -> str:
        """Where the result will be, if the status monitor neither has it nor says so."""
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
        """An address that the service gave, in the form in which it is kept; "" for none."""
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


def _failure_in(body: dict[str, Any]) -> State | None:
    """The state of a failed operation, if the body, which may be a resource, tells of one and of an error."""
    state = landed(body, "")
    return state if state is not None and _has_failed(state) and isinstance(body.get("error"), dict) else None


def _has_failed(state: State) -> bool:
    return state.outcome in (Outcome.FAILED, Outcome.CANCELLED)


def _running(
    place: Place, response: httpx.Response, state: State | None = None, monitor: dict[str, Any] | None = None
) -> Reply:
    """Not done. The metadata is what the status monitor says besides, or the state of the resource."""
    metadata = None
    if state is not None:
        metadata = Json({"provisioningState": state.word}) if monitor is None else metadata_of(monitor, state)
    after = retry_after.of_headers(response.headers)
    return Reply(place, response, done=False, metadata=metadata, retry_after=after)


def _failed(place: Place, response: httpx.Response, body: dict[str, Any], state: State) -> Reply:
    return Reply(place, response, done=True, metadata=metadata_of(body, state), error=failure_of(body, state))


def _ended(place: Place, response: httpx.Response, state: State | None = None) -> Reply:
    """Done. The response is the body, if there is one, or the result in it, if it is a status monitor."""
    body = json_of(response, place.name) if response.content.strip() else None
    if state is not None and isinstance(body, dict) and state.word in (body.get("status"), body.get("runtimeStatus")):
        member, result = result_of(body) or ("", None)
        if member and member != "properties":
            return Reply(place, response, done=True, metadata=metadata_of(body, state, member), response=Json(result))
    metadata = None if state is None else Json({"provisioningState": state.word})
    return Reply(place, response, done=True, metadata=metadata, response=None if body is None else Json(body))
