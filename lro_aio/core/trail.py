"""The trail: the last things that happened to an operation, as a short text in its row.

One line each, oldest first: ``TIME KIND TEXT``. It is rewritten with the row by whatever changes it, so that it costs
no statement. What the row tells by itself, its start and its end, is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from lro_aio.core.record import NEVER, Wait, Wake

__all__ = [
    "CANCEL",
    "CLAIMED",
    "FAILURE",
    "HANDED_OVER",
    "LEASE_LOST",
    "MOST",
    "PAUSED",
    "QUEUED",
    "RELEASED",
    "RERUN",
    "RETRIED",
    "SUSPENDED",
    "UNPAUSED",
    "WEBHOOK",
    "WEBHOOKS",
    "WOKEN",
    "Happening",
    "happenings",
    "is_pinned",
    "noted",
    "parted",
    "queued",
    "suspended",
    "waits_for",
    "woken_by",
]

CLAIMED = "CLAIMED"
"""A process began a run; the text is the process."""
SUSPENDED = "SUSPENDED"
"""A segment ended; the text is what the operation waits for."""
WOKEN = "WOKEN"
"""The wait is over; the text is why."""
RETRIED = "RETRIED"
"""The segment runs again; the text is the error."""
RELEASED = "RELEASED"
"""A process gave the operation back for others to go on with."""
LEASE_LOST = "LEASE_LOST"
"""A process was taken for dead; the text is the process."""
HANDED_OVER = "HANDED_OVER"
"""A scheduler has the wait; the text is its handle."""
CANCEL = "CANCEL"
"""Somebody asked for a cancel; the text is the reason that was given."""
FAILURE = "FAILURE"
"""A run failed, and the operation has not ended for all that; the text is the error."""
PAUSED = "PAUSED"
"""No run begins any more; the text is the reason that was given."""
UNPAUSED = "UNPAUSED"
"""Somebody ended the pause; the text is the reason that was given."""
QUEUED = "QUEUED"
"""It waits for a place; the text is the queue."""
RERUN = "RERUN"
"""It was run again as another operation, or is that one; the text says which."""
WEBHOOKS = "WEBHOOKS"
"""Of the first line, which is never dropped: whom the operation tells. The text is for ``core.webhooks``."""
WEBHOOK = "WEBHOOK"
"""An event is about to be told; the text says which delivery does so."""

MOST = 32
"""Lines that are kept."""
LONGEST = 160
"""Characters of a text."""
_THEN = "; then "
_THE_START = "the start"
_YEAR_10000 = 253_402_300_800.0
_PINNED = f" {WEBHOOKS} "


class Happening(NamedTuple):
    """One line of a trail."""

    time: float
    """Epoch seconds, to the millisecond."""
    kind: str
    """One of the constants of this module, or of a newer release."""
    text: str


def noted(trail: str, now: float, kind: str, text: str = "", *, instead: bool = False) -> str:
    """The trail with one more line, and without the oldest where there are too many.

    Args:
        trail: "" for none.
        now: Epoch seconds.
        kind: What happened.
        text: For people. It is cut, and becomes one line.
        instead: Take the place of the last line if that is of the same kind: for what is repeated for days.
    """
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    line = f"{now:.3f} {kind} {text[:LONGEST]}"
    if not trail:
        return line
    if instead:
        before, _, last = trail.rpartition("\n")
        if last.split(" ", 2)[1] == kind:
            return f"{before}\n{line}" if before else line
    if trail.count("\n") >= MOST - 1:
        start = trail.index("\n") + 1 if is_pinned(trail) else 0
        trail = trail[:start] + trail[trail.index("\n", start) + 1 :]
    return f"{trail}\n{line}"


def is_pinned(trail: str) -> bool:
    """Whether the first line stays, however many follow it."""
    return trail.startswith(_PINNED, trail.find(" "))


def happenings(trail: str) -> Iterator[Happening]:
    """The lines of a trail, oldest first."""
    for line in trail.split("\n") if trail else ():
        moment, kind, text = line.split(" ", 2)
        yield Happening(float(moment), kind, text)


def queued(trail: str, now: float, queue: str) -> str:
    """The trail of a row that found no place: the claim that ended so, if there was one, is not told of."""
    before, _, last = trail.rpartition("\n")
    if last and last.split(" ", 2)[1] == CLAIMED:
        trail = before
    return noted(trail, now, QUEUED, queue, instead=True)


def suspended(trail: str, now: float, wait: Wait, resume_point: str) -> str:
    """The trail with the end of a segment. A text that is too long loses of its wait, and not its resume point."""
    then = _then(resume_point)
    return noted(trail, now, SUSPENDED, _wait(wait, now)[: max(0, LONGEST - len(then))] + then)


def waits_for(wait: Wait, now: float, resume_point: str) -> str:
    """What a segment that ends at this moment waits for, and where the handler goes on."""
    return _wait(wait, now) + _then(resume_point)


def parted(text: str) -> tuple[str, str]:
    """Of the text of a ``SUSPENDED``: what it waits for, and the resume point ("" is the start)."""
    told, then, point = text.rpartition(_THEN)
    if not then:  # cut off by an older release
        return text, ""
    return told, "" if point == _THE_START else point


def _then(resume_point: str) -> str:
    return f"{_THEN}{resume_point or _THE_START}"


def _wait(wait: Wait, now: float) -> str:
    parts = []
    if wait.queues:
        parts.append(f"for a place in the queue {', '.join(wait.queues[:3])}{' ...' if len(wait.queues) > 3 else ''}")
    asks_again = bool(wait.queues) and not (wait.topics or wait.children)  # in case that nobody calls it
    bounded = (wait.ends < NEVER or not (wait.union or wait.topics)) and not asks_again
    if bounded and (wait.ends > now or not wait.children):
        parts.append(f"until {_date(wait.ends)}")
    if wait.topics:
        parts.append(f"for a message on {', '.join(wait.topics[:3])}{' ...' if len(wait.topics) > 3 else ''}")
    if wait.children:
        parts.append(f"for {wait.children[0]}" if len(wait.children) == 1 else _many(wait.children))
        if wait.service:
            parts.append(f"of {wait.service}")
        if wait.deadline is not None:
            parts.append(f"no longer than {_date(wait.deadline)}")
    return (" or " if wait.union else ", ").join(parts)


def woken_by(wake: Wake) -> str:
    """Why a wait is over."""
    missing = f", {len(wake.pending)} of {len(wake.children)} had not ended" if wake.pending else ""
    return f"{wake.reason!s}{missing}{': ' if wake.error else ''}{wake.error}"


def _many(children: tuple[str, ...]) -> str:
    return f"for {len(children)} operations, {children[0]} is the first"


def _date(when: float) -> str:
    if not when < _YEAR_10000:
        return "the end of time"
    return f"{datetime.fromtimestamp(max(when, 0.0), UTC):%Y-%m-%d %H:%M:%S} UTC"
