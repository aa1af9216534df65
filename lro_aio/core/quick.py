"""``dataclasses.dataclass`` for classes with slots, made in a third of the time: this package has many of them.

The standard library writes out and compiles each method of each class, and whoever imports it waits. Here ``__init__``
is written out and nothing else; the other methods are closures over the names of the fields. What else a dataclass is,
the standard library makes: its fields and its slots, and so what ``fields``, ``replace``, ``match`` and pydantic see.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from types import FunctionType
from typing import TYPE_CHECKING, Any

from lro_aio.core.codegen import compiled

__all__ = ["dataclass"]

Fields = tuple[dataclasses.Field[Any], ...]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen=False, eq=True, slots=False, kw_only=False):
        """As the one of the standard library, with those of its options that this package uses."""

        def made(plain):
            if not slots:
                return dataclasses.dataclass(frozen=frozen, eq=eq, kw_only=kw_only)(plain)
            # What is built on a frozen one has to be frozen, says the standard library, and guards it then itself.
            inherits = frozen and any(map(dataclasses.is_dataclass, plain.__mro__[1:]))
            bare = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=inherits, slots=True, kw_only=kw_only)
            return _complete(bare(plain), frozen=frozen, guarded=inherits, eq=eq)

        return made


def _complete(cls: Any, *, frozen: bool, guarded: bool, eq: bool) -> Any:
    """The class with the methods that it lacks: not with those that it has of its own."""
    fields = dataclasses.fields(cls)
    parameters = cls.__dataclass_params__
    parameters.init, parameters.repr, parameters.eq, parameters.frozen = True, True, eq, frozen
    methods: list[Callable[..., Any]] = [
        _init(cls, fields, frozen=frozen),
        _repr([field.name for field in fields if field.repr]),
    ]
    if eq:
        compared = _values([field.name for field in fields if field.compare])
        methods.append(_eq(compared))
        if cls.__dict__.get("__hash__") is None:  # Python itself says None where there is an __eq__ and nothing more
            cls.__hash__ = _hash(compared) if frozen else None
    if frozen and not guarded:
        methods += [*_guards(cls, frozenset(field.name for field in fields)), _getstate, _setstate]
    for method in methods:
        if method.__name__ not in cls.__dict__:
            setattr(cls, method.__name__, method)
    return cls


class _Factory:
    """The default in a signature, of which each object gets one of its own."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _init(cls: Any, fields: Fields, *, frozen: bool) -> Callable[..., None]:
    names: dict[str, Any] = {"_FACTORY": _FACTORY}
    positional: list[str] = ["self"]
    named: list[str] = []
    body: list[str] = []
    for field in fields:
        name = value = field.name
        default = ""
        if field.default is not dataclasses.MISSING:
            names[f"_default_{name}"] = field.default
            default = f"=_default_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            names[f"_make_{name}"] = field.default_factory
            default = "=_FACTORY"
            value = f"_make_{name}() if {name} is _FACTORY else {name}"
        if field.init:
            (named if field.kw_only else positional).append(name + default)
        elif not default:
            continue  # __post_init__ gives it a value
        else:
            value = f"_make_{name}()" if default == "=_FACTORY" else f"_default_{name}"
        if frozen:
            names[f"_set_{name}"] = getattr(cls, name).__set__
        body.append(f"    _set_{name}(self, {value})" if frozen else f"    self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("    self.__post_init__()")
    arguments = ", ".join([*positional, *(["*", *named] if named else [])])
    lines = [f"def __init__({arguments}):", *(body or ["    pass"])]
    init = _in_module(cls, lines, names)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {**{field.name: field.type for field in fields if field.init}, "return": None}
    return init


def _in_module(cls: Any, lines: list[str], names: dict[str, Any]) -> Callable[..., None]:
    """The ``__init__`` of these lines, with the globals of the class's module.

    There, its annotations have a meaning for ``typing.get_type_hints``, and for whoever builds on that. The names are
    around it, and not among the globals.
    """
    around = [f"def around({', '.join(names)}):", *(f"    {line}" for line in lines), "    return __init__"]
    code = compiled(cls.__module__, around, {}, of=cls.__qualname__)["around"].__code__
    module = sys.modules.get(cls.__module__)
    init: Callable[..., None] = FunctionType(code, {} if module is None else vars(module))(**names)
    return init


def _values(names: list[str]) -> Callable[[Any], Any]:
    """What gives the values of these fields: all that two objects have to have in common to be equal."""
    return attrgetter(*names) if names else lambda _: ()


def _repr(names: list[str]) -> Callable[[Any], str]:
    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: N807 (it becomes a method)
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({told})"

    __repr__.__annotations__ = {}  # they came along to a function of another module, which does not know their names
    return __repr__


def _eq(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        equal: bool = values(self) == values(other)
        return equal

    return __eq__


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _guards(cls: type[Any], names: frozenset[str]) -> list[Callable[..., None]]:
    """A subclass that is no dataclass may have attributes of its own, as with the standard library."""

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return [__setattr__, __delattr__]


def __getstate__(self: Any) -> list[Any]:  # noqa: N807
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: N807
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_getstate, _setstate = __getstate__, __setstate__
