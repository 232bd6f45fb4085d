"""Every wait of the runtime that has a bound, in one place."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """Bounds of the runtime's own waits, in seconds. Set at the root, they are passed down the tree."""

    start: float = 60.0
    """From asking for a pool until it is ready."""
    shutdown: float = 5.0
    """From asking a pool to end until it is killed."""
    cancel: float = 1.0
    """From cancelling a call until its caller leaves all the same."""
    greeting: float = 5.0
    """From accepting a connection until the peer has said who it is."""
    obituary: float = 1.0
    """From the end of a connection until it is known how the process behind it ended."""
    silence: float = 15.0
    """From the last sign of life of another program's host until the connection to it is given up."""
    heartbeat: float = 5.0
    """Between two questions to another program whether it still does anything; 0 for none."""
    lease: float = 30.0
    """From the end of a connection to another program until what belongs to it is given up."""
    kill: float = 5.0
    """From killing a process until the kernel has taken it away."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}= is {getattr(self, name)!r}; it is a number of seconds, 0 or more")
