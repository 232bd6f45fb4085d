"""One side of a dialogue's stream: what has come from the other side, and how much may be sent to it.

Each side tells the other how many messages it takes, when it opens its stream, and again as it reads. Nothing is sent
before that, so what waits here is bounded by this side's own window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from xoscar_sc.errors import ProtocolError
from xoscar_sc.loop import BrokenResourceError, ClosedResourceError, EndOfStream, Loop, Slot, WouldBlock


class Line(Protocol):
    """The way to the other side."""

    def item(self, value: Any) -> None:
        """Send a message.

        Raises:
            SerializationError, MsgTypeError: it cannot be sent.
        """

    def demand(self, count: int) -> None:
        """Take so many more messages."""

    def end(self, *, reads: bool) -> None:
        """There will be no more messages from here; ``reads``: those that come are still read."""


class _Nowhere:
    def item(self, value: Any) -> None:
        raise AssertionError("nothing is sent when a dialogue has ended")

    def demand(self, count: int) -> None:
        pass

    def end(self, *, reads: bool) -> None:
        pass


_NOWHERE = _Nowhere()


class Side:
    """See the top of this file.

    Raises, from what sends and receives:
        ClosedResourceError: it was closed here.
        BrokenResourceError: the other side has closed its stream, or has ended, and reads nothing any more.
        what the dialogue failed with.
    """

    def __init__(self, loop: Loop, line: Line) -> None:
        self._loop = loop
        self._line = line
        self._items: deque[Any] = deque()
        self._window = 0
        self._read = 0
        """Messages that have been read, and that the other side has not been told of."""
        self._credit = 0
        self._ended = False
        """The other side sends no more."""
        self._unread = False
        """The other side reads no more."""
        self._withdrawn: Callable[[], Exception] | None = None
        """Why that is so, if it is no end in good order."""
        self._sent_all = False
        """Nothing is sent from here any more."""
        self._closed = False
        """Nothing is read here any more, either."""
        self._told = False
        """The other side knows that."""
        self._over: Callable[[], Exception | None] | None = None
        """The dialogue has ended: with an exception, or without."""
        self._readers: deque[Slot] = deque()
        self._writers: deque[Slot] = deque()

    # What the other side says

    def put(self, item: object) -> None:
        """A message has come.

        Raises:
            ProtocolError: more than were asked for.
        """
        if len(self._items) + self._read >= self._window:
            raise ProtocolError(f"more than {self._window} messages of a dialogue were sent ahead")
        if self._closed:
            return  # it was on its way
        self._items.append(item)
        _wake(self._readers)

    def demanded(self, count: int) -> None:
        """The other side takes so many more messages."""
        self._credit += count
        for _ in range(min(count, len(self._writers))):
            _wake(self._writers)

    def ended(self, *, reads: bool) -> None:
        """The other side sends no more; ``reads``: it still takes what is sent to it."""
        self._ended = True
        _wake_all(self._readers)
        if not reads:
            self._unread = True
            _wake_all(self._writers)

    def withdrawn(self, reason: Callable[[], Exception]) -> None:
        """This side is being cancelled by the other one: when that sends no more, it is because of ``reason``."""
        if not self._ended:
            self._withdrawn = reason

    def finish(self, failure: Callable[[], Exception | None]) -> None:
        """The dialogue has ended; ``failure`` gives what it failed with, if it did."""
        if self._over is None:
            self._over = failure
            self._line = _NOWHERE  # which holds nothing
        _wake_all(self._readers)
        _wake_all(self._writers)

    # What is done here

    def open(self, window: int) -> None:
        """Take so many messages ahead of their reader."""
        self._window = window
        if self._over is None:
            self._line.demand(window)

    def close(self, *, broken: bool = False) -> None:
        """Send no more, and read no more; ``broken``: and do not tell, since that is no end of the stream."""
        self._closed = self._sent_all = True
        self._items.clear()
        if self._over is None and not (broken or self._told):
            self._told = True
            self._line.end(reads=False)
        _wake_all(self._writers)
        _wake_all(self._readers)

    def send_eof(self) -> None:
        """Send no more, and go on reading."""
        if not self._sent_all:
            self._sent_all = True
            if self._over is None:
                self._line.end(reads=True)
            _wake_all(self._writers)

    def send_nowait(self, value: object) -> None:
        """Send a message.

        Raises:
            WouldBlock: the other side takes none now.
        """
        if self._sent_all:
            raise ClosedResourceError("this stream was closed")
        if self._over is not None:
            raise self._failure() or BrokenResourceError("the other side has ended")
        if self._unread:
            closed = "the other side has closed its stream"
            raise BrokenResourceError(closed) if self._withdrawn is None else self._withdrawn()
        if self._credit < 1:
            raise WouldBlock
        self._line.item(value)
        self._credit -= 1

    async def send(self, value: object) -> None:
        """Send a message, and wait until the other side takes it.

        Cancellation: it was not sent.
        """
        await self._loop.breathe()
        while True:
            try:
                self.send_nowait(value)
                return
            except WouldBlock:
                await self._wait(self._writers)
            except BaseException:
                if self._credit:
                    _wake(self._writers)  # another may be able to use what this one could not
                raise

    def receive_nowait(self) -> Any:
        """The next message.

        Raises:
            WouldBlock: there is none now.
            EndOfStream: there will be none.
        """
        if self._closed:
            raise ClosedResourceError("this stream was closed")
        if self._items:
            item = self._items.popleft()
            self._read += 1
            if self._read * 2 >= self._window and self._over is None:
                read, self._read = self._read, 0
                self._line.demand(read)
            return item
        if self._ended:
            raise EndOfStream() if self._withdrawn is None else self._withdrawn()
        if self._over is not None:
            raise self._failure() or EndOfStream()
        raise WouldBlock

    async def receive(self) -> Any:
        """The next message, as soon as there is one.

        Cancellation: no message is lost.
        """
        await self._loop.breathe()
        while True:
            try:
                return self.receive_nowait()
            except WouldBlock:
                await self._wait(self._readers)

    def _failure(self) -> Exception | None:
        assert self._over is not None
        return self._over()

    async def _wait(self, waiting: deque[Slot]) -> None:
        slot = self._loop.slot()
        waiting.append(slot)
        try:
            await slot.wait()
            if self._ended or self._over is not None:
                await self._loop.breathe()  # if it is cancelled by now, that comes first
        except BaseException:
            if slot.filled:
                _wake(waiting)  # what it was woken for is another's now
            else:
                waiting.remove(slot)
            raise


def _wake(waiting: deque[Slot]) -> None:
    if waiting:
        waiting.popleft().set(None)


def _wake_all(waiting: deque[Slot]) -> None:
    while waiting:
        waiting.popleft().set(None)
