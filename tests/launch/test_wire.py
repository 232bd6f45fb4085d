from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.launch.entries import spec
from xoscar_sc.launch import wire


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = wire.socket_pair()
    with ours, theirs:
        yield ours, theirs


def test_a_packet_arrives_with_its_descriptors(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reading, writing = os.pipe()
    wire.send(ours, b"packet", [reading, writing])
    packet, descriptors = wire.receive(theirs)
    assert packet == b"packet"
    assert [os.fstat(fd).st_ino for fd in descriptors] == [os.fstat(reading).st_ino] * 2
    assert not any(os.get_inheritable(fd) for fd in descriptors)
    wire.close(reading, writing, *descriptors)


def test_nobody_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        wire.receive(theirs)
    with pytest.raises(BlockingIOError):
        while True:
            wire.send(ours, bytes(wire.PACKET))


def test_the_end_comes_after_what_was_sent_before(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    wire.send(theirs, b"unread, so that the end is a reset")
    wire.send(ours, b"last")
    ours.close()
    assert wire.receive(theirs) == (b"last", [])
    assert wire.receive(theirs) == (b"", [])
    assert wire.receive(theirs) == (b"", [])


def test_too_many_descriptors_are_not_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    wire.send(ours, b"packet", [0] * 100)
    packet, descriptors = wire.receive(theirs)
    wire.close(*descriptors)
    assert packet == b"packet"
    assert len(descriptors) <= wire.DESCRIPTORS
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_packet_that_is_too_long_is_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    wire.send(ours, bytes(wire.PACKET + 1))
    assert wire.receive(theirs) == (b"", [])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (wire.Start("an id", "n", "fork", None), "matching regex"),
        (wire.Start("id", "n" * 1025, "fork", None), "length <= 1024"),
        (wire.Start("id", "n", "clone", None), "'clone'"),  # type: ignore[arg-type]
        (wire.Start("id", "n", "fork", (-1,)), ">= 0"),
        (wire.Start("id", "n", "fork", tuple(range(2**20, 2**20 + 20_000))), "too many"),
        (wire.Start("id", "\ud800", "fork", None), "surrogates"),
        (wire.Watch("x" * 101), "matching regex"),
    ],
)
def test_a_request_that_would_not_be_taken_is_not_sent(request_: wire.Request, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        wire.encode_request(request_)


@pytest.mark.parametrize("payload", [b"", b"x", os.urandom(1 << 20)])
def test_a_configuration_is_read_as_it_was_written(payload: bytes) -> None:
    odd = os.fsdecode(b"\xff")
    fd = wire.write_configuration(
        spec("name", payload, env={"A": odd, "B": ""}, cwd=f"/{odd}", sys_path=("", odd))
    )
    assert not os.get_inheritable(fd)
    for _ in range(2):
        header = wire.read_header(fd)
        assert (header.env, header.cwd, header.sys_path) == (
            {b"A": b"\xff", b"B": b""},
            b"/\xff",
            [b"", b"\xff"],
        )
    assert wire.read_payload(fd) == payload
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
