"""The progress and the start of an operation, from the metadata of any service."""

from __future__ import annotations

import datetime
import math
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import DecodeError

from lro_aio.core import progress_pb2
from lro_aio.core.proto_json import any_json
from lro_aio.core.shown_failures import MEMBER

__all__ = ["Failure", "Progress", "created_of", "failure_of", "progress_of"]

SHARES = {"progress", "fraction", "fractioncomplete"}
"""Members that are a share of 1. More than 1 is taken as percent."""
PERCENTS = {
    "progresspercent", "progresspercentage", "percentcomplete", "percentcompleted", "percentagecomplete",
    "percentdone", "percent", "completionpercentage", "completionpercent",
}  # fmt: skip
MESSAGES = {"message", "statusmessage", "statusdetail", "statusdetails", "detail"}
STARTS = {
    "createtime", "createddatetime", "createdatetime", "createdat", "createdtime", "createdon", "creationtime",
    "creationtimestamp", "inserttime", "starttime", "starteddatetime", "startedat",
}  # fmt: skip
INSIDE = {"progress", "properties", "metadata", "genericmetadata", "commonmetadata", "operationmetadata"}
"""Members whose own members count as well."""
DEPTH = 3

_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?\s*%?")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the work."""

    fraction: float | None = None
    """From 0 to 1."""
    message: str = ""


class Failure(NamedTuple):
    """Why an operation of this package is paused."""

    code: str
    message: str


def failure_of(operation: operations_pb2.Operation) -> Failure | None:
    """The failure because of which an operation is paused, where its metadata tells."""
    members = struct_pb2.Struct()
    if operation.done or not operation.metadata.Unpack(members) or MEMBER not in members.fields:
        return None
    told = json_format.MessageToDict(members.fields[MEMBER])
    if not isinstance(told, dict) or told.keys() != {"code", "reason", "message"}:
        return None
    return Failure(str(told["code"]), str(told["message"]))


def progress_of(operation: operations_pb2.Operation) -> Progress:
    """The progress in the metadata: as ``op.progress()`` writes it, or under the names that other services use."""
    counts = progress_pb2.Progress()
    try:
        if operation.metadata.Unpack(counts):
            return _counted(counts)
    except DecodeError:
        return Progress()
    fraction, message = None, ""
    for key, value in _members(operation):
        if fraction is None and (key in SHARES or key in PERCENTS):
            fraction = _fraction(value, percent=key in PERCENTS)
        if not message and key in MESSAGES and isinstance(value, str):
            message = value
    return Progress(fraction, message)


def _counted(counts: progress_pb2.Progress) -> Progress:
    of = f" of {counts.total:,}" if counts.total else ""
    parts = [f"{counts.done:,}{of} {counts.unit}".rstrip(), counts.text]
    if counts.HasField("eta"):
        parts.append(f"until {counts.eta.ToJsonString()}")
    fraction = min(1.0, max(0.0, counts.done / counts.total)) if counts.total > 0 else None
    return Progress(fraction, ", ".join(filter(None, parts)))


def created_of(operation: operations_pb2.Operation) -> float | None:
    """Epoch seconds of the start, if the metadata or the id tells; this package's ids on SQLite do (UUID7)."""
    for key, value in _members(operation):
        if key in STARTS and isinstance(value, str) and (moment := _moment(value)) is not None:
            return moment
    try:
        identifier = uuid.UUID(operation.name.rpartition("/")[2])
    except ValueError:
        return None
    return (identifier.int >> 80) / 1000 if identifier.version == 7 else None


def _members(operation: operations_pb2.Operation) -> Iterator[tuple[str, Any]]:
    """Names, in letters only, and values of all members of the metadata, outer ones first."""
    if not operation.HasField("metadata"):
        return
    shown = any_json(operation.metadata)
    level = [shown["value"] if isinstance(shown.get("value"), dict) else shown]
    for _ in range(DEPTH):
        named = [("".join(filter(str.isalpha, key)).lower(), value) for one in level for key, value in one.items()]
        yield from named
        level = [value for key, value in named if key in INSIDE and isinstance(value, dict)]


def _fraction(value: Any, *, percent: bool) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):  # int64 is text in proto3 JSON
        percent = percent or value.strip().endswith("%")
        value = float(value.strip().rstrip("% "))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, value / 100 if percent or value > 1 else value))


def _moment(text: str) -> float | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
