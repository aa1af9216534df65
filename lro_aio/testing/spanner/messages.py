"""The raw protobuf classes of Spanner's API: the wrappers of the generated client take longer than a read."""

from __future__ import annotations

from typing import Any

from google.cloud.spanner_admin_database_v1 import types as admin
from google.cloud.spanner_v1 import types as spanner
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

__all__ = [
    "CommitRequest",
    "CommitResponse",
    "CreateSessionRequest",
    "Empty",
    "ExecuteSqlRequest",
    "GetDatabaseDdlRequest",
    "GetDatabaseDdlResponse",
    "GetOperationRequest",
    "GetSessionRequest",
    "Mutation",
    "Operation",
    "PartialResultSet",
    "ReadRequest",
    "ResultSet",
    "RollbackRequest",
    "Session",
    "UpdateDatabaseDdlMetadata",
    "UpdateDatabaseDdlRequest",
]


def _raw(wrapper: Any) -> Any:
    return type(wrapper.pb(wrapper()))


CommitRequest = _raw(spanner.CommitRequest)
CommitResponse = _raw(spanner.CommitResponse)
CreateSessionRequest = _raw(spanner.CreateSessionRequest)
ExecuteSqlRequest = _raw(spanner.ExecuteSqlRequest)
GetSessionRequest = _raw(spanner.GetSessionRequest)
Mutation = _raw(spanner.Mutation)
PartialResultSet = _raw(spanner.PartialResultSet)
ReadRequest = _raw(spanner.ReadRequest)
ResultSet = _raw(spanner.ResultSet)
RollbackRequest = _raw(spanner.RollbackRequest)
Session = _raw(spanner.Session)

GetDatabaseDdlRequest = _raw(admin.GetDatabaseDdlRequest)
GetDatabaseDdlResponse = _raw(admin.GetDatabaseDdlResponse)
UpdateDatabaseDdlMetadata = _raw(admin.UpdateDatabaseDdlMetadata)
UpdateDatabaseDdlRequest = _raw(admin.UpdateDatabaseDdlRequest)

Empty: Any = empty_pb2.Empty
GetOperationRequest: Any = operations_pb2.GetOperationRequest
Operation: Any = operations_pb2.Operation
