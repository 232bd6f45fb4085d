"""Processes on this host, by way of a guardian.

There is one guardian in a tree of pools: a process that forks every pool, is the parent of them all, and kills
what is left when the tree's root goes away, however it goes. The root starts it; each pool has a connection to it,
so that a pool can start pools of its own. Its part is in :mod:`~xoscar_sc.launch.guardian`.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from xoscar_sc.errors import LaunchError
from xoscar_sc.launch import interpreter, orphans, wire
from xoscar_sc.launch.client import Client, Process, Waiters
from xoscar_sc.launch.values import ProcessExit, ProcessSpec
from xoscar_sc.loop import Loop

_PATIENCE = 10.0
"""Seconds for a guardian to end what is left; it takes milliseconds."""


class Launcher(Protocol):
    """Starts processes somewhere."""

    async def start(self, spec: ProcessSpec, channel: socket.socket) -> Process:
        """Start a process, and return when it is about to run its entry.

        Args:
            spec: what to start.
            channel: the process's end of its channel. It is the launcher's from now on, which closes it.

        Raises:
            LaunchError: it could not be started; nothing is left of it.

        Cancellation:
            Nothing is left of the process: if it was there already it is killed, and its end is waited for.
        """

    async def exit_of(self, pool_id: str) -> ProcessExit | None:
        """Wait for the end of any process of the tree, and say how it ended; None if that is not known (any more)."""

    async def aclose(self) -> None:
        """Kill what was started and still runs, and wait for its end.

        Cancellation: it is done all the same.
        """


class _Guardian:
    """A guardian's process, as the root that has started it sees it."""

    def __init__(self, loop: Loop, directory: str, entry: str) -> None:
        self._loop = loop
        self._ended = False
        self._waiters = Waiters(loop)
        self._tree = secrets.token_hex(8)
        try:
            ours, theirs = wire.socket_pair()
        except OSError as exc:
            raise LaunchError(f"there is no socket for the guardian process: {exc}") from exc
        with theirs:
            try:
                self._popen = self._spawn(theirs.fileno(), directory, entry)
                self._pidfd = _pidfd_of(self._popen)
            except OSError as exc:
                ours.close()
                raise LaunchError(f"the guardian process cannot be started: {exc}") from exc
        loop.watch(self._pidfd, self._reap)
        self.client = Client(loop, ours)

    def _spawn(self, sock: int, directory: str, entry: str) -> subprocess.Popen[bytes]:
        # In a group of its own: what is meant for the root's group leaves it alone.
        command = interpreter.command("guardian.main", sock, os.getpid(), directory, entry)
        env = {**os.environ, orphans.POOL_VARIABLE: orphans.PLACEHOLDER, orphans.TREE_VARIABLE: self._tree}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[sock], process_group=0, env=env)

    def _reap(self) -> None:
        self._ended = True
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        if self._popen.wait():
            orphans.kill_tree(self._tree)
        self._waiters.set(None)

    async def wait_ended(self) -> None:
        """Wait until it has ended everything and itself, which it does without a connection; or kill it at last."""
        self.client.close()
        with anyio.move_on_after(_PATIENCE):
            if not self._ended:
                await self._waiters.wait()
        if not self._ended:
            self._popen.kill()
            await self._waiters.wait()


def _pidfd_of(popen: subprocess.Popen[bytes]) -> int:
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise


class LocalLauncher:
    """Starts processes on this host. Made by :meth:`open` in a tree's root, and by :meth:`attach` in its pools."""

    def __init__(self, loop: Loop, client: Client, root: tuple[_Guardian, str, str] | None = None) -> None:
        self._loop = loop
        self._client = client
        self._root = root
        self._closed = False

    @classmethod
    async def open(
        cls, loop: Loop, *, directory: str = "", entry: str = "xoscar_sc._child:main"
    ) -> LocalLauncher:
        """Start a guardian. Returns before it is ready: that is what the first :meth:`start` waits for.

        Args:
            loop: the loop that runs here.
            directory: removed by the guardian at the very end, with the sockets and files in it; empty for none.
            entry: what every process runs, as ``"module:function"``. The guardian imports the module. The function
                is called with the process's channel, its connection for :meth:`attach`, and the payload of its spec;
                it returns the exit code, or None.

        Raises:
            LaunchError: the guardian's process cannot be started.
        """
        if sys.platform != "linux":
            raise LaunchError(f"processes can be started on Linux only, and this is {sys.platform}")
        await checkpoint()
        guardian = _Guardian(loop, directory, entry)
        return cls(loop, guardian.client, (guardian, directory, entry))

    @classmethod
    def attach(cls, loop: Loop, sock: socket.socket) -> LocalLauncher:
        """Use the connection that a process was started with."""
        return cls(loop, Client(loop, sock))

    async def start(self, spec: ProcessSpec, channel: socket.socket) -> Process:
        """See :meth:`Launcher.start`. If the guardian has died, the root starts another."""
        with channel:
            if self._closed:
                raise LaunchError("the launcher was closed")
            await self._renew()
            return await self._client.start(spec, channel)

    async def _renew(self) -> None:
        """In the root, put another guardian in the place of one that is lost."""
        while self._root is not None and self._client.lost is not None and not self._closed:
            lost, directory, entry = self._root
            await lost.wait_ended()
            if lost is self._root[0]:
                guardian = _Guardian(self._loop, directory, entry)
                self._root = (guardian, directory, entry)
                self._client = guardian.client

    async def exit_of(self, pool_id: str) -> ProcessExit | None:
        """See :meth:`Launcher.exit_of`. The last 4096 exits of the tree are known.

        Cancellation: leaves nothing behind.
        """
        return await self._client.exit_of(pool_id)

    async def aclose(self) -> None:
        """See :meth:`Launcher.aclose`. In the root, everything in the tree has ended then, and the guardian too."""
        self._closed = True
        await self._loop.run_shielded(self._aclose)

    async def _aclose(self) -> None:
        with anyio.move_on_after(_PATIENCE):
            await self._client.end_all()
        self._client.close()
        if self._root is not None:
            await self._root[0].wait_ended()
