"""The one way to write to a connection.

Small messages are joined: a lone one is written at once, others when a kilobyte has gathered or at the end of the
scheduler pass. What the socket does not take waits here, and goes out when it takes bytes again; no task is needed for
that, and nobody holds a lock.

Large messages go out in pieces, several in turn, with small messages in between, so that nothing small waits behind
something large. One exception keeps the order of messages: while a large one for some actor is under way, the later
ones for the same actor follow it (:class:`_Transfer`). No more of them are under way at once than the peer admits.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from xoscar_sc.ipc.tls import TlsSocket
from xoscar_sc.loop import Loop, Slot
from xoscar_sc.protocol import MAX_TRANSFERS, bulk, frame

JOIN = 1024
"""Bytes that are worth a system call of their own."""
HIGH_WATER = 1 << 20
"""Bytes that wait here before senders who need no answer are made to wait."""
_FD = struct.Struct("i")
_STEP = 8
"""Pieces written on end before others get the loop."""


class _Transfer:
    """A large message on its way."""

    __slots__ = ("followers", "held", "key", "pieces", "size", "started")

    def __init__(self, key: str | None, pieces: Iterator[tuple[bytes, memoryview | None]], size: int) -> None:
        self.key = key
        self.pieces = pieces
        self.size = size
        self.held = False
        """It is not known yet."""
        self.started = False
        """It follows no other any more."""
        self.followers: deque[_Transfer | bytes] = deque()
        """Those of the same key that came later: large ones, and the frames of small ones."""


class Outbox:
    """What is to be written to one socket. It never blocks, and what the socket raises is told to ``broken``."""

    def __init__(
        self, loop: Loop, sock: socket.socket | TlsSocket, broken: Callable[[OSError], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._broken = broken
        self._small: list[bytes] = []
        self._gathered = 0
        self._promised = False
        """A flush will come at the end of this pass."""
        self._rest: list[memoryview] = []
        """What the socket did not take of the last write; while it is there, the socket is being watched."""
        self._transfers: deque[_Transfer] = deque()
        self._queued: deque[_Transfer] = deque()
        """Transfers for which there is no room yet among those under way."""
        self._by_key: dict[str, _Transfer] = {}
        self._transfer_ids = 0
        self._large = 0
        self._waiters: list[Slot] = []
        self._behind: dict[str, list[Slot]] = {}
        """Who waits until nothing large of a key is under way."""
        self._closed = False

    @property
    def waiting(self) -> int:
        """Bytes that the socket has not taken yet, as far as they can be many."""
        return self._gathered + self._large

    def put(self, message: bytes, segments: Sequence[memoryview], key: str | None, *, now: bool) -> None:
        """Send a message; behind the others of the same ``key``, if there are any. ``now``: do not join it.

        Raises:
            FrameTooLarge: it cannot be sent; nothing was.
        """
        if self._closed:
            return
        if key is not None and self._by_key and (ahead := self._by_key.get(key)) is not None:
            if segments:
                ahead.followers.append(self._transfer(message, segments, key))
            else:
                data = frame(message)
                ahead.followers.append(data)
                self._large += len(data)
            return
        if segments:
            self._start(self._transfer(message, segments, key))
        elif now and not (self._small or self._rest or self._transfers):
            self._write(frame(message))
            return
        else:
            data = frame(message)
            self._small.append(data)
            self._gathered += len(data)
        if now or self._gathered >= JOIN or self._transfers:
            if not self._rest:
                self._pump()
        elif not self._promised:
            self._promised = True
            self._loop.at_end_of_pass(self._end_of_pass)

    def offer(self, message: bytes, descriptor: int) -> bool:
        """Send a small message with a descriptor at once, or not at all; whether it was sent.

        The descriptor travels with the first byte of the message.
        """
        if self._closed or self._rest:
            return False
        if self._small:
            before = b"".join(self._small)
            self._small.clear()
            self._gathered = 0
            if not self._write(before):
                return False
        data = frame(message)
        try:
            sent = self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(descriptor))])
        except (
            OSError
        ):  # it is full, or too many descriptors are under way; if it is broken, the next write says so
            return False
        if sent < len(data):
            self._keep([memoryview(data)], sent)
        return True

    def _transfer(self, message: bytes, segments: Sequence[memoryview], key: str | None) -> _Transfer:
        self._transfer_ids = (self._transfer_ids + 1) & 0xFFFFFFFF
        size = sum(map(len, segments))
        transfer = _Transfer(key, bulk(self._transfer_ids, message, segments), size)
        self._large += size
        return transfer

    def _start(self, transfer: _Transfer) -> None:
        transfer.started = True
        if not transfer.held:
            (self._transfers if len(self._transfers) < MAX_TRANSFERS else self._queued).append(transfer)
        if transfer.key is not None:
            self._by_key[transfer.key] = transfer

    def hold(self, key: str | None) -> _Transfer:
        """The place of a message that will be known later: those of the same ``key`` that come until then follow it."""
        transfer = _Transfer(key, iter(()), 0)
        transfer.held = True
        ahead = None if key is None else self._by_key.get(key)
        if ahead is not None:
            ahead.followers.append(transfer)
        else:
            self._start(transfer)
        return transfer

    def release(self, transfer: _Transfer, message: bytes, segments: Sequence[memoryview]) -> None:
        """Send the message of a place; it must not be too large."""
        if self._closed:
            return
        if segments:
            known = self._transfer(message, segments, transfer.key)
            transfer.pieces, transfer.size = known.pieces, known.size
        else:
            transfer.pieces = iter(((frame(message), None),))
        transfer.held = False
        if transfer.started:
            self._start(transfer)
            if not self._rest:
                self._pump()

    def _end_of_pass(self) -> None:
        self._promised = False
        if self._small and not self._rest:
            self._pump()

    def flush(self) -> None:
        """Write what has gathered, as far as the socket takes it."""
        if not self._rest and not self._closed:
            self._pump()

    def _pump(self) -> None:
        """Write until nothing is left, or the socket is full, or others should have the loop."""
        small = self._small
        for _ in range(_STEP):
            if small:
                data = small[0] if len(small) == 1 else b"".join(small)
                small.clear()
                self._gathered = 0
                if not self._write(data):
                    return
            elif self._transfers:
                views, size = self._next_piece()
                if views and not self._write_views(views, size):
                    return
            else:
                break
        if small or self._transfers:
            self._watch()
        elif self._waiters:
            self._loop.soon(self._release)

    def _next_piece(self) -> tuple[list[memoryview], int]:
        transfer = self._transfers[0]
        self._transfers.rotate(-1)
        piece = next(transfer.pieces, None)
        if piece is None:
            self._finish(transfer)
            return [], 0
        prefix, body = piece
        if body is None:
            return [memoryview(prefix)], len(prefix)
        transfer.size -= len(body)
        self._large -= len(body)
        return [memoryview(prefix), body], len(prefix) + len(body)

    def _finish(self, transfer: _Transfer) -> None:
        """A transfer is out: what had to come behind it may go."""
        self._transfers.remove(transfer)
        if self._queued:
            self._transfers.append(self._queued.popleft())
        if transfer.key is not None:
            del self._by_key[transfer.key]
        followers = transfer.followers
        while followers:
            following = followers.popleft()
            if isinstance(following, _Transfer):
                following.followers = followers
                self._start(following)
                return
            self._large -= len(following)
            self._small.append(following)
            self._gathered += len(following)
        if transfer.key in self._behind:
            self._loop.soon(partial(self._sent, transfer.key))

    async def wait_sent(self, key: str) -> None:
        """Wait until what is put from now on, whatever its key, arrives behind all of this key."""
        while key in self._by_key:
            slot = self._loop.slot()
            waiters = self._behind.setdefault(key, [])
            waiters.append(slot)
            try:
                await slot.wait()
            finally:
                if not slot.filled:
                    waiters.remove(slot)

    def _sent(self, key: str) -> None:
        for slot in self._behind.pop(key, ()):
            slot.set(None)

    def _write(self, data: bytes) -> bool:
        """Whether the socket took it all; if not, the rest is kept and the socket watched."""
        try:
            sent = self._sock.send(data)
        except OSError as exc:
            return self._not_sent(exc, [memoryview(data)])
        return sent == len(data) or self._keep([memoryview(data)], sent)

    def _write_views(self, views: list[memoryview], size: int) -> bool:
        """As :meth:`_write`, for several one after the other."""
        try:
            sent = self._sock.sendmsg(views)
        except OSError as exc:
            return self._not_sent(exc, views)
        return sent == size or self._keep(views, sent)

    def _not_sent(self, exc: OSError, views: list[memoryview]) -> bool:
        if isinstance(exc, BlockingIOError):
            return self._keep(views, 0)
        self.close()
        self._loop.soon(partial(self._broken, exc))
        return False

    def _keep(self, views: list[memoryview], sent: int) -> bool:
        for view in views:
            if sent < len(view):
                self._rest.append(view[sent:])
            sent = max(sent - len(view), 0)
        self._watch()
        return False

    def _watch(self) -> None:
        self._loop.watch_writable(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        if self._closed:
            return
        if self._rest:
            views, self._rest = self._rest, []
            if not self._write_views(views, sum(map(len, views))):
                return
        self._pump()
        if self._waiters and self.waiting < HIGH_WATER:
            self._release()

    async def wait_room(self) -> None:
        """Wait until less than :data:`HIGH_WATER` bytes wait here."""
        while self.waiting >= HIGH_WATER and not self._closed:
            slot = self._loop.slot()
            self._waiters.append(slot)
            try:
                await slot.wait()
            finally:
                if not slot.filled:
                    self._waiters.remove(slot)

    def _release(self) -> None:
        waiters, self._waiters = self._waiters, []
        for slot in waiters:
            slot.set(None)

    def close(self) -> None:
        """Drop what waits, and let those who wait for room go."""
        self._closed = True
        self._small.clear()
        self._rest.clear()
        self._transfers.clear()
        self._queued.clear()
        self._by_key.clear()
        self._gathered = self._large = 0
        if self._waiters:
            self._loop.soon(self._release)
        for key in self._behind:
            self._loop.soon(partial(self._sent, key))
