"""The floor: plain blocking sockets between two processes, without a codec, an event loop or anything else."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from functools import partial
from time import perf_counter

from benchmarks.common import (
    ARRAYS,
    BATCH,
    CHUNK,
    LARGE,
    PAGE,
    SIZE,
    SIZES,
    TELLS,
    WHOLE,
    Control,
    Values,
    fit,
    forked,
    serve,
    time_calls,
    time_few,
    uss,
)
from benchmarks.inserts import insert

MESSAGE = b"c" * SIZE
TELL = b"t" * SIZE
HEAD = struct.Struct("<Q?")


def echo(sock: socket.socket) -> None:
    """Answer calls, one by one or as many as have arrived; count tells."""
    while data := sock.recv(CHUNK):
        rest = len(data) % SIZE
        if rest:
            data += sock.recv(SIZE - rest, socket.MSG_WAITALL)
        answers = [data[at : at + SIZE] for at in range(0, len(data), SIZE) if data[at] == 99]
        if answers:
            sock.sendall(b"".join(answers))


def add(number: int) -> int:
    return number + 1


def batches(sock: socket.socket) -> None:
    """Answer pickled lists of arguments with pickled lists of values."""
    with sock.makefile("rwb") as file:
        while True:
            calls = pickle.load(file)
            pickle.dump([add(*args, **kwargs) for args, kwargs in calls], file)
            file.flush()


def arrays(sock: socket.socket) -> None:
    """Take large values, and answer with a byte, or with the same."""
    while head := sock.recv(HEAD.size, socket.MSG_WAITALL):
        size, back = HEAD.unpack(head)
        value = bytearray(size)
        take(sock, value)
        sock.sendall(value if back else b".")


def looks(sock: socket.socket, memory: mmap.mmap) -> None:
    """Look at what lies in memory of both processes, and answer with a byte."""
    while head := sock.recv(HEAD.size, socket.MSG_WAITALL):
        size, _ = HEAD.unpack(head)
        sum(memoryview(memory)[:size:PAGE])
        sock.send(b".")


def take(sock: socket.socket, value: bytearray) -> None:
    view = memoryview(value)
    while view:
        view = view[sock.recv_into(view) :]
    sum(memoryview(value)[::PAGE])


def forker(sock: socket.socket) -> None:
    """Start processes that run trio, as a fork server does."""
    import msgspec  # noqa: F401
    import trio

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def ready() -> None:
        sock.send(b".")

    while sock.recv(1):
        if not os.fork():
            trio.run(ready)
            os._exit(0)


def wait_killed(sock: socket.socket) -> None:
    sock.send(b".")
    time.sleep(60)


class Floor:
    """Measurements, by name."""

    def __init__(
        self,
        echoing: socket.socket,
        batching: socket.socket,
        forking: socket.socket,
        taking: socket.socket,
        looking: socket.socket,
        memory: mmap.mmap,
    ) -> None:
        self.echoing = echoing
        self.taking = taking
        self.looking = looking
        self.memory = memory
        self.batching = batching.makefile("rwb")
        self.forking = forking

    def ping(self) -> None:
        self.echoing.send(MESSAGE)
        self.echoing.recv(CHUNK)

    def call(self, seconds: float) -> Values:
        return time_calls("call", self.ping, seconds)

    def rate(self, callers: int, seconds: float) -> Values:
        """As many calls open at any time as there would be callers: a send for each, reads of what there is."""
        sock, answered, rest = self.echoing, 0, 0
        begun, open_calls = perf_counter(), callers
        for _ in range(callers):
            sock.send(MESSAGE)
        while open_calls:
            count, rest = divmod(len(sock.recv(CHUNK)) + rest, SIZE)
            answered += count
            if perf_counter() < begun + seconds:
                for _ in range(count):
                    sock.send(MESSAGE)
            else:
                open_calls -= count
        return {f"rate.{callers}": answered / (perf_counter() - begun)}

    def tell(self, seconds: float) -> Values:
        begun, told = perf_counter(), 0
        while perf_counter() < begun + seconds:
            for _ in range(TELLS):
                self.echoing.send(TELL)
            told += TELLS
        self.ping()
        return {"tell": told / (perf_counter() - begun)}

    def batch(self, seconds: float) -> Values:
        calls: list[tuple[tuple[int], dict[str, int]]] = [((number,), {}) for number in range(BATCH)]
        begun, items = perf_counter(), 0
        while perf_counter() < begun + seconds:
            pickle.dump(calls, self.batching)
            self.batching.flush()
            items += len(pickle.load(self.batching))
        return {"batch": items / (perf_counter() - begun)}

    def array(self, seconds: float) -> Values:
        values = Values()
        for name, size in ARRAYS.items():
            for way, back in (("to", False), ("back", True)):
                values |= time_calls(f"array.{way}.{name}", partial(self.send, bytes(size), back), seconds)
        return values

    def send(self, value: bytes | bytearray, back: bool) -> None:
        self.taking.sendall(HEAD.pack(len(value), back))
        self.taking.sendall(value)
        take(self.taking, bytearray(len(value) if back else 1))

    def sizes(self, sizes: dict[str, int], seconds: float) -> Values:
        """A value through a socket, through warm memory, and copied in one process."""
        values = Values()
        for name, size in fit(sizes).items():
            value, copy = bytearray(size), memoryview(bytearray(size))
            for way, back in (("to", False), ("back", True)):
                values |= time_few(f"sizes.socket.{way}.{name}", partial(self.send, value, back), seconds)
            values |= time_few(f"sizes.memory.{name}", partial(self.place, value), seconds)
            values |= time_few(f"sizes.copy.{name}", partial(copy.__setitem__, slice(None), value), seconds)
            self.memory.madvise(mmap.MADV_REMOVE)
        return values

    def place(self, value: bytearray) -> None:
        memoryview(self.memory)[: len(value)] = value
        self.looking.send(HEAD.pack(len(value), False))
        self.looking.recv(1)

    def copy(self, seconds: float) -> Values:
        value, copy = bytearray(WHOLE), memoryview(bytearray(WHOLE))
        return time_few("copy", partial(copy.__setitem__, slice(None), value), seconds)

    def near(self, seconds: float) -> Values:
        """A method that is awaited, a hundred times for each look at the clock."""

        async def method(value: bytes) -> bytes:
            return value

        async def many() -> None:
            for _ in range(100):
                await method(MESSAGE)

        def hundred() -> None:
            try:
                many().send(None)
            except StopIteration:
                pass

        return {"near.p50": time_calls("near", hundred, seconds)["near.p50"] / 100}

    def start(self, _seconds: float) -> Values:
        begun = perf_counter()
        subprocess.run([sys.executable, "-c", "import trio, msgspec"], check=True)
        libraries = perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        bare = perf_counter()
        self.forking.send(b".")
        self.forking.recv(1)
        return {
            "import.libraries": libraries - begun,
            "import.nothing": bare - libraries,
            "start.fork": perf_counter() - bare,
        }

    def memory(self, _seconds: float) -> Values:
        """Of a process that does nothing but run trio."""
        code = "import msgspec, trio; print(flush=True); trio.run(trio.sleep_forever)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05)
            value = uss(process.pid)
            process.kill()
        return {"memory": value}

    def kill(self, _seconds: float) -> Values:
        """From the signal to the end of the connection."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            ours.close()
            wait_killed(theirs)
        theirs.close()
        ours.recv(1)
        begun = perf_counter()
        os.kill(pid, signal.SIGKILL)
        ours.recv(1)
        lost = perf_counter()
        os.waitpid(pid, 0)
        ours.close()
        return {"kill": lost - begun}


