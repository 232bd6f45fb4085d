"""The root of a tree: the runtime of the program that opens the first nursery.

The first nursery of an event loop makes it, the last one to close ends it; in between, nurseries share it. What a
tree of processes needs beyond a runtime, a directory for its sockets and a guardian, is made when the first pool
starts.
"""

from __future__ import annotations

import secrets
import signal
import threading
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType

import anyio
from anyio.lowlevel import RunVar

from xoscar_sc.errors import LaunchError
from xoscar_sc.ipc import TreeDirectory
from xoscar_sc.launch import Launcher, LocalLauncher
from xoscar_sc.loop import Loop, open_loop
from xoscar_sc.runtime import Place, Runtime, check_library, running_runtime, set_running_runtime
from xoscar_sc.timeouts import Timeouts

_root: RunVar[Root | None] = RunVar("xoscar_sc.root", default=None)


class Root:
    """See the top of this file."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._directory = TreeDirectory()
        self._opened = anyio.Event()
        self._preparing = anyio.Lock()
        self._loop: Loop
        self.runtime: Runtime
        self.users = 0

    async def open(self, timeouts: Timeouts) -> None:
        """Start the runtime."""
        try:
            self._loop = await self._stack.enter_async_context(open_loop())
            pool_id = f"root-{secrets.token_hex(3)}"
            place = Place(self._directory.tree, str(self._directory.path), "root", pool_id, root="")
            self.runtime = Runtime(self._loop, place, timeouts, self._prepare)
            self.runtime.make_directory = self._directory.create
            set_running_runtime(self.runtime)
            self._stack.push_async_callback(self._close)
            self._heed_sigterm()
        finally:
            self._opened.set()

    async def wait_opened(self) -> None:
        """Wait until another task has opened it."""
        await self._opened.wait()

    async def _prepare(self) -> Launcher:
        """Make what a tree of processes needs."""
        async with self._preparing:
            launcher = self.runtime.launcher
            if launcher is None:
                self._directory.create()
                try:
                    self.runtime.peers.listen()
                    launcher = await LocalLauncher.open(self._loop, directory=str(self._directory.path))
                except BaseException as exc:
                    self.runtime.peers.stop_listening()
                    self._directory.remove()
                    if isinstance(exc, OSError):
                        raise LaunchError(f"no socket can be made for the tree: {exc}") from exc
                    raise
                self.runtime.launcher = launcher
            return launcher

    def _heed_sigterm(self) -> None:
        """Let SIGTERM be a cancel, as Ctrl-C is, unless the program has a handler of its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return

        def terminate(_signum: int, _frame: FrameType | None) -> None:
            self._loop.soon(partial(self.runtime.exit_with, SystemExit(128 + signal.SIGTERM)))

        signal.signal(signal.SIGTERM, terminate)
        self._stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)

    async def _close(self) -> None:
        runtime = self.runtime
        await self._loop.run_shielded(partial(runtime.end_actors, cancel=True))
        runtime.closed = True
        if running_runtime() is runtime:
            set_running_runtime(None)
        if runtime.launcher is not None:
            await runtime.launcher.aclose()
        runtime.peers.close()
        self._directory.remove()

    async def aclose(self) -> None:
        """End the runtime; nothing of the tree is left then."""
        await self._stack.aclose()


async def acquire(timeouts: Timeouts) -> Runtime:
    """The runtime of this event loop; the first to ask makes it."""
    root = _root.get()
    if root is None:
        runtime = running_runtime()
        if runtime is not None and not runtime.is_root:
            check_library(runtime.loop, "a pool nursery")
            return runtime
        root = Root()
        root.users = 1
        _root.set(root)
        try:
            await root.open(timeouts)
        except BaseException:
            _root.set(None)
            await root.aclose()
            raise
        return root.runtime
    await root.wait_opened()
    if _root.get() is not root:  # it could not be opened, or is being closed already
        return await acquire(timeouts)
    root.users += 1
    return root.runtime


async def release(runtime: Runtime) -> None:
    """A nursery does not need its runtime any more; the last to say so ends it."""
    root = _root.get()
    if root is None or root.runtime is not runtime:
        return
    root.users -= 1
    if not root.users:
        _root.set(None)
        await root.aclose()
