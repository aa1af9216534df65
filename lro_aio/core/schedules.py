"""Schedules: what is declared, what the row of one keeps, and which of its moments are due. Pure."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Any, Literal, get_args

from lro_aio.core import trail
from lro_aio.core.calendars import Calendar, calendar_of, iso
from lro_aio.core.codec import StateCodec
from lro_aio.core.errors import StateCodecError
from lro_aio.core.moves import evolved
from lro_aio.core.names import MalformedIdError, check_given, check_id, check_name, make
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State

__all__ = [
    "HANDLER",
    "MOST_MISSED",
    "PARENT",
    "SETTLED",
    "Definition",
    "Due",
    "Schedule",
    "ScheduleInfo",
    "ScheduleState",
    "forgotten",
    "handler_of",
    "info_json",
    "pauses",
    "redeclared",
    "request_of",
    "row_of",
    "state_codec",
    "with_moment",
]

HANDLER = "lro.schedule."
"""What the names of their handlers begin with. Each has one of its own, so that only who declares it runs it."""
PARENT = "schedules"
"""The resource before ``/operations/`` in the names of their rows."""

MOST_MISSED = 100
"""Moments that are made up for, or wait for their turn. Older ones are counted as missed."""
MOST_LOOKED_AT = 1000
"""Moments behind the time that are looked at."""
LATE = 300.0
"""Seconds by which a moment may come late and is not missed yet: a process died, or was replaced."""
SETTLED = 600.0
"""Seconds for which a definition that was replaced does not come back: processes of two releases run side by side."""
MOST_FORMER = 8
"""Replaced definitions that are remembered."""
MOST_NAME = 100
"""Characters of a schedule's name."""

