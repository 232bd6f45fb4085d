"""The memory that the two ends of a channel share, and the descriptors that it comes with.

:mod:`lending` says how it is used.
"""

from __future__ import annotations

import array
import socket
from collections import deque
from collections.abc import Sequence

from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc.borrowing import LOST, Borrower, close
from xoscar_sc.ipc.lending import Lender, Place
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.ipc.sharing import Giver
from xoscar_sc.ipc.tls import TlsSocket
from xoscar_sc.loop import Loop
from xoscar_sc.protocol import (
    SHARED,
    AnyMessage,
    Call,
    Dropped,
    Item,
    Memory,
    Notice,
    Placed,
    Released,
    Reply,
    Segment,
    Started,
    Tell,
    decode,
)

BODIED = (Call, Tell, Reply, Item, Started, Notice)
"""Messages that have a body."""
_ANCILLARY = socket.CMSG_SPACE(4 * array.array("i").itemsize)


class Memories:
    """The memory that one channel's two ends share, in both directions."""

    def __init__(self, loop: Loop, sock: socket.socket | TlsSocket, outbox: Outbox) -> None:
        self._sock = sock
        self._lender = Lender(outbox) if sock.family == socket.AF_UNIX else None
        self.giver = None if self._lender is None else Giver(loop, outbox, self._lender)
        """Of what users have shared; None if the peer cannot have it."""
        self._borrower = Borrower(loop, outbox)
        self.looking = False
        """The peer may send descriptors: all that it sends has to be read by :meth:`receive`."""
        self._come: deque[int] = deque()
        """Descriptors whose message has not come yet."""
        self._old = 0
        """How many of them came with an earlier read."""

    def place(self, segments: Sequence[memoryview]) -> list[Place] | None:
        """Place as many of a message's segments in memory as possible; None if all go through the socket."""
        lender, giver = self._lender, self.giver
        if lender is None or giver is None:
            return None
        places = [giver.place(each) or lender.place(each) for each in segments]
        return places if any(id for id, _, _ in places) else None

    def heard(
        self, message: AnyMessage, segments: Sequence[Segment]
    ) -> tuple[AnyMessage, list[Segment]] | None:
        """Act on what the peer says about memory; if it is a message that lies there, return that.

        Raises:
            ProtocolError: it makes no sense.
        """
        if isinstance(message, Placed):
            inner = decode(message.message)
            if not isinstance(inner, BODIED):
                raise ProtocolError(f"{type(inner).__name__} was placed in memory")
            return inner, self._borrower.take(message.places, message.offsets, segments)
        if segments:
            raise ProtocolError(f"{type(message).__name__} came with segments")
        if isinstance(message, Released):
            self._released(message)
        elif isinstance(message, Dropped):
            self._borrower.drop(message.id, message.uses)
        elif isinstance(message, Memory):
            if message.id:
                self._borrower.add(message.id, message.size, self._claim(), passed=message.passed)
            elif self.looking or self._sock.family != socket.AF_UNIX:
                raise ProtocolError("descriptors were announced where none can come")
            else:
                self.looking = True
                self._borrower.give([0])
        return None

    def _released(self, message: Released) -> None:
        if self._lender is None or self.giver is None:
            raise ProtocolError("memory was released that nobody has lent")
        for id in message.ids:
            if id > SHARED:
                self.giver.released(id, declined=message.declined)
            else:
                self._lender.released(id, declined=message.declined)
                if not id:
                    self.giver.offer()

    # Descriptors

    def receive(self, buffer: memoryview) -> int:
        """As ``recv_into``, but descriptors that come are kept for the message that they belong to.

        Raises:
            ProtocolError: too many have come.
            OSError: as from ``recv_into``.
        """
        assert isinstance(self._sock, socket.socket)
        received, ancillary, flags, _ = self._sock.recvmsg_into([buffer], _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        cut = flags & socket.MSG_CTRUNC
        if ancillary or cut:
            found = array.array("i")
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    found.frombytes(data[: len(data) - len(data) % found.itemsize])
            self._come.extend(found or [LOST])
            # A message that has come in part may wait for its rest, and that may come with the next one.
            if len(found) > 1 or (found and cut) or len(self._come) > 2:
                raise ProtocolError("more descriptors have come than belong to messages")
        return received

    def _claim(self) -> int:
        if not self._come:
            raise ProtocolError("memory was announced, and no descriptor has come")
        self._old = max(self._old - 1, 0)
        return self._come.popleft()

    def settle(self, spoke: bool, whole: bool) -> None:
        """What has been read has been acted upon.

        Args:
            spoke: messages were among it.
            whole: nothing of another message was.

        Raises:
            ProtocolError: a descriptor has come that belongs to no message.
        """
        if self._come:
            if whole or (spoke and self._old):
                raise ProtocolError("a descriptor has come with a message that takes none")
            self._old = len(self._come)

    def close(self) -> None:
        """Give up all memory; what has been received stays valid for those who hold it."""
        if self._lender is not None:
            self._lender.close()
        if self.giver is not None:
            self.giver.close()
        self._borrower.close()
        while self._come:
            close(self._come.popleft())
