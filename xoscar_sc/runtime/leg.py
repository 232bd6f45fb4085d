"""The way of one client's messages from its door to one pool of the tree, and back.

A leg is a connection of its own. So nothing of a client's has to be told from others' on the way: numbers, credits and
order are the client's, the pool sees a peer that comes and goes like any other, and when the client has gone its calls
are cancelled because their connection has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from xoscar_sc.errors import ActorDied, AuthenticationError, ConnectionLost, MailboxFull, PoolDied
from xoscar_sc.ipc import Channel, RelayChannel, Segments, connect, dialogue_key
from xoscar_sc.protocol import (
    AnyMessage,
    Call,
    Cancel,
    Cancelled,
    Credit,
    Failed,
    Reply,
    Tell,
    UnixAddress,
    parse_address,
)
from xoscar_sc.runtime.lasting import Gone

if TYPE_CHECKING:
    from xoscar_sc.runtime.guest import Guest
    from xoscar_sc.runtime.names import Found

_GONE = f"{Gone.__module__}.{Gone.__qualname__}"
"""What a pool answers that has not executed a call, since its actor is being restarted."""
MOST = 1 << 32
"""Bytes that may wait for a pool that does not read."""


class Leg:
    """See the top of this file."""

    def __init__(self, guest: Guest, address: str) -> None:
        self._guest = guest
        self._runtime = guest.runtime
        self.address = address
        self._channel: RelayChannel | None = None
        self._waiting: list[tuple[AnyMessage, Segments, str]] = []
        """What has come before the connection was there."""
        self._calls: dict[int, str] = {}
        """The client's open calls over there, and the uids of their actors."""
        self._kept: dict[int, tuple[Call, Segments, int]] = {}
        """Open calls of actors that are restarted, as they came, and in which of its lives the actor was."""
        self._owed: dict[str, int] = {}
        """Tells to each actor for which the pool has not given the credit back."""
        self._ended = False
        self._runtime.loop.spawn(self._open)

    async def _open(self) -> None:
        runtime = self._runtime
        parsed = parse_address(self.address)
        assert isinstance(parsed, UnixAddress)
        try:
            sock = await connect(parsed.path)
        except (OSError, AuthenticationError) as exc:
            await self._bury(f"{self.address} cannot be reached: {exc}", maybe_executed=False)
            return
        hello = self._guest.hello()
        channel = RelayChannel(
            runtime.loop, sock, hello, runtime.receive, self._lost, runtime.timeouts.cancel
        )
        channel.passed = self._passed
        if self._ended:  # it has said who it is: a pool wonders at those who have not
            channel.close()
            return
        self._channel = channel
        waiting, self._waiting = self._waiting, []
        for message, segments, key in waiting:
            self._write(message, segments, key)

    # There

    def call(self, message: Call | Tell, segments: Segments, found: Found | None) -> None:
        """Pass on what begins something; ``found``: where the actor is that it is for.

        Raises:
            MailboxFull: the pool has not read for long.
        """
        if self._channel is not None and self._channel.waiting > MOST:
            raise MailboxFull(
                f"the pool at {self.address} does not read; {MOST} bytes are on their way to it"
            )
        if isinstance(message, Call):
            self._calls[message.id] = message.uid
            if found is not None and found.traits.child:
                self._kept[message.id] = (replace(message), segments, found.life)
        else:
            self._owed[message.uid] = self._owed.get(message.uid, 0) + 1
        self.post(message, segments, message.uid)

    def cancel(self, message: Cancel) -> None:
        """Cancel a call: behind it, where it is large and still on its way."""
        uid = self._calls.get(message.id)
        if uid is not None:
            self.post(message, (), uid)

    def goes_on(self, message: AnyMessage, segments: Segments, call: int) -> None:
        """Pass on what belongs to an open call."""
        self.post(message, segments, dialogue_key(call))

    def post(self, message: AnyMessage, segments: Segments, key: str) -> None:
        """Pass on a message; those of one key stay in their order."""
        if self._ended:
            return
        if self._channel is None:
            self._waiting.append((message, segments, key))
        else:
            self._write(message, segments, key)

    def _write(self, message: AnyMessage, segments: Segments, key: str) -> None:
        assert self._channel is not None
        self._channel.post(message, own(segments), key)

    # Back

    def _passed(self, message: AnyMessage, segments: Segments) -> None:
        if isinstance(message, (Reply, Failed, Cancelled)):
            if self._calls.pop(message.id, None) is None:
                return
            self._guest.answered(message.id)
            kept = self._kept.pop(message.id, None)
            if kept is not None and isinstance(message, Failed) and message.failure.type_name == _GONE:
                self._guest.look_for(*kept)
                return
        elif isinstance(message, Credit):
            self._owed[message.uid] = self._owed.get(message.uid, 0) - message.count
            if self._owed[message.uid] <= 0:
                del self._owed[message.uid]
        self._guest.post(message, own(segments))

    # The end

    def _lost(self, channel: Channel, error: Exception | None) -> None:
        if not self._ended:
            why = f"the connection to {self.address} was lost" + (f": {error}" if error else "")
            self._runtime.loop.spawn(self._bury, why)

    async def _bury(self, why: str, *, maybe_executed: bool = True) -> None:
        reason, _ = await self._runtime.peers.obituary(self.address, why, maybe_executed=maybe_executed)
        self._fail(reason)

    def _fail(self, reason: Callable[[], Exception]) -> None:
        """The pool has gone: its calls end, and the credit for its tells comes back."""
        if self._ended:
            return
        self._ended = True
        self._guest.leg_ended(self)
        calls, self._calls = self._calls, {}
        for call, uid in calls.items():
            self._guest.answered(call)
            self._end(call, uid, reason())
        owed, self._owed = self._owed, {}
        for uid, count in owed.items():
            self._guest.post(Credit(uid, count), ())

    def _end(self, call: int, uid: str, exc: Exception) -> None:
        """A call has ended with its pool. An actor that is restarted has not died for good with it."""
        kept = self._kept.pop(call, None)
        if kept is None or not isinstance(exc, PoolDied):
            self._guest.fail(call, exc)
        elif exc.maybe_executed:
            text = f"actor {uid!r} died with its pool: {exc}"
            died = ActorDied(text, uid=uid, cause=str(exc), maybe_executed=True)
            died.__cause__ = exc  # by which a method is known to be repeated, if it is idempotent
            self._guest.fail(call, died)
        else:
            self._guest.look_for(*kept)

    def close(self) -> None:
        """The client has gone: what it had open over there is cancelled."""
        self._ended = True
        self._waiting.clear()
        if self._channel is not None:
            self._channel.fail(lambda: ConnectionLost("the client has gone"))


def own(segments: Segments) -> list[memoryview]:
    """Segments that have been received, to be sent on: nobody else has them, so they need not be copied."""
    return [memoryview(each).toreadonly() for each in segments]
