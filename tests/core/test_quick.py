"""``core.quick.dataclass`` makes what the standard library's makes: each test has both, side by side."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from lro_aio.core.quick import dataclass as quick

MAKERS = {"standard library": dataclasses.dataclass, "quick": quick}


def point(make: Callable[..., Any]) -> Any:
    @make(frozen=True, slots=True)
    class Point:
        """A place."""

        x: int
        y: int = 0
        names: list[str] = field(default_factory=list, compare=False)
        secret: str = field(default="s", repr=False, kw_only=True)
        made: str = field(default="", init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "made", f"of {self.x}")

        @property
        def far(self) -> bool:
            return self.x > 100

    return Point


def named(make: Callable[..., Any]) -> Any:
    @make(slots=True, kw_only=True, eq=False)
    class Named:
        name: str
        tags: tuple[str, ...] = ()

    return Named


def open_ended(make: Callable[..., Any]) -> Any:
    @make(slots=True)
    class Open:
        name: str
        parts: dict[str, int] = field(default_factory=dict)

    return Open


def child(make: Callable[..., Any]) -> Any:
    @make(frozen=True, slots=True, kw_only=True)
    class Base:
        text: str = field(default="", init=False, repr=False, compare=False)

    @make(frozen=True, slots=True, kw_only=True)
    class Child(Base):
        number: int = 1

    return Child


def empty(make: Callable[..., Any]) -> Any:
    @make(frozen=True, slots=True)
    class Empty:
        pass

    return Empty


def own(make: Callable[..., Any]) -> Any:
    @make(frozen=True, slots=True)
    class Own:
        name: str

        def __repr__(self) -> str:
            return "mine"

        def __hash__(self) -> int:
            return 7

    return Own


def late(make: Callable[..., Any]) -> Any:
    @make(slots=True)
    class Late:
        name: str
        twice: str = field(init=False)

        def __post_init__(self) -> None:
            self.twice = self.name * 2

        def __hash__(self) -> int:
            return 8

    return Late


Pickled = point(quick)
Pickled.__qualname__ = "Pickled"


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]


@pytest.mark.parametrize("kind", [point, named, open_ended, child, empty, own, late])
def test_a_class_looks_the_same(kind: Callable[..., Any]) -> None:
    ours, theirs = (kind(maker) for maker in MAKERS.values())
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__slots__ == theirs.__slots__
    assert repr(ours.__dataclass_params__) == repr(theirs.__dataclass_params__)
    assert repr(dataclasses.fields(ours)) == repr(dataclasses.fields(theirs))
    assert ours.__doc__ == theirs.__doc__ or kind is not point
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)
    assert {name for name in theirs.__dict__ if name != "__replace__"} <= {*ours.__dict__, "__replace__"}
    assert ours.__init__.__qualname__ == theirs.__init__.__qualname__


def test_objects_are_made_compared_and_shown(make: Any) -> None:
    kind = point(make)
    one, same, other = kind(1, names=["a"]), kind(1, 0, ["b"]), kind(1, secret="t")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != (1, 0, "s", "of 1")
    assert repr(one).endswith("Point(x=1, y=0, names=['a'], made='of 1')")
    assert kind(1).names is not kind(1).names
    assert not one.far
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        kind()
    with pytest.raises(TypeError, match="unexpected keyword argument 'made'"):
        kind(1, made="")


def test_keywords_only_and_no_comparison(make: Any) -> None:
    kind = named(make)
    assert kind(name="a") != kind(name="a")
    assert hash(kind(name="a"))
    with pytest.raises(TypeError, match="positional"):
        kind("a")
    thing = kind(name="a")
    thing.name = "b"
    assert repr(thing).endswith("Named(name='b', tags=())")


def test_what_is_not_frozen_has_no_hash(make: Any) -> None:
    kind = open_ended(make)
    assert kind("a") == kind("a")
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind("a"))


def test_a_field_may_get_its_value_after_the_others(make: Any) -> None:
    assert late(make)("a").twice == "aa"
    assert hash(late(make)("a")) == 8


def test_types_are_found_by_who_asks_for_them(make: Any) -> None:
    """By their names, in the module of the class."""

    @make(frozen=True, slots=True)
    class Typed:
        kind: Callable[..., Any]
        more: list[Any] = field(default_factory=list)

    hints = {"kind": Callable[..., Any], "more": list[Any]}
    assert get_type_hints(Typed) == hints
    assert get_type_hints(Typed.__init__) == {**hints, "return": type(None)}
    assert get_type_hints(Typed.__repr__) == {}
    parameters = inspect.signature(Typed, eval_str=True).parameters
    assert {name: parameter.annotation for name, parameter in parameters.items()} == hints


def test_frozen_is_frozen(make: Any) -> None:
    thing = point(make)(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        thing.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del thing.x
    with pytest.raises(dataclasses.FrozenInstanceError):
        child(make)().text = "a"


def test_a_plain_subclass_may_have_attributes_of_its_own() -> None:
    """With the standard library's, a frozen one with slots raises a TypeError there."""

    class Sub(point(quick)):  # type: ignore[misc]
        pass

    thing = Sub(1)
    thing.more = 2
    del thing.more
    with pytest.raises(dataclasses.FrozenInstanceError):
        thing.x = 2
    assert thing != point(quick)(1)


