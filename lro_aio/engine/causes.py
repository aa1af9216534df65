"""What handlers raised, for those in the same process who wait: the ``__cause__`` of what ``op.result()`` raises."""

from __future__ import annotations

from weakref import ref

from lro_aio.core.record import Record, State

__all__ = ["Causes", "Interest"]


class Interest:
    """Somebody has an ``Operation`` object and may ask why it failed. Nothing is kept when nobody has one.

    Args:
        uid: The operation's.
        known: Where it is found for as long as it lives.
    """

    __slots__ = ("__weakref__", "_known", "_uid", "claim", "exception")

    def __init__(self, uid: str, known: dict[str, ref[Interest]]) -> None:
        self.claim = 0
        self.exception: BaseException | None = None
        self._uid = uid
        self._known = known
        known[uid] = ref(self)

    def __del__(self) -> None:  # a WeakValueDictionary does the same in ten times the time, for every operation
        found = self._known.get(self._uid)
        if found is not None and found() in (self, None):  # Python clears weak references after it has called this
            self._known.pop(self._uid, None)


class Causes:
    """The exceptions that ended operations, as long as an object of such an operation lives.

    An exception keeps its traceback alive, and with it all that the handler had: so it must not outlive its use.
    """

    def __init__(self) -> None:
        self._known: dict[str, ref[Interest]] = {}

    def __len__(self) -> int:
        """Operations of which somebody has an object."""
        return len(self._known)

    def interest(self, uid: str) -> Interest:
        """For whoever may ask, to be held for as long."""
        return self._find(uid) or Interest(uid, self._known)

    def _find(self, uid: str) -> Interest | None:
        found = self._known.get(uid)
        return None if found is None else found()

    def keep(self, record: Record, exc: BaseException) -> None:
        """Note with which exception the present claim of a row ends."""
        found = self._find(record.uid)
        if found is not None:
            found.claim, found.exception = record.claim, exc

    def carry(self, record: Record) -> None:
        """Note that the operation ends with the exception of the run before: this one cleans up after it."""
        found = self._find(record.uid)
        if found is not None and found.claim == record.claim - 1:
            found.claim = record.claim

    def of(self, record: Record) -> BaseException | None:
        """The exception that ended a failed row. None where another process or another claim ended it."""
        found = self._find(record.uid)
        if found is None or record.state is not State.FAILED or found.claim != record.claim:
            return None
        return found.exception
