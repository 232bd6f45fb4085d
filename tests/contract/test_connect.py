"""A second program uses a tree through its door: every kind of message, in whichever pool an actor lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, is_gone, next_event, program, until
from tests.contract.serving import Service, server, talk, triple

PLACES = pytest.mark.parametrize("pools", [0, 1, 3])
"""The actors live in the program itself, in one pool, or in several."""


@both_drivers
@PLACES
async def test_every_kind_of_message_works_from_outside(pools: int, tmp_path: Path) -> None:
    with server(tmp_path, pools=pools, actors=3) as (_, address):
        async with xsc.connect(address) as remote:
            for i in range(3):
                ref = await remote.actor_ref(f"service-{i}")
                assert await ref.add(5) == 5
                assert await ref.add(5, other=2) == 7
                assert await ref.add.send(1, 2) == 3
                for number in range(50):
                    await ref.note.tell(number)
                assert await ref.notes() == list(range(50))
                assert await ref.add.batch(ref.add.delay(1), ref.add.delay(2, 3)) == [1, 5]
                async with ref.numbers(200) as stream:
                    assert [number async for number in stream] == list(range(200))
                async with ref.double.open_context(10) as (ctx, first):
                    assert first == 11
                    async with ctx.open_stream() as both:
                        for number in range(100):
                            await both.send(number)
                            assert await both.receive() == 2 * number
                    assert await ctx.result() == "done"


@both_drivers
async def test_types_survive_and_large_values_come_whole(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    with server(tmp_path) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("service-1")
            for value in (
                (1, (2, 3)),
                {"a": {1, 2}},
                b"\0" * 10,
                {},
                None,
                "",
                [],
                2**70,
                xsc.Exit("normal"),
            ):
                answer = await ref.echo(value)
                assert answer == value
                assert type(answer) is type(value)
            array = np.arange(3_000_000, dtype="float64").reshape(3, -1)
            assert (await ref.echo(array) == array).all()
            large = os.urandom(9 << 20)
            answers: list[Any] = []

            async def ask() -> None:
                answers.append(await ref.echo(large))

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(ask)
                assert await ref.add(1) == 1
            assert all(answer == large for answer in answers)


@both_drivers
async def test_an_exception_arrives_as_itself_with_where_it_was(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("service-0")
            with pytest.raises(ValueError, match="boom") as caught:
                await ref.boom()
            assert caught.value.args == ("boom", 7)
            assert isinstance(caught.value.__cause__, KeyError)
            assert "service-0" in caught.value.__notes__[-1]
            assert await ref.add(1) == 1


@both_drivers
async def test_actors_are_found_in_the_block_and_by_their_door(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.connect(address) as remote:
            assert remote.address == address
            assert remote.connected
            ways = [
                await remote.find_actor("service-1"),
                await remote.wait_for_actor("service-1"),
                await xsc.find_actor("service-1"),
                await xsc.find_actor("service-1", registry=address),
                await xsc.wait_for_actor("service-1"),
                await xsc.wait_for_actor("service-1", registry=address),
                await xsc.actor_ref(uid="service-1"),
                await xsc.actor_ref(address, "service-1"),
            ]
            assert len({hash(ref) for ref in ways}) == 1
            for ref in ways:
                assert ref == ways[0]
                assert await ref.add(1) == 1
                assert await ref.is_alive()
            assert await remote.find_actor("nobody") is None
            assert await xsc.find_actor("nobody") is None
            for search in (
                remote.actor_ref("nobody"),
                xsc.actor_ref(address, "nobody"),
                xsc.actor_ref(uid="nobody"),
            ):
                with pytest.raises(xsc.ActorNotExist, match="nobody"):
                    await search
            with anyio.move_on_after(0.05) as scope:
                await remote.wait_for_actor("nobody")
            assert scope.cancelled_caught


@both_drivers
async def test_trees_find_each_other_by_a_registry(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.open_pool_nursery(pools=1) as n:
            ref = await xsc.find_actor("service-1", registry=address)
            assert ref is not None
            assert await ref.add(2) == 2
            assert await xsc.find_actor("service-1") is None  # it is not in this tree
            mine = await n.create_actor(Service, uid="service-1")
            assert await mine.pid() != await ref.pid()
            # A pool of this tree reaches it as well.
            assert await mine.same(mine, "service-1")
            assert await mine.echo(ref) == ref


class Caller(xsc.Actor):
    async def call(self, ref: Any) -> int:
        return await ref.add(20, 1)


@both_drivers
async def test_a_reference_works_in_every_pool_of_the_client(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.open_pool_nursery(pools=1) as n:
            caller = await n.create_actor(Caller, pool="pool-1")
            async with xsc.connect(address) as remote:
                assert await caller.call(await remote.actor_ref("service-0")) == 21


@both_drivers
async def test_references_are_values_on_both_sides_of_the_door(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.connect(address) as remote:
            first = await remote.actor_ref("service-0")
            second = await first.other("service-1")
            assert second == await remote.actor_ref("service-1")
            assert await second.pid() != await first.pid()
            assert await first.same(second, "service-1")
            assert await first.same(await remote.actor_ref("service-1"), "service-1")


@both_drivers
async def test_cancelling_a_call_cancels_the_method(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("service-1")
            async with anyio.create_task_group() as group:
                group.start_soon(ref.hold)
                await ref.wait_held()
                group.cancel_scope.cancel()
            await ref.wait_seen("cancelled")
            with anyio.move_on_after(0.2) as scope:
                await ref.hold()
            assert scope.cancelled_caught
            with anyio.fail_after(100):
                assert 0 < await ref.left() <= 100
            async with ref.numbers(10**9) as stream:
                await stream.__anext__()
            await ref.wait_seen("generator closed")


@both_drivers
async def test_a_client_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    with server(tmp_path) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("service-0")
            with program(tmp_path, HOLDS_ON, address) as client:
                await ref.wait_held()
                client.signal(signal.SIGKILL)
                client.wait()
                await ref.wait_seen("cancelled")


HOLDS_ON = """
    import sys, trio
    import xoscar_sc as xsc

    async def main():
        async with xsc.connect(sys.argv[1]) as remote:
            await (await remote.actor_ref("service-0")).hold()

    trio.run(main)
