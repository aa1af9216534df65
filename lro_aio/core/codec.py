"""Handler state to bytes and back (rule 15): JSON through pydantic, protobuf messages natively, never pickle.

The stored tag is ``json;v=N`` or ``proto:<full name>``; it never names a Python class, so a class can be renamed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import pydantic_core
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from lro_aio.core.errors import StateCodecError

__all__ = ["FINGERPRINT_SCHEME", "NewerStateError", "StateCodec", "fingerprint", "pack", "unpack"]

S = TypeVar("S")
M = TypeVar("M", bound=Message)

Upgrade = Callable[[Any, int], Any]
"""From the JSON value of an older ``state_version``, and that version, to the present one's."""

FINGERPRINT_SCHEME = "1"
"""Changes with the canonical form; rows of another scheme count as equal (rule 8)."""

_JSON_TAG = re.compile(r"json;v=(\d+)")


class NewerStateError(StateCodecError):
    """The state was written by a newer release: a process of that release should run it, not this one."""


class StateCodec(Generic[S]):
    """Encodes and decodes one handler's state type.

    Args:
        kind: A pydantic-able type (dataclass, model, TypedDict, list[int] ...), a protobuf message class, or None
            for a handler that keeps no state of a declared type: any JSON value is taken then.
        version: Of the state's JSON form.
        upgrade: Brings an older form forward.

    Raises:
        TypeError: pydantic has no schema for the type.
    """

    def __init__(self, kind: type[S] | None, *, version: int = 1, upgrade: Upgrade | None = None) -> None:
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise ValueError(f"state_version must be a whole number of 1 or more, not {version!r}")
        self.kind = kind
        self.version = version
        self.upgrade = upgrade
        is_message = isinstance(kind, type) and issubclass(kind, Message)
        self._message = cast("type[Message]", kind) if is_message else None
        self._adapter: TypeAdapter[Any] | None = None
        if self._message is None:
            try:
                self._adapter = TypeAdapter(Any if kind is None else kind)
            except PydanticSchemaGenerationError as exc:
                raise TypeError(f"{kind!r} cannot be handler state: {exc}") from exc

    @property
    def tag(self) -> str:
        """What is stored beside the bytes."""
        if self._message is not None:
            return f"proto:{self._message.DESCRIPTOR.full_name}"
        return f"json;v={self.version}"

    def default(self) -> S | None:
        """The state of an operation that was started without one: ``S()``, or None without a type.

        Raises:
            StateCodecError: ``S()`` needs arguments.
        """
        if self.kind is None:
            return None
        try:
            return self.kind()
        except TypeError as exc:
            raise StateCodecError(f"no state was given and {self.kind.__name__}() fails: {exc}") from exc

    def encode(self, state: S | None) -> tuple[bytes, str]:
        """Return ``(bytes, tag)``.

        Raises:
            StateCodecError: The value is not of the type, or has a part that JSON cannot hold; names the field.
        """
        if self._message is not None:
            if not isinstance(state, self._message):
                raise StateCodecError(f"expected {self._message.DESCRIPTOR.full_name}, not {type(state).__name__}")
            return cast("Message", state).SerializeToString(deterministic=True), self.tag
        if state is None and self.kind is None:
            return b"", ""
        assert self._adapter is not None
        self._check_class(state)
        try:
            data = self._adapter.dump_json(state, warnings="error")
        except pydantic_core.PydanticSerializationError as exc:
            raise StateCodecError(_first_line(exc), field=_offender(state)) from exc
        return data, self.tag

    def decode(self, data: bytes, tag: str) -> S | None:
        """Read what ``encode`` wrote, in this release or an older one.

        Raises:
            NewerStateError: A newer release wrote it.
            StateCodecError: It cannot be read.
        """
        if not tag:
            return self.default()
        if self._message is not None:
            if tag != self.tag:
                raise StateCodecError(f"expected {self.tag!r}", codec=tag)
            message: Message = self._message()
            try:
                message.ParseFromString(data)
            except DecodeError as exc:
                raise StateCodecError(str(exc), codec=tag) from exc
            return cast("S", message)
        return self._decode_json(data, tag)

    def _decode_json(self, data: bytes, tag: str) -> S:
        match = _JSON_TAG.fullmatch(tag)
        if match is None:
            raise StateCodecError(f"expected {self.tag!r}", codec=tag)
        version = int(match[1])
        if version > self.version:
            raise NewerStateError(f"this release reads up to version {self.version}", codec=tag)
        assert self._adapter is not None
        try:
            if version == self.version:
                return cast("S", self._adapter.validate_json(data))
            if self.upgrade is None:
                raise StateCodecError(f"version {version} is stored and the handler has no upgrade=", codec=tag)
            return cast("S", self._adapter.validate_python(self.upgrade(json.loads(data), version)))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            raise StateCodecError(first["msg"], field=".".join(str(part) for part in first["loc"]), codec=tag) from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise StateCodecError(f"upgrade from version {version}: {exc!r}", codec=tag) from exc

    def _check_class(self, state: object) -> None:
        """A plain class where another was declared: pydantic's own sentence is about serializer internals."""
        if isinstance(self.kind, type) and not isinstance(state, self.kind) and not _is_typed_dict(self.kind):
            raise StateCodecError(f"expected {self.kind.__name__}, not {type(state).__name__}")


