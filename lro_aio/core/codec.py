"""Handler state to bytes and back (rule 15): JSON through pydantic, protobuf messages natively, never pickle.

The stored tag is ``json;v=N`` or ``proto:<full name>``; it never names a Python class, so a class can be renamed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import pydantic_core
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import DecodeError, EncodeError, Message
from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError

from lro_aio.core.errors import StateCodecError
from lro_aio.core.fields import defaults, field_names, fields
from lro_aio.core.lossless import Difference, difference
from lro_aio.core.packed import class_of
from lro_aio.core.policies import whole

__all__ = [
    "FINGERPRINT_SCHEME",
    "FORMER_SCHEMES",
    "NewerStateError",
    "StateCodec",
    "fingerprint",
    "location",
    "pack",
    "sentence",
    "unpack",
]

S = TypeVar("S")
M = TypeVar("M", bound=Message)

Upgrade = Callable[[Any, int], Any]
"""Takes a JSON value and the older ``state_version`` that wrote it; returns the value in the present form."""

FINGERPRINT_SCHEME = "2"
"""Changes whenever the canonical form does; a fingerprint of a scheme that is not known counts as equal (rule 8)."""
FORMER_SCHEMES = ("1",)
"""Of rows that earlier releases wrote."""

_JSON_TAG = re.compile(r"json;v=([0-9]+)")

# pydantic's messages quote the value, which clients that read an operation's error should not see.
_UNEXPECTED = re.compile(r"\(Expected (`[^`]*`).*input_type=(\w+)")
_VALUE = re.compile(r"input_value=.*, (?=input_type=)")
_FIELD = re.compile(r"field_name='([^']*)'")

_ARRAYS = (list, tuple, set, frozenset)
_SIMPLE = frozenset({str, int, bool, type(None)})


class NewerStateError(StateCodecError):
    """The state was written by a newer release: a process of that release should run the operation, not this one."""


class StateCodec(Generic[S]):
    """Encodes and decodes one handler's state type.

    Args:
        kind: A type that pydantic knows (dataclass, model, TypedDict, list[int] ...), a protobuf message class, or
            None for a handler that declares no state type: it may keep any JSON value. ``Any`` and ``object`` are None.
        version: Version of the state's JSON form.
        upgrade: Converts a value of an older version to the present one.
        lossless: Whether what does not come back as it was is refused, where no class declares it. False: the type is
            a guess, and a handler that is not known here says what the values become.

    Raises:
        TypeError: pydantic has no schema for the type.
    """

    def __init__(
        self, kind: type[S] | None, *, version: int = 1, upgrade: Upgrade | None = None, lossless: bool = True
    ) -> None:
        self.kind = kind = None if kind in (Any, object) else kind
        self._lossless = lossless or (isinstance(kind, type) and field_names(kind) is not None)
        self.version = whole(version, "state_version")
        self.upgrade = upgrade
        is_message = isinstance(kind, type) and issubclass(kind, Message)
        self._message = cast("type[Message]", kind) if is_message else None
        self._adapter: TypeAdapter[Any] | None = None
        if self._message is None:
            try:
                self._adapter = TypeAdapter(Any if kind is None else kind)
            except (PydanticUserError, PydanticUndefinedAnnotation) as exc:
                raise TypeError(f"{kind!r} cannot be handler state: {sentence(exc)}") from exc

    @property
    def tag(self) -> str:
        """The tag that is stored with the bytes."""
        if self._message is not None:
            return f"proto:{self._message.DESCRIPTOR.full_name}"
        return f"json;v={self.version}"

    def default(self) -> S | None:
        """The state of an operation that was started without one: ``S()``; None without a type, or if it allows None.

        Raises:
            StateCodecError: ``S()`` needs arguments.
        """
        if self.kind is None or self._allows_none:
            return None
        try:
            return self.kind()
        except Exception as exc:  # the user's class: it may raise anything
            name = getattr(self.kind, "__name__", str(self.kind))
            raise StateCodecError(f"no state was given and {name}() fails: {sentence(exc)}") from exc

    def encode(self, state: S | None) -> tuple[bytes, str]:
        """Return ``(bytes, tag)``, once they have been read back: ``decode`` accepts them.

        Raises:
            StateCodecError: The value is not of the type, or has a part that JSON cannot hold. It names the field.
        """
        data, tag = self._serialized(state)
        if tag and self._message is None:
            self._read_back(state, data)
        return data, tag

    def encode_start(self, state: S | None) -> tuple[bytes, str]:
        """As ``encode``, for an operation that begins. None is no state: ``decode`` makes the default each time.

        So the row is the same where the handler is not known. A default that is another each time (an id, the time) is
        stored all the same: it must not change from run to run.

        Raises:
            StateCodecError: As ``encode``; also where no state is given and the type has no default.
        """
        if state is not None:
            return self.encode(state)
        if self.kind is None:
            return b"", ""
        stored = self.encode(self.default())
        return stored if self._serialized(self.default()) != stored else (b"", "")

    def forms(self, state: S | None) -> list[S | None]:
        """The forms of one initial state: as given, and none at all for what a state that is left out becomes."""
        try:
            default = self.default()
            if state is None:
                return [None, default]
            return [state, None] if self._serialized(state) == self._serialized(default) else [state]
        except StateCodecError:
            return [state]

    def changed(self, state: S | None, data: bytes, tag: str) -> bool:
        """Whether a state that was read from ``data`` is another by now. One that ``encode`` would refuse is."""
        try:
            now, before = self._serialized(state), self.decode(data, tag)
            if now != (data, tag) and now != self._serialized(before):
                return True
        except StateCodecError:
            return True
        return self._lossless and self._message is None and self._differs(state, before) is not None

    def _serialized(self, state: S | None) -> tuple[bytes, str]:
        if self._message is not None:
            return self._encode_message(state), self.tag
        if state is None and self.kind is None:
            return b"", ""
        self._check_class(state)
        try:
            return self._dump(state), self.tag
        except Exception as exc:  # serializers and properties of the user's class may raise anything
            raise StateCodecError(sentence(exc), field=self._field_of(state, exc)) from exc

    def _read_back(self, state: S | None, data: bytes) -> None:
        """Better to fail now, while somebody can fix it, than when the operation wakes up in a month."""
        assert self._adapter is not None
        try:
            again = self._adapter.validate_json(data)
        except Exception as exc:  # validators of the user's class may raise anything
            raise StateCodecError(f"it could not be read back: {sentence(exc)}", field=location(exc)) from exc
        if self._lossless and (found := self._differs(state, again)) is not None:
            raise StateCodecError(found.problem, field=found.path)

    def _differs(self, state: S | None, read: S | None) -> Difference | None:
        return difference(state, read, base=isinstance(self.kind, type))

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
        if version < self.version:
            data = self._upgraded(data, version, tag)
        assert self._adapter is not None
        try:
            return cast("S", self._adapter.validate_json(data))
        except Exception as exc:  # validators of the user's class may raise anything
            raise StateCodecError(sentence(exc), field=location(exc), codec=tag) from exc

    def _upgraded(self, data: bytes, version: int, tag: str) -> bytes:
        if self.upgrade is None:
            raise StateCodecError(f"version {version} is stored and the handler has no upgrade=", codec=tag)
        try:
            # As JSON again, so that a strict model reads it by the same rules as what this release wrote.
            return pydantic_core.to_json(self.upgrade(json.loads(data), version), inf_nan_mode="constants")
        except Exception as exc:  # the user's function; its text may not be meant for clients
            raise StateCodecError(f"upgrade from version {version} raised {type(exc).__name__}", codec=tag) from exc

    def _encode_message(self, state: S | None) -> bytes:
        assert self._message is not None
        if not isinstance(state, self._message):
            raise StateCodecError(f"expected {self._message.DESCRIPTOR.full_name}, not {type(state).__name__}")
        try:
            return cast("Message", state).SerializeToString(deterministic=True)
        except EncodeError as exc:
            raise StateCodecError(str(exc)) from exc

    def _dump(self, state: S | None) -> bytes:
        assert self._adapter is not None
        data = self._adapter.dump_json(state, warnings="error", by_alias=True, round_trip=True)
        if b"null" in data:
            # JSON has no NaN and no infinity: pydantic writes null, which is another state. It can read their names.
            exact = self._adapter.dump_python(state, by_alias=True, round_trip=True)
            if _has_non_finite(exact):
                plain = self._adapter.dump_python(state, mode="json", by_alias=True, round_trip=True)
                return json.dumps(_grafted(plain, exact), ensure_ascii=False, separators=(",", ":")).encode()
        return data

    @functools.cached_property
    def _allows_none(self) -> bool:
        """Whether the type is no class that could be called, and None is one of its values: ``S | None``."""
        if self._adapter is None or isinstance(self.kind, type):
            return False
        try:
            return self._adapter.validate_python(None) is None
        except Exception:  # noqa: BLE001 (validators of the user's class may raise anything)
            return False

    def _check_class(self, state: object) -> None:
        """Refuse an instance of another class: pydantic's own message would be about serializer internals."""
        kind = self.kind
        if not isinstance(kind, type) or issubclass(kind, dict):  # a TypedDict is a dict, and knows no instances
            return
        if not isinstance(state, kind) and not (kind is float and isinstance(state, int)):
            raise StateCodecError(f"expected {kind.__name__}, not {type(state).__name__}")
        declared = field_names(kind)
        extra = [] if declared is None else [name for name in field_names(type(state)) or () if name not in declared]
        if extra:
            problem = f"expected {kind.__name__}; {type(state).__name__} has more fields, which would be lost"
            raise StateCodecError(problem, field=extra[0])

    def _field_of(self, state: object, exc: Exception) -> str:
        """The field that made ``_dump`` raise ``exc``; "" where it cannot be told."""
        assert self._adapter is not None
        path = _offender(state)
        if not path:
            try:
                self._adapter.validate_json(
                    self._adapter.dump_json(state, warnings=False, by_alias=True, round_trip=True)
                )
            except Exception as second:  # noqa: BLE001 (read for its field only; the first error is reported)
                path = location(second)
        if not path and (match := _FIELD.search(str(exc))):
            path = match[1]
        return path