"""


@both_drivers
async def test_the_death_of_a_pool_reaches_the_client(tmp_path: Path) -> None:
    """Nobody supervises the pool, so its program ends with it, and closes its door: whichever is told first."""
    with server(tmp_path, pools=0, actors=1, door="127.0.0.1:0") as (program, inner):
        outer = program.line()
        async with xsc.connect(outer) as remote:
            ref = await remote.actor_ref("inside")
            pid = await ref.pid()
            for number in range(10):
                await ref.note.tell(number)
            with pytest.raises((xsc.PoolDied, xsc.ConnectionLost)) as caught:
                await ref.exit(3)
            assert isinstance(caught.value, xsc.ConnectionLost) or caught.value.exit_code == 3
            await until(lambda: is_gone(pid))
            with pytest.raises((xsc.ActorNotExist, xsc.PoolDied, xsc.ConnectionLost)):
                await ref.add(1)
        assert inner != outer


@both_drivers
async def test_the_end_of_an_actor_is_seen_from_outside(tmp_path: Path) -> None:
    with server(tmp_path, expose=["Service", "service-0"]) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.create_actor(Service, uid="mine")
            async with ref.monitor() as exits:
                await ref.destroy()
                assert (await exits.receive()).kind == "normal"
            assert not await ref.is_alive()
            with pytest.raises(xsc.ActorNotExist):
                await ref.add(1)
            with pytest.raises(xsc.NotExposed):
                await (await remote.actor_ref("service-0")).destroy()


@both_drivers
async def test_what_is_exposed_can_be_made_and_run(tmp_path: Path) -> None:
    with server(tmp_path, expose=["Service", "triple", "talk"]) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.create_actor(Service, "its name", uid="mine")
            assert await ref.add(1, 1) == 2
            assert await remote.run(triple, 4) == 12
            assert await remote.run("triple", 5) == 15
            async with remote.open_context(talk, 7) as (ctx, first):
                assert first == 7
                async with ctx.open_stream() as stream:
                    await stream.send(1)
                    await stream.send(2)
                assert await ctx.result() == 3
            assert await remote.find_actor("mine") == ref
            with pytest.raises(TypeError):
                await remote.run(triple, 1, 2, 3)
        async with xsc.connect(address) as remote:
            assert await remote.find_actor("mine") is None  # it has ended with its client's block


@both_drivers
async def test_a_pool_has_a_door_of_its_own(tmp_path: Path) -> None:
    with server(tmp_path, door="127.0.0.1:0") as (program, inner):
        outer = program.line()
        assert inner != outer
        async with xsc.connect(inner) as remote:
            for uid in ("inside", "service-0", "service-1"):
                ref = await remote.actor_ref(uid)
                assert await ref.add(1) == 1
                async with ref.numbers(5) as stream:
                    assert [each async for each in stream] == list(range(5))
            assert await remote.find_actor("nobody") is None


@both_drivers
async def test_a_client_uses_two_programs_at_once(tmp_path: Path) -> None:
    with server(tmp_path) as (_, one), server(tmp_path) as (_, other):
        async with xsc.connect(one) as first, xsc.connect(other) as second:
            refs = [await each.actor_ref("service-0") for each in (first, second)]
            assert refs[0] != refs[1]
            assert await refs[0].pid() != await refs[1].pid()
            assert await xsc.find_actor("service-0") == refs[1]  # the connection that was opened last


@both_drivers
async def test_a_program_that_hangs_is_told_of_and_goes_on(tmp_path: Path) -> None:
    with server(tmp_path) as (program, address):
        async with xsc.open_pool_nursery(pools=0, timeouts=xsc.Timeouts(heartbeat=0.1)) as n:
            events = n.events()
            async with xsc.connect(address) as remote:
                ref = await remote.actor_ref("service-0")
                program.signal(signal.SIGSTOP)
                lost = await next_event(events, xsc.events.HeartbeatLost)
                assert lost.pool == address
                program.signal(signal.SIGCONT)
                assert await ref.add(1) == 1


@both_drivers
async def test_what_has_ended_is_forgotten(tmp_path: Path) -> None:
    with server(tmp_path, pools=0, actors=1, expose=["service-0", "triple"]) as (program, address):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("service-0")
            before = descriptors(program.pid)
            for _ in range(300):
                assert await ref.add(1) == 1
                async with ref.numbers(3) as stream:
                    assert [each async for each in stream] == [0, 1, 2]
            for _ in range(20):
                async with xsc.connect(address) as again:
                    assert await again.find_actor("service-0") == ref
                assert await ref.add(1) == 1  # the connection is still used by the outer block
            assert descriptors(program.pid) == before


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@both_drivers
async def test_nothing_answers_there(tmp_path: Path) -> None:
    with pytest.raises(xsc.ConnectionLost, match="cannot be reached"):
        async with xsc.connect("127.0.0.1:9"):
            pass
    with pytest.raises(ValueError, match="tcp://host:port"):
        xsc.connect("unix:///nowhere")
    with pytest.raises(TypeError, match="Secret"):
        xsc.connect("127.0.0.1:9", auth="secret")  # type: ignore[arg-type]


STAGES = """
    import sys
    import anyio
    import xoscar_sc as xsc

    async def main(stage, address):
        print("begins", flush=True)
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("service-0")
            print("is in", flush=True)
            if stage == "streaming":
                async with ref.numbers(10**9) as stream:
                    async for _ in stream:
                        pass
            if stage == "calling":
                await ref.hold()
            await anyio.sleep_forever()

    try:
        anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("stage", ["dialling", "idle", "calling", "streaming"])
