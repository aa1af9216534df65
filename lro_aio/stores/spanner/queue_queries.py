"""The statements about queues, and their parameters.

Each takes all that it asks for from ranges of keys and indexes, and no more of any than it says. What comes in several
parts comes as arrays in one row, so that it is one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lro_aio.core.queueing import KNOWN_STARTS, WINDOW, Standing
from lro_aio.stores._places import KEYS as TOLD_KEYS
from lro_aio.stores._places import MOST, RIPE, TOLD
from lro_aio.stores.spanner.queries import EPOCH, Query, array_of
from lro_aio.stores.spanner.queue_tables import KEYS, LINE, QUEUES, SERVED, STARTS, TICKETS, WAKES
from lro_aio.stores.spanner.table import quoted
from lro_aio.stores.spanner.values import latest

__all__ = [
    "KEY",
    "QUEUE",
    "TICKET",
    "counted",
    "decided",
    "every_queue",
    "next_in_line",
    "served",
    "sleeping_keys",
    "stale",
    "standings",
    "stranded",
]

STALE = 100
"""Operations of which places that were left are found at a time."""

TICKET = tuple(column.name for column in TICKETS.columns)
QUEUE = ("Name", "Bounds", "Paused", "Turn", "Last", "Number", "Starts", "Clock", "RestsUntil")
KEY = ("Turn", "Starts", "RestsUntil", "Wakes", "Idle")

_PAIRS = array_of("queue", "key")
_TICKETS = array_of("name", "uid", "step")
_HANDLERS = array_of("queue", "handler")
_MOMENTS = array_of("queue", times=("moment",))
_WAITING = (Standing.BEHIND, Standing.READY)
_FIRST = "ORDER BY t.Priority, t.Turn, t.Number LIMIT"


def decided(
    table: str,
    *,
    queues: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    tickets: Sequence[tuple[str, str, str]],
    operations: Sequence[tuple[str, str, str]],
    most: int,
) -> Query:
    """What a decision needs, as one row of five arrays: queues, keys, tickets, tickets of steps, and who waits.

    Args:
        table: The table of the operations.
        queues: By name: as ``QUEUE``, with their places taken, whether anybody is READY, and the starts that count.
        pairs: (queue, key): the key as both and ``KEY``, with its places taken, and the starts that count.
        tickets: (name, uid, step) of tickets.
        operations: The same, without a step, of operations of which the tickets of all steps are wanted.
        most: Of each pair, so many tickets that are READY, and so many that stand BEHIND, the first of each.
    """
    queue = (
        f"SELECT AS STRUCT {_of('q', QUEUE)}, {_held(table, 't.Queue = q.Name')} AS Held,"
        f" ARRAY_LENGTH(ARRAY(SELECT t.Standing {_tickets(table, LINE.suffix)}"
        " WHERE t.Queue = q.Name AND t.Standing = 1 LIMIT 1)) AS Ready,"
        f" {_started(table, 'q.Name', chr(39) * 2, 'q.Starts', 'q.Rate')} AS Started"
        f" FROM {QUEUES.name(table)} AS q WHERE q.Name IN UNNEST(@queues)"
    )
    key = (
        f"SELECT AS STRUCT p.queue, p.key, {_of('r', KEY)},"
        f" {_held(table, 't.Queue = p.queue AND t.QueueKey = p.key')} AS Held,"
        f" {_started(table, 'p.queue', 'p.key', 'r.Starts', 'r.KeyRate')} AS Started"
        f" FROM UNNEST(@pairs) AS p, UNNEST(ARRAY(SELECT AS STRUCT {_of('k', KEY)}, q.KeyRate"
        f" FROM {KEYS.name(table)} AS k, {QUEUES.name(table)} AS q"
        " WHERE k.Queue = p.queue AND k.QueueKey = p.key AND q.Name = p.queue)) AS r"
    )

    def each(wanted: str, condition: str) -> str:
        return (
            f"SELECT AS STRUCT {_of('r', TICKET)} FROM UNNEST({wanted}) AS w, UNNEST(ARRAY("
            f"SELECT AS STRUCT {_of('t', TICKET)} FROM {TICKETS.name(table)} AS t"
            f" WHERE t.key = w.name AND t.Uid = w.uid AND t.Step {condition})) AS r"
        )

    waits = (
        f"SELECT AS STRUCT {_of('r', TICKET)} FROM UNNEST(@pairs) AS p, UNNEST(@waiting) AS w, UNNEST(ARRAY("
        f"SELECT AS STRUCT {_of('t', TICKET)} {_tickets(table, LINE.suffix)}"
        f" WHERE t.Queue = p.queue AND t.Standing = w AND t.QueueKey = p.key {_FIRST} @most)) AS r"
    )
    parts = (queue, key, each("@tickets", "= w.step"), each("@operations", "> w.step"), waits)
    query = Query(f"SELECT {', '.join(f'ARRAY({part})' for part in parts)}").texts(queues=queues)
    query.structs(_PAIRS, pairs=pairs).structs(_TICKETS, tickets=tickets, operations=operations)
    return query.wholes(waiting=_WAITING).whole(most=most, known=KNOWN_STARTS)


def served(table: str, handlers: Sequence[str], now: float) -> Query:
    """Every queue as ``QUEUE``, its places taken, when a key wakes next, the starts that count, and who waits in it.

    The last is those of the handlers that have anybody there.
    """
    sql = (
        f"SELECT {_of('q', QUEUE)}, {_held(table, 't.Queue = q.Name')},"
        f" ARRAY(SELECT k.Wakes {_waking(table)} WHERE k.Queue = q.Name AND k.Wakes > @now AND k.Wakes > q.Clock"
        " ORDER BY k.Wakes LIMIT 1),"
        f" {_started(table, 'q.Name', chr(39) * 2, 'q.Starts', 'q.Rate')},"
        " ARRAY(SELECT h FROM UNNEST(@handlers) AS h WHERE ARRAY_LENGTH(ARRAY("
        f"SELECT t.Standing FROM UNNEST(@waiting) AS w, UNNEST(ARRAY(SELECT AS STRUCT t.Standing"
        f" {_tickets(table, SERVED.suffix)} WHERE t.Handler = h AND t.Standing = w AND t.Queue = q.Name LIMIT 1)) AS t"
        " LIMIT 1)) > 0)"
        f" FROM {QUEUES.name(table)} AS q"
    )
    query = Query(sql).texts(handlers=handlers).wholes(waiting=_WAITING)
    return query.time(now=latest(now)).whole(known=KNOWN_STARTS)


def next_in_line(
    table: str, *, lines: Sequence[tuple[str, str]], ripe: Iterable[tuple[str, float]], most: int
) -> Query:
    """Two arrays of tickets: the first READY ones, and of each key whose time has come the first of each standing.

    Args:
        table: The table of the operations.
        lines: (queue, handler) of those that are looked for.
        ripe: Queues, with their present time.
        most: Tickets of each line.
    """
    first = (
        f"SELECT AS STRUCT {_of('r', TICKET)} FROM UNNEST(@lines) AS w, UNNEST(ARRAY("
        f"SELECT AS STRUCT {_of('t', TICKET)} {_tickets(table, SERVED.suffix)}"
        f" WHERE t.Handler = w.handler AND t.Standing = 1 AND t.Queue = w.queue {_FIRST} @most)) AS r"
    )
    heads = (
        f"SELECT AS STRUCT {_of('r', TICKET)} FROM UNNEST(@ripe) AS w,"
        f" UNNEST(ARRAY(SELECT k.QueueKey {_waking(table)} WHERE k.Queue = w.queue AND k.Wakes <= w.moment"
        " ORDER BY k.Wakes LIMIT @keys)) AS one, UNNEST(@waiting) AS s, UNNEST(ARRAY("
        f"SELECT AS STRUCT {_of('t', TICKET)} {_tickets(table, LINE.suffix)}"
        f" WHERE t.Queue = w.queue AND t.Standing = s AND t.QueueKey = one {_FIRST} 1)) AS r"
    )
    query = Query(f"SELECT ARRAY({first}), ARRAY({heads})").structs(_HANDLERS, lines=lines)
    return query.structs(_MOMENTS, ripe=ripe).wholes(waiting=_WAITING).whole(most=most, keys=RIPE)


def every_queue(table: str, now: float, names: Sequence[str] | None) -> Query:
    """(name, bounds, override, declared, paused, rests, resting keys) of those of which somebody said what they allow.

    A key that rests comes with the end of its rest.
    """
    sql = (
        f"SELECT {_of('q', ('Name', 'Bounds', 'Override', 'Declared', 'Paused', 'RestsUntil'))},"
        f" ARRAY(SELECT AS STRUCT k.QueueKey, k.RestsUntil FROM {KEYS.name(table)} AS k"
        " WHERE k.Queue = q.Name AND k.RestsUntil > @now ORDER BY k.QueueKey LIMIT @most)"
        f" FROM {QUEUES.name(table)} AS q WHERE q.Bounds <> ''"
    )
    query = Query(sql).time(now=latest(now)).whole(most=TOLD_KEYS)
    return _among(query, names, " ORDER BY q.Name")


def counted(table: str, names: Sequence[str] | None) -> Query:
    """(queue, key, standing) of tickets, from an index alone: no more than ``MOST`` of each queue and standing."""
    sql = (
        f"SELECT q.Name, one, s FROM {QUEUES.name(table)} AS q, UNNEST(@standings) AS s, UNNEST(ARRAY("
        f"SELECT t.QueueKey {_tickets(table, LINE.suffix)}"
        " WHERE t.Queue = q.Name AND t.Standing = s LIMIT @most)) AS one"
        " WHERE q.Bounds <> ''"
    )
    return _among(Query(sql).wholes(standings=Standing).whole(most=MOST), names, "")


def stale(table: str, queues: Iterable[str], now: float) -> Query:
    """Two arrays of names, each of up to ``STALE`` operations that have ended, and yet stand in these queues.

    One of those that have places or are next, and one of those that are among the first of a key whose time has come.
    Who stands further behind is first one day.
    """
    ended = f"UNNEST(ARRAY(SELECT o.key FROM {quoted(table)} AS o WHERE o.key = name AND o.Outcome > 0)) AS ended"
    near = (
        "SELECT ended FROM UNNEST(@queues) AS w, UNNEST(@standings) AS s,"
        f" UNNEST(ARRAY(SELECT t.key {_tickets(table, LINE.suffix)}"
        f" WHERE t.Queue = w AND t.Standing = s LIMIT @most)) AS name, {ended} LIMIT @stale"
    )
    heads = (
        f"SELECT ended FROM UNNEST(@queues) AS w, UNNEST(ARRAY(SELECT k.QueueKey {_waking(table)}"
        " WHERE k.Queue = w AND k.Wakes <= @now LIMIT @most)) AS one,"
        f" UNNEST(ARRAY(SELECT t.key {_tickets(table, LINE.suffix)}"
        f" WHERE t.Queue = w AND t.Standing = 0 AND t.QueueKey = one {_FIRST} @first)) AS name, {ended} LIMIT @stale"
    )
    query = Query(f"SELECT ARRAY({near}), ARRAY({heads})").texts(queues=queues).time(now=latest(now))
    return query.whole(most=MOST, stale=STALE, first=WINDOW).wholes(standings=[Standing.READY, Standing.HELD])


def stranded(table: str, queues: Iterable[str]) -> Query:
    """(queue, key) of up to ``STALE`` keys of each in which tickets stand behind nobody, and which nothing wakes."""

    def has(standings: str) -> str:
        return (
            f"ARRAY_LENGTH(ARRAY(SELECT t.Standing FROM UNNEST({standings}) AS s, UNNEST(ARRAY(SELECT AS STRUCT"
            f" t.Standing {_tickets(table, LINE.suffix)} WHERE t.Queue = k.Queue AND t.Standing = s"
            " AND t.QueueKey = k.QueueKey LIMIT 1)) AS t LIMIT 1))"
        )

    sql = (
        f"SELECT w, one FROM UNNEST(@queues) AS w, UNNEST(ARRAY(SELECT k.QueueKey FROM {KEYS.name(table)} AS k"
        f" WHERE k.Queue = w AND k.Idle IS NULL AND k.Wakes IS NULL AND {has('@behind')} > 0 AND {has('@first')} = 0"
        " LIMIT @stale)) AS one"
    )
    query = Query(sql).texts(queues=queues).whole(stale=STALE)
    return query.wholes(behind=[Standing.BEHIND], first=[Standing.READY, Standing.HELD])


def standings(table: str, name: str, uid: str) -> Query:
    """Where an operation and its steps stand: no more than ``TOLD`` that wait, and as many that have places.

    Each as ``TICKET``, with (paused, end of the rest) of its queue, the end of the rest of its key, and of those that
    wait there, up to one more than ``MOST``: how many stand before it, and how many were looked at. Of one that has its
    place, nobody is.
    """

    def own(condition: str) -> str:
        return (
            f"ARRAY(SELECT AS STRUCT {_of('t', TICKET)} FROM {TICKETS.name(table)} AS t"
            f" WHERE t.key = @name AND t.Uid = @uid AND t.Standing {condition} {_FIRST} @told)"
        )

    those = "t.Queue = r.Queue AND t.Standing < IF(r.Standing = 2, 0, 2)"  # a range of the index, and an empty one
    before = "o.Priority < r.Priority OR o.Priority = r.Priority AND"
    before += " (o.Turn < r.Turn OR o.Turn = r.Turn AND o.Number < r.Number)"
    sql = (
        f"SELECT {_of('r', TICKET)},"
        f" ARRAY(SELECT AS STRUCT q.Paused, q.RestsUntil FROM {QUEUES.name(table)} AS q WHERE q.Name = r.Queue),"
        f" ARRAY(SELECT k.RestsUntil FROM {KEYS.name(table)} AS k WHERE k.Queue = r.Queue AND k.QueueKey = r.QueueKey),"
        f" ARRAY_LENGTH(ARRAY(SELECT o.Number FROM UNNEST(l.waits) AS o WHERE {before})), ARRAY_LENGTH(l.waits)"
        f" FROM UNNEST(ARRAY_CONCAT({own('< 2')}, {own('= 2')})) AS r, UNNEST(ARRAY(SELECT AS STRUCT ARRAY("
        f"SELECT AS STRUCT t.Priority, t.Turn, t.Number {_tickets(table, LINE.suffix)}"
        f" WHERE {those} LIMIT @most) AS waits)) AS l"
    )
    return Query(sql).text(name=name, uid=uid).whole(told=TOLD, most=MOST + 1)


def sleeping_keys(table: str, queue: str, most: int) -> Query:
    """Keys of a queue in which somebody waits, and which are not yet to be looked at."""
    sql = (
        f"SELECT k.QueueKey FROM {KEYS.name(table)} AS k WHERE k.Queue = @queue AND k.Idle IS NULL"
        " AND (k.Wakes IS NULL OR k.Wakes > @epoch) AND ARRAY_LENGTH(ARRAY("
        f"SELECT t.Standing FROM UNNEST(@waiting) AS w, UNNEST(ARRAY(SELECT AS STRUCT t.Standing"
        f" {_tickets(table, LINE.suffix)} WHERE t.Queue = k.Queue AND t.Standing = w AND t.QueueKey = k.QueueKey"
        " LIMIT 1)) AS t LIMIT 1)) > 0 LIMIT @most"
    )
    return Query(sql).text(queue=queue).time(epoch=EPOCH).wholes(waiting=_WAITING).whole(most=most)


def _among(query: Query, names: Sequence[str] | None, rest: str) -> Query:
    if names is not None:
        query.sql += " AND q.Name IN UNNEST(@names)"
        query.texts(names=names)
    query.sql += rest
    return query


def _of(alias: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{alias}.{column}" for column in columns)


def _held(table: str, condition: str) -> str:
    """How many places are taken."""
    found = f"SELECT t.Standing {_tickets(table, LINE.suffix)} WHERE t.Standing = {int(Standing.HELD)} AND {condition}"
    return f"ARRAY_LENGTH(ARRAY({found}))"


def _tickets(table: str, index: str) -> str:
    return f"FROM {TICKETS.name(table)}@{{FORCE_INDEX={table}_{index}}} AS t"


def _waking(table: str) -> str:
    """``WHERE`` must follow, with a condition that no NULL meets: the index leaves them out."""
    return f"FROM {KEYS.name(table)}@{{FORCE_INDEX={WAKES.name(table)}}} AS k"


def _started(table: str, queue: str, key: str, number: str, count: str) -> str:
    """The first starts that a rate still counts: of the last ``count`` up to ``number``; none where it is NULL."""
    return (
        f"ARRAY(SELECT AS STRUCT s.Number, s.Time FROM {STARTS.name(table)} AS s WHERE s.Queue = {queue}"
        f" AND s.QueueKey = {key} AND s.Number > {number} - {count} AND s.Number <= {number}"
        " ORDER BY s.Number LIMIT @known)"
    )
