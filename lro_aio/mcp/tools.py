"""The registry of an application's tools: handlers that agents call."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, Unpack, overload

from mcp.server.extension import ToolBinding
from pydantic import BaseModel, RootModel
from pydantic.fields import Field, FieldInfo

from lro_aio.core.payloads import is_message
from lro_aio.engine.handlers import Handler, HandlerOptions, Handlers, Register, Registered
from lro_aio.engine.suspension import Suspended

__all__ = ["Tools"]

O = TypeVar("O")  # noqa: E741 (the operation's type)
R = TypeVar("R")
"""The type of the result."""


class Tools(Handlers):
    """An application's tools: give it to the client as its handlers, and to ``Tasks``."""

    def __init__(self) -> None:
        super().__init__()
        self.bindings: dict[str, ToolBinding] = {}
        """What the SDK lists, by name."""

    @overload
    def tool(self, name: Callable[[O], Coroutine[Any, Any, Suspended]]) -> Registered[O, Any]: ...

    @overload
    def tool(self, name: Callable[[O], Coroutine[Any, Any, R | Suspended]]) -> Registered[O, R]: ...

    @overload
    def tool(
        self,
        name: str | None = None,
        *,
        title: str | None = None,
        description: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Register: ...

    def tool(
        self,
        name: str | Callable[[Any], Coroutine[Any, Any, Any]] | None = None,
        *,
        title: str | None = None,
        description: str | None = None,
        **options: Any,
    ) -> Registered[Any, Any] | Register:
        """Register an ``async def`` as a handler, and as a tool. With parentheses or without.

        Its state are the tool's arguments: a dataclass or a pydantic model, as the annotation ``op: Operation[S]`` or
        ``state=`` says. Without one, the tool takes no arguments. It returns what a handler may, or a
        ``CallToolResult``.

        Args:
            name: What agents and rows call it. Never rename it while tasks live. Default: the function's name.
            title: For people.
            description: For the model. Default: the function's docstring.
            **options: As of ``Handlers.handler``.

        Raises:
            TypeError: The state has no fields: it is a text, a list, a protobuf message.
            ValueError: The name is taken or malformed.
        """

        def register(function: Callable[[Any], Coroutine[Any, Any, Any]]) -> Registered[Any, Any]:
            given = None if callable(name) else name
            registered: Registered[Any, Any] = self.handler(given, **options)(function)
            handler = registered.handler
            arguments = {"name": handler.name, "title": title, "structured_output": _is_object(handler.response.kind)}
            arguments["description"] = description or inspect.getdoc(function) or ""
            self.bindings[handler.name] = ToolBinding(_signed(handler), kwargs=arguments)
            return registered

        return register(name) if callable(name) else register


def _signed(handler: Handler) -> Callable[..., Any]:
    """A function of the tool's arguments, from whose signature the SDK makes the schemas. It is never called."""

    async def tool(**_: Any) -> Any:
        raise NotImplementedError("a call of the tool starts an operation")

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=field)
        for name, kind, field in _fields(handler)
    ]
    result = handler.response.kind if _is_object(handler.response.kind) else Any
    tool.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
    tool.__name__ = handler.name
    return tool


def _fields(handler: Handler) -> Iterator[tuple[str, Any, FieldInfo]]:
    kind = handler.codec.kind
    if kind is None:
        return
    if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, RootModel):
        for name, field in kind.model_fields.items():
            yield name, field.annotation, field
    elif dataclasses.is_dataclass(kind) and not is_message(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        for item in dataclasses.fields(kind):
            yield item.name, hints[item.name], _default_of(item)
    else:
        raise TypeError(
            f"tool {handler.name!r} cannot have the state {kind!r}: its arguments are the fields of a dataclass or of a"
            " pydantic model"
        )


def _default_of(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return Field(default_factory=item.default_factory)
    return Field() if item.default is dataclasses.MISSING else Field(default=item.default)


def _is_object(kind: Any) -> bool:
    """Whether results of the type are JSON objects, of which a schema can be published."""
    if not isinstance(kind, type) or is_message(kind) or issubclass(kind, RootModel):
        return False
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)
