r"""Filters over operations: the subset of AIP-160 that ``ListOperations`` takes.

Fields:

=====================  =====================================================================================
``name``               string
``done``               ``true`` or ``false``
``state``              PENDING, RUNNING, SUSPENDED, SUCCEEDED, FAILED or CANCELLED
``paused``             ``true`` or ``false``: whether somebody has paused it, or a failure has
``rerun``              ``true`` or ``false``: whether it has been run again
``handler``            string; "" where the creator drives the operation by hand
``create_time``        RFC 3339 timestamp with offset
``end_time``           the same; unset until the operation ends
``error``              presence only: ``error:*``
``error.code``         a number, or a canonical name such as NOT_FOUND with ``=`` and ``!=``
``error.reason``       string: ``reason`` of its ``ErrorInfo`` (AIP-193); "" without one
``error.message``      string
``metadata.@type``     type URL, or the bare full name of the message
``metadata.<path>``    whatever the metadata of the row holds
``response.@type``     as for metadata
``response.<path>``    as for metadata
=====================  =====================================================================================

Adjacent conditions mean AND; OR binds tighter than AND; NOT or a leading ``-`` negates; keywords are upper case. The
comparators are ``= != < <= > >= :``, for bools, enums and ``@type`` only ``=``, ``!=`` and ``:``. ``field:*`` asks for
presence, where a field of proto3 without presence counts as present when it is not its default. ``:`` asks whether a
map has a key, a repeated field an element, a message a field that is set; on a single value it is ``=``. An
asterisk at the start or end of a quoted string is a wildcard for ``=``, ``!=`` and ``:``; ``\*`` is an asterisk.

Metadata and responses differ from row to row. So a path does not match, not even with ``!=``, where a row's message
does not have it, where it leads through an unset message or a type that this process does not know, or where its field
cannot be compared with the value. ``NOT`` is plain negation: ``NOT metadata.x=1`` also matches the rows without ``x``.
The order of conditions has no meaning.

Limits: 2,000 characters, 20 levels of nested parentheses, 100 conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from lro_aio.core.codec import unpack
from lro_aio.core.codes import Code
from lro_aio.core.errors import InvalidFilterError
from lro_aio.core.filter_parser import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_TERMS,
    AllOf,
    AnyOf,
    Node,
    Not,
    Restriction,
    parse_tree,
)
from lro_aio.core.filter_pushdown import ALL_STATES, ANYTHING, ENDED, Bounds, Pushdown
from lro_aio.core.filter_values import ORDER, Operand, holds, type_matches
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State
from lro_aio.core.rerunning import links
from lro_aio.core.status import reason_of

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_TERMS", "Filter", "Pushdown", "parse"]

_ERROR_STATES = frozenset({State.FAILED, State.CANCELLED})
_EVERYTHING = Bounds(exact=True)
_EQUALITY = ("=", "!=", ":")
_M = TypeVar("_M", bound=Message)


class _Row:
    """A record while a filter tests it: payloads are parsed once, and only when a condition asks for them."""

    __slots__ = ("_parsed", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._parsed: dict[str, Any] = {}

    def error(self) -> status_pb2.Status | None:
        """Present where the public ``Operation`` has one."""
        if self.record.state not in _ERROR_STATES:
            return None
        return self._once("error", lambda: _parsed(status_pb2.Status(), self.record.error))

    def envelope(self, part: str) -> any_pb2.Any | None:
        """``metadata`` or ``response`` as an Any."""
        data = self.record.metadata if part == "metadata" else self._response()
        return self._once(f"{part} envelope", lambda: _parsed(any_pb2.Any(), data)) if data else None

    def payload(self, part: str) -> Message | None:
        """The message in it; None where it is unset, broken or of an unknown type."""
        return self._once(part, lambda: _content(self.envelope(part)))

    def _response(self) -> bytes:
        return self.record.response if self.record.state is State.SUCCEEDED else b""

    def _once(self, key: str, make: Callable[[], _M | None]) -> _M | None:
        if key not in self._parsed:
            self._parsed[key] = make()
        found: _M | None = self._parsed[key]
        return found


@dataclass(frozen=True, slots=True)
class _Condition:
    """A part of a filter, ready to use."""

    test: Callable[[_Row], bool]
    bounds: Bounds = ANYTHING


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter. Immutable: any thread may use it."""

    text: str
    """As it was given."""
    _condition: _Condition | None = field(default=None, repr=False, compare=False)
    terms: int = field(default=0, repr=False, compare=False)
    """How many conditions it has."""

    @property
    def empty(self) -> bool:
        """Whether it has no condition: every record matches."""
        return self._condition is None

    def matches(self, record: Record) -> bool:
        """Whether the record satisfies the filter. Never raises because of what a record holds."""
        return self._condition is None or self._condition.test(_Row(record))

    def pushdown(self) -> Pushdown:
        """Conditions on indexed columns that every matching record satisfies."""
        bounds = _EVERYTHING if self._condition is None else self._condition.bounds
        return bounds.pushdown()


