"""The contract of :class:`xoscar_sc.loop.Loop`, on both loops."""

from __future__ import annotations

import contextvars
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.loop.waiting import settle, until
from xoscar_sc.loop import Loop, Scope, Slot, open_loop, preload_trio, running_library

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that do not block."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


def fill(sock: socket.socket) -> None:
    """Write until it takes no more."""
    try:
        while sock.send(bytes(1 << 16)):
            pass
    except BlockingIOError:
        pass


def empty(sock: socket.socket) -> None:
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


class Plain:
    """A turn made of a function: it ends at once, or gives the coroutine that it returns."""

    def __init__(self, function: Callable[[Scope], Coroutine[Any, Any, None] | None]) -> None:
        self.start = function


class Waiting:
    """A turn that waits until it is released."""

    def __init__(self, loop: Loop, log: list[object], name: object) -> None:
        self.slot = loop.slot()
        self.log = log
        self.name = name
        self.scope: Scope | None = None

    def start(self, scope: Scope) -> Coroutine[Any, Any, None]:
        self.scope = scope
        self.log.append(("starts", self.name))
        return self.rest()

    async def rest(self) -> None:
        try:
            await self.slot.wait()
        except BaseException:
            self.log.append(("cancelled", self.name))
            raise
        self.log.append(("ends", self.name))


class Numbers:
    """Reads numbers of one byte from a socket, and fills the slot of each."""

    def __init__(self, loop: Loop, sock: socket.socket, count: int) -> None:
        self.sock = sock
        self.slots = [loop.slot() for _ in range(count)]

    def read(self) -> None:
        try:
            data = self.sock.recv(100)
        except BlockingIOError:
            return
        for number in data:
            self.slots[number].set(number)


async def collect(found: list[object], function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    found.append(await function())


# Which loop


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
    program = "import sys, xoscar_sc.loop as l; l.preload_trio(); print('trio' in sys.modules, 'asyncio' in sys.modules)"
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


# Descriptors


@both_drivers
async def test_a_descriptor_calls_as_long_as_there_is_something_to_read() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: found.append(one.recv(1)))
            other.send(b"abc")
            await until(lambda: len(found) == 3)
            await settle()
            other.send(b"d")
            await until(lambda: len(found) == 4)
            loop.unwatch(one.fileno())
    assert found == [b"a", b"b", b"c", b"d"]


@both_drivers
async def test_many_descriptors_each_call_their_own() -> None:
    async with open_loop() as loop:
        pairs = [socket.socketpair() for _ in range(50)]
        found: list[tuple[int, bytes]] = []
        for number, (one, _) in enumerate(pairs):
            loop.watch(one.fileno(), lambda number=number, one=one: found.append((number, one.recv(9))))
        for number, (_, other) in enumerate(pairs):
            other.send(b"%d" % number)
        await until(lambda: len(found) == 50)
        for one, other in pairs:
            loop.unwatch(one.fileno())
            one.close()
            other.close()
    assert sorted(found) == [(number, b"%d" % number) for number in range(50)]


@both_drivers
async def test_an_unwatched_descriptor_calls_no_more_and_can_be_unwatched_again() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: found.append(one.recv(1)))
            loop.unwatch(one.fileno())
            other.send(b"x")
            await settle()
            assert found == []
            loop.unwatch(one.fileno())
            loop.watch(one.fileno(), lambda: found.append(one.recv(1)))
            await until(lambda: found)
            loop.unwatch(one.fileno())
    assert found == [b"x"]


@both_drivers
async def test_a_callback_may_unwatch_itself_and_others_that_are_ready() -> None:
    calls: list[str] = []
    async with open_loop() as loop:
        with pair() as (one, other), pair() as (third, fourth):

            def call(name: str) -> None:
                calls.append(name)
                loop.unwatch(one.fileno())
                loop.unwatch(third.fileno())

            loop.watch(one.fileno(), lambda: call("first"))
            loop.watch(third.fileno(), lambda: call("second"))
            other.send(b"x")
            fourth.send(b"x")
            await settle()
    assert len(calls) == 1


