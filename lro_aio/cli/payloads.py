"""JSON on the command line and on the standard input."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from lro_aio.cli.problems import CliError, Exit

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
        return json.loads(sys.stdin.buffer.read() if text == "-" else text, parse_constant=_number, parse_float=_number)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as exc:  # of the text, or of its encoding
        problem = str(exc)
    hint = "" if text == "-" or not text.isidentifier() else f"; for a text, write '\"{text}\"'"
    raise CliError(f"the message is not JSON: {problem}{hint}", Exit.USAGE)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it has no {text}")
    return number
