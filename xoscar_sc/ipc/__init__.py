"""Messages between pools: channels over transports.

A transport is a file that connects and listens (:mod:`unix`, :mod:`tcp`); a :class:`Channel` makes messages of its
bytes. Who comes from another program proves itself first (:mod:`greeting`), by :mod:`credentials`.
"""

from __future__ import annotations

from xoscar_sc.ipc import tcp
from xoscar_sc.ipc.channel import Answer, Channel, Segments
from xoscar_sc.ipc.credentials import TLS, Auth, Secret, find_secret, keep_secret
from xoscar_sc.ipc.flow import WINDOW, Flow
from xoscar_sc.ipc.greeting import AnySocket, admit, knock
from xoscar_sc.ipc.listener import Listener
from xoscar_sc.ipc.rundir import TreeDirectory
from xoscar_sc.ipc.shared import share
from xoscar_sc.ipc.side import Line, Side
from xoscar_sc.ipc.special import GuestChannel, PlainChannel, PlainGuestChannel, RelayChannel, is_outside
from xoscar_sc.ipc.talk import ChannelLine, Talk, dialogue_key
from xoscar_sc.ipc.tls import encrypt
from xoscar_sc.ipc.unix import check_peer, connect, listen, tune

__all__ = [
    "TLS",
    "WINDOW",
    "Answer",
    "AnySocket",
    "Auth",
    "Channel",
    "ChannelLine",
    "Flow",
    "GuestChannel",
    "Line",
    "Listener",
    "PlainChannel",
    "PlainGuestChannel",
    "RelayChannel",
    "Secret",
    "Segments",
    "Side",
    "Talk",
    "TreeDirectory",
    "admit",
    "check_peer",
    "connect",
    "dialogue_key",
    "encrypt",
    "find_secret",
    "is_outside",
    "keep_secret",
    "knock",
    "listen",
    "share",
    "tcp",
    "tune",
]
