"""The statements of ``queries.sql``, by name."""

from __future__ import annotations

import re
from importlib import resources

from lro_aio.stores.sqlite.rows import COLUMNS

__all__ = ["load"]

_HEADING = re.compile(r"^-- :name (\w+)$", re.MULTILINE)


def load() -> dict[str, str]:
    """Every statement by its name, with the columns filled in."""
    text = resources.files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: _bare(body).replace("{columns}", ", ".join(COLUMNS)) for name, body in bodies.items()}


def _bare(body: str) -> str:
    """The statement without its comments, which SQLite would scan whenever it prepares it."""
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
    return "\n".join(lines)
