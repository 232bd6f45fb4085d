"""How often a supervisor restarts before it gives up. Pure: ``now`` is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from xoscar_sc.supervise.spec import check_seconds


@dataclass(frozen=True, slots=True)
class Intensity:
    """How many restarts a supervisor may make before it gives up.

    Source: OTP's ``intensity`` and ``period``; the defaults are Elixir's.

    Raises:
        TypeError, ValueError: what is wrong with it.
    """

    restarts: int = 3
    """Restarts admitted within one period; 0 refuses the first."""
    period: float = 5.0
    """Length of the sliding window, in seconds."""

    def __post_init__(self) -> None:
        given: object = self.restarts
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"intensity= is {given!r}; it is a number of restarts")
        if given < 0:
            raise ValueError(f"intensity= is {given}; it is 0 or more")
        check_seconds(self.period, "period")
        if not self.period:
            raise ValueError("period= is 0; it is more")

    def admit(self, history: tuple[float, ...], now: float) -> tuple[float, ...] | None:
        """Add a restart at ``now`` to ``history`` (newest first), or None if it is one too many."""
        recent = (now, *(at for at in history if at > now - self.period))
        return recent if len(recent) <= self.restarts else None
