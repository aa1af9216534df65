"""The default store: one SQLite file, or memory. Needs nothing but the standard library."""

from lro_aio.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
