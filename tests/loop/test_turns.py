"""The contract of :class:`xoscar_sc.loop.Loop`, on both loops: turns."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.contract.driving import both_drivers
from tests.loop.sockets import pair
from tests.loop.turns import Plain, Waiting
from tests.loop.waiting import settle, until
from xoscar_sc.loop import Loop, Scope, open_loop

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


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
