"""Every public exception.

::

    XoscarError
    ├── ActorError
    │   ├── ActorNotExist        no such actor (any more, or yet)
    │   ├── ActorAlreadyExist    the uid is taken
    │   ├── ActorDied            it ended while a message was with it
    │   ├── ActorUnavailable     it is being restarted
    │   ├── MailboxFull          its mailbox refuses one more message
    │   └── DeadlockError        the call would close a cycle of waiting calls
    ├── PoolError
    │   ├── PoolNotExist         no such pool
    │   ├── PoolDied             its process ended
    │   ├── LaunchError          its process could not be started
    │   ├── NoIdleSlot           the allocation strategy found no pool
    │   └── DeviceUnavailable    the card is missing, or too small
    ├── ConnectionLost           the way to a pool broke; whether it lives is not known
    ├── AuthenticationError      the peer could not prove that it may come in
    ├── NotExposed               the other program has no such thing for programs from outside
    ├── ProtocolError            the peer sent what no correct peer sends
    │   └── FrameTooLarge        ... or announced more bytes than admitted
    ├── SerializationError       a value cannot be encoded, or cannot be decoded
    │   └── MsgTypeError         ... because it is not of the declared type
    ├── RestartIntensityExceeded   a supervisor has given up; a group of what it saw
    ├── ContextCancelled         the other side of a dialogue cancelled it
    ├── Lagged                   a subscriber was too slow, and missed messages
    ├── AsyncioCancelled         an asyncio task that trio code waits for was cancelled by others
    ├── RuntimeDirError          the directory for sockets cannot be used
    ├── StateError               what is to outlive the process cannot be read or written
    │   ├── StateLocked          ... because another program holds it
    │   └── StateDamaged         ... because it is damaged
    └── RemoteError              an exception that could not be rebuilt here

An exception of a user's method arrives as its own type; none of these stands in for it, except
:exc:`RemoteError` when the type cannot be rebuilt. Exceptions hold names, not objects.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ActorAlreadyExist",
    "ActorDied",
    "ActorError",
    "ActorNotExist",
    "ActorUnavailable",
    "AsyncioCancelled",
    "AuthenticationError",
    "ConnectionLost",
    "ContextCancelled",
    "DeadlockError",
    "DeviceUnavailable",
    "FrameTooLarge",
    "Lagged",
    "LaunchError",
    "MailboxFull",
    "MsgTypeError",
    "NoIdleSlot",
    "NotExposed",
    "PoolDied",
    "PoolError",
    "PoolNotExist",
    "ProtocolError",
    "RemoteError",
    "RestartIntensityExceeded",
    "RuntimeDirError",
    "SerializationError",
    "StateDamaged",
    "StateError",
    "StateLocked",
    "XoscarError",
]


class XoscarError(Exception):
    """The base of all exceptions that this package raises of its own."""


class ActorError(XoscarError):
    """Something about one actor."""


class ActorNotExist(ActorError):
    """No actor answers to this uid in this pool: it never existed, or has ended."""


class ActorAlreadyExist(ActorError):
    """Another actor of the tree has this uid."""


class ActorDied(ActorError):
    """The actor ended while this message was with it.

    Args:
        text: what happened.
        uid: the actor.
        cause: what ended it, as text; None if it was destroyed or killed.
        maybe_executed: False if the message certainly was not executed.
    """

    def __init__(
        self, text: str, *, uid: str = "", cause: str | None = None, maybe_executed: bool = False
    ) -> None:
        super().__init__(text)
        self.uid = uid
        self.cause = cause
        self.maybe_executed = maybe_executed


class ActorUnavailable(ActorError):
    """The actor is being restarted, and its child specification says not to wait for it."""


class MailboxFull(ActorError):
    """The actor's mailbox is full, and its overflow policy is ``"raise"``."""


class DeadlockError(ActorError):
    """This call would wait for itself.

    Args:
        text: what happened.
        cycle: ``[(uid, method), ...]``: each waits for the next, and the last for the first.
    """

    def __init__(self, text: str, *, cycle: list[tuple[str, str]] | None = None) -> None:
        super().__init__(text)
        self.cycle = cycle or []


class PoolError(XoscarError):
    """Something about one pool."""


class PoolNotExist(PoolError):
    """No such pool here."""


