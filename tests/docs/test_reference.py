"""``docs/reference.md`` is what the docstrings say, and the docstrings say what the code does, as far as can be seen.

What can be seen: every public thing has a docstring; ``Args:`` name exactly the arguments that there are; every error
that ``Raises:`` names exists; an error that a public function raises in its own body is named.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import lro_aio as lro
from lro_aio import mcp
from lro_aio.servers import errors, resume
from lro_aio.testing import spanner

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference.md"
SCRIPT = ROOT / "docs" / "build_reference.py"
COMMAND = "python docs/build_reference.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_reference"] = module  # dataclasses look their module up
    sys.path.insert(0, str(SCRIPT.parent))  # as if it were run
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


reference = load()


@functools.cache
def built() -> str:
    """The page as it should be. Made when a test asks: every worker imports this module."""
    text: str = reference.build()
    return text


# The page


def test_the_committed_page_is_what_the_docstrings_make() -> None:
    committed = PAGE.read_text(encoding="utf-8")
    assert committed == built(), f"docs/reference.md is not up to date; run: {COMMAND}"


@pytest.mark.slow
def test_the_check_says_which_command_to_run(tmp_path: Path) -> None:
    """On a page that differs by one character; and nothing is written."""
    page = tmp_path / "reference.md"
    page.write_text(built() + "\n", encoding="utf-8")
    code = (
        "import runpy, sys, pathlib\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\nsys.argv = ['x', '--check']\n"
        f"names = runpy.run_path({str(SCRIPT)!r})\n"
        f"main = names['main']\nmain.__globals__['PAGE'] = pathlib.Path({str(page)!r})\nsys.exit(main())"
    )
    before = page.read_bytes()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert COMMAND in done.stderr
    assert page.read_bytes() == before


@pytest.mark.parametrize("name", lro.__all__)
def test_every_public_name_is_on_the_page(name: str) -> None:
    """Under a heading, or as an error in the table."""
    headed = f"### `lro.{name}`\n" in built()
    in_table = re.search(rf"^\| `{name}` \| ", built(), re.MULTILINE) is not None
    assert headed or in_table


def test_every_server_and_testing_name_is_on_the_page() -> None:
    modules = [item for title in ("Servers", "Testing") for item in reference.SECTIONS[title]]
    assert {f"lro_aio.servers.{name}" for name in ("grpc", "fastapi", "resume")} <= {module for module, _ in modules}
    for module, names in modules:
        for name in names or reference.public(module):
            assert f"### `{module}.{name}`\n" in built()


def test_every_name_of_the_client_side_is_on_the_page() -> None:
    for name in lro.remote.__all__:
        assert f"### `lro.remote.{name}`\n" in built() or f"### `lro.{name}`\n" in built()
    for code, kind in lro.failures.BY_CODE.items():
        assert f"| {code.name} | `{kind.__name__}` |" in built() or f"| `{kind.__name__}` | {code.name} |" in built()


def headed(name: str) -> bool:
    """Whether the page has an entry for the class, function or constant, or a row of a table."""
    return re.search(rf"^(?:#{{3,4}} `[\w.]*\b{name}`$|\| `{name}` \| )", built(), re.MULTILINE) is not None


@pytest.mark.slow
def test_every_type_in_a_signature_is_on_the_page() -> None:
    """Of this package: whoever writes a store of their own finds all that a store is given and gives back."""
    missing = {
        (where, name)
        for where, module, annotation in annotations()
        for name in re.findall(r"(?<![\w.])[A-Z]\w+", annotation)
        if not headed(name) and is_ours(module, name)
    }
    assert missing == set()


def test_every_error_that_a_docstring_names_is_on_the_page() -> None:
    named = {(where, name) for where, _, doc in functions().values() for name in section(doc, "Raises")}
    assert {(where, name) for where, name in named if not hasattr(builtins, name) and not headed(name)} == set()
    assert headed("ClosedError")
    assert headed("RequestError")


def annotations() -> Iterator[tuple[str, str, str]]:
    """(where, module, text) of every annotation that the page shows of what services use."""
    for title, modules in reference.SECTIONS.items():
        for module, names in modules if title != "Testing" else ():
            for name in names or reference.public(module):
                source = reference.find(module, name)
                node = source.node
                inside = reference.members(source) if isinstance(node, ast.ClassDef) else [source]
                for item in inside:
                    given = [item.node.annotation] if isinstance(item.node, ast.AnnAssign) else []
                    if isinstance(item.node, ast.FunctionDef | ast.AsyncFunctionDef):
                        given = [
                            argument.annotation
                            for argument in ast.walk(item.node.args)
                            if isinstance(argument, ast.arg)
                        ]
                        given.append(item.node.returns)
                    for annotation in filter(None, given):
                        yield f"{module}.{name}", source.module, ast.unparse(annotation)


def is_ours(module: str, name: str) -> bool:
    """Whether a name of a module is a public one that this package defines; type variables are nothing to look up."""
    try:
        node = reference.find(module, name).node
    except (LookupError, OSError):
        return False
    return name != "Context" and "TypeVar" not in ast.unparse(node)  # Context is grpc's own, and said to be


def test_docstrings_are_shown_as_they_are_meant() -> None:
    """An entry that goes on in the next line, colons that stand apart, a row that goes on."""
    wrapped = "Do.\n\nRaises:\n    ValueError: A long\n        story."
    assert reference.markdown(wrapped) == "Do.\n\n**Raises**\n\n- `ValueError`: A long\n  story."
    for given, shown in (("Do::", "Do:"), ("Do. ::", "Do."), ("Do.\n\n::", "Do.")):
        assert reference.markdown(f"{given}\n\n    x = 1") == f"{shown}\n\n    x = 1"
    rows = ["==  ======", "a   one", "    two", "b   three", "==  ======"]
    assert reference.table(rows).splitlines()[2:] == ["| a | one two |", "| b | three |"]


def test_no_name_is_shown_without_a_word_about_it() -> None:
    """A heading is followed by text and not by the next heading, nor by a signature alone."""
    parts = re.split(r"^#{3,4} ", built(), flags=re.MULTILINE)[1:]
    bare = [part.splitlines()[0] for part in parts if not re.search(r"^[^ #\n]", part.partition("\n")[2], re.MULTILINE)]
    assert bare == []


@pytest.mark.parametrize(
    "kind", sorted((v for v in vars(lro).values() if inspect.isclass(v)), key=lambda k: k.__name__)
)
def test_the_table_of_errors_says_what_an_instance_says(kind: type) -> None:
    """Code, reason, HTTP status, attributes; and no error is left out."""
    if not issubclass(kind, lro.LroError) or kind is lro.OperationFailedError:
        return
    (row,) = (line for line in built().splitlines() if line.startswith(f"| `{kind.__name__}` |"))
    _, code, reason, http, attributes = (cell.strip() for cell in row.strip("|").split("|"))
    if kind is lro.LroError:
        assert row == "| `LroError` | UNKNOWN | `UNKNOWN` | 500 |  |"
        return
    required = [item for item in inspect.signature(kind).parameters.values() if item.default is item.empty]
    values = {
        "timeout": 1.0,
        "retry_after": 1.0,
        "pending": ("operations/a",),
        "position": 0,
        "size": 2,
        "limit": 1,
        "offset": 1.0,
    }
    exc = kind(*(values.get(item.name, "x") for item in required if item.kind is not item.VAR_POSITIONAL))
    assert isinstance(exc, lro.LroError)
    assert (code, reason, http) == (exc.code.name, f"`{exc.reason}`", str(exc.code.http))
    for name in re.findall(r"`(\w+)`", attributes):
        assert hasattr(exc, name)
    unlisted = set(vars(exc)) - set(re.findall(r"`(\w+)`", attributes)) - {"text"}
    assert {name for name in unlisted if not name.startswith("_")} == set()


# The docstrings


class Documented(NamedTuple):
    """One public function or method."""

    where: str
    function: ast.FunctionDef | ast.AsyncFunctionDef
    doc: str
    """Of a constructor: the class's."""


