"""Where a browser and the packages that drive it are, found by the standard library alone.

python -m tests.browser.programs    say where they are, or how to get them
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What the programs of Chromium are called."""

NO_BROWSER = f"no browser (looked for $CHROMIUM, and in PATH for {', '.join(NAMES)}): apt-get install chromium"

PACKAGES = {"playwright": "playwright", "axe_playwright_python": "axe-playwright-python"}
"""By module, the package that has it."""


def browser() -> str | None:
    """The program of Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM") or NAMES[0], *NAMES))), None)


def missing() -> str:
    """What the tests in a browser lack, and how to get it; "" where nothing is missing."""
    lacking = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    problems = [] if browser() else [NO_BROWSER]
    if lacking:
        problems.append(f"no {' and no '.join(lacking)}: {sys.executable} -m pip install {' '.join(lacking)}")
    return "; ".join(problems)


if __name__ == "__main__":
    problem = missing()
    print(problem or browser(), file=sys.stderr if problem else sys.stdout)
    sys.exit(bool(problem))
