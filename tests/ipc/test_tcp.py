"""Listening and connecting by TCP: where, how, and what it says when that is not possible."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import call, hello, tell
from tests.loop.waiting import until
from xoscar_sc.errors import AuthenticationError, ConnectionLost
from xoscar_sc.ipc import Channel, Listener, Segments, tcp
from xoscar_sc.loop import Loop, open_loop
from xoscar_sc.protocol import AnyMessage, Call, Reply, TcpAddress

SILENCE = 15.0
MIB = 1 << 20


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HOSTS = pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")),
        "localhost",
    ],
)


class Door:
    """A listener, and whom it has let in."""

    def __init__(self, loop: Loop, sock: socket.socket, silence: float = SILENCE) -> None:
        self.address = tcp.local(sock)
        self.accepted: list[socket.socket] = []
        self.trouble: list[OSError] = []
        self.listener: Listener = tcp.listen(loop, sock, self.accepted.append, self.trouble.append, silence)

    def close(self) -> None:
        self.listener.close()
        for sock in self.accepted:
            sock.close()


@asynccontextmanager
async def open_door(host: str = "127.0.0.1", silence: float = SILENCE) -> AsyncIterator[Door]:
    async with open_loop() as loop:
        door = Door(loop, await tcp.bind(TcpAddress(host, 0)), silence)
        try:
            yield door
        finally:
            door.close()


@HOSTS
@both_drivers
async def test_a_connection_is_made_and_accepted(host: str) -> None:
    async with open_door(host) as door:
        assert door.address.port
        with await tcp.connect(TcpAddress(host, door.address.port), SILENCE) as sock:
            await until(lambda: door.accepted)
            (accepted,) = door.accepted
            assert tcp.remote(accepted) == tcp.local(sock)
            assert tcp.remote(sock) == tcp.local(accepted) == door.address
            assert tcp.is_loopback(tcp.remote(accepted).host)
            sock.send(b"word")
            await anyio.wait_readable(accepted)
            assert accepted.recv(10) == b"word"


@both_drivers
async def test_a_connection_is_kept_alive_and_given_up_after_the_silence() -> None:
    async with open_door(silence=10.0) as door:
        with await tcp.connect(door.address, 10.0) as sock:
            await until(lambda: door.accepted)
            for each in (sock, *door.accepted):
                assert not each.getblocking()
                assert not each.get_inheritable()
                assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle, between, number, unanswered = (
                    each.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (
                        socket.TCP_KEEPIDLE,
                        socket.TCP_KEEPINTVL,
                        socket.TCP_KEEPCNT,
                        socket.TCP_USER_TIMEOUT,
                    )
                )
                assert idle + between * number == 10
                assert unanswered == 10_000


@pytest.mark.parametrize("silence", [0.0, 0.01, 1e6, 1e300, float("inf")])
@both_drivers
async def test_any_silence_gives_a_connection(silence: float) -> None:
    async with open_door(silence=silence) as door:
        with await tcp.connect(door.address, silence):
            await until(lambda: door.accepted)


@both_drivers
async def test_a_taken_port_is_a_clear_error() -> None:
    async with open_door() as door:
        with pytest.raises(
            OSError, match=f"cannot listen at {door.address}: Address already in use"
        ) as caught:
            await tcp.bind(door.address)
        assert caught.value.errno == errno.EADDRINUSE


@both_drivers
async def test_the_port_of_a_listener_that_was_closed_is_free_at_once() -> None:
    async with open_door() as door:
        sock = await tcp.connect(door.address, SILENCE)
        await until(lambda: door.accepted)
        door.accepted[0].close()  # this side has hung up first, and so keeps the port for a while
        door.listener.close()
        (await tcp.bind(door.address)).close()
        sock.close()
        door.listener = Listener(door.listener._loop, await tcp.bind(door.address), print, print, print)


@both_drivers
async def test_an_address_of_another_host_is_a_clear_error() -> None:
    with pytest.raises(OSError, match=r"cannot listen at tcp://192\.0\.2\.1:0") as caught:
        await tcp.bind(TcpAddress("192.0.2.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
@both_drivers
async def test_where_only_this_host_may_come_in_nobody_listens_for_others(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(_sock: socket.socket, _backlog: int) -> None:
        pytest.fail("it must not listen")

    monkeypatch.setattr(socket.socket, "listen", listen)
    with pytest.raises(AuthenticationError, match="can be reached from other hosts"):
        await tcp.bind(TcpAddress(host, 0), alone=True)


@both_drivers
async def test_a_name_that_leads_elsewhere_is_not_listened_at_for_this_host_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(*_args: Any, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, ("0.0.0.0", 0))]

    monkeypatch.setattr(tcp, "resolve", resolve)
    with pytest.raises(AuthenticationError, match="can be reached from other hosts"):
        await tcp.bind(TcpAddress("localhost", 0), alone=True)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::1%lo", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("localhost", False),
        ("127.1", False),
        ("0x7f000001", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_only_a_number_of_loopback_is_this_host_alone(host: str, alone: bool) -> None:
    assert tcp.is_loopback(host) is alone


# Names


def addresses(*found: tuple[str, int]) -> Any:
    async def resolve(*_args: Any, **_options: Any) -> list[Any]:
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)) for host, port in found]

    return resolve


@both_drivers
async def test_of_a_name_of_several_addresses_the_first_that_answers_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_door() as door:
        port = door.address.port
        monkeypatch.setattr(tcp, "resolve", addresses(("127.0.0.2", port), ("127.0.0.1", port)))
        with await tcp.connect(TcpAddress("several", port), SILENCE) as sock:
            assert tcp.remote(sock) == door.address


@both_drivers
async def test_if_none_of_several_addresses_answers_the_first_one_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setattr(tcp, "resolve", addresses(("127.0.0.2", port), ("127.0.0.1", port)))
        with pytest.raises(ConnectionRefusedError):
            await tcp.connect(TcpAddress("several", port), SILENCE)
    monkeypatch.setattr(tcp, "resolve", addresses())
    with pytest.raises(OSError, match="'nothing' has no address"):
        await tcp.connect(TcpAddress("nothing", 1), SILENCE)


@both_drivers
async def test_a_name_of_several_addresses_is_listened_for_at_the_first_that_is_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp, "resolve", addresses(("192.0.2.1", 0), ("127.0.0.1", 0)))
    with await tcp.bind(TcpAddress("several", 0)) as sock:
        assert tcp.local(sock).host == "127.0.0.1"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70, "a..b", "ä" * 70])
@both_drivers
async def test_a_name_that_nobody_has_is_a_clear_error(host: str) -> None:
    for use in (tcp.bind(TcpAddress(host, 7000)), tcp.connect(TcpAddress(host, 7000), SILENCE)):
        with pytest.raises(OSError, match="is not known"):
            await use


@both_drivers
async def test_nobody_is_connected_to_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_ex = socket.socket.connect_ex

    def bound(sock: socket.socket, where: Any) -> int:
        sock.bind(where)  # as the kernel may choose it, where nobody listens at a port that it gives away
        return connect_ex(sock, where)

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = tcp.local(unused)
    monkeypatch.setattr(socket.socket, "connect_ex", bound)
    with pytest.raises(ConnectionRefusedError):
        await tcp.connect(address, SILENCE)


@both_drivers
async def test_a_connection_that_is_given_up_leaves_nothing() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = tcp.local(full)
        waiting = []
        for _ in range(8):  # from some number on, the kernel says nothing any more
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((address.host, address.port))
            waiting.append(sock)
        before = len(os.listdir("/proc/self/fd"))
        with anyio.move_on_after(0.05) as scope:
            (await tcp.connect(address, SILENCE)).close()
        assert scope.cancelled_caught
        assert len(os.listdir("/proc/self/fd")) == before
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("text", ["unix:///run/x.sock", "local://x", "http://x:1", "127.0.0.1", ":7000", ""])
def test_what_is_no_address_of_tcp_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has a text of its own
        tcp.parse(text)


# Channels over it


class Ends:
    """Two channels, each of which answers a call with what it was sent."""

    def __init__(self) -> None:
        self.lost: list[Exception | None] = []
        self.told: list[bytes] = []

    def receive(self, channel: Channel, message: AnyMessage, segments: Segments) -> None:
        if isinstance(message, Call):
            channel.post(Reply(message.id, bytes(message.body)), [memoryview(each) for each in segments])
        else:
            self.told.append(bytes(message.body))  # type: ignore[union-attr]

    def gone(self, channel: Channel, error: Exception | None) -> None:
        self.lost.append(error)
        channel.fail(lambda: ConnectionLost(f"lost: {error}"))


async def ask(channel: Channel, body: bytes, *segments: bytes) -> bytes:
    answer, more = await channel.request(
        call(body=body), [memoryview(each) for each in segments], lambda *_: None
    )
    assert isinstance(answer, Reply)
    return bytes(answer.body) + b"".join(map(bytes, more))


async def talk_much(one: Channel, other: Channel, ends: Ends) -> None:
    """Many calls at once, both ways, small ones and such of several MiB."""
    chance = random.Random(1)
    sizes = [0, 1, 100, 16_000, 70_000, 300_000, 3 * MIB, 9 * MIB + 1]

    async def use(channel: Channel, size: int) -> None:
        data = chance.randbytes(size)
        assert await ask(channel, b"head", data) == b"head" + data
        assert await ask(channel, data[:100_000]) == data[:100_000]

    async with anyio.create_task_group() as group:
        for size in sizes * 2:
            group.start_soon(use, one, size)
            group.start_soon(use, other, size)
    for number in range(1000):
        one.post(tell(body=b"%d" % number))
    await until(lambda: len(ends.told) == 1000)
    assert ends.told == [b"%d" % number for number in range(1000)]
    assert not ends.lost


@HOSTS
@both_drivers
async def test_messages_of_all_sizes_cross_both_ways_at_once(host: str) -> None:
    async with open_loop() as loop:
        door = Door(loop, await tcp.bind(TcpAddress(host, 0)))
        sock = await tcp.connect(TcpAddress(host, door.address.port), SILENCE)
        await until(lambda: door.accepted)
        ends = Ends()
        one = Channel(loop, sock, hello("one"), ends.receive, ends.gone, 1.0)
        other = Channel(loop, door.accepted.pop(), hello("other"), ends.receive, ends.gone, 1.0)
        try:
            await talk_much(one, other, ends)
        finally:
            one.close()
            other.close()
            door.close()
