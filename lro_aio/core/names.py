"""Resource names of operations: ``operations/{id}``, with any parent before it (AIP-122, AIP-151)."""

from __future__ import annotations

import functools
import os
import re
import uuid
from typing import NamedTuple

from lro_aio.core.errors import InvalidOperationNameError

__all__ = [
    "ANY_PARENT",
    "MAX_LABEL",
    "OWN",
    "MalformedIdError",
    "OperationName",
    "check",
    "check_given",
    "check_id",
    "check_name",
    "check_remote",
    "child_id",
    "collection",
    "id_at",
    "make",
    "new_id",
    "ordered_id",
    "parse",
    "parse_parent",
    "request_id",
]

ANY_PARENT = "-"
"""As the parent of a list: operations of every parent (the wildcard of AIP-159)."""

OWN = "lro."
"""What the names of this package's own handlers begin with. No name that an application gives begins so."""

MAX_NAME = 512
"""Characters. Spanner's 8 KB key limit allows more; nobody's names need it."""

MAX_LABEL = 128
"""Characters of the name of a handler, a resume point, a step or a topic."""

MAX_PARENT = MAX_NAME - len("/operations/") - 128
"""Characters, so that every id fits behind it."""

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:@-]*")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_NAME = re.compile(rf"(?:{_SEGMENT.pattern}/)*operations/{_ID.pattern}")
_REMOTE = re.compile(r"[^\x00-\x20\x7f-\x9f\ud800-\udfff]{1,2048}")
_REQUEST_ID = re.compile(r"[\x20-\x7e]{1,128}")

# Fixed for ever: ids derived from a request_id or a child key must be the same in every release.
_NAMESPACE = uuid.UUID("5d0c3c0e-9a55-5a4e-8d5e-3c1f2c7b6a10")


class MalformedIdError(ValueError):
    """An id, a topic or another argument that a server's caller may have given is malformed.

    Servers answer INVALID_ARGUMENT.

    Args:
        field: Which of them.
        problem: The rest of the sentence that the field begins.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)

    def __str__(self) -> str:
        return " ".join(self.args)


class OperationName(NamedTuple):
    """The two parts of a name. ``str()`` gives the name again."""

    parent: str
    """The part before ``/operations/``; "" for none."""
    id: str

    def __str__(self) -> str:
        return f"{self.parent}/operations/{self.id}" if self.parent else f"operations/{self.id}"


def make(parent: str, identifier: str) -> str:
    """The name of an operation, from a parent that ``parse_parent`` returned and an id that was checked.

    Raises:
        InvalidOperationNameError: The parent is the wildcard.
    """
    name = str(OperationName(parent, identifier))
    if parent == ANY_PARENT:
        raise InvalidOperationNameError(name)
    return name


def parse(name: str) -> OperationName:
    """Split a resource name.

    Raises:
        InvalidOperationNameError: It is not ``[parent/]operations/{id}``.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise InvalidOperationNameError(str(name)[:MAX_NAME])
    return _parsed(name)


@functools.lru_cache(maxsize=1024)  # whatever starts an operation names it again at once
def _parsed(name: str) -> OperationName:
    check(name)
    before, _, identifier = name.rpartition("/")
    return OperationName(before.removesuffix("operations").removesuffix("/"), identifier)


