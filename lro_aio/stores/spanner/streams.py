"""Reads a row that is too large for a unary answer, from a stream.

A cell holds 10 MiB, but a unary answer only 10 MiB in base64. This package writes no such rows, but other programs may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.cloud.spanner_v1 import types
from google.protobuf import struct_pb2

__all__ = ["whole"]


def whole(method: Callable[..., Any]) -> Callable[..., types.ResultSet]:
    """Turn a streaming method of the generated client into a unary one with the same arguments.

    A broken stream is not resumed: it is an error. The timeout is that of the whole stream.
    """

    def call(**arguments: Any) -> types.ResultSet:
        result = types.ResultSet()
        pb = types.ResultSet.pb(result)
        values: list[struct_pb2.Value] = []
        chunked = False
        for part in method(**arguments):
            piece = types.PartialResultSet.pb(part)
            if piece.HasField("metadata"):
                pb.metadata.CopyFrom(piece.metadata)
            if piece.HasField("precommit_token"):
                pb.precommit_token.CopyFrom(piece.precommit_token)
            found = list(piece.values)
            if chunked and found:
                values[-1] = struct_pb2.Value(string_value=values[-1].string_value + found.pop(0).string_value)
            values += found
            chunked = piece.chunked_value
        width = len(pb.metadata.row_type.fields)
        for start in range(0, len(values), width or 1):
            pb.rows.add(values=values[start : start + width])
        return result

    return call
