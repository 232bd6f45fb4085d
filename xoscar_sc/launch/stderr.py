"""The way of what pools write to their stderr: to the root's stderr, and its last lines into their exits."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections import deque
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

_STEP = 4096
"""Bytes that a pipe takes in one piece, if it takes any (PIPE_BUF)."""
_PIPE = 65536
"""Bytes that a pipe holds, mostly."""
_ENOUGH = 256 * 1024
"""Bytes waiting from which on no more are read."""


class Tail:
    """The last lines of what a process has written."""

    LINES = 20
    BYTES = 8192

    def __init__(self) -> None:
        self._data = b""
        self._cut = False

    def add(self, data: bytes) -> None:
        """Take what was written next."""
        data = self._data + data
        self._cut = self._cut or len(data) > self.BYTES
        self._data = data[-self.BYTES :]

    def lines(self) -> tuple[str, ...]:
        """The lines, without their ends; a first line of which only a part is left is not among them."""
        lines = self._data.decode(errors="replace").splitlines()
        if self._cut and len(lines) > 1:
            del lines[0]
        return tuple(lines[-self.LINES :])


class Output:
    """Bytes on their way to fd 2, which others use as well. Never blocks.

    So fd 2 must stay in blocking mode, and a pipe that has room may be filled by another before we write. A terminal or
    a pipe is therefore opened anew, without blocking; a socket has a flag for each call; a file does not block.
    """

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._socket: socket.socket | None = None
        self.fd = 2
        mode = os.fstat(2).st_mode
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(2))
            elif not stat.S_ISREG(mode):
                self.fd = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLOUT)

    @property
    def waiting(self) -> bool:
        """Whether there are bytes that fd 2 does not take now."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether so much is waiting that no more should be read."""
        return self._size >= _ENOUGH

    def add(self, data: bytes) -> None:
        """Take bytes, and write what can be written."""
        self._waiting.append(data)
        self._size += len(data)
        self.flush()

    def flush(self, patience: float = 0.0) -> None:
        """Write what can be written; each time wait at most ``patience`` seconds until that is something."""
        while self._waiting and self._poll.poll(patience * 1000):
            data = self._waiting.popleft()
            try:
                written = self._write(data[:_STEP])
            except BlockingIOError:
                written = 0
            except OSError:  # closed, hung up, disk full: there is nobody to tell
                written = len(data)
            self._size -= written
            if written < len(data):
                self._waiting.appendleft(data[written:])
            if not written:
                return

    def _write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self.fd, data)

    def close(self) -> None:
        """Close what was opened for this."""
        if self._socket is not None:
            self._socket.close()
        if self.fd != 2:
            os.close(self.fd)


class Pipe:
    """The reading end of what one pool writes to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """-1 when it has been closed."""
        self.tail = Tail()


class Copier:
    """Copies from pipes to fd 2, and to the pipes' tails, when a selector says so."""

    def __init__(self, selector: BaseSelector) -> None:
        self._selector = selector
        self._output = Output()
        self._pipes: set[Pipe] = set()
        self._writing = False
        """The selector waits for room in the output."""
        self._reading = True
        """It waits for the pipes."""

    def add(self, pipe: Pipe) -> None:
        """Copy from a pipe until its end, or until :meth:`finish`."""
        self._pipes.add(pipe)
        if self._reading:
            self._read(pipe)

    def finish(self, pipe: Pipe) -> None:
        """Copy what is in a pipe now, and close it."""
        # Bounded: a process that has got away may go on writing.
        for _ in range(16):
            if not self._copy(pipe):
                break
        self._close(pipe)

    def finish_all(self) -> None:
        """Finish all pipes, and wait a little for whoever reads our output."""
        for pipe in list(self._pipes):
            self.finish(pipe)
        self._output.flush(patience=0.1)

    def abandon(self) -> None:
        """In a fork: close what is the guardian's."""
        self._output.close()

    def _copy(self, pipe: Pipe) -> bool:
        """Copy what is in a pipe, up to a pipe's usual size; False if that was nothing."""
        if pipe.fd < 0:
            return False
        try:
            data = os.read(pipe.fd, _PIPE)
        except BlockingIOError:
            return False
        if data:
            pipe.tail.add(data)
            self._output.add(data)
            self._attend()
        else:
            self._close(pipe)
        return bool(data)

    def _close(self, pipe: Pipe) -> None:
        if pipe.fd >= 0:
            self._leave(pipe.fd)
            os.close(pipe.fd)
            pipe.fd = -1
            self._pipes.discard(pipe)

    def _write(self, _events: int) -> None:
        self._output.flush()
        self._attend()

    def _attend(self) -> None:
        """Wait for room in the output if it is needed; read no more meanwhile if much is waiting."""
        if self._output.waiting != self._writing:
            self._writing = self._output.waiting
            if self._writing:
                self._selector.register(self._output.fd, EVENT_WRITE, self._write)
            else:
                self._leave(self._output.fd)
        if self._output.full == self._reading:
            self._reading = not self._output.full
            for pipe in self._pipes:
                self._read(pipe) if self._reading else self._leave(pipe.fd)

    def _read(self, pipe: Pipe) -> None:
        self._selector.register(pipe.fd, EVENT_READ, lambda _: self._copy(pipe))

    def _leave(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)