Overlap = Literal["skip", "queue", "allow"]
CatchUp = Literal["none", "one", "all"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a schedule is, as its row keeps it: any process can go by it, also one of another release."""

    handler: str
    cron: str = ""
    every: float = 0.0
    """Seconds between two moments; 0 with ``cron``."""
    timezone: str = "UTC"
    overlap: str = "skip"
    catch_up: str = "none"
    jitter: float = 0.0
    state: str = ""
    """The stored form of the initial state, in base 64."""
    codec: str = ""
    """How to read it."""
    moment: str = ""
    """The member of the state that gets the moment; "" for none."""
    digest: str = ""
    """A hash of the state in its canonical form: the stored one of a set has another order in each process."""

    @property
    def fingerprint(self) -> str:
        """A short hash: the same in every process that declares the same."""
        text = json.dumps({**dataclasses.asdict(self), "state": ""}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def calendar(self) -> Calendar:
        """Its moments. Raises as ``lro_aio.core.calendars.Calendar``."""
        return calendar_of(self.cron, self.every, self.timezone)

    def begins_with(self, moment: float) -> bytes:
        """The state with which the operation of a moment begins, as it is stored."""
        data = base64.b64decode(self.state)
        return with_moment(data, self.moment, moment) if self.moment else data

    def comes(self, name: str, moment: float) -> float:
        """Epoch seconds at which the operation of a moment starts: the same in every process.

        Args:
            name: The schedule's.
            moment: Epoch seconds, without the jitter.
        """
        if not self.jitter:
            return moment
        digest = hashlib.sha256(f"{name}\n{moment:.0f}".encode()).digest()
        return moment + self.jitter * int.from_bytes(digest[:8]) / 2**64


@dataclass(frozen=True)
class Schedule:
    """An operation that is started again and again: at the moments of ``cron``, or after each ``every``.

    The name and the moment are the id of the request, so that a fleet starts each moment once.

    Raises:
        ValueError: A field is malformed, there is no such time zone, or no moment ever comes. It names the field.
        ImportError: ``cron`` needs the extra ``schedules``.
    """

    name: str
    """1 to 100 letters, digits or any of ``._~-``, and not ``lro.`` at the beginning. Never rename it while it is to go
    on."""
    handler: str | Callable[[Any], Awaitable[Any]]
    """Name of the handler of what is started, or the decorated function."""
    cron: str = field(default="", kw_only=True)
    """Five fields, as Debian's cron has them, or six with the seconds first."""
    every: Duration | None = field(default=None, kw_only=True)
    """Instead of ``cron``: whole seconds or a timedelta, counted from 1970-01-01 UTC."""
    timezone: str = field(default="UTC", kw_only=True)
    """In which ``cron`` is meant, such as ``Europe/Berlin``."""
    state: Any = field(default=None, kw_only=True)
    """With which each operation begins."""
    moment: str = field(default="", kw_only=True)
    """Name of the member of the state that gets the moment, as a time in UTC: what an operation is for does not depend
    on when it runs. "": none does."""
    overlap: Overlap = field(default="skip", kw_only=True)
    """What happens to a moment while the last operation that was started has not ended: it is skipped, waits in a
    queue, or starts beside it."""
    catch_up: CatchUp = field(default="none", kw_only=True)
    """What happens to moments at which nobody ran the schedule: nothing; the last one starts; or all do, up to 100."""
    jitter: Duration = field(default=0.0, kw_only=True)
    """Seconds or a timedelta by which a start may be later than its moment. Each moment has one delay, in every
    process."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > MOST_NAME:
            raise ValueError(f"name must be at most {MOST_NAME} characters, not {self.name!r:.120}")
        row_of(self.name)
        check_given("schedule", self.name)
        if isinstance(self.handler, str):
            check_name("handler", self.handler)
        elif not callable(self.handler):
            raise TypeError(f"handler must be a name or a function, not {type(self.handler).__name__}")
        if bool(self.cron) == (self.every is not None):
            raise ValueError(f"schedule {self.name!r}: give cron or every, one of the two")
        for name in ("cron", "timezone", "moment"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a text, not {type(getattr(self, name)).__name__}")
        for name, kind in (("overlap", Overlap), ("catch_up", CatchUp)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")
        object.__setattr__(self, "jitter", seconds(self.jitter, "jitter"))
        if self.every is not None:
            every = seconds(self.every, "every", positive=True)
            if every != int(every):
                raise ValueError(f"every must be whole seconds, not {every!r}")
            object.__setattr__(self, "every", every)
        try:
            calendar_of(self.cron, self.every or 0.0, self.timezone)
        except ValueError as exc:
            raise ValueError(f"schedule {self.name!r}: {exc}") from exc

    def defined(self, handler: str, data: bytes, codec: str, digest: str) -> Definition:
        """What the row keeps.

        Args:
            handler: The handler's name.
            data: The state, encoded.
            codec: How to read it.
            digest: A hash of the state in its canonical form.
        """
        return Definition(
            handler=handler,
            cron=self.cron,
            every=seconds(self.every, "every") if self.every is not None else 0.0,
            timezone=self.timezone,
            overlap=self.overlap,
            catch_up=self.catch_up,
            jitter=seconds(self.jitter, "jitter"),
            state=base64.b64encode(data).decode(),
            codec=codec,
            moment=self.moment,
            digest=digest,
        )


@dataclass(frozen=True, slots=True)
class Due:
    """Which moments are due."""

    start: tuple[int, ...]
    """To start, oldest first."""
    missed: int
    """Those that are not made up for; at least so many."""
    since: float
    """The last moment that was looked at."""


@dataclass(kw_only=True)
class ScheduleState:
    """The state of a schedule's row."""

    definition: Definition
    since: float
    """Epoch seconds: moments up to this one are dealt with. It never goes back, whatever the clock does."""
    version: int = 1
    """Rises with each change of the definition."""
    former: dict[str, float] = field(default_factory=dict)
    """Fingerprints of replaced definitions, and when they were replaced."""
    queue: list[int] = field(default_factory=list)
    """Moments that wait for the end of the last operation."""
    next: float | None = None
    """The moment that comes next."""
    last: float | None = None
    """The last moment that was started."""
    last_operation: str = ""
    judged: bool = True
    """Whether it is known how that operation ended."""
    started: int = 0
    skipped: int = 0
    """Moments at which the last operation had not ended."""
    missed: int = 0
    """Moments at which nobody ran the schedule, and that were not made up for."""
    failures: int = 0
    """Operations in a row that failed."""

    def due(self, name: str, now: float, held: Sequence[tuple[float, float]] = (), *, queued: bool = False) -> Due:
        """The moments whose time has come.

        Args:
            name: Of the schedule.
            now: Epoch seconds.
            held: When it was paused: (from, until). Moments in it are nobody's.
            queued: Whether none of them is missed: the schedule waited for the end of an operation.
        """
        definition = self.definition
        behind = definition.calendar.before(now, self.since)
        found = list(itertools.islice(behind, MOST_LOOKED_AT))[::-1]
        came = list(itertools.takewhile(lambda moment: definition.comes(name, moment) <= now, found))
        wanted = [one for one in came if not any(begin < one <= end for begin, end in held)]
        if queued or definition.catch_up == "all":
            start = wanted[-MOST_MISSED:]
        elif definition.catch_up == "one":
            start = wanted[-1:]
        else:
            start = [one for one in wanted[-1:] if now - definition.comes(name, one) <= LATE]
        return Due(tuple(start), len(wanted) - len(start), came[-1] if came else self.since)

    def judge(self, record: Record | None) -> bool:
        """Count how the last operation ended, once; whether it has.

        Args:
            record: Its row; None where there is none any more.
        """
        if not self.judged and (record is None or record.done):
            self.judged = True
            if record is not None and record.state is State.FAILED:
                self.failures += 1
            elif record is None or record.state is State.SUCCEEDED:
                self.failures = 0
        return self.judged

    def redefined(self, definition: Definition, now: float) -> ScheduleState:
        """The state with another definition. Its moments count from now on."""
        former = {**self.former, self.definition.fingerprint: now}
        former.pop(definition.fingerprint, None)
        kept = dict(sorted(former.items(), key=lambda one: one[1])[-MOST_FORMER:])
        since = max(self.since, now)
        return dataclasses.replace(
            self,
            definition=definition,
            since=since,
            version=self.version + 1,
            former=kept,
            next=next(definition.calendar.after(since), None),
        )

    def settles(self, definition: Definition) -> float:
        """Epoch seconds from which on a definition may take the place of this one: it may have been here before."""
        replaced = self.former.get(definition.fingerprint)
        return 0.0 if replaced is None else replaced + SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """How it goes with a schedule. Times are epoch seconds."""

    name: str
    operation: str
    """The schedule's own operation, for ``describe``, ``history`` and the dashboard."""
    handler: str
    cron: str
    every: float
    """Seconds; 0 with ``cron``."""
    timezone: str
    overlap: str
    catch_up: str
    jitter: float
    fingerprint: str
    """Of the definition."""
    version: int
    """How many definitions there were."""
    paused: bool
    reason: str
    """Why it does not run: what was said when it was paused, or that no process declares it. "" where it runs."""
    upcoming: tuple[float, ...]
    """The next five moments."""
    last: float | None
    """The last moment that was started."""
    last_operation: str
    """"" for none."""
    queued: int
    """Moments that wait for the end of that operation."""
    started: int
    skipped: int
    missed: int
    failures: int
    """Operations in a row that failed."""


def info_json(info: ScheduleInfo) -> dict[str, Any]:
    """How it goes with a schedule as the JSON object in which servers and commands tell it."""
    return {
        "name": f"{PARENT}/{info.name}",
        "operation": info.operation,
        "handler": info.handler,
        "cron": info.cron,
        "every": info.every,
        "timezone": info.timezone,
        "overlap": info.overlap,
        "catchUp": info.catch_up,
        "jitter": info.jitter,
        "fingerprint": info.fingerprint,
        "version": info.version,
        "paused": info.paused,
        "reason": info.reason,
        "upcoming": [iso(moment) for moment in info.upcoming],
        "last": None if info.last is None else iso(info.last),
        "lastOperation": info.last_operation,
        "queued": info.queued,
        "started": info.started,
        "skipped": info.skipped,
        "missed": info.missed,
        "failures": info.failures,
    }


state_codec: StateCodec[ScheduleState] = StateCodec(ScheduleState)
"""Reads and writes the state of a schedule's row."""


def handler_of(name: str) -> str:
    """The handler of a schedule's own row."""
    return f"{HANDLER}{name}"


def row_of(name: str) -> str:
    """The resource name of a schedule's row.

    Raises:
        MalformedIdError: The name is malformed, or "operations", which is the collection of these rows.
    """
    if name == "operations":
        raise MalformedIdError("name", f"{name!r} is taken")
    try:
        return make(PARENT, check_id(name))
    except MalformedIdError as exc:
        problem = f"{name!r:.120} must be 1 to {MOST_NAME} letters, digits or any of '._~-'"
        raise MalformedIdError("name", problem) from exc


def request_of(name: str, moment: float) -> str:
    """The id of the request that a moment is."""
    return f"{PARENT}/{name}/{iso(moment)}"


def redeclared(record: Record, *, definition: Definition, now: float) -> Record:
    """The row with another definition. It is woken at once, to wait for the moments of that one.

    The same row where that has to wait: it runs, or is about to; a moment that has come is one of the old definition.
    """
    wait = record.wait
    if record.state is not State.SUSPENDED or wait is None or record.hidden(now):
        return record
    state = state_codec.decode(record.state_data, record.state_codec)
    assert state is not None
    if state.definition.fingerprint == definition.fingerprint or state.settles(definition) > now:
        return record
    if not (record.paused or wait.rerun) and wait.ripe(now):
        return record
    data, codec = state_codec.encode(state.redefined(definition, now))
    columns: dict[str, Any] = {"state_data": data, "state_codec": codec}
    if not wait.rerun:
        wait = columns["wait"] = wait.told(now)
        columns["check_time"] = record.check_time if record.paused else wait.first_check(now)
    return evolved(record, now, **columns)


def forgotten(record: Record) -> Record | None:
    """None where the row of a schedule has ended, or was deleted and nobody runs it; else the same row."""
    ended = record.done or (record.deleted and record.state is not State.RUNNING)
    return None if ended else record


def with_moment(data: bytes, member: str, moment: float) -> bytes:
    """A stored state in which one member is the moment.

    Raises:
        StateCodecError: It has no such member.
    """
    try:
        state = json.loads(data)
    except ValueError:  # a message
        state = None
    if not isinstance(state, dict) or member not in state:
        raise StateCodecError(f"it has no member {member!r} for the moment", field=member)
    return json.dumps({**state, member: iso(moment)}).encode()


def pauses(text: str, now: float) -> list[tuple[float, float]]:
    """When a row was paused, by its trail: (from, until)."""
    found: list[tuple[float, float]] = []
    begin: float | None = None
    for one in trail.happenings(text):
        if one.kind == trail.PAUSED:
            begin = one.time
        elif one.kind == trail.UNPAUSED and begin is not None:
            found.append((begin, one.time))
            begin = None
    return found if begin is None else [*found, (begin, now)]