class PoolDied(PoolError):
    """The pool's process ended, and nobody had asked it to.

    Args:
        text: what happened.
        pool: its name.
        pid: its process id.
        exit_code: what it exited with; None if a signal ended it, or if that is not known.
        signal: the signal that ended it; None if it exited.
        last_lines: the last lines that it wrote to stderr.
        maybe_executed: False if the message certainly was not executed.
    """

    def __init__(
        self,
        text: str,
        *,
        pool: str = "",
        pid: int = 0,
        exit_code: int | None = None,
        signal: int | None = None,
        last_lines: tuple[str, ...] = (),
        maybe_executed: bool = True,
    ) -> None:
        super().__init__(text)
        self.pool = pool
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.last_lines = last_lines
        self.maybe_executed = maybe_executed


class LaunchError(PoolError):
    """A pool's process could not be started, or ended before it was ready.

    Args:
        text: what happened.
        exit_code: what it exited with, if it did.
        signal: the signal that ended it, if one did.
        last_lines: the last lines that it wrote to stderr.
    """

    def __init__(
        self,
        text: str,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
        last_lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.signal = signal
        self.last_lines = last_lines


class NoIdleSlot(PoolError):
    """No pool satisfies the allocation strategy."""


class DeviceUnavailable(PoolError):
    """The device that was asked for is missing, or has too little free memory."""


class ConnectionLost(XoscarError):
    """The connection to a pool broke; whether the pool still runs is not known."""


class AuthenticationError(XoscarError):
    """The peer could not prove that it may come in."""


class NotExposed(XoscarError):
    """The other program has nothing of this name for programs from outside."""


class ProtocolError(XoscarError):
    """The peer sent what no correct peer of this version sends; the connection is closed."""


class FrameTooLarge(ProtocolError):
    """The peer announced more bytes than this listener admits."""


class SerializationError(XoscarError):
    """A value cannot be encoded for another process, or cannot be decoded in it."""


class MsgTypeError(SerializationError):
    """A value is not of the type that a dialogue or a method declares; the text has the path of the field."""


class ContextCancelled(XoscarError):
    """The other side of a dialogue cancelled it.

    Args:
        text: what happened.
        canceller: who asked, as an address and a uid or a function's name.
    """

    def __init__(self, text: str, *, canceller: str = "") -> None:
        super().__init__(text)
        self.canceller = canceller


class Lagged(XoscarError):
    """A subscriber of a stream was too slow.

    Args:
        missed: messages that it has not got.
    """

    def __init__(self, missed: int) -> None:
        super().__init__(f"{missed} messages were dropped, since this subscriber was too slow")
        self.missed = missed

    def __reduce__(self) -> tuple[type[Lagged], tuple[int]]:
        return Lagged, (self.missed,)


class AsyncioCancelled(XoscarError):
    """An asyncio task that trio code waits for was cancelled, by itself or by other asyncio code.

    It is an error like others: trio's own cancellation it is not, and the cancel scopes around it do not swallow it.
    """


class RestartIntensityExceeded(XoscarError, ExceptionGroup[Exception]):
    """A supervisor has restarted its children as often as it may, and one has ended again: it has given up.

    A group of the ends that it has seen within the period, oldest first: each as the exception that the child failed
    with, or as one that says how its process ended.
    """

    def derive(self, excs: Sequence[Exception], /) -> RestartIntensityExceeded:  # type: ignore[override]
        """A part of it; as nurseries and ``except*`` ask for."""
        return RestartIntensityExceeded(self.message, excs)


class RuntimeDirError(XoscarError):
    """The directory that holds the sockets cannot be made, or is not safely ours."""


class StateError(XoscarError):
    """The state that is to outlive an actor cannot be read or written: no journal, no file, no room, no permission."""


class StateLocked(StateError):
    """Another program, or another actor, has held the file, or the actor in it, for as long as one waits."""


class StateDamaged(StateError):
    """The file is damaged, or is no state file at all."""


class RemoteError(XoscarError):
    """An exception of another process that cannot be rebuilt here.

    Args:
        text: the exception's own text.
        type_name: the name of its type, with its module.
        traceback: the remote traceback, as text.
    """

    def __init__(self, text: str, *, type_name: str = "", traceback: str = "") -> None:
        super().__init__(f"{type_name}: {text}" if type_name else text)
        self.text = text
        self.type_name = type_name
        self.traceback = traceback
