"""State to bytes and back, fingerprints, and messages in ``Any``: what goes in comes out, or fails at the call."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import math
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import hypothesis.strategies as st
import pydantic
import pytest
from google.protobuf import descriptor_pb2, struct_pb2, timestamp_pb2
from hypothesis import given, settings
from typing_extensions import TypedDict

from lro_aio.core.codec import (
    NewerStateError,
    StateCodec,
    fingerprint,
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
@settings(max_examples=50, deadline=None)
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
