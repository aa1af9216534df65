"""Stores, one package per product. None imports another, and none is imported before it is used."""

from __future__ import annotations

from lro_aio.ports import Store

__all__ = ["GROUP", "open_url"]

GROUP = "lro_aio.stores"
"""The group of entry points of other packages' stores: the name is the scheme, and what it names makes a ``Store`` of a
URL."""


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
    if scheme in ("postgresql", "postgres"):
        from lro_aio.stores.postgres import PostgresStore

        return PostgresStore.from_url(url)
    return _of_another_package(url, scheme)


def _of_another_package(url: str, scheme: str) -> Store:
    """The store of a scheme that an installed package has registered. Only an unknown scheme costs the search."""
    from importlib import metadata

    found = list(metadata.entry_points(group=GROUP, name=scheme)) if scheme != url else []
    if not found:
        raise ValueError(
            f"{url!r} is not a store URL: expected sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in"
            " memory), postgresql://USER@HOST/DATABASE, spanner://PROJECT/INSTANCE/DATABASE?table=TABLE, or the scheme"
            f" of an installed package (entry points {GROUP})"
        )
    store = found[0].load()(url)
    if not isinstance(store, Store):
        raise TypeError(f"the entry point {found[0].value!r} of {GROUP} gives no lro_aio.ports.Store")
    return store
