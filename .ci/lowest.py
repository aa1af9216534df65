"""Whether each lower bound of pyproject.toml is what is installed here: one that never is promises nothing."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


ELSEWHERE = {"mcp"}
"""Extras that are not installed here, since what they bring would raise the bounds of the others."""


def main() -> None:
    """Exit with the bounds that are untrue."""
    extras = PROJECT["optional-dependencies"]
    here = [lines for name, lines in extras.items() if name not in ELSEWHERE and not name.startswith("dev-")]
    bounds = {line for lines in [PROJECT["dependencies"], *here] for line in lines if ">=" in line}
    wrong = []
    for bound in sorted(bounds):
        name, version = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+(?:b\d+)?)", bound).groups()
        installed = importlib.metadata.version(name)
        if not f"{installed}.".startswith(f"{version}."):
            wrong.append(f"{bound} allows what cannot be installed with the rest: {installed} is the lowest that can")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