def parse(text: str) -> Filter:
    """Read a filter; "" and blanks give the empty filter.

    Raises:
        InvalidFilterError: It does not follow the grammar, names an unknown field, compares a field with what it cannot
            be compared with, or is over a limit. ``position`` counts characters from 0.
    """
    tree = parse_tree(text)
    return Filter(text) if tree is None else Filter(text, _compile(tree), _terms(tree))


def _terms(node: Node) -> int:
    match node:
        case Restriction():
            return 1
        case Not():
            return _terms(node.item)
        case AllOf() | AnyOf():
            return sum(map(_terms, node.items))


def _compile(node: Node) -> _Condition:
    # The recursion is bounded by MAX_DEPTH.
    match node:
        case Restriction():
            return _restriction(node)
        case Not():
            inner = _compile(node.item)
            return _Condition(lambda row: not inner.test(row), inner.bounds.negate())
        case AllOf():
            parts = [_compile(item) for item in node.items]
            bounds = Bounds.intersect([part.bounds for part in parts])
            return _Condition(lambda row: all(part.test(row) for part in parts), bounds)
        case AnyOf():
            parts = [_compile(item) for item in node.items]
            bounds = Bounds.unite([part.bounds for part in parts])
            return _Condition(lambda row: any(part.test(row) for part in parts), bounds)


def _restriction(term: Restriction) -> _Condition:
    operand = Operand.of(term.value)
    make = _FIELDS.get(term.path)
    if make is not None:
        return make(term, operand)
    if term.path[0] in ("metadata", "response") and term.path[1:2] != ("@type",):
        return _payload(term, operand)
    known = ", ".join(".".join(path) for path in _FIELDS)
    raise InvalidFilterError(
        f"unknown field {term.field[:80]!r}; known: {known}, metadata.<field>, response.<field>", term.position
    )


def _only(term: Restriction, comparators: tuple[str, ...], what: str) -> None:
    if term.comparator not in comparators:
        allowed = ", ".join(comparators)
        raise InvalidFilterError(
            f"{term.field} is {what}: it takes {allowed} only, not {term.comparator}",
            term.comparator_position,
        )


def _name(term: Restriction, operand: Operand) -> _Condition:
    if operand.anything:
        return _Condition(lambda row: bool(row.record.name))
    return _Condition(lambda row: operand.compare_text(term.comparator, row.record.name))


def _handler(term: Restriction, operand: Operand) -> _Condition:
    if operand.anything:
        return _Condition(lambda row: bool(row.record.handler))
    plain = term.comparator in ("=", ":") and not operand.open_start and not operand.open_end
    bounds = Bounds(handler=operand.text, exact=True) if plain else ANYTHING
    return _Condition(lambda row: operand.compare_text(term.comparator, row.record.handler), bounds)


def _in(states: frozenset[State]) -> _Condition:
    return _Condition(lambda row: row.record.state in states, Bounds(states=states, exact=True))


def _done(term: Restriction, operand: Operand) -> _Condition:
    _only(term, _EQUALITY, "a bool")
    if operand.anything:  # a bool of proto3 is present when it is true
        return _in(ENDED)
    if operand.boolean is None:
        raise InvalidFilterError("done is compared with true or false", operand.position)
    return _in(ENDED if operand.boolean is (term.comparator != "!=") else ALL_STATES - ENDED)


def _paused(term: Restriction, operand: Operand) -> _Condition:
    _only(term, _EQUALITY, "a bool")
    if not operand.anything and operand.boolean is None:
        raise InvalidFilterError("paused is compared with true or false", operand.position)
    wanted = operand.anything or operand.boolean is (term.comparator != "!=")
    # What has ended is not paused: that keeps a million finished rows out of the scan.
    bounds = Bounds(states=ALL_STATES - ENDED, paused=True, exact=True) if wanted else Bounds(paused=False, exact=True)
    return _Condition(lambda row: row.record.paused is wanted, bounds)


def _rerun(term: Restriction, operand: Operand) -> _Condition:
    _only(term, _EQUALITY, "a bool")
    if not operand.anything and operand.boolean is None:
        raise InvalidFilterError("rerun is compared with true or false", operand.position)
    wanted = operand.anything or operand.boolean is (term.comparator != "!=")
    bounds = Bounds(states=ENDED) if wanted else ANYTHING
    return _Condition(lambda row: bool(links(row.record.trail, "as")) is wanted, bounds)


def _state(term: Restriction, operand: Operand) -> _Condition:
    _only(term, _EQUALITY, "an enum")
    if operand.anything:
        return _in(ALL_STATES)
    if operand.text not in State.__members__:
        known = ", ".join(State.__members__)
        raise InvalidFilterError(f"unknown state {operand.text[:40]!r}; known: {known}", operand.position)
    named = frozenset({State[operand.text]})
    return _in(ALL_STATES - named if term.comparator == "!=" else named)


