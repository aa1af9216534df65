"""``lro backup`` and ``lro restore``: what they do with a store, and what they say."""

from __future__ import annotations

from pathlib import Path

from lro_aio.cli.backends import file_of
from lro_aio.cli.problems import CliError, Exit
from lro_aio.stores.sqlite import backup
from lro_aio.stores.sqlite.location import Location

__all__ = ["back_up", "restore"]


def back_up(url: str, target: Path) -> str:
    """Copy a store into a new file; returns the sentence for it.

    Raises:
        CliError: The store is not a file, or the target cannot be written.
        StoreSchemaError: The store cannot be used.
        StoreUnavailableError: It does not answer.
    """
    location = _location(url)
    try:
        backup.back_up(location, target)
    except OSError as exc:
        raise _of_file(exc) from exc
    return f"{target}: a back-up of {location.path}"


def restore(url: str, source: Path) -> str:
    """Put a back-up in the place of a store; returns the sentence for it.

    Raises:
        CliError: The store is not a file, or cannot be written.
        StoreSchemaError: The back-up cannot be used.
        StoreUnavailableError: A process has the store open.
    """
    location = _location(url)
    try:
        backup.restore(source, location)
    except ValueError as exc:
        raise CliError(str(exc), Exit.USAGE) from exc
    except OSError as exc:
        raise _of_file(exc) from exc
    return f"{location.path}: restored from {source}"


def _location(url: str) -> Location:
    if url.startswith("spanner:"):
        raise CliError("Spanner has back-ups of its own: gcloud spanner backups create", Exit.USAGE)
    if url.startswith(("postgresql:", "postgres:")):
        raise CliError("PostgreSQL has back-ups of its own: pg_dump, or pg_basebackup", Exit.USAGE)
    return file_of(url)


def _of_file(exc: OSError) -> CliError:
    if exc.strerror is None:
        return CliError(str(exc), Exit.USAGE)
    return CliError(f"cannot write {exc.filename or 'the copy'}: {exc.strerror}", Exit.USAGE)
