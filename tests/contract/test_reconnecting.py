"""A connection to another program is lost: what is open ends, what comes later waits for the next one."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, until
from tests.contract.proxy import Proxy, proxy
from tests.contract.serving import Service, server

KEY = "a secret that is long enough"


def secret(directory: Path) -> tuple[xsc.Secret, str]:
    """A secret, and the file it is in: through a proxy, nobody finds that of the tree."""
    path = directory / "secret"
    if not path.exists():
        xsc.Secret(KEY).save(path)
    return xsc.Secret(KEY), str(path)


async def cut(way: Proxy, ref: xsc.ActorRef[Service]) -> BaseException:
    """End the connection; what an open call ended with."""
    ends: list[BaseException] = []

    async def hold() -> None:
        try:
            await ref.hold()
        except xsc.ConnectionLost as exc:
            ends.append(exc)

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await ref.wait_held()
        way.cut()
    return ends[0]


@both_drivers
async def test_open_calls_end_and_later_ones_wait_for_the_next_connection(tmp_path: Path) -> None:
    auth, path = secret(tmp_path)
    with server(tmp_path, secret=path, actors=2) as (_, address), proxy(address) as way:
        async with xsc.connect(way.address, auth) as remote:
            ref = await remote.actor_ref("service-0")
            for _ in range(3):
                assert "lost" in str(await cut(way, ref))
                await ref.wait_seen("cancelled")  # what was open over there has been cancelled
                assert await ref.add(1) == 1
                assert remote.connected


@both_drivers
async def test_a_stream_and_a_dialogue_end_with_an_error_and_not_as_if_they_were_over(tmp_path: Path) -> None:
    auth, path = secret(tmp_path)
    with server(tmp_path, secret=path) as (_, address), proxy(address) as way:
        async with xsc.connect(way.address, auth) as remote:
            ref = await remote.actor_ref("service-1")
            with pytest.raises(xsc.ConnectionLost):
                async with ref.numbers(10**9) as stream:
                    await stream.__anext__()
                    way.cut()
                    async for _ in stream:
                        pass
            await until(lambda: remote.connected)
            with pytest.raises(xsc.ConnectionLost):
                async with ref.double.open_context(1) as (ctx, _), ctx.open_stream() as both:
                    await both.send(1)
                    assert await both.receive() == 2
                    way.cut()
                    await both.receive()
            await until(lambda: remote.connected)
            assert await ref.add(1) == 1


@both_drivers
async def test_while_it_is_down_calls_wait_no_longer_than_their_deadline_and_the_lease(
    tmp_path: Path,
) -> None:
    auth, path = secret(tmp_path)
    with server(tmp_path, secret=path, timeouts={"lease": 0.6}) as (_, address), proxy(address) as way:
        async with xsc.connect(way.address, auth) as remote:
            ref = await remote.actor_ref("service-0")
            way.open = False
            way.cut()
            await until(lambda: not remote.connected)
            with anyio.move_on_after(0.1) as scope:
                await ref.add(1)
            assert scope.cancelled_caught
            with pytest.raises(xsc.ConnectionLost, match="cannot be reached"):
                await ref.add(1)  # when the lease has passed
            with pytest.raises(xsc.ConnectionLost, match="cannot be reached"):
                await ref.add(1)  # and at once from then on
            way.open = True
            assert await ref.add(1) == 1


@both_drivers
async def test_a_program_that_has_started_again_is_found_behind_its_door(tmp_path: Path) -> None:
    auth, path = secret(tmp_path)
    with server(tmp_path, secret=path) as (first, address):
        async with xsc.connect(address, auth) as remote:
            ref = await remote.actor_ref("service-0")
            pid = await ref.pid()
            first.signal(signal.SIGKILL)
            first.wait()
            await until(lambda: not remote.connected)
            with server(tmp_path, secret=path, address=address.removeprefix("tcp://")):
                assert await ref.add(1) == 1
                assert await ref.pid() != pid


@both_drivers
async def test_what_was_made_for_a_client_outlives_its_connection_for_the_lease(tmp_path: Path) -> None:
    auth, path = secret(tmp_path)
    options = {"secret": path, "expose": ["Service"], "timeouts": {"lease": 1.0}}
    with server(tmp_path, **options) as (_, address), proxy(address) as way:
        async with xsc.connect(address, auth) as beside:
            async with xsc.connect(way.address, auth) as remote:
                ref = await remote.create_actor(Service, uid="mine")
                await ref.note(1)
                await cut(way, ref)
                assert await ref.notes() == [1]  # it has come again
                way.open = False
                way.cut()
                assert await beside.find_actor("mine") is not None
                with anyio.fail_after(30):
                    while await beside.find_actor("mine") is not None:  # noqa: ASYNC110 - it ends over there
                        await anyio.sleep(0.01)
                way.open = True
                with pytest.raises(xsc.ActorNotExist):
                    await ref.notes()


@both_drivers
async def test_a_call_that_is_refused_is_no_lost_connection(tmp_path: Path) -> None:
    _, path = secret(tmp_path)
    with server(tmp_path, secret=path) as (_, address):
        with pytest.raises(xsc.AuthenticationError, match="secret"):
            async with xsc.connect(address, xsc.Secret.generate()):
                pass
        with pytest.raises(xsc.AuthenticationError):
            async with xsc.connect(address):
                pass


@both_drivers
async def test_who_was_refused_may_come_with_the_secret(tmp_path: Path) -> None:
    auth, path = secret(tmp_path)
    with server(tmp_path, secret=path) as (_, address):
        async with xsc.open_pool_nursery(pools=0):
            with pytest.raises(xsc.AuthenticationError):
                await xsc.find_actor("service-0", registry=address)
            async with xsc.connect(address, auth):
                ref = await xsc.find_actor("service-0", registry=address)
                assert ref is not None
                assert await ref.add(1) == 1
                with pytest.raises(ValueError, match="other arguments"):
                    async with xsc.connect(address, xsc.Secret.generate()):
                        pass


@both_drivers
async def test_a_peer_that_says_nothing_delays_only_calls_to_itself(tmp_path: Path) -> None:
    auth, path = secret(tmp_path)
    with server(tmp_path, secret=path) as (stopped, one), server(tmp_path, secret=path) as (_, other):
        timeouts = xsc.Timeouts(greeting=0.5)
        async with (
            xsc.connect(one, auth, timeouts=timeouts) as hangs,
            xsc.connect(other, auth, timeouts=timeouts) as serves,
        ):
            stuck = await hangs.actor_ref("service-0")
            ref = await serves.actor_ref("service-0")
            stopped.signal(signal.SIGSTOP)
            answers: list[int] = []

            async def ask() -> None:
                answers.append(await stuck.add(7))

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                for number in range(50):
                    assert await ref.add(number) == number
                assert not answers
                # Another one to the same address waits for its greeting, and holds up nobody either.
                with pytest.raises(xsc.ConnectionLost):
                    async with xsc.connect(f"localhost:{one.rpartition(':')[2]}", auth):
                        pass
                assert await ref.add(1) == 1
                stopped.signal(signal.SIGCONT)
            await until(lambda: answers == [7])
