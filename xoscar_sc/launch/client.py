"""A launcher's side of the connection to its guardian: what was asked for, what runs, who waits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from xoscar_sc.errors import LaunchError
from xoscar_sc.launch import wire
from xoscar_sc.launch.values import ProcessExit, ProcessSpec
from xoscar_sc.loop import Loop, Slot

_PATIENCE = 5.0
"""Seconds that a guardian may take for what takes it milliseconds."""
_PACKETS = 64
"""Packets taken in one callback, so that others have their turn."""


class Waiters:
    """Any number of tasks that wait for one value."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._slots: set[Slot] = set()

    def set(self, value: object) -> None:
        """Give the value to those that wait now."""
        for slot in self._slots:
            slot.set(value)

    async def wait(self) -> Any:
        """Wait for the value."""
        slot = self._loop.slot()
        self._slots.add(slot)
        try:
            return await slot.wait()
        finally:
            self._slots.discard(slot)


class Process:
    """A process that a launcher has started."""

    def __init__(self, pool_id: str, pid: int, loop: Loop, kill: Callable[[str], None]) -> None:
        self.pool_id = pool_id
        self.pid = pid
        self.exit: ProcessExit | None = None
        """How it ended; None until that is known here."""
        self._kill = kill
        self._waiters = Waiters(loop)

    def __repr__(self) -> str:
        state = "running" if self.exit is None else self.exit.describe()
        return f"<Process {self.pool_id} pid={self.pid} {state}>"

    def kill(self) -> None:
        """Kill it, and all that it has started, by SIGKILL; not awaited, and harmless if it has ended."""
        if self.exit is None:
            self._kill(self.pool_id)

    async def wait(self) -> ProcessExit:
        """Wait until it has ended, and with it what it had started; returns at once if it has.

        Cancellation: the process runs on.
        """
        if self.exit is None:
            await self._waiters.wait()
        else:
            await checkpoint()
        assert self.exit is not None
        return self.exit

    def ended(self, how: ProcessExit) -> None:
        """Called by the launcher, once."""
        self.exit = how
        self._waiters.set(None)


