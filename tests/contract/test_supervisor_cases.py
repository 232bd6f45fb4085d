"""What OTP's and Akka's own tests pin of supervisors, in our words, as far as no other test here does.

Each names the case that it is after. Those of OTP are from ``supervisor_SUITE``, those of Akka from its specs of
supervision and of death watch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers
from tests.contract.supervised import Child, attempt, diary, next_of, phases, restarts, until, until_answers
from xoscar_sc.events import Exit, Restarting

# OTP


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@both_drivers
async def test_another_childs_start_fails_while_they_are_restarted(strategy: Any, tmp_path: Path) -> None:
    """one_for_all_other_child_fails_restart, rest_for_one_other_child_fails_restart."""
    fails = tmp_path / "fails"
    async with xsc.open_supervisor(0, strategy=strategy, intensity=10) as sup:
        first = await sup.create_actor(Child, str(tmp_path), uid="a")
        second = await sup.create_actor(Child, str(tmp_path), str(fails), uid="b")
        third = await sup.create_actor(Child, str(tmp_path), uid="c")
        fails.write_text("raises")
        before = len(diary(tmp_path))
        await first.kill()
        await until(lambda: diary(tmp_path).count("fails raises b") == 2)
        fails.unlink()
        await until(lambda: set(phases(sup).values()) == {"up"})
        assert [await ref.add() for ref in (first, second, third)] == [1, 1, 1]
        lines = diary(tmp_path)[before:]
        assert lines[:4] == ["stops c", "stops b", "starts a", "fails raises b"]
        tried_again = ["stops a", "starts a"] if strategy == "one_for_all" else []
        assert lines[4 : 4 + len(tried_again)] == tried_again
        assert lines[-2:] == ["starts b", "starts c"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@both_drivers
async def test_a_child_that_never_starts_again_leaves_a_supervisor_that_answers(
    strategy: Any, tmp_path: Path
) -> None:
    """hanging_restart_loop, hanging_restart_loop_rest_for_one, count_restarting_children."""
    fails = tmp_path / "fails"
    backoff = xsc.Backoff(min=0.001, max=0.001)
    async with xsc.open_supervisor(0, strategy=strategy, intensity=10**6) as sup:
        await sup.create_actor(Child, uid="a")
        child = await sup.create_actor(Child, str(tmp_path), str(fails), uid="b", backoff=backoff)
        await sup.create_actor(Child, uid="c")
        fails.write_text("raises")
        await child.kill()
        await until(lambda: len(diary(tmp_path)) > 10)
        known = {each.name for each in sup.which_children()}
        assert known == {"a", "b", "c"}
        assert sup.count_children().specs == 3
        assert sup.count_children().active <= 2
        with pytest.raises(ValueError, match=r"terminate_child\(\) ends it first"):
            await sup.delete_child("b")
        await sup.terminate_child("b")
        await until(lambda: phases(sup) == {"a": "up", "b": "down", "c": "up"})
        await sup.delete_child("b")
        assert sup.count_children() == (2, 2, 0, 2)


@both_drivers
async def test_a_significant_child_that_is_stopped_with_another_ends_nothing() -> None:
    """significant_bystander."""
    async with xsc.open_supervisor(0, strategy="one_for_all", auto_shutdown="any_significant") as sup:
        for restart in ("transient", "temporary"):
            await sup.create_actor(Child, uid=restart, restart=restart, significant=True)  # type: ignore[arg-type]
        child = await sup.create_actor(Child, uid="child")
        await child.kill()
        await until(lambda: restarts(sup) == {"transient": 1, "child": 1})
        assert await child.add() == 1


@both_drivers
async def test_to_terminate_a_significant_child_ends_nothing() -> None:
    """auto_shutdown: terminate_child does not count."""
    async with xsc.open_supervisor(0, auto_shutdown="any_significant") as sup:
        await sup.create_actor(Child, uid="child", restart="transient", significant=True)
        await sup.terminate_child("child")
        assert phases(sup) == {"child": "down"}


@both_drivers
async def test_a_temporary_child_that_is_terminated_is_forgotten() -> None:
    """child_adm with a temporary child; do_not_save_child_specs_for_temporary_children."""
    async with xsc.open_supervisor(0) as sup:
        await sup.create_actor(Child, uid="child", restart="temporary")
        await sup.terminate_child("child")
        assert sup.which_children() == []
        with pytest.raises(ValueError, match="has no child 'child'"):
            await sup.restart_child("child")


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@both_drivers
async def test_each_strategy_gives_up(strategy: Any) -> None:
    """one_for_one_escalation, one_for_all_escalation, rest_for_one_escalation."""
    with pytest.raises(xsc.RestartIntensityExceeded):
        async with xsc.open_supervisor(0, strategy=strategy, intensity=4) as sup:
            children = [await sup.create_actor(Child) for _ in range(2)]
            for number in range(5):
                await children[0].kill()
                await until(lambda number=number: restarts(sup)[children[0].uid] == number + 1)
            await anyio.sleep_forever()


@both_drivers
async def test_children_are_listed_in_the_order_of_their_starts_and_stay_so() -> None:
    """order_of_children."""
    async with xsc.open_supervisor(0, strategy="rest_for_one", intensity=10) as sup:
        for uid in "abcd":
            await sup.create_actor(Child, uid=uid)
        for uid in "bda":
            await sup.actors[uid].kill()
            await until(lambda uid=uid: restarts(sup)[uid] > 0 and set(phases(sup).values()) == {"up"})
        assert [each.name for each in sup.which_children()] == list("abcd")


@both_drivers
async def test_many_children_are_started_and_stopped() -> None:
    """scale_start_stop_many_children."""
    async with xsc.open_supervisor(0) as sup:
        for _ in range(300):
            await sup.create_actor(Child)
        assert sup.count_children() == (300, 300, 0, 300)
        for child in list(sup.actors.values())[:100]:
            await child.destroy()
        assert sup.count_children() == (200, 200, 0, 200)
    names = sup.runtime.directory.names
    assert len(names) == 0


@pytest.mark.parametrize("shutdown", [math.inf, 5.0, "kill"])
@both_drivers
async def test_a_child_is_given_its_time_to_end(shutdown: Any, tmp_path: Path) -> None:
    """sup_stop_infinity, sup_stop_timeout, sup_stop_brutal_kill."""
    async with xsc.open_supervisor(shutdown=0.0) as sup:
        await sup.create_actor(TakesItsTime, str(tmp_path), uid="child", shutdown=shutdown)
    assert ("ended child" in diary(tmp_path)) is (shutdown != "kill")


class TakesItsTime(Child):
    async def __pre_destroy__(self) -> None:
        await anyio.sleep(0.2)
        self._note("ended")


@both_drivers
async def test_a_start_that_fails_is_told_and_its_name_is_free() -> None:
    """sup_start_child_returns_error."""
    async with xsc.open_supervisor(0) as sup:
        for _ in range(2):
            with pytest.raises(TypeError):
                await sup.create_actor(Child, nothing="known", uid="child")  # type: ignore[call-arg]
        assert sup.which_children() == []


@both_drivers
async def test_a_tree_ends_from_its_leaves() -> None:
    """tree: what is under a supervisor has ended when the supervisor has."""
    refs: list[Any] = []

    async def leaf(sup: xsc.Supervisor) -> None:
        refs.append(await sup.create_actor(Child, uid="leaf"))

    async with xsc.open_supervisor(0) as sup:
        await sup.start_supervisor(leaf, name="branch", pools=0)
        assert await refs[0].add() == 1
        await sup.terminate_child("branch")
        assert isinstance(await attempt(refs[0].add), xsc.ActorNotExist)
        await sup.restart_child("branch")
        assert await refs[1].add() == 1


# Akka


@both_drivers
async def test_a_monitor_hears_of_a_restart_only_if_it_has_asked_and_of_the_end_once() -> None:
    """DeathWatch: "not notify of a restart", "notify with one Terminated when stopped"."""
    async with xsc.open_supervisor(0, intensity=10) as sup:
        child = await sup.create_actor(Child, uid="child")
        async with child.monitor() as one, child.monitor() as other:
            for number in (1, 2):
                await child.kill()
                await until(lambda number=number: restarts(sup)["child"] == number)
            await child.destroy()
            for exits in (one, other):
                assert [each.kind async for each in exits] == ["normal"]


@both_drivers
async def test_who_watches_one_that_has_ended_long_ago_is_told_at_once() -> None:
    """DeathWatch: "notify at once when the actor is terminated already"."""
    async with xsc.open_supervisor(0) as sup:
        child = await sup.create_actor(Child, uid="child", restart="transient")
        await child.stops.tell()
        await until(lambda: phases(sup) == {"child": "down"})
        async with child.monitor() as exits:
            assert await exits.receive() == Exit("normal")


@both_drivers
async def test_a_failing_message_is_not_delivered_again_and_those_behind_it_are() -> None:
    """Supervision: a restart keeps the mailbox, without the message that failed."""
    async with xsc.open_supervisor(0) as sup:
        child = await sup.create_actor(Child, uid="child")
        for tell in (child.add, child.raises, child.add, child.add):
            await tell.tell()
        assert await child.add() == 3
        await until(lambda: restarts(sup) == {"child": 1})


@both_drivers
async def test_a_failure_while_it_fails_counts_once() -> None:
    """Supervision: "not restart twice" for failures that come together."""
    async with xsc.open_supervisor(0, intensity=1) as sup:
        child = await sup.create_actor(Child, uid="child", backoff=xsc.Backoff(min=0.05))
        events = sup.events()
        await child.fails_in_the_nursery(5)
        await next_of(events, Restarting)
        await until_answers(child)
        await until(lambda: phases(sup) == {"child": "up"})
        assert restarts(sup) == {"child": 1}


@both_drivers
async def test_what_an_actor_has_made_ends_with_it_and_comes_back_with_it() -> None:
    """SupervisorHierarchy: children of a restarted actor are its own business, and no longer there."""
    async with xsc.open_supervisor() as sup:
        child: Any = await sup.create_actor(Parent, uid="parent")
        first = await child.helper_pid()
        await child.raises.tell()
        second = await child.helper_pid()
        assert first != second
        with pytest.raises(ProcessLookupError):
            __import__("os").kill(first, 0)


class Parent(Child):
    async def __post_create__(self) -> None:
        nursery = await self.exit_stack.enter_async_context(xsc.open_pool_nursery(1))
        self.helper = await nursery.create_actor(Child, uid="helper")

    async def helper_pid(self) -> int:
        return await self.helper.pid()
