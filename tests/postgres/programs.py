"""Where PostgreSQL's programs are, found by the standard library alone.

python -m tests.postgres.programs    say where they are, or how to get them
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

MISSING = (
    "PostgreSQL's programs initdb and postgres are not installed (looked for them in $PG_BIN, in PATH and in"
    " /usr/lib/postgresql/*/bin): apt-get install postgresql"
)


def programs() -> Path | None:
    """The directory of the newest server's programs; None where there is none."""
    found = shutil.which("postgres")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    candidates = [os.environ.get("PG_BIN"), *reversed(installed), found and Path(found).resolve().parent]
    for folder in candidates:
        if folder and (Path(folder) / "initdb").exists() and (Path(folder) / "postgres").exists():
            return Path(folder)
    return None


if __name__ == "__main__":
    folder = programs()
    print(folder or MISSING, file=sys.stdout if folder else sys.stderr)
    sys.exit(folder is None)
