"""What bytes mean, and which message is legal now. Pure: no socket, no clock, no task, no randomness.

A driver receives into a :class:`Decoder`, gives each message that comes out to :func:`decode`, and asks
:func:`legal` before it acts; the way out is :func:`encode`, then :func:`frame` or :func:`bulk`.
"""

from xoscar_sc.protocol.addresses import (
    MAX_UNIX_PATH,
    ActorId,
    Address,
    LocalAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from xoscar_sc.protocol.codec import decode, encode
from xoscar_sc.protocol.failures import Failure
from xoscar_sc.protocol.framing import (
    MAX_FRAME,
    MAX_MESSAGE,
    MAX_SEGMENTS,
    MAX_TRANSFERS,
    PIECE_SIZE,
    Decoder,
    Inbound,
    Segment,
    bulk,
    frame,
)
from xoscar_sc.protocol.messages import (
    VERSION,
    AnyMessage,
    Call,
    Cancel,
    Cancelled,
    Credit,
    Demand,
    Failed,
    Hello,
    Identifier,
    Item,
    Link,
    Message,
    Name,
    Notice,
    Reply,
    Tell,
)
from xoscar_sc.protocol.states import TABLE, State, legal

__all__ = [
    "MAX_FRAME",
    "MAX_MESSAGE",
    "MAX_SEGMENTS",
    "MAX_TRANSFERS",
    "MAX_UNIX_PATH",
    "PIECE_SIZE",
    "TABLE",
    "VERSION",
    "ActorId",
    "Address",
    "AnyMessage",
    "Call",
    "Cancel",
    "Cancelled",
    "Credit",
    "Decoder",
    "Demand",
    "Failed",
    "Failure",
    "Hello",
    "Identifier",
    "Inbound",
    "Item",
    "Link",
    "LocalAddress",
    "Message",
    "Name",
    "Notice",
    "Reply",
    "Segment",
    "State",
    "TcpAddress",
    "Tell",
    "UnixAddress",
    "bulk",
    "decode",
    "encode",
    "frame",
    "legal",
    "parse_address",
]