def fingerprint(
    handler: str,
    state: object,
    given: str | bytes | Message | None = None,
    *,
    scheme: str = FINGERPRINT_SCHEME,
) -> str:
    """A hash over the handler and the request, with the number of its scheme (rule 8).

    Args:
        handler: The handler's name.
        state: Its initial state: hashed in a canonical form, in which keys and sets are sorted.
        given: What to hash instead of the state, where the caller knows better what makes two requests the same.
        scheme: One of ``FORMER_SCHEMES``, to be compared with what an earlier release stored.

    Raises:
        StateCodecError: Part of the state has no canonical form: pass ``given``.
    """
    source = state if given is None else given
    if isinstance(source, Message):
        body = source.DESCRIPTOR.full_name.encode() + b"\0" + source.SerializeToString(deterministic=True)
    elif isinstance(source, bytes):
        body = source
    elif isinstance(source, str):
        body = source.encode()
    else:
        canonical = _canonical_1 if scheme == "1" else _canonical
        try:
            body = canonical(source).encode()
        except (ValueError, RecursionError) as exc:
            problem = f"no canonical form: {sentence(exc)}; pass fingerprint= to say what makes two requests the same"
            raise StateCodecError(problem, field=_offender(source)) from exc
    digest = hashlib.sha256(b"%d:%s\0%s" % (len(handler), handler.encode(), body))
    return f"{scheme}:{digest.hexdigest()}"


