"""Exit codes, and one sentence for each problem."""

from __future__ import annotations

import enum

import grpc.aio

from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError, RemoteCallError, RemoteProtocolError, StoreSchemaError
from lro_aio.remote.transport import NotTheServiceError

__all__ = ["CliError", "Exit", "describe"]


class Exit(enum.IntEnum):
    """Exit codes. ``lro --help`` and ``lro_aio.cli`` say what each stands for."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    UNAVAILABLE = 5
    REFUSED = 6
    DIFFERS = 7
    BROKEN = 70
    INTERRUPTED = 130
    NO_READER = 141
    TERMINATED = 143


class CliError(Exception):
    """A problem with its sentence and exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        self.code = code
        super().__init__(message)


_BY_CODE = {
    Code.INVALID_ARGUMENT: Exit.USAGE,
    Code.OUT_OF_RANGE: Exit.USAGE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.UNAVAILABLE: Exit.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: Exit.UNAVAILABLE,
}


def describe(exc: Exception, where: str) -> CliError | None:
    """The sentence and exit code for what a backend raised; None for a defect, which deserves its traceback.

    Args:
        exc: What was raised.
        where: The server or store, for the sentence.
    """
    if isinstance(exc, CliError):
        return exc
    if isinstance(exc, StoreSchemaError):
        return CliError(str(exc), Exit.UNAVAILABLE)
    if isinstance(exc, NotTheServiceError):
        answered = f"HTTP {exc.http_status}: " if exc.http_status is not None else ""
        return CliError(f"{where} is not a service of operations: {answered}{exc.problem}", Exit.UNAVAILABLE)
    if isinstance(exc, RemoteProtocolError):
        return CliError(f"{where} is not a service of operations: {exc.problem}", Exit.UNAVAILABLE)
    if isinstance(exc, RemoteCallError):
        return _of_call(exc.code, exc.problem, where)
    if isinstance(exc, LroError):
        return CliError(str(exc) if exc.withholds else exc.message, _BY_CODE.get(exc.code, Exit.REFUSED))
    if isinstance(exc, grpc.aio.AioRpcError):
        return _of_call(Code.of(exc.code().value[0]), exc.details() or "it gave no reason", where)
    return None


def _of_call(status: Code, problem: str, where: str) -> CliError:
    code = _BY_CODE.get(status, Exit.REFUSED)
    details = " ".join(problem.split())
    if status is Code.UNAVAILABLE:
        return CliError(f"{where} does not answer: {details}", code)
    if status is Code.DEADLINE_EXCEEDED:
        return CliError(f"{where} did not answer in time: {details}", code)
    if code is Exit.REFUSED:
        return CliError(f"{where} refused with {status.name}: {details}", code)
    return CliError(details, code)
