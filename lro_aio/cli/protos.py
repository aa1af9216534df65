"""``lro protos``: the sources that a service's ``.proto`` imports, under the names by which it imports them.

``googleapis-common-protos`` has ``google/longrunning/operations.proto`` under another name: no compiler finds it.
"""

from __future__ import annotations

from pathlib import Path

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.descriptor import FileDescriptor

from lro_aio.cli.problems import CliError, Exit
from lro_aio.core import progress_pb2

__all__ = ["write"]

OPERATIONS = operations_pb2.DESCRIPTOR.name
WITH_THE_COMPILER = "google/protobuf/"


def write(directory: Path) -> str:
    """Copy ``google/longrunning/operations.proto`` and all that it imports, and ``lro/v1/progress.proto``.

    Returns the sentence for it.

    Raises:
        CliError: The directory cannot be written.
    """
    installed = Path(operations_pb2.__file__).parents[2]
    sources = {name: _source(installed / name).read_bytes() for name in _imported(operations_pb2.DESCRIPTOR)}
    sources[progress_pb2.DESCRIPTOR.name] = Path(progress_pb2.__file__).with_name("progress.proto").read_bytes()
    try:
        for name, source in sources.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source)
    except OSError as exc:
        raise CliError(f"cannot write {exc.filename or directory}: {exc.strerror}", Exit.USAGE) from exc
    return f"{directory}: {OPERATIONS}, and what it imports; {progress_pb2.DESCRIPTOR.name}"


def _imported(file: FileDescriptor) -> set[str]:
    """Its own name and those of all that it imports, but for what each compiler brings along."""
    if file.name.startswith(WITH_THE_COMPILER):
        return set()
    return {file.name}.union(*map(_imported, file.dependencies))


def _source(path: Path) -> Path:
    if path.exists():
        return path
    return path.with_name(f"{path.stem}_proto.proto")  # as operations.proto is called there