class Client:
    """One connection to a guardian. The guardian kills what was started over it when it ends.

    Invariant: a process that the guardian has announced, and not yet reported as ended, is in ``_processes``.
    """

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.lost: LaunchError | None = None
        """Why the guardian cannot be reached any more; None while it can."""
        self._loop = loop
        self._sock = sock
        self._starting: dict[str, Slot] = {}
        self._processes: dict[str, Process] = {}
        self._watched: dict[str, Waiters] = {}
        self._writers: list[Callable[[], None]] = []
        loop.watch(sock.fileno(), self._readable)

    async def start(self, spec: ProcessSpec, channel: socket.socket) -> Process:
        """See :meth:`xoscar_sc.launch.Launcher.start`."""
        pool_id = spec.pool_id
        if pool_id in self._starting or pool_id in self._processes:
            raise LaunchError(f"the pool id {pool_id!r} is in use")
        slot = self._loop.slot()
        try:
            message = wire.encode_request(wire.Start(pool_id, spec.name[:1024], spec.method, spec.cpus))
            configuration = wire.write_configuration(spec)
            try:
                await self._send(message, channel.fileno(), configuration)
            finally:
                os.close(configuration)
        except (OSError, ValueError) as exc:
            raise LaunchError(
                f"the process {spec.name!r} cannot be described to the guardian: {exc}"
            ) from exc
        self._starting[pool_id] = slot
        channel.close()
        try:
            answer = await slot.wait()
        except BaseException:
            # The kill comes first, and is synchronous: it is heard whatever becomes of the wait.
            self._kill(pool_id)
            await self._loop.run_shielded(lambda: self._wait_gone(slot))
            raise
        finally:
            del self._starting[pool_id]
        if isinstance(answer, LaunchError):
            raise LaunchError(str(answer), last_lines=answer.last_lines)
        assert isinstance(answer, Process)
        return answer

    async def _wait_gone(self, slot: Slot) -> None:
        with anyio.move_on_after(_PATIENCE):
            answer = await slot.wait()
            if isinstance(answer, Process):
                await answer.wait()

    async def exit_of(self, pool_id: str) -> ProcessExit | None:
        """See :meth:`xoscar_sc.launch.Launcher.exit_of`."""
        if process := self._processes.get(pool_id):
            return await process.wait()
        try:
            await self._send(wire.encode_request(wire.Watch(pool_id)))
        except (LaunchError, ValueError):  # nobody to ask, or no id
            return None
        found: ProcessExit | None = await self._watched.setdefault(pool_id, Waiters(self._loop)).wait()
        return found

    async def end_all(self) -> None:
        """Kill what still runs, and wait for its end."""
        for process in list(self._processes.values()):
            process.kill()
        for process in list(self._processes.values()):
            await process.wait()

    def close(self) -> None:
        """End the connection, and so everything that was started over it. Who still waits is told."""
        self._lose(LaunchError("the launcher was closed"))

    def _kill(self, pool_id: str) -> None:
        if self.lost is None:
            try:
                wire.send(self._sock, wire.encode(wire.Kill(pool_id)))
            except BlockingIOError:
                self._when_writable(lambda: self._kill(pool_id))
            except OSError:
                pass  # the guardian is gone, and all of its processes with it

    async def _send(self, packet: bytes, *descriptors: int) -> None:
        while True:
            if self.lost is not None:
                raise LaunchError(str(self.lost), last_lines=self.lost.last_lines)
            try:
                wire.send(self._sock, packet, descriptors)
            except BlockingIOError:
                slot = self._loop.slot()
                self._when_writable(partial(slot.set, None))
                await slot.wait()
            except ConnectionError:
                self._readable()  # up to the end of the connection, where it may say why
            else:
                return

    def _when_writable(self, callback: Callable[[], None]) -> None:
        self._writers.append(callback)
        self._loop.watch_writable(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        writers, self._writers = self._writers, []
        for callback in writers:
            callback()

    def _readable(self) -> None:
        for _ in range(_PACKETS):
            if self.lost is not None:
                return
            try:
                packet, _ = wire.receive(self._sock)
            except BlockingIOError:
                return
            if packet:
                self._heard(wire.decode_answer(packet))
            else:
                self._kill_groups()
                self._lose(LaunchError("the guardian process died, and with it all that it had started"))

    def _heard(self, answer: wire.Answer) -> None:
        match answer:
            case wire.Started(pool_id, pid):
                process = Process(pool_id, pid, self._loop, self._kill)
                self._processes[pool_id] = process
                self._answer(pool_id, process)
            case wire.NotStarted(pool_id, reason):
                self._answer(pool_id, LaunchError(reason))
            case wire.Exited(pool_id, exit_code, number, last_lines):
                how = ProcessExit(exit_code, number, last_lines)
                ended = self._processes.pop(pool_id, None)
                if ended is not None:
                    ended.ended(how)
                self._found(pool_id, how)
            case wire.Unknown(pool_id):
                self._found(pool_id, None)
            case wire.Refused(reason, last_lines):
                self._lose(LaunchError(reason, last_lines=last_lines))

    def _answer(self, pool_id: str, answer: Process | LaunchError) -> None:
        if slot := self._starting.get(pool_id):
            slot.set(answer)

    def _found(self, pool_id: str, how: ProcessExit | None) -> None:
        if waiters := self._watched.pop(pool_id, None):
            waiters.set(how)

    def _kill_groups(self) -> None:
        """The processes die with their guardian; what they had started themselves, in their groups, does not."""
        for process in self._processes.values():
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)

    def _lose(self, why: LaunchError) -> None:
        if self.lost is not None:
            return
        self.lost = why
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        for slot in self._starting.values():
            slot.set(why)
        for process in self._processes.values():
            process.ended(ProcessExit(None, signal.SIGKILL, (str(why),)))
        for pool_id in list(self._watched):
            self._found(pool_id, None)
        self._processes.clear()
        self._writable()
