"""Nurseries for programs that are not async."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import is_gone, program, run_program

BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])


class Mine(Exception):
    """Not to be mistaken for another."""


class Counter(xsc.Actor):
    """Counts."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    async def add(self, number: int) -> int:
        self.value += number
        return self.value

    async def fail(self) -> None:
        raise Mine("as it is")

    async def numbers(self, up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield number

    async def add_to(self, other: Any, number: int) -> int:
        return await other.add(number)

    async def other(self, uid: str) -> Any:
        return await xsc.actor_ref(uid=uid)

    def exit(self) -> None:
        os._exit(3)


@BACKENDS
def test_messages_streams_groups_and_functions(backend: str) -> None:
    with xsc.blocking.open_pool_nursery(2, backend=backend) as n:
        counter = n.create_actor(Counter, 10, uid="counter")
        other = n.start_pool("more").create_actor(Counter)
        assert counter.add(5) == 15
        counter.add.tell(1)
        assert counter.add.batch(counter.add.delay(1), counter.add.delay(2)) == [17, 19]
        assert other.add_to(counter, 1) == 20
        assert other.other("counter") == counter
        assert other.other("counter").add(number=1) == 21
        assert list(counter.numbers(200)) == list(range(200))
        with counter.numbers(10**6) as stream:
            assert [next(stream), next(stream)] == [0, 1]
        with pytest.raises(Mine, match="as it is"):
            counter.fail()
        assert n.run(pow, 2, 5) == 32
        assert n.pools["more"].run(os.getpid) == n.pools["more"].pid
        assert [each.add(1) for each in n.create_group(Counter, size=3)] == [1, 1, 1]
        assert n.call(ask, n.nursery) == ["pool-1", "pool-2", "more"]
        other.destroy()
        assert not other.is_alive()
    with pytest.raises(xsc.XoscarError, match="has ended"):
        counter.add(1)


async def ask(nursery: xsc.PoolNursery) -> list[str]:
    await anyio.lowlevel.checkpoint()
    return list(nursery.pools)


@BACKENDS
def test_it_works_where_a_loop_runs_already(backend: str) -> None:
    async def cell() -> int:
        with xsc.blocking.open_pool_nursery(1, backend=backend) as n:
            return n.create_actor(Counter).add(1)  # type: ignore[no-any-return]

    assert asyncio.run(cell()) == 1


@BACKENDS
def test_many_threads_share_it(backend: str) -> None:
    with xsc.blocking.open_pool_nursery(2, backend=backend) as n:
        counter = n.create_actor(Counter)
        threads = [threading.Thread(target=counter.add, args=(1,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter.add(0) == 20


@BACKENDS
def test_errors_leave_the_block(backend: str) -> None:
    with pytest.raises(xsc.PoolDied):
        with xsc.blocking.open_pool_nursery(1, backend=backend) as n:
            counter = n.create_actor(Counter)
            pid = n.pools["pool-1"].pid
            with pytest.raises(xsc.PoolDied):
                counter.exit()
    assert is_gone(pid)
    with pytest.raises(ValueError, match="mine"):
        with xsc.blocking.open_pool_nursery(1, backend=backend) as n:
            pid = n.pools["pool-1"].pid
            raise ValueError("mine")
    assert is_gone(pid)
    with pytest.raises(ValueError, match="pools is -1"):
        xsc.blocking.open_pool_nursery(-1, backend=backend).start()
    with pytest.raises(xsc.LaunchError):
        xsc.blocking.open_pool_nursery(1, env={"PYTHONHOME": "/nowhere"}, backend=backend).start()


@BACKENDS
def test_ctrl_c_ends_a_call_and_the_nursery(backend: str, tmp_path: Any) -> None:
    source = f"""
        import time, anyio
        import xoscar_sc as xsc

        async def sleep():
            print("sleeping", flush=True)
            try:
                await anyio.sleep(600)
            finally:
                print("ended", flush=True)

        if __name__ == "__main__":
            try:
                with xsc.blocking.open_pool_nursery(1, backend={backend!r}) as n:
                    try:
                        n.run(sleep)
                    except KeyboardInterrupt:
                        print("interrupted", n.run(abs, -1), flush=True)
                    n.run(sleep)
            except KeyboardInterrupt:
                print("left", flush=True)
        """
    with program(tmp_path, source) as running:
        for _ in range(2):
            running.expect("sleeping")
            running.signal(signal.SIGINT)
            running.expect("ended")
            running.expect("interrupted 1" if _ == 0 else "left")
        assert running.wait() == 0, running.stderr
        assert not running.descendants()


@BACKENDS
def test_the_end_of_the_program_closes_what_was_left_open(backend: str, tmp_path: Any) -> None:
    said = run_program(
        tmp_path,
        f"""
        import xoscar_sc as xsc

        class Counter(xsc.Actor):
            async def add(self, n):
                return n + 1

        if __name__ == "__main__":
            n = xsc.blocking.open_pool_nursery(1, backend={backend!r}).start()
            with xsc.blocking.open_pool_nursery(1, backend={backend!r}) as other:
                other.create_actor(Counter)
            counter = n.create_actor(Counter)
            print(counter.add(1))
        """,
    )
    assert said == "2\n"
