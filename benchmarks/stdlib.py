"""What the standard library has: pipes, pools and fork servers of :mod:`multiprocessing`."""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
from functools import partial
from multiprocessing.connection import Connection
from time import perf_counter

from benchmarks.common import ARRAYS, BATCH, PAGE, PAYLOAD, TELLS, Control, Values, serve, time_calls, uss


def add(number: int) -> int:
    return number + 1


def echo(pipe: Connection) -> None:
    while True:
        try:
            told, payload = pipe.recv()
        except EOFError:
            return
        if told is None:
            pipe.send(sum(memoryview(payload)[::PAGE]))
        elif not told:
            pipe.send(payload)


def ready(pipe: Connection) -> None:
    pipe.send(None)
    try:
        pipe.recv()
    except EOFError:
        pass


class Stdlib:
    """Measurements, by name."""

    def __init__(self) -> None:
        self.context = mp.get_context("forkserver")
        self.context.set_forkserver_preload(["benchmarks.stdlib", "trio", "msgspec"])
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=echo, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.pool = self.context.Pool(1)

    def ping(self) -> None:
        self.pipe.send((False, PAYLOAD))
        self.pipe.recv()

    def call(self, seconds: float) -> Values:
        return time_calls("call", self.ping, seconds)

    def rate(self, seconds: float) -> Values:
        begun, answered = perf_counter(), 0
        while perf_counter() < begun + seconds:
            self.ping()
            answered += 1
        return {"rate.1": answered / (perf_counter() - begun)}

    def tell(self, seconds: float) -> Values:
        begun, told = perf_counter(), 0
        while perf_counter() < begun + seconds:
            for _ in range(TELLS):
                self.pipe.send((True, PAYLOAD))
            told += TELLS
        self.ping()
        return {"tell": told / (perf_counter() - begun)}

    def batch(self, seconds: float) -> Values:
        begun, items = perf_counter(), 0
        while perf_counter() < begun + seconds:
            items += len(self.pool.map(add, range(20 * BATCH), BATCH))
        return {"batch": items / (perf_counter() - begun)}

    def array(self, seconds: float) -> Values:
        values = Values()
        for name, size in ARRAYS.items():
            for way, told in (("to", None), ("back", False)):
                values |= time_calls(f"array.{way}.{name}", partial(self.send, told, bytes(size)), seconds)
        return values

    def send(self, told: bool | None, value: bytes) -> None:
        self.pipe.send((told, value))
        answer = self.pipe.recv()
        if told is not None:
            sum(memoryview(answer)[::PAGE])

    def start(self, _seconds: float) -> Values:
        ours, theirs = self.context.Pipe()
        begun = perf_counter()
        process = self.context.Process(target=ready, args=(theirs,))
        process.start()
        theirs.close()
        ours.recv()
        started = perf_counter()
        time.sleep(0.02)
        memory = uss(process.pid or 0)
        stopping = perf_counter()
        ours.send(None)
        process.join()
        stopped = perf_counter()
        return {"start.fork": started - begun, "memory": memory, "stop": stopped - stopping}

    def kill(self, _seconds: float) -> Values:
        """From the signal to the exception in the call that waits."""
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=ready, args=(theirs,))
        process.start()
        theirs.close()
        ours.recv()
        begun = perf_counter()
        process.kill()
        try:
            ours.recv()
        except (EOFError, ConnectionResetError):
            pass
        lost = perf_counter()
        process.join()
        return {"kill": lost - begun}


def main(control: Control) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdlib = Stdlib()
    try:
        serve(
            control,
            {
                "call": stdlib.call,
                "rate.1": stdlib.rate,
                "tell": stdlib.tell,
                "batch": stdlib.batch,
                "array": stdlib.array,
                "start": stdlib.start,
                "kill": stdlib.kill,
            },
            [child.pid for child in mp.active_children() if child.pid],
        )
    finally:
        stdlib.pool.terminate()
        stdlib.pipe.close()
        stdlib.process.join()
