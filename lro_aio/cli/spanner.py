"""``lro spanner``: prints the DDL of the table, creates or upgrades the table, and checks it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lro_aio.cli.options import epilog, telling
from lro_aio.cli.printing import console
from lro_aio.cli.problems import CliError, Exit

__all__ = ["app"]

INSTALL = "pip install 'lro-aio[spanner,cli]'"

EPILOG = epilog(
    "0    done as asked",
    "2    wrong options or URL, or a missing extra",
    "5    Spanner does not answer, or the table cannot be created or upgraded: the error says why",
    "130  interrupted; a schema change that was sent continues",
)

app = typer.Typer(
    help="The table in Cloud Spanner: its DDL, its creation, its upgrade, its check.", no_args_is_help=True
)


class Kind(enum.StrEnum):
    """``--variant``."""

    PROTO = "proto"
    BYTES = "bytes"


@app.command(epilog=EPILOG)
def ddl(
    variant: Annotated[
        Kind, typer.Option("--variant", help="proto: Operation is a message; bytes: no proto bundle is needed.")
    ] = Kind.PROTO,
    table: Annotated[str, typer.Option("--table", metavar="TABLE", help="Name of the table.")] = "Operations",
    descriptors: Annotated[
        Path | None,
        typer.Option("--descriptors", metavar="FILE", help="Also write the descriptor set of the bundle to FILE."),
    ] = None,
) -> None:
    """Print the statements that create the table in a database without a proto bundle.

    To run them: gcloud spanner databases ddl update --ddl-file=... --proto-descriptors-file=...
    """
    with _problems():
        from lro_aio.stores.spanner import schema

        try:
            statements = schema.ddl(table, variant.value)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc
        if descriptors is not None:
            _write(descriptors, schema.descriptor_set())
        _print(statements)


@app.command(epilog=EPILOG)
def migrate(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="spanner://PROJECT/INSTANCE/DATABASE?table=TABLE, in quotes.")
    ],
    variant: Annotated[
        Kind | None, typer.Option("--variant", help="Default: the variant of the table; proto for a new table.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the statements, change nothing.")] = False,
    replace_ttl: Annotated[
        bool, typer.Option("--replace-ttl", help="Replace a row deletion policy on another column.")
    ] = False,
) -> None:
    """Create the table, or upgrade an existing one, including a table of the Go package. May be repeated.

    Adds what is missing and drops nothing. The database must exist. The account needs roles/spanner.databaseAdmin, or
    roles/spanner.databaseReader for --dry-run.
    """
    with _problems():
        from lro_aio.stores.spanner.location import Location
        from lro_aio.stores.spanner.migrate import migrate as run

        try:
            location = Location.parse(url)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc
        done = run(location, variant.value if variant else None, replace_ttl=replace_ttl, dry_run=dry_run)
        where = f"the table {location.table} in {location.database_path}"
        errors = console(stderr=True)
        if dry_run:
            _print(done.statements)
        if not done.statements:
            errors.out(f"{where} is up to date; nothing to do", highlight=False)
        elif not dry_run:
            count = "1 statement" if len(done.statements) == 1 else f"{len(done.statements)} statements"
            errors.out(f"{where} is up to date; {count} applied", highlight=False)
        if done.kept_policy:
            errors.out(
                f"its row deletion policy {done.kept_policy} is kept, so longer waits are refused;"
                " --replace-ttl replaces it with one on ExpireTime",
                highlight=False,
            )


@app.command(epilog=EPILOG)
def check(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="spanner://PROJECT/INSTANCE/DATABASE?table=TABLE, in quotes.")
    ],
) -> None:
    """Say whether this release can use the table, and what it can not do there. Changes nothing.

    The account needs to read and write the table, as a service does.
    """
    with _problems():
        from lro_aio.stores.spanner import SpannerStore

        try:
            store = SpannerStore.from_url(url)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc
        store.open()
        store.close()
        out = console()
        out.out(f"{store.url} can be used", highlight=False)
        queues = store.no_queues_reason and f"{store.url} has no queues: {store.no_queues_reason}"
        for reason in filter(None, (store.no_journal_reason, queues, store.max_wait_reason)):
            out.out(reason, highlight=False)


@contextmanager
def _problems() -> Iterator[None]:
    """Tell what the user can fix, a missing extra as well."""
    with telling("Spanner"):
        try:
            yield
        except ImportError as exc:
            missing = exc.name or getattr(exc.__cause__, "name", None) or ""  # the store names its own extra only
            if not missing.startswith("google"):
                raise
            raise CliError(f"{missing} is not installed; this command needs it: {INSTALL}", Exit.USAGE) from exc


def _print(statements: list[str] | tuple[str, ...]) -> None:
    for statement in statements:
        print(f"{statement};\n")  # as it is: for a file or another command


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as exc:
        raise CliError(f"cannot write {path}: {exc.strerror}", Exit.USAGE) from exc
