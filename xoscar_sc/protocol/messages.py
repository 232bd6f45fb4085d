"""What one pool says to another: a union of Structs, tagged by a small integer.

Every message is one msgpack array: the tag, then the fields in order. A field may be added at the end with a
default; anything else is a new :data:`VERSION`.

``body`` is what :mod:`xoscar_sc.serialize` made of the user's values; this room never looks inside. A body
that is too large for one frame travels as the frame's first segment instead, and ``body`` is empty.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from xoscar_sc.protocol.failures import Failure

VERSION = 1
"""Both sides of a connection must have the same."""
SHARED = 1 << 32
"""Memory with a greater id is shared by many: its receiver only reads it, and any part may be named at any time."""

Identifier: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=1024)]


Link: TypeAlias = tuple[Name, Name, Identifier]
"""A call that waits: the actor's uid, its method, and a number that is unique in the actor's pool."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """The base of all messages."""


class Hello(Message, tag=0):
    """The first message in each direction; nothing else is legal before it."""

    version: int
    tree: Name
    """The tree that the sender belongs to: pools of two trees do not talk."""
    address: Name
    """Where the sender can be reached."""
    pool: Name
    pid: int


class Call(Message, tag=1):
    """Run a method, and answer with :class:`Reply` or :class:`Failed`."""

    id: Identifier
    """Chosen by the caller, unique among its open calls on this connection."""
    uid: Name
    """The actor; empty for the pool itself."""
    incarnation: Identifier
    """Which actor of that uid; 0 for whichever it is."""
    method: Name
    body: bytes
    timeout: float | None = None
    """Seconds until the caller's deadline."""
    chain: tuple[Link, ...] = ()
    """The calls that wait for this one, outermost first."""
    batch: bool = False
    """The body holds a list of calls, whose results are answered as a list."""
    window: Identifier = 0
    """Values of a stream that may be under way, before the answer; 0 where none is expected."""
    dialogue: bool = False
    """Both sides go on talking until the answer: see :class:`Started`."""
    plain: bool = False
    """Nothing of the answer may be pickled."""


class Tell(Message, tag=2):
    """Run a method; nobody waits."""

    uid: Name
    incarnation: Identifier
    method: Name
    body: bytes
    batch: bool = False


class Reply(Message, tag=3):
    """A call's value."""

    id: Identifier
    body: bytes


class Failed(Message, tag=4):
    """A call's exception."""

    id: Identifier
    failure: Failure


class Cancelled(Message, tag=5):
    """A call has ended because of :class:`Cancel`, or of its deadline."""

    id: Identifier


class Cancel(Message, tag=6):
    """The caller no longer wants this call's value; it waits for the end of the call."""

    id: Identifier


class Notice(Message, tag=7):
    """Something happened that a nursery of the receiver's owns: see :mod:`xoscar_sc.events`."""

    nursery: Identifier
    body: bytes


class Credit(Message, tag=8):
    """Tells to an actor have been executed: so many more may be sent."""

    uid: Name
    count: Identifier


class Item(Message, tag=9):
    """One value of a call's stream."""

    id: Identifier
    body: bytes
    mine: bool = False
    """The call is the sender's: this goes to the callee, in a dialogue."""


class Demand(Message, tag=10):
    """So many values of a call's stream have been read: as many more may be sent."""

    id: Identifier
    count: Identifier
    mine: bool = True
    """The call is the sender's."""


class Started(Message, tag=11):
    """The callee takes part in a dialogue: the caller may enter its block, with this value."""

    id: Identifier
    body: bytes
    types: bytes = b""
    """What the callee sends and receives, if that is declared."""


class End(Message, tag=12):
    """One side of a dialogue sends nothing more through the stream."""

    id: Identifier
    mine: bool
    """The call is the sender's."""
    reads: bool = False
    """It still takes what comes."""


class Memory(Message, tag=13):
    """A segment of memory that parts of messages will lie in; its descriptor comes with the bytes of this message.

    The sender uses it when the receiver has said, with :class:`Released`, that it has it. Id 0 stands for no segment:
    it comes first, without a descriptor, and is answered when the receiver looks for descriptors.
    """

    id: Identifier
    """Chosen by the sender, and never used again on this connection."""
    size: Identifier
    """In bytes."""
    passed: bool = False
    """It is shared, and the sender has it from another itself."""


class Placed(Message, tag=14):
    """Another message, some of whose segments lie in memory."""

    places: tuple[tuple[Identifier, Identifier], ...]
    """For each segment, the memory at whose beginning it lies, and its length in bytes; 0 and 0 for one that comes
    through the connection."""
    message: bytes
    """One that has a body."""
    offsets: tuple[Identifier, ...] = ()
    """Where in its memory each of them begins, if one of them does not at the beginning."""


class Released(Message, tag=15):
    """The receiver of memory does not use it, or no longer: its owner may write there."""

    ids: tuple[Identifier, ...]
    declined: bool = False
    """The receiver has no room for it, and does not know it."""


class Dropped(Message, tag=16):
    """The owner of memory will not use it any more."""

    id: Identifier
    uses: Identifier = 0
    """Shared memory: how many places have been in it; the messages of some may still be on their way."""


AnyMessage: TypeAlias = (
    Hello
    | Call
    | Tell
    | Reply
    | Failed
    | Cancelled
    | Cancel
    | Notice
    | Credit
    | Item
    | Demand
    | Started
    | End
    | Memory
    | Placed
    | Released
    | Dropped
)
