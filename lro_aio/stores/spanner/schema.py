"""Whether a table can be used, and the statements that create or upgrade it.

Each difference between the existing table and the one that this release needs is described once: the sentence for
people, and the statements that remove it. ``check`` raises the sentences, ``plan`` collects the statements.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lro_aio.core.errors import StoreSchemaError
from lro_aio.stores.spanner.found import Found, FoundColumn, read_schema
from lro_aio.stores.spanner.queue_tables import QUEUE_TABLES, queues_ddl
from lro_aio.stores.spanner.table import (
    BUNDLE,
    INDEXES,
    MESSAGE,
    OPTIONAL,
    SCHEMA_VERSION,
    TTL_COLUMN,
    VARIANTS,
    Column,
    Variant,
    bundle_statement,
    columns,
    descriptor_set,
    journal_ddl,
    journal_of,
    operations_ddl,
    quoted,
    row_deletion_policy,
    valid_table,
)

__all__ = [
    "SCHEMA_VERSION",
    "VARIANTS",
    "Found",
    "Variant",
    "check",
    "ddl",
    "descriptor_set",
    "missing_journal",
    "missing_queues",
    "plan",
    "quoted",
    "read_schema",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """One difference."""

    text: str
    fix: tuple[str, ...] | None
    """Statements that remove it. Empty: it goes away with time. None: a person must remove it."""
    group: str = ""
    """Problems of the same group are listed together."""
    optional: bool = False
    """The table can be used all the same, though without a journal or queues, or with lists that cost more."""


def ddl(table: str, variant: Variant) -> list[str]:
    """The statements that create the tables in a database that has neither them nor a proto bundle.

    Those of the variant ``proto`` must be sent together with ``descriptor_set()``.

    Raises:
        ValueError: A table cannot have this name, or the variant is unknown.
    """
    return [*operations_ddl(table, variant), *queues_ddl(table)]


def check(found: Found | None, table: str, *, url: str = "URL") -> None:
    """Check that this release can use a table.

    Args:
        found: The existing table; None: there is none.
        table: Its name.
        url: The store's URL, for the command in the error.

    Raises:
        StoreSchemaError: It cannot. Says everything that is wrong, and the command that fixes it.
    """
    command = f"`lro spanner migrate {shlex.quote(url)}`"
    if found is None:
        raise StoreSchemaError(
            f"there is no table {table} in the database, or there is no permission to read it; create it with {command}"
        )
    _refuse_newer(found, table)
    problems = [problem for problem in _problems(found, table) if not problem.optional]
    by_hand = [problem for problem in problems if problem.fix is None]
    others = [problem for problem in problems if problem.fix is not None]
    says = f"the table {table} cannot be used"
    if by_hand and others:
        raise StoreSchemaError(f"{says}: {_sentence(others)}. {command} fixes this, but not: {_by_hand(by_hand)}")
    if by_hand:
        raise StoreSchemaError(f"{says}: {_by_hand(by_hand)}")
    if any(problem.fix for problem in others):
        raise StoreSchemaError(f"{says} yet: {_sentence(others)}; {command} fixes this")
    if others:
        raise StoreSchemaError(f"{says} yet: {_sentence(others)}; try again when that is done")


def missing_journal(table: str, url: str) -> str:
    """What is said where a journal is needed and the table has none."""
    return (
        f"the table {table} has no journal, or there is no permission to use it; run `lro spanner migrate"
        f" {shlex.quote(url)}`, and open the store again"
    )


def missing_queues(found: Found, table: str, url: str) -> str:
    """What is said where queues are needed and the table has none; "" where it has."""
    if found.keeps_queues(table):
        return ""
    foreign = next(_foreign(found, table), "")
    if foreign:
        return f"the table {foreign} is not one of its queues' tables; name another table (?table=NAME)"
    return (
        f"the table {table} has no tables for them yet, or there is no permission to use them; run `lro spanner migrate"
        f" {shlex.quote(url)}`, and open the store again"
    )


def plan(
    found: Found | None,
    table: str,
    variant: Variant | None = None,
    *,
    replace_ttl: bool = False,
    bundle_types: Collection[str] | None = None,
) -> list[str]:
    """The DDL statements that create the table, or upgrade it so that ``check`` accepts it. Empty: nothing to do.

    Nothing is dropped, and no column changes its type. A row deletion policy on another column is kept.

    Args:
        found: The existing table; None: there is none.
        table: Its name.
        variant: None: that of the existing table, or ``proto`` for a new one.
        replace_ttl: Replace a row deletion policy on another column with ours.
        bundle_types: Full names of the types in the database's proto bundle; None: it has no bundle.

    Raises:
        ValueError: A table cannot have this name.
        StoreSchemaError: The table cannot be upgraded: it is newer than this release, has the other variant, or has
            something else under one of our names.
    """
    valid_table(table)
    if found is None:
        variant = variant or "proto"
        statements = [text for text in ddl(table, variant) if not text.startswith("CREATE PROTO BUNDLE")]
        return [*_bundle(variant, bundle_types), *statements]
    _refuse_newer(found, table)
    if variant is not None and found.variant not in (variant, None):
        raise StoreSchemaError(
            f"the table {table} has the variant {found.variant}, and cannot change to {variant};"
            " omit --variant, or name another table"
        )
    problems = list(_problems(found, table))
    by_hand = [problem for problem in problems if problem.fix is None]
    if by_hand:
        raise StoreSchemaError(f"the table {table} cannot be upgraded: {_by_hand(by_hand)}")
    statements = [statement for problem in problems for statement in problem.fix or ()]
    if replace_ttl and found.other_policy is not None:
        statements.append(f"ALTER TABLE {quoted(table)} REPLACE ROW DELETION POLICY ({row_deletion_policy()})")
    return [*_bundle(found.variant, bundle_types), *statements]


def _bundle(variant: Variant | None, types: Collection[str] | None) -> list[str]:
    if variant != "proto":
        return []
    if types is None:
        return [bundle_statement(BUNDLE)]
    missing = tuple(name for name in BUNDLE if name not in types)
    return [bundle_statement(missing, insert=True)] if missing else []


def _refuse_newer(found: Found, table: str) -> None:
    if found.version > SCHEMA_VERSION:
        raise StoreSchemaError(
            f"the table {table} has schema version {found.version}, but this release of lro_aio supports versions up to"
            f" {SCHEMA_VERSION}; upgrade lro_aio"
        )


def _sentence(problems: list[_Problem]) -> str:
    groups: dict[str, list[str]] = {}
    for problem in problems:
        groups.setdefault(problem.group or problem.text, []).append(problem.text)
    return "; ".join(f"{group}: {', '.join(texts)}" if [group] != texts else group for group, texts in groups.items())


def _by_hand(problems: list[_Problem]) -> str:
    return f"{_sentence(problems)}. No migration can fix this: name another table (?table=NAME), or change it by hand"


def _problems(found: Found, table: str) -> Iterator[_Problem]:
    """Every relevant difference, in the order in which the statements must run."""
    variant = found.variant
    if variant is None:
        operation = found.column("Operation")
        has = f"has the type {operation.type}" if operation else "is missing"
        yield _Problem(text=f"column Operation {has}; {MESSAGE} or BYTES(MAX) is expected", fix=None)
        return
    if found.primary_key != ("key",):
        yield _Problem(text=f"its primary key is ({', '.join(found.primary_key)}) instead of (key)", fix=None)
    for column in columns(variant):
        present = found.column(column.name)
        if present is not None:
            yield from _differences(column, present, table)
        elif column.name == "key":
            yield _Problem(text="column key is missing", fix=None)
        else:
            fix = f"ALTER TABLE {quoted(table)} ADD COLUMN {column.ddl}"
            optional = column.name in OPTIONAL
            yield _Problem(text=column.name, fix=(fix,), group="missing columns", optional=optional)
    ours = {column.name.lower() for column in columns(variant)}
    for other in found.columns.values():
        if other.name.lower() not in ours and not other.accepts_null:
            text = f"column {other.name}, which does not belong to lro_aio, is NOT NULL and has no default"
            yield _Problem(text=text, fix=None)
    if not found.policy:
        fix = f"ALTER TABLE {quoted(table)} ADD ROW DELETION POLICY ({row_deletion_policy()})"
        yield _Problem(text=f"it has no row deletion policy on {TTL_COLUMN}", fix=(fix,))
    yield from _index_problems(found, table)
    if found.journal is None:
        yield _Problem(text="it has no journal", fix=(journal_ddl(table),), optional=True)
    elif not found.journal:
        text = f"the table {journal_of(table)} is not the journal, interleaved in it with ON DELETE CASCADE"
        yield _Problem(text=text, fix=None, optional=True)
    yield from _queue_problems(found, table)


def _queue_problems(found: Found, table: str) -> Iterator[_Problem]:
    for name in _foreign(found, table):
        yield _Problem(text=f"the table {name} is not one of its queues' tables", fix=None, optional=True)
    for one in QUEUE_TABLES:
        present = found.queues.get(one.name(table))
        if present is None:
            yield _Problem(text=one.name(table), fix=(one.ddl(table),), group="missing tables", optional=True)
        for index in one.indexes:
            state = None if present is None else present.indexes.get(index.name(table))
            if state is None:
                fix = (one.index_ddl(table, index),)
                yield _Problem(text=index.name(table), fix=fix, group="missing indexes", optional=True)
            elif state != "READ_WRITE":
                text = f"index {index.name(table)} is still being built ({state})"
                yield _Problem(text=text, fix=(), optional=True)


def _foreign(found: Found, table: str) -> Iterator[str]:
    """Other tables under the names of the queues' tables."""
    for one in QUEUE_TABLES:
        present = found.queues.get(one.name(table))
        if present is not None and not present.is_(one):
            yield one.name(table)


