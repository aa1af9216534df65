"""Writes ``reference.md`` from the docstrings.  Usage: python docs/build_reference.py [--check]

The page is made from the source by the standard library alone: signatures and defaults are shown as they are written,
the same with every Python. Only the table of errors looks at the classes themselves. ``--check`` writes nothing and
ends with status 1 where the page is not up to date.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reference_contents import BASES, DESCRIBED, OPAQUE, PORTS, SECTIONS, SHORT

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference.md"
COMMAND = "python docs/build_reference.py"

HEADER = f"""\
<!-- Made by `{COMMAND}` from the docstrings. Change those, and run it again. -->

# Reference

Every public name, from the docstrings. `lro` is `import lro_aio as lro`. Durations are seconds or a
`datetime.timedelta`; moments are seconds since the Unix epoch, unless something else is said.
"""

INTERNAL = "For the engine."
"""At the end of the docstring of a method that only other modules of the package use."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | Function | ast.Assign | ast.AnnAssign


# Reading the source


@dataclass(frozen=True, slots=True)
class Source:
    """One name: where it is defined, and what follows it there if that is its docstring."""

    module: str
    node: Definition
    doc: str

    def text(self, node: ast.expr | None) -> str:
        """The source of a part of it, on one line."""
        if node is None or node.end_lineno is None:
            return ""
        lines = read(self.module).encode().splitlines()[node.lineno - 1 : node.end_lineno]  # offsets count bytes
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return " ".join(line.decode().strip() for line in lines).replace("( ", "(").replace(", )", ")")

    def inner(self, node: Definition, doc: str) -> Source:
        """Something that is defined in it."""
        return Source(self.module, node, doc)


def path_of(module: str) -> Path:
    """Of its source."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def read(module: str) -> str:
    """The source of a module."""
    return path_of(module).read_text(encoding="utf-8")


@functools.cache
def parsed(module: str) -> ast.Module:
    """Its tree."""
    return ast.parse(read(module))


def public(module: str) -> list[str]:
    """Its ``__all__``."""
    for node in parsed(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise LookupError(f"{module} has no __all__")


def find(module: str, name: str) -> Source:
    """The definition of a name, through the modules that only pass it on."""
    for node, doc in documented(parsed(module).body):
        if name_of(node) == name:
            return Source(module, node, doc)
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names} and node.module:
            return find(node.module, name)
    raise LookupError(f"{module} has no {name}")


def name_of(node: ast.AST) -> str:
    """The name that a statement defines; "" for none."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return node.name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def documented(body: list[ast.stmt]) -> Iterator[tuple[Definition, str]]:
    """Every definition of a body with its docstring; that of a variable stands below it. Overloads are left out."""
    for node, following in zip(body, [*body[1:], None], strict=True):
        if "overload" in decorators(node):
            continue
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node, ast.get_docstring(node) or ""
            case ast.Assign() | ast.AnnAssign():
                match following:
                    case ast.Expr(value=ast.Constant(value=str(doc))):
                        yield node, inspect.cleandoc(doc)
                    case _:
                        yield node, ""


def members(source: Source) -> Iterator[Source]:
    """What is public in a class, and neither a test nor a method of the port that it implements."""
    assert isinstance(source.node, ast.ClassDef)
    if source.node.name in OPAQUE:
        return
    module, _, port = PORTS.get(source.node.name, "").rpartition(".")
    taken = {name_of(member.node) for member in members(find(module, port))} if port else set[str]()
    for node, doc in documented(source.node.body):
        name = name_of(node)
        hidden = name.startswith(("_", "test_")) or name in taken or doc.endswith(INTERNAL)
        if name and not hidden and not any(item.endswith(".setter") for item in decorators(node)):
            yield source.inner(node, doc)
    for base in bases_of(source.node.name):
        yield from members(base)


def bases_of(name: str) -> list[Source]:
    """The classes whose methods a class has."""
    parts = [path.rpartition(".") for path in BASES.get(name, ())]
    return [find(module, base) for module, _, base in parts]


