"""What launchers and their guardian say to each other.

Each message is one packet of a SOCK_SEQPACKET socket; descriptors travel with it. The configuration of a process,
which may be large, is in a memfd: the length of its header, the header, the payload.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec

from xoscar_sc.launch.values import Method, ProcessSpec

PACKET = 65536
"""No packet is longer."""
DESCRIPTORS = 2
"""No packet carries more descriptors."""

PoolId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,100}\Z")]
Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Message(msgspec.Struct, array_like=True, gc=False):
    pass


class Start(_Message, tag=0):
    """Start a process; answered by :class:`Started` or :class:`NotStarted`, and later by :class:`Exited`.

    Carries the process's end of its channel, and its configuration.
    """

    pool_id: PoolId
    name: Annotated[str, msgspec.Meta(max_length=1024)]
    method: Method
    cpus: tuple[Number, ...] | None


class Kill(_Message, tag=1):
    """Kill a process, and all that it has started. One that has ended already is left alone."""

    pool_id: PoolId


class Watch(_Message, tag=2):
    """Answer with :class:`Exited` as soon as this process has ended, or with :class:`Unknown`."""

    pool_id: PoolId


class Started(_Message, tag=0):
    """The process is there, and about to run its entry."""

    pool_id: PoolId
    pid: Number


class NotStarted(_Message, tag=1):
    """There is no such process, because of this."""

    pool_id: PoolId
    reason: str


class Exited(_Message, tag=2):
    """The process has ended, and with it what it had started. See :class:`~xoscar_sc.launch.ProcessExit`."""

    pool_id: PoolId
    exit_code: int | None
    signal: int | None
    last_lines: tuple[str, ...]


class Unknown(_Message, tag=3):
    """No process of this id is remembered."""

    pool_id: PoolId


class Refused(_Message, tag=4):
    """The guardian cannot serve at all, because of this; it ends."""

    reason: str
    last_lines: tuple[str, ...]


Request: TypeAlias = Start | Kill | Watch
Answer: TypeAlias = Started | NotStarted | Exited | Unknown | Refused

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def encode_request(request: Request) -> bytes:
    """The packet for a request.

    Raises:
        ValueError: the guardian would not take it, and end the connection.
    """
    packet = encode(request)
    decode_request(packet)
    if len(packet) > PACKET:
        raise ValueError(f"{len(packet)} bytes are too many for one packet")
    return packet


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection; neither takes the place of a closed stdin, stdout or stderr."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with first, second:
        ours = _moved(first)
        try:
            return ours, _moved(second)
        except OSError:
            ours.close()
            raise


def _moved(sock: socket.socket) -> socket.socket:
    return socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 3))


def send(sock: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one packet.

    Raises:
        BlockingIOError: the socket takes none now.
    """
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([packet], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Take one packet and its descriptors; ``b""`` at the end of the connection, however it ended.

    Raises:
        BlockingIOError: there is none now.
    """
    room = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    how = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    try:
        packet, ancillary, flags, _ = sock.recvmsg(PACKET, room, how)
    except (
        ConnectionResetError
    ):  # said once, if the peer has not read everything; what it has sent is still there
        packet, ancillary, flags, _ = sock.recvmsg(PACKET, room, how)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & socket.MSG_TRUNC:
        packet = b""
    return packet, list(descriptors)


def close(*descriptors: int) -> None:
    """Close all of these."""
    for fd in descriptors:
        os.close(fd)


class Header(msgspec.Struct, array_like=True, gc=False):
    """What a process needs before it can run its entry. Names and paths need not be UTF-8."""

    env: dict[bytes, bytes]
    cwd: bytes
    sys_path: list[bytes]


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode
_LENGTH = 8


def write_configuration(spec: ProcessSpec) -> int:
    """A memfd that holds what ``spec`` says, but for what is in :class:`Start`."""
    env = {os.fsencode(name): os.fsencode(value) for name, value in spec.env.items()}
    header = _encode_header(Header(env, os.fsencode(spec.cwd), [os.fsencode(path) for path in spec.sys_path]))
    fd = os.memfd_create("xoscar-sc")
    try:
        os.write(fd, len(header).to_bytes(_LENGTH) + header)
        rest = memoryview(spec.payload)
        while rest:
            rest = rest[os.write(fd, rest) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_header(fd: int) -> Header:
    """The beginning of a configuration."""
    size = int.from_bytes(os.pread(fd, _LENGTH, 0))
    return _decode_header(os.pread(fd, size, _LENGTH))


def read_payload(fd: int) -> bytes:
    """The rest of a configuration; closes ``fd``."""
    with open(fd, "rb", buffering=0) as file:
        file.seek(_LENGTH + int.from_bytes(os.pread(fd, _LENGTH, 0)))
        return file.readall()