@both_drivers
async def test_unwatching_is_heard_in_the_pass_in_which_bytes_come_in() -> None:
    async with open_loop() as loop:
        for round in range(40):
            with pair() as (one, other):
                found: list[bytes] = []
                watched = True

                def readable(one: socket.socket = one, found: list[bytes] = found) -> None:
                    assert watched
                    found.append(one.recv(9))

                loop.watch(one.fileno(), readable)
                other.send(b"x")  # from now on it is the only one that is ready
                await until(lambda found=found: found)
                await settle()
                other.send(b"x")
                for _ in range(round % 4):
                    await anyio.lowlevel.checkpoint()
                watched = False
                loop.unwatch(one.fileno())
                await settle()


@both_drivers
async def test_a_descriptor_that_takes_bytes_again_calls_once() -> None:
    calls: list[str] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: calls.append("readable"))
            fill(one)
            loop.watch_writable(one.fileno(), lambda: calls.append("writable"))
            await settle()
            assert calls == []
            empty(other)
            await until(lambda: calls)
            await settle()
            assert calls == ["writable"]
            loop.watch_writable(one.fileno(), lambda: calls.append("again"))
            await until(lambda: len(calls) == 2)
            loop.unwatch(one.fileno())
    assert calls == ["writable", "again"]


@both_drivers
async def test_a_writable_callback_may_ask_for_the_next_one() -> None:
    calls: list[int] = []
    async with open_loop() as loop:
        with pair() as (one, _):

            def writable() -> None:
                calls.append(len(calls))
                if len(calls) < 5:
                    loop.watch_writable(one.fileno(), writable)

            loop.watch(one.fileno(), lambda: None)
            loop.watch_writable(one.fileno(), writable)
            await settle()
            loop.unwatch(one.fileno())
    assert calls == [0, 1, 2, 3, 4]


@both_drivers
async def test_unwatching_forgets_the_wish_to_write() -> None:
    calls: list[str] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: None)
            fill(one)
            loop.watch_writable(one.fileno(), lambda: calls.append("writable"))
            loop.unwatch(one.fileno())
            empty(other)
            await settle()
    assert calls == []


@both_drivers
async def test_the_end_of_the_file_is_something_to_read() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):

            def readable() -> None:
                found.append(one.recv(9))
                loop.unwatch(one.fileno())

            loop.watch(one.fileno(), readable)
            other.close()
            await until(lambda: found)
    assert found == [b""]


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


# Waiting for a value that comes through a descriptor


@both_drivers
async def test_everybody_who_waits_on_one_descriptor_gets_his_own_value() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 50)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(
                        collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno())
                    )
                await settle()
                order = [*range(49, 0, -7), *(n for n in range(50) if n % 7)]
                for number in dict.fromkeys([*order, *range(50)]):
                    other.send(bytes([number]))
                    await until(lambda number=number: number in found)
            loop.unwatch(one.fileno())
    assert sorted(found) == list(range(50))  # type: ignore[type-var]


@both_drivers
async def test_values_that_came_in_one_read_reach_all_who_wait() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 20)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(
                        collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno())
                    )
                await settle()
                other.send(bytes(reversed(range(20))))
            loop.unwatch(one.fileno())
    assert sorted(found) == list(range(20))  # type: ignore[type-var]


@both_drivers
async def test_when_the_first_to_wait_is_cancelled_the_others_still_get_their_values() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 3)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:

                    async def rest() -> None:
                        await settle()
                        group.start_soon(
                            collect, found, lambda: loop.wait_reading(numbers.slots[1], one.fileno())
                        )
                        await settle()
                        scope.cancel()

                    group.start_soon(rest)
                    await loop.wait_reading(numbers.slots[0], one.fileno())
                assert scope.cancelled_caught
                other.send(b"\1")
                await until(lambda: found)
            # The first value comes after all, while nobody waits; then it can be had.
            other.send(b"\0")
            await until(lambda: numbers.slots[0].filled)
            assert await loop.wait_reading(numbers.slots[0], one.fileno()) == 0
            # And the descriptor can be led anew.
            loop.soon(lambda: other.send(b"\2"))
            assert await loop.wait_reading(numbers.slots[2], one.fileno()) == 2
            loop.unwatch(one.fileno())
    assert found == [1]