def check(name: str) -> None:
    """Refuse what ``parse`` would refuse, for those who check thousands of names and need no parts.

    Raises:
        InvalidOperationNameError: It is not ``[parent/]operations/{id}``.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidOperationNameError(str(name)[:MAX_NAME])


def parse_parent(parent: str) -> str:
    """Normalize a collection: "", "operations" and "x/y/operations" name the parents "", "" and "x/y".

    "-" and "-/operations" are ``ANY_PARENT``.

    Raises:
        InvalidOperationNameError: A segment is malformed, or the whole is longer than ``MAX_PARENT``.
    """
    if not parent:
        return ""
    segments = parent.split("/")
    if segments[-1] == "operations":
        segments.pop()
    if segments == [ANY_PARENT]:
        return ANY_PARENT
    normal = "/".join(segments)
    if len(normal) > MAX_PARENT or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InvalidOperationNameError(parent[:MAX_NAME])
    return normal


def collection(parent: str) -> str:
    """The one spelling of a collection: ``-`` for every parent, else ``operations`` or ``{parent}/operations``.

    A malformed one stays as it is.
    """
    try:
        normal = parse_parent(parent)
    except InvalidOperationNameError:
        return parent
    return normal if normal == ANY_PARENT else f"{normal}/operations".removeprefix("/")


def new_id() -> str:
    """A random id (UUID4: spreads over Spanner's key space, and Go services accept no other form)."""
    # As str(uuid.UUID(bytes=entropy, version=4)), in a quarter of its time.
    text = _random().hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


def id_at(now: float, *, ordered: bool) -> str:
    """The id of an operation that is created now.

    Args:
        now: Epoch seconds.
        ordered: Whether the store works best with names that rise with time.
    """
    return ordered_id(now) if ordered else new_id()


def ordered_id(now: float) -> str:
    """An id that sorts by its time, then at random (UUID7: RFC 9562, section 5.7).

    For a store that keeps names in one b-tree: new names are neighbours, and touch few of its pages.

    Args:
        now: Epoch seconds. The id reveals them, to the millisecond.
    """
    time, text = f"{int(now * 1000) & 0xFFFF_FFFF_FFFF:012x}", _random().hex()
    return f"{time[:8]}-{time[8:]}-7{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


def _random() -> bytes:
    """16 random bytes."""
    try:
        return _entropy.pop()
    except IndexError:
        # A system call releases the interpreter's lock, and gets it back late while a writer thread works.
        block = os.urandom(16 * 256)
        _entropy.extend(block[start : start + 16] for start in range(0, len(block), 16))
        return _entropy.pop()


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""RFC 9562, section 4.1: the two highest bits of this digit are 10."""

_entropy: list[bytes] = []
os.register_at_fork(after_in_child=_entropy.clear)  # else parent and child would draw the same ids


def check_id(identifier: str) -> str:
    """Return a caller's own id.

    Raises:
        MalformedIdError: It is not 1 to 128 letters, digits or any of ``._~-``.
    """
    if not _ID.fullmatch(identifier):
        raise MalformedIdError(
            "operation_id", f"{identifier[:MAX_NAME]!r} must be 1 to 128 letters, digits or any of '._~-'"
        )
    return identifier


def check_remote(name: str) -> str:
    """Return the name of another service's operation: in any form, but for white space and length (2048 characters).

    Raises:
        InvalidOperationNameError: It is anything else.
    """
    if not isinstance(name, str) or not _REMOTE.fullmatch(name):
        raise InvalidOperationNameError(str(name)[:MAX_NAME])
    return name


def request_id(parent: str, handler: str, request: str) -> str:
    """The id that stands for one request (AIP-155): the same three arguments always give the same id.

    Raises:
        MalformedIdError: ``request`` is not 1 to 128 printable ASCII characters.
    """
    if not _REQUEST_ID.fullmatch(request):
        raise MalformedIdError("request_id", "must be 1 to 128 printable ASCII characters")
    return str(uuid.uuid5(_NAMESPACE, f"request\n{parent}\n{handler}\n{request}"))


@functools.lru_cache(maxsize=4096)  # whoever starts children names each of them twice, and again in the next run
def child_id(parent_uid: str, key: str) -> str:
    """The id of the child that ``key`` names under one parent operation.

    The parent's ``uid`` and not its name: an operation that was deleted and created again has children of its own.
    """
    if not key:
        raise ValueError("key must not be empty: it is what makes a child the same one when the handler runs again")
    return str(uuid.uuid5(_NAMESPACE, f"child\n{parent_uid}\n{key}"))


def check_name(kind: str, name: str) -> str:
    """Return the name of a handler, a resume point, a step, a sleep or a topic.

    Args:
        kind: Which of them, for the error.
        name: To be checked.

    Raises:
        ValueError: It is not 1 to 128 printable characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_LABEL or not name.isprintable():
        raise ValueError(f"{kind} {name!r} must be 1 to {MAX_LABEL} printable characters")
    return name


def check_given(kind: str, name: str) -> str:
    """Return a name that an application gives: as ``check_name``, and none of this package's own.

    Args:
        kind: As of ``check_name``, or a queue or a schedule.
        name: To be checked.

    Raises:
        ValueError: It is malformed, or begins with ``OWN``.
    """
    if check_name(kind, name).startswith(OWN):
        raise ValueError(f"{kind} {name!r} must not begin with {OWN!r}: such names are this package's own")
    return name