def decorators(node: ast.AST) -> list[str]:
    """As written, without arguments."""
    found = getattr(node, "decorator_list", [])
    return [ast.unparse(item.func if isinstance(item, ast.Call) else item) for item in found]


# Writing Markdown

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
COLONS = re.compile(r"(^|\s+):$")
"""What is left of the "::" before a literal block where it stands apart: nothing is shown."""
ENTRY = re.compile(r"([*\w.]+): (.*)", re.DOTALL)


def markdown(doc: str) -> str:
    """A docstring in Google's style as Markdown."""
    parts: list[str] = []
    blocks = re.split(r"\n\n", doc)
    literal = False
    for block in blocks:
        title, _, rest = block.partition("\n")
        section = SECTION.fullmatch(title)
        if section and rest:
            parts.append(f"**{section[1]}**\n\n{entries(section[1], textwrap.dedent(rest))}")
            literal = False
        elif literal and block.startswith("    "):
            parts.append(block)
        elif title.startswith("==="):
            parts.append(table(block.splitlines()))
        else:
            literal = block.endswith("::")
            parts.append(prose(COLONS.sub("", block.removesuffix(":")) if literal else block))
    return "\n\n".join(filter(None, parts))


def prose(text: str) -> str:
    """A paragraph: its literals as Markdown has them."""
    return text.replace("``", "`")


