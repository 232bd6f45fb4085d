"""What a process is started from, and how it ended."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Method: TypeAlias = Literal["fork", "exec"]
"""Start by a fork of the warm guardian, or by a fresh interpreter."""

READ_AT_LOAD_TIME = (
    "GCONV_PATH",
    "GLIBC_",
    "LANG",
    "LC_",
    "LD_",
    "LOCPATH",
    "MALLOC_",
    "OPENSSL_",
    "PYTHON",
    "TCMALLOC_",
)
"""How the names begin of variables that the linker, the C library or the interpreter reads when it is loaded."""

CRASHES = frozenset(
    {
        signals.SIGABRT,
        signals.SIGBUS,
        signals.SIGFPE,
        signals.SIGILL,
        signals.SIGSEGV,
        signals.SIGSYS,
        signals.SIGTRAP,
    }
)
"""Signals that a process mostly brings upon itself."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to start."""

    name: str
    """For people; its first 15 bytes are what ``top`` and ``ps`` show."""
    pool_id: str
    """Unique among all that the tree ever starts: 1 to 100 printable ASCII characters, no blank."""
    payload: bytes
    """What the process is to be told; of any size."""
    env: Mapping[str, str]
    """Its whole environment, to which ``XSC_POOL`` and ``XSC_TREE`` are added."""
    cwd: str
    sys_path: tuple[str, ...]
    cpus: tuple[int, ...] | None = None
    """The CPUs it is bound to; None for those of the root."""
    method: Method = "fork"


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """How a process ended. It exited, or a signal ended it; if neither is given, nobody knows."""

    exit_code: int | None
    signal: int | None
    last_lines: tuple[str, ...] = ()
    """The last lines that it wrote to stderr."""

    def describe(self) -> str:
        """What happened, for a sentence that begins with the process's name."""
        if self.exit_code is not None:
            return f"exited with code {self.exit_code}"
        if self.signal is None:
            return "ended, and how is not known"
        return f"{'crashed' if self.signal in CRASHES else 'was killed'} by {_signal_name(self.signal)}"


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def choose_method(env_before: Mapping[str, str], env_after: Mapping[str, str]) -> Method:
    """``"exec"`` if the environments differ in what is read only at load time, else ``"fork"``.

    Args:
        env_before: what the guardian was started with, mostly ``os.environ``.
        env_after: what the process is to have.
    """

    def relevant(env: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in env.items() if name.startswith(READ_AT_LOAD_TIME)}

    return "fork" if relevant(env_before) == relevant(env_after) else "exec"
