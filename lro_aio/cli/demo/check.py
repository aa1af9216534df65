"""The manifest once more, in the client's process, by code that shares nothing with the server's.

It defines the digest in the shortest form: for each part, the SHA-256 of what ``sha256sum`` would print for its files
in the order of their paths; and over the parts, the same again.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Expected", "recompute"]

SKIP = ("__pycache__", "dist-packages", "site-packages")


@dataclass(slots=True)
class Expected:
    """What the manifest must say."""

    digest: str = ""
    files: int = 0
    bytes: int = 0
    lines: int = 0
    parts: dict[str, str] = field(default_factory=dict)
    """Digest by directory."""


def recompute(path: str) -> Expected:
    """Index the directory again, one file after another. Blocks."""
    expected = Expected()
    by_part: dict[str, list[tuple[str, str]]] = {".": []}
    for directory, below, names in os.walk(path):
        below[:] = [name for name in below if name not in SKIP and not os.path.islink(os.path.join(directory, name))]
        top = Path(directory).relative_to(path).parts[:1]
        if not top:
            by_part.update((_text(name), []) for name in below)
        for name in names:
            file = Path(directory, name)
            try:
                if file.is_symlink() or not file.is_file():
                    continue
                content = file.read_bytes()
            except OSError:
                continue
            expected.files += 1
            expected.bytes += len(content)
            expected.lines += content.count(b"\n")
            line = (_text(file.relative_to(path).as_posix()), hashlib.sha256(content).hexdigest())
            by_part[_text(top[0]) if top else "."].append(line)
    expected.parts = {part: _fold(sorted(files)) for part, files in by_part.items()}
    expected.digest = _fold(sorted(expected.parts.items()))
    return expected


def _fold(named: list[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in named).encode()).hexdigest()


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
