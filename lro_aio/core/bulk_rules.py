"""Which operations something is for that is done to many at once."""

from __future__ import annotations

from lro_aio.core import filters
from lro_aio.core.bulk import EVERYTHING
from lro_aio.core.errors import InvalidFilterError
from lro_aio.core.names import OWN
from lro_aio.core.record import Record
from lro_aio.core.rerunning import links

__all__ = ["made_meanwhile", "spared", "wanted"]


def wanted(text: str) -> filters.Filter:
    """The filter of a bulk action.

    Raises:
        InvalidFilterError: It does not parse, or is empty: everything has to be said.
    """
    if text.strip() == EVERYTHING:
        return filters.parse("")
    found = filters.parse(text)
    if found.empty:
        raise InvalidFilterError(f"say which operations; {EVERYTHING!r} is every one", 0)
    return found


def spared(record: Record, text: str) -> bool:
    """Whether a row is the package's own, such as a bulk action or a schedule: a filter has to name it to touch it."""
    if not record.handler.startswith(OWN) or record.name in text:
        return False
    kind = OWN + record.handler.removeprefix(OWN).partition(".")[0]  # each schedule has a handler of its own
    return kind not in text


def made_meanwhile(record: Record, until: float) -> bool:
    """Whether a row is a rerun that was made in the very moment in which the bulk action began: by itself, that is."""
    if record.create_time < until:
        return False
    return bool(links(record.trail, "of"))
