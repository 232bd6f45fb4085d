"""What two programs say to each other before anything else: who they are, and that each knows the secret.

::

    client                          server
    Knock      version, nonce   ->
                                <-  Challenge   version, nonce, method
    Proof      its code         ->
                                <-  Welcome     its code, and what the client has to know

At any point the server may say :class:`Refusal` instead, and closes. A code is an HMAC-SHA256 with the secret over
whose it is and over all that has been said, so over version, both nonces, and the pools with their incarnations: none
can be sent back to where it came from, used again, or used in another conversation. The client proves itself first:
who merely knocks learns nothing that the secret could be tried against.

Where something else has proved who both are, a certificate or the kernel, the method is ``"none"``, and the codes are
empty. The client says which method it expects, by what it was given: a server cannot talk it out of a proof.

Sans-IO, and pure: nonces are arguments, and the driver sends what it gets back. A frame is ``u16`` length (little
endian) and one of these structs.

Source: mutual challenge and response with roles in the code, as in ISO/IEC 9798-4.
"""

from __future__ import annotations

import hmac
import struct
from typing import Annotated, Literal, TypeAlias, TypeVar, cast

import msgspec

from xoscar_sc.errors import AuthenticationError, ProtocolError
from xoscar_sc.protocol.messages import VERSION, Name

MAX_HANDSHAKE = 4096
"""Bytes of a frame."""
NONCE = 32
"""Bytes of a nonce."""
HANDSHAKE_HEAD = 3
"""Bytes of a frame by which it is known as one: its length, and the first of what it says."""
_CODE = 32
_ARRAY = 0x90
"""The first byte of what is said, but for the number of fields."""

_LENGTH = struct.Struct("<H")
Nonce: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=NONCE, max_length=NONCE)]
Code: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=_CODE)]
Method: TypeAlias = Literal["secret", "none"]


class Said(msgspec.Struct, array_like=True, frozen=True):
    """The base of what is said."""


class Knock(Said, tag="xsc-knock", frozen=True):
    """The client's first words."""

    version: int
    nonce: Nonce
    pool: Name
    """The client's own pool, and which of that name it is."""
    incarnation: Name
    session: Name
    """The same whenever this client comes again."""


class Challenge(Said, tag="xsc-challenge", frozen=True):
    """The server's answer to a knock."""

    version: int
    nonce: Nonce
    method: Method
    pool: Name
    incarnation: Name


class Proof(Said, tag="xsc-proof", frozen=True):
    """The client knows the secret."""

    code: Code


class Welcome(Said, tag="xsc-welcome", frozen=True):
    """The server knows it too; the client is in, and both go on with frames of messages."""

    code: Code
    tree: Name
    """Which tree this is."""
    directory: Name
    """The addresses of its pools begin with this."""
    address: Name
    """Where others reach the server."""
    plain: bool
    """Nothing is pickled here."""
    lease: float
    """Seconds that what belongs to a client outlives its connection."""


class Refusal(Said, tag="xsc-refusal", frozen=True):
    """The client is not let in."""

    reason: Annotated[str, msgspec.Meta(max_length=512)]
    kind: Literal["protocol", "authentication", "busy"] = "authentication"


AnySaid: TypeAlias = Knock | Challenge | Proof | Welcome | Refusal
T = TypeVar("T", bound=Said)
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(AnySaid).decode


def said(message: AnySaid) -> bytes:
    """The frame of something that is said."""
    data = _pack(message)
    if len(data) > MAX_HANDSHAKE:
        raise ProtocolError(f"a greeting of {len(data)} bytes; {MAX_HANDSHAKE} are admitted")
    return _LENGTH.pack(len(data)) + data


def said_length(head: bytes) -> int:
    """How many bytes a frame has behind its length, of which the last byte of its :data:`HANDSHAKE_HEAD` is the first.

    Raises:
        ProtocolError: more than any greeting has, or none, or others: this is no program of ours.
    """
    (length,) = _LENGTH.unpack_from(head)
    if not 0 < length <= MAX_HANDSHAKE or head[2] & 0xF0 != _ARRAY:
        tls = " (it speaks TLS, and nobody does here)" if head[0] in (0x15, 0x16) and head[1] == 3 else ""
        raise ProtocolError(f"the peer began with {head!r}, which no greeting does{tls}")
    return int(length)


