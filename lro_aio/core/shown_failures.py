"""The failure of a paused operation in its metadata (AIP-151), where that is ours: empty, or of ``op.progress``."""

from __future__ import annotations

from google.protobuf import any_pb2, struct_pb2
from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.status import clipped, reason_of

__all__ = ["MEMBER", "with_failure", "without_failure"]

MEMBER = "failure"
"""Of the ``google.protobuf.Struct``: an object with ``code``, ``reason`` and ``message``."""

OURS = frozenset({"progress", "message", MEMBER})
"""The members that this package writes. Metadata with others is the application's."""
LONGEST = 1024
"""Bytes of the message."""


def with_failure(metadata: bytes, failure: status_pb2.Status) -> bytes:
    """Metadata that tells why the operation is paused; the same where it is the application's.

    Args:
        metadata: Serialized ``google.protobuf.Any``; empty for none.
        failure: What clients may read of it.
    """
    members = _ours(metadata)
    if members is None:
        return metadata
    members[MEMBER] = {
        "code": Code.of(failure.code).name,
        "reason": reason_of(failure),
        "message": clipped(failure.message, LONGEST),
    }
    return _packed(members)


def without_failure(metadata: bytes) -> bytes:
    """The inverse: nobody is told any more."""
    members = _ours(metadata)
    if members is None or MEMBER not in members.fields:
        return metadata
    del members.fields[MEMBER]
    return _packed(members) if members.fields else b""


def _ours(metadata: bytes) -> struct_pb2.Struct | None:
    members = struct_pb2.Struct()
    if metadata and not any_pb2.Any.FromString(metadata).Unpack(members):
        return None
    return members if OURS.issuperset(members.fields) else None


def _packed(members: struct_pb2.Struct) -> bytes:
    packed = any_pb2.Any()
    packed.Pack(members, deterministic=True)
    return packed.SerializeToString(deterministic=True)
