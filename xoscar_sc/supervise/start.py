"""Starting one pool: from a specification to a process that answers."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from xoscar_sc.errors import ConnectionLost, LaunchError, ProtocolError
from xoscar_sc.ipc import Channel, tune
from xoscar_sc.launch import Process, ProcessExit, ProcessSpec, choose_method
from xoscar_sc.runtime import Place, PoolConfig, Pulse, Runtime, forget_pulse

if TYPE_CHECKING:
    from xoscar_sc.supervise.spec import PoolSpec


@dataclass(frozen=True, slots=True)
class Started:
    """A pool that answers."""

    place: Place
    process: Process
    channel: Channel
    pulse: Pulse | None = None
    """Its signs of life, if somebody looks for them."""


async def start_pool(
    runtime: Runtime,
    nursery: int,
    name: str,
    spec: PoolSpec,
    *,
    env: dict[str, str],
    loglevel: int | str | None,
    heartbeat: float | None = None,
) -> Started:
    """Start a pool, and wait until it is ready.

    Raises:
        LaunchError: it could not be started, or ended before it was ready; nothing is left of it.
        RuntimeDirError: there is no place for its socket.

    Cancellation: nothing is left of it.
    """
    if spec.uvloop and find_spec("uvloop") is None:
        raise LaunchError("uvloop=True needs the package uvloop, which is not installed")
    launcher = await runtime.open_launcher()
    here = runtime.place
    place = Place(
        here.tree,
        here.directory,
        name,
        secrets.token_hex(4),
        root=here.root or here.address,
        parent=here.address,
        above=(*here.above, here.address),
        nursery=nursery,
        labels=spec.labels,
    )
    complete = {**os.environ, **env, **(spec.env or {})}
    process_spec = ProcessSpec(
        name=name,
        pool_id=place.pool_id,
        payload=msgspec.msgpack.encode(
            PoolConfig(place, runtime.timeouts, loglevel, heartbeat, spec.asyncio, spec.uvloop)
        ),
        env=complete,
        cwd=_working_directory(),
        sys_path=tuple(sys.path),
        cpus=None if spec.cpus is None else tuple(spec.cpus),
        method=choose_method(os.environ, complete),
    )
    ours, theirs = _sockets()
    try:
        process = await launcher.start(process_spec, theirs)
    except BaseException:
        ours.close()
        raise
    channel = runtime.peers.open(ours)
    try:
        await _wait_ready(runtime, name, process, channel)
        pulse = None
        if heartbeat is not None:
            pulse = Pulse(place.directory, place.pool_id, process.pid, heartbeat)
    except BaseException:
        if heartbeat is not None:
            forget_pulse(place.directory, place.pool_id)
        channel.close()
        process.kill()
        await runtime.loop.run_shielded(process.wait)
        raise
    runtime.peers.add(place.address, channel)
    return Started(place, process, channel, pulse)


def _sockets() -> tuple[socket.socket, socket.socket]:
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as exc:
        raise LaunchError(f"there is no socket for the pool: {exc}") from exc
    return tune(ours), tune(theirs)


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it has been removed; the pool will be where the guardian is
        return ""


async def _wait_ready(runtime: Runtime, name: str, process: Process, channel: Channel) -> None:
    """Wait for the pool's greeting, which it says when it is ready."""
    seconds = runtime.timeouts.start
    found: ProcessExit | None = None
    with anyio.move_on_after(seconds):
        try:
            await channel.wait_greeting()
        except (ConnectionLost, ProtocolError):
            found = await process.wait()
        else:
            return
    if found is None:
        raise LaunchError(f"pool {name!r} (pid {process.pid}) was not ready within {seconds} s")
    tail = "".join(f"\n  {line}" for line in found.last_lines)
    raise LaunchError(
        f"pool {name!r} (pid {process.pid}) {found.describe()} before it was ready"
        + (f"; its last lines were:{tail}" if tail else ""),
        exit_code=found.exit_code,
        signal=found.signal,
        last_lines=found.last_lines,
    )