def documented() -> Iterator[Documented]:
    for modules in reference.SECTIONS.values():
        for module, names in modules:
            for name in names or reference.public(module):
                yield from of_source(reference.find(module, name), f"{module}.{name}")
    for name in lro.__all__:
        if name.endswith("Error"):
            yield from of_source(reference.find("lro_aio", name), f"lro_aio.{name}")


def of_source(source: reference.Source, where: str) -> Iterator[Documented]:  # type: ignore[name-defined]  # loaded above
    match source.node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if not reference.is_fixture(source.node):
                yield Documented(where, source.node, source.doc)
        case ast.ClassDef(body=body):
            for node in body:
                if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                    yield Documented(f"{where}()", node, source.doc)
            for member in reference.members(source):
                if not isinstance(member.node, ast.Assign | ast.AnnAssign) and not reference.is_fixture(member.node):
                    yield Documented(f"{where}.{member.node.name}", member.node, member.doc)


@functools.cache
def functions() -> dict[str, Documented]:
    return {item.where: item for item in documented()}


DEFERS = re.compile(
    r"(?:^ *|[.:;] +|Raises )(?:as|see)(?: in)? ``([\w.]+)``(?=[.;)]| is\b|$)", re.IGNORECASE | re.MULTILINE
)
"""``As ``start``.``: the other docstring holds here too."""


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [item.arg for item in every if item.arg not in ("self", "cls")]


