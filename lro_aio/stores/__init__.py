"""Stores, one package per product. None imports another, and none is imported before it is used."""

from __future__ import annotations

from lro_aio.ports import Store

__all__ = ["open_url"]


def open_url(url: str) -> Store:
    """The store that a URL names, not open yet. The module of its product is loaded by this.

    Raises:
        ValueError: It is not the URL of a store.
        ImportError: An extra is missing.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        from lro_aio.stores.sqlite import SqliteStore

        return SqliteStore.from_url(url)
    if scheme == "spanner":
        from lro_aio.stores.spanner import SpannerStore

        return SpannerStore.from_url(url)
    raise ValueError(
        f"{url!r} is not a store URL: expected sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in memory)"
        " or spanner://PROJECT/INSTANCE/DATABASE?table=TABLE"
    )
