"""A pool's life: what its process runs."""

from __future__ import annotations

import logging
import socket
from typing import Any

import msgspec
import trio

from xoscar_sc.launch import Launcher, LocalLauncher
from xoscar_sc.loop import open_loop
from xoscar_sc.runtime.current import set_running_runtime
from xoscar_sc.runtime.heartbeat import Heart
from xoscar_sc.runtime.place import Place
from xoscar_sc.runtime.runtime import Runtime
from xoscar_sc.timeouts import Timeouts


class PoolConfig(msgspec.Struct, frozen=True):
    """What a pool is told when it starts."""

    place: Place
    timeouts: Timeouts
    loglevel: int | str | None = None
    heartbeat: float | None = None
    """Seconds for which it may show no sign of life; None if nobody looks for one."""


def run_pool(channel: socket.socket, guardian: socket.socket, payload: bytes) -> Any:
    """Be a pool, until it is to end; its exit code, as :func:`sys.exit` takes it."""
    config = msgspec.msgpack.decode(payload, type=PoolConfig)
    if config.loglevel is not None:
        logging.basicConfig(level=config.loglevel)
    return trio.run(_live, config, channel, guardian)


async def _live(config: PoolConfig, sock: socket.socket, guardian: socket.socket) -> Any:
    async with open_loop() as loop:
        launcher = LocalLauncher.attach(loop, guardian)

        async def attached() -> Launcher:
            return launcher

        runtime = Runtime(loop, config.place, config.timeouts, attached)
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
