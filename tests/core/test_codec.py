"""State to bytes and back, fingerprints, and messages in ``Any``: what goes in comes out, or fails at the call."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import json
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import hypothesis.strategies as st
import pydantic
import pytest
from google.protobuf import any_pb2, descriptor_pb2, empty_pb2, struct_pb2, timestamp_pb2
from hypothesis import given, settings
from typing_extensions import TypedDict

from lro_aio.core.codec import (
    FINGERPRINT_SCHEME,
    FORMER_SCHEMES,
    NewerStateError,
    StateCodec,
    fingerprint,
    pack,
    unpack,
)
from lro_aio.core.errors import StateCodecError


class Colour(enum.Enum):
    RED = "red"


class Loud(enum.StrEnum):
    HEY = "hey"


@dataclasses.dataclass
class Page:
    number: int = 0
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Report:
    pages: list[Page] = dataclasses.field(default_factory=list)
    best: float = 0.0
    maybe: float | None = None
    when: dt.datetime | None = None
    colour: Colour = Colour.RED
    anything: Any = None
    positive: Annotated[int, pydantic.Field(gt=0)] = 1


@dataclasses.dataclass
class LongReport(Report):
    more: int = 1


class Model(pydantic.BaseModel):
    size: int = pydantic.Field(alias="sizeInBytes")
    name: str = "n"

    @pydantic.computed_field  # type: ignore[prop-decorator]  # pydantic's own order of the two
    @property
    def double(self) -> int:
        return 2 * self.size


class Closed(pydantic.BaseModel, extra="forbid", strict=True):
    day: dt.date = dt.date(2026, 1, 1)
    pair: tuple[int, int] = (1, 2)

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def weekday(self) -> int:
        return self.day.weekday()


class Open(pydantic.BaseModel, extra="allow"):
    a: int = 1


class Dict(TypedDict):
    a: int
    b: list[str]


class Add(pydantic.BaseModel):
    kind: Literal["add"] = "add"
    count: int = 1


class Remove(pydantic.BaseModel):
    kind: Literal["remove"] = "remove"
    count: int = 1


@dataclasses.dataclass
class Tagged:
    what: Add | Remove


class Spot(NamedTuple):
    x: int
    y: int = 0


class Undefined:
    pass


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Report, Report([Page(1, {"x", "y"})], 1.5, None, dt.datetime(2026, 1, 2, tzinfo=dt.UTC))),
        (Model, Model(sizeInBytes=3)),
        (Closed, Closed(day=dt.date(2025, 5, 5))),
        (Open, Open(a=2, b="extra")),
        (Dict, {"a": 1, "b": ["ü"]}),
        (list[int], [1, 2, 3]),
        (dict[str, int], {"a": 1}),
        (int | None, None),
        (float, 3),
        (str, "null"),
        (Colour, Colour.RED),
        (None, {"any": ["json", 1, None, True]}),
        (None, None),
        (struct_pb2.Value, struct_pb2.Value(string_value="x")),
        (timestamp_pb2.Timestamp, timestamp_pb2.Timestamp(seconds=5)),
    ],
    ids=lambda v: getattr(v, "__name__", type(v).__name__),
)
def test_what_goes_in_comes_out(kind: Any, value: Any) -> None:
    codec: StateCodec[Any] = StateCodec(kind)
    data, tag = codec.encode(value)
    assert isinstance(data, bytes)
    again = codec.decode(data, tag)
    assert again == value


@pytest.mark.parametrize("kind", [Report, Model, Dict, list[int], None])
def test_the_tag_names_no_python_class(kind: Any) -> None:
    assert StateCodec(kind, version=7).tag == "json;v=7"


def test_the_tag_of_a_message_is_its_full_name() -> None:
    assert StateCodec(struct_pb2.Value).tag == "proto:google.protobuf.Value"


def test_a_class_can_be_renamed() -> None:
    data, tag = StateCodec(Page).encode(Page(3, {"a"}))
    renamed = dataclasses.make_dataclass("Sheet", [("number", int), ("tags", set[str])])
    again = StateCodec(renamed).decode(data, tag)
    assert (again.number, again.tags) == (3, {"a"})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("field", ["best", "maybe", "anything"])
def test_a_float_that_json_does_not_know_comes_back_as_it_was(field: str, value: float) -> None:
    """pydantic writes null for it, which another float field refuses and an optional one takes for None."""
    codec = StateCodec(Report)
    state = Report([Page(1)], **{field: value})  # type: ignore[arg-type]
    again = codec.decode(*codec.encode(state))
    assert again is not None
    assert str(getattr(again, field)) == str(value)
    assert again.pages == state.pages


def test_a_float_that_json_does_not_know_comes_back_without_a_type() -> None:
    codec = StateCodec(None)
    assert codec.decode(*codec.encode({"a": [math.inf, None]})) == {"a": [math.inf, None]}  # type: ignore[arg-type]


floats = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json_values)
@settings(max_examples=100, deadline=None)
def test_every_json_value_comes_out_as_it_was(value: Any) -> None:
    codec: StateCodec[Any] = StateCodec(None)
    assert repr(codec.decode(*codec.encode(value))) == repr(value)


@given(json_values, st.integers(), floats)
@settings(max_examples=60, deadline=None)
def test_whatever_is_encoded_can_be_decoded(anything: Any, positive: int, best: float) -> None:
    codec = StateCodec(Report)
    try:
        data, tag = codec.encode(Report(best=best, positive=positive, anything=anything))
    except StateCodecError as exc:
        refused = exc
    else:
        assert codec.decode(data, tag) is not None
        return
    assert positive <= 0
    assert refused.field == "positive"


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        (Report, Report(best="much"), "best"),  # type: ignore[arg-type]
        (Report, Report(pages=[Page(1), Page("two")]), "pages.1.number"),  # type: ignore[arg-type]
        (Report, Report(anything=object()), "anything"),
        (Report, Report(pages=[Page(tags={object()})]), "pages.0.tags"),  # type: ignore[arg-type]
        (Report, Report(anything={"deep": [b"\xff"]}), "anything.deep.0"),
        (Report, Report(anything="\udcff"), "anything"),
        (Report, Report(positive=0), "positive"),
        (Report, LongReport(), "more"),
        (Dict, {"a": 1}, "b"),
        (Dict, {"a": "x", "b": []}, "a"),
        (None, {"a": {1, object()}}, "a"),
        (list[int], [1, "x"], "1"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in every process
)
def test_what_cannot_be_encoded_fails_at_the_call_and_names_the_field(kind: Any, value: Any, field: str) -> None:
    with pytest.raises(StateCodecError) as caught:
        StateCodec(kind).encode(value)
    assert caught.value.field == field
    assert f"(field {field!r})" in str(caught.value)


class Hidden(pydantic.BaseModel):
    shown: int = 1
    hidden: str = pydantic.Field("default", exclude=True)


@dataclasses.dataclass
class LongPage(Page):
    dpi: int = 300


class LoudPage(Page):
    """No field more, but another class."""


@dataclasses.dataclass
class Sheet:
    number: int = 0
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Uncompared:
    pages: list[Page | Sheet] = dataclasses.field(default_factory=list)
    best: Colour | str = ""
    when: str | dt.datetime = ""
    secret: pydantic.SecretStr | None = None
    note: Annotated[float, pydantic.PlainSerializer(lambda value: round(value, 1))] = dataclasses.field(
        default=0.0, compare=False
    )


@dataclasses.dataclass
class Summed:
    parts: list[int]

    def __post_init__(self) -> None:
        self.first = self.parts[0]

    @functools.cached_property
    def total(self) -> int:
        return sum(self.parts)


def with_attribute(value: Any, name: str, attribute: Any) -> Any:
    setattr(value, name, attribute)
    return value


NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "value", "field", "problem"),
    [
        (Report, Report([Page(), LongPage()]), "pages.1.dpi", "LongPage would be read back as Page, without this"),
        (Report, Report([LoudPage()]), "pages.0", "LoudPage would be read back as Page"),
        (list[Page], [LongPage()], "0.dpi", "LongPage would"),
        (dict[str, list[Page]], {"a": [LongPage()]}, "a.0.dpi", "LongPage would"),
        (Hidden, Hidden(hidden="x"), "hidden", "str would be read back with another value"),
        (list[Hidden], [Hidden(), Hidden(hidden="x")], "1.hidden", "another value"),
        (Uncompared, Uncompared(pages=[Page(1), Sheet(1)]), "pages.1", "Sheet would be read back as Page"),
        (Uncompared, Uncompared(best=Colour.RED), "best", "Colour would be read back as str"),
        (Uncompared, Uncompared(when=NOON), "when", "datetime would be read back as str"),
        (Uncompared, Uncompared(secret=pydantic.SecretStr("hunter2")), "secret", "SecretStr would"),
        (Uncompared, Uncompared(note=0.25), "note", "float would be read back with another value"),
        (Page, with_attribute(Page(1), "nummer", 2), "nummer", "Page has no such field"),
        (Page | Sheet, Sheet(1), "", "Sheet would be read back as Page"),
        (Any, {"at": NOON}, "at", "datetime would be read back as str"),
        (dict, {"deep": [1, {"seen": {1}}]}, "deep.1.seen", "set would be read back as list"),
        (None, {1: "a"}, "1", "it would not be read back"),
        (None, [Page()], "0", "Page would be read back as dict"),
        (uuid.UUID | str, "0d9f7e43-0bb1-4f6b-9a3e-6f2f5a7f3c11", "", "str would be read back as UUID"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in every process
)
def test_what_would_be_lost_in_silence_is_refused_and_names_the_field(
    kind: Any, value: Any, field: str, problem: str
) -> None:
    with pytest.raises(StateCodecError, match=problem) as caught:
        StateCodec(kind).encode(value)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)


class Opaque:
    """As a library's type may be: it says how it is stored, and not when two are equal."""

    def __init__(self, text: str) -> None:
        self.text = text


