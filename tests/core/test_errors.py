"""The error tree: drawn as it is, exported, worded for people, and with its variables for machines (AIP-193)."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import error_details_pb2

from lro_aio.core import errors
from lro_aio.core.codec import NewerStateError
from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError
from lro_aio.core.status import DOMAIN, to_status

SAMPLES: list[tuple[LroError, str, Code]] = [
    (errors.LroError("any sentence"), "any sentence", Code.UNKNOWN),
    (
        errors.InvalidOperationNameError("x y"),
        "'x y' is not the resource name of an operation; expected 'operations/{id}' or '{parent}/operations/{id}'",
        Code.INVALID_ARGUMENT,
    ),
    (errors.OperationNotFoundError("operations/a"), "operation 'operations/a' does not exist", Code.NOT_FOUND),
    (
        errors.OperationAlreadyExistsError("operations/a"),
        "operation 'operations/a' already exists and was started with another request",
        Code.ALREADY_EXISTS,
    ),
    (
        errors.OperationDoneError("operations/a", "FAILED"),
        "operation 'operations/a' has already ended (FAILED); a result is never changed",
        Code.FAILED_PRECONDITION,
    ),
    (
        errors.OperationNotDoneError("operations/a"),
        "operation 'operations/a' has not ended yet",
        Code.FAILED_PRECONDITION,
    ),
    (
        errors.RemoteCallError("operations/a", "no route", code=Code.UNAVAILABLE, transient=True),
        "a call for operation 'operations/a' failed with UNAVAILABLE: no route",
        Code.UNAVAILABLE,
    ),
    (
        errors.RemoteCallError("operations/a", "busy", code=Code.RESOURCE_EXHAUSTED, http_status=429, retry_after=2),
        "a call for operation 'operations/a' failed with HTTP 429: busy",
        Code.RESOURCE_EXHAUSTED,
    ),
    (
        errors.RemoteCallError("", "no such template", code=Code.INVALID_ARGUMENT, http_status=400),
        "the call that starts an operation failed with HTTP 400: no such template",
        Code.INVALID_ARGUMENT,
    ),
    (
        errors.RemoteProtocolError("operations/a", "it has no status"),
        "the answer to a call for operation 'operations/a' makes no sense: it has no status",
        Code.INTERNAL,
    ),
    (
        errors.RemoteProtocolError("", "it has no name"),
        "the answer to the call that starts an operation makes no sense: it has no name",
        Code.INTERNAL,
    ),
    (
        errors.OperationNotFoundError("operations/a", "it has expired"),
        "operation 'operations/a' does not exist: it has expired",
        Code.NOT_FOUND,
    ),
    (
        errors.OperationNotFoundError("operations/a", "operation 'operations/a' does not exist"),  # a server of ours
        "operation 'operations/a' does not exist",
        Code.NOT_FOUND,
    ),
    (
        errors.WaitDeadlineExceededError(1, ["operations/a"], problem="HTTP 429: no quota"),
        "waited 1 s; 1 operation(s) not done: operations/a; the last poll failed: HTTP 429: no quota",
        Code.DEADLINE_EXCEEDED,
    ),
    (
        errors.InvalidTokenError(problem="it was altered or cut"),
        "invalid rehydration token: it was altered or cut",
        Code.INVALID_ARGUMENT,
    ),
    (errors.OperationFailedError("no disk", code=Code.DATA_LOSS), "no disk", Code.DATA_LOSS),
    (
        errors.OperationFailedError("no disk", name="operations/a", code=15),
        "operation 'operations/a' ended with DATA_LOSS: no disk",
        Code.DATA_LOSS,
    ),
    (
        errors.OperationCancelledError(name="operations/a"),
        "operation 'operations/a' ended with CANCELLED: the operation was cancelled",
        Code.CANCELLED,
    ),
    (
        errors.WaitDeadlineExceededError(2.5, ["operations/a", "operations/b"]),
        "waited 2.5 s; 2 operation(s) not done: operations/a, operations/b",
        Code.DEADLINE_EXCEEDED,
    ),
    (
        errors.LeaseLostError("operations/a", 3),
        "claim 3 on operation 'operations/a' is no longer valid; nothing was written",
        Code.ABORTED,
    ),
    (
        errors.UnknownHandlerError("copy", ["move", "index"]),
        "no handler 'copy' is registered here; registered: index, move",
        Code.UNIMPLEMENTED,
    ),
    (errors.UnknownHandlerError("copy"), "no handler 'copy' is registered here; registered: none", Code.UNIMPLEMENTED),
    (
        errors.UnknownResumePointError("copy", "x", ["b", "a"]),
        "handler 'copy' declares no resume point 'x'; declared: 'a', 'b'",
        Code.INVALID_ARGUMENT,
    ),
    (
        errors.InvalidTransitionError("operations/a", "PENDING", "suspend"),
        "operation 'operations/a' is PENDING; 'suspend' is not possible",
        Code.FAILED_PRECONDITION,
    ),
    (
        errors.OperationBusyError("operations/a", 12.5),
        "operation 'operations/a' is RUNNING; 'claim' is not possible",
        Code.UNAVAILABLE,
    ),
    (
        errors.StateCodecError("bad", field="a.b", codec="json;v=1"),
        "handler state (field 'a.b'): bad [stored as 'json;v=1']",
        Code.INTERNAL,
    ),
    (errors.StateCodecError("bad"), "handler state: bad", Code.INTERNAL),
    (errors.ResponseDataError("bad"), "response: bad", Code.INTERNAL),
    (errors.ResponseDataError("bad", field="a.b"), "response (field 'a.b'): bad", Code.INTERNAL),
    (
        errors.PayloadTooLargeError("metadata", 70000, 65536),
        "metadata has 70000 bytes; the limit is 65536",
        Code.INVALID_ARGUMENT,
    ),
    (
        errors.InvalidPageTokenError(),
        "invalid page_token: this service did not issue it",
        Code.INVALID_ARGUMENT,
    ),
    (errors.InvalidFilterError("odd", 4), "invalid filter at position 4: odd", Code.INVALID_ARGUMENT),
    (
        errors.InvalidTokenError("operations/a"),
        "the token is not the one that operation 'operations/a' waits for",
        Code.INVALID_ARGUMENT,
    ),
    (errors.StoreUnavailableError("locked"), "the store is unavailable: locked", Code.UNAVAILABLE),
    (
        errors.StoreRefusedError("operations/a", "DataError"),
        "the store refuses what was to be written for operation 'operations/a' (DataError)",
        Code.INTERNAL,
    ),
    (
        errors.StoreDataError("operations/a", "not a message"),
        "the stored row of operation 'operations/a' cannot be decoded: not a message",
        Code.DATA_LOSS,
    ),
    (errors.StoreSchemaError("version 9 is newer"), "version 9 is newer", Code.FAILED_PRECONDITION),
    (
        errors.ClockSkewError(12.25, 7.5),
        "this machine's clock is 12.2 s behind the store's; at most 7.5 s (a quarter of the lease) are allowed:"
        " synchronise the clock",
        Code.FAILED_PRECONDITION,
    ),
    (
        errors.ClockSkewError(-0.5, 0.25),
        "this machine's clock is 0.5 s ahead of the store's; at most 0.25 s (a quarter of the lease) are allowed:"
        " synchronise the clock",
        Code.FAILED_PRECONDITION,
    ),
    (errors.SchedulerUnavailableError("503"), "the scheduler is unavailable: 503", Code.UNAVAILABLE),
    (errors.WorkerUnavailableError("full"), "this worker cannot take the operation: full", Code.UNAVAILABLE),
]
BY_CLASS = pytest.mark.parametrize(
    ("error", "sentence", "code"), SAMPLES, ids=[f"{n}-{type(sample[0]).__name__}" for n, sample in enumerate(SAMPLES)]
)

# By the source, since the package gives its public classes its own name as their module.
classes: dict[str, type[LroError]] = {
    node.name: getattr(errors, node.name)
    for node in ast.parse(inspect.getsource(errors)).body
    if isinstance(node, ast.ClassDef)
}


def drawn() -> list[tuple[str, str]]:
    """(class, parent) of every line of the tree in the docstring."""
    assert errors.__doc__ is not None
    path: list[str] = []
    pairs = []
    for line in errors.__doc__.splitlines():
        match = re.match(r" {4}((?:│   |    )*)(├── |└── |)(\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1]) // 4 + bool(match[2])
        path[depth:] = [match[3]]
        pairs.append((match[3], path[depth - 1] if depth else "Exception"))
    return pairs


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    pairs = drawn()
    assert len(dict(pairs)) == len(pairs), "a class is drawn twice"
    assert dict(pairs) == {name: kind.__bases__[0].__name__ for name, kind in classes.items()}


def test_every_line_of_the_tree_says_what_the_error_means() -> None:
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        if "── " in line:
            assert re.search(r"Error {2,}\S", line), line


def test_every_error_class_is_exported_and_sorted() -> None:
    assert errors.__all__ == sorted(classes)


def test_every_error_of_the_core_is_an_lro_error_and_has_a_docstring() -> None:
    for kind in (*classes.values(), NewerStateError):
        assert issubclass(kind, LroError)
        assert kind.__doc__
        assert "__doc__" in vars(kind)


def test_every_error_class_has_a_sample_here() -> None:
    assert {type(error).__name__ for error, _, _ in SAMPLES} == set(classes)


@BY_CLASS
def test_the_class_builds_the_sentence(error: LroError, sentence: str, code: Code) -> None:
    assert str(error) == sentence
    assert error.code is code


@BY_CLASS
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_copies_are_the_same_in_other_processes_too(error: LroError, sentence: str, code: Code, copied: Any) -> None:
    """A process pool breaks when an exception cannot be read again."""
    again = copied(error)
    assert (type(again), str(again), vars(again)) == (type(error), sentence, vars(error))


@BY_CLASS
def test_the_reason_is_upper_snake_case_of_at_most_63(error: LroError, sentence: str, code: Code) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", error.reason)
    assert len(error.reason) <= 63


def test_no_two_classes_share_a_reason() -> None:
    reasons = [kind.reason for kind in classes.values()]
    assert len(set(reasons)) == len(reasons)


@BY_CLASS
def test_metadata_keys_are_lower_camel_case_of_at_most_64(error: LroError, sentence: str, code: Code) -> None:
    for key, value in error.metadata.items():
        assert re.fullmatch(r"[a-z][A-Za-z0-9]{0,63}", key)
        assert isinstance(value, str)


@BY_CLASS
def test_every_variable_part_of_the_message_is_in_the_metadata(error: LroError, sentence: str, code: Code) -> None:
    if type(error) is LroError or isinstance(error, errors.OperationFailedError):
        return  # their text has no parts, or is the service's own
    init = inspect.signature(type(error).__init__).parameters
    for name in init:
        value = getattr(error, name, None)
        if name in ("self", "code", "transient") or value in (None, "", (), 0):  # the code is in the status itself
            continue
        if name == "problem" and error.withholds:
            continue
        key = re.sub(r"_(.)", lambda m: m[1].upper(), name)
        if isinstance(value, tuple) and value:
            assert error.metadata[key] == ", ".join(value)
        elif isinstance(value, str | int | float):
            assert error.metadata[key] == str(value)


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreUnavailableError("spanner://acme/billing: host 10.0.0.7"),
        errors.StoreSchemaError("spanner://acme/billing: host 10.0.0.7"),
        errors.StoreDataError("operations/a", "spanner://acme/billing: host 10.0.0.7"),
        errors.OperationNotFoundError("operations/a", "spanner://acme/billing: host 10.0.0.7"),
        errors.SchedulerUnavailableError("spanner://acme/billing: host 10.0.0.7"),
        errors.RemoteCallError("operations/a", "spanner://acme/billing: host 10.0.0.7"),
        errors.RemoteProtocolError("operations/a", "spanner://acme/billing: host 10.0.0.7"),
        errors.WaitDeadlineExceededError(1, ["operations/a"], problem="spanner://acme/billing: host 10.0.0.7"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_things_are_is_for_the_log_and_not_for_callers(error: LroError) -> None:
    assert error.withholds
    assert "10.0.0.7" in str(error)
    told = to_status(error)
    assert "acme" not in str(told), "neither in the message nor in the details"
    assert told.message == error.message
    assert to_status(error, expose=True).message == str(error)
    assert pickle.loads(pickle.dumps(error)).message == error.message


@BY_CLASS
def test_the_status_carries_the_sentence_and_error_info(error: LroError, sentence: str, code: Code) -> None:
    status = to_status(error)
    assert status.code == code
    assert status.message == error.message
    info = error_details_pb2.ErrorInfo()
    found = [detail for detail in status.details if detail.Unpack(info)]
    assert len(found) == 1
    assert (info.reason, info.domain, dict(info.metadata)) == (error.reason, DOMAIN, error.metadata)


def test_long_lists_are_cut_so_that_an_error_fits_into_headers() -> None:
    pending = [f"operations/{n}" for n in range(1000)]
    error = errors.WaitDeadlineExceededError(1, pending)
    assert error.pending == tuple(pending)
    assert "1000 operation(s) not done: operations/0, " in str(error)
    assert str(error).endswith("operations/4, ...")
    assert len(to_status(error).SerializeToString()) < 2000
    assert len(to_status(errors.UnknownHandlerError("x", pending)).SerializeToString()) < 2000


def test_errors_keep_their_parts_as_fields() -> None:
    done = operations_pb2.Operation(name="operations/b", done=True)
    error = errors.WaitDeadlineExceededError(
        2, ["operations/a"], finished=[done], operation=done, rehydration_token="secret"
    )
    assert (error.timeout, error.pending, error.finished, error.operation) == (2, ("operations/a",), (done,), done)
    assert error.rehydration_token == "secret"
    assert "secret" not in f"{error} {error.metadata}", "whoever has the token has the operation"


def test_a_failed_operation_keeps_the_code_message_and_details_of_its_service() -> None:
    detail = any_pb2.Any(type_url="t/x", value=b"v")
    error = errors.OperationFailedError("no", name="operations/a", code=7, details=[detail])
    assert (error.code, error.message, error.details) == (Code.PERMISSION_DENIED, "no", (detail,))
    assert error.metadata == {"name": "operations/a"}


@pytest.mark.parametrize(("number", "code"), [(0, Code.UNKNOWN), (99, Code.UNKNOWN), (-1, Code.UNKNOWN), (16, 16)])
def test_a_failed_operation_has_always_a_canonical_code_that_is_not_ok(number: int, code: int) -> None:
    assert errors.OperationFailedError(code=number).code == code


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.OperationBusyError("operations/a", 12.5), 12.5),
        (errors.StoreUnavailableError("x"), 1.0),
        (errors.StoreUnavailableError("x", retry_after=3), 3),
        (errors.SchedulerUnavailableError("x"), 1.0),
        (errors.WorkerUnavailableError("x"), 5.0),
        (errors.OperationNotFoundError("operations/a"), None),
    ],
)
def test_only_what_may_get_better_says_when_to_come_back(error: LroError, seconds: Any) -> None:
    assert error.retry_after == seconds
    info = error_details_pb2.RetryInfo()
    found = [detail for detail in to_status(error).details if detail.Unpack(info)]
    assert len(found) == (seconds is not None)
    if seconds is not None:
        assert info.retry_delay.ToNanoseconds() == seconds * 1e9


def test_every_error_is_a_public_name() -> None:
    import lro_aio

    for name in errors.__all__:
        assert name in lro_aio.__all__
        assert getattr(lro_aio, name) is getattr(errors, name)
