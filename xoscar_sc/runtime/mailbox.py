"""An actor's queue of messages, and whose turn it is. Pure: it decides, and its cell acts.

A stateful actor has a lock, which the message that runs holds: the next one starts when it is free. A message may
run beside it (``no_lock``), and one that runs may lend the lock for a while (``unlocked``), and gets it back before the
messages that wait.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from xoscar_sc.errors import DeadlockError
from xoscar_sc.protocol import Link
from xoscar_sc.runtime.traits import BOUND, Overflow


class Message(Protocol):
    """What a mailbox knows of a message."""

    method: str
    token: int
    """Unique in this pool."""
    chain: tuple[Link, ...]
    """The calls that wait for it, outermost first."""

    @property
    def answered(self) -> bool:
        """It has been cancelled, or refused."""

    waits: bool
    """It is in :attr:`Mailbox.waiting`; the mailbox's own mark."""


M = TypeVar("M", bound=Message)


class Mailbox(Generic[M]):
    """See the top of this file.

    Args:
        uid: whose it is.
        serial: one message at a time.
        bound: messages that may wait.
        overflow: what becomes of one more; see :meth:`put`.
    """

    def __init__(self, uid: str, *, serial: bool, bound: int = BOUND, overflow: Overflow = "wait") -> None:
        self.uid = uid
        self.serial = serial
        self.bound = bound
        self.overflow = overflow
        self.waiting: deque[M] = deque()
        self.running: set[M] = set()
        """Those that have been started and have not finished."""
        self.holder: M | None = None
        """The one that has the lock."""
        self._returning: deque[M] = deque()
        """Those that want the lock back that they have lent."""
        self.reserved = 0
        """Places for messages that are still being recorded."""
        self._dead = 0
        """Of those that wait: those that have been answered already."""
        self._beside: set[M] = set()
        """Of those that came before messages may start: those that need no lock."""
        self.open = False
        """Messages may start."""

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return len(self.waiting) - self._dead + self.reserved >= self.bound

    @property
    def crowded(self) -> bool:
        """Whether a sender should wait."""
        return self.full and self.overflow == "wait"

    def answered(self, message: M) -> None:
        """A message was cancelled or refused; if it waits, it is forgotten in time."""
        if message.waits:
            message.waits = False
            self._dead += 1
            if self._dead * 2 > len(self.waiting):
                self.waiting = deque(each for each in self.waiting if each.waits)
                self._beside.intersection_update(self.waiting)
                self._dead = 0

    def _take(self, message: M) -> bool:
        """A message has been taken out of those that wait; whether it still wants to run."""
        if message.waits:
            message.waits = False
            return True
        self._dead -= 1
        return False

    def wanted(self, message: M) -> bool:
        """Whether a message has the lock, and others wait for it."""
        return self.holder is message and bool(self.waiting or self._returning)

    def wants_back(self, message: M) -> bool:
        """Whether a message waits for the lock that it has lent."""
        return message in self._returning

    @property
    def empty(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not (self.running or self.waiting)

    def put(self, message: M, *, beside: bool) -> tuple[bool, M | None]:
        """Take a message: whether it starts now, and which message is dropped for it, if one is.

        Args:
            message: the message.
            beside: it needs no lock.

        Raises:
            DeadlockError: it would wait for a message that waits for it.
        """
        if self.open and (beside or not self.serial):
            self.running.add(message)
            return True, None
        if self.open and self.holder is None and not self.waiting and not self._returning:
            self.holder = message
            self.running.add(message)
            return True, None
        if self.holder is not None and message.chain:
            self._check(message)
        dropped = None
        if self.overflow != "wait" and self.full:
            if self.overflow != "drop_oldest":
                return False, message
            while not self._take(oldest := self.waiting.popleft()):
                pass
            dropped = oldest
        message.waits = True
        self.waiting.append(message)
        if beside:
            self._beside.add(message)
        return False, dropped

    def put_front(self, message: M) -> bool:
        """Take a message before all others that wait, and whatever the bound; whether it starts now."""
        if self.open and self.holder is None and not self.waiting and not self._returning:
            self.holder = message
            self.running.add(message)
            return True
        message.waits = True
        self.waiting.appendleft(message)
        return False

    def _check(self, message: M) -> None:
        """The lock's holder must not be among those who wait for this message."""
        assert self.holder is not None
        for at, (uid, _, token) in enumerate(message.chain):
            if token == self.holder.token and uid == self.uid:
                cycle = [(uid, method) for uid, method, _ in message.chain[at:]]
                way = " -> ".join(f"{uid}.{method}()" for uid, method in cycle)
                raise DeadlockError(
                    f"{way} -> {self.uid}.{message.method}() would wait for itself: "
                    f"{self.uid!r} handles one message at a time",
                    cycle=[*cycle, (self.uid, message.method)],
                )

    def start(self) -> list[M]:
        """The actor is ready: let messages start; those that do now."""
        self.open = True
        self.holder = None
        waiting, self.waiting = self.waiting, deque()
        started: list[M] = []
        for message in waiting:
            if not self._take(message):
                continue
            stays = self.serial and message not in self._beside
            message.waits = stays
            (self.waiting if stays else started).append(message)
        self._beside.clear()
        self.running.update(started)
        following = self._next()
        return started if following is None else [*started, following]

    def finished(self, message: M) -> M | None:
        """A message has run; the one that starts now, if one does."""
        self.running.discard(message)
        if message in self._returning:
            self._returning.remove(message)
        return self.lend(message)

    def lend(self, message: M) -> M | None:
        """A message does without the lock, if it had it; the one that starts or goes on now, if one does."""
        if self.holder is not message:
            return None
        self.holder = None
        return self._next()

    def want_back(self, message: M) -> bool:
        """A message wants the lock that it has lent; whether it has it. If not, it will be what :meth:`lend` gives."""
        if self.holder is None and not self._returning:
            self.holder = message
            return True
        self._returning.append(message)
        return False

    def _next(self) -> M | None:
        if self._returning:
            self.holder = self._returning.popleft()
            return self.holder
        while self.waiting:
            message = self.waiting.popleft()
            if self._take(message):
                self.holder = message
                self.running.add(message)
                return message
        return None

    def clear(self) -> list[M]:
        """Take out all that wait."""
        waiting = [message for message in list(self.waiting) if self._take(message)]
        self.waiting.clear()
        self._dead = 0
        self._beside.clear()
        return waiting