class Unequal(Opaque):
    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def stored_as_text(kind: type[Opaque]) -> Any:
    read = pydantic.PlainValidator(lambda value: value if isinstance(value, kind) else kind(value))
    return Annotated[kind, read, pydantic.PlainSerializer(lambda value: value.text)]


class Cache(pydantic.BaseModel):
    a: int = 1
    _seen: int = pydantic.PrivateAttr(0)

    def look(self) -> Cache:
        self._seen += 1
        return self


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Page, LoudPage(3)),
        (list[float], [1, 2.5, math.nan, -0.0]),
        (Sequence[int], (1, 2)),
        (None, {"pair": (1, [2, (3,)]), "nan": math.nan}),
        (list[str], [Loud.HEY]),
        (dict[str, int], collections.Counter("aab")),
        (dict[int, Page], {1: Page(1)}),
        (frozenset[int], frozenset({1, 2})),
        (Decimal, Decimal("1.10")),
        (stored_as_text(Opaque), Opaque("x")),
        (list[stored_as_text(Unequal)], [Unequal("x")]),  # type: ignore[misc]
        (Hidden, Hidden(shown=2)),
        (Cache, Cache().look()),
        (Summed, with_attribute(Summed([1, 2]), "_seen", 1)),
        (Summed, with_attribute(Summed([1, 2]), "total", 3)),  # as the cache itself does
        (Spot, Spot(1, 2)),
        (Open, Open(a=2, b=[1, {"c": 2}])),  # type: ignore[call-arg]
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in every process
)
def test_what_comes_back_well_enough_is_accepted(kind: Any, value: Any) -> None:
    codec = StateCodec(kind)
    assert codec.decode(*codec.encode(value)) is not None