def pack(message: Message) -> bytes:
    """A message as a serialized ``google.protobuf.Any``. An ``Any`` is not wrapped again.

    Raises:
        TypeError: Not a protobuf message.
        ValueError: A required field (proto2) is not set.
    """
    if not isinstance(message, Message):
        raise TypeError(f"expected a protobuf message, not {type(message).__name__}")
    if isinstance(message, any_pb2.Any):
        return message.SerializeToString(deterministic=True)
    try:
        data = message.SerializeToString(deterministic=True)
    except EncodeError as exc:
        raise ValueError(str(exc)) from exc
    type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
    return any_pb2.Any(type_url=type_url, value=data).SerializeToString(deterministic=True)


def unpack(packed: any_pb2.Any, kind: type[M] | M | None = None) -> M | Message:
    """The message inside an ``Any``.

    Args:
        packed: The ``Any``. One that holds nothing is a ``google.protobuf.Empty``: an operation that ended with
            neither a response nor an error.
        kind: The expected class, or an instance that is filled and returned. None: found by the type URL.

    Raises:
        TypeError: It holds another type.
        LookupError: No ``kind`` was given and the type is not known to this process.
    """
    if not packed.type_url and (kind is None or _is_empty(kind)):
        return empty_pb2.Empty() if kind is None or isinstance(kind, type) else kind
    if kind is None:
        kind = cast("type[M]", class_of(packed))
    target = kind() if isinstance(kind, type) else kind
    if not packed.Unpack(target):
        found = repr(packed.TypeName()) if packed.type_url else "nothing"
        raise TypeError(f"expected {target.DESCRIPTOR.full_name}, found {found}")
    return target


