"""The guardian: forks a tree's pools, reaps them, and kills what is left when the root has gone.

It is the parent of every pool of the tree, whichever pool asked for it, and adopts what their processes leave
behind. Its loop serves connections (requests, see :mod:`~xoscar_sc.launch.wire`), the ends of children, and what
pools write to stderr. It never blocks, and never runs a user's code: that happens in its forks, which leave the
loop by :exc:`~xoscar_sc.launch.child.Forked`.

The life of a process here::

    start ──> starting ──> running ──> ending ──> remembered
                  └─────────────────────┘

- *starting*: forked, until it says why it cannot run its entry, or closes the pipe for that without a word.
- *ending*: reaped, its group killed, and killed what belonged to it; until all of that has ended too.
- *remembered*: its exit is told to whoever asks, for a while.

Invariants: a process is in ``_pools`` from its fork until it is reaped, and as long its pid cannot be another's; so
only pids in ``_pools`` are killed. What was started over a connection is killed when the connection ends.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import select
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from xoscar_sc.launch import child, orphans, system, wire
from xoscar_sc.launch.connection import Connection
from xoscar_sc.launch.stderr import Copier, Pipe, Tail

PRELOAD = ("msgspec", "trio", "anyio")
"""What every pool needs, besides the entry's own module."""
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
REMEMBERED = 4096
"""Exits kept."""
HANGING = 0.5
"""Seconds after which an exit is told although something that belonged to the process still dies."""
SOON = 0.005
"""Seconds until a process is looked at again that showed no environment."""
PATIENCE = 10.0
"""Seconds to end everything that is left at the end."""


@dataclass(eq=False, slots=True)
class _Pool:
    request: wire.Start
    pid: int
    owner: Connection
    connection: Connection
    """The process's own."""
    stderr: Pipe
    report: int
    """See :class:`child.Job`; -1 after the start."""
    reason: str = ""
    """Why it was not started."""
    exit_code: int | None = None
    signal: int | None = None
    tell_at: float = 0.0
    """When its exit is told at the latest."""
    watchers: set[Connection] = field(default_factory=set)


