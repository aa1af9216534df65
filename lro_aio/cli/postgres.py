"""``lro postgres``: prints the statements that make the tables, and applies them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from lro_aio.cli.options import epilog, telling
from lro_aio.cli.printing import console
from lro_aio.cli.problems import CliError, Exit

__all__ = ["app"]

INSTALL = "pip install 'lro-aio[postgres,cli]'"

EPILOG = epilog(
    "0    done as asked",
    "2    wrong options or URL, or a missing extra",
    "5    PostgreSQL does not answer, or the tables cannot be made or upgraded: the error says why",
    "130  interrupted; nothing was changed",
)

app = typer.Typer(help="The tables in PostgreSQL: print their DDL, make them, upgrade them.", no_args_is_help=True)


@app.command(epilog=EPILOG)
def ddl(
    table: Annotated[str, typer.Option("--table", metavar="TABLE", help="Name of the table.")] = "operations",
    schema: Annotated[str | None, typer.Option("--schema", metavar="SCHEMA", help="Schema of the tables.")] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="Also print what this role is to be granted.")
    ] = None,
) -> None:
    """Print the statements that make the tables. To run them: psql --single-transaction --file=..."""
    with _problems():
        from lro_aio.stores.postgres import schema as scripts
        from lro_aio.stores.postgres.location import TIMEOUT, Location

        try:
            location = Location.of("postgresql://", timeout=TIMEOUT, table=table, schema=schema)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc
        _print(scripts.ddl(location))
        if role is not None:
            _print(scripts.grants(location, role))


@app.command(epilog=EPILOG)
def migrate(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="postgresql://USER@HOST/DATABASE?table=TABLE&schema=SCHEMA, in quotes.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the statements, change nothing.")] = False,
) -> None:
    """Make the tables, or upgrade them, in one transaction. May be repeated.

    The database must exist. The role needs CREATE on the schema, or on the database if the schema is to be made, too.
    """
    with _problems():
        from lro_aio.stores.postgres.location import TIMEOUT, Location
        from lro_aio.stores.postgres.migrate import migrate as run

        try:
            location = Location.of(url, timeout=TIMEOUT)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc
        scripts = run(location, dry_run=dry_run)
        if dry_run:
            _print(scripts)
        where = f"the table {location.table} in {location.url}"
        if not scripts:
            console(stderr=True).out(f"{where} is up to date; nothing to do", highlight=False)
        elif not dry_run:
            console(stderr=True).out(f"{where} is up to date", highlight=False)


@contextmanager
def _problems() -> Iterator[None]:
    """Tell what the user can fix, a missing extra as well."""
    with telling("PostgreSQL"):
        try:
            yield
        except ImportError as exc:
            if not str(exc).startswith(("lro_aio.PostgresStore", "no pq wrapper")):
                raise
            raise CliError(
                f"psycopg is not installed, or has no libpq; this command needs it: {INSTALL}", Exit.USAGE
            ) from exc


def _print(statements: Iterable[str]) -> None:
    for statement in statements:
        print(f"{statement};\n")  # as it is: for a file or another command