def test_where_the_type_is_a_guess_only_classes_with_fields_are_held_to_it() -> None:
    """A front end's dict is what the handler makes of it, elsewhere."""
    for value in ({"at": NOON, 1: "a"}, [NOON], {Colour.RED}):
        StateCodec(type(value), lossless=False).encode(value)
    with pytest.raises(StateCodecError, match="LongPage"):
        StateCodec(Report, lossless=False).encode(Report([LongPage()]))


@pytest.mark.parametrize("kind", [Any, object, None])
def test_any_is_no_type(kind: Any) -> None:
    codec = StateCodec(kind)
    assert codec.default() is None
    assert codec.decode(*codec.encode({"a": [1]})) == {"a": [1]}
    assert codec.encode(None) == codec.encode_start(None) == (b"", "")


@pytest.mark.parametrize("kind", [Page | None, Model | None, Annotated[int | None, pydantic.Field(gt=0)]])
def test_a_state_that_may_be_none_is_none_where_none_is_given(kind: Any) -> None:
    codec = StateCodec(kind)
    assert codec.default() is None
    assert codec.encode_start(None) == (b"", "")
    assert codec.decode(*codec.encode(None)) is None


@dataclasses.dataclass
class Fresh:
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)


def test_no_state_is_stored_as_none_unless_its_default_is_another_each_time() -> None:
    assert StateCodec(Report).encode_start(None) == (b"", "")
    assert StateCodec(struct_pb2.Value).encode_start(None) == (b"", "")
    codec = StateCodec(Fresh)
    stored = codec.encode_start(None)
    assert codec.decode(*stored) == codec.decode(*stored)
    with pytest.raises(StateCodecError, match="no state was given"):
        StateCodec(Model).encode_start(None)


