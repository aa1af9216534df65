"""Creates or upgrades the table through the database admin API: ``lro spanner migrate``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient, types
from google.cloud.spanner_admin_database_v1.services.database_admin.transports import DatabaseAdminGrpcTransport
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2

from lro_aio.core.errors import LroError, StoreSchemaError, StoreUnavailableError
from lro_aio.stores.spanner import schema
from lro_aio.stores.spanner.connection import Connection
from lro_aio.stores.spanner.errors import refused_at_open
from lro_aio.stores.spanner.headers import prefix
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.queries import Query

__all__ = ["Migration", "bundle_types", "migrate"]

CALL_TIMEOUT = 30.0
"""Seconds that one call of the admin API may take."""
WAIT = 3600.0
"""Seconds to wait for a schema change by default: an index over many rows takes time."""
ATTEMPTS = 3
"""How many times to plan and apply at most: another process may migrate the same table at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What was done, or with ``dry_run`` what would be done."""

    statements: tuple[str, ...]
    """DDL; empty: the table is up to date."""
    kept_policy: str = ""
    """A row deletion policy on another column than our expiry, which was kept; "" for none."""


def migrate(
    location: Location,
    variant: schema.Variant | None = None,
    *,
    replace_ttl: bool = False,
    dry_run: bool = False,
    wait: float = WAIT,
    credentials: Any = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Migration:
    """Create the table, or upgrade an existing one. May be repeated, also by several processes at the same time.

    The database must exist. Needs roles/spanner.databaseAdmin; a dry run needs roles/spanner.databaseReader.

    Args:
        location: The table. Its database role is not used: schema changes need permissions of the account itself.
        variant: ``proto`` or ``bytes``; None: that of the existing table, or ``proto`` for a new one.
        replace_ttl: Replace a row deletion policy on another column.
        dry_run: Change nothing.
        wait: Seconds to wait for each schema change.
        credentials: ``google.auth`` credentials; None: the application's default ones.
        sleep: Called to wait for a number of seconds.

    Raises:
        StoreSchemaError: No such database, no permission, no credentials, or a table that cannot be upgraded.
        StoreUnavailableError: Spanner does not answer, or the schema change is not done yet; it continues.
    """
    connection = Connection(replace(location, database_role=None), credentials)
    try:
        connection.open()
        admin = _Admin(connection, wait, sleep)
        applied: list[str] = []
        last: list[str] = []
        refused: LroError | None = None
        for _ in range(ATTEMPTS):
            found = schema.read_schema(_execute(connection), location.table)
            types_ = admin.bundle_types() if "bytes" not in (variant, found and found.variant) else None
            todo = schema.plan(found, location.table, variant, replace_ttl=replace_ttl, bundle_types=types_)
            if dry_run or not todo:
                kept = found.policy if found is not None and found.other_policy and not replace_ttl else ""
                return Migration(statements=tuple(applied or todo), kept_policy=kept)
            if refused is not None and todo == last:
                raise refused  # and no other process has done it since
            last = todo
            try:
                admin.update(todo)
            except StoreSchemaError as exc:
                refused = exc
            else:
                refused = None
                applied += todo
        raise refused or StoreSchemaError(
            f"the table {location.table} is still not up to date after {ATTEMPTS} attempts;"
            " is another program changing its schema?"
        )
    finally:
        connection.close()


def bundle_types(statements: Iterable[str]) -> frozenset[str] | None:
    """The full names of the types in the proto bundle of a database's DDL; None: there is no bundle."""
    for statement in statements:
        match = re.match(r"\s*CREATE\s+PROTO\s+BUNDLE\s*\((.*)\)\s*$", statement, re.DOTALL | re.IGNORECASE)
        if match:
            return frozenset(filter(None, re.sub(r"[\s`]", "", match[1]).split(",")))
    return None


def _execute(connection: Connection) -> Callable[[str, Mapping[str, str]], list[struct_pb2.ListValue]]:
    def execute(sql: str, params: Mapping[str, str]) -> list[struct_pb2.ListValue]:
        try:
            return connection.query(Query(sql).text(**params), budget=connection.budget(), tag="lro-migrate")
        except GoogleAPICallError as exc:
            raise refused_at_open(connection.location, exc) from exc

    return execute


class _Admin:
    """The admin API of one database. Does not repeat single calls: the whole migration can be repeated."""

    def __init__(self, connection: Connection, wait: float, sleep: Callable[[float], None]) -> None:
        self._location = connection.location
        self._wait = wait
        self._sleep = sleep
        self._headers = [prefix(connection.location.database_path)]
        self._client = DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=connection.channel))

    def bundle_types(self) -> frozenset[str] | None:
        """The types of the database's proto bundle."""
        request = types.GetDatabaseDdlRequest(database=self._location.database_path)
        return bundle_types(self._call(self._client.get_database_ddl, request).statements)

    def update(self, statements: list[str]) -> None:
        """Apply the statements, and wait until they are applied."""
        request = types.UpdateDatabaseDdlRequest(database=self._location.database_path, statements=statements)
        if "PROTO BUNDLE" in statements[0]:
            request.proto_descriptors = schema.descriptor_set()
        operation: operations_pb2.Operation = self._call(self._client.update_database_ddl, request).operation
        deadline = time.monotonic() + self._wait
        pause = 0.1
        while not operation.done:
            if time.monotonic() >= deadline:
                raise StoreUnavailableError(
                    f"the schema change {operation.name} is not done after {self._wait:g} s; it continues."
                    " Run the command again later"
                )
            self._sleep(pause)
            pause = min(2 * pause, 5.0)
            operation = self._call(self._client.get_operation, operations_pb2.GetOperationRequest(name=operation.name))
        if operation.HasField("error"):
            raise self._refused(operation, statements)

    def _refused(self, operation: operations_pb2.Operation, statements: list[str]) -> StoreSchemaError:
        metadata = types.UpdateDatabaseDdlMetadata.pb(types.UpdateDatabaseDdlMetadata())
        operation.metadata.Unpack(metadata)
        applied = len(metadata.commit_timestamps)
        at = f" at `{statements[applied].partition(chr(10))[0]}`" if applied < len(statements) else ""
        return StoreSchemaError(
            f"Spanner refused the schema change{at}: {operation.error.message}"
            f" ({applied} of {len(statements)} statements were applied; fix the problem and run the command again)"
        )

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request=request, retry=None, timeout=CALL_TIMEOUT, metadata=self._headers)
        except GoogleAPICallError as exc:
            if exc.grpc_status_code is grpc.StatusCode.PERMISSION_DENIED:
                raise StoreSchemaError(
                    f"no permission to change the schema of {self._location.database_path}: {exc.message}; grant the"
                    " role roles/spanner.databaseAdmin to the account that migrates"
                ) from exc
            raise refused_at_open(self._location, exc) from exc
