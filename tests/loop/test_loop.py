"""The contract of :class:`xoscar_sc.loop.Loop`, on both loops: which it is, passes, slots and time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.loop.sockets import pair
from tests.loop.turns import Plain
from tests.loop.waiting import settle, until
from xoscar_sc.loop import open_loop, preload_trio, running_library


def test_no_loop_outside_of_one() -> None:
    with pytest.raises(RuntimeError, match="no event loop is running in this thread"):
        running_library()


@pytest.mark.parametrize("library", ["trio", "asyncio"])
def test_the_loop_that_runs_is_known(library: str) -> None:
    async def ask() -> str:
        return running_library()

    assert anyio.run(ask, backend=library) == library


def test_asyncio_is_not_imported_until_it_is_used() -> None:
    program = "import sys, trio, xoscar_sc.loop; print('asyncio' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_preloading_imports_trio_and_not_asyncio() -> None:
    program = (
        "import sys; from xoscar_sc.loop import preload_trio; preload_trio();"
        "print('trio' in sys.modules, 'asyncio' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "True False\n"
    preload_trio()


@both_drivers
async def test_two_loops_serve_one_thread() -> None:
    found: list[str] = []
    with pair() as (one, other), pair() as (third, fourth):
        async with open_loop() as first, open_loop() as second:
            first.watch(one.fileno(), lambda: found.append(f"first {one.recv(9)!r}"))
            second.watch(third.fileno(), lambda: found.append(f"second {third.recv(9)!r}"))
            other.send(b"x")
            fourth.send(b"y")
            await until(lambda: len(found) == 2)
            first.unwatch(one.fileno())
            second.unwatch(third.fileno())
    assert set(found) == {"first b'x'", "second b'y'"}


@both_drivers
async def test_a_loop_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        async with open_loop() as loop:
            loop.submit(Plain(lambda _scope: None))
    assert len(os.listdir("/proc/self/fd")) == before


# The end of a pass, and soon


@both_drivers
async def test_the_end_of_a_pass_comes_after_all_tasks_that_are_ready_and_in_order() -> None:
    log: list[str] = []
    async with open_loop() as loop:

        async def work(name: str) -> None:
            loop.at_end_of_pass(lambda: log.append(f"end of {name}"))
            log.append(name)

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(work, name)
            await settle()
    assert sorted(log[:3]) == ["a", "b", "c"]
    assert log[3:] == [f"end of {name}" for name in log[:3]]


@both_drivers
async def test_the_end_of_a_pass_comes_before_the_loop_waits() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            found: list[bytes] = []
            loop.watch(one.fileno(), lambda: found.append(one.recv(9)))
            slot = loop.slot()
            # Nothing else will ever happen: if the loop waited first, nothing would wake it.
            loop.at_end_of_pass(lambda: other.send(b"x"))
            loop.soon(lambda: loop.at_end_of_pass(lambda: loop.soon(lambda: slot.set("woken"))))
            assert await slot.wait() == "woken"
            await until(lambda: found)
            loop.unwatch(one.fileno())


@both_drivers
async def test_soon_is_called_in_the_loops_thread_from_any_other() -> None:
    async with open_loop() as loop:
        slot = loop.slot()
        thread = threading.Thread(target=lambda: loop.soon(lambda: slot.set(threading.current_thread())))
        thread.start()
        assert await slot.wait() is threading.current_thread()
        thread.join()


@both_drivers
async def test_what_is_to_be_called_soon_is_called_in_order() -> None:
    log: list[int] = []
    async with open_loop() as loop:
        for number in range(10):
            loop.soon(lambda number=number: log.append(number))
        await until(lambda: len(log) == 10)
    assert log == list(range(10))


# Slots


@both_drivers
async def test_a_slot_gives_what_it_was_given_before_or_while_it_is_waited_for() -> None:
    async with open_loop() as loop:
        slot = loop.slot()
        assert not slot.filled
        slot.set("early")
        assert slot.filled
        assert await slot.wait() == "early"
        slot = loop.slot()
        loop.soon(lambda: slot.set("late"))
        assert await slot.wait() == "late"


@both_drivers
async def test_the_first_value_of_a_slot_counts() -> None:
    async with open_loop() as loop:
        slot = loop.slot()

        def twice() -> None:
            slot.set(1)
            slot.set(2)

        loop.soon(twice)
        assert await slot.wait() == 1
        slot.set(3)
        assert slot.value == 1


@both_drivers
async def test_a_slot_that_was_given_up_can_be_filled_and_waited_for_again() -> None:
    async with open_loop() as loop:
        slot = loop.slot()
        with anyio.CancelScope() as scope:
            loop.soon(scope.cancel)
            await slot.wait()
        assert scope.cancelled_caught
        assert not slot.filled
        loop.soon(lambda: slot.set("all the same"))
        assert await slot.wait() == "all the same"


@both_drivers
async def test_waiting_for_a_full_slot_notices_a_cancellation_and_keeps_the_value() -> None:
    async with open_loop() as loop:
        slot = loop.slot()
        slot.set("kept")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await slot.wait()
        assert scope.cancelled_caught
        assert await slot.wait() == "kept"


# Time


@both_drivers
async def test_seconds_left_are_those_of_the_nearest_deadline() -> None:
    async with open_loop() as loop:
        assert loop.seconds_left() in (None, pytest.approx(60, abs=60))  # the test's own bound
        with anyio.move_on_after(1000):
            with anyio.move_on_after(20):
                await anyio.lowlevel.checkpoint()
                left = loop.seconds_left()
                assert left is not None
                assert 0 < left <= 20
        with anyio.CancelScope(deadline=loop.now() - 1):
            assert loop.seconds_left() == 0
            await anyio.lowlevel.checkpoint()


@both_drivers
async def test_breathing_notices_a_cancellation_and_lets_others_run() -> None:
    async with open_loop() as loop:
        log: list[str] = []
        with anyio.CancelScope() as scope:
            scope.cancel()
            await loop.breathe()
            log.append("unreached")
        assert scope.cancelled_caught

        async def other() -> None:
            log.append("other")

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            while not log:
                await loop.breathe()
    assert log == ["other"]


@both_drivers
async def test_the_loops_cancellation_is_what_a_cancelled_task_gets() -> None:
    async with open_loop() as loop:
        with anyio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(loop.cancelled):
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
