"""Where requests may go: to the origin of a service's base URL, and to further origins that the caller trusts.

Services name URLs in their answers, and tokens carry them. The caller's HTTP client sends its credentials along, so
neither may choose another host, or the same host without encryption.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import httpx

__all__ = ["Addresses"]

KEPT = 16_384
"""Addresses of which the URL is remembered: to make one takes as long as to read an answer. Handles are polled in turn,
so with fewer than there are handles none would be remembered."""

_PLAIN = re.compile(r"(/[\w~:=-][\w.~:=-]*)+(\?[\w.~:=&-]+)?", re.ASCII)
"""A path, maybe with a query, that is the same in every form of the URL: to join it costs three times as much."""

Origin = tuple[bytes, bytes, int | None]
"""Scheme, host and port as they are sent; None is the scheme's default port."""


class Addresses:
    """URLs of one service.

    Args:
        base_url: Absolute, of http or https, without credentials, query and fragment.
        origins: Further origins, such as "https://status.example.com".

    Raises:
        ValueError: A URL of another form.
    """

    def __init__(self, base_url: str | httpx.URL, origins: Iterable[str] = ()) -> None:
        if isinstance(origins, str):
            raise TypeError("origins must be a sequence of texts, not one text")
        url = _base(base_url, "base_url")
        self.base_url = str(url).rstrip("/")
        self._base = httpx.URL(self.base_url)
        self._home = f"{url.scheme}://{url.netloc.decode('ascii')}/"
        self._allowed = {_origin(url), *(_origin(_base(origin, "origins")) for origin in origins)}
        self._kept = functools.lru_cache(KEPT)(self._resolve)

    def below(self, path: str) -> httpx.URL:
        """The URL of a path below the base URL. The path is percent-encoded already."""
        return httpx.URL(self.base_url + path)

    def resolve(self, address: str, base: httpx.URL | None = None) -> httpx.URL:
        """The URL that an address stands for.

        Args:
            address: A URL, or relative to ``base``.
            base: None takes the base URL.

        Raises:
            ValueError: It is not a URL, has credentials in it, or is of an origin that is not allowed.
        """
        # What services give is most often the full URL of what is kept as a path: the same entry does for both.
        path = address[len(self._home) - 1 :] if address.startswith(self._home) else ""
        return self._kept(address, base) if path[:2] in ("", "//") else self._kept(path, None)

    def _resolve(self, address: str, base: httpx.URL | None) -> httpx.URL:
        """See ``resolve``. An operation is polled at the same address again and again, which is most often a path."""
        if base is None and _PLAIN.fullmatch(address):
            return httpx.URL(self._home + address[1:])
        try:
            url = (base if base is not None else self._base).join(address)
        except (httpx.InvalidURL, ValueError) as exc:
            raise ValueError(f"{address[:200]!r} is not a URL") from exc
        if url.userinfo:
            raise ValueError(f"a URL of {url.host!r} has credentials in it")
        if _origin(url) not in self._allowed:
            where = f"{url.scheme}://{url.netloc.decode('ascii')}"
            raise ValueError(f"{where} is neither the origin of base_url nor among the allowed origins")
        return url.copy_with(raw_path=url.raw_path, fragment=None)  # "https://h" and "https://h/" are the same

    def short(self, url: httpx.URL) -> str:
        """The URL as a text that ``resolve`` takes: without the origin if that is the base URL's."""
        path = url.raw_path.decode("ascii")
        return path if _origin(url) == _origin(self._base) and not path.startswith("//") else str(url)


def _base(text: str | httpx.URL, name: str) -> httpx.URL:
    try:
        url = httpx.URL(str(httpx.URL(text)))  # "HTTPS://h:443" takes two passes to become "https://h"
    except (httpx.InvalidURL, ValueError) as exc:
        raise ValueError(f"{name}: {str(text)[:200]!r} is not a URL") from exc
    if url.userinfo:
        raise ValueError(f"{name} must have no credentials in it: give them to the httpx client")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError(f"{name} must be like 'https://api.example.com' or 'https://example.com/jobs', not {text!r}")
    return url


def _origin(url: httpx.URL) -> Origin:
    return url.raw_scheme, url.raw_host, url.port