def _seconds(term: Restriction, operand: Operand) -> float:
    if operand.timestamp is None:
        raise InvalidFilterError(
            f"{term.field} is compared with an RFC 3339 timestamp such as 2025-01-31T08:00:00Z", operand.position
        )
    return operand.timestamp / 10**9


def _create_time(term: Restriction, operand: Operand) -> _Condition:
    if operand.anything:
        return _in(ALL_STATES)
    moment = _seconds(term, operand)
    compare = ORDER[term.comparator]
    # With floats, "after T" is "from the next float on".
    lower = {"=": moment, ":": moment, ">=": moment, ">": math.nextafter(moment, math.inf)}.get(term.comparator)
    upper = {"=": moment, ":": moment, "<=": moment, "<": math.nextafter(moment, -math.inf)}.get(term.comparator)
    bounds = ANYTHING if term.comparator == "!=" else Bounds(created_from=lower, created_to=upper, exact=True)
    return _Condition(lambda row: compare(row.record.create_time, moment), bounds)


def _end_time(term: Restriction, operand: Operand) -> _Condition:
    bounds = Bounds(states=ENDED)
    if operand.anything:
        return _Condition(lambda row: row.record.done and row.record.end_time is not None, bounds)
    moment = _seconds(term, operand)
    compare = ORDER[term.comparator]

    def test(row: _Row) -> bool:
        ended = row.record.end_time
        return row.record.done and ended is not None and compare(ended, moment)

    return _Condition(test, bounds)


def _error(term: Restriction, operand: Operand) -> _Condition:
    _only(term, (":",), "a message")
    if not operand.anything:
        raise InvalidFilterError("error is a message: write error:*, or compare error.code", operand.position)
    return _in(_ERROR_STATES)


def _on_error(test: Callable[[status_pb2.Status], bool]) -> _Condition:
    def of_row(row: _Row) -> bool:
        error = row.error()
        return error is not None and test(error)

    return _Condition(of_row, Bounds(states=_ERROR_STATES))


def _error_code(term: Restriction, operand: Operand) -> _Condition:
    if operand.anything:
        return _on_error(lambda error: error.code != 0)
    wanted = operand.number
    if wanted is None:
        if operand.text not in Code.__members__:
            raise InvalidFilterError(
                "error.code is compared with a number or a canonical code name such as NOT_FOUND", operand.position
            )
        _only(term, _EQUALITY, "an enum where it is given by name")
        wanted = int(Code[operand.text])
    compare = ORDER[term.comparator]
    return _on_error(lambda error: compare(error.code, wanted))


def _error_reason(term: Restriction, operand: Operand) -> _Condition:
    if operand.anything:
        return _on_error(lambda error: bool(reason_of(error)))
    return _on_error(lambda error: operand.compare_text(term.comparator, reason_of(error)))


def _error_message(term: Restriction, operand: Operand) -> _Condition:
    if operand.anything:
        return _on_error(lambda error: bool(error.message))
    return _on_error(lambda error: operand.compare_text(term.comparator, error.message))


def _part_bounds(part: str) -> Bounds:
    return Bounds(states=frozenset({State.SUCCEEDED})) if part == "response" else ANYTHING


def _type(term: Restriction, operand: Operand) -> _Condition:
    _only(term, _EQUALITY, "a type name")
    part = term.path[0]

    def test(row: _Row) -> bool:
        packed = row.envelope(part)
        return packed is not None and type_matches(packed.type_url, term.comparator, operand)

    return _Condition(test, _part_bounds(part))


def _payload(term: Restriction, operand: Operand) -> _Condition:
    part, *path = term.path
    if not path:
        _only(term, (":",), "a message")
        if operand.anything:
            return _Condition(lambda row: row.envelope(part) is not None, _part_bounds(part))

    def test(row: _Row) -> bool:
        message = row.payload(part)
        return message is not None and holds(message, path, term.comparator, operand)

    return _Condition(test, _part_bounds(part))


_FIELDS: dict[tuple[str, ...], Callable[[Restriction, Operand], _Condition]] = {
    ("name",): _name,
    ("done",): _done,
    ("state",): _state,
    ("paused",): _paused,
    ("rerun",): _rerun,
    ("handler",): _handler,
    ("create_time",): _create_time,
    ("end_time",): _end_time,
    ("error",): _error,
    ("error", "code"): _error_code,
    ("error", "reason"): _error_reason,
    ("error", "message"): _error_message,
    ("metadata", "@type"): _type,
    ("response", "@type"): _type,
}


def _parsed(message: _M, data: bytes) -> _M | None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return message


def _content(packed: any_pb2.Any | None) -> Message | None:
    if packed is None:
        return None
    try:
        return unpack(packed)
    except (LookupError, DecodeError):
        return None
