"""The store on PostgreSQL: several machines, without Google Cloud. Needs the extra ``postgres``."""

from lro_aio._missing import needs

try:
    from lro_aio.stores.postgres.store import PostgresStore
except ImportError as exc:
    # psycopg is there, but not libpq: its own sentence says what to install.
    if not isinstance(exc, ModuleNotFoundError) or (exc.name or "").partition(".")[0] != "psycopg":
        raise
    raise needs("PostgresStore", "postgres") from exc

__all__ = ["PostgresStore"]