def test_ctrl_c_ends_a_client_at_every_stage(stage: str, backend: str, tmp_path: Path) -> None:
    with server(tmp_path) as (serving, address):
        if stage == "dialling":
            serving.signal(signal.SIGSTOP)
        with program(tmp_path, STAGES, stage, address, backend) as client:
            client.expect("begins")
            if stage != "dialling":
                client.expect("is in")
            client.signal(signal.SIGINT)
            client.expect("interrupted")
            assert client.wait() == 0, client.stderr


@both_drivers
@pytest.mark.parametrize("pool_door", [False, True])
async def test_a_reference_outlasts_the_restarts_of_its_actor(pool_door: bool, tmp_path: Path) -> None:
    with server(tmp_path, restarts=True, door="127.0.0.1:0") as (program, inner):
        outer = program.line()
        async with xsc.connect(inner if pool_door else outer) as remote:
            ref = await remote.actor_ref("comes-back-0")
            for _ in range(5):
                pid = await ref.pid()
                with pytest.raises(xsc.ActorDied) as caught:
                    await ref.exit(3)
                assert caught.value.maybe_executed
                assert await ref.add(1) == 1  # as soon as there is the next one
                assert await ref.pid() != pid
                async with ref.numbers(3) as stream:
                    assert [each async for each in stream] == [0, 1, 2]
                async with ref.double.open_context(1) as (ctx, first):
                    assert first == 2
                    async with ctx.open_stream():
                        pass
            again = await ref.other("comes-back-0")
            assert await again.add(2) == 2
            with pytest.raises(xsc.ActorDied):
                await again.exit(3)
            assert await again.add(2) == 2


@both_drivers
async def test_a_call_from_outside_waits_for_a_restart_only_if_it_may(tmp_path: Path) -> None:
    with server(tmp_path, restarts=True) as (_, address):
        async with xsc.connect(address) as remote:
            ref = await remote.actor_ref("comes-back-1")
            ends: list[str] = []
            for _ in range(3):
                with pytest.raises(xsc.ActorDied):
                    await ref.exit(3)
                while True:
                    try:
                        assert await ref.add(1) == 1
                        break
                    except xsc.ActorUnavailable:
                        ends.append("unavailable")
                        await anyio.sleep(0.001)
            assert ends
