"""Flow control: how many tells to one actor may be under way from here.

The sender takes a credit for each, and gets it back when the message has been executed, several at once by a
:class:`~xoscar_sc.protocol.Credit`. Without a credit it waits, first come first served; nobody else does: neither
senders to other actors nor what comes back on the same connection. A call needs no credit: it holds up its caller.

A window is as large as the actor's mailbox, and each sending pool has one of its own. What ends is forgotten: a window
with all its credits is no entry at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from xoscar_sc.loop import Loop, Slot
from xoscar_sc.protocol import Credit

_CREDITS = 4
"""A credit goes back when such a part of a mailbox's worth has gathered."""


class _Window:
    __slots__ = ("size", "used", "waiting")

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self.waiting: deque[Slot] = deque()


class Windows:
    """The windows of one channel, by the actors' uids."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._windows: dict[str, _Window] = {}
        self._closed = False

    def take_nowait(self, uid: str, size: int) -> bool:
        """Take a credit, if there is one and nobody waits for it."""
        if self._closed:
            return True
        window = self._windows.get(uid)
        if window is None:
            window = self._windows[uid] = _Window(size)
        if window.used >= window.size or window.waiting:
            return False
        window.used += 1
        return True

    async def take(self, uid: str, size: int) -> None:
        """Take a credit, and wait for it if need be. Returns without one if the channel is lost meanwhile.

        Cancellation: no credit was taken.
        """
        if self.take_nowait(uid, size):
            return
        window = self._windows[uid]
        slot = self._loop.slot()
        window.waiting.append(slot)
        try:
            await slot.wait()
        except BaseException:
            if slot.filled:
                self.give(uid)
            else:
                window.waiting.remove(slot)
            raise

    def give(self, uid: str, count: int = 1) -> None:
        """Give credits back. More than were taken is what a peer may send, and does nothing."""
        window = self._windows.get(uid)
        if window is None:
            return
        window.used = max(window.used - count, 0)
        while window.waiting and window.used < window.size:
            window.used += 1
            window.waiting.popleft().set(None)
        if not window.used:
            del self._windows[uid]

    def close(self) -> None:
        """Let all go that wait."""
        self._closed = True
        windows, self._windows = self._windows, {}
        for window in windows.values():
            for slot in window.waiting:
                slot.set(None)

    def __len__(self) -> int:
        return len(self._windows)


class Debts:
    """The other end of the windows: the peer's tells that have been executed, and whose credit it has not got back.

    Args:
        post: sends a message to the peer.
    """

    def __init__(self, post: Callable[[Credit], None]) -> None:
        self._post = post
        self._executed: dict[str, int] = {}

    def executed(self, uid: str, bound: int) -> None:
        """A tell to an actor of this pool has been executed; its credit goes back with those of others."""
        count = self._executed.pop(uid, 0) + 1
        if count * _CREDITS >= bound:
            self._post(Credit(uid, count))
        else:
            self._executed[uid] = count

    def forget(self, uid: str) -> None:
        """An actor of this pool has ended: what is owed for it is given back."""
        count = self._executed.pop(uid, 0)
        if count:
            self._post(Credit(uid, count))
