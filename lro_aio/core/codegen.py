"""Functions that are written out field by field, and compiled once at import, as ``dataclasses`` does for ``__init__``.

The row has over thirty fields, and every read and every write goes through all of them. A loop with ``getattr`` and
``setattr`` takes three times as long as one line per field. Lines written by hand would have to be kept in step with
the fields, in each function.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["compiled"]


def compiled(module: str, lines: Iterable[str], names: Mapping[str, Any], *, of: str = "") -> dict[str, Any]:
    """The functions that the lines define, by name. A traceback shows the lines as it shows those of a file.

    Args:
        module: ``__name__`` of the module that they belong to.
        lines: Their source. Made of the names of fields and of constants of this package: never of what is read.
        names: Their globals.
        of: What tells them from other functions of the module that are written out, in a traceback.
    """
    source = "\n".join(lines) + "\n"
    place = f"<{module}{of and f', {of}'}, written out>"
    namespace = {"__name__": module, **names}
    exec(compile(source, place, "exec"), namespace)  # noqa: S102 (the text is this package's own, see above)
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    return namespace