def outside(seconds: float) -> Values:
    """A plain socket over the same network, between two processes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(_sock: socket.socket) -> None:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := peer.recv(SIZE):
                peer.sendall(data)

        with forked(answer), socket.create_connection(listener.getsockname()) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask() -> None:
                sock.sendall(bytes(SIZE))
                sock.recv(SIZE, socket.MSG_WAITALL)

            return time_calls("outside", ask, seconds)


def main(control: Control) -> None:
    with (
        forked(echo) as (echoing, one),
        forked(batches) as (batching, two),
        forked(arrays) as (taking, three),
        forked(forker) as (forking, _),
        mmap.mmap(-1, max(LARGE.values())) as memory,
        forked(partial(looks, memory=memory)) as (looking, four),
    ):
        floor = Floor(echoing, batching, forking, taking, looking, memory)
        serve(
            control,
            {
                "call": floor.call,
                "rate.1": lambda seconds: floor.rate(1, seconds),
                "rate.64": lambda seconds: floor.rate(64, seconds),
                "rate.1024": lambda seconds: floor.rate(1024, seconds),
                "tell": floor.tell,
                "batch": floor.batch,
                "array": floor.array,
                "sizes": partial(floor.sizes, SIZES),
                "large": partial(floor.sizes, LARGE),
                "copy": floor.copy,
                "durable.always": partial(insert, "always"),
                "durable.never": partial(insert, "never"),
                "outside": outside,
                "near": floor.near,
                "start": floor.start,
                "memory": floor.memory,
                "kill": floor.kill,
            },
            [one, two, three, four],
        )
