"""Markdown to fenced code blocks with the directives that stand right above them.

A directive is an HTML comment, so that readers do not see it::

    <!-- test: file=app.py -->     write the block to app.py instead of running it
    <!-- test: file=app.py append -->  add it to the end of app.py
    <!-- test: raises=ValueError -->   the block must end with this exception
    <!-- test: checked -->        the commands of the block are looked up, not run: they need an account
    <!-- test: ports=50051,8000 -->    anywhere on the page: these numbers stand for free ports
    <!-- test: postgres=5432 -->   anywhere on the page: this number stands for the port of a PostgreSQL server
    <!-- test: files=examples/a -->    anywhere on the page: the files of this directory lie in the reader's
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_DIRECTIVE = re.compile(r"^ *<!-- test: (?P<words>.*?) -->$")
KNOWN_DIRECTIVES = {"checked", "file", "append", "raises", "ports", "postgres", "files"}


class DocsError(AssertionError):
    """A page that the harness cannot run, or whose code does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    """Of the first line of code, from 1."""
    language: str
    text: str
    directives: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page.name}:{self.line}"


def parse(page: Path) -> list[Block]:
    """All blocks of a page, in order.

    Raises:
        DocsError: A fence that is not closed, a block without a language, or an unknown directive.
    """
    blocks: list[Block] = []
    directives: dict[str, str] = {}
    opened: re.Match[str] | None = None
    start, lines = 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is not None:
            if fence and not fence["info"].strip() and fence["fence"].startswith(opened["fence"]):
                language = opened["info"].strip()
                if not language:
                    raise DocsError(f"{page.name}:{start}: a code block without a language would escape the tests")
                blocks.append(Block(page, start + 1, language, "\n".join(lines) + "\n", directives))
                opened, directives = None, {}
            else:
                lines.append(line.removeprefix(opened["indent"]))
        elif fence:
            opened, start, lines = fence, number, []
        elif directive := _DIRECTIVE.match(line):
            directives = _words(directive["words"], f"{page.name}:{number}")
        elif line.strip():
            directives = {}
    if opened is not None:
        raise DocsError(f"{page.name}:{start}: the code block is not closed")
    return blocks


def ports_of(page: Path) -> list[str]:
    """The port numbers of the page that stand for free ones."""
    found = re.search(r"^<!-- test: ports=([0-9,]+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].split(",") if found else []


def postgres_of(page: Path) -> str | None:
    """The port number of the page that stands for a PostgreSQL server's; None where it needs none."""
    found = re.search(r"^<!-- test: postgres=(\d+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def files_of(page: Path) -> list[Path]:
    """The programs that a reader of the page has from the start."""
    found = re.search(r"^<!-- test: files=(\S+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return sorted((page.parent / found[1]).glob("*.py")) if found else []


def _words(words: str, place: str) -> dict[str, str]:
    parsed = {key: value for key, _, value in (word.partition("=") for word in words.split())}
    if unknown := parsed.keys() - KNOWN_DIRECTIVES:
        raise DocsError(f"{place}: unknown directive {sorted(unknown)}")
    return parsed
