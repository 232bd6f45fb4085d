"""An exception goes to whoever waits for it, as itself; a bad value fails one call and nothing else."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import Any

import anyio
import pytest
import trio

import xoscar_sc as xsc
from tests.contract.actors import Board, Busy, Echo
from tests.contract.driving import both_drivers, causes, has_word, next_event, notes


class TwoArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code
        self.text = text


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Failing(xsc.Actor):
    """Raises what cannot be sent to it, and gives what cannot be sent back."""

    def plain(self) -> None:
        raise KeyError("plain")

    def two_arguments(self) -> None:
        raise TwoArguments(7, "seven")

    def os_error(self) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such thing", "/nonexistent/thing")

    def unpicklable(self) -> None:
        raise Unpicklable

    def with_cause(self) -> None:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            raise ValueError("outer") from exc

    def with_note(self) -> None:
        exc = ValueError("noted")
        exc.add_note("a note of mine")
        raise exc

    async def group(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fail, KeyError("one"))
            nursery.start_soon(self._fail, TwoArguments(2, "two"))

    async def _fail(self, exc: Exception) -> None:
        raise exc

    def stop_iteration(self) -> None:
        raise StopIteration("no stream")

    def local_class(self) -> None:
        class Local(Exception):
            pass

        raise Local("of a local class")

    def bad_result(self) -> Any:
        return threading.Lock()

    def take(self, value: Any) -> Any:
        return value


class CannotBeRead:
    """Is encoded, and cannot be decoded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("this cannot be read")


class BadInit(xsc.Actor):
    def __init__(self) -> None:
        raise TwoArguments(1, "init")


class BadPostCreate(xsc.Actor):
    async def __post_create__(self) -> None:
        await anyio.lowlevel.checkpoint()
        raise TwoArguments(2, "post_create")


class BadTask(xsc.Actor):
    """A task of its fails while it is being created."""

    async def __post_create__(self) -> None:
        async def fail() -> None:
            raise TwoArguments(3, "task")

        self.nursery.start_soon(fail)
        await anyio.sleep_forever()


class Wrong(xsc.Actor):
    def __init__(self, one: int) -> None: ...


# An exception as itself


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_an_exception_arrives_as_what_it_is(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        failing = await n.create_actor(Failing)
        with pytest.raises(KeyError, match="plain"):
            await failing.plain()
        with pytest.raises(TwoArguments) as two:
            await failing.two_arguments()
        assert (two.value.code, two.value.text, str(two.value)) == (7, "seven", "seven (7)")
        with pytest.raises(FileNotFoundError) as missing:
            await failing.os_error()
        assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, "/nonexistent/thing")
        with pytest.raises(ValueError, match="outer") as caused:
            await failing.with_cause()
        assert isinstance(caused.value.__cause__, KeyError)
        with pytest.raises(ValueError, match="noted") as noted:
            await failing.with_note()
        assert "a note of mine" in notes(noted.value)
        with pytest.raises(RuntimeError, match="StopIteration"):  # as of any coroutine
            await failing.stop_iteration()


@both_drivers
async def test_a_group_arrives_as_a_group() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        failing = await n.create_actor(Failing)
        with pytest.raises(ExceptionGroup) as caught:
            await failing.group()
        assert {type(exc) for exc in causes(caught.value)} == {KeyError, TwoArguments}


@both_drivers
async def test_an_exception_says_where_it_was() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        failing = await n.create_actor(Failing, uid="culprit")
        pool = n.pools["pool-1"]
        with pytest.raises(KeyError) as caught:
            await failing.plain()
        text = notes(caught.value)
        assert "actor 'culprit'" in text
        assert "pool 'pool-1'" in text
        assert has_word(text, pool.pid)
        assert 'raise KeyError("plain")' in text
        with pytest.raises(KeyError) as of_function:
            await pool.run(fail_with, KeyError("plain"))
        assert has_word(notes(of_function.value), pool.pid)
        assert "actor" not in notes(of_function.value)


def fail_with(exc: BaseException) -> None:
    raise exc


@both_drivers
async def test_an_exception_through_several_actors_says_the_whole_way() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Echo, uid="first", pool="pool-1")
        second = await n.create_actor(Echo, uid="second", pool="pool-2")
        with pytest.raises(KeyError) as caught:
            await first.ask(second, "fail", KeyError("far"))
        text = notes(caught.value)
        assert "actor 'second' in pool 'pool-2'" in text
        assert "actor 'first' in pool 'pool-1'" in text


@both_drivers
async def test_an_exception_that_cannot_be_rebuilt_arrives_as_remote_error() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        failing = await n.create_actor(Failing)
        with pytest.raises(xsc.RemoteError) as caught:
            await failing.unpicklable()
        assert caught.value.type_name.endswith("Unpicklable")
        assert caught.value.text == "holds a lock"
        assert "raise Unpicklable" in notes(caught.value)
        with pytest.raises(Exception, match="of a local class"):
            await failing.local_class()
        assert await failing.take(1) == 1


