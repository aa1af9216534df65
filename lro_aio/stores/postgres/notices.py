"""One connection that listens for the commits of other processes."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from lro_aio.core.logs import event
from lro_aio.stores.postgres.connections import CLOSE_PATIENCE, Link, cut

__all__ = ["Notices"]

logger = logging.getLogger("lro_aio")

HEARTBEAT = 5.0
"""Seconds without a notice after which the server is asked whether it is still there."""
PAUSE = 1.0
"""Seconds between attempts to listen again."""
LEAST, MOST = 0.004, 0.016
"""Seconds between two looks at notices: at first, and at most while there are more all the time. After a pause, the
next one is told at once."""
DEAF = 0.25
"""Seconds between signs while nothing can be heard: anything may have changed."""


class Notices:
    """A thread that listens, from ``open`` to ``close``.

    Args:
        connect: Makes a connection past any pooler, by a deadline (``time.monotonic``).
        check: Asks the server whether it is still there, and is still the one that takes writes.
        timeout: Seconds for connecting, and for an answer.
    """

    def __init__(self, connect: Callable[[float], Link], check: Callable[[Link], None], timeout: float) -> None:
        self._connect = connect
        self._check = check
        self._timeout = timeout
        self.own = secrets.token_hex(8)
        """The payload of this process's own notices."""
        self.channel = ""
        self._changed = False
        self._listening = False
        self._told = 0.0
        """When ``changed`` was last true without a notice, for want of ears."""
        self._heard: Callable[[], None] = lambda: None
        self._took = 0.0
        """When notices were last taken."""
        self._gap = LEAST
        """Seconds from then to the next look."""
        self._checked = 0.0
        """When the server was last known to be there."""
        self._closing = threading.Event()
        self._link: Link | None = None
        self._thread: threading.Thread | None = None

    def open(self, channel: str) -> None:
        """Listen from now on.

        Raises:
            psycopg.Error: It cannot be done.
        """
        self.channel = channel
        self._listen()
        self._thread = threading.Thread(target=self._run, name="lro-aio-postgres-notices", daemon=True)
        self._thread.start()

    def join(self, heard: Callable[[], None]) -> None:
        """Have this called, on the thread, whenever ``changed`` has news."""
        self._heard = heard

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        if self._link is not None:
            cut(self._link)
        if self._thread is not None:
            self._thread.join(CLOSE_PATIENCE)

    def changed(self) -> bool:
        """Whether another process has committed since the last call, or may have."""
        if not self._listening:
            now = time.monotonic()
            if now - self._told < DEAF:
                return False
            self._told = now
            return True
        if not self._changed:
            return False
        self._changed = False  # before anybody reads: what is committed later is told later
        return True

    def _listen(self) -> None:
        link = self._connect(time.monotonic() + self._timeout)
        try:
            link.execute(f'LISTEN "{self.channel}"'.encode(), prepare=False)
        except BaseException:
            link.close()
            raise
        self._link = link
        self._checked = time.monotonic()
        self._listening = True

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._link is None:
                    self._listen()
                    logger.info("listening for other processes again", extra=event("listening_again"))
                    self._tell()  # whatever was not heard
                if not self._closing.is_set():
                    self._hear()
            except Exception as exc:  # noqa: BLE001 (the thread must live: nobody else would find out that it is deaf)
                self._deaf(exc)
        if self._link is not None:
            self._link.close()

    def _hear(self) -> None:
        """Take the next notices, or make sure that they would come."""
        link = self._link
        assert link is not None
        left = self._checked + HEARTBEAT - time.monotonic()
        if left > 0:
            # A process hears its own notices too: under load, it would do so at each of its commits.
            if self._closing.wait(max(0.0, self._took + self._gap - time.monotonic())):
                return
            link.deadline = time.monotonic() + left + self._timeout
            found = [notice.payload for notice in link.notifies(timeout=left, stop_after=1)]
            now = time.monotonic()
            self._gap = min(2 * self._gap, MOST) if now - self._took < 2 * self._gap else LEAST
            self._took = now
            if any(payload != self.own for payload in found):
                self._tell()
        elif not self._closing.is_set():
            link.deadline = time.monotonic() + self._timeout
            self._check(link)
            self._checked = time.monotonic()

    def _tell(self) -> None:
        """Something has changed."""
        self._changed = True
        self._heard()

    def _deaf(self, exc: Exception) -> None:
        if self._closing.is_set():
            return
        lost = self._listening
        if lost:
            logger.warning(
                "not told of other processes' commits until the store answers again: %s",
                exc,
                extra=event("not_listening"),
            )
        self._listening = False
        if self._link is not None:
            self._link.close()
            self._link = None
        if lost:
            self._heard()
        self._closing.wait(PAUSE)
