"""A service that uses the Go package go.alis.build/lro, as far as the table can tell: its raw reads and mutations."""

import time
import uuid
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import grpc
from google.api_core.exceptions import Aborted
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from google.rpc import status_pb2

from lro_aio.stores.spanner.location import Location


class GoService:
    """Version 1 writes ``Operation`` and nothing else, by insert-or-update. Version 2 writes ``UpdateTime`` too, by its
    own clock, and ``State`` and ``ResumePoint`` in a form of its own. Neither ever reads a column that is ours.
    """

    def __init__(self, url, version=1, ahead=0.0, state=None):
        self.location = Location.parse(url)
        self.version = version
        self.ahead = ahead
        """Seconds by which its clock is wrong."""
        self.state = state
        """What stands for the gob of a private state, in a table with the column ``Method``; None: without it."""

    def __enter__(self):
        self._channel = grpc.insecure_channel(self.location.host)
        self._client = SpannerClient(transport=SpannerGrpcTransport(channel=self._channel))
        request = types.CreateSessionRequest(database=self.location.database_path)
        self._session = self._client.create_session(request=request, retry=None, timeout=10).name
        return self

    def __exit__(self, *_):
        self._channel.close()

    def create(self, metadata=None):
        operation = operations_pb2.Operation(name=f"operations/{uuid.uuid4()}")
        if metadata is not None:
            operation.metadata.Pack(metadata)
        self.write(operation)
        return operation

    def succeed(self, operation, response):
        ended = operations_pb2.Operation()
        ended.CopyFrom(operation)
        ended.done = True
        ended.response.Pack(response)
        self.write(ended)
        return ended

    def fail(self, operation, code, message):
        ended = operations_pb2.Operation()
        ended.CopyFrom(operation)
        ended.done = True
        ended.error.CopyFrom(status_pb2.Status(code=code, message=message))
        self.write(ended)
        return ended

    def write(self, operation):
        row = {"Operation": b64encode(operation.SerializeToString()).decode()}
        if self.version == 2:
            now = datetime.fromtimestamp(time.time() + self.ahead, UTC)
            row["UpdateTime"] = now.isoformat().replace("+00:00", "Z")
            row["State"] = b64encode(self.state or b"\x0c\xff\x81 gob, or whatever Go likes").decode()
            row["ResumePoint"] = "resumePoint1"
            if self.state is not None:
                row["Method"] = "CreateAgent"
        mutation = types.Mutation.pb(types.Mutation())
        mutation.insert_or_update.table = self.location.table
        mutation.insert_or_update.columns.extend(row)
        mutation.insert_or_update.values.append(_list(row.values()))
        self._commit(mutation)

    def read(self, name):
        """The operation, and the columns that version 2 reads; None: there is no row."""
        request = types.ReadRequest(
            session=self._session,
            table=self.location.table,
            columns=["Operation", "State", "ResumePoint", "UpdateTime"],
        )
        types.ReadRequest.pb(request).key_set.keys.append(_list([name]))
        rows = list(types.ResultSet.pb(self._client.read(request=request, retry=None, timeout=10)).rows)
        if not rows:
            return None
        operation, *others = rows[0].values
        return operations_pb2.Operation.FromString(b64decode(operation.string_value)), *map(_plain, others)

    def column(self, name, column):
        """Any column of a row; None is NULL."""
        request = types.ReadRequest(session=self._session, table=self.location.table, columns=[column])
        types.ReadRequest.pb(request).key_set.keys.append(_list([name]))
        ((value,),) = (
            row.values for row in types.ResultSet.pb(self._client.read(request=request, retry=None, timeout=10)).rows
        )
        return _plain(value)

    def _commit(self, mutation):
        request = types.CommitRequest(session=self._session)
        pb = types.CommitRequest.pb(request)
        pb.single_use_transaction.read_write.SetInParent()
        pb.mutations.append(mutation)
        deadline = time.monotonic() + 10
        while True:
            try:
                self._client.commit(request=request, retry=None, timeout=10)
            except Aborted:
                if time.monotonic() > deadline:
                    raise
            else:
                return


def _list(values):
    return struct_pb2.ListValue(values=[struct_pb2.Value(string_value=value) for value in values])


def _plain(value):
    kind = value.WhichOneof("kind")
    return None if kind == "null_value" else getattr(value, kind)