# A bad value fails one call


@both_drivers
async def test_a_bad_value_fails_one_call() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        failing = await n.create_actor(Failing, uid="failing")
        pool = n.pools["pool-1"]
        with pytest.raises(xsc.SerializationError, match="lock"):
            await failing.bad_result()
        with pytest.raises(xsc.SerializationError, match="argument 1"):
            await failing.take(threading.Lock())
        with pytest.raises(xsc.SerializationError):
            await failing.take.tell(threading.Lock())
        with pytest.raises(xsc.SerializationError, match="this cannot be read"):
            await failing.take(CannotBeRead())
        with pytest.raises(xsc.SerializationError):
            await failing.take.batch(failing.take.delay(1), failing.take.delay(threading.Lock()))
        with pytest.raises(xsc.SerializationError):
            await pool.run(threading.Lock)
        with pytest.raises(xsc.SerializationError):
            await pool.run(str, threading.Lock())
        with pytest.raises(xsc.SerializationError):
            await n.create_actor(Failing, threading.Lock(), uid="other")
        with pytest.raises(TypeError):
            await failing.take(1, 2, 3)
        with pytest.raises(AttributeError, match="no_such_method"):
            await failing.no_such_method()
        with pytest.raises(AttributeError):
            await failing._private()
        assert await failing.take(1) == 1
        assert await xsc.find_actor("other") is None
        await n.create_actor(Echo, uid="other")


@both_drivers
async def test_a_told_value_that_cannot_be_read_is_an_event() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        events = n.events()
        failing = await n.create_actor(Failing, uid="failing")
        await failing.take.tell(CannotBeRead())
        dropped = await next_event(events, xsc.events.MessageDropped)
        assert dropped.uid == "failing"
        assert "this cannot be read" in dropped.reason
        assert await failing.take(1) == 1


# Creation


@pytest.mark.parametrize("pools", [0, 1])
@pytest.mark.parametrize(("cls", "code"), [(BadInit, 1), (BadPostCreate, 2), (BadTask, 3)])
@both_drivers
async def test_an_actor_that_fails_at_its_creation_does_not_exist(
    pools: int, cls: type[xsc.Actor], code: int
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        with pytest.raises(TwoArguments) as caught:
            await n.create_actor(cls, uid="one")
        assert caught.value.code == code
        assert "one" not in n.actors
        assert await xsc.find_actor("one") is None
        echo = await n.create_actor(Echo, uid="one")
        assert await echo.echo(1) == 1
        with pytest.raises(TypeError):
            await n.create_actor(Wrong)


@both_drivers
async def test_an_error_of_creation_names_the_actor() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        with pytest.raises(TwoArguments) as caught:
            await n.create_actor(BadInit, uid="unborn")
        assert "'unborn'" in notes(caught.value)
        assert has_word(notes(caught.value), n.pools["pool-1"].pid)


# Up the tree


@both_drivers
async def test_an_exception_goes_to_whoever_waits() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Echo, pool="pool-1")
        second = await n.create_actor(Echo, pool="pool-2")
        with pytest.raises(KeyError):
            await first.ask(second, "fail", KeyError("asked"))
        assert await first.echo(1) == await second.echo(1) == 1
    with pytest.raises(KeyError, match="told"):
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            await echo.fail.tell(KeyError("told"))


@both_drivers
async def test_one_exception_leaves_the_nursery_as_itself() -> None:
    class Mine(Exception):
        pass

    mine = Mine()
    with pytest.raises(Mine) as caught:
        async with xsc.open_pool_nursery(pools=1):
            raise mine
    assert caught.value is mine
    with pytest.raises(KeyError):
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            await echo.fail(KeyError("of the body"))
    try:
        async with xsc.open_pool_nursery(pools=0):
            raise Mine
    except* Mine:
        pass


@both_drivers
async def test_several_exceptions_leave_the_nursery_as_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with xsc.open_pool_nursery(pools=2) as n:
            first = await n.create_actor(Echo, uid="first", pool="pool-1")
            board = await n.create_actor(Board, pool="pool-1")
            busy = await n.create_actor(Busy, board, pool="pool-2")
            try:
                await first.fail_later.tell(KeyError("one"))
                await anyio.sleep_forever()
            finally:
                raise ValueError("two")
            await busy.sleep()
    assert {type(exc) for exc in causes(caught.value)} == {KeyError, ValueError}


@both_drivers
async def test_a_failure_that_ends_a_call_of_the_body_is_told_once() -> None:
    with pytest.raises(KeyError, match="told"):
        async with xsc.open_pool_nursery(pools=1) as n:
            echo = await n.create_actor(Echo)
            await echo.fail_later.tell(KeyError("told"))
            while True:
                await echo.echo(1)