def _differences(expected: Column, present: FoundColumn, table: str) -> Iterator[_Problem]:
    """How an existing column differs from the one that is needed."""
    alter = f"ALTER TABLE {quoted(table)} ALTER COLUMN {expected.name}"
    if _squeezed(present.generated) != _squeezed(expected.generated or ""):
        is_, wanted = (f"AS ({text})" if text else "not generated" for text in (present.generated, expected.generated))
        yield _Problem(text=f"column {expected.name} is {is_} instead of {wanted}", fix=None)
        return
    if present.type != expected.type and not _narrower(present.type, expected.type):
        yield _Problem(text=f"column {expected.name} has the type {present.type} instead of {expected.type}", fix=None)
        return
    not_null = not present.nullable
    must_relax = not_null and not expected.not_null and not present.accepts_null
    default = present.default or expected.default or ""
    if present.type != expected.type or must_relax:
        # The complete new definition: ALTER COLUMN drops whatever it does not repeat.
        whole = Column(
            name=expected.name,
            type=expected.type,
            not_null=not_null and not must_relax,
            default=default or None,
            generated=expected.generated,
        )
        text = f"{present.type} instead of {expected.type}" if present.type != expected.type else "NOT NULL"
        yield _Problem(
            text=f"column {expected.name} is {text}", fix=(f"ALTER TABLE {quoted(table)} ALTER COLUMN {whole.ddl}",)
        )
    elif expected.default is not None and not present.default:
        yield _Problem(
            text=f"column {expected.name} has no default", fix=(f"{alter} SET DEFAULT ({expected.default})",)
        )
    elif expected.name == "SchemaVersion" and _squeezed(present.default) != expected.default:
        yield _Problem(
            text=f"it has schema version {present.default}, not {expected.default}",
            fix=(f"{alter} SET DEFAULT ({expected.default})",),
        )