@both_drivers
async def test_when_the_first_to_wait_has_his_value_the_others_still_get_theirs() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 2)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(
                        collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno())
                    )
                    await settle()
                other.send(b"\0")
                await until(lambda: found)
                await settle()
                other.send(b"\1")
            loop.unwatch(one.fileno())
    assert found == [0, 1]


@both_drivers
async def test_unwatching_a_descriptor_keeps_those_who_wait_on_it_waiting() -> None:
    async with open_loop() as loop:
        with pair() as (one, _):
            numbers = Numbers(loop, one, 3)
            loop.watch(one.fileno(), numbers.read)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                for slot in numbers.slots:
                    group.start_soon(
                        collect, found, lambda slot=slot: loop.wait_reading(slot, one.fileno())
                    )
                await settle()
                loop.unwatch(one.fileno())
                one.close()
                await settle()
                assert found == []
                for number, slot in enumerate(numbers.slots):
                    slot.set(number)
    assert sorted(found) == [0, 1, 2]  # type: ignore[type-var]


@both_drivers
async def test_a_callback_that_unwatches_what_is_being_waited_on_does_no_harm() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            slot = loop.slot()

            def readable() -> None:
                loop.unwatch(one.fileno())
                one.close()
                loop.soon(lambda: slot.set("from elsewhere"))

            loop.watch(one.fileno(), readable)
            loop.soon(lambda: other.send(b"x"))
            assert await loop.wait_reading(slot, one.fileno()) == "from elsewhere"


@both_drivers
async def test_waiting_on_a_descriptor_that_is_not_watched_is_waiting_for_the_slot() -> None:
    async with open_loop() as loop:
        slot = loop.slot()
        loop.soon(lambda: slot.set(1))
        assert await loop.wait_reading(slot, -1) == 1
        assert await loop.wait_reading(slot, -1) == 1


@both_drivers
async def test_a_descriptor_that_is_waited_on_can_be_written_to() -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            numbers = Numbers(loop, one, 1)
            loop.watch(one.fileno(), numbers.read)
            fill(one)
            found: list[object] = []
            async with anyio.create_task_group() as group:
                group.start_soon(
                    collect, found, lambda: loop.wait_reading(numbers.slots[0], one.fileno())
                )
                await settle()
                loop.watch_writable(one.fileno(), lambda: found.append("writable"))
                await settle()
                assert found == []
                empty(other)
                await until(lambda: found)
                other.send(b"\0")
            loop.unwatch(one.fileno())
    assert found == ["writable", 0]


@both_drivers
async def test_a_descriptor_number_that_is_used_again_belongs_to_the_new_one() -> None:
    async with open_loop() as loop:
        found: list[str] = []
        for round in range(10):
            with pair() as (one, other):
                slot = loop.slot()

                def readable(slot: Slot = slot, one: socket.socket = one, round: int = round) -> None:
                    slot.set((round, one.recv(9)))

                loop.watch(one.fileno(), readable)
                loop.soon(lambda other=other: other.send(b"x"))
                assert await loop.wait_reading(slot, one.fileno()) == (round, b"x")
                loop.unwatch(one.fileno())
        assert found == []


# Turns


@both_drivers
async def test_turns_start_in_the_order_submitted() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        turns = [Waiting(loop, log, number) for number in range(5)]
        for turn in turns:
            loop.submit(turn)
            loop.submit(Plain(lambda _scope: log.append("sync")))
        await until(lambda: len(log) == 10)
        assert log == [each for number in range(5) for each in (("starts", number), "sync")]
        del log[:]
        for turn in reversed(turns):
            turn.slot.set(None)
            await until(lambda turn=turn: ("ends", turn.name) in log)
    assert log == [("ends", number) for number in (4, 3, 2, 1, 0)]


