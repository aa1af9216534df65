"""The operation and its children as a client sees them, over gRPC."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import struct_pb2

from lro_aio.cli.demo import indexer_pb2

__all__ = ["CALL_TIMEOUT", "Child", "LostError", "Snapshot", "child_of", "take"]

CALL_TIMEOUT = 20.0
"""Seconds that one call to the server may take."""


class LostError(Exception):
    """The server has lost an operation: what the demo is there to disprove."""


@dataclass(frozen=True, slots=True)
class Child:
    """One child operation."""

    name: str
    done: bool
    directory: str
    """Empty until a handler has begun."""
    progress: float
    """From 0 to 1."""
    message: str
    attempt: int
    interrupted: bool = False
    """Its server died, and no handler has taken it up again."""

    @property
    def under_way(self) -> bool:
        """Whether its handler has begun and has not ended."""
        return not self.done and bool(self.directory)

    @property
    def running(self) -> bool:
        """Whether a handler works on it now."""
        return self.under_way and not self.interrupted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Parent and children at one moment."""

    operation: operations_pb2.Operation
    total: int
    """How many children there will be; 0 while that is not known."""
    children: tuple[Child, ...]

    @property
    def done(self) -> int:
        """Children that have ended."""
        return sum(child.done for child in self.children)

    @property
    def under_way(self) -> list[Child]:
        """Children that have begun and have not ended."""
        return [child for child in self.children if child.under_way]

    def hit(self, interrupted: Collection[str]) -> Snapshot:
        """The same with these children interrupted."""
        children = tuple(replace(child, interrupted=child.name in interrupted) for child in self.children)
        return replace(self, children=children)

    @property
    def tally(self) -> str:
        """The counts, for people."""
        running = sum(child.running for child in self.children)
        interrupted = len(self.under_way) - running
        waiting = self.total - self.done - len(self.under_way)
        parts = [f"{self.done}/{self.total} done", f"{running} running"]
        parts += [f"{interrupted} interrupted"] if interrupted else []
        parts += [f"{waiting} waiting"] if waiting else []
        return ", ".join(parts)

    @property
    def fraction(self) -> float:
        """How much of the children's work is done, from 0 to 1."""
        return sum(child.progress for child in self.children) / self.total if self.total else 0.0


def child_of(operation: operations_pb2.Operation, interrupted: Mapping[str, int] | None = None) -> Child:
    """A child operation, with its metadata parsed.

    Args:
        operation: The child.
        interrupted: The children that a crash has hit: their attempt by name.
    """
    metadata = struct_pb2.Struct()
    operation.metadata.Unpack(metadata)
    members = metadata.fields
    attempt = int(members["attempt"].number_value) if "attempt" in members else 0
    return Child(
        name=operation.name,
        done=operation.done,
        directory=members["directory"].string_value if "directory" in members else "",
        progress=1.0 if operation.done else (members["progress"].number_value if "progress" in members else 0.0),
        message=members["message"].string_value if "message" in members else "",
        attempt=attempt,
        interrupted=not operation.done and (interrupted or {}).get(operation.name) == attempt,
    )


async def take(
    stub: operations_pb2_grpc.OperationsStub, name: str, parent: str, interrupted: Mapping[str, int]
) -> Snapshot:
    """Read the operation and its children: they share a parent resource that nothing else has.

    Args:
        stub: The server's stub.
        name: The operation.
        parent: The parent resource.
        interrupted: The children that a crash has hit: their attempt by name.

    Raises:
        LostError: The operation is not there.
        grpc.aio.AioRpcError: The server did not answer.
    """
    found: list[operations_pb2.Operation] = []
    request = operations_pb2.ListOperationsRequest(name=f"{parent}/operations", page_size=1000)
    while True:
        page = await stub.ListOperations(request, timeout=CALL_TIMEOUT)
        found.extend(page.operations)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    operation = next((one for one in found if one.name == name), None)
    if operation is None:
        raise LostError(f"the server has lost {name}")
    metadata = indexer_pb2.IndexMetadata()
    operation.metadata.Unpack(metadata)
    children = [child_of(one, interrupted) for one in found if one.name != name]
    children.sort(key=lambda child: child.directory)
    return Snapshot(operation, metadata.parts, tuple(children))
