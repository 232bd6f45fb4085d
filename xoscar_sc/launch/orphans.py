"""Processes that the guardian has not started: what pools have started themselves, and have left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

POOL_VARIABLE = "XSC_POOL"
"""The environment variable that tells to which pool a process belongs."""
PLACEHOLDER = "-" * 100
"""Its value in the guardian: room for any pool's id."""
TREE_VARIABLE = "XSC_TREE"
"""The environment variable that all processes of a guardian have in common."""


def children() -> list[int]:
    """The children of this process, which has one thread.

    A child that ends at this moment can hide another one: so it is looked twice, and whoever must not miss any looks
    again after each end.
    """
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return sorted({int(pid) for _ in range(2) for pid in path.read_bytes().split()})
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in _pids() if _parent_of(pid) == os.getpid()]


def _pids() -> list[int]:
    """The processes of this pid namespace; none if /proc shows another one, whose numbers mean nothing here."""
    if os.readlink("/proc/self") != str(os.getpid()):
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def variable_of(pid: int, name: str) -> str | None:
    """A variable in the environment of a process: ``""`` if it has none, or cannot be read; None if all is empty."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    prefix = f"{name}=".encode()
    values = (text[len(prefix) :] for text in environment.split(b"\0") if text.startswith(prefix))
    return next(values, b"").decode(errors="replace") if environment else None


def group_of(pid: int) -> int:
    """The process group of a process; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def kill(pid: int) -> bool:
    """Kill a child, or with a negative number a group; False if it is gone, or belongs to somebody else."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def reap() -> bool:
    """Collect all children that have ended; False if there are no children at all."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not pid:
            return True


def kill_all(pause: Callable[[], None], patience: float) -> None:
    """Kill every child, and whoever becomes one by that, until none is left.

    Args:
        pause: waits for the end of a child, or a few milliseconds.
        patience: seconds to try; what hangs in the kernel, or is another user's, is left then.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until:
        pids = children()
        killed = [pid for pid in pids if kill(pid)]
        if not reap() or (pids and not killed):
            return
        pause()


def kill_tree(tree: str) -> None:
    """Kill what a guardian that has been killed has left behind, as far as it shows in the environment."""
    seen: set[int] = set()
    while found := {pid for pid in _pids() if pid not in seen and variable_of(pid, TREE_VARIABLE) == tree}:
        for pid in found:
            kill(pid)
        seen |= found
