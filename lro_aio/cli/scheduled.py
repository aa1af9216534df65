"""What ``lro schedules`` asks of a store or of a service: schedules are told of as JSON objects, as HTTP has them."""

from __future__ import annotations

import abc
import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

from google.longrunning import operations_pb2

from lro_aio.core.calendars import iso
from lro_aio.core.errors import RemoteProtocolError
from lro_aio.core.schedules import PARENT, info_json
from lro_aio.engine.schedules import Schedules

__all__ = ["ScheduleCalls", "of_service", "of_store"]

SHOWN: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "handler": (str,),
    "cron": (str,),
    "every": (int, float),
    "timezone": (str,),
    "upcoming": (list,),
    "last": (str, type(None)),
    "paused": (bool,),
    "reason": (str,),
    "failures": (int,),
}
"""What the table shows of a schedule, and as what it has to come."""


Call = Callable[..., Awaitable[Any]]
"""Makes one request, and gives the JSON of the answer: ``call(method, name, path, **options)``."""
Reader = Callable[[dict[str, Any]], operations_pb2.Operation]
"""Reads an operation in JSON."""


class ScheduleCalls(abc.ABC):
    """The calls of ``lro schedules``. Errors are those of ``lro_aio``, and ``ValueError`` for an argument."""

    @abc.abstractmethod
    async def list(self) -> list[dict[str, Any]]:
        """Every schedule, by name."""

    @abc.abstractmethod
    async def upcoming(self, name: str, count: int) -> Sequence[str]:
        """The next moments of one."""

    @abc.abstractmethod
    async def run(self, name: str, request_id: str) -> operations_pb2.Operation:
        """Start an operation of one now."""

    @abc.abstractmethod
    async def pause(self, name: str, reason: str) -> None:
        """Let it start nothing."""

    @abc.abstractmethod
    async def unpause(self, name: str, reason: str) -> None:
        """Let it go on."""

    @abc.abstractmethod
    async def delete(self, name: str) -> None:
        """Forget it."""

    @abc.abstractmethod
    async def backfill(
        self, name: str, start: datetime.datetime, end: datetime.datetime, per_second: float
    ) -> Sequence[str]:
        """Start the operations of past moments; gives their names."""


class _OfStore(ScheduleCalls):
    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def list(self) -> list[dict[str, Any]]:
        return [info_json(info) for info in await self._schedules.list()]

    async def upcoming(self, name: str, count: int) -> Sequence[str]:
        return [iso(moment) for moment in await self._schedules.upcoming(name, count)]

    async def run(self, name: str, request_id: str) -> operations_pb2.Operation:
        return (await self._schedules.run(name, request_id=request_id or None)).proto

    async def pause(self, name: str, reason: str) -> None:
        await self._schedules.pause(name, reason)

    async def unpause(self, name: str, reason: str) -> None:
        await self._schedules.unpause(name, reason)

    async def delete(self, name: str) -> None:
        await self._schedules.delete(name)

    async def backfill(
        self, name: str, start: datetime.datetime, end: datetime.datetime, per_second: float
    ) -> Sequence[str]:
        return [op.name for op in await self._schedules.backfill(name, start, end, per_second=per_second)]


class _OfService(ScheduleCalls):
    def __init__(self, call: Call, operation: Reader) -> None:
        self._call = call
        self._operation = operation

    async def list(self) -> list[dict[str, Any]]:
        told = await self._call("GET", PARENT, PARENT)
        found = told.get("schedules") if isinstance(told, dict) else None
        if not isinstance(found, list) or not all(map(_is_schedule, found)):
            raise RemoteProtocolError(PARENT, "its JSON is not a list of schedules")
        return found

    async def upcoming(self, name: str, count: int) -> Sequence[str]:
        told = await self._call("GET", _named(name), _path(name), params={"upcoming": str(count)})
        if not _is_schedule(told):
            raise RemoteProtocolError(_named(name), "its JSON is not a schedule")
        return [str(moment) for moment in told["upcoming"]]

    async def run(self, name: str, request_id: str) -> operations_pb2.Operation:
        return self._operation(await self._act(name, "run", {"requestId": request_id} if request_id else {}))

    async def pause(self, name: str, reason: str) -> None:
        await self._act(name, "pause", {"reason": reason} if reason else {})

    async def unpause(self, name: str, reason: str) -> None:
        await self._act(name, "unpause", {"reason": reason} if reason else {})

    async def delete(self, name: str) -> None:
        await self._call("DELETE", _named(name), _path(name))

    async def backfill(
        self, name: str, start: datetime.datetime, end: datetime.datetime, per_second: float
    ) -> Sequence[str]:
        made: list[str] = []
        body = {"start": start.isoformat(), "end": end.isoformat(), "perSecond": per_second}
        while True:
            began = time.monotonic()
            told = await self._act(name, "backfill", body)
            part, left = told.get("operations"), told.get("nextStart")
            if not isinstance(part, list) or not all(isinstance(one, dict) for one in part):
                raise RemoteProtocolError(_named(name), "its JSON is not a list of operations")
            made += [self._operation(one).name for one in part]
            if not left:
                return made
            if left == body["start"] or not part:
                raise RemoteProtocolError(_named(name), "it does not come to an end")
            body["start"] = left
            await asyncio.sleep(len(part) / per_second - (time.monotonic() - began))

    async def _act(self, name: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        told = await self._call("POST", _named(name), f"{_path(name)}:{verb}", json=body)
        if not isinstance(told, dict):
            raise RemoteProtocolError(_named(name), "its answer is not a JSON object")
        return told


def of_store(schedules: Schedules) -> ScheduleCalls:
    """The schedules of a store."""
    return _OfStore(schedules)


def of_service(call: Call, operation: Reader) -> ScheduleCalls:
    """The schedules of a service, over HTTP in Google's style."""
    return _OfService(call, operation)


def _is_schedule(told: object) -> bool:
    return isinstance(told, dict) and all(isinstance(told.get(member, ...), kinds) for member, kinds in SHOWN.items())


def _named(name: str) -> str:
    return f"{PARENT}/{name}"


def _path(name: str) -> str:
    return f"{PARENT}/{quote(name, safe='')}"
