"""Where the rows are: a URL or path, parsed without reading the disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Self

from lro_aio.core.policies import Duration, seconds
from lro_aio.core.quick import dataclass

__all__ = ["BUSY_TIMEOUT", "Location"]

BUSY_TIMEOUT = 5.0
"""Seconds. Must stay well below a third of the lease, or a renewal that waits for the lock loses the lease (rule 4)."""

_MEMORY = ":memory:"
_FORM = (
    "expected 'sqlite:///relative.db', 'sqlite:////absolute.db', or 'sqlite://' for memory,"
    " with ?busy_timeout=SECONDS, ?mode=ro or ?max_page_count=N"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A SQLite database and how to open it."""

    path: str | None
    """The path as given; None for memory."""
    busy_timeout: float = BUSY_TIMEOUT
    """Seconds to wait for another writer."""
    read_only: bool = False
    max_page_count: int | None = None
    """Most pages of the file. It stops growing there, as on a full disk."""

    @classmethod
    def of(cls, given: str | os.PathLike[str], *, busy_timeout: Duration) -> Self:
        """Make one from a URL, a path, or ":memory:".

        Raises:
            ValueError: Malformed.
        """
        if isinstance(given, str) and given.startswith("sqlite:"):
            return cls.parse(given, busy_timeout=busy_timeout)
        path = os.fspath(given)
        if not isinstance(path, str) or not path or "\0" in path or (path is given and "://" in path):
            raise ValueError(f"{given!r} is not a path of a SQLite file; {_FORM}")
        timeout = seconds(busy_timeout, "busy_timeout")
        return cls(path=None if path == _MEMORY else path, busy_timeout=timeout)

    @classmethod
    def parse(cls, url: str, *, busy_timeout: Duration = BUSY_TIMEOUT) -> Self:
        """Make one from a URL in SQLAlchemy's form: three slashes for a relative path, four for an absolute one.

        Raises:
            ValueError: Malformed.
        """
        rest, _, query = url.partition("?")
        scheme, separator, path = rest.partition("://")
        malformed = ValueError(f"{url!r} is not the URL of a SQLite store; {_FORM}")
        if scheme != "sqlite" or not separator or path == "/" or "\0" in path or (path and not path.startswith("/")):
            raise malformed
        path = path[1:]
        memory = path in ("", _MEMORY)
        options: dict[str, str] = {}
        for pair in query.split("&") if query else ():
            key, _, value = pair.partition("=")
            if key in options or not value:
                raise malformed
            options[key] = value
        try:
            timeout = seconds(float(options.pop("busy_timeout", seconds(busy_timeout, "busy_timeout"))), "busy_timeout")
            pages = int(options.pop("max_page_count", 0))
        except ValueError:
            raise malformed from None
        mode = options.pop("mode", "")
        if options or pages < 0 or mode not in ("", "ro") or (mode and memory):
            raise malformed
        return cls(
            path=None if memory else path,
            busy_timeout=timeout,
            read_only=mode == "ro",
            max_page_count=pages or None,
        )

    @property
    def url(self) -> str:
        """The URL, for people."""
        return "sqlite://" if self.path is None else f"sqlite:///{self.path}"

    def resolved(self) -> Self:
        """The same with an absolute path, so that a later change of directory does not move it."""
        return self if self.path is None else replace(self, path=str(Path(self.path).absolute()))

    def uri(self, mode: str) -> str:
        """The argument for ``sqlite3.connect`` with ``uri=True``; the path must be absolute."""
        return "file::memory:" if self.path is None else f"{Path(self.path).as_uri()}?mode={mode}"