@pytest.mark.parametrize("stored", [(b'{"number":1}', "json;v=1"), (b"", "")])
def test_a_state_that_was_only_read_is_not_changed(stored: tuple[bytes, str]) -> None:
    """Also where this release would write it in another form."""
    codec = StateCodec(Page)
    state = codec.decode(*stored)
    assert state is not None
    assert not codec.changed(state, *stored)
    state.tags.add("a")
    assert codec.changed(state, *stored)
    assert codec.changed(None, *stored)


def test_what_would_be_lost_is_a_change_although_the_same_would_be_stored() -> None:
    codec = StateCodec(Report)
    stored = codec.encode(Report([Page(1)]))
    for lossy in (Report([LongPage(1, dpi=72)]), with_attribute(Report([Page(1)]), "bset", 1.0)):
        assert codec.changed(lossy, *stored)
    assert not codec.changed(Report([Page(1)]), *stored)


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), ([1], [1.0]), ({"a": None}, {})])
def test_every_change_of_what_is_stored_is_a_change(before: Any, after: Any) -> None:
    codec = StateCodec(None)
    assert codec.changed(after, *codec.encode(before))


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (Report, Page(), "expected Report, not Page"),
        (Report, None, "expected Report, not NoneType"),
        (Report, {"best": 1.0}, "expected Report, not dict"),
        (struct_pb2.Value, timestamp_pb2.Timestamp(), "expected google.protobuf.Value, not Timestamp"),
        (struct_pb2.Value, None, "expected google.protobuf.Value, not NoneType"),
        (Dict, [1], "expected"),
        (descriptor_pb2.UninterpretedOption.NamePart, descriptor_pb2.UninterpretedOption.NamePart(), "required"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in every process
)
def test_the_wrong_class_is_named(kind: Any, value: Any, sentence: str) -> None:
    with pytest.raises(StateCodecError, match=sentence):
        StateCodec(kind).encode(value)


def test_a_circle_cannot_be_encoded() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(StateCodecError, match="Circular"):
        StateCodec(None).encode(circle)  # type: ignore[arg-type]
    with pytest.raises(StateCodecError, match="recursion"):
        fingerprint("h", circle)