def table(lines: list[str]) -> str:
    """A simple table of reStructuredText, with a header or without."""
    starts = [match.start() for match in re.finditer(r"=+", lines[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    rows = [[prose(line[start:end].strip()).replace("|", r"\|") for start, end in spans] for line in lines]
    borders = [number for number, line in enumerate(lines) if line.startswith("=")]
    headed = len(borders) == 3
    head = rows[1] if headed else [""] * len(spans)
    body: list[list[str]] = []
    for row in rows[borders[1] + 1 : borders[2]] if headed else rows[1 : borders[1]]:
        if row[0] or not body:
            body.append(row)
        else:  # the row above goes on
            body[-1] = [f"{above} {cell}".strip() for above, cell in zip(body[-1], row, strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(spans), *body))


def entries(section: str, text: str) -> str:
    """``name: text`` entries as a list; text without names (Returns) as it is."""
    items: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and items:
            items[-1] += "\n" + line.strip()
        else:
            items.append(line)
    split = [ENTRY.fullmatch(item) for item in items]
    if section in ("Returns", "Yields") or not all(split):
        return prose(text)
    return "\n".join(f"- `{entry[1]}`: {prose(entry[2])}".replace("\n", "\n  ") for entry in split if entry)


def signature(source: Source, name: str, node: Function, *, bound: bool) -> str:
    """As written, in an indented block: on one line where it fits."""
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    shown = [argument(source, item, default) for item, default in zip(positional, defaults, strict=True)]
    if given.posonlyargs:
        shown.insert(len(given.posonlyargs), "/")
    if bound and "staticmethod" not in decorators(node):
        shown = shown[1:]
        shown = shown[1:] if shown[:1] == ["/"] else shown
    if given.vararg:
        shown.append("*" + argument(source, given.vararg, None))
    elif given.kwonlyargs:
        shown.append("*")
    shown += [
        argument(source, item, default) for item, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    if given.kwarg:
        shown.append("**" + argument(source, given.kwarg, None))
    before = "await " if isinstance(node, ast.AsyncFunctionDef) and not yields(node) else ""
    returns = source.text(node.returns)
    after = f" -> {returns}" if returns and node.name != "__init__" else ""
    line = f"    {before}{name}({', '.join(shown)}){after}"
    if len(line) <= 100:
        return line
    return "\n".join([f"    {before}{name}(", *(f"        {item}," for item in shown), f"    ){after}"])


def argument(source: Source, item: ast.arg, default: ast.expr | None) -> str:
    """``name: annotation = default``."""
    annotation = f": {source.text(item.annotation)}" if item.annotation else ""
    value = f" = {source.text(default)}" if default is not None else ""
    return f"{item.arg}{annotation}{value if annotation else value.replace(' ', '')}"


def yields(node: ast.AST) -> bool:
    """Whether an ``async def`` is a generator: it is iterated and not awaited."""
    return any(isinstance(item, ast.Yield) for item in ast.walk(node))


def variable(source: Source, *, of: str = "") -> str:
    """A field, a property or a constant as an item of a list."""
    node, doc = source.node, source.doc
    match node:
        case ast.AnnAssign():
            kind, value = source.text(node.annotation), source.text(node.value)
        case ast.Assign():
            kind, value = "", source.text(node.value)
        case _:
            assert isinstance(node, Function)
            kind, value = source.text(node.returns), ""
    typed = f": {kind}" if kind and kind != "Any" else ""
    shown = f"`{of}{name_of(node)}{typed}{f' = {value}' if value and len(value) <= 60 else ''}`"
    text = f" - {markdown(doc)}" if doc else ""
    return f"- {shown}{text}".replace("\n", "\n  ").replace("\n  \n", "\n\n")


def entry(module: str, name: str) -> list[str]:
    """A heading and what stands below it, for one name of a module."""
    source = find(module, name)
    shown = f"{SHORT.get(module, module)}.{name}"
    node = source.node
    match node:
        case ast.ClassDef():
            return [f"### `{shown}`", *a_class(source, name)]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            how = FIXTURE if is_fixture(node) else signature(source, name, node, bound=False)
            return [f"### `{shown}`", how, markdown(source.doc)]
        case _ if module.endswith(".plugin"):
            return [f"### `{shown}`", FIXTURE, markdown(source.doc)]
        case _:
            return [f"### `{shown}`", variable(source).removeprefix("- ")]


FIXTURE = "A pytest fixture."


def is_fixture(node: ast.AST) -> bool:
    """Whether pytest calls the function."""
    return any(item.endswith("fixture") for item in decorators(node))


def a_class(source: Source, name: str) -> list[str]:
    """Signature, docstring, then fields and properties, then methods."""
    node = source.node
    assert isinstance(node, ast.ClassDef)
    lines: list[str] = []
    init = next((item for item in node.body if name_of(item) == "__init__"), None)
    made_by_hand = "Made by a" not in source.doc
    if isinstance(init, Function) and made_by_hand:
        lines.append(signature(source, name, init, bound=True))
    lines.append(markdown(source.doc))
    lines += [markdown(base.doc) for base in bases_of(name)]
    if name in PORTS:
        lines.append(f"Implements `{PORTS[name]}`, whose methods are described there.")
    fields: list[str] = []
    methods: list[str] = []
    for member in members(source):
        if isinstance(member.node, Function) and "property" not in decorators(member.node):
            methods += a_method(member, name)
        elif not (name.endswith("Error") and name_of(member.node) in ("code", "reason")):  # they are in the table
            fields.append(variable(member))
    if fields:
        lines += ["**Members**", "\n".join(fields)]
    return lines + methods


def a_method(source: Source, owner: str) -> list[str]:
    """One method of a class."""
    node = source.node
    assert isinstance(node, Function)
    name = "client" if owner == "Client" else "op" if owner == "Operation" else owner
    if "classmethod" in decorators(node):
        name = owner
    return [
        f"#### `{owner}.{node.name}`",
        FIXTURE if is_fixture(node) else signature(source, f"{name}.{node.name}", node, bound=True),
        markdown(source.doc),
    ]


# Errors


def errors() -> list[str]:
    """The tree, the table and what the classes carry, from the classes themselves."""
    sys.path.insert(0, str(ROOT))
    import lro_aio as lro

    tree = re.search(r"::\n\n(.*?)\n\n", parsed_doc("lro_aio.core.errors"), re.DOTALL)
    assert tree is not None
    lines = [
        "All of them are `lro.LroError`. A malformed argument of the caller's own code is `ValueError` or `TypeError`.",
        tree[1],
        "Code and reason are what clients see: `google.rpc.Status.code`, `ErrorInfo.reason`. HTTP is the status of that"
        " code; the resume endpoints answer `OPERATION_BUSY` with 425.",
        "\n".join(
            ["| Error | Code | Reason | HTTP | Attributes |", "|---|---|---|---|---|", *error_rows(lro.LroError)]
        ),
    ]
    for kind in (lro.LroError, lro.OperationFailedError, lro.WaitDeadlineExceededError):
        lines += [f"### `lro.{kind.__name__}`", *a_class(find("lro_aio", kind.__name__), kind.__name__)]
    lines += ["### `lro.failures`", *failures(), "### Reasons of failed operations", *reasons()]
    return lines


def failures() -> list[str]:
    """The classes of failed operations, by their codes."""
    import lro_aio as lro

    kinds = sorted(lro.failures.BY_CODE.items())
    rows = [f"| {code.name} | `{kind.__name__}` |" for code, kind in kinds if kind.__module__ != "lro_aio"]
    return [
        markdown(parsed_doc("lro_aio.core.failures")),
        "`BY_CODE` is all of them by their codes. They take the arguments of `lro.OperationFailedError`.",
        "\n".join(["| Code | Class |", "|---|---|", *rows]),
    ]


def error_rows(kind: type) -> Iterator[str]:
    """One row for a class and each below it, in the order of their names."""
    name = kind.__name__
    varies = name == "OperationFailedError"
    code = kind().code if issubclass(kind, _failed()) else kind.code  # these get theirs with each instance
    shown = ", ".join(f"`{attribute}`" for attribute in attributes(name))
    columns = [
        f"`{name}`",
        "as it ended" if varies else code.name,
        f"`{kind.reason}`",
        "" if varies else code.http,
        shown,
    ]
    yield f"| {' | '.join(map(str, columns))} |"
    for below in sorted(kind.__subclasses__(), key=lambda item: item.__name__):
        if below.__module__ == "lro_aio":
            yield from error_rows(below)


def _failed() -> type:
    import lro_aio as lro

    return lro.OperationFailedError


def attributes(name: str) -> list[str]:
    """What a class's ``__init__`` keeps for its users, after what it inherits."""
    source = find("lro_aio.core.errors", name)
    node = source.node
    assert isinstance(node, ast.ClassDef)
    base = ast.unparse(node.bases[0])
    found = attributes(base) if base not in ("LroError", "Exception") else []
    init = next((item for item in node.body if name_of(item) == "__init__"), None)
    for item in ast.walk(init) if init else ():
        match item:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=kept)]) if not kept.startswith("_"):
                found.append(kept)
    described = re.findall(r"^    (\w+): ", source.doc.partition("Attributes:")[2], re.MULTILINE)
    return [kept for kept in dict.fromkeys([*found, *described]) if kept != "text"]  # the text is the message


def reasons() -> list[str]:
    """What the engine ends operations with, found where it does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "lro_aio").glob("core/*.py")) + sorted((ROOT / "lro_aio").glob("engine/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "make_status":
                reason = next((item.value for item in node.keywords if item.arg == "reason"), None)
                if isinstance(reason, ast.Constant):
                    code = ast.unparse(node.args[0]).removeprefix("Code.")
                    named = code if code.isupper() else "the exception's"
                    found[reason.value] = named
    rows = [f"| `{reason}` | {code} |" for reason, code in sorted(found.items())]
    return [
        "The `ErrorInfo.reason` in `Operation.error.details` where the engine ended the operation. An `LroError` that"
        " leaves a handler keeps its own.",
        "\n".join(["| Reason | Code |", "|---|---|", *rows]),
    ]


def parsed_doc(module: str) -> str:
    """The docstring of a module."""
    return ast.get_docstring(parsed(module)) or ""


# The page


def build() -> str:
    """The whole page."""
    lines = [HEADER, " · ".join(f"[{title}](#{title.lower()})" for title in SECTIONS)]
    for title, modules in SECTIONS.items():
        lines.append(f"## {title}")
        if title == "Errors":
            lines += errors()
        for module, names in modules:
            if module in DESCRIBED:
                lines.append(f"**`{module}`**: {markdown(parsed_doc(module))}")
            for name in names or public(module):
                lines += entry(module, name)
    return "\n\n".join(line.strip("\n") for line in lines) + "\n"


def main() -> int:
    """Write the page, or check it."""
    text = build()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"docs/reference.md is not up to date: run {COMMAND}", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
