"""What streams raise. Each is both trio's exception and anyio's: either may be caught, on either loop."""

from __future__ import annotations

import anyio
import trio


class WouldBlock(trio.WouldBlock, anyio.WouldBlock):
    """It cannot be done without waiting."""


class EndOfStream(trio.EndOfChannel, anyio.EndOfStream):
    """The other side sends no more."""


class ClosedResourceError(trio.ClosedResourceError, anyio.ClosedResourceError):
    """It was closed from here."""


class BrokenResourceError(trio.BrokenResourceError, anyio.BrokenResourceError):
    """The other side reads no more."""
