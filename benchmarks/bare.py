"""Bare trio: the least that two processes can do on trio, with no cancel, deadline, error or bound in it.

- ``call``: a raw socket that does not block; both sides send at once, and wait in ``wait_readable``.
- ``stream``: the ordinary way, ``trio.SocketStream``.
- ``rate``, ``tell``: numbered messages, one task that reads at each side, a task that waits is rescheduled with its
  answer; what is sent is joined, up to 512 bytes or the end of the scheduler pass.
- ``near``: an awaited method behind a busy flag, and a look whether the task has been cancelled.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from time import perf_counter

import trio
from trio.lowlevel import Abort, Task, reschedule, wait_readable, wait_task_rescheduled, wait_writable

from benchmarks.common import CHUNK, PAYLOAD, SIZE, TELLS, WARM, Control, Values, forked, latency, placed

JOIN = 512
NUMBERED = 1 << 31
"""Numbers below are calls; the others are tells."""


async def receive(sock: socket.socket) -> bytes:
    while True:
        await wait_readable(sock)
        try:
            return sock.recv(CHUNK)
        except BlockingIOError:
            pass


async def send(sock: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await wait_writable(sock)


class Sender(trio.abc.Instrument):
    """Joins messages. What the socket does not take, a task of its own writes."""

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._sock = sock
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._parts: list[bytes] = []
        self.full: trio.Event | None = None
        trio.lowlevel.add_instrument(self)

    def post(self, message: bytes) -> None:
        self._parts.append(message)
        if len(self._parts) * SIZE >= JOIN:
            self.flush()

    def flush(self) -> None:
        if self._parts and self.full is None:
            data = b"".join(self._parts)
            self._parts.clear()
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self.full = trio.Event()
                self._token.run_sync_soon(self._nursery.start_soon, self._drain, data[sent:])

    async def _drain(self, rest: bytes) -> None:
        await send(self._sock, rest)
        assert self.full is not None
        self.full.set()
        self.full = None
        self.flush()

    def before_io_wait(self, timeout: float) -> None:
        self.flush()

    def close(self) -> None:
        trio.lowlevel.remove_instrument(self)


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole messages, and the rest."""
    whole = len(data) - len(data) % SIZE
    return [data[at : at + SIZE] for at in range(0, whole, SIZE)], data[whole:]


# The other side


def echo(sock: socket.socket) -> None:
    sock.setblocking(False)
    trio.run(_echo, sock)


async def _echo(sock: socket.socket) -> None:
    while data := await receive(sock):
        await send(sock, data)


def echo_stream(sock: socket.socket) -> None:
    sock.setblocking(False)
    trio.run(_echo_stream, sock)


async def _echo_stream(sock: socket.socket) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    while data := await stream.receive_some(CHUNK):
        await stream.send_all(data)


def answer(sock: socket.socket) -> None:
    sock.setblocking(False)
    trio.run(_answer, sock)


async def _answer(sock: socket.socket) -> None:
    rest = b""
    while data := await receive(sock):
        messages, rest = cut(rest + data)
        answers = [each for each in messages if int.from_bytes(each[:4], "little") < NUMBERED]
        await send(sock, b"".join(answers))


# Our side


class Caller:
    """Many calls over one socket."""

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._sock = sock
        self._waiting: dict[int, Task] = {}
        self._number = 0
        self.sender = Sender(sock, nursery)
        nursery.start_soon(self.read)

    async def read(self) -> None:
        rest = b""
        while data := await receive(self._sock):
            messages, rest = cut(rest + data)
            for message in messages:
                reschedule(self._waiting.pop(int.from_bytes(message[:4], "little")))

    async def call(self) -> None:
        self._number = number = (self._number + 1) % NUMBERED
        self._waiting[number] = trio.lowlevel.current_task()
        self.sender.post(number.to_bytes(4, "little") + PAYLOAD)
        await wait_task_rescheduled(lambda _: Abort.FAILED)

    async def tell(self, number: int) -> None:
        if number % 64:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        self.sender.post((NUMBERED + number).to_bytes(4, "little") + PAYLOAD)
        if self.sender.full is not None:
            await self.sender.full.wait()