def _is_empty(kind: type[Message] | Message) -> bool:
    return kind.DESCRIPTOR.full_name == empty_pb2.Empty.DESCRIPTOR.full_name


def _canonical(value: object) -> str:
    """JSON with sorted keys and sets, without the fields that have their default.

    So a release that adds a field with a default finds what an earlier one started. Fixed by scheme 2: another form
    needs another ``FINGERPRINT_SCHEME``.
    """
    members = None if type(value) in _SIMPLE else fields(value)
    if members is None:
        return _plain(value, _canonical)
    kind: Any = type(value)
    left_out = defaults(kind)
    told = {name: _canonical(item) for name, item in members.items()}
    kept = {name: item for name, item in told.items() if name not in left_out or item != _default(left_out[name])}
    return "{" + ",".join(f"{json.dumps(name)}:{item}" for name, item in sorted(kept.items())) + "}"


def _default(make: Callable[[], Any]) -> str | None:
    """The canonical form of a default; None where there is none to compare with."""
    try:
        return _canonical(make())
    except Exception:  # noqa: BLE001 (a factory of the user's class may raise anything: then the field counts)
        return None


def _canonical_1(value: object) -> str:
    """JSON with sorted keys and sets, whatever the order in which they were filled. Fixed by scheme 1."""
    members = None if isinstance(value, tuple) else fields(value)
    return _plain(value if members is None else members, _canonical_1)


def _plain(value: object, canonical: Callable[[object], str]) -> str:
    """What both schemes have in common: all but the instances of classes with fields."""
    if isinstance(value, str) or type(value) in _SIMPLE:
        return json.dumps(value)
    if isinstance(value, bytes | bytearray):
        return json.dumps(value.hex())
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(canonical(item) for item in value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, Message):
        return json.dumps(value.SerializeToString(deterministic=True).hex())
    if isinstance(value, Mapping):
        members = sorted((canonical(key), canonical(item)) for key, item in value.items())
        return "{" + ",".join(f"{key}:{item}" for key, item in members) + "}"
    return json.dumps(pydantic_core.to_jsonable_python(value), sort_keys=True, separators=(",", ":"))


def _offender(state: object, depth: int = 0) -> str:
    """The first part that cannot be encoded by itself, as a path; "" where the value has no parts."""
    members: Mapping[Any, Any] | None = state if isinstance(state, dict) else fields(state)
    if isinstance(state, list | tuple):
        members = dict(enumerate(state))
    for name, value in (members or {}).items():
        try:
            pydantic_core.to_json(value)
        except Exception:  # noqa: BLE001 (that it cannot be encoded is all that is asked)
            inner = _offender(value, depth + 1) if depth < 8 else ""
            return f"{name}.{inner}" if inner else str(name)
    return ""


def _has_non_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.values()))
    return isinstance(value, _ARRAYS) and any(map(_has_non_finite, value))


def _grafted(plain: Any, exact: Any) -> Any:
    """``plain``, the JSON form, with the floats of ``exact``, the Python form, that became None on the way."""
    if plain is None and isinstance(exact, float):
        return exact
    if isinstance(plain, dict) and isinstance(exact, dict) and len(plain) == len(exact):
        return {key: _grafted(item, other) for (key, item), other in zip(plain.items(), exact.values(), strict=True)}
    if isinstance(plain, list) and isinstance(exact, _ARRAYS) and len(plain) == len(exact):
        return [_grafted(item, other) for item, other in zip(plain, exact, strict=True)]
    return plain


def location(exc: Exception) -> str:
    """The field that a validation refused; "" for another exception."""
    if not isinstance(exc, ValidationError):
        return ""
    return ".".join(str(part) for part in exc.errors(include_url=False)[0]["loc"])


def sentence(exc: Exception) -> str:
    """One line about an exception, without the values that pydantic quotes."""
    if isinstance(exc, ValidationError):
        return str(exc.errors(include_url=False)[0]["msg"])
    text = " ".join(str(exc).split())
    if isinstance(exc, pydantic_core.PydanticSerializationError) and (match := _UNEXPECTED.search(text)):
        return f"expected {match[1]}, not {match[2]}"
    return _VALUE.sub("", text)[:300] or type(exc).__name__
