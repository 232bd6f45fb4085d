"""Processes: start, kill, wait; bound to CPUs, and gone when the tree's root is gone.

What a process runs is none of this room's business: it gets a socket, and bytes.
"""

from __future__ import annotations

from xoscar_sc.launch.client import Process
from xoscar_sc.launch.local import Launcher, LocalLauncher
from xoscar_sc.launch.values import Method, ProcessExit, ProcessSpec, choose_method

__all__ = ["Launcher", "LocalLauncher", "Method", "Process", "ProcessExit", "ProcessSpec", "choose_method"]
