"""What the application lets the dashboard show of payloads and texts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2

from lro_aio.core.logs import event
from lro_aio.core.proto_json import any_json

__all__ = ["Show", "Shower", "Shown", "members_json", "state_json"]

logger = logging.getLogger("lro_aio")

HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Something that the dashboard is about to show."""

    part: str
    """"state", "metadata", "response" or "error", as JSON; or "text": a sentence of an error, a progress, a reason
    or of the history, the name of a step, a topic, what the operation waits for, or the key of a queue."""
    value: Any
    """JSON."""
    operation: str
    """Name of the operation; "" of the key of a queue."""
    handler: str
    """"" where its creator drives it, and of the key of a queue."""


Show = Callable[[Shown], Any]
"""Gives what is shown instead, as JSON: the value itself, or parts of it. It may be called in any thread."""


class Shower:
    """Asks the application before anything is shown.

    Args:
        show: The application's; None shows everything.
    """

    def __init__(self, show: Show | None) -> None:
        self._show = show

    def __call__(self, part: str, value: Any, operation: str, handler: str) -> Any:
        """What to show. Nothing of the value where the application's function fails."""
        if self._show is None or value in (None, ""):
            return value
        try:
            shown = self._show(Shown(part=part, value=value, operation=operation, handler=handler))
            json.dumps(shown)
        except Exception as exc:  # noqa: BLE001 (the application's: whatever it is, nothing is shown by it)
            logger.warning(
                "the %s of %s is not shown: show= raised %s", part, operation or "a queue", type(exc).__name__,
                extra=event("dashboard_hid", operation=operation, handler=handler),
            )  # fmt: skip
            return HIDDEN
        return shown

    def text(self, value: str, operation: str, handler: str) -> str:
        """As calling it, for a sentence."""
        shown = self("text", value, operation, handler)
        return shown if isinstance(shown, str) else "" if shown is None else json.dumps(shown)


def members_json(packed: bytes) -> dict[str, Any]:
    """The members of a packed JSON object; none where it is something else."""
    found = any_json(any_pb2.Any.FromString(packed)).get("value") if packed else None
    return found if isinstance(found, dict) else {}


def state_json(data: bytes, codec: str) -> Any:
    """A handler's state as JSON; None for none."""
    if not codec:
        return None
    kind, _, rest = codec.partition(":")
    if kind == "proto":
        return any_json(any_pb2.Any(type_url=f"type.googleapis.com/{rest}", value=data))
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return f"{len(data):,} bytes of {codec}"
