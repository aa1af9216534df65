"""Azure's error objects as ``google.rpc.Status``.

The form is that of https://github.com/microsoft/api-guidelines, azure/Guidelines.md, "Handling Errors": ``code`` is a
word such as "NotFound", ``message`` is for people, and ``details``, ``innererror`` and ``target`` say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.payloads import Json, status_of_json, to_any
from lro_aio.core.status import utf8

__all__ = ["DOMAIN", "code_of", "status_of_error"]

DOMAIN = "azure"
"""``ErrorInfo.domain`` of codes that are Azure's own words."""

_WORDS = {
    **{code.name.replace("_", "").lower(): code for code in Code if code is not Code.OK},
    **dict.fromkeys(
        (
            "badrequest", "invalidinput", "invalidparameter", "invalidparametervalue", "invalidrequest",
            "invalidrequestcontent", "invalidvalue", "validationerror", "validationfailed",
        ),
        Code.INVALID_ARGUMENT,
    ),
    **dict.fromkeys(("canceled", "operationcanceled", "operationcancelled"), Code.CANCELLED),
    **dict.fromkeys(("conflict", "operationnotallowedconflict"), Code.ABORTED),
    **dict.fromkeys(("resourceexists", "resourcealreadyexists"), Code.ALREADY_EXISTS),
    **dict.fromkeys(("accessdenied", "authorizationfailed", "forbidden"), Code.PERMISSION_DENIED),
    **dict.fromkeys(("authenticationfailed", "invalidauthenticationtoken", "unauthorized"), Code.UNAUTHENTICATED),
    **dict.fromkeys(("gone", "operationnotfound", "resourcegroupnotfound", "resourcenotfound"), Code.NOT_FOUND),
    **dict.fromkeys(("quotaexceeded", "throttled", "throttling", "toomanyrequests"), Code.RESOURCE_EXHAUSTED),
    **dict.fromkeys(("conditionnotmet", "preconditionfailed"), Code.FAILED_PRECONDITION),
    **dict.fromkeys(("internalerror", "internalservererror"), Code.INTERNAL),
    **dict.fromkeys(("serverbusy", "serviceunavailable"), Code.UNAVAILABLE),
    **dict.fromkeys(("gatewaytimeout", "operationtimedout", "requesttimeout", "timeout"), Code.DEADLINE_EXCEEDED),
    **dict.fromkeys(("methodnotallowed", "notimplemented", "notsupported"), Code.UNIMPLEMENTED),
}  # fmt: skip
"""Letters of a code -> canonical code. Services make up words; those that are not here are UNKNOWN."""


def code_of(word: Any) -> Code:
    """The canonical code that a word stands for, however it is spelt: "NotFound", "NOT_FOUND", "not-found"."""
    letters = "".join(filter(str.isalpha, word)).casefold() if isinstance(word, str) else ""
    return _WORDS.get(letters, Code.UNKNOWN)


def status_of_error(error: Mapping[str, Any]) -> status_pb2.Status:
    """The status that an error object stands for.

    Servers of this package send their details as ``innererror.details``, and these come back as they were. From other
    services, the code is kept in an ``ErrorInfo``, and everything else they say in a ``Struct``.

    Args:
        error: The object with ``code`` and ``message``.
    """
    word, message, inner = error.get("code"), error.get("message"), error.get("innererror")
    inner = inner if isinstance(inner, dict) else {}
    code = code_of(word) if code_of(word) is not Code.UNKNOWN else code_of(inner.get("code"))
    status = status_pb2.Status(code=int(code), message=utf8(message) if isinstance(message, str) else "")
    if isinstance(inner.get("details"), list):
        status.details.extend(status_of_json(inner).details)
        return status
    if isinstance(word, str) and word:
        status.details.append(_error_info(word))
    if rest := {key: value for key, value in error.items() if key not in ("code", "message") and value}:
        status.details.append(to_any(Json(rest)))
    return status


def _error_info(word: str) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason=utf8(word), domain=DOMAIN))
    return packed