@both_drivers
async def test_sigkill_fails_every_open_call_at_once() -> None:
    errors: list[BaseException] = []

    async def call(busy: xsc.ActorRef[Busy], word: str) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await busy.sleep(word)
            except xsc.PoolDied as exc:
                errors.append(exc)

    with pytest.raises(xsc.PoolDied):
        async with xsc.open_pool_nursery(pools=3) as n:
            board = await n.create_actor(Board, pool="pool-1")
            far = await n.create_actor(Echo, pool="pool-2")
            actors = [await n.create_actor(Busy, board, pool="pool-3") for _ in range(10)]
            async with anyio.create_task_group() as group:
                for number, busy in enumerate(actors):
                    group.start_soon(call, busy, str(number))
                    await board.wait(f"{number} runs")
                group.start_soon(call_by_another, far, actors[0], errors)
                os.kill(n.pools["pool-3"].pid, signal.SIGKILL)
    assert len(errors) == 11
    assert {exc.signal for exc in errors if isinstance(exc, xsc.PoolDied)} == {signal.SIGKILL}


async def call_by_another(far: xsc.ActorRef[Echo], busy: xsc.ActorRef[Busy], errors: list[Any]) -> None:
    with anyio.CancelScope(shield=True):
        try:
            await far.ask(busy, "sleep")
        except xsc.PoolDied as exc:
            errors.append(exc)


# Cancellation


@both_drivers
async def test_a_callee_sees_its_callers_deadline() -> None:
    async with xsc.open_pool_nursery(pools=2) as n:
        first = await n.create_actor(Deadline, pool="pool-1")
        second = await n.create_actor(Deadline, pool="pool-2")
        with anyio.move_on_after(1000):
            assert 900 < await first.left() <= 1000 or await first.left() <= 60
        with anyio.move_on_after(30):
            near = await first.left()
            far = await first.left_of(second)
            assert 0 < far <= 30
            assert 0 < near <= 30
        with anyio.move_on_after(30):
            assert await n.run(left) <= 30


async def left() -> float:
    return trio.current_effective_deadline() - trio.current_time()


class Deadline(xsc.Actor):
    async def left(self) -> float:
        return await left()

    async def left_of(self, other: xsc.ActorRef[Deadline]) -> float:
        return await other.left()

    async def sleep(self) -> None:
        await trio.sleep_forever()


@both_drivers
async def test_a_call_whose_deadline_passes_ends_as_the_callers_own() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        sleeper = await n.create_actor(Deadline)
        with anyio.move_on_after(0.05) as scope:
            await sleeper.sleep()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                await sleeper.sleep()
        assert await sleeper.left() > 0


@pytest.mark.parametrize("method", ["refuse_cancel", "swallow_cancel"])
@both_drivers
async def test_a_method_that_does_not_heed_a_cancel_is_reported(method: str) -> None:
    timeouts = xsc.Timeouts(cancel=0.05)
    async with xsc.open_pool_nursery(pools=2, timeouts=timeouts) as n:
        events = n.events()
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2", uid="busy")
        async with anyio.create_task_group() as group:
            group.start_soon(getattr(busy, method), "stubborn")
            await board.wait("stubborn runs")
            group.cancel_scope.cancel()
        event = await next_event(events, xsc.events.CancelUnconfirmed)
        assert event == xsc.events.CancelUnconfirmed("busy", method, busy.address, 0.05)
        await board.post("stubborn may end")
        assert await busy.has_run() == []


@both_drivers
async def test_a_method_that_blocks_its_pool_does_not_hold_a_cancelled_caller(tmp_path: Any) -> None:
    timeouts = xsc.Timeouts(cancel=0.05)
    async with xsc.open_pool_nursery(pools=1, shutdown=0.1, timeouts=timeouts) as n:
        events = n.events()
        reading, writing = tmp_path / "reading", tmp_path / "writing"
        os.mkfifo(reading)
        os.mkfifo(writing)
        async with anyio.create_task_group() as group:
            group.start_soon(n.run, block, str(reading), str(writing))
            await anyio.to_thread.run_sync(reading.read_text)
            group.cancel_scope.cancel()
        assert (await next_event(events, xsc.events.CancelUnconfirmed)).method == "run"


def block(reading: str, writing: str) -> None:
    with open(reading, "w") as file:
        file.write("blocked")
    with open(writing) as file:
        file.read()


@both_drivers
async def test_a_cancel_reaches_the_end_of_a_chain_of_calls() -> None:
    async with xsc.open_pool_nursery(pools=3) as n:
        board = await n.create_actor(Board, pool="pool-1")
        busy = await n.create_actor(Busy, board, pool="pool-2")
        asking = await n.create_actor(Echo, pool="pool-3")
        async with anyio.create_task_group() as group:
            group.start_soon(asking.ask, busy, "sleep")
            await board.wait("sleep runs")
            group.cancel_scope.cancel()
        assert "sleep was cancelled" in await board.words()
        assert await asking.echo(1) == 1
