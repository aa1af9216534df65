"""What a failed call to a service means: whether a repeat may succeed, and the failure in one sentence.

gRPC has one code for many causes, and httpx has one class for many: where code and class do not tell, the text does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError, RemoteCallError
from lro_aio.core.status import to_status

__all__ = [
    "REPEATED_STATUSES",
    "TRANSIENT",
    "call_failure",
    "cannot_connect",
    "from_proxy",
    "is_transient",
    "sentence",
    "too_large",
]

TRANSIENT = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.INTERNAL,  # includes a stream that was reset
        Code.UNKNOWN,  # a server that raised, or a proxy that answered in its place
        Code.CANCELLED,  # by the other side: a cancel on this side does not arrive as an error of the call
    }
)
"""Codes of a failed read that may succeed later: what HTTP has as 408, 429 and 5xx. AIP-194 lets clients repeat fewer,
but reading does no harm."""

MAX_SENTENCE = 500
"""Characters."""

_TOO_LARGE = re.compile(
    r"message\b.{0,60}(larger than|exceeds|length too large)|metadata size exceeds", re.IGNORECASE | re.DOTALL
)
"""What gRPC in C, Go, Java, .NET and Rust says of a message over a size limit, as RESOURCE_EXHAUSTED."""

_PROXY = re.compile(r"http2 header with status: 404", re.IGNORECASE)
"""What gRPC says, as UNIMPLEMENTED, of a bare HTTP 404: no gRPC server sends one, but a proxy without a route does."""

_NAME_OR_CERTIFICATE = re.compile(
    r"\[SSL[:\]]|CERTIFICATE_VERIFY_FAILED|(ssl|tls) handshake failed|not in peer certificate|record layer failure"
    r"|name or service not known|temporary failure in name resolution|no address associated with hostname"
    r"|nodename nor servname|name does not resolve|getaddrinfo failed|DNS resolution failed|domain name not found"
    r"|could not contact DNS",
    re.IGNORECASE,
)
_CUT = re.compile(r"UNEXPECTED_EOF|EOF occurred", re.IGNORECASE)
"""A handshake that was cut: the server may be restarting."""

_DEFECTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)

REPEATED_STATUSES = (408, 425, 429)
"""HTTP statuses below 500 after which the same request may succeed later."""


def is_transient(exc: Exception) -> bool:
    """Whether the same call may succeed later. True in doubt, since the caller bounds the repeats.

    Args:
        exc: What any service or stub raised for a call that reads.
    """
    if isinstance(exc, RemoteCallError):
        return exc.transient
    if isinstance(exc, LroError):
        return exc.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
    if isinstance(exc, _DEFECTS) and type(exc).__module__ == "builtins":
        return False
    status = getattr(getattr(exc, "response", None), "status_code", None)  # as httpx and requests have it
    if isinstance(status, int) and 400 <= status < 500 and status not in REPEATED_STATUSES:
        return False
    code = Code.of(to_status(exc).code)
    if code is Code.RESOURCE_EXHAUSTED and too_large(_text(exc)):
        return False
    return code in TRANSIENT or (code is Code.UNIMPLEMENTED and from_proxy(_text(exc)))


def too_large(text: str) -> bool:
    """Whether RESOURCE_EXHAUSTED with this text is about a message over a size limit, which no repeat makes smaller."""
    return _TOO_LARGE.search(text) is not None


def from_proxy(text: str) -> bool:
    """Whether UNIMPLEMENTED with this text is a proxy's, as during a deploy, and not the server's."""
    return _PROXY.search(text) is not None


def cannot_connect(exc: BaseException) -> bool:
    """Whether a name that does not resolve, or TLS, is behind the failure: often a mistake in the address."""
    texts = [f"{type(link).__name__}: {link}" for link in _chain(exc)]
    return any(_NAME_OR_CERTIFICATE.search(text) or text.startswith("gaierror") for text in texts) and not any(
        _CUT.search(text) for text in texts
    )


def call_failure(exc: Exception, name: str) -> RemoteCallError:
    """The error for what a service or stub raised; ``exc`` itself where it is one already.

    Args:
        exc: The exception.
        name: The operation.
    """
    if isinstance(exc, RemoteCallError):
        return exc
    code = Code.of(to_status(exc).code)
    kind, text = _words(exc)
    return RemoteCallError(
        name,
        _line(text or "it gave no reason") if kind == code.name else sentence(exc),
        code=code,
        transient=is_transient(exc),
        retry_after=exc.retry_after if isinstance(exc, LroError) else None,
    )


def sentence(exc: BaseException) -> str:
    """The failure on one line, without the operation's name where that can be left out."""
    if isinstance(exc, RemoteCallError):
        answered = f"HTTP {exc.http_status}" if exc.http_status is not None else exc.code.name
        return _line(f"{answered}: {exc.problem}")
    return _line(str(exc) if isinstance(exc, LroError) else _text(exc))


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE - 3]}..."


def _text(exc: BaseException) -> str:
    kind, text = _words(exc)
    return f"{kind}: {text}" if text else kind


def _words(exc: BaseException) -> tuple[str, str]:
    """The code, if there is one, or else the class, and the exception's own words.

    An error of grpc prints itself over many lines, and has its sentence as ``details()``.
    """
    try:
        details, code = getattr(exc, "details", None), getattr(exc, "code", None)
        if callable(details) and callable(code) and isinstance(said := details(), str):
            return str(getattr(code(), "name", type(exc).__name__)), said
        return type(exc).__name__, str(exc)
    except Exception:  # noqa: BLE001 (a broken __str__ or details() must not hide the failure itself)
        return type(exc).__name__, "(its text cannot be shown)"


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
