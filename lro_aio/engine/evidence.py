"""Whether the holder of a lease that is over is dead (rule 4).

A lease that is over proves little: the process, the machine or the store may have stood still for as long, or the clock
may have been set. Somebody who lives renews as soon as things move again. So a lease is taken only after it was seen to
be over, and has not moved for longer than a live holder takes to renew, in which the store took writes and this process
did not stand still either. All of that goes by monotonic time.

Nobody goes by what another process has seen: that could only be handed on as a time of day, which clocks that are set
make worthless, and whether the store was away meanwhile would be lost. Whoever begins anew looks for himself.
"""

from __future__ import annotations

from collections.abc import Callable

from lro_aio.core.errors import OperationBusyError
from lro_aio.core.policies import LeasePolicy
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State
from lro_aio.ports import Clock

__all__ = ["Evidence"]

INTERVALS = 1.5
"""Renew intervals for which a lease that is over must stand still. A live holder renews within one."""
STEP = 1.0
"""Seconds between two looks at such a lease, at most."""
PATIENCE = 1.0
"""Seconds for which the store may keep a write waiting meanwhile, at most. A short lease has less of it."""
CROWD = 1_000
"""Rows for which the looks take a second more from each other: each look reads all of them."""
ROUNDING = 1e-3
"""Seconds. A timer for the end of the interval goes by the time of day, which a float holds to a quarter of a us."""
MOST = 100_000
"""Rows that are remembered, and dead owners. Beyond it, all begin anew: a take-over comes later, never too early."""


@dataclass(slots=True)
class _Sighting:
    """A lease that was seen to be over, and since when."""

    lease: tuple[str, int, float | None]
    """(uid, claim, expiry)"""
    first: float
    last: float
    proves: bool = False
    """It has gone on for long enough."""


class Evidence:
    """What this process has seen of leases that are over.

    Args:
        clock: Engine time.
        policy: How long a lease lasts.
    """

    def __init__(self, clock: Clock, policy: LeasePolicy) -> None:
        self._clock = clock
        self.interval = policy.renew_interval * INTERVALS
        """Seconds between the first sighting and the take-over."""
        self.step = min(STEP, self.interval / 3)
        """Seconds between two looks at a lease that may be taken over later."""
        self._patience = min(PATIENCE, policy.renew_interval)
        self._seen: dict[str, _Sighting] = {}
        self._dead: set[str] = set()
        """Owners of whom the store knows that they are dead."""
        self._tried = float("-inf")
        """Monotonic seconds at which the store was last asked to take a write."""

    def bury(self, owners: frozenset[str]) -> None:
        """Note owners of whom the store knows that they are dead: nobody else ever has their names."""
        if owners and len(self._dead) >= MOST:
            self._dead.clear()
        self._dead |= owners

    def is_dead(self, record: Record) -> bool:
        """Whether a row runs, and the store knows that its holder is dead."""
        return record.state is State.RUNNING and record.owner in self._dead

    def is_over(self, record: Record, now: float) -> bool:
        """Whether the lease of a row is over: by its time, or because its holder is dead."""
        return not record.lease_live(now) or self.is_dead(record)

    def proves_dead(self, record: Record) -> bool:
        """Note that the lease of this row was found to be over; True if its holder must be dead.

        Args:
            record: As just read. RUNNING, with a lease that is over.
        """
        if not record.owner or self.is_dead(record):  # without an owner: it was given back
            return True
        now = self._clock.monotonic()
        lease = (record.uid, record.claim, record.lease_expire_time)
        seen = self._seen.get(record.name)
        # Nobody looked for so long: this process may have stood still, and the holder beside it.
        stale = seen is not None and now - seen.last > 2 * self.interval
        if seen is None or seen.lease != lease or stale:
            if len(self._seen) >= MOST:
                self._seen.clear()
            self._seen[record.name] = _Sighting(lease, now, now)
            return False
        seen.last = now
        seen.proves = now - seen.first >= self.interval - ROUNDING
        return seen.proves

    @property
    def watched(self) -> int:
        """How many rows were seen."""
        return len(self._seen)

    def watches(self, name: str) -> bool:
        """Whether a row was seen, and may be taken over later."""
        seen = self._seen.get(name)
        return seen is not None and not seen.proves

    def wait(self) -> float | None:
        """Seconds until the next look at rows that may be taken over later; None where there is no such row."""
        ends = [seen.first + self.interval for seen in self._seen.values() if not seen.proves]
        pause = min(self.step * (1 + len(self._seen) / CROWD), self.interval / 3)
        return max(0.0, min(pause, min(ends) - self._clock.monotonic())) if ends else None

    def wants_trial(self) -> bool:
        """Whether it is time to see again if the store takes writes; the caller is about to.

        Three times in the interval: a lock that is held for less does not keep a renewal from being written after it.
        """
        now = self._clock.monotonic()
        if now - self._tried < self.interval / 3 - ROUNDING:
            return False
        self._tried = now
        return True

    def answered(self, asked: float) -> None:
        """The store answers, and was asked for that at this monotonic moment: until now, nobody could renew.

        After a short while, a holder who lives has soon repeated his renewal. After a long one, he may not have.
        """
        now = self._clock.monotonic()
        if now - asked > self._patience:
            self.clear()
        for seen in self._seen.values():
            seen.first += min(now - asked, now - seen.first)

    def in_time(self, change: Callable[[Record], Record | None]) -> Callable[[Record], Record | None]:
        """A change that takes a lease, refused where the store takes it late.

        It waited for a lock, say; the holder may wait for the same one, in order to renew.
        """
        latest = self._clock.monotonic() + self._patience

        def checked(record: Record) -> Record | None:
            if self._clock.monotonic() > latest:
                raise OperationBusyError(record.name, self.interval)
            return change(record)

        return checked

    def keep(self, names: set[str]) -> None:
        """Forget all rows but these: the others are no longer due."""
        for name in self._seen.keys() - names:
            del self._seen[name]

    def clear(self) -> None:
        """The store was away: nobody could renew."""
        self._seen.clear()
