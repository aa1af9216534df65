"""JSON on the command line and on the standard input."""

from __future__ import annotations

import sys
from typing import Any

from lro_aio.cli.problems import CliError, Exit
from lro_aio.core import strict_json

__all__ = ["read"]


def read(text: str | None) -> Any:
    """The value of an argument.

    Args:
        text: JSON; "-" for what is on the standard input; None for null.

    Raises:
        CliError: It is not JSON.
    """
    if text is None:
        return None
    try:
        return strict_json.loads(sys.stdin.buffer.read() if text == "-" else text)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as exc:  # of the text, or of its encoding
        problem = str(exc)
    hint = f"; for a text, write '\"{text}\"'" if text.isidentifier() else ""
    raise CliError(f"the message is not JSON: {problem}{hint}", Exit.USAGE)