@both_drivers
async def test_a_turn_that_waits_holds_up_neither_turns_nor_descriptors() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: log.append(one.recv(9)))
            first = Waiting(loop, log, "first")
            loop.submit(first)
            await until(lambda: log)
            loop.submit(Plain(lambda _scope: log.append("second")))
            await until(lambda: "second" in log)
            other.send(b"x")
            await until(lambda: b"x" in log)
            first.slot.set(None)
            await until(lambda: ("ends", "first") in log)
            loop.unwatch(one.fileno())
    assert log == [("starts", "first"), "second", b"x", ("ends", "first")]


@both_drivers
async def test_turns_that_never_run_out_leave_descriptors_their_turn() -> None:
    found: list[bytes] = []
    async with open_loop() as loop:
        with pair() as (one, other):
            loop.watch(one.fileno(), lambda: found.append(one.recv(9)))

            def again(_scope: Scope) -> None:
                if not found:
                    loop.submit(Plain(again))

            loop.submit(Plain(again))
            other.send(b"x")
            await until(lambda: found)
            loop.unwatch(one.fileno())
    assert found == [b"x"]


@both_drivers
async def test_a_turn_may_submit_others() -> None:
    log: list[int] = []
    async with open_loop() as loop:

        def count(number: int) -> Callable[[Scope], None]:
            def start(_scope: Scope) -> None:
                log.append(number)
                if number < 100:
                    loop.submit(Plain(count(number + 1)))

            return start

        loop.submit(Plain(count(0)))
        await until(lambda: len(log) == 101)
    assert log == list(range(101))


@both_drivers
async def test_a_turn_waits_as_often_as_it_likes() -> None:
    async with open_loop() as loop:
        done = loop.slot()

        async def rest() -> None:
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep_forever()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.lowlevel.checkpoint)
            done.set("done")

        loop.submit(Plain(lambda _scope: rest()))
        assert await done.wait() == "done"


@both_drivers
async def test_a_thousand_turns_wait_at_once() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        turns = [Waiting(loop, log, number) for number in range(1000)]
        for turn in turns:
            loop.submit(turn)
        await until(lambda: len(log) == 1000)
        assert log == [("starts", number) for number in range(1000)]
        for turn in turns:
            turn.slot.set(None)
        await until(lambda: len(log) == 2000)
        # And those that have waited can do it again.
        more = [Waiting(loop, log, number) for number in range(1000)]
        for turn in more:
            loop.submit(turn)
        await until(lambda: len(log) == 3000)
        for turn in more:
            turn.slot.set(None)
        await until(lambda: len(log) == 4000)


@both_drivers
async def test_a_turn_is_cancelled_through_its_scope_and_the_others_are_not() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        turns = [Waiting(loop, log, number) for number in range(3)]
        for turn in turns:
            loop.submit(turn)
        await until(lambda: len(log) == 3)
        assert turns[1].scope is not None
        turns[1].scope.cancel()
        await until(lambda: len(log) == 4)
        later = Waiting(loop, log, "later")
        loop.submit(later)
        await until(lambda: len(log) == 5)
        for turn in (turns[0], turns[2], later):
            turn.slot.set(None)
            await until(lambda turn=turn: ("ends", turn.name) in log)
    assert log[3:] == [("cancelled", 1), ("starts", "later"), ("ends", 0), ("ends", 2), ("ends", "later")]


@both_drivers
async def test_a_turn_ends_at_its_deadline() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        turn = Waiting(loop, log, "late")

        def start(scope: Scope) -> Coroutine[Any, Any, None]:
            scope.deadline = loop.now()
            assert loop.seconds_left() == 0
            return turn.start(scope)

        loop.submit(Plain(start))
        await until(lambda: len(log) == 2)
    assert log == [("starts", "late"), ("cancelled", "late")]


def _cancels_itself_at_once(_loop: Loop, scope: Scope) -> None:
    scope.cancel()