def test_the_error_does_not_show_the_value() -> None:
    """It ends up in the operation's error, which clients read."""
    with pytest.raises(StateCodecError) as caught:
        StateCodec(Report).encode(Report(best="hunter2"))  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
    assert "expected `float`, not str" in str(caught.value)
    with pytest.raises(StateCodecError) as caught:
        StateCodec(Report).decode(b'{"best": "hunter2"}', "json;v=1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", [list["Nowhere"], object, type("Plain", (), {})], ids=["list", "object", "plain"])  # type: ignore[name-defined]  # noqa: F821
def test_a_type_that_can_never_be_state_is_refused_when_it_is_declared_or_used(kind: Any) -> None:
    with pytest.raises((TypeError, StateCodecError)):
        StateCodec(kind).encode(kind())


def test_a_class_without_a_schema_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot be handler state"):
        StateCodec(Undefined)


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "1"])
def test_a_version_is_a_whole_number_from_one(version: Any) -> None:
    with pytest.raises(ValueError, match="state_version must be a whole number"):
        StateCodec(Report, version=version)


def test_an_operation_started_without_state_gets_the_default() -> None:
    assert StateCodec(Report).decode(b"", "") == Report()
    assert StateCodec(list[int]).default() == []
    assert StateCodec(struct_pb2.Value).default() == struct_pb2.Value()
    assert StateCodec(None).decode(b"", "") is None
    assert StateCodec(None).encode(None) == (b"", "")


@pytest.mark.parametrize(
    "kind", [Model, dataclasses.make_dataclass("Needs", [("x", int)]), int | str], ids=["model", "needs", "union"]
)
def test_a_state_that_needs_arguments_has_no_default(kind: Any) -> None:
    with pytest.raises(StateCodecError, match="no state was given"):
        StateCodec(kind).default()


def test_an_older_form_is_brought_forward_by_upgrade() -> None:
    seen: list[tuple[Any, int]] = []

    def upgrade(old: Any, version: int) -> Any:
        seen.append((dict(old), version))
        return {"number": old["no"], "tags": old.get("tags", [])}

    codec = StateCodec(Page, version=3, upgrade=upgrade)
    assert codec.decode(b'{"no": 5, "tags": ["a"]}', "json;v=1") == Page(5, {"a"})
    assert codec.decode(b'{"no": 6}', "json;v=2") == Page(6)
    assert codec.decode(*codec.encode(Page(7))) == Page(7)
    assert seen == [({"no": 5, "tags": ["a"]}, 1), ({"no": 6}, 2)]


def test_upgrade_is_read_by_the_rules_of_json() -> None:
    """A strict model takes a date as text and a tuple as an array from JSON, and neither from Python values."""
    codec = StateCodec(Closed, version=2, upgrade=lambda old, _: {"day": old["d"], "pair": [3, 4]})
    assert codec.decode(b'{"d": "2025-05-05"}', "json;v=1") == Closed(day=dt.date(2025, 5, 5), pair=(3, 4))


def test_an_older_form_without_upgrade_is_an_error() -> None:
    with pytest.raises(StateCodecError, match="version 1 is stored and the handler has no upgrade=") as caught:
        StateCodec(Page, version=2).decode(b"{}", "json;v=1")
    assert caught.value.codec == "json;v=1"
    assert not isinstance(caught.value, NewerStateError)


@pytest.mark.parametrize("error", [KeyError("hunter2"), ZeroDivisionError("hunter2"), RuntimeError("hunter2")])
def test_an_upgrade_that_raises_is_an_error_without_its_text(error: Exception) -> None:
    def upgrade(old: Any, version: int) -> Any:
        raise error

    with pytest.raises(StateCodecError, match=f"upgrade from version 1 raised {type(error).__name__}") as caught:
        StateCodec(Page, version=2, upgrade=upgrade).decode(b"{}", "json;v=1")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_newer_form_is_for_a_newer_process() -> None:
    codec = StateCodec(Page, version=2, upgrade=lambda old, _: old)
    with pytest.raises(NewerStateError, match="this release reads up to version 2"):
        codec.decode(b"{}", "json;v=3")


