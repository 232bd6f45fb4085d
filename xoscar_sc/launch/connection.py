"""The guardian's end of a connection."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from xoscar_sc.launch import wire

_TURN = 64
"""Requests heard before other connections have their turn."""
_BACKLOG = 1024
"""Answers waiting from which on no more requests are heard."""


class Connection:
    """Hears requests, and tells answers without ever blocking.

    Args:
        sock: the socket, owned from now on.
        selector: registers itself there, with a callback.
        heard: called with each request and its descriptors, which are the callee's then.
        ended: called once, when the connection has ended or was closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: BaseSelector,
        heard: Callable[[Connection, wire.Request, list[int]], None],
        ended: Callable[[Connection], None],
    ) -> None:
        self.open = True
        self.pools: set[str] = set()
        """What was started over it, and is not known there to have ended."""
        self._sock = sock
        self._selector = selector
        self._heard = heard
        self._ended = ended
        self._waiting: deque[bytes] = deque()
        selector.register(sock, EVENT_READ, self._serve)

    def close(self) -> None:
        """End it; harmless if it has ended."""
        if self.open:
            self._selector.unregister(self._sock)
            self.abandon()
            self._ended(self)

    def abandon(self) -> None:
        """In a fork: close the socket, which is the guardian's."""
        self.open = False
        self._sock.close()

    def tell(self, answer: wire.Answer | bytes) -> None:
        """Send an answer, now or later; harmless if the connection has ended."""
        if self.open:
            self._waiting.append(answer if isinstance(answer, bytes) else wire.encode(answer))
            self._send()

    def _send(self) -> None:
        try:
            while self._waiting:
                wire.send(self._sock, self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        events = (EVENT_WRITE if self._waiting else 0) | (EVENT_READ if len(self._waiting) < _BACKLOG else 0)
        if events != self._selector.get_key(self._sock).events:
            self._selector.modify(self._sock, events, self._serve)

    def _serve(self, events: int) -> None:
        if events & EVENT_WRITE and self.open:
            self._send()
        if events & EVENT_READ:
            self._hear()

    def _hear(self) -> None:
        for _ in range(_TURN):
            if not self.open:
                return
            try:
                packet, descriptors = wire.receive(self._sock)
            except BlockingIOError:
                return
            try:
                request = wire.decode_request(packet)
            except (ValueError, RecursionError):  # the end of the connection, or what no correct peer sends
                wire.close(*descriptors)
                self.close()
                return
            self._heard(self, request, descriptors)