def fingerprint(handler: str, state: object, given: str | bytes | Message | None = None) -> str:
    """A hash over the handler and the request, with the number of its scheme (rule 8).

    Args:
        handler: The handler's name.
        state: Its initial state: hashed in a canonical form, in which keys and sets are sorted.
        given: What to hash instead of the state, where the caller knows better what makes two requests the same.

    Raises:
        StateCodecError: The state has a part that JSON cannot hold.
    """
    source = state if given is None else given
    if isinstance(source, Message):
        body = source.DESCRIPTOR.full_name.encode() + b"\0" + source.SerializeToString(deterministic=True)
    elif isinstance(source, bytes):
        body = source
    elif isinstance(source, str):
        body = source.encode()
    else:
        try:
            body = _canonical(source).encode()
        except pydantic_core.PydanticSerializationError as exc:
            raise StateCodecError(_first_line(exc), field=_offender(source)) from exc
    digest = hashlib.sha256(b"%d:%s\0%s" % (len(handler), handler.encode(), body))
    return f"{FINGERPRINT_SCHEME}:{digest.hexdigest()}"


def pack(message: Message) -> bytes:
    """A message as a serialized ``google.protobuf.Any``. An ``Any`` is taken as it is.

    Raises:
        TypeError: Not a protobuf message.
    """
    if not isinstance(message, Message):
        raise TypeError(f"expected a protobuf message, not {type(message).__name__}")
    if isinstance(message, any_pb2.Any):
        return message.SerializeToString(deterministic=True)
    packed = any_pb2.Any()
    packed.Pack(message, deterministic=True)
    return packed.SerializeToString(deterministic=True)


def unpack(packed: any_pb2.Any, kind: type[M] | M | None = None) -> M | Message:
    """The message inside an ``Any``.

    Args:
        packed: The ``Any``.
        kind: The expected class, or an instance that is filled and returned. None: found by the type URL.

    Raises:
        TypeError: It holds another type.
        LookupError: No ``kind`` was given and the type is not known to this process.
    """
    if kind is None:
        full_name = packed.TypeName()
        try:
            descriptor = descriptor_pool.Default().FindMessageTypeByName(full_name)
        except KeyError as exc:
            raise LookupError(f"message type {full_name!r} is not known here: import its _pb2 module") from exc
        target: Message = message_factory.GetMessageClass(descriptor)()
    else:
        target = kind() if isinstance(kind, type) else kind
    if not packed.Unpack(target):
        raise TypeError(f"expected {target.DESCRIPTOR.full_name}, found {packed.TypeName()!r}")
    return target


def _canonical(value: object) -> str:
    """JSON with sorted keys and sets, whatever the order in which they were filled."""
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(_canonical(item) for item in value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    if isinstance(value, Message):
        return json.dumps(value.SerializeToString(deterministic=True).hex())
    if isinstance(value, Mapping):
        members = sorted((_canonical(key), _canonical(item)) for key, item in value.items())
        return "{" + ",".join(f"{key}:{item}" for key, item in members) + "}"
    fields = _fields(value)
    if fields is not None:
        return _canonical(fields)
    return json.dumps(pydantic_core.to_jsonable_python(value), sort_keys=True, separators=(",", ":"))


def _fields(value: object) -> dict[str, Any] | None:
    """The fields of a dataclass or pydantic model, shallow; None for anything else."""
    if isinstance(value, type):
        return None
    names = getattr(value, "__dataclass_fields__", None) or getattr(type(value), "model_fields", None)
    return None if names is None else {name: getattr(value, name) for name in names}


def _offender(state: object) -> str:
    """The first field that cannot be encoded by itself, as a path; "" where the value has no fields."""
    members = state if isinstance(state, dict) else _fields(state)
    for name, value in (members or {}).items():
        try:
            pydantic_core.to_json(value)
        except (pydantic_core.PydanticSerializationError, ValueError):
            inner = _offender(value)
            return f"{name}.{inner}" if inner else str(name)
    return ""


def _first_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300]


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict)
