"""SQL that stands in the files of a package: its statements, and the scripts that upgrade its tables."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["filled", "migrations", "statements"]

_HEADING = re.compile(r"^-- :name (\w+)$", re.MULTILINE)


@functools.cache
def statements(package: str) -> dict[str, str]:
    """The statements of ``queries.sql`` by their names, without the comments, which a database would scan each time."""
    text = _folder(package).joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    return {name: _bare(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


@functools.cache
def migrations(package: str) -> dict[int, str]:
    """The scripts of ``migrations/NNNN_name.sql`` by their numbers, which count from 1 without a gap."""
    folder = _folder(package).joinpath("migrations")
    scripts = {int(item.name[:4]): item.read_text("utf-8") for item in folder.iterdir() if item.name.endswith(".sql")}
    return dict(sorted(scripts.items()))


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A text with other texts in the places of theirs, such as "{columns}"."""
    for place, part in parts.items():
        text = text.replace(place, part)
    return text


def _folder(package: str) -> Traversable:
    """Where the files of a package are.

    ``importlib.resources`` knows too, and takes longer to import than all of this: it is asked where they are in an
    archive.

    Args:
        package: Its name. It is imported already.
    """
    folder = Path(sys.modules[package].__path__[0])
    if folder.is_dir():
        return folder
    from importlib import resources

    return resources.files(package)


def _bare(body: str) -> str:
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
    return "\n".join(lines).removesuffix(";")