class Neighbour:
    """Bare calls inside a process."""

    busy = False

    async def method(self, value: bytes) -> bytes:
        return value

    async def call(self, value: bytes) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        assert not self.busy
        self.busy = True
        try:
            return await self.method(value)
        finally:
            self.busy = False


async def time_awaits(name: str, call: Callable[[], Awaitable[object]], seconds: float) -> Values:
    """The latency of an awaited call."""
    samples: list[float] = []
    for length in (seconds * WARM, seconds):
        samples = []
        before, until = perf_counter(), perf_counter() + length
        while before < until:
            await call()
            after = perf_counter()
            samples.append(after - before)
            before = after
    return latency(name, samples)


async def count_calls(call: Callable[[], Awaitable[object]], callers: int, seconds: float) -> float:
    """Calls in a second, with so many callers."""
    answered, begun, until = 0, 0.0, 0.0

    async def caller() -> None:
        nonlocal answered
        while perf_counter() < until:
            await call()
            answered += 1

    for length in (seconds * WARM, seconds):
        answered, begun = 0, perf_counter()
        until = begun + length
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(caller)
    return answered / (perf_counter() - begun)


class Bare:
    """Measurements, by name."""

    def __init__(self, echoing: socket.socket, streaming: socket.socket, answering: socket.socket) -> None:
        for sock in (echoing, streaming, answering):
            sock.setblocking(False)
        self.echoing = echoing
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(streaming))
        self.answering = answering
        self.message = bytes(4) + PAYLOAD

    async def call(self, seconds: float) -> Values:
        sock, message = self.echoing, self.message

        async def ping() -> None:
            sock.send(message)
            await wait_readable(sock)
            sock.recv(CHUNK)

        async def ping_stream() -> None:
            await self.stream.send_all(message)
            await self.stream.receive_some(CHUNK)

        values = await time_awaits("call", ping, seconds)
        return values | await time_awaits("stream", ping_stream, seconds)

    async def rate(self, callers: int, seconds: float) -> Values:
        async with trio.open_nursery() as nursery:
            caller = Caller(self.answering, nursery)
            value = await count_calls(caller.call, callers, seconds)
            nursery.cancel_scope.cancel()
        caller.sender.close()
        return {f"rate.{callers}": value}

    async def tell(self, seconds: float) -> Values:
        async with trio.open_nursery() as nursery:
            caller = Caller(self.answering, nursery)
            begun, told = perf_counter(), 0
            while perf_counter() < begun + seconds:
                for number in range(TELLS):
                    await caller.tell(number)
                told += TELLS
            await caller.call()
            value = told / (perf_counter() - begun)
            nursery.cancel_scope.cancel()
        caller.sender.close()
        return {"tell": value}

    async def near(self, seconds: float) -> Values:
        neighbour, message = Neighbour(), self.message

        async def hundred() -> None:
            for _ in range(100):
                await neighbour.call(message)

        async def checkpoints() -> None:
            for _ in range(100):
                await trio.lowlevel.checkpoint()

        values = await time_awaits("near", hundred, seconds)
        values |= await time_awaits("checkpoint", checkpoints, seconds / 2)
        return {name: value / 100 for name, value in values.items()}


async def serve_trio(
    control: Control, measures: dict[str, Callable[[float], Awaitable[Values]]], callees: list[int]
) -> None:
    """Make measurements, for a subject that runs trio."""
    control.answer({})
    while True:
        await wait_readable(control.sock)
        request = control.receive()
        if request is None:
            return
        measure, seconds, place = request
        with placed(place, callees):
            values = await measures[measure](seconds)
        control.answer(values)


async def _main(control: Control, children: list[tuple[socket.socket, int]]) -> None:
    bare = Bare(*(sock for sock, _ in children))
    await serve_trio(
        control,
        {
            "call": bare.call,
            "rate.1": lambda seconds: bare.rate(1, seconds),
            "rate.64": lambda seconds: bare.rate(64, seconds),
            "rate.1024": lambda seconds: bare.rate(1024, seconds),
            "tell": bare.tell,
            "near": bare.near,
        },
        [pid for _, pid in children],
    )


def main(control: Control) -> None:
    with forked(echo) as one, forked(echo_stream) as two, forked(answer) as three:
        trio.run(_main, control, [one, two, three])
