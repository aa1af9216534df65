"""Records to columns that are named as their fields, and back, for the stores whose rows are made of such columns.

It is the path of every read and write, so the functions are written out at import; ``codegen`` says why. A new field of
``Record`` needs a column in a migration, and nothing else: its type says how it is stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from lro_aio.core.codegen import compiled
from lro_aio.core.record import LATER, OUTCOMES, Draft, Record, Seat, State, Wait, Wake

__all__ = ["AS_IT_IS", "FIXED", "KINDS", "PAYLOADS", "TYPES", "Codec"]

TYPES = {item.name: str(item.type) for item in dataclasses.fields(Record)}
"""The fields of ``Record``, and their types."""

PAYLOADS = tuple(column for column, kind in TYPES.items() if kind == "bytes")

FIXED = ("uid", "create_time", "handler", "parent_operation", "fingerprint", "traceparent")
"""The columns that never change in the life of a row."""

AS_IT_IS = ("{0}", "{0}")
_JSON = "None if {{0}} is None else {kind}.from_json({{0}})", "None if {0} is None else {0}.to_json()"
KINDS = {
    **dict.fromkeys(("str", "int", "float", "float | None"), AS_IT_IS),
    "State": ("_STATES[{0}]", "_TEXTS[{0}]"),
    "Wait | None": (_JSON[0].format(kind="Wait"), _JSON[1]),
    "Wake | None": (_JSON[0].format(kind="Wake"), _JSON[1]),
    "Seat | None": (_JSON[0].format(kind="Seat"), _JSON[1]),
}
"""For each type of a field: the field from the value of its column, and the value from the field. Without "bool" and
"bytes", which each store has in its own way."""

_DERIVED = {
    "parent": '{0}.name.rpartition("/operations/")[0]',  # as names.parse, which was through with the name long ago
    "outcome": "_OUTCOMES[{0}.state]",
}
"""The columns that are no field: their value from the record."""

_NAMES = {
    "Draft": Draft,
    "Seat": Seat,
    "Wait": Wait,
    "Wake": Wake,
    "_OUTCOMES": OUTCOMES,
    "_STATES": {state.value: state for state in State},
    "_TEXTS": {state: state.value for state in State},
}


class Codec:
    """The functions of one table, as lines for ``compiled``.

    Args:
        columns: Of the table, in its order: the name first.
        kinds: As ``KINDS``, for all types.
    """

    def __init__(self, columns: Iterable[str], kinds: Mapping[str, tuple[str, str]]) -> None:
        order = list(columns)
        self.written = tuple(sorted((set(TYPES) & set(order)) | set(_DERIVED), key=order.index))
        """What ``encode`` gives, in its order."""
        self.columns = tuple(column for column in self.written if column in TYPES)
        """What ``decode`` takes, in its order: the fields of ``Record``."""
        self._absent = {item.name: item.default for item in dataclasses.fields(Record) if item.name not in order}
        """Fields that this table has no column for: they are as in a new record."""
        self._kinds = kinds

    def outline(self, nothing: Mapping[str, str]) -> tuple[str, ...]:
        """What ``decode`` takes for ``Record.outline``: of the payloads, not one page is read.

        Args:
            nothing: For each type, what stands there for a value that is left out, as SQL.
        """
        left_out = {*PAYLOADS, *LATER}
        return tuple(f"{nothing[TYPES[c]]} AS {c}" if c in left_out else c for c in self.columns)

    def value(self, column: str, record: str) -> str:
        """The expression of a column's value from the record in this variable."""
        if column in _DERIVED:
            return _DERIVED[column].format(record)
        return self._kinds[TYPES[column]][1].format(f"{record}.{column}")

    def compiled(self, module: str, *more: str, **names: Any) -> dict[str, Any]:
        """``decode`` and ``encode``, and what more lines define with more names, by name."""
        return compiled(module, [*self._decoder(), *self.encoder("encode", self.written), *more], {**_NAMES, **names})

    def _decoder(self) -> list[str]:
        """One assignment takes the row apart. What is stored as it is goes straight into the draft."""
        made = {column: self._kinds[TYPES[column]][0].format(column) for column in self.columns}
        return [
            "def decode(row):",
            "    draft = Draft()",
            "    (",
            *(f"        {'draft.' * (made[column] == column)}{column}," for column in self.columns),
            "    ) = row",
            *(f"    draft.{column} = {value}" for column, value in made.items() if value != column),
            *(f"    draft.{field} = {default!r}" for field, default in self._absent.items()),
            "    return draft.finish()",
        ]

    def encoder(self, name: str, columns: Iterable[str]) -> list[str]:
        """The values of these columns for a record."""
        values = [f"        {self.value(column, 'record')}," for column in columns]
        return [f"def {name}(record):", "    return (", *values, "    )"]

    def comparison(self, name: str, columns: Iterable[str], *more: str) -> list[str]:
        """Whether two records have the same values of these columns, and more holds for them."""
        equal = [f"{_compared(column, 'old')} == {_compared(column, 'new')}" for column in columns]
        return [f"def {name}(old, new):", f"    return {' and '.join([*equal, *more])}"]


def _compared(column: str, record: str) -> str:
    """What tells whether a column's value differs: the field itself, which may be stored as what equals nothing."""
    return _DERIVED[column].format(record) if column in _DERIVED else f"{record}.{column}"
