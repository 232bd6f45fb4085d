"""Which message is legal when.

Either side of a connection says :class:`Hello` once, first, and then anything else in any order. A side that
wants to end the connection is closing: it opens nothing more, and waits for the answers that it is owed. The
peer learns of that only from the answers to what it sends meanwhile, so nothing that is legal while open is
wrong while closing; a second Hello always is.

The table is about what is *received*. That a Reply answers an open call is for the table of open calls to
say: the answer to a call that was given up crosses its Cancel, and is no error.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from xoscar_sc.errors import ProtocolError
from xoscar_sc.protocol.messages import (
    Call,
    Cancel,
    Cancelled,
    Credit,
    Demand,
    Dropped,
    End,
    Failed,
    Hello,
    Item,
    Memory,
    Message,
    Notice,
    Placed,
    Released,
    Reply,
    Started,
    Tell,
)


class State(enum.Enum):
    """How far a connection has come, as its receiving side sees it."""

    NEW = "before Hello"
    OPEN = "open"
    CLOSING = "closing"


_GOES_ON = {State.OPEN: State.OPEN, State.CLOSING: State.CLOSING}

TABLE: Final[Mapping[type[Message], Mapping[State, State]]] = MappingProxyType(
    {
        Hello: {State.NEW: State.OPEN},
        Call: _GOES_ON,
        Tell: _GOES_ON,
        Reply: _GOES_ON,
        Failed: _GOES_ON,
        Cancelled: _GOES_ON,
        Cancel: _GOES_ON,
        Notice: _GOES_ON,
        Credit: _GOES_ON,
        Item: _GOES_ON,
        Demand: _GOES_ON,
        Started: _GOES_ON,
        End: _GOES_ON,
        Memory: _GOES_ON,
        Placed: _GOES_ON,
        Released: _GOES_ON,
        Dropped: _GOES_ON,
    }
)
"""For each message, the states in which it is legal, and the state after it."""


def legal(state: State, message_type: type[Message]) -> State:
    """The state after a message of this type has come in.

    Raises:
        ProtocolError: it must not come now.
    """
    after = TABLE[message_type].get(state)
    if after is None:
        raise ProtocolError(f"{message_type.__name__} is not legal on a connection that is {state.value}")
    return after
