"""The RPCs of google.spanner.admin.database.v1.DatabaseAdmin that a migration calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import grpc

from lro_aio.testing.spanner import information
from lro_aio.testing.spanner.database import Database
from lro_aio.testing.spanner.messages import Empty, GetDatabaseDdlResponse, Operation, UpdateDatabaseDdlMetadata
from lro_aio.testing.spanner.problems import not_found

__all__ = ["AdminService"]


class AdminService:
    """One method for each RPC, by its name in snake case. DDL is carried out before its RPC returns."""

    def __init__(self, database: Database, changed: Callable[[str], None]) -> None:
        self._database = database
        self._changed = changed
        self._numbers = itertools.count(1)
        self._operations: dict[str, Any] = {}

    def update_database_ddl(self, request: Any, _: grpc.ServicerContext) -> Any:
        """UpdateDatabaseDdl: returns an operation that is already done."""
        database = self._database
        with database.condition:
            database.check(request.database)
            stamps, error = database.change_schema(request.statements, request.proto_descriptors)
            for text in request.statements[: len(stamps)]:
                self._changed(text)
            metadata = UpdateDatabaseDdlMetadata(database=database.path, statements=request.statements)
            for stamp in stamps:
                metadata.commit_timestamps.add().FromNanoseconds(stamp)
            name = f"{database.path}/operations/_auto{next(self._numbers)}"
            operation = self._operations[name] = Operation(name=name, done=True)
            operation.metadata.Pack(metadata)
            if error is None:
                operation.response.Pack(Empty())
            else:
                operation.error.CopyFrom(error.to_status())
            return operation

    def get_operation(self, request: Any, _: grpc.ServicerContext) -> Any:
        """google.longrunning.Operations.GetOperation."""
        with self._database.condition:
            if request.name not in self._operations:
                raise not_found(f"Operation not found: {request.name}")
            return self._operations[request.name]

    def get_database_ddl(self, request: Any, _: grpc.ServicerContext) -> Any:
        """GetDatabaseDdl: the proto bundle only."""
        with self._database.condition:
            self._database.check(request.database)
            return GetDatabaseDdlResponse(statements=information.bundle(self._database.catalog))
