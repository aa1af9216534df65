"""The tables of the pages that compare with the Go package, as data."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

Row = dict[str, str]


def rows(page: str) -> Iterator[Row]:
    """Every row of every table, by the headers of its columns."""
    for table in re.finditer(r"(?:^\|.*\n)+", page, re.MULTILINE):
        header, _, *rest = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[0].splitlines()]
        for cells in rest:
            assert len(cells) == len(header), cells
            yield dict(zip(header, cells))


def go_name(row: Row) -> str:
    return row["Go"].replace("`", "")


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def resolve(form: str) -> Any:
    """What ``lro.A.b`` or ``lro_aio.servers.x.f`` names."""
    path = re.sub(r"^lro\.", "lro_aio.", form)
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[length:], found)
    raise AssertionError(form)