def test_a_dataclass_can_be_built_on_it(make: Any) -> None:
    """By the standard library too: somebody's class on one of ours."""

    @dataclasses.dataclass(frozen=True)
    class Sub(point(make)):  # type: ignore[misc]
        z: int = 3

    assert Sub(1, z=4) == Sub(1, z=4)
    with pytest.raises(TypeError, match="non-frozen"):

        @dataclasses.dataclass
        class Wrong(point(make)):  # type: ignore[misc]
            z: int = 3


def test_own_methods_stay(make: Any) -> None:
    thing = own(make)("a")
    assert repr(thing) == "mine"
    assert hash(thing) == 7


def test_fields_that_are_inherited(make: Any) -> None:
    kind = child(make)
    thing = kind(number=2)
    assert thing == kind(number=2)
    assert (thing.number, thing.text) == (2, "")
    assert dataclasses.replace(thing, number=3) == kind(number=3)


def test_empty_ones_are_equal(make: Any) -> None:
    kind = empty(make)
    assert kind() == kind()
    assert hash(kind()) == hash(kind())


def test_objects_are_copied(make: Any) -> None:
    thing = point(make)(1, names=["a"])
    assert copy.copy(thing) == thing
    deep = copy.deepcopy(thing)
    assert deep == thing
    assert deep.names is not thing.names
    assert dataclasses.replace(thing, x=2).made == "of 2"
    assert dataclasses.asdict(thing) == {"x": 1, "y": 0, "names": ["a"], "secret": "s", "made": "of 1"}


def test_objects_are_pickled() -> None:
    assert pickle.loads(pickle.dumps(Pickled(1))) == Pickled(1)


def test_objects_match_patterns(make: Any) -> None:
    kind = point(make)
    match kind(1, 2):
        case kind(x, y):
            assert (x, y) == (1, 2)


def test_an_object_that_holds_itself_is_shown(make: Any) -> None:
    thing = open_ended(make)("a")
    thing.parts["self"] = thing
    assert "..." in repr(thing)


def test_pydantic_reads_and_writes_it(make: Any) -> None:
    adapter = TypeAdapter(open_ended(make))
    thing = adapter.validate_json('{"name": "a", "parts": {"b": 1}}')
    assert adapter.dump_json(thing) == b'{"name":"a","parts":{"b":1}}'


def test_a_traceback_shows_the_line_that_was_written_out() -> None:
    assert "self.__post_init__()" in inspect.getsource(point(quick).__init__)
