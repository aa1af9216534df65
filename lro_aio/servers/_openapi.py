"""What the OpenAPI document says of operations: the results that their handlers declare, where these are data."""

from __future__ import annotations

from typing import Any, Union

from pydantic import BaseModel, Field, TypeAdapter, create_model

from lro_aio.client import Client
from lro_aio.core.names import MAX_LABEL
from lro_aio.engine.messages import MAX_MESSAGE_ID

__all__ = ["SENT_BODY", "monitor_responses", "operation_responses"]


SENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "topic": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL},
                        "payload": {"description": "any JSON"},
                        "messageId": {
                            "type": "string",
                            "maxLength": MAX_MESSAGE_ID,
                            "description": "of two messages of a topic with the same id, one is kept",
                        },
                    },
                    "required": ["topic"],
                    "additionalProperties": False,
                }
            }
        },
    }
}
"""OpenAPI of what ``:send`` takes."""


class Error(BaseModel):
    """Why an operation failed: a ``google.rpc.Status``."""

    code: int
    message: str = ""
    details: list[dict[str, Any]] = []


def operation_responses(client: Client) -> dict[int | str, dict[str, Any]]:
    """The answer 200 of a route that gives an operation in Google's style; empty where nothing is declared."""
    data = _declared(client)
    if data is None:
        return {}
    packed = create_model("OperationResult", type=(str, Field(alias="@type")), value=(data, ...))
    members: dict[str, Any] = {
        "name": (str, ...),
        "metadata": (dict[str, Any] | None, None),
        "done": (bool, False),
        "error": (Error | None, None),
        "response": (packed | dict[str, Any] | None, None),
    }
    return _answer(create_model("Operation", **members))


def monitor_responses(client: Client) -> dict[int | str, dict[str, Any]]:
    """The same in Azure's style."""
    data = _declared(client)
    if data is None:
        return {}
    members: dict[str, Any] = {
        "id": (str, ...),
        "name": (str, ...),
        "status": (str, ...),
        "error": (dict[str, Any] | None, None),
        "result": (data | Any, None),  # what messages are in Azure's style depends on them
    }
    return _answer(create_model("StatusMonitor", **members))


def _answer(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": "the operation"}}


def _declared(client: Client) -> Any:
    """The types of data that the handlers declare, which are registered by now. None for none."""
    kinds = [handler.response.data for handler in client.handlers if not handler.own]
    described = [kind for kind in dict.fromkeys(kinds) if kind is not None and _has_schema(kind)]
    return Union[tuple(described)] if described else None  # noqa: UP007 (the members are known at run time alone)


def _has_schema(kind: Any) -> bool:
    """Whether the type can be described: one that cannot must not take the whole document with it."""
    try:
        TypeAdapter(kind).json_schema(mode="serialization")
    except Exception:  # noqa: BLE001 (the user's class may raise anything)
        return False
    return True
