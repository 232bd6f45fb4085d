"""A pool's life: what its process runs."""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from xoscar_sc.launch import Launcher, LocalLauncher
from xoscar_sc.loop import open_loop, run_as_guest
from xoscar_sc.runtime.current import set_running_runtime
from xoscar_sc.runtime.heartbeat import Heart
from xoscar_sc.runtime.place import Place
from xoscar_sc.runtime.runtime import Runtime
from xoscar_sc.timeouts import Timeouts

if TYPE_CHECKING:
    from xoscar_sc.loop import Host


class PoolConfig(msgspec.Struct, frozen=True):
    """What a pool is told when it starts."""

    place: Place
    timeouts: Timeouts
    loglevel: int | str | None = None
    heartbeat: float | None = None
    """Seconds for which it may show no sign of life; None if nobody looks for one."""
    asyncio: bool = False
    """Its trio runs as a guest on an asyncio loop."""
    uvloop: bool = False
    """... which is one of uvloop's."""


def run_pool(channel: socket.socket, guardian: socket.socket, payload: bytes) -> Any:
    """Be a pool, until it is to end; its exit code, as :func:`sys.exit` takes it."""
    config = msgspec.msgpack.decode(payload, type=PoolConfig)
    if config.loglevel is not None:
        logging.basicConfig(level=config.loglevel)
    if not config.asyncio:
        return trio.run(_live, config, channel, guardian)
    return run_as_guest(partial(_live, config, channel, guardian), uvloop=config.uvloop)


async def _live(
    config: PoolConfig, sock: socket.socket, guardian: socket.socket, host: Host | None = None
) -> Any:
    async with open_loop() as loop:
        launcher = LocalLauncher.attach(loop, guardian)

        async def attached() -> Launcher:
            return launcher

        async with AsyncExitStack() as stack:
            if host is None:
                runtime = Runtime(loop, config.place, config.timeouts, attached)
            else:
                from xoscar_sc.runtime.infected import InfectedRuntime

                runtime = await InfectedRuntime.open(
                    stack, host, loop, config.place, config.timeouts, attached
                )
            runtime.launcher = launcher
            set_running_runtime(runtime)
            heart: Heart | None = None
            if config.heartbeat is not None:
                heart = Heart(loop, config.place.directory, config.place.pool_id, config.heartbeat)
            runtime.peers.listen()
            parent = runtime.peers.open(sock)
            await parent.wait_greeting()
            runtime.peers.add(config.place.parent, parent)
            code = await runtime.stopping.wait()
            runtime.peers.stop_listening()
            await runtime.end_actors(cancel=runtime.cancelling)
        runtime.closed = True
        await launcher.aclose()
        runtime.peers.close()
        if heart is not None:
            heart.stop()
        return code