def _was_late_at_once(loop: Loop, scope: Scope) -> None:
    scope.deadline = loop.now() - 1


def _has_time_left(loop: Loop, scope: Scope) -> None:
    scope.deadline = loop.now() + 1000


def _cancels_itself_and_waits(_loop: Loop, scope: Scope) -> Coroutine[Any, Any, None]:
    scope.cancel()
    return anyio.sleep_forever()


def _cancels_itself_after_waiting(_loop: Loop, scope: Scope) -> Coroutine[Any, Any, None]:
    async def rest() -> None:
        await anyio.lowlevel.checkpoint()
        scope.cancel()

    return rest()


def _is_late_and_waits(loop: Loop, scope: Scope) -> Coroutine[Any, Any, None]:
    scope.deadline = loop.now()
    return anyio.sleep_forever()


def _has_time_left_and_waits(loop: Loop, scope: Scope) -> Coroutine[Any, Any, None]:
    scope.deadline = loop.now() + 1000
    return anyio.lowlevel.checkpoint()


def _swallows_its_cancellation(_loop: Loop, scope: Scope) -> Coroutine[Any, Any, None]:
    async def rest() -> None:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except BaseException:
            pass

    return rest()


BEFORE = [
    _cancels_itself_at_once,
    _was_late_at_once,
    _has_time_left,
    _cancels_itself_and_waits,
    _cancels_itself_after_waiting,
    _is_late_and_waits,
    _has_time_left_and_waits,
    _swallows_its_cancellation,
]


@pytest.mark.parametrize("before", BEFORE)
@both_drivers
async def test_how_a_turn_ended_is_nothing_to_the_next(before: Callable[[Loop, Scope], Any]) -> None:
    log: list[object] = []
    async with open_loop() as loop:
        left: list[float | None] = []
        following = [Waiting(loop, log, number) for number in range(3)]

        def start(turn: Waiting) -> Callable[[Scope], Coroutine[Any, Any, None]]:
            def run(scope: Scope) -> Coroutine[Any, Any, None]:
                left.append(loop.seconds_left())
                return turn.start(scope)

            return run

        # On trio they share tasks and scopes, in different ways: queued together, or one after the other.
        loop.submit(Plain(lambda scope: before(loop, scope)))
        loop.submit(Plain(start(following[0])))
        await until(lambda: len(log) == 1)
        loop.submit(Plain(lambda scope: before(loop, scope)))
        await settle()
        loop.submit(Plain(start(following[1])))
        await until(lambda: len(log) == 2)
        loop.submit(Plain(start(following[2])))
        await until(lambda: len(log) == 3)
        await settle()
        for turn in following:
            turn.slot.set(None)
        await until(lambda: len(log) == 6)
    assert [what for what, _ in log] == ["starts"] * 3 + ["ends"] * 3  # type: ignore[misc]
    assert left == [None] * 3


@both_drivers
async def test_what_a_turn_sets_in_its_context_no_other_sees() -> None:
    seen: list[str] = []
    who.set("the opener")
    async with open_loop() as loop:
        who.set("somebody else")

        def sync(_scope: Scope) -> None:
            seen.append(who.get())
            who.set("a sync turn")

        def waits(_scope: Scope) -> Coroutine[Any, Any, None]:
            seen.append(who.get())
            who.set("a turn that waits")
            return rest()

        async def rest() -> None:
            seen.append(who.get())
            await anyio.lowlevel.checkpoint()
            seen.append(who.get())
            async with anyio.create_task_group() as group:
                group.start_soon(child)

        async def child() -> None:
            seen.append(who.get())

        for function in (sync, waits, sync):
            loop.submit(Plain(function))
            await settle()
        assert seen == ["the opener", "the opener", *["a turn that waits"] * 3, "the opener"]
        assert who.get() == "somebody else"
        assert loop.fresh_context()[who] == "the opener"


# Tasks


