"""The demo's two handlers: a parent that suspends on its children, and the child that does the work."""

from __future__ import annotations

import asyncio
import os
import zlib
from functools import partial

import anyio
import anyio.to_thread
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import Message

from lro_aio.cli.demo import indexer_pb2
from lro_aio.cli.demo.indexing import PartHasher, digest_of, list_parts, shown
from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationFailedError
from lro_aio.engine.handlers import Handlers
from lro_aio.engine.operation import Operation
from lro_aio.engine.suspension import Suspended

__all__ = ["INDEX_DIRECTORY", "INDEX_PART", "MAX_PARTS", "PARALLEL", "handlers"]

INDEX_DIRECTORY = "demo.index-directory"
INDEX_PART = "demo.index-part"

PARALLEL = 6
"""Handlers that the demo's server runs at a time: ``max_running`` of its client."""
MAX_PARTS = 2000
"""Most sub-directories of one directory: their results have to fit into one response."""
SLICES = 20
"""Pieces in which a throttled child does its work, so that the throttle is felt evenly."""
LARGEST_SLICE = 8 * 1024 * 1024
"""Most bytes that one visit to the thread hashes: between two visits the handler can be cancelled."""

handlers = Handlers()


@handlers.handler(INDEX_DIRECTORY, state=indexer_pb2.IndexState, resume_points=("collect",))
async def index_directory(op: Operation[indexer_pb2.IndexState]) -> Message | Suspended:
    """Start one child per sub-directory, wait for all of them without holding a process, and add up their results."""
    match op.resume_point:
        case "":
            parts = await anyio.to_thread.run_sync(list_parts, op.state.path)
            if len(parts) > MAX_PARTS:
                raise OperationFailedError(
                    f"{op.state.path} has {len(parts) - 1} sub-directories; at most {MAX_PARTS - 1} are indexed",
                    code=Code.FAILED_PRECONDITION,
                )
            await op.set_metadata(indexer_pb2.IndexMetadata(path=op.state.path, parts=len(parts)))
            pace = op.state.pace / -(-len(parts) // PARALLEL)
            # After a crash in the middle of this loop, the same keys find the same children.
            children = await asyncio.gather(*(_start_part(op, part, pace) for part in parts))
            op.state.children[:] = [child.name for child in children]
            return op.suspend(resume_at="collect", children=list(op.state.children))
        case "collect":
            return _manifest(op, [_part(child) for child in op.children])
        case point:
            raise AssertionError(point)


async def _start_part(
    op: Operation[indexer_pb2.IndexState], part: bytes, pace: float
) -> Operation[indexer_pb2.PartState]:
    # From 0.6 to 1.4 times the pace: with one pace for all, they would start and end in step.
    share = 0.6 + 0.8 * zlib.crc32(part) / 2**32
    state = indexer_pb2.PartState(path=op.state.path, directory=part, pace=pace * share)
    return await op.start_child(INDEX_PART, state, key=shown(part))


def _part(child: operations_pb2.Operation) -> indexer_pb2.Part:
    part = indexer_pb2.Part()
    if not child.response.Unpack(part):
        raise OperationFailedError(f"{child.name} failed: {child.error.message}", code=child.error.code)
    return part


def _manifest(op: Operation[indexer_pb2.IndexState], parts: list[indexer_pb2.Part]) -> indexer_pb2.Manifest:
    return indexer_pb2.Manifest(
        path=op.state.path,
        files=sum(part.files for part in parts),
        bytes=sum(part.bytes for part in parts),
        lines=sum(part.lines for part in parts),
        skipped=sum(part.skipped for part in parts),
        digest=digest_of((part.digest, part.directory) for part in parts),
        parts=parts,
        claim=op.claim,
    )


@handlers.handler(INDEX_PART, state=indexer_pb2.PartState)
async def index_part(op: Operation[indexer_pb2.PartState]) -> Message:
    """Hash the files of one sub-directory in a thread, throttled, and report the progress."""
    directory = shown(op.state.directory)
    members = struct_pb2.Struct()
    members.update({"directory": directory, "attempt": op.attempt, "progress": 0, "message": "listing"})
    await op.set_metadata(members)
    hasher = PartHasher(op.state.path, op.state.directory)
    try:
        await _hash(op, hasher)
    finally:
        hasher.close()
    return indexer_pb2.Part(
        directory=directory,
        files=hasher.files,
        bytes=hasher.bytes,
        lines=hasher.lines,
        skipped=hasher.skipped,
        digest=hasher.digest,
        attempt=op.attempt,
        claim=op.claim,
    )


async def _hash(op: Operation[indexer_pb2.PartState], hasher: PartHasher) -> None:
    started = anyio.current_time()
    await anyio.to_thread.run_sync(hasher.scan)
    budget = min(LARGEST_SLICE, hasher.expected // SLICES + 1)
    slices = max(SLICES, hasher.expected // LARGEST_SLICE + 1)
    done = 0
    # An empty part is throttled like any other: the demo needs work that can be interrupted in every tree.
    while done < slices or not hasher.done:
        await anyio.to_thread.run_sync(partial(hasher.work, budget))
        done += 1
        await anyio.sleep_until(started + op.state.pace * min(1.0, done / slices))
        fraction = hasher.fraction if hasher.expected else min(1.0, done / slices)
        await op.progress(fraction, f"{hasher.files:,} files, {hasher.bytes:,} bytes")


def check_path(path: str) -> str:
    """The path as the operation will use it.

    Raises:
        ValueError: It is not absolute, or not a directory of this machine.
    """
    if not os.path.isabs(path):
        raise ValueError(f"path {path!r} is not absolute")
    if not os.path.isdir(path):
        raise ValueError(f"path {path!r} is not a directory on the server's machine")
    return os.path.normpath(path)
