"""What the statement of a sweep has seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf import struct_pb2

from lro_aio.ports import Route
from lro_aio.stores.spanner import queries
from lro_aio.stores.spanner.values import moment, number

__all__ = ["Sight"]


@dataclass(slots=True)
class Sight:
    """The answer to ``queries.look``, row by row."""

    due: dict[str, int] = field(default_factory=dict)
    """The names of the rows that are due, and their places."""
    first: float | None = None
    """When the first of them came to be due, of those that are not due for ever."""
    next_check: float | None = None
    unknown: Route | None = None
    first_unknown: float | None = None
    """When its row came to be due."""

    @classmethod
    def of(cls, rows: Iterable[struct_pb2.ListValue]) -> Sight:
        """Of rows in the order of their kinds and times."""
        seen = cls()
        for row in rows:
            key, due, handler, resume_point, kind = row.values
            when = moment(due)
            if number(kind) == queries.NEXT:
                seen.next_check = when if seen.next_check is None else seen.next_check
            elif number(kind) == queries.UNKNOWN:
                seen.unknown = (handler.string_value, resume_point.string_value)
                seen.first_unknown = when if seen.first_unknown is None else seen.first_unknown
            else:
                seen.due.setdefault(key.string_value, len(seen.due))
                if seen.first is None and due.string_value != queries.EPOCH:
                    seen.first = when
        return seen
