"""Which message of a topic each ``receive`` of a run gets."""

from __future__ import annotations

__all__ = ["Inbox"]


class Inbox:
    """The messages of one topic, by their places: 0 is the oldest.

    Those that wait get them in the order in which they began to. One that ends without a message, because it timed out
    or its await was cancelled, has taken none.

    Args:
        calls: How many ``receive`` earlier segments have made.
        taken: How many messages they took.
    """

    def __init__(self, calls: int, taken: int) -> None:
        self.calls = calls
        """How many there were, with those of this run."""
        self.taken = taken
        """The oldest message that nobody has taken: all before it are."""
        self._beyond: set[int] = set()
        """Later ones that are taken."""
        self._waiting: dict[int, None] = {}

    def begin(self) -> int:
        """Begin to wait; returns the number of this ``receive``, the same in each run."""
        number = self.calls
        self.calls += 1
        self._waiting[number] = None
        return number

    def place(self, number: int) -> int:
        """The place of the message that one who waits is to get."""
        place = self.taken
        for earlier in self._waiting:
            while place in self._beyond:
                place += 1
            if earlier == number:
                break
            place += 1
        return place

    def take(self, number: int) -> None:
        """One who waits has got its message."""
        self._beyond.add(self.place(number))
        while self.taken in self._beyond:
            self._beyond.remove(self.taken)
            self.taken += 1

    def end(self, number: int) -> None:
        """One who waited does so no longer."""
        del self._waiting[number]