@both_drivers
async def test_what_is_spawned_is_out_of_reach_of_the_scopes_around() -> None:
    async with open_loop() as loop:
        go, done = loop.slot(), loop.slot()

        async def work(value: str) -> None:
            await go.wait()
            done.set(value)

        with anyio.CancelScope() as scope:
            loop.spawn(work, "done")
            scope.cancel()
        go.set(None)
        assert await done.wait() == "done"


@both_drivers
async def test_closing_cancels_what_runs_and_waits_for_its_end() -> None:
    log: list[object] = []
    async with open_loop() as loop:
        turn = Waiting(loop, log, "turn")

        async def spawned() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(10):
                        await anyio.lowlevel.checkpoint()
                log.append("cleaned up")

        loop.submit(turn)
        loop.spawn(spawned)
        await settle()
    assert sorted(log, key=str) == [("cancelled", "turn"), ("starts", "turn"), "cleaned up"]


@both_drivers
async def test_closing_waits_for_the_end_even_if_the_closer_is_cancelled() -> None:
    log: list[str] = []

    async def spawned() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
            log.append("cleaned up")

    with anyio.CancelScope() as scope:
        async with open_loop() as loop:
            loop.spawn(spawned)
            await settle()
            scope.cancel()
    assert log == ["cleaned up"]


@both_drivers
async def test_a_shielded_wait_runs_to_its_end_under_repeated_cancellation() -> None:
    log: list[str] = []
    async with open_loop() as loop:
        go = loop.slot()

        async def work() -> str:
            await go.wait()
            await anyio.lowlevel.checkpoint()
            log.append("done")
            return "value"

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as outer, anyio.CancelScope() as inner:

                async def disturb() -> None:
                    await settle()
                    inner.cancel()
                    await settle()
                    outer.cancel()
                    await settle()
                    assert log == []
                    go.set(None)

                group.start_soon(disturb)
                log.append(await loop.run_shielded(work))
                log.append("left")
                await anyio.lowlevel.checkpoint()
            assert outer.cancel_called
            assert inner.cancel_called
    assert log == ["done", "value", "left"]


def test_a_shielded_wait_outlasts_asyncios_own_cancellation_twice() -> None:
    import asyncio

    async def main() -> None:
        async with open_loop() as loop:
            go = loop.slot()
            log: list[str] = []

            async def work() -> None:
                await go.wait()
                log.append("done")

            async def caller() -> None:
                await loop.run_shielded(work)

            task = asyncio.create_task(caller())
            for _ in range(2):
                await settle()
                task.cancel()
            await settle()
            assert not task.done()
            go.set(None)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert log == ["done"]

    asyncio.run(main())


@both_drivers
async def test_what_is_raised_in_a_shielded_wait_is_raised() -> None:
    async with open_loop() as loop:

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await loop.run_shielded(work)
        with anyio.CancelScope() as scope, pytest.raises(KeyError, match="mine"):
            scope.cancel()
            await loop.run_shielded(work)


@both_drivers
async def test_a_nursery_of_the_loops_waits_for_its_tasks_and_fails_with_them() -> None:
    async with open_loop() as loop:
        log: list[str] = []

        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            log.append("done")

        async def fails() -> None:
            raise KeyError("mine")

        async with loop.open_nursery() as nursery:
            nursery.start_soon(work)
        assert log == ["done"]
        with pytest.raises(ExceptionGroup) as found:
            async with loop.open_nursery() as nursery:
                nursery.start_soon(anyio.sleep_forever)
                nursery.start_soon(fails)
        assert repr(found.value.exceptions) == "(KeyError('mine'),)"


# Time


@both_drivers
async def test_seconds_left_are_those_of_the_nearest_deadline() -> None:
    async with open_loop() as loop:
        assert loop.seconds_left() in (None, pytest.approx(60, abs=60))  # the test's own bound
        with anyio.move_on_after(1000):
            with anyio.move_on_after(20):
                left = loop.seconds_left()
                assert left is not None
                assert 0 < left <= 20
        with anyio.CancelScope(deadline=loop.now() - 1):
            assert loop.seconds_left() == 0


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
