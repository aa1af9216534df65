"""What makes two requests the same: the fingerprints of handler and state."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
import uuid
from typing import Annotated, Any, ClassVar, Literal

import pydantic
import pytest
from google.protobuf import empty_pb2, struct_pb2
from hypothesis import given, settings

from lro_aio.core.codec import (
    FINGERPRINT_SCHEME,
    FORMER_SCHEMES,
    fingerprint,
)
from lro_aio.core.errors import StateCodecError

from .test_codec import Add, Open, Page, Remove, Report, Spot, Tagged, json_values

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


@pytest.mark.slow
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
