"""Messages between pools: channels over transports.

A transport is a file that connects and listens (:mod:`unix`); a :class:`Channel` makes messages of its bytes.
"""

from __future__ import annotations

from xoscar_sc.ipc.channel import Answer, Channel, Segments
from xoscar_sc.ipc.flow import WINDOW, Flow
from xoscar_sc.ipc.rundir import TreeDirectory
from xoscar_sc.ipc.shared import share
from xoscar_sc.ipc.side import Line, Side
from xoscar_sc.ipc.talk import ChannelLine, Talk, dialogue_key
from xoscar_sc.ipc.unix import Listener, check_peer, connect, tune

__all__ = [
    "WINDOW",
    "Answer",
    "Channel",
    "ChannelLine",
    "Flow",
    "Line",
    "Listener",
    "Segments",
    "Side",
    "Talk",
    "TreeDirectory",
    "check_peer",
    "connect",
    "dialogue_key",
    "share",
    "tune",
]