@pytest.mark.parametrize(
    ("kind", "data", "tag"),
    [
        (Page, b'{"number": "x"}', "json;v=1"),
        (Page, b'{"number":', "json;v=1"),
        (Page, b"\xff", "json;v=1"),
        (Page, b"", "json;v=1"),
        (Page, b"{}", "proto:google.protobuf.Value"),
        (Page, b"{}", "pickle"),
        (Page, b"{}", "json;v=\u0661"),
        (struct_pb2.Value, b"\xff\xff", "proto:google.protobuf.Value"),
        (struct_pb2.Value, b"", "proto:google.protobuf.Struct"),
        (struct_pb2.Value, b"{}", "json;v=1"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in every process
)
def test_what_cannot_be_decoded_is_an_error_with_the_stored_tag(kind: Any, data: bytes, tag: str) -> None:
    with pytest.raises(StateCodecError) as caught:
        StateCodec(kind).decode(data, tag)
    assert caught.value.codec == tag
    assert not isinstance(caught.value, NewerStateError)


def test_an_undecodable_field_is_named() -> None:
    with pytest.raises(StateCodecError) as caught:
        StateCodec(Report).decode(b'{"pages": [{"number": 1}, {"number": "x"}]}', "json;v=1")
    assert caught.value.field == "pages.1.number"


# -- fingerprints ---------------------------------------------------------------------------------------------------

# sha256(f"{len(handler)}:{handler}\\0" + body); the body is in the comment.
GOLDEN: dict[str, tuple[Any, ...]] = {
    # the body null
    "0a1da2b7819c7b9bdc41615d165e0c5e67ff57224b2cb105a195f9cb891a2c96": ("copy", None),
    # the body {"from":"a","n":1,"to":["b",true,1.5]}
    "f6a5fc7cc10673b7a71c624d429573ce30e2fdbef75f306b6619590fbe055ac3": (
        "copy", {"to": ["b", True, 1.5], "from": "a", "n": 1},
    ),
    # the body {"number":7,"tags":{"a","b"}}
    "1d7608db01cb88dbaaaa0e5784da0d85cb3d6ca49dc50397616c880167940782": ("copy", Page(7, {"b", "a"})),
    # the body {"b":"00ff","m":"1a0178","when":"2026-01-02T00:00:00Z"}
    "a5501b7e521eaa86b571a045e7664ebfe5658fe95a20ce5467377b387225b923": (
        "copy",
        {
            "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            "b": b"\x00\xff",
            "m": struct_pb2.Value(string_value="x"),
        },
    ),
    # google.protobuf.Value, \0 and the serialized message
    "711a210d6ef062af8d1dc6f8eeb5529a3f775abf58ab4c01bedf1806ff9d6295": ("copy", struct_pb2.Value(string_value="x")),
    # the given text in UTF-8; the given bytes
    "183433457453c34fc908b9411de970ac350e8e3c4771034cdb4b47b1d2cc3587": ("copy", {"ignored": 1}, "ü"),
    "951019a8ee572859a1672cafa194c3d31511e4ee3f81e36ab82be1f5fb7a7995": ("copy", {"ignored": 1}, b"\x00\xff"),
}  # fmt: skip


@pytest.mark.parametrize("expected", GOLDEN)
def test_neither_scheme_ever_changes(expected: str) -> None:
    """A repeat that comes after a deploy must find its operation: another form needs another scheme number."""
    assert (FINGERPRINT_SCHEME, FORMER_SCHEMES) == ("2", ("1",))
    assert fingerprint(*GOLDEN[expected], scheme="1") == f"1:{expected}"
    assert fingerprint(*GOLDEN[expected]) == f"2:{expected}"


class Shape(pydantic.BaseModel):
    kind: Literal["shape"] = "shape"
    corners: int = 4
    size: Annotated[int, pydantic.Field(gt=0)] = 1
    made: list[Page] = pydantic.Field(default_factory=list)


# As above. What has its default is left out by scheme 2 and stands in the body of scheme 1.
DEFAULTS: list[tuple[Any, str, str]] = [
    (Page(), '{"number":0,"tags":{}}', "{}"),
    ([Page(1), Page()], '[{"number":1,"tags":{}},{"number":0,"tags":{}}]', '[{"number":1},{}]'),
    (Shape(size=2), '{"corners":4,"kind":"shape","made":[],"size":2}', '{"kind":"shape","size":2}'),
    ({"a": Spot(0)}, '{"a":[0,0]}', '{"a":{"x":0}}'),
    (Open(b=1), '{"a":1,"b":1}', '{"b":1}'),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(("state", "first", "second"), DEFAULTS, ids=str)
def test_scheme_2_leaves_out_what_has_its_default(state: Any, first: str, second: str) -> None:
    for scheme, body in (("1", first), ("2", second)):
        assert fingerprint("h", state, scheme=scheme) == fingerprint("h", None, body, scheme=scheme)


def test_a_release_that_adds_fields_with_defaults_makes_the_same_request() -> None:
    later = dataclasses.make_dataclass(
        "Later", [("number", int, 0), ("tags", set[str], dataclasses.field(default_factory=set)), ("dpi", int, 300)]
    )
    assert fingerprint("h", Page(3)) == fingerprint("h", later(3)) != fingerprint("h", later(3, dpi=72))
    report = dataclasses.make_dataclass("R", [("pages", list[Any])])
    assert fingerprint("h", report([Page(1)])) == fingerprint("h", report([later(1)]))


def test_a_default_that_is_another_each_time_or_none_at_all_counts() -> None:
    @dataclasses.dataclass
    class Odd:
        id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)
        best: float = 0.0
        flag: Any = dataclasses.field(default_factory=lambda: 1 // 0)

    one = uuid.uuid4()
    assert fingerprint("h", Odd(one, flag=1)) != fingerprint("h", Odd(uuid.uuid4(), flag=1))
    assert fingerprint("h", Odd(one, flag=1)) == fingerprint("h", Odd(one, flag=1))
    assert fingerprint("h", Odd(one, False, 1)) != fingerprint("h", Odd(one, 0.0, 1))


def test_order_of_keys_and_sets_does_not_count() -> None:
    assert fingerprint("h", {"a": 1, "b": {"x", "y", "z"}}) == fingerprint("h", {"b": {"z", "x", "y"}, "a": 1})
    assert fingerprint("h", Report([Page(tags={"a", "b"})])) == fingerprint("h", Report([Page(tags={"b", "a"})]))


def test_a_set_has_the_same_fingerprint_in_every_process() -> None:
    code = "from lro_aio.core.codec import fingerprint; print(fingerprint('h', {'k': set('abcdefgh')}))"
    command = [sys.executable, "-c", code]
    ran = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert ran[0] == ran[1]
    assert ran[0].strip() == fingerprint("h", {"k": set("abcdefgh")})


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Tagged(what=Add()), Tagged(what=Remove())),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ({1: "a"}, {"1": "a"}),
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
        ({"a": None}, {}),
        ({"a": "\udcfe"}, {"a": "\udcff"}),
        ({"a": b"\x00"}, {"a": b"\xff"}),
        (Report(best=1.0), Report(best=2.0)),
        (Open(a=1, b=1), Open(a=1, b=2)),  # type: ignore[call-arg]
        (struct_pb2.Value(number_value=1), struct_pb2.Value(number_value=2)),
        (struct_pb2.Value(), empty_pb2.Empty()),
        ([struct_pb2.Value(number_value=1)], [struct_pb2.Value(number_value=2)]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in every process
)
def test_different_requests_have_different_fingerprints(left: Any, right: Any) -> None:
    assert fingerprint("h", left) != fingerprint("h", right)


def test_the_handler_counts_and_runs_into_nothing() -> None:
    assert fingerprint("h", "s") != fingerprint("i", "s")
    assert fingerprint("a", None, "bc") != fingerprint("ab", None, "c")
    assert fingerprint("a", None, "\0b") != fingerprint("a\0", None, "b")


def test_what_is_given_counts_instead_of_the_state() -> None:
    assert fingerprint("h", 1, "x") == fingerprint("h", 2, "x") == fingerprint("h", object(), b"x")
    assert fingerprint("h", 1, "") != fingerprint("h", 1)


def test_what_is_no_field_does_not_count() -> None:
    @dataclasses.dataclass
    class Before:
        limit: ClassVar[int] = 1
        seed: dataclasses.InitVar[int]
        a: int = 0

    @dataclasses.dataclass
    class After:
        limit: ClassVar[int] = 2
        a: int = 0

    assert fingerprint("h", Before(5)) == fingerprint("h", After())


def test_a_state_without_a_canonical_form_needs_a_fingerprint_of_the_caller() -> None:
    with pytest.raises(StateCodecError, match="pass fingerprint=") as caught:
        fingerprint("h", {"a": object()})
    assert caught.value.field == "a"


@given(json_values)
@settings(max_examples=60, deadline=None)
def test_a_fingerprint_is_a_function_of_the_value(value: Any) -> None:
    copied = json.loads(json.dumps(value))
    assert fingerprint("h", [value]) == fingerprint("h", [copied])


# -- Any ------------------------------------------------------------------------------------------------------------


def test_a_message_is_packed_and_an_any_is_taken_as_it_is() -> None:
    value = struct_pb2.Value(string_value="x")
    packed = any_pb2.Any.FromString(pack(value))
    assert unpack(packed) == value
    assert any_pb2.Any.FromString(pack(packed)) == packed


def test_only_messages_are_packed() -> None:
    with pytest.raises(TypeError, match="expected a protobuf message, not dict"):
        pack({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="required"):
        pack(descriptor_pb2.UninterpretedOption.NamePart())


def test_a_message_is_unpacked_into_a_class_or_an_instance() -> None:
    packed = any_pb2.Any.FromString(pack(timestamp_pb2.Timestamp(seconds=5)))
    target = timestamp_pb2.Timestamp(seconds=1, nanos=2)
    assert unpack(packed, timestamp_pb2.Timestamp).seconds == 5
    assert unpack(packed, target) is target
    assert target == timestamp_pb2.Timestamp(seconds=5)


def test_an_any_that_holds_nothing_is_an_empty() -> None:
    """As of an operation that ended with neither a response nor an error."""
    nothing, target = any_pb2.Any(), empty_pb2.Empty()
    assert unpack(nothing) == unpack(nothing, empty_pb2.Empty) == empty_pb2.Empty()
    assert unpack(nothing, target) is target
    with pytest.raises(TypeError, match=r"expected google\.protobuf\.Value, found nothing"):
        unpack(nothing, struct_pb2.Value)


def test_another_type_or_an_unknown_one_is_an_error() -> None:
    packed = any_pb2.Any.FromString(pack(empty_pb2.Empty()))
    with pytest.raises(TypeError, match=r"expected google\.protobuf\.Value, found 'google\.protobuf\.Empty'"):
        unpack(packed, struct_pb2.Value)
    with pytest.raises(LookupError, match=r"'acme\.Unknown' is not known here"):
        unpack(any_pb2.Any(type_url="type.googleapis.com/acme.Unknown"))
    with pytest.raises(LookupError, match=r"'google\.protobuf\.Empty' names no message type: it has no slash"):
        unpack(any_pb2.Any(type_url="google.protobuf.Empty"))