def heard(data: bytes) -> AnySaid:
    """What a frame's bytes say.

    Raises:
        ProtocolError: nothing.
    """
    try:
        return cast("AnySaid", _unpack(data))
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"{len(data)} bytes that are no greeting: {exc}") from exc


def _code(key: bytes, role: str, *parts: AnySaid) -> bytes:
    """The code of one side, over all that was said.

    Each part is preceded by its length: no two conversations have the same bytes.
    """
    code = hmac.new(key, digestmod="sha256")
    for part in (f"xoscar_sc {VERSION} {role}".encode(), *map(_pack, parts)):
        code.update(struct.pack("<I", len(part)))
        code.update(part)
    return code.digest()


class ClientHandshake:
    """The client's side.

    Args:
        key: the secret; None if something else proves who both are.
        knock: what it says first.
    """

    def __init__(self, key: bytes | None, knock: Knock) -> None:
        self._key = key
        self._knock = knock
        self._challenge: Challenge

    def knock(self) -> bytes:
        """What is sent first."""
        return said(self._knock)

    def challenged(self, data: bytes) -> bytes:
        """Take the challenge; what is sent back.

        Raises:
            ProtocolError: the server speaks otherwise.
            AuthenticationError: it wants another proof than is had here.
        """
        answer = _expect(data, Challenge)
        if answer.version != VERSION:
            raise ProtocolError(
                f"the server speaks version {answer.version} of the protocol, and we {VERSION}"
            )
        if answer.nonce == self._knock.nonce:
            raise AuthenticationError("the server sends back our own challenge")
        wanted = "none" if self._key is None else "secret"
        if answer.method != wanted:
            raise AuthenticationError(
                "the server asks for a secret; give auth=Secret(...)"
                if self._key is None
                else "the server does not ask for the secret, so it cannot prove that it knows it"
            )
        self._challenge = answer
        if self._key is None:
            return said(Proof(b""))
        return said(Proof(_code(self._key, "client", self._knock, answer)))

    def welcomed(self, data: bytes) -> Welcome:
        """Take the welcome.

        Raises:
            ProtocolError: it is none.
            AuthenticationError: we were refused, or the server does not know the secret.
        """
        answer = _expect(data, Welcome)
        if self._key is not None:
            expected = _welcome_code(self._key, self._knock, self._challenge, answer)
            if not hmac.compare_digest(answer.code, expected):
                raise AuthenticationError("the server does not know the secret")
        return answer


class ServerHandshake:
    """The server's side.

    Args:
        key: the secret; None if something else proves who both are.
        challenge: what it answers to a knock.
        welcome: what it says in the end; its code is made here.
    """

    def __init__(self, key: bytes | None, challenge: Challenge, welcome: Welcome) -> None:
        self._key = key
        self._challenge = challenge
        self._welcome = welcome
        self.client: Knock
        """Who the client says it is."""

    def knocked(self, data: bytes) -> bytes:
        """Take the knock; what is sent back.

        Raises:
            ProtocolError: it is none, or of another version.
        """
        knock = _expect(data, Knock)
        if knock.version != VERSION:
            raise ProtocolError(
                f"the client speaks version {knock.version} of the protocol, and we {VERSION}"
            )
        self.client = knock
        return said(self._challenge)

    def proved(self, data: bytes) -> bytes:
        """Take the proof; what is sent back.

        Raises:
            ProtocolError: it is none.
            AuthenticationError: it is wrong.
        """
        proof = _expect(data, Proof)
        key, welcome = self._key, self._welcome
        if key is not None:
            if not hmac.compare_digest(proof.code, _code(key, "client", self.client, self._challenge)):
                raise AuthenticationError("the client does not know the secret")
            code = _welcome_code(key, self.client, self._challenge, welcome)
            welcome = msgspec.structs.replace(welcome, code=code)
        return said(welcome)


def _welcome_code(key: bytes, knock: Knock, challenge: Challenge, welcome: Welcome) -> bytes:
    return _code(key, "server", knock, challenge, msgspec.structs.replace(welcome, code=b""))


_KINDS = {"protocol": ProtocolError, "authentication": AuthenticationError, "busy": ProtocolError}


def _expect(data: bytes, kind: type[T]) -> T:
    """What was said, which has to be of this kind."""
    answer = heard(data)
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, Refusal):
        raise _KINDS[answer.kind](f"refused: {answer.reason}")
    raise ProtocolError(f"{type(answer).__name__} was said where {kind.__name__} was expected")
