"""When a service wants to be asked again, as said by the headers of an HTTP answer."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["of_headers"]

IN_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")

_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def of_headers(headers: Mapping[str, str]) -> float | None:
    """Seconds from now; None if the headers say nothing, or nothing that makes sense.

    RFC 9110 has whole seconds and dates. A date is taken relative to the answer's own ``Date``, so that the clocks need
    not agree; a past one is 0. Azure's milliseconds are more exact than both, and win.

    Args:
        headers: Of an answer, in a mapping that ignores the case of names.
    """
    for name in IN_MILLISECONDS:
        if (milliseconds := _number(headers.get(name))) is not None:
            return milliseconds / 1000
    said = headers.get("retry-after")
    if (whole := _number(said)) is not None:
        return whole
    if (then := _date(said)) is None:
        return None
    now = _date(headers.get("date"))
    return max(0.0, then - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text.strip()) else None


def _date(text: str | None) -> float | None:
    """Epoch seconds of an HTTP-date."""
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):  # the parser raises each of these
        return None
