"""JSON that everybody reads alike."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["loads"]


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is not JSON, or an object has a member twice, of which others may read the other one (RFC 8259,
            section 4), or a number is NaN, infinite or beyond all bounds, or a text is no Unicode.
        RecursionError: It is nested too deeply.
    """
    value = json.loads(text, parse_constant=_number, parse_float=_number, object_pairs_hook=_members_once)
    if b"\\u" in (text.encode() if isinstance(text, str) else text):  # of which a half may stand alone
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it has no {text}")
    return number


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members
