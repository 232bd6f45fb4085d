"""Supervisors: which ends a child comes back from, who with it, and in which order."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.supervised import (
    Child,
    Mine,
    attempt,
    diary,
    next_of,
    phases,
    restarts,
    until,
    until_answers,
)
from xoscar_sc.events import ActorExited, Exit, Restarted, Restarting

# Which ends a child comes back from

ENDS = {
    "normal": ["stops", "exits"],
    "failed": ["raises", "fails_in_the_nursery", "is_fatal", "divides", "crashes"],
    "killed": ["is_killed", "kill"],
}
BACK = {"permanent": {"normal", "failed", "killed"}, "transient": {"failed", "killed"}, "temporary": set()}


@pytest.mark.parametrize("how", [end for ends in ENDS.values() for end in ends])
@pytest.mark.parametrize("restart", sorted(BACK))
@both_drivers
async def test_a_child_comes_back_as_its_kind_of_restart_says(restart: Any, how: str) -> None:
    kind = next(kind for kind, ends in ENDS.items() if how in ends)
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child", restart=restart)
        other = await sup.create_actor(Child, uid="other", pool=await sup.start_pool("apart"))
        assert await child.add() == 1
        if how == "kill":
            await child.kill()
        elif how == "raises":
            await child.raises.tell()
        else:
            await attempt(getattr(child, how))
        if kind in BACK[restart]:
            await until(lambda: restarts(sup) == {"child": 1, "other": 0} and phases(sup)["child"] == "up")
            assert await child.add() == 1, "it begins anew"
        elif restart == "transient":
            await until(lambda: phases(sup) == {"child": "down", "other": "up"})
        else:
            await until(lambda: phases(sup) == {"other": "up"})
        if kind not in BACK[restart]:
            assert isinstance(await attempt(child.add), (xsc.ActorNotExist, xsc.PoolDied))
        assert await other.add() == 1, "the others are as before"


@both_drivers
async def test_a_child_that_is_destroyed_is_taken_out() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child")
        await child.destroy()
        await until(lambda: not sup.which_children())
        assert isinstance(await attempt(child.add), xsc.ActorNotExist)
        assert "child" not in sup.actors
        again = await sup.create_actor(Child, uid="child")
        assert await again.add() == 1
        assert isinstance(await attempt(child.add), xsc.ActorNotExist), "that is another child"
        assert again != child


@both_drivers
async def test_a_pool_that_is_stopped_is_taken_out_with_its_actors() -> None:
    async with xsc.open_supervisor() as sup:
        pool = await sup.start_pool("p", restart="permanent")
        child = await sup.create_actor(Child, uid="child", pool=pool)
        await pool.stop()
        await until(lambda: not sup.which_children())
        assert not sup.pools
        assert isinstance(await attempt(child.add), xsc.ActorNotExist)


@both_drivers
async def test_a_failed_call_is_its_callers_and_the_child_goes_on() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child")
        assert await child.add() == 1
        with pytest.raises(Mine):
            await child.raises()
        assert await child.add() == 2
        assert child.incarnation == 1


@pytest.mark.parametrize("pools", [0, None])
@pytest.mark.parametrize(("method", "error"), [("is_fatal", KeyError), ("divides", ZeroDivisionError)])
@both_drivers
async def test_a_fatal_exception_is_both_its_callers_and_the_childs_end(
    pools: int | None, method: str, error: type[Exception]
) -> None:
    async with xsc.open_supervisor(pools) as sup:
        child = await sup.create_actor(Child, uid="child")
        assert await child.add() == 1
        with pytest.raises(error):
            await getattr(child, method)()
        assert await child.add() == 1
        await until(lambda: restarts(sup) == {"child": 1})


@both_drivers
async def test_a_temporary_childs_failure_is_no_error_of_the_supervisor() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child", restart="temporary")
        async with child.monitor() as exits:
            await child.raises.tell()
            assert (await exits.receive()).kind == "failed"
        await until(lambda: not sup.which_children())


@both_drivers
async def test_children_in_the_program_itself_come_back_too() -> None:
    async with xsc.open_supervisor(0) as sup:
        child = await sup.create_actor(Child, uid="child")
        assert await child.pid() == os.getpid()
        await child.add()
        await child.raises.tell()
        assert await child.add() == 1
        await until(lambda: restarts(sup) == {"child": 1})


# Who is restarted with it, and in which order

ORDERS = {
    "one_for_one": ["starts b"],
    "rest_for_one": ["stops d", "stops c", "starts b", "starts c", "starts d"],
    "one_for_all": ["stops d", "stops c", "stops a", "starts a", "starts b", "starts c", "starts d"],
}


@pytest.mark.parametrize("how", ["kill", "is_killed"])
@pytest.mark.parametrize("strategy", sorted(ORDERS))
@both_drivers
async def test_each_strategy_stops_right_to_left_and_starts_left_to_right(
    strategy: Any, how: str, tmp_path: Path
) -> None:
    async with xsc.open_supervisor(strategy=strategy) as sup:
        pools = {name: await sup.start_pool(name) for name in "xy"}
        refs = {}
        for uid in "abcd":
            pool = pools["x" if uid == "b" else "y"]
            refs[uid] = await sup.create_actor(Child, str(tmp_path), uid=uid, pool=pool)
        before = len(diary(tmp_path))
        if how == "kill":
            await refs["b"].kill()
        else:
            await refs["b"].is_killed.tell()
        expected = ORDERS[strategy]
        await until(lambda: len(diary(tmp_path)) >= before + len(expected))
        await until(lambda: set(phases(sup).values()) == {"up"})
        assert diary(tmp_path)[before:] == expected
        assert [await ref.add() for ref in refs.values()] == [1, 1, 1, 1]


@both_drivers
async def test_leaving_the_block_stops_right_to_left(tmp_path: Path) -> None:
    async with xsc.open_supervisor() as sup:
        for uid in "abc":
            await sup.create_actor(Child, str(tmp_path), uid=uid)
    assert diary(tmp_path)[3:] == ["stops c", "stops b", "stops a"]


@both_drivers
async def test_the_death_of_a_pool_is_one_failure_of_all_that_live_in_it() -> None:
    async with xsc.open_supervisor(intensity=1) as sup:
        pool = await sup.start_pool("p")
        refs = [await sup.create_actor(Child, uid=uid, pool=pool) for uid in "abc"]
        os.kill(pool.pid, signal.SIGKILL)
        await until(lambda: list(restarts(sup).values()) == [1, 1, 1])
        await until(lambda: set(phases(sup).values()) == {"up"})
        assert len({await ref.pid() for ref in refs}) == 1, "in one pool again"
        assert sup.pools["p"].pid != pool.pid
        assert sup.pools["p"].pid == await refs[0].pid()


@both_drivers
async def test_a_pool_is_a_child_in_the_order_if_it_is_given_restart(tmp_path: Path) -> None:
    async with xsc.open_supervisor(strategy="rest_for_one") as sup:
        before = await sup.create_actor(Child, str(tmp_path), uid="a")
        pool = await sup.start_pool("p", restart="permanent")
        await sup.create_actor(Child, str(tmp_path), uid="b", pool=pool)
        await sup.create_actor(Child, str(tmp_path), uid="c", pool=await before.pid() and "pool-1")
        os.kill(pool.pid, signal.SIGKILL)
        await until(lambda: restarts(sup) == {"a": 0, "p": 1, "b": 1, "c": 1})
        await until(lambda: set(phases(sup).values()) == {"up"})
        assert diary(tmp_path)[3:] == ["stops c", "starts b", "starts c"]


@both_drivers
async def test_an_actor_that_was_put_into_a_pool_comes_back_in_a_pool_of_that_name() -> None:
    async with xsc.open_supervisor() as sup:
        await sup.create_actor(Child, uid="a")
        child = await sup.create_actor(Child, uid="b", pool="pool-1")
        pid = await child.pid()
        await child.is_killed.tell()
        assert await until_answers(child) == sup.pools["pool-1"].pid != pid
        await until(lambda: restarts(sup) == {"a": 1, "b": 1})


@both_drivers
async def test_a_temporary_sibling_that_is_stopped_with_another_does_not_come_back() -> None:
    async with xsc.open_supervisor(strategy="one_for_all") as sup:
        await sup.create_actor(Child, uid="once", restart="temporary")
        child = await sup.create_actor(Child, uid="child")
        await child.kill()
        await until(lambda: restarts(sup) == {"child": 1})


@both_drivers
async def test_a_child_that_hangs_in_its_hook_is_killed_after_its_shutdown(tmp_path: Path) -> None:
    async with xsc.open_supervisor(strategy="one_for_all") as sup:
        await sup.create_actor(Lingers, str(tmp_path), uid="lingers", shutdown=0.1)
        child = await sup.create_actor(Child, str(tmp_path), uid="child")
        await child.kill()
        await until(lambda: restarts(sup) == {"lingers": 1, "child": 1})
        await until(lambda: set(phases(sup).values()) == {"up"})
        await sup.terminate_child("lingers")


class Lingers(Child):
    async def __pre_destroy__(self) -> None:
        await anyio.sleep_forever()


@both_drivers
async def test_a_child_that_is_to_be_killed_is_not_asked(tmp_path: Path) -> None:
    async with xsc.open_supervisor(strategy="one_for_all") as sup:
        await sup.create_actor(Child, str(tmp_path), uid="a", shutdown="kill")
        await sup.create_actor(Child, str(tmp_path), uid="b", shutdown=math.inf)
        child = await sup.create_actor(Child, uid="c")
        await child.kill()
        await until(lambda: restarts(sup) == {"a": 1, "b": 1, "c": 1})
        assert "stops b" in diary(tmp_path)
        assert "stops a" not in diary(tmp_path)


# Ends that end the supervisor


@both_drivers
async def test_the_normal_end_of_any_significant_child_ends_the_supervisor() -> None:
    async with xsc.open_supervisor(auto_shutdown="any_significant") as sup:
        await sup.create_actor(Child, uid="other")
        child = await sup.create_actor(Child, uid="child", restart="transient", significant=True)
        await child.stops.tell()
        await anyio.sleep_forever()


@both_drivers
async def test_the_end_of_the_last_significant_child_ends_the_supervisor(tmp_path: Path) -> None:
    ended = []
    async with xsc.open_supervisor(auto_shutdown="all_significant") as sup:
        await sup.create_actor(Child, str(tmp_path), uid="other")
        options: dict[str, Any] = {"significant": True}
        first = await sup.create_actor(Child, restart="transient", **options)
        second = await sup.create_actor(Child, restart="temporary", **options)
        await first.kill()
        await until(lambda: restarts(sup)[first.uid] == 1)
        await first.stops.tell()
        await until(lambda: phases(sup)[first.uid] == "down")
        await anyio.sleep(0.05)
        ended.append(first)
        await second.raises.tell()
        await anyio.sleep_forever()
    assert ended, "the first alone has not ended it"
    assert diary(tmp_path) == ["starts other", "stops other"]


# What somebody else wants


@both_drivers
async def test_children_are_listed_and_counted() -> None:
    async def fill(inner: xsc.Supervisor) -> None:
        await inner.create_actor(Child)

    async with xsc.open_supervisor() as sup:
        await sup.create_actor(Child, uid="a")
        await sup.start_pool("p", restart="transient")
        await sup.start_supervisor(fill, name="s")
        await sup.run_in_pool(anyio.sleep, 3600, name="f", restart="permanent")
        listed = [(each.name, each.kind, each.restart, each.phase) for each in sup.which_children()]
        assert listed == [
            ("a", "actor", "permanent", "up"),
            ("p", "pool", "transient", "up"),
            ("s", "supervisor", "permanent", "up"),
            ("f", "function", "permanent", "up"),
        ]
        assert sup.count_children() == (4, 4, 1, 3)


@both_drivers
async def test_a_child_is_terminated_restarted_and_deleted() -> None:
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, uid="child")
        await child.add()
        with pytest.raises(ValueError, match=r"actor 'child' is up; terminate_child\(\) ends it first"):
            await sup.restart_child("child")
        with pytest.raises(ValueError, match="is up"):
            await sup.delete_child("child")
        await sup.terminate_child("child")
        assert phases(sup) == {"child": "down"}
        assert isinstance(await attempt(child.add), xsc.ActorNotExist)
        with pytest.raises(xsc.ActorAlreadyExist, match="has a child 'child' already"):
            await sup.create_actor(Child, uid="child")
        await sup.restart_child("child")
        assert await child.add() == 1
        await sup.terminate_child("child")
        await sup.delete_child("child")
        assert sup.which_children() == []
        with pytest.raises(ValueError, match="has no child 'child'; it has none"):
            await sup.terminate_child("child")


@both_drivers
async def test_a_restart_that_fails_is_told_to_who_has_asked_for_it(tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    async with xsc.open_supervisor() as sup:
        child = await sup.create_actor(Child, "", str(fails), uid="child")
        await sup.terminate_child("child")
        fails.write_text("raises")
        with pytest.raises(Mine, match="in the constructor"):
            await sup.restart_child("child")
        assert phases(sup) == {"child": "down"}
        fails.unlink()
        await sup.restart_child("child")
        assert await child.add() == 1


@both_drivers
async def test_while_a_child_waits_for_its_restart_the_supervisor_answers() -> None:
    backoff = xsc.Backoff(min=3600, max=3600)
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child", backoff=backoff)
        other = await sup.create_actor(Child, uid="other", backoff=backoff)
        await child.kill()
        assert await next_of(events, Restarting) == Restarting("child", 3600.0)
        assert phases(sup) == {"child": "waiting", "other": "up"}
        assert sup.count_children() == (2, 1, 0, 2)
        assert await other.add() == 1
        await sup.create_actor(Child, uid="new")
        await sup.restart_child("child")
        assert await child.add() == 1
        await child.kill()
        await until(lambda: phases(sup)["child"] == "waiting")
        await sup.terminate_child("child")
        assert phases(sup)["child"] == "down"
        await other.kill()
        await until(lambda: phases(sup)["other"] == "waiting")
    # and leaves, without waiting for that


# Functions and supervisors


@both_drivers
async def test_a_function_that_fails_is_run_again_and_its_result_is_the_last_ones(tmp_path: Path) -> None:
    async with xsc.open_supervisor() as sup:
        task = await sup.run_in_pool(third_time, str(tmp_path), name="f")
        assert await task.result() == 3
    assert [each.name for each in sup.which_children()] == ["f"]


def third_time(directory: str) -> int:
    """Fails once, dies once, and returns then."""
    file = Path(directory) / "times"
    times = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(times))
    if times == 1:
        raise Mine("the first time")
    if times == 2:
        os._exit(2)
    return times


@both_drivers
async def test_a_permanent_function_is_run_again_when_it_returns_and_ended_with_the_block(
    tmp_path: Path,
) -> None:
    async with xsc.open_supervisor(intensity=100) as sup:
        await sup.run_in_pool(note, str(tmp_path), name="f", restart="permanent", shutdown=0.5)
        await until(lambda: len(diary(tmp_path)) >= 3)


async def note(directory: str) -> None:
    with (Path(directory) / "diary").open("a") as file:
        file.write("runs\n")
    await anyio.sleep(0.01)


@both_drivers
async def test_a_temporary_function_that_fails_is_its_callers_error_alone() -> None:
    async with xsc.open_supervisor() as sup:
        task = await sup.run_in_pool(fail, restart="temporary")
        with pytest.raises(Mine):
            await task.result()
        await sup.run_in_pool(fail, restart="temporary", name="unheard")
        await until(lambda: not sup.which_children())


async def fail() -> None:
    raise Mine("a function")


@both_drivers
async def test_a_supervisor_that_gives_up_is_one_failed_child_of_the_one_above() -> None:
    async def fill(inner: xsc.Supervisor) -> None:
        await inner.create_actor(Child, uid="child")

    async with xsc.open_supervisor() as sup:
        events = sup.events()
        inner = await sup.start_supervisor(fill, name="inner", intensity=1)
        child = inner.actors["child"]
        first = await child.pid()
        await child.kill()
        await until(lambda: restarts(inner) == {"child": 1})
        await child.kill()
        await until(lambda: restarts(sup) == {"inner": 1})
        assert sup.supervisors["inner"] is not inner
        assert await child.pid() != first, "the reference reaches the new one"
        assert sup.supervisors["inner"].actors["child"] == child
        seen = [await next_of(events, Restarting) for _ in range(2)]
        assert [each.child for each in seen][-1] == "inner"


@both_drivers
async def test_a_failure_goes_up_three_levels_and_out() -> None:
    async def lowest(sup: xsc.Supervisor) -> None:
        await sup.create_actor(Child, uid="child")

    async def middle(sup: xsc.Supervisor) -> None:
        await sup.start_supervisor(lowest, name="lowest", intensity=0)

    with pytest.raises(xsc.RestartIntensityExceeded) as caught:
        async with xsc.open_supervisor(intensity=1, name="highest") as sup:
            await sup.start_supervisor(middle, name="middle", intensity=0)
            child = sup.supervisors["middle"].supervisors["lowest"].actors["child"]
            await child.raises.tell("the cause")
            await until(lambda: restarts(sup) == {"middle": 1})
            assert await child.add() == 1, "the reference has come along"
            await child.raises.tell("the cause")
            await anyio.sleep_forever()
    highest = caught.value
    assert "supervisor 'highest' has given up: 'middle' ended once more, after 1 restarts" in str(highest)
    assert len(highest.exceptions) == 2
    for middle_one in highest.exceptions:
        assert isinstance(middle_one, xsc.RestartIntensityExceeded)
        (lowest_one,) = middle_one.exceptions
        assert isinstance(lowest_one, xsc.RestartIntensityExceeded)
        (cause,) = lowest_one.exceptions
        assert isinstance(cause, Mine)
        assert str(cause) == "the cause"


@both_drivers
async def test_an_actor_may_have_a_supervisor_of_its_own() -> None:
    async with xsc.open_supervisor() as sup:
        boss: Any = await sup.create_actor(Boss, uid="boss")
        child = await boss.employee()
        first = await child.pid()
        assert first not in (await boss.pid(), os.getpid())
        for end in (child.raises, child.is_killed):
            await end.tell()
            await until_answers(child)
        await child.is_alive()
        assert child.incarnation == 3
        async with child.monitor(restarts=True) as exits:
            await child.is_killed.tell()
            event = await exits.receive()
            assert isinstance(event, Restarted)
            assert event.exit.signal == signal.SIGKILL
            assert isinstance(event.exit.error, xsc.PoolDied)
            await boss.kill()
            assert isinstance(await exits.receive(), Exit), "the last"
        child = await boss.employee()
        assert await child.add() == 1


class Boss(Child):
    """Supervises."""

    async def __post_create__(self) -> None:
        self.staff = await self.exit_stack.enter_async_context(xsc.open_supervisor())
        self.child = await self.staff.create_actor(Child, uid="employee")

    async def employee(self) -> Any:
        return self.child


@both_drivers
async def test_a_group_that_cannot_be_made_leaves_no_children() -> None:
    async with xsc.open_supervisor(0) as sup:
        with pytest.raises(xsc.ActorAlreadyExist):
            await sup.create_actor(Child, uid="g-2")
            await sup.create_group(Child, size=3, uid="g")
        assert [each.name for each in sup.which_children()] == ["g-2"]
        group = await sup.create_group(Child, size=2, uid="h", restart="transient")
        assert await group.add() == 1
        assert sup.count_children().active == 3


# Monitors, and the refs


@both_drivers
async def test_a_monitor_tells_of_restarts_if_it_is_asked_to_and_of_one_end() -> None:
    async with xsc.open_supervisor(intensity=10) as sup:
        child = await sup.create_actor(Child, uid="child")
        async with child.monitor() as end, child.monitor(restarts=True) as all_of_it:
            await child.kill()
            event = await all_of_it.receive()
            assert isinstance(event, Restarted)
            assert (event.uid, event.incarnation, event.exit.kind) == ("child", 2, "killed")
            await child.is_killed.tell()
            event = await all_of_it.receive()
            assert isinstance(event, Restarted)
            assert (event.incarnation, event.exit.signal) == (3, signal.SIGKILL)
            with pytest.raises(anyio.WouldBlock):
                end.receive_nowait()
            await child.destroy()
            assert (await all_of_it.receive()).kind == "normal"
            assert (await end.receive()).kind == "normal"
        async with child.monitor() as late:
            assert (await late.receive()).kind == "normal"


@both_drivers
async def test_the_exit_that_is_told_is_that_of_the_actor() -> None:
    async with xsc.open_supervisor() as sup:
        events = sup.events()
        child = await sup.create_actor(Child, uid="child")
        await child.raises.tell("why")
        exited = await next_of(events, ActorExited)
        assert (exited.uid, exited.exit.kind, str(exited.exit.error)) == ("child", "failed", "why")
        await until_answers(child)
