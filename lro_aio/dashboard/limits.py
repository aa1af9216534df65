"""The limits of a queue as the fields of a form: each a text, which is empty where there is no limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from lro_aio.core.queues import MOST_PLACES, Bounds, Rate
from lro_aio.servers.errors import invalid

__all__ = ["LIMITS", "read_limits", "texts_of"]

LIMITS = tuple(field.name for field in fields(Bounds))
"""The fields, in their order."""


def texts_of(bounds: Bounds) -> tuple[str, ...]:
    """What a form shows of limits that hold."""
    return tuple(_text(getattr(bounds, name)) for name in LIMITS)


def read_limits(texts: Sequence[str]) -> Bounds:
    """The limits that a form says, in the order of ``LIMITS``.

    Raises:
        RequestError: One is malformed.
    """
    found: dict[str, Any] = {name: _value(name, text.strip()) for name, text in zip(LIMITS, texts, strict=True)}
    return Bounds(**found)


def _text(value: int | Rate | None) -> str:
    if value is None:
        return ""
    return f"{value.count}/{value.period:.15g}" if isinstance(value, Rate) else str(value)


def _value(name: str, text: str) -> int | Rate | None:
    if not text:
        return None
    try:
        if not name.startswith("rate"):
            return Bounds(running=int(text)).running
        count, _, per = text.partition("/")
        return Rate(int(count), per=float(per))
    except ValueError as exc:
        wants = "200/60, which is 200 starts in 60 seconds," if name.startswith("rate") else "a whole number"
        raise invalid(name, f"must be {wants} of 1 to {MOST_PLACES:,}, or empty, not {text[:40]!r}") from exc
