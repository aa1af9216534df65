"""What a caller sends to an operation, as the JSON of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lro_aio.servers.errors import invalid
from lro_aio.servers.http import parse_object

__all__ = ["Sent", "most_sent", "parse_sent"]

MEMBERS = {"topic": "topic", "payload": "payload", "messageId": "message_id", "message_id": "message_id"}
"""Each field in the spellings that proto3 JSON reads."""

LONGEST = 64
"""Characters of a member's name that a refusal repeats."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message to an operation."""

    topic: str
    payload: Any
    """JSON data."""
    message_id: str | None


def most_sent(limit: int) -> int:
    """Most bytes of a body whose message is not over a limit: JSON may spell a character in three times its bytes."""
    return 3 * limit + 64 * 1024


def parse_sent(body: bytes) -> Sent:
    """The message in a body ``{"topic": ..., "payload": ..., "messageId": ...}``.

    As in all proto3 JSON, a member that is null is as good as missing, and so is an empty ``messageId``.

    Raises:
        RequestError: It is no JSON object, has other members or one of them twice, or one has the wrong type.
    """
    fields: dict[str, Any] = {}
    for member, value in parse_object(body).items():
        field = MEMBERS.get(member)
        if field is None:
            named = member.isprintable() and 0 < len(member) <= LONGEST
            raise invalid(member, "is not known") if named else invalid("body", "has unknown members")
        if field in fields:
            raise invalid(field, "is there twice")
        fields[field] = value
    topic, message_id = fields.get("topic"), fields.get("message_id")
    if not isinstance(topic, str):
        raise invalid("topic", "is missing" if topic is None else "is not a text")
    if message_id is not None and not isinstance(message_id, str):
        raise invalid("message_id", "is not a text")
    return Sent(topic, fields.get("payload"), message_id or None)
