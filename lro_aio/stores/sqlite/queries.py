"""The statements of ``queries.sql``, by name."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

from lro_aio.stores.sqlite.entries import ENTRY
from lro_aio.stores.sqlite.rows import COLUMNS, OUTLINE, WRITTEN

__all__ = ["load"]

_HEADING = re.compile(r"^-- :name (\w+)$", re.MULTILINE)


@functools.cache
def load() -> dict[str, str]:
    """Every statement by its name, with the columns filled in."""
    text = resources.files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    lists = {"{columns}": COLUMNS, "{outline}": OUTLINE, "{written}": WRITTEN, "{entry}": ENTRY}
    filled = {name: ", ".join(columns) for name, columns in lists.items()}
    return {name: _filled(_bare(body), filled) for name, body in bodies.items()}


def _filled(body: str, parts: Mapping[str, str]) -> str:
    for name, part in parts.items():
        body = body.replace(name, part)
    return body


def _bare(body: str) -> str:
    """The statement without its comments, which SQLite would scan whenever it prepares it."""
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
    return "\n".join(lines)
