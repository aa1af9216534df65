"""How to read status monitors and resources in Azure's style, which differ from service to service.

The guidelines have three final states (Succeeded, Failed, Canceled), one member for the result and one for the error.
Services have more of each. A state that is not known here counts as running, as the guidelines want.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.payloads import Json
from lro_aio.remote.azure_errors import status_of_error

__all__ = ["Outcome", "State", "failure_of", "is_of", "landed", "metadata_of", "monitored", "provisioned", "result_of"]


class Outcome(enum.Enum):
    """What has become of an operation."""

    RUNNING = enum.auto()
    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()


class State(NamedTuple):
    """A word for a state, and its outcome."""

    word: str
    outcome: Outcome


_SUCCEEDED = {
    "succeeded", "success", "successful", "completed", "done", "finished", "partiallysucceeded", "partiallycompleted",
    "partialsuccess", "succeededwitherrors", "succeededwithissues", "succeededwithwarnings", "completedwitherrors",
    "completedwithwarnings",
}  # fmt: skip
_CANCELLED = {"canceled", "cancelled"}
_FAILED = {
    **dict.fromkeys(("failed", "failure", "error", "errored", "faulted", "terminated"), Code.UNKNOWN),
    "aborted": Code.ABORTED,
    "expired": Code.DEADLINE_EXCEEDED,
    "rejected": Code.FAILED_PRECONDITION,
    "timedout": Code.DEADLINE_EXCEEDED,
    "validationfailed": Code.INVALID_ARGUMENT,
}
"""Final words for a failure, and the code that each stands for where the error names none."""

_OPERATIONS_OWN = {"accepted", "inprogress", "notstarted"}
"""Words for a running operation that are no state of a resource."""
_RUNNING = _OPERATIONS_OWN | {
    "creating", "deleting", "pending", "processing", "provisioning", "queued", "running", "started", "starting",
    "submitted", "updating", "validating", "waiting",
}  # fmt: skip

_MEMBERS = {
    "id", "name", "kind", "status", "error", "errors", "result", "results", "resourceLocation", "resourceId",
    "properties", "operations", "metadata", "message", "output", "outputs", "progress", "percentComplete",
    "percentageComplete", "jobId", "operationId", "operationName", "operationType", "self", "warnings", "runtimeStatus",
    "createdOn", "instanceId", "input", "customStatus", "displayName",
}  # fmt: skip
"""Members of status monitors. Resources have others besides, such as their type."""
_MEMBER_ENDINGS = ("time", "timeutc", "result", "results")

_OUTCOME = {"id", "name", "kind", "status", "error", "result", "resourceLocation"}
"""Members of a status monitor that are not metadata."""

_TEXTS = ("message", "errorMessage", "statusMessage", "statusDetails", "failureReason", "reason", "details", "output")
"""Members in which services say why an operation failed, if not in an error object."""

MAX_DEPTH = 3
"""How many objects deep to search for an error."""


def monitored(body: Any) -> State | None:
    """The state in a status monitor: its status, or, if it is the resource, the provisioningState. None: neither."""
    if not isinstance(body, dict):
        return None
    words = (body.get("status"), body.get("runtimeStatus"))  # the latter is of Durable Functions
    return next((State(word, _outcome(word)) for word in words if isinstance(word, str)), None) or provisioned(body)


def provisioned(body: Any) -> State | None:
    """The provisioningState of a resource; None: it has none.

    By ARM's rules, any state but the final ones means that the work goes on.
    """
    if not isinstance(body, dict):
        return None
    properties = body.get("properties")
    words = (
        body.get("provisioningState"),
        properties.get("provisioningState") if isinstance(properties, dict) else None,
    )
    return next((State(word, _outcome(word)) for word in words if isinstance(word, str)), None)


def landed(body: Any, address: str) -> State | None:
    """The state in the body at a ``Location``, which may be a status monitor or the result itself.

    A member ``status`` may belong to the result. It counts only if all other members are those of a status monitor. If
    it says that something is under way, that must certainly be an operation: a machine may be "Running" for ever.

    Args:
        body: JSON.
        address: Where it came from.

    Returns:
        None: The body is the result.
    """
    if not isinstance(body, dict) or (state := monitored(body)) is None:
        return None
    if state.word != body.get("status") and state.word != body.get("runtimeStatus"):
        return state
    if not all(key in _MEMBERS or key.lower().endswith(_MEMBER_ENDINGS) for key in body):
        return None
    if state.outcome is Outcome.RUNNING:
        letters, named = _letters(state.word), {"id", "name"} & body.keys()
        certain = letters in _OPERATIONS_OWN or not named or ("operation" in address.lower() and is_of(body, address))
        return state if letters in _RUNNING and certain else None
    return state


def is_of(body: dict[str, Any], address: str) -> bool:
    """Whether the id or the name in a body is that of the status monitor at this address."""
    path = address.partition("?")[0].rstrip("/")
    ids = [text.partition("?")[0].rstrip("/") for key in ("id", "name") if isinstance(text := body.get(key), str)]
    return any(text and (path == text or path.endswith(f"/{text.lstrip('/')}") or text.endswith(path)) for text in ids)


def result_of(body: dict[str, Any]) -> tuple[str, Any] | None:
    """The result of an operation that has succeeded: the member that holds it, and its value. "" is several members.

    ``result`` comes first, then members such as ``analyzeResult`` and ``outputs``, then ARM's ``properties``, then
    whatever objects and lists the body has besides.
    """
    if body.get("result") is not None:
        return "result", body["result"]
    given = {key: value for key, value in body.items() if value is not None}
    named = [key for key in given if key.lower().endswith(("result", "results"))]
    if len(named) == 1:
        return named[0], given[named[0]]
    for key in ("output", "outputs", "properties"):
        if given.get(key):
            return key, given[key]
    rest = {key: value for key, value in given.items() if key not in _MEMBERS or key in named}
    rest = {key: value for key, value in rest.items() if key in named or not key.lower().endswith(_MEMBER_ENDINGS)}
    return ("", rest) if any(isinstance(value, dict | list) for value in rest.values()) else None


def metadata_of(body: dict[str, Any], state: State, result: str = "") -> Json | None:
    """What a status monitor says besides the outcome.

    The member ``metadata``, which this package's servers send, or else all other members. A success that is only a
    partial one shows its state and its errors.

    Args:
        body: Of the status monitor.
        state: The state in it.
        result: The member that is the result.
    """
    if body.get("metadata") is not None:
        return Json(body["metadata"])
    hidden = _OUTCOME | {result}
    if state.outcome is Outcome.SUCCEEDED and _letters(state.word) != "succeeded":
        hidden -= {"status", "error"}
    found = {key: value for key, value in body.items() if key not in hidden}
    return Json(found) if found else None


def failure_of(body: dict[str, Any], state: State) -> status_pb2.Status:
    """Why an operation has failed, wherever the body says it."""
    error = next(_errors(body), {})
    status = status_of_error(error)
    if state.outcome is Outcome.CANCELLED:
        status.code = int(Code.CANCELLED)
    elif status.code == Code.UNKNOWN:
        status.code = int(_FAILED.get(_letters(state.word), Code.UNKNOWN))
    if not status.message.strip():
        status.message = next(_texts(body), "") or _silence(state)
    return status


def _errors(body: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """Error objects: ``error``, the first of ``errors``, and those of the objects inside, such as a result."""
    for value in (body.get("error"), body.get("errors")):
        several = value if isinstance(value, list) else [value]
        objects = [one for one in several if isinstance(one, dict) and one]
        if objects:
            yield {**objects[0], **({"details": objects[1:]} if objects[1:] else {})}
        elif isinstance(several[0] if several else None, str) and several[0]:
            yield {"message": several[0]}
    if depth < MAX_DEPTH:
        for key, value in body.items():
            inner = _parsed(value) if key in _TEXTS else value
            if key not in ("error", "errors", "metadata", "input") and isinstance(inner, dict):
                yield from _errors(inner, depth + 1)


def _texts(body: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """Sentences beside an error object, or inside one that has no message."""
    for key in _TEXTS:
        text = body.get(key)
        if isinstance(text, str) and text.strip():
            yield " ".join(text.split())
    if depth < MAX_DEPTH:
        for key in ("error", "details", "properties", "innererror"):
            value = body.get(key)
            inner = value[0] if isinstance(value, list) and value else value
            if isinstance(inner, dict):
                yield from _texts(inner, depth + 1)


def _parsed(text: Any) -> Any:
    """The JSON in a text, as ARM's ``statusMessage`` has it."""
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _silence(state: State) -> str:
    if state.outcome is Outcome.CANCELLED:
        return "the operation was cancelled"
    word = "" if _letters(state.word) == "failed" else f"; its status is {state.word[:80]!r}"
    return f"the service did not say why it failed{word}"


def _outcome(word: str) -> Outcome:
    letters = _letters(word)
    if letters in _SUCCEEDED:
        return Outcome.SUCCEEDED
    if letters in _CANCELLED:
        return Outcome.CANCELLED
    return Outcome.FAILED if letters in _FAILED else Outcome.RUNNING


@functools.lru_cache(128)
def _letters(word: str) -> str:
    return "".join(filter(str.isalpha, word)).casefold()