def _index_problems(found: Found, table: str) -> Iterator[_Problem]:
    for index in INDEXES:
        name = index.name(table)
        present = found.indexes.get(name)
        if present is None:
            yield _Problem(text=name, fix=(index.ddl(table),), group="missing indexes")
        elif (present.keys, present.null_filtered) != (index.keys, index.null_filtered):
            yield _Problem(text=f"index {name} is not `{index.ddl(table)}`; drop it first", fix=None)
        elif present.state != "READ_WRITE":
            yield _Problem(text=f"index {name} is still being built ({present.state})", fix=())
        elif missing := [column for column in index.storing if column not in present.storing]:
            # It answers all the same, with a look at each row. What it stores besides is somebody's wish.
            fix = tuple(index.store_ddl(table, column) for column in missing)
            yield _Problem(text=f"index {name} does not store {', '.join(missing)}", fix=fix, optional=True)


def _narrower(present: str, expected: str) -> bool:
    """Whether a column only needs a higher limit, as a STRING(36) that must become STRING(MAX)."""
    return expected.endswith("(MAX)") and re.fullmatch(rf"{expected[:-5]}\(\d+\)", present) is not None


def _squeezed(expression: str) -> str:
    """An expression without blanks, backticks, and parentheses around the whole."""
    text = re.sub(r"[\s`]", "", expression)
    return text[1:-1] if re.fullmatch(r"\([^()]*\)", text) else text
