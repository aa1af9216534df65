"""The location of the table: a URL or its parts, checked without I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from lro_aio.core.policies import Duration, seconds
from lro_aio.stores.spanner.table import valid_table

__all__ = ["TIMEOUT", "Location"]

FORM = (
    "expected spanner://PROJECT/INSTANCE/DATABASE?table=TABLE,"
    " with host=HOST:PORT for an emulator, endpoint=HOST, database_role=ROLE or timeout=SECONDS"
)

TIMEOUT = 8.0
"""Seconds. Must be below a third of the lease: otherwise a renewal that waits for an answer can lose it (rule 4)."""

_PATTERNS = {
    # The documented forms of the ids: cloud.google.com/spanner/docs/reference/rest/v1 (create methods), and for
    # projects, with the old ones of a domain, cloud.google.com/resource-manager/docs/creating-managing-projects.
    "project": r"[a-z0-9][a-z0-9:.\-]{0,99}",
    "instance": r"[a-z][a-z0-9\-]{0,62}[a-z0-9]",
    "database": r"[a-z][a-z0-9_\-]{0,28}[a-z0-9]",
    "host": r"[^\s/?#@]+:[0-9]{1,5}",
    "endpoint": r"[^\s/?#@]+",
    "database_role": r"[A-Za-z_][A-Za-z0-9_]{0,127}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A table in a Spanner database, and how to reach it."""

    project: str
    instance: str
    database: str
    table: str = "Operations"
    host: str | None = None
    """HOST:PORT of an emulator or a fake, without TLS or credentials. None: Google's endpoint."""
    endpoint: str | None = None
    """A regional endpoint instead of the global one, such as "spanner.me-central2.rep.googleapis.com"."""
    database_role: str | None = None
    """Role for fine-grained access control."""
    timeout: float = TIMEOUT
    """The most seconds that one call of the store takes, including retries."""

    def __post_init__(self) -> None:
        for part, pattern in _PATTERNS.items():
            value = getattr(self, part)
            if value is not None and not re.fullmatch(pattern, value):
                raise ValueError(f"{value!r} is not a Spanner {part.replace('_', ' ')}; {FORM}")
        valid_table(self.table)
        if self.host is not None and self.endpoint is not None:
            raise ValueError(f"give either a host (an emulator) or an endpoint (Google's), not both; {FORM}")

    @classmethod
    def of(
        cls,
        *,
        project: str,
        instance: str,
        database: str,
        table: str,
        host: str | None,
        endpoint: str | None,
        database_role: str | None,
        timeout: Duration,
    ) -> Self:
        """From the arguments of ``SpannerStore``.

        Raises:
            ValueError: One of them is malformed.
            TypeError: A name is not a string.
        """
        given = {"project": project, "instance": instance, "database": database, "table": table}
        for name, value in given.items():
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a string, not {type(value).__name__}")
        return cls(
            **given, host=host, endpoint=endpoint, database_role=database_role, timeout=seconds(timeout, "timeout")
        )

    @classmethod
    def parse(cls, url: str) -> Self:
        """From a URL.

        Raises:
            ValueError: It is malformed.
        """
        malformed = ValueError(f"{url!r} is not the URL of a Spanner store; {FORM}")
        parts = urlsplit(url)
        path = parts.path.split("/")
        if parts.scheme != "spanner" or len(path) != 3 or parts.fragment or "@" in parts.netloc:
            raise malformed
        try:
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
        except ValueError:
            raise malformed from None
        options = dict(pairs)
        known = {"table", "host", "endpoint", "database_role", "timeout"}
        if len(options) < len(pairs) or not options.keys() <= known or not all(options.values()):
            raise malformed
        try:
            timeout = seconds(float(options.pop("timeout", TIMEOUT)), "timeout")
        except ValueError:
            raise malformed from None
        return cls(project=parts.netloc, instance=path[1], database=path[2], timeout=timeout, **options)

    @property
    def database_path(self) -> str:
        """The database's resource name."""
        return f"projects/{self.project}/instances/{self.instance}/databases/{self.database}"

    @property
    def url(self) -> str:
        """For people, and for ``parse``: the location of the table, without the timeout. Contains no secret."""
        options = {"table": self.table}
        if self.host is not None:
            options["host"] = self.host
        if self.endpoint is not None:
            options["endpoint"] = self.endpoint
        if self.database_role is not None:
            options["database_role"] = self.database_role
        query = urlencode(options, safe=":", quote_via=quote)
        return f"spanner://{self.project}/{self.instance}/{self.database}?{query}"