class Guardian:
    """The loop and its tables."""

    def __init__(self, root: socket.socket, parent: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._stderr = Copier(self._selector)
        self._connections: set[Connection] = set()
        self._pools: dict[str, _Pool] = {}
        self._by_pid: dict[int, _Pool] = {}
        self._ending: dict[str, _Pool] = {}
        self._sweep_at: float | None = None
        self._unclear: set[int] = set()
        """Children whose environment was empty when last seen, as it is in the midst of an exec."""
        self._exits: dict[str, bytes] = {}
        """What is remembered: the answers that tell it, oldest first."""
        self._wakeup = _wakeup_pipe()
        self._read(self._wakeup, self._reap)
        self._root = self._connect(root)
        # A fork of the root may hold a copy of its socket: the end of the connection is not enough.
        with contextlib.suppress(ProcessLookupError):
            self._read(os.pidfd_open(parent), lambda _: self._root.close())
        if os.getppid() != parent:
            self._root.close()

    # The loop

    def serve(self) -> None:
        """Serve until the root has gone.

        Raises:
            child.Forked: this is a fork.
        """
        while self._root.open:
            timeout = None if self._sweep_at is None else max(0.0, self._sweep_at - time.monotonic())
            for key, events in self._selector.select(timeout):
                key.data(events)
            if self._sweep_at is not None and self._sweep_at <= time.monotonic():
                self._sweep()

    def end(self) -> None:
        """Kill everything, and pass on what was written to stderr."""
        ends = select.poll()
        ends.register(self._wakeup, select.POLLIN)

        def pause() -> None:
            ends.poll(20)
            _drain(self._wakeup)

        for pool_id in self._pools:
            self._kill(pool_id)
        orphans.kill_all(pause, PATIENCE)
        self._stderr.finish_all()

    def _read(self, fd: int, callback: Callable[[int], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _connect(self, sock: socket.socket) -> Connection:
        connection = Connection(sock, self._selector, self._heard, self._disconnected)
        self._connections.add(connection)
        return connection

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        for pool in self._pools.values():
            pool.watchers.discard(connection)
        for pool_id in connection.pools:
            self._kill(pool_id)

    def _heard(self, connection: Connection, request: wire.Request, descriptors: list[int]) -> None:
        if isinstance(request, wire.Start):
            self._start(connection, request, descriptors)
            return
        wire.close(*descriptors)
        if isinstance(request, wire.Kill):
            self._kill(request.pool_id)
        else:
            self._watch(connection, request.pool_id)

    # Starting, killing, watching

    def _start(self, owner: Connection, request: wire.Start, descriptors: list[int]) -> None:
        theirs, ours = descriptors, list[int]()
        try:
            if len(descriptors) != wire.DESCRIPTORS:
                raise OSError(errno.EMFILE, "its descriptors did not get through")
            if request.pool_id in self._pools or request.pool_id in self._ending:
                raise OSError(errno.EEXIST, "there is a pool of this id")
            for pair in (_socket_pair, _pipe, _pipe):
                our_end, their_end = pair()
                ours.append(our_end)
                theirs.append(their_end)
            pid = os.fork()
        except OSError as exc:
            wire.close(*theirs, *ours)
            owner.tell(
                wire.NotStarted(request.pool_id, f"the process {request.name!r} was not started: {exc}")
            )
            return
        if pid == 0:
            wire.close(*ours)
            for connection in self._connections:
                connection.abandon()
            self._selector.close()
            self._stderr.abandon()
            raise child.Forked(child.Job(request, *theirs))
        wire.close(*theirs)
        with contextlib.suppress(OSError):  # the fork does the same; one of us comes first
            os.setpgid(pid, pid)
        sock, stderr, report = ours
        pool = _Pool(request, pid, owner, self._connect(socket.socket(fileno=sock)), Pipe(stderr), report)
        self._pools[request.pool_id] = self._by_pid[pid] = pool
        self._exits.pop(request.pool_id, None)
        owner.pools.add(request.pool_id)
        self._read(report, lambda _: self._read_report(pool))
        self._stderr.add(pool.stderr)

    def _read_report(self, pool: _Pool) -> None:
        if pool.report < 0:
            return
        pool.reason = os.read(pool.report, 4096).decode(errors="replace")
        self._selector.unregister(pool.report)
        os.close(pool.report)
        pool.report = -1
        if not pool.reason:
            pool.owner.tell(wire.Started(pool.request.pool_id, pool.pid))

    def _kill(self, pool_id: str) -> None:
        """Kill a pool, and those that were started from it."""
        if pool := self._pools.get(pool_id):
            orphans.kill(-pool.pid)
            orphans.kill(pool.pid)
            for started in pool.connection.pools:
                self._kill(started)

    def _watch(self, connection: Connection, pool_id: str) -> None:
        if pool := self._pools.get(pool_id) or self._ending.get(pool_id):
            pool.watchers.add(connection)
        else:
            connection.tell(self._exits.get(pool_id) or wire.Unknown(pool_id))

    # Ends

    def _reap(self, _events: int) -> None:
        _drain(self._wakeup)
        while True:
            try:
                # Not reaped yet: until it is, its pid is also its group's, and no other's.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            pool = self._by_pid.pop(found.si_pid, None)
            if pool is not None:
                orphans.kill(-pool.pid)
            os.waitpid(found.si_pid, 0)
            if pool is not None:
                exited = found.si_code == os.CLD_EXITED
                pool.exit_code, pool.signal = (found.si_status, None) if exited else (None, found.si_status)
                self._bury(pool)
        self._sweep()

    def _bury(self, pool: _Pool) -> None:
        self._read_report(pool)
        self._stderr.finish(pool.stderr)
        pool.connection.close()
        pool.tell_at = time.monotonic() + HANGING
        self._ending[pool.request.pool_id] = self._pools.pop(pool.request.pool_id)

    def _sweep(self) -> None:
        """Kill what pools that have ended have left behind; tell the exits of those that have left nothing."""
        groups = {pool.pid: pool_id for pool_id, pool in self._ending.items()}
        left: set[str] = set()
        unclear: set[int] = set()
        for pid in orphans.children():
            if pid in self._by_pid:
                continue
            pool_id = orphans.variable_of(pid, orphans.POOL_VARIABLE)
            if pool_id is None:
                unclear.add(pid)
            for known in (pool_id, groups.get(orphans.group_of(pid))):
                if known in self._ending or known in self._exits:
                    orphans.kill(pid)
                    left.add(known)
        now = time.monotonic()
        for pool_id, pool in list(self._ending.items()):
            if pool_id not in left or pool.tell_at <= now:
                del self._ending[pool_id]
                self._tell_exit(pool)
        again = [now + SOON] if unclear - self._unclear else []
        self._sweep_at = min([pool.tell_at for pool in self._ending.values()] + again, default=None)
        self._unclear = unclear

    def _tell_exit(self, pool: _Pool) -> None:
        request = pool.request
        pool.owner.pools.discard(request.pool_id)
        if pool.reason:
            reason = f"the process {request.name!r} was not started: {pool.reason}"
            pool.owner.tell(wire.NotStarted(request.pool_id, reason))
            answer = wire.encode(wire.Unknown(request.pool_id))
        else:
            answer = wire.encode(
                wire.Exited(request.pool_id, pool.exit_code, pool.signal, pool.stderr.tail.lines())
            )
            self._exits[request.pool_id] = answer
            if len(self._exits) > REMEMBERED:
                del self._exits[next(iter(self._exits))]
            pool.watchers.add(pool.owner)
        for connection in pool.watchers:
            connection.tell(answer)


def _socket_pair() -> tuple[int, int]:
    ours, theirs = wire.socket_pair()
    return ours.detach(), theirs.detach()


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    return reading, writing


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _wakeup_pipe() -> int:
    """A pipe that becomes readable when a child ends."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _preload(root: socket.socket, entry: str) -> child.Entry:
    """Import what pools need, and give the entry; tell the root if that fails, and end."""
    try:
        for module in PRELOAD:
            importlib.import_module(module)
        return child.load(entry)
    except BaseException:  # a module may raise anything, and the root is told of it
        tail = Tail()
        tail.add(traceback.format_exc().encode(errors="replace"))
        reason = f"the guardian process cannot load {entry!r}: {tail.lines()[-1]}"
        wire.send(root, wire.encode(wire.Refused(reason, tail.lines())))
        os._exit(child.FAILED)


def _serve(root: socket.socket, parent: int) -> child.Job | None:
    """Be the guardian to the end, which gives None; or to the fork that asks for a job, which is given."""
    guardian = Guardian(root, parent)
    try:
        guardian.serve()
    except child.Forked as forked:
        return forked.job
    except Exception:  # a fault of ours: everything must end all the same
        traceback.print_exc()
    guardian.end()
    return None


def _remove(directory: str) -> None:
    """Remove a directory, if there is nothing in it but sockets and files."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for entry in os.scandir(fd):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=fd)
        os.rmdir(directory)


def main(sock: int, parent: int, directory: str, entry: str) -> NoReturn:
    """Run the guardian.

    Args:
        sock: the root's connection.
        parent: the root's pid.
        directory: see :meth:`~xoscar_sc.launch.LocalLauncher.open`.
        entry: the same.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # in the place of what the root has closed
        os.set_inheritable(fd, True)
    os.close(fd)
    signals = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    system.set_name("xsc-guardian")
    system.adopt_orphans()
    os.set_inheritable(sock, False)
    root = socket.socket(fileno=sock)
    function = _preload(root, entry)
    mark = system.EnvironmentMark(orphans.POOL_VARIABLE, orphans.PLACEHOLDER)
    inheritance = child.Inheritance(os.getpid(), entry, function, signals, mark)
    gc.collect()
    gc.freeze()
    job = _serve(root, parent)
    if job is not None:
        child.run_forked(job, inheritance)
    if directory:
        _remove(directory)
    os._exit(0)
