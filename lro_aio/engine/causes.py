"""What handlers raised, for those in the same process who wait: the ``__cause__`` of what ``op.result()`` raises."""

from __future__ import annotations

from weakref import WeakValueDictionary

from lro_aio.core.record import Record, State

__all__ = ["Causes", "Interest"]


class Interest:
    """Somebody has an ``Operation`` object and may ask why it failed. Nothing is kept when nobody has one."""

    __slots__ = ("__weakref__", "claim", "exception")

    def __init__(self) -> None:
        self.claim = 0
        self.exception: BaseException | None = None


class Causes:
    """The exceptions that ended operations, as long as an object of such an operation lives.

    An exception keeps its traceback alive, and with it all that the handler had: so it must not outlive its use.
    """

    def __init__(self) -> None:
        self._interests: WeakValueDictionary[str, Interest] = WeakValueDictionary()

    def interest(self, uid: str) -> Interest:
        """For whoever may ask, to be held for as long."""
        found = self._interests.get(uid)
        if found is None:
            found = self._interests[uid] = Interest()
        return found

    def keep(self, record: Record, exc: BaseException) -> None:
        """Note with which exception the present claim of a row ends."""
        found = self._interests.get(record.uid)
        if found is not None:
            found.claim, found.exception = record.claim, exc

    def carry(self, record: Record) -> None:
        """Note that the operation ends with the exception of the run before: this one cleans up after it."""
        found = self._interests.get(record.uid)
        if found is not None and found.claim == record.claim - 1:
            found.claim = record.claim

    def of(self, record: Record) -> BaseException | None:
        """The exception that ended a failed row. None where another process or another claim ended it."""
        found = self._interests.get(record.uid)
        if found is None or record.state is not State.FAILED or found.claim != record.claim:
            return None
        return found.exception
