"""Everything about one operation, and about all of them, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lro_aio.cli.printing import length, middle, moment, operation_details, plain
from lro_aio.core.bulk import BulkPreview
from lro_aio.core.description import Description
from lro_aio.core.queues import InLine
from lro_aio.core.record import State
from lro_aio.core.shown_progress import failure_of
from lro_aio.core.stats import Count, DueRoute, Stats, count_json
from lro_aio.core.timeline import Span

__all__ = ["print_description", "print_preview", "print_stats", "stats_json"]

COLOURS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CRASHED": "red",
    "RETRIED": "red",
    "CANCELLED": "yellow",
    "PAUSE": "yellow",
    "CRASH": "red",
}
NOBODY = "(driven by hand)"
"""Instead of the name of a handler."""
MAX_FAILURES = 10
"""Kinds of failures that are shown."""


def print_description(output: Console, told: Description) -> None:
    """Print everything about one operation: its row, then its life."""
    table = operation_details(told.operation)
    for name, value in _facts(told):
        if value:
            table.add_row(name, Text(plain(value)))
    output.print(table)
    if told.timeline:
        output.print()
        output.print(_timeline(told))


def _facts(told: Description) -> Iterable[tuple[str, str]]:
    """What the row tells besides what clients see, each with its name."""
    yield "state", told.state.value + (" and paused" if told.paused else "")
    yield "handler", told.handler or NOBODY
    yield "resumes at", told.resume_point
    yield "waits", told.waits_for
    for place in told.queues:
        yield "queue", _stands(place)
    yield "paused", told.pause_reason
    yield "cancel", ("requested; its clean-up runs" if told.cleaning else "requested") * told.cancel_requested
    problem = told.problem
    if problem is not None and not told.operation.done and failure_of(told.operation) is None:
        yield "problem", f"{problem.code} {problem.reason}".rstrip() + f": {problem.message}"
    yield "runs", f"{told.runs}{_many(told.crashes, ', {} crash', 'es')}"
    yield "attempt", str(told.attempt) if told.attempt > 1 else ""
    yield "retries", str(told.retries) if told.retries else ""
    yield "run by", told.owner
    yield "parent", told.parent_operation
    yield "children", ", ".join(f"{count} {state.value}" for state, count in told.children.items())
    yield "rerun of", told.rerun_of
    yield "rerun as", ", ".join(told.reruns)
    yield "journal", f"{told.entries} entries" if told.entries else ""
    yield "created", moment(told.create_time)
    for name, when in (
        ("ended", told.end_time),
        ("deadline", told.deadline),
        ("lease until", told.lease_expire_time),
        ("expires", told.expire_time),
    ):
        yield name, "" if when is None else moment(when)
    yield "uid", told.uid


def _stands(place: InLine) -> str:
    """Where it stands in a queue, in words."""
    who = [place.queue, *([f"step {place.step} {place.step_key}".rstrip()] if place.step else [])]
    told = [", ".join([*who, *([f"key {place.key}"] if place.key else [])])]
    if place.held:
        told.append(f"has a place since {moment(place.since)}")
    else:
        told.append("nobody before it" if place.ahead == Count(0) else f"{place.ahead} before it")
        told += ["the queue is paused"] if place.paused else []
        told += [] if place.rests_until is None else [f"rests until {moment(place.rests_until)}"]
    return "; ".join(told)


def _timeline(told: Description) -> Table:
    table = _table("START", "TOOK", "WHAT", "DETAILS")
    began = told.timeline[0].start
    day = moment(began)[:10]
    for span in told.timeline:
        start = moment(span.start)
        took = "" if span.end == span.start else "..." if span.end is None else length(span.end - span.start)
        shown = start[11:-1] if start.startswith(day) else start[:-1]
        what = Text(span.kind, COLOURS.get(span.kind, ""))
        table.add_row(Text(shown), Text(took), what, _details(span))
    return table


def _details(span: Span) -> Text:
    label = plain(span.label) or ("start" if span.kind == "SEGMENT" else "")
    text = Text(label)
    if span.outcome:
        text.append(" -> " if label else "").append(plain(span.outcome), COLOURS.get(span.outcome, ""))
    if span.attempts > 1:
        text.append(f", {span.attempts} tries")
    if span.error:
        text.append(f": {plain(span.error)}")
    if span.owner:
        text.append(f"  {plain(span.owner)}", "dim")
    return text


def print_stats(output: Console, stats: Stats) -> None:
    """Print how it goes with all operations."""
    totals = stats.states
    states = [state for state in State if totals[state].number]
    if not states:
        output.print("no operations")
        return
    table = _table("HANDLER", *(state.value for state in states), right=range(1, len(states) + 1))
    handlers = list(dict.fromkeys(cell.handler for cell in stats.counts))
    counts = {(cell.handler, cell.state): cell.count for cell in stats.counts}
    for handler in handlers:
        found = [counts.get((handler, state), Count(0)) for state in states]
        table.add_row(Text(plain(handler) or NOBODY), *(Text(str(count) if count.number else "-") for count in found))
    if len(handlers) > 1:
        table.add_row(Text("all", "bold"), *(Text(str(totals[state]), "bold") for state in states))
    output.print(table)
    _print_rest(output, stats)


def _print_rest(output: Console, stats: Stats) -> None:
    """What is paused, who runs what, who waits in queues, what is late, and what has failed."""
    if stats.paused.number:
        output.print(Text(f"\n{stats.paused} paused", "yellow"))
    if stats.running:
        table = _table("RUN BY", "OPERATIONS", right=(1,))
        for owner in stats.running:
            table.add_row(Text(plain(owner.owner) or NOBODY), Text(str(owner.count)))
        _print_below(output, table)
    if stats.queues:
        table = _table("QUEUE", "WAITING", "RUNNING", right=(1, 2))
        for queue in stats.queues:
            table.add_row(*map(Text, (plain(queue.queue), str(queue.waiting), str(queue.running))))
        _print_below(output, table)
    if stats.due:
        table = _table("DUE", "RESUMES AT", "OPERATIONS", "LATE", "OLDEST", right=(2, 3))
        for due in stats.due:
            table.add_row(*_due(due, stats, output.width))
        _print_below(output, table)
    if stats.failures:
        table = _table("FAILED", "CODE", "REASON", "OPERATIONS", "NEWEST", right=(3,))
        for group in stats.failures[:MAX_FAILURES]:
            texts = (plain(group.handler) or NOBODY, group.code, plain(group.reason), str(group.count))
            table.add_row(*map(Text, texts), Text(plain(f"{group.name}: {group.message}")))
        _print_below(output, table)


def _due(due: DueRoute, stats: Stats, width: int) -> list[Text]:
    alone = due in stats.unserved
    name = middle(plain(due.name), max(24, width // 3))
    handler = Text(plain(due.handler) or NOBODY, "red" if alone else "")
    if alone:
        handler.append(" (nobody runs it)")
    texts = (plain(due.resume_point) or "start", str(due.count), length(stats.time - due.since), name)
    return [handler, *map(Text, texts)]


def print_preview(output: Console, found: BulkPreview, repeat: str) -> None:
    """Print what a bulk action would act on, and how it is started."""
    done = {"cancel": "cancelled", "pause": "paused", "unpause": "unpaused", "rerun": "run again", "delete": "deleted"}
    what = f"{found.count} operation{'' if found.count == Count(1) else 's'} would be {done[found.verb]}"
    output.out(what + (":" if found.sample else ""), highlight=False)
    for name in found.sample:
        output.out(f"  {plain(name)}", highlight=False)
    if found.count.number > len(found.sample):
        output.out("  ...", highlight=False)
    if found.count.number:
        output.out(f"to do it: {repeat}", highlight=False)


def stats_json(stats: Stats) -> dict[str, Any]:
    """The numbers for machines."""

    def routes(of: Sequence[DueRoute]) -> list[dict[str, Any]]:
        return [
            {
                "handler": due.handler,
                "resumePoint": due.resume_point,
                "since": moment(due.since),
                "name": due.name,
                **count_json(due.count),
            }
            for due in of
        ]

    return {
        "time": moment(stats.time),
        "counts": [{"handler": c.handler, "state": c.state.value, **count_json(c.count)} for c in stats.counts],
        "paused": count_json(stats.paused),
        "running": [{"owner": one.owner, **count_json(one.count)} for one in stats.running],
        "queues": [
            {"queue": one.queue, "waiting": count_json(one.waiting), "running": count_json(one.running)}
            for one in stats.queues
        ],
        "due": routes(stats.due),
        "unserved": routes(stats.unserved),
        "failures": [
            {
                "handler": group.handler,
                "code": group.code,
                "reason": group.reason,
                "message": group.message,
                "name": group.name,
                "time": moment(group.time),
                **count_json(group.count),
            }
            for group in stats.failures
        ],
    }


def _table(*headings: str, right: Iterable[int] = ()) -> Table:
    table = Table.grid(padding=(0, 2))
    aligned = set(right)
    last = len(headings) - 1
    for column, _ in enumerate(headings):
        folds = column == last and column not in aligned
        table.add_column(
            justify="right" if column in aligned else "left",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    table.add_row(*(Text(heading, "bold") for heading in headings))
    return table


def _print_below(output: Console, table: Table) -> None:
    output.print()
    output.print(table)


def _many(number: int, text: str, plural: str) -> str:
    return (text.format(number) + (plural if number > 1 else "")) if number else ""
