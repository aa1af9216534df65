"""Which failed calls are worth a repeat, and what is said of them."""

from __future__ import annotations

import ssl

import pytest

from lro_aio.core.call_failures import call_failure, cannot_connect, from_proxy, is_transient, sentence, too_large
from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError, RemoteProtocolError, StoreUnavailableError


@pytest.mark.parametrize(
    "text",
    [
        "CLIENT: Received message larger than max (5242959 vs. 4194304)",
        "Stream removed (CLIENT: Received message larger than max (5242959 vs. 4194304))",
        "Sent message larger than max (5242959 vs. 4194304)",
        "grpc: received message larger than max (5242959 vs. 4194304)",
        "grpc: received message after decompression larger than max 4194304",
        "grpc: trying to send message larger than max (5242959 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5242959",
        "Received message exceeds the maximum configured message size.",
        "Attempted to send message with a size larger than 4194304",
        "Error, decoded message length too large: found 5242959 bytes, the limit is: 4194304 bytes",
        "received initial metadata size exceeds hard limit (20000 vs. 16384)",
    ],
)
def test_a_message_over_the_limit_is_known_in_every_language(text: str) -> None:
    assert too_large(text)


@pytest.mark.parametrize("text", ["quota exceeded for project p", "too many requests", "the message queue is full", ""])
def test_other_exhausted_resources_come_back(text: str) -> None:
    assert not too_large(text)


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    "exc",
    [
        ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
        caused(OSError("All connection attempts failed"), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version")),
        caused(RemoteCallError("a", "ConnectError: "), OSError(-2, "Name or service not known")),
        RemoteCallError("a", "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake failed (...)"),
        RemoteCallError("a", "DNS resolution failed for nowhere.example:443: C-ares status is not ARES_SUCCESS"),
        OSError(-3, "Temporary failure in name resolution"),
        OSError(8, "nodename nor servname provided, or not known"),
    ],
    ids=repr,
)
def test_names_and_certificates_are_told_from_outages(exc: Exception) -> None:
    assert cannot_connect(exc)


@pytest.mark.parametrize(
    "exc",
    [
        ConnectionRefusedError(111, "Connection refused"),
        RemoteCallError("a", "busy"),
        ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol"),
    ],
    ids=repr,
)
def test_outages_are_none_of_these(exc: Exception) -> None:
    assert not cannot_connect(exc)


def test_a_circle_of_causes_has_an_end() -> None:
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert not cannot_connect(one)


class Answered(Exception):
    def __init__(self, status: int) -> None:
        self.response = type("Response", (), {"status_code": status})()
        super().__init__(f"HTTP {status}")


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (Answered(503), True), (Answered(429), True), (Answered(404), False), (Answered(403), False),
        (OSError(), True), (EOFError(), True), (RuntimeError("defect"), False), (ValueError("defect"), False),
        (StoreUnavailableError("locked"), True), (RemoteProtocolError("a", "nonsense"), False),
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_repeat_mends_is_not_transient(exc: Exception, expected: bool) -> None:
    assert is_transient(exc) is expected


def test_a_proxy_without_a_route_is_no_server_without_the_method() -> None:
    assert from_proxy("Received http2 header with status: 404")
    assert not from_proxy("unknown method GetOperation")


class Broken(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (RemoteCallError("a", "busy", http_status=503), "HTTP 503: busy"),
        (RemoteCallError("a", "busy", code=Code.UNAVAILABLE), "UNAVAILABLE: busy"),
        (StoreUnavailableError("locked"), "the store is unavailable: locked"),
        (OSError("a\n  b"), "OSError: a b"),
        (TimeoutError(), "TimeoutError"),
        (Broken(), "Broken: (its text cannot be shown)"),
    ],
)
def test_the_sentence_is_one_line(exc: Exception, expected: str) -> None:
    assert sentence(exc) == expected
    assert len(sentence(OSError("x" * 10_000))) == 500


def test_the_error_of_a_call_keeps_what_is_known() -> None:
    found = call_failure(StoreUnavailableError("locked", retry_after=3), "operations/a")
    assert (found.name, found.code, found.transient, found.retry_after) == ("operations/a", Code.UNAVAILABLE, True, 3)
    assert call_failure(found, "operations/b") is found