def section(doc: str, title: str) -> list[str]:
    """The names of the entries of a section."""
    found = re.search(rf"^{title}:\n((?:(?:    .*)?\n?)+)", doc, re.MULTILINE)
    return re.findall(r"^    ([*\w.]+): ", found[1], re.MULTILINE) if found else []


def raised_in(function: ast.AST) -> set[str]:
    """Errors that are made and raised in the body itself, not in functions inside it, and not caught there."""
    found: set[str] = set()
    stack = list(ast.iter_child_nodes(function))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.add(node.exc.func.id)
        stack.extend(ast.iter_child_nodes(node))
    return {name for name in found if name[0].isupper()}


def is_error(name: str) -> bool:
    known = next(
        (
            found
            for module in (lro, builtins, resume, errors, spanner, mcp, lro.webhooks)
            if (found := getattr(module, name, None))
        ),
        None,
    )
    return inspect.isclass(known) and issubclass(known, BaseException)


def test_the_walk_sees_the_public_functions() -> None:
    some = {"lro_aio.Client()", "lro_aio.Client.start", "lro_aio.Operation.suspend", "lro_aio.wait_operation"}
    assert some <= set(functions())
    assert len(functions()) > 90


def test_every_public_function_has_a_docstring() -> None:
    """One that begins with a sentence."""
    first = re.compile(r"[A-Z`(\"][^\0]*?[.:](\n\n|$)")
    assert [item.where for item in functions().values() if not first.match(item.doc)] == []


@pytest.mark.parametrize("name", [name for name in lro.__all__ if callable(getattr(lro, name))])
def test_public_classes_and_functions_have_a_docstring_of_their_own(name: str) -> None:
    """Not an inherited one, nor the one that dataclass makes."""
    doc = vars(getattr(lro, name))["__doc__"] if inspect.isclass(getattr(lro, name)) else getattr(lro, name).__doc__
    assert doc
    assert not doc.startswith(f"{name}(")


def test_args_name_the_arguments_that_there_are() -> None:
    """All or none of them. None where one speaks for itself, or the text names them, or points to another docstring."""
    wrong: dict[str, object] = {}
    for where, function, doc in functions().values():
        given, described = arguments(function), [name.lstrip("*") for name in section(doc, "Args")]
        if described and sorted(described) != sorted(given):
            wrong[where] = given, described
        if not described and len(given) > 1 and not exempt(where, doc):
            told = all(f"``{name}``" in doc or f"``{name}=" in doc for name in given)
            if not told and not DEFERS.search(doc):
                wrong[where] = given
    assert wrong == {}


def exempt(where: str, doc: str) -> bool:
    """Whose arguments callers do not give; errors' are attributes, and those of ports are told in sentences."""
    called_by_others = "Made by a" in doc or "Called by" in doc
    return called_by_others or where.endswith(("Error()", ".from_env")) or where.startswith("lro_aio.ports.")


def test_raises_names_errors_that_exist_and_all_that_the_body_raises() -> None:
    wrong: dict[str, object] = {}
    for where, function, doc in functions().values():
        named = section(doc, "Raises")
        unknown = [name for name in named if not is_error(name)]
        unnamed = {name for name in raised_in(function) if is_error(name)} - set(named)
        empty = "Raises:" in doc and not named
        if unknown or ((unnamed or empty) and not DEFERS.search(doc)):
            wrong[where] = unknown, unnamed
    assert wrong == {}


def test_what_reads_or_writes_the_store_says_what_it_raises() -> None:
    """Every awaited method of a client or an operation, but for those that only begin or end its life, and progress."""
    quiet = {"Client.aclose", "Client.drain", "Operation.progress"}
    for where, function, doc in functions().values():
        short = where.removeprefix("lro_aio.")
        awaited = isinstance(function, ast.AsyncFunctionDef) and short not in quiet
        if awaited and short.startswith(("Client.", "Operation.")):
            assert "StoreUnavailableError" in section(doc, "Raises") or DEFERS.search(doc), where


def test_a_docstring_that_points_to_another_points_to_something() -> None:
    shown = set(re.findall(r"^#{3,4} `(?:lro\.)?([\w.]+)`$", built(), re.MULTILINE))
    for where, _, doc in functions().values():
        owner = where.rpartition(".")[0]
        for target in DEFERS.findall(doc):
            names = {
                target,
                target.removeprefix("lro_aio."),
                f"{owner.rpartition('.')[2]}.{target}",
                f"{owner}.{target}",
            }
            assert names & shown, (where, target)
