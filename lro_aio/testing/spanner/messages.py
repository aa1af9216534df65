"""The raw protobuf classes of Spanner's API: the generated client's wrappers cost more than a read."""

from __future__ import annotations

from typing import Any

from google.cloud.spanner_admin_database_v1 import types as admin
from google.cloud.spanner_v1 import types as spanner
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

__all__ = [
    "BatchCreateSessionsRequest",
    "BatchCreateSessionsResponse",
    "BeginTransactionRequest",
    "CommitRequest",
    "CommitResponse",
    "CreateSessionRequest",
    "Database",
    "DeleteSessionRequest",
    "Empty",
    "ExecuteSqlRequest",
    "GetDatabaseDdlRequest",
    "GetDatabaseDdlResponse",
    "GetDatabaseRequest",
    "GetOperationRequest",
    "GetSessionRequest",
    "Mutation",
    "Operation",
    "PartialResultSet",
    "ReadRequest",
    "ResultSet",
    "RollbackRequest",
    "Session",
    "Transaction",
    "UpdateDatabaseDdlMetadata",
    "UpdateDatabaseDdlRequest",
]


def _raw(wrapper: Any) -> Any:
    return type(wrapper.pb(wrapper()))


BatchCreateSessionsRequest = _raw(spanner.BatchCreateSessionsRequest)
BatchCreateSessionsResponse = _raw(spanner.BatchCreateSessionsResponse)
BeginTransactionRequest = _raw(spanner.BeginTransactionRequest)
CommitRequest = _raw(spanner.CommitRequest)
CommitResponse = _raw(spanner.CommitResponse)
CreateSessionRequest = _raw(spanner.CreateSessionRequest)
DeleteSessionRequest = _raw(spanner.DeleteSessionRequest)
ExecuteSqlRequest = _raw(spanner.ExecuteSqlRequest)
GetSessionRequest = _raw(spanner.GetSessionRequest)
Mutation = _raw(spanner.Mutation)
PartialResultSet = _raw(spanner.PartialResultSet)
ReadRequest = _raw(spanner.ReadRequest)
ResultSet = _raw(spanner.ResultSet)
RollbackRequest = _raw(spanner.RollbackRequest)
Session = _raw(spanner.Session)
Transaction = _raw(spanner.Transaction)

Database = _raw(admin.Database)
GetDatabaseDdlRequest = _raw(admin.GetDatabaseDdlRequest)
GetDatabaseDdlResponse = _raw(admin.GetDatabaseDdlResponse)
GetDatabaseRequest = _raw(admin.GetDatabaseRequest)
UpdateDatabaseDdlMetadata = _raw(admin.UpdateDatabaseDdlMetadata)
UpdateDatabaseDdlRequest = _raw(admin.UpdateDatabaseDdlRequest)

Empty: Any = empty_pb2.Empty
GetOperationRequest: Any = operations_pb2.GetOperationRequest
Operation: Any = operations_pb2.Operation
