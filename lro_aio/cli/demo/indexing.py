"""Files to counts and digests: what the handlers run in a thread, a slice at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["SKIPPED_DIRECTORIES", "PartHasher", "digest_of", "list_parts", "shown"]

SKIPPED_DIRECTORIES = frozenset({"__pycache__", "dist-packages", "site-packages"})
"""Skipped wherever they are below the path: other programs write there at any time."""

ROOT = b"."
"""The name of the part with the files that are directly in the path."""

CHUNK = 256 * 1024
"""Most bytes of one read."""


def shown(name: bytes) -> str:
    """A file's name in a form that protobuf and terminals can hold; not every name is UTF-8."""
    return name.decode("utf-8", "backslashreplace")


def digest_of(lines: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over one line ``<digest>  <name>`` per item, as ``sha256sum`` prints it, in the caller's order."""
    folded = hashlib.sha256()
    for digest, name in lines:
        folded.update(f"{digest}  {name}\n".encode())
    return folded.hexdigest()


def list_parts(path: str) -> list[bytes]:
    """The parts of a directory, in the order of their names: its sub-directories, and "." for its own files.

    Raises:
        OSError: The directory cannot be read.
    """
    with os.scandir(os.fsencode(path)) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted([ROOT, *(name for name in found if os.fsdecode(name) not in SKIPPED_DIRECTORIES)], key=shown)


@dataclass(frozen=True, slots=True)
class _File:
    path: bytes
    name: str
    """Relative to the indexed path, with "/"."""
    size: int
    """Bytes when it was listed. The counts are of what is read."""


class PartHasher:
    """Indexes one part. Blocks; call ``scan`` once, then ``work`` until it is ``done``.

    It reads regular files only; symbolic links are neither followed nor counted. Not safe for two threads at a time.

    Args:
        path: The indexed directory.
        part: "." or the name of a sub-directory.
    """

    def __init__(self, path: str, part: bytes) -> None:
        self._root = os.fsencode(path)
        self._part = part
        self._left: list[_File] = []
        self._digests: list[tuple[str, str]] = []
        self._current: _Reading | None = None
        self.expected = 0
        """Bytes, as listed."""
        self.files = self.bytes = self.lines = self.skipped = 0

    def scan(self) -> None:
        """List the files."""
        found: list[_File] = []
        pending = [self._root if self._part == ROOT else os.path.join(self._root, self._part)]
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            if self._part != ROOT and os.fsdecode(entry.name) not in SKIPPED_DIRECTORIES:
                                pending.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            name = shown(os.path.relpath(entry.path, self._root).replace(os.fsencode(os.sep), b"/"))
                            found.append(_File(entry.path, name, entry.stat(follow_symlinks=False).st_size))
            except OSError:
                self.skipped += 1
        self._left = sorted(found, key=lambda file: file.name, reverse=True)
        self.expected = sum(file.size for file in found)

    @property
    def done(self) -> bool:
        """Whether every file has been read."""
        return not self._left and self._current is None

    @property
    def fraction(self) -> float:
        """The share of the expected bytes that has been read, from 0 to 1."""
        if self.done:
            return 1.0
        under_way = self._current.size if self._current is not None else 0
        return min(1.0, (self.bytes + under_way) / self.expected) if self.expected else 0.0

    @property
    def digest(self) -> str:
        """The part's digest, of what has been read so far."""
        return digest_of(self._digests)

    def work(self, budget: int) -> None:
        """Read about ``budget`` more bytes. The end of a file counts as one, so that empty files end too."""
        while budget > 0 and not self.done:
            budget -= self._step(min(budget, CHUNK))

    def _step(self, most: int) -> int:
        try:
            if self._current is None:
                self._current = _Reading(self._left.pop())
            read = self._current.read(most)
        except OSError:
            self.skipped += 1
            if self._current is not None:
                self._current.close()
            self._current = None
            return 1
        if not read:
            self._finish(self._current)
            self._current = None
        return max(read, 1)

    def _finish(self, reading: _Reading) -> None:
        reading.close()
        self._digests.append((reading.hash.hexdigest(), reading.name))
        self.files += 1
        self.bytes += reading.size
        self.lines += reading.lines

    def close(self) -> None:
        """Close the file under way, if any."""
        if self._current is not None:
            self._current.close()
            self._current = None


class _Reading:
    """One open file."""

    def __init__(self, file: _File) -> None:
        self.name = file.name
        self.hash = hashlib.sha256()
        self.size = self.lines = 0
        self._stream = open(file.path, "rb", buffering=0)  # noqa: SIM115 (read over many calls, closed by its owner)

    def read(self, most: int) -> int:
        chunk = self._stream.read(most) or b""
        self.hash.update(chunk)
        self.size += len(chunk)
        self.lines += chunk.count(b"\n")
        return len(chunk)

    def close(self) -> None:
        self._stream.close()
