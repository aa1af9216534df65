"""Runs one page: its blocks in order, in one namespace, one directory and one shell."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import linecache
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path
from typing import Any, Self

from ..ports import free_port
from ..postgres.server import Server
from .blocks import Block, DocsError, files_of, parse, ports_of, postgres_of
from .google_cloud import check_gcloud, check_sql
from .lookups import check_account_command
from .shell import Shell, check_output

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = ("lro", "python", "kill", "uvicorn", "export")
"""Commands that are run."""
CHECKED = ("make", "pip", "cd", "docker", "gcloud")
"""Commands that are looked up instead: they would install things, cost money or run this very test."""
MODULE = "docs_page"


class Page:
    """One page and what its blocks have made so far. A context manager that stops what the page started."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path = path
        self.directory = directory
        self.blocks = parse(path)
        self.files: dict[str, str] = {}
        self._ports = {number: str(free_port()) for number in ports_of(path)}
        self._stack = contextlib.ExitStack()
        self._module = types.ModuleType(MODULE)
        self._runner = asyncio.Runner()
        self._shell: Shell | None = None
        self._printed: str | None = None

    def __enter__(self) -> Self:
        if (number := postgres_of(self.path)) is not None:
            self._ports[number] = str(self._stack.enter_context(Server()).port)
        sys.modules[MODULE] = self._module
        for path in files_of(self.path):
            self.files[path.name] = text = path.read_text(encoding="utf-8")
            (self.directory / path.name).write_text(self._with_ports(text), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._shell is not None:
            self._shell.close()
        self._runner.close()
        self._stack.close()
        sys.modules.pop(MODULE, None)
        for name in self.files:
            sys.modules.pop(name.removesuffix(".py"), None)

    def run(self) -> None:
        """Run every block.

        Raises:
            DocsError: A block cannot be run, or did not do what the page says.
        """
        for block in self.blocks:
            kind = getattr(self, f"_run_{block.language}", None)
            if kind is None:
                raise DocsError(f"{block.place}: no test knows what to do with language {block.language!r}")
            kind(block, self._with_ports(block.text))

    def _run_python(self, block: Block, text: str) -> None:
        place = f"{block.page}:{block.line}"
        try:
            tree = ast.parse(text, place)
        except SyntaxError as exc:
            raise DocsError(f"{block.place}: {exc}") from exc
        if "file" in block.directives:
            self._write(block, text)
            return
        linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
        code = compile(tree, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        expected = block.directives.get("raises")
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                self._execute(code)
        except Exception as exc:
            if type(exc).__name__ != expected:
                raise
            printed.write(f"{type(exc).__name__}: {exc}\n")
        else:
            if expected:
                raise DocsError(f"{block.place}: {expected} was not raised")
        self._printed = printed.getvalue()

    def _execute(self, code: types.CodeType) -> None:
        # A block with await runs in the page's loop; another may start a loop of its own, as asyncio.run does.
        if code.co_flags & inspect.CO_COROUTINE:
            function = types.FunctionType(code, self._module.__dict__)
            self._runner.run(_awaited(function()))
        else:
            exec(code, self._module.__dict__)

    def _run_console(self, block: Block, text: str) -> None:
        if self._shell is None:
            self._shell = Shell(self.directory)
        collected = ""
        for command, expected in _commands(block, text):
            bare = re.sub(r"^[A-Z]+=\$\((.*)\)$", r"\1", command)  # NAME=$(python ...)
            program = shlex.split(bare, comments=True)[0]
            if "checked" in block.directives and program not in ("pip", "cd", "make"):
                check_account_command(command, block.place)
                continue
            if program in CHECKED:
                check_command(command, block.place)
                continue
            if program not in RUN:
                raise DocsError(f"{block.place}: {program!r} is neither run nor checked by any test")
            printed = self._shell.run(command, expected=expected)
            check_output(expected, printed, block.place)
            collected += printed + "\n"
        self._printed = collected

    def _run_text(self, block: Block, text: str) -> None:
        """What the block above has printed."""
        if "file" in block.directives:
            self._write(block, text)
            return
        if self._printed is None:
            raise DocsError(f"{block.place}: a text block shows what the block above printed, and there is none")
        check_output(text.splitlines(), self._printed, block.place)

    def _run_toml(self, block: Block, text: str) -> None:
        parsed = tomllib.loads(text)
        if not parsed:
            raise DocsError(f"{block.place}: nothing in it")
        self._write(block, text)

    def _run_json(self, block: Block, text: str) -> None:
        json.loads(text)
        self._write(block, text)

    def _run_ini(self, block: Block, text: str) -> None:
        """systemd units and the like: sections of KEY=VALUE."""
        for line in text.splitlines():
            if line and not re.fullmatch(r"\[\w+\]|[\w]+=.+|#.*", line):
                raise DocsError(f"{block.place}: not a line of an ini file: {line!r}")

    def _run_yaml(self, block: Block, text: str) -> None:
        check_yaml(text, block.place)
        self._write(block, text)

    def _run_proto(self, block: Block, text: str) -> None:
        """Statements end, and braces are closed; test_servers_page.py compiles the file."""
        bare = re.sub(r"//.*", "", text)
        if bare.count("{") != bare.count("}") or not bare.startswith("syntax = "):
            raise DocsError(f"{block.place}: not a whole .proto file")
        for line in filter(None, (line.strip() for line in bare.splitlines())):
            if line[-1] not in "{};" and not re.fullmatch(r'\w+: "\w+"', line):
                raise DocsError(f"{block.place}: not a whole statement: {line!r}")
        self._write(block, text)

    def _run_sql(self, block: Block, text: str) -> None:
        """Spanner's; FakeSpanner knows only a part of the language, so that it is read and not run."""
        check_sql(text, block.place)

    def _write(self, block: Block, text: str) -> None:
        name = block.directives.get("file")
        if name is None:
            return
        before = self.files.get(name, "") if "append" in block.directives else ""
        self.files[name] = before + block.text
        target = self.directory / name
        target.write_text((target.read_text() if before else "") + text, encoding="utf-8")

    def _with_ports(self, text: str) -> str:
        for number, free in self._ports.items():
            text = re.sub(rf"\b{number}\b", free, text)
        return text


def check_command(command: str, place: str) -> None:
    """A command that is not run names something that exists: a target of the Makefile, this package, a file, a role.

    Raises:
        DocsError: It does not.
    """
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        for target in (word for word in words[1:] if "=" not in word):
            if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
                raise DocsError(f"{place}: the Makefile has no target {target!r}")
    elif words[0] == "pip":
        _check_pip(words, place)
    elif words[0] == "gcloud":
        check_gcloud(words[1:], place)
    elif words[0] == "docker":
        _check_docker(words, place)


def _check_pip(words: list[str], place: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    known = {re.split(r"[<>=\[]", requirement)[0] for extra in extras.values() for requirement in extra}
    if words[1] != "install" or len(words) < 3:
        raise DocsError(f"{place}: only 'pip install ...' is expected")
    for requirement in words[2:]:
        name, _, inner = requirement.partition("[")
        if name != project["name"] and name not in known:
            raise DocsError(f"{place}: {name!r} is neither this package nor in one of its extras")
        for extra in filter(None, inner.removesuffix("]").split(",")):
            if extra not in extras:
                raise DocsError(f"{place}: there is no extra {extra!r}")


def _check_docker(words: list[str], place: str) -> None:
    if words[:3] != ["docker", "compose", "-f"] or not (REPOSITORY / words[3]).is_file():
        raise DocsError(f"{place}: only 'docker compose -f FILE ...' with a file of the repository is expected")


def check_yaml(text: str, place: str) -> None:
    """The small YAML of the pages: mappings and lists by indentation, scalars on one line.

    No YAML library is among the package's dependencies, so only this subset may be used.

    Raises:
        DocsError: Something else.
    """
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split(" #")[0].rstrip()
        if not bare or bare.lstrip().startswith("#"):
            continue
        indent = len(bare) - len(bare.lstrip(" "))
        if (
            indent % 2
            or "\t" in bare
            or not re.fullmatch(r" *(- )*([\w./-]+:( [^{}\[\]&*!|>]+)?|[^:{}\[\]&*!|>]+)", bare)
        ):
            raise DocsError(f"{place}: line {number} of the block is not simple YAML: {line!r}")


async def _awaited(value: Any) -> None:
    await value


def _commands(block: Block, text: str) -> list[tuple[str, list[str]]]:
    """Each ``$ `` command with the output shown under it; a line that ends with a backslash goes on in the next."""
    commands: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            command, expected = commands.pop()
            commands.append((f"{command}\n{line}", expected))
        elif line.startswith("$ "):
            commands.append((line[2:], []))
        elif commands:
            commands[-1][1].append(line)
        else:
            raise DocsError(f"{block.place}: a console block begins with a command: '$ ...'")
        continued = line.endswith("\\")
    return commands
