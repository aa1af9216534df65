"""What stands on the pages about Google Cloud, and that no test can run: held against lists from its documentation.

Commands: cloud.google.com/sdk/gcloud/reference.
Roles and permissions: cloud.google.com/iam/docs/roles-permissions/spanner.
Statistics: cloud.google.com/spanner/docs/introspection.
"""

from __future__ import annotations

import re

from lro_aio.stores.spanner.queue_tables import QUEUE_TABLES
from lro_aio.stores.spanner.table import columns
from lro_aio.testing.spanner.ddl import parse_statement

from .blocks import DocsError

COMMANDS = {
    "auth application-default login": set[str](),
    "auth configure-docker": set[str](),
    "auth login": set[str](),
    "auth print-identity-token": set[str](),
    "billing projects link": {"billing-account"},
    "config set project": set[str](),
    "iam roles create": {"permissions", "project", "title"},
    "iam service-accounts create": {"project"},
    "logging read": {"limit", "project"},
    "projects add-iam-policy-binding": {"member", "role"},
    "projects create": set[str](),
    "run services add-iam-policy-binding": {"member", "region", "role"},
    "services enable": {"project"},
    "spanner backups create": {"database", "instance", "project", "retention-period"},
    "spanner databases add-iam-policy-binding": {"condition", "instance", "member", "project", "role"},
    "spanner databases create": {"instance", "project"},
    "spanner databases ddl update": {"ddl", "ddl-file", "instance", "project", "proto-descriptors-file"},
    "spanner databases execute-sql": {"instance", "project", "sql"},
    "spanner instances create": {"config", "description", "processing-units", "project"},
    "workflows deploy": {"call-log-level", "location", "service-account", "source"},
    "workflows executions list": {"location"},
}
"""Command -> the flags of it that the pages may use."""

ROLES = {"databaseAdmin", "databaseReader", "databaseRoleUser", "databaseUser", "fineGrainedAccessUser"}
"""Predefined roles, without ``roles/spanner.``."""

PERMISSIONS = {
    "databaseOperations.get",
    "databases.beginOrRollbackReadWriteTransaction",
    "databases.beginReadOnlyTransaction",
    "databases.getDdl",
    "databases.read",
    "databases.select",
    "databases.updateDdl",
    "databases.write",
    "sessions.create",
}
"""Without ``spanner.``."""

_ALWAYS = "AVG_CPU_SECONDS EXECUTION_COUNT INTERVAL_END REQUEST_TAG"
_TRANSACTIONS = (
    "AVG_COMMIT_LATENCY_SECONDS AVG_TOTAL_LATENCY_SECONDS COMMIT_ABORT_COUNT COMMIT_ATTEMPT_COUNT INTERVAL_END"
    " TRANSACTION_TAG"
)
STATISTICS = {
    "QUERY_STATS_TOP_HOUR": {*_ALWAYS.split(), "AVG_LATENCY_SECONDS"},
    "READ_STATS_TOP_HOUR": {*_ALWAYS.split(), "AVG_LOCKING_DELAY_SECONDS"},
    "TXN_STATS_TOP_HOUR": set(_TRANSACTIONS.split()),
}
"""Table of SPANNER_SYS -> the columns of it that the pages may use."""

_WORDS = (
    "AND AS ASC AVG BY COUNT CREATE CURRENT_TIMESTAMP DELETE DESC FROM GRANT GROUP INSERT INTERVAL IS LIMIT NOT NULL"
    " ON OR ORDER ROLE SAFE_CONVERT_BYTES_TO_STRING SECOND SELECT STARTS_WITH SUM TABLE TIMESTAMP_DIFF TIMESTAMP_SUB TO"
    " UPDATE WHERE"
)
_MESSAGE = {"done", "error", "message", "name"}


def check_gcloud(words: list[str], place: str) -> None:
    """A command of ``gcloud`` with flags, roles and permissions that exist.

    Raises:
        DocsError: Something that is not in the lists.
    """
    flags = [word for word in words if word.startswith("--")]
    plain = " ".join(word for word in words if not word.startswith("--"))
    command = next((name for name in COMMANDS if f"{plain} ".startswith(f"{name} ")), None)
    if command is None:
        raise DocsError(f"{place}: no gcloud command that the tests know: {plain}")
    for flag in flags:
        name, _, value = flag[2:].partition("=")
        if name not in COMMANDS[command] or not value:
            raise DocsError(f"{place}: gcloud {command} has no {flag}")
    check_roles(" ".join(words), place)


def check_roles(text: str, place: str) -> None:
    """Every role and permission that a text names exists.

    Raises:
        DocsError: One does not.
    """
    for role in re.findall(r"roles/spanner\.(\w+)", text):
        if role not in ROLES:
            raise DocsError(f"{place}: there is no role roles/spanner.{role}")
    for permission in re.findall(r"(?<!roles/)\bspanner\.(\w+\.\w+)", text):
        if permission not in PERMISSIONS and not permission.startswith("googleapis."):
            raise DocsError(f"{place}: there is no permission spanner.{permission}")


def check_sql(text: str, place: str) -> None:
    """Statements that end with a semicolon, and name columns that exist.

    Raises:
        DocsError: Something else.
    """
    *statements, rest = text.split(";\n")
    if rest.strip() or not statements:
        raise DocsError(f"{place}: a statement ends with a semicolon at the end of a line")
    for statement in statements:
        first = statement.split()[0]
        if first in ("CREATE", "ALTER") and "ROLE" not in statement:
            parse_statement(statement)
        else:
            _check_words(statement, place)


def _check_words(statement: str, place: str) -> None:
    bare = re.sub(r"'[^']*'|\b\d+\b", " ", statement)
    if bare.count("(") != bare.count(")"):
        raise DocsError(f"{place}: parentheses are not closed: {statement}")
    table = re.search(r"SPANNER_SYS\.(\w+)", bare)
    if table and table[1] not in STATISTICS:
        raise DocsError(f"{place}: there is no table SPANNER_SYS.{table[1]}")
    known = (
        set(_WORDS.split()) | {"Operations", "Operations_Journal", "SPANNER_SYS"} | set(re.findall(r"\bAS (\w+)", bare))
    )
    known |= {one.name("Operations") for one in QUEUE_TABLES}
    known |= STATISTICS[table[1]] | {table[1]} if table else {column.name for column in columns("proto")} | _MESSAGE
    if statement.startswith(("GRANT", "CREATE ROLE")):
        known |= {"lro_runtime", "spanner_info_reader"}
    for word in re.findall(r"\w+", bare):
        if word not in known:
            raise DocsError(f"{place}: {word!r} is neither a column nor a word of SQL that the tests know: {statement}")
