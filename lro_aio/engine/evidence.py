"""Whether the holder of a lease that is over is dead (rule 4).

A lease that is over proves little: the process, the machine or the store may have stood still for as long, or the clock
may have been set. Somebody who lives renews as soon as things move again. So a lease is taken only after it was seen to
be over, and has not moved for longer than a live holder takes to renew, in which the store answered and this process
did not stand still either. All of that goes by monotonic time.

Whoever finds such a lease notes it in the row too (``bookkeeping.suspect``): a renewal takes the note away, and
processes that do not live for long enough to see the lease twice go on with each other's evidence. So a note counts for
those that see the lease for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass

from lro_aio.core.policies import LeasePolicy
from lro_aio.core.record import Record
from lro_aio.ports import Clock

__all__ = ["Evidence"]

INTERVALS = 1.5
"""Renew intervals for which a lease that is over must stand still. A live holder renews within one."""
ROUNDING = 1e-3
"""Seconds. A timer for the end of the interval goes by the time of day, which a float holds to a quarter of a us."""
MOST = 100_000
"""Rows that are remembered. Beyond it, all begin anew: a take-over comes later, and never too early."""


@dataclass(slots=True)
class _Sighting:
    lease: tuple[str, int, float | None]
    """(uid, claim, expiry)"""
    first: float
    last: float


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
        self._seen: dict[str, _Sighting] = {}

    def proves_dead(self, record: Record) -> bool:
        """Note that the lease of this row was found to be over; True if its holder must be dead.

        Args:
            record: As just read. RUNNING, with a lease that is over.
        """
        if not record.owner:  # given back
            return True
        now = self._clock.monotonic()
        lease = (record.uid, record.claim, record.lease_expire_time)
        seen = self._seen.get(record.name)
        # Who has seen the lease himself goes by that alone: the note goes by the time of day, which may have been set
        # since, or have gone on while everybody stood still.
        known = seen is not None and seen.lease == lease
        if not known and record.suspected and self._clock.time() >= (record.check_time or 0.0):
            return True
        # Nobody looked for so long: this process may have stood still, and the holder beside it.
        stale = seen is not None and now - seen.last > 2 * self.interval
        if seen is None or seen.lease != lease or stale:
            if len(self._seen) >= MOST:
                self._seen.clear()
            self._seen[record.name] = _Sighting(lease, now, now)
            return False
        seen.last = now
        if now - seen.first < self.interval - ROUNDING:
            return False
        del self._seen[record.name]
        return True

    def wait(self) -> float | None:
        """Seconds until some row may be taken over, if its lease does not move; None where there is no such row."""
        now = self._clock.monotonic()
        waits = [seen.first + self.interval - now for seen in self._seen.values()]
        return max(0.0, min(waits)) if waits else None

    def keep(self, names: set[str]) -> None:
        """Forget all rows but these: the others are no longer due."""
        for name in self._seen.keys() - names:
            del self._seen[name]

    def clear(self) -> None:
        """The store was away: nobody could renew."""
        self._seen.clear()
