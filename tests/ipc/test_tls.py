"""TLS with certificates both ways: who is believed, and that nothing is lost in it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contract.driving import both_drivers
from tests.ipc.certificates import Authority
from tests.ipc.talking import hello, tell
from tests.ipc.test_tcp import HOSTS, SILENCE, Ends, ask, talk_much
from tests.loop.waiting import until
from xoscar_sc.errors import AuthenticationError, ProtocolError, XoscarError
from xoscar_sc.ipc import TLS, AnySocket, Channel, admit, encrypt, knock, tcp
from xoscar_sc.loop import open_loop
from xoscar_sc.protocol import (
    VERSION,
    Challenge,
    ClientHandshake,
    Knock,
    ServerHandshake,
    TcpAddress,
    Welcome,
    encode,
    frame,
)


@contextmanager
def wire(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection by TCP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen(1)
        client = socket.socket(family)
        client.connect(listening.getsockname())
        server, _ = listening.accept()
    with client, server:
        yield tcp.tune(client, SILENCE), tcp.tune(server, SILENCE)


class Meeting:
    """What became of the two sides of a handshake."""

    def __init__(self) -> None:
        self.client: AnySocket | None = None
        self.server: AnySocket | None = None
        self.client_error: BaseException | None = None
        self.server_error: BaseException | None = None


def handshakes() -> tuple[ClientHandshake, ServerHandshake]:
    """As they are where certificates have proved both."""
    client = ClientHandshake(None, Knock(VERSION, bytes(32), "client", "tree/1", "session"))
    challenge = Challenge(VERSION, bytes(range(32)), "none", "root", "tree/0")
    welcome = Welcome(b"", "tree", "/run/tree", "tcp://localhost:1", False, 1.0)
    return client, ServerHandshake(None, challenge, welcome)


async def meet(
    client: socket.socket,
    server: socket.socket,
    ours: TLS | None,
    theirs: TLS | None,
    host: str = "localhost",
) -> Meeting:
    """Let both sides do all that comes before there is a channel."""
    meeting = Meeting()
    for_client, for_server = handshakes()

    async def come() -> None:
        sock: AnySocket = client
        try:
            if ours is not None:
                sock = await encrypt(client, ours, host=host)
            await knock(sock, for_client)
            meeting.client = sock
        except (XoscarError, OSError) as exc:
            meeting.client_error = exc
            sock.close()

    async def receive() -> None:
        sock: AnySocket = server
        try:
            if theirs is not None:
                sock = await encrypt(server, theirs, host=None)
            await admit(sock, for_server)
            meeting.server = sock
        except (XoscarError, OSError) as exc:
            meeting.server_error = exc
            sock.close()

    async with anyio.create_task_group() as group:
        group.start_soon(come)
        group.start_soon(receive)
    return meeting


@asynccontextmanager
async def two_channels(
    directory: Path, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Channel, Channel, Ends]]:
    tls = Authority(directory).tls()
    async with open_loop() as loop:
        with wire(host) as (client, server):
            meeting = await meet(client, server, tls, tls)
            assert meeting.client is not None
            assert meeting.server is not None
            ends = Ends()
            one = Channel(loop, meeting.client, hello("one"), ends.receive, ends.gone, 1.0)
            other = Channel(loop, meeting.server, hello("other"), ends.receive, ends.gone, 1.0)
            try:
                yield one, other, ends
            finally:
                one.close()
                other.close()


@HOSTS
@both_drivers
async def test_messages_of_all_sizes_cross_both_ways_at_once(host: str, tmp_path: Path) -> None:
    async with two_channels(tmp_path / "ca", "127.0.0.1" if host == "localhost" else host) as ends:
        await talk_much(*ends)


@both_drivers
async def test_what_crosses_is_encrypted(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").tls()
    with wire() as (client, server):
        meeting = await meet(client, server, tls, tls)
        assert meeting.client is not None
        assert meeting.server is not None
        meeting.client.send(b"a word that nobody may read" * 10)
        descriptor = meeting.server.fileno()
        await anyio.wait_readable(descriptor)
        with socket.socket(fileno=os.dup(descriptor)) as same:
            assert b"word" not in same.recv(4096, socket.MSG_PEEK)
        assert meeting.server.recv(27) == b"a word that nobody may read"
        meeting.client.close()
        meeting.server.close()


def believes_nobody(tmp: Path) -> tuple[TLS, TLS]:
    ours = Authority(tmp / "ca")
    return ours.tls(), ours.tls(ca=Authority(tmp / "other").file)


def is_not_believed(tmp: Path) -> tuple[TLS, TLS]:
    ours, other = Authority(tmp / "ca"), Authority(tmp / "other")
    return other.tls(ca=ours.file), ours.tls()


def believes_others(tmp: Path) -> tuple[TLS, TLS]:
    ours, other = Authority(tmp / "ca"), Authority(tmp / "other")
    return ours.tls(ca=other.file), ours.tls()


def another_name(tmp: Path) -> tuple[TLS, TLS]:
    ours = Authority(tmp / "ca")
    return ours.tls(), ours.tls("elsewhere.example")


def expired_client(tmp: Path) -> tuple[TLS, TLS]:
    ours = Authority(tmp / "ca")
    return ours.tls(days=-1), ours.tls()


def expired_server(tmp: Path) -> tuple[TLS, TLS]:
    ours = Authority(tmp / "ca")
    return ours.tls(), ours.tls(days=-1)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (believes_nobody, "client"),
        (is_not_believed, "client"),
        (expired_client, "client"),
        (believes_others, "server"),
        (another_name, "server"),
        (expired_server, "server"),
    ],
)
@both_drivers
async def test_a_certificate_that_does_not_convince_lets_nobody_in(
    given: Any, why: str, tmp_path: Path
) -> None:
    with wire() as (client, server):
        meeting = await meet(client, server, *given(tmp_path))
        assert meeting.client is meeting.server is None
        for error in (meeting.client_error, meeting.server_error):
            assert isinstance(error, AuthenticationError), error
        judge = meeting.server_error if why == "client" else meeting.client_error
        assert "certificate does not convince" in str(judge)


@both_drivers
async def test_the_name_that_a_server_must_have_can_be_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with wire() as (client, server):
        ours = authority.tls(server_name="door.example")
        meeting = await meet(client, server, ours, authority.tls("door.example"), host="10.1.2.3")
        assert meeting.client is not None
        assert meeting.server is not None
        meeting.client.close()
        meeting.server.close()


@both_drivers
async def test_a_client_without_a_certificate_is_not_let_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")

    class Bare(TLS):
        def __context__(self, *, server: bool) -> ssl.SSLContext:
            context = ssl.create_default_context(cafile=str(authority.file))
            return super().__context__(server=server) if server else context

    with wire() as (client, server):
        meeting = await meet(client, server, Bare(*authority.files(), authority.file), authority.tls())
        assert meeting.client is meeting.server is None
        assert isinstance(meeting.server_error, AuthenticationError)
        assert isinstance(meeting.client_error, AuthenticationError), meeting.client_error
        assert "CERTIFICATE_REQUIRED" in str(meeting.client_error)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
@both_drivers
async def test_an_older_version_is_not_spoken(version: ssl.TLSVersion, tmp_path: Path) -> None:
    class Old(TLS):
        def __context__(self, *, server: bool) -> ssl.SSLContext:
            context = super().__context__(server=server)
            context.minimum_version = context.maximum_version = version
            return context

    authority = Authority(tmp_path / "ca")
    with wire() as (client, server):
        meeting = await meet(client, server, Old(*authority.files(), authority.file), authority.tls())
        assert meeting.client is meeting.server is None
        assert isinstance(meeting.client_error, AuthenticationError)
        assert isinstance(meeting.server_error, AuthenticationError)


@both_drivers
async def test_a_plain_client_at_a_door_with_tls_is_told_so(tmp_path: Path) -> None:
    with wire() as (client, server):
        meeting = await meet(client, server, None, Authority(tmp_path / "ca").tls())
        assert meeting.client is meeting.server is None
        assert isinstance(meeting.server_error, AuthenticationError)
        assert "does not speak TLS" in str(meeting.server_error)
        assert isinstance(meeting.client_error, AuthenticationError), meeting.client_error
        assert "give auth=TLS" in str(meeting.client_error)


@both_drivers
async def test_a_client_with_tls_at_a_plain_door_is_not_waited_for(tmp_path: Path) -> None:
    with wire() as (client, server):
        meeting = await meet(client, server, Authority(tmp_path / "ca").tls(), None)
        assert meeting.client is meeting.server is None
        assert isinstance(meeting.server_error, ProtocolError)
        assert "TLS" in str(meeting.server_error)
        assert isinstance(meeting.client_error, AuthenticationError), meeting.client_error


@both_drivers
async def test_a_handshake_that_is_given_up_leaves_no_descriptor(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").tls()
    for side, host in enumerate(("localhost", None)):
        with wire() as socks:
            before = len(os.listdir("/proc/self/fd"))
            with anyio.move_on_after(0.02) as scope:
                await encrypt(socks[side], tls, host=host)
            assert scope.cancelled_caught
            assert len(os.listdir("/proc/self/fd")) == before - 1


# What TLS keeps to itself


@both_drivers
async def test_what_came_with_the_handshake_is_heard_without_anything_coming_after_it(tmp_path: Path) -> None:
    """The client's first messages come in one record with the end of its greeting: the kernel has nothing more."""
    tls = Authority(tmp_path / "ca").tls()
    said = b"".join(frame(encode(each)) for each in (hello("client"), tell(body=b"one"), tell(body=b"two")))
    async with open_loop() as loop:
        with wire() as (client, server):
            async with anyio.create_task_group() as group:
                socks: dict[str, Any] = {}

                async def come() -> None:
                    socks["client"] = await encrypt(client, tls, host="localhost")

                async def receive() -> None:
                    socks["server"] = await encrypt(server, tls, host=None)

                group.start_soon(come)
                group.start_soon(receive)
            socks["client"].send(b"\x00" * 7 + said)
            while True:
                try:
                    assert socks["server"].recv(7) == bytes(7)
                    break
                except BlockingIOError:
                    await anyio.wait_readable(socks["server"].fileno())
            assert socks["server"].pending
            ends = Ends()
            channel = Channel(loop, socks["server"], hello("server"), ends.receive, ends.gone, 1.0)
            try:
                await until(lambda: len(ends.told) == 2)
                assert ends.told == [b"one", b"two"]
            finally:
                channel.close()
                socks["client"].close()


@both_drivers
async def test_messages_that_share_a_record_are_all_heard_at_once(tmp_path: Path) -> None:
    """More than the buffer takes in one go, and then nothing more comes: nobody may wait for the kernel."""
    async with two_channels(tmp_path / "ca") as (one, other, ends):
        await one.wait_greeting()
        await other.wait_greeting()
        for number in range(3000):
            one.post(tell(body=b"%d" % number))
            if number % 97 == 0:
                one.flush()
        await until(lambda: len(ends.told) == 3000)
        assert ends.told == [b"%d" % number for number in range(3000)]


class Between:
    """Passes a connection's bytes on, as many as it is told to."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.least = 1 << 30
        """Bytes from the client that are passed on from now on."""

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._pass, self.client, self.server, True)
            group.start_soon(self._pass, self.server, self.client, False)

    async def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        while True:
            await anyio.wait_readable(source)
            try:
                data = source.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                return
            if counted:
                data, self.least = data[: self.least], self.least - len(data)
            target.sendall(data)
            if not data or self.least < 0:
                target.close()
                return


@both_drivers
async def test_half_of_a_record_is_the_end_of_a_connection(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").tls()
    async with open_loop() as loop:
        with wire() as (client, outside), wire() as (inside, server):
            between = Between(outside, inside)
            async with anyio.create_task_group() as group:
                group.start_soon(between.run)
                meeting = await meet(client, server, tls, tls)
                assert meeting.client is not None
                assert meeting.server is not None
                ends, others = Ends(), Ends()
                one = Channel(loop, meeting.client, hello("one"), ends.receive, ends.gone, 1.0)
                other = Channel(loop, meeting.server, hello("other"), others.receive, others.gone, 1.0)
                await one.wait_greeting()
                await other.wait_greeting()
                assert await ask(one, b"before") == b"before"
                between.least = 50
                one.post(tell(body=b"x" * 500))
                await until(lambda: others.lost)
                assert others.told == []
                one.close()
                group.cancel_scope.cancel()


@both_drivers
async def test_a_record_that_was_changed_is_the_end_of_a_connection(tmp_path: Path) -> None:
    async with two_channels(tmp_path / "ca") as (one, other, ends):
        await one.wait_greeting()
        await other.wait_greeting()
        with socket.socket(fileno=os.dup(one._fd)) as same:
            same.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: ends.lost)
        assert other.closed
        assert "broke" in str(ends.lost[0])


def test_an_address_is_that_of_the_socket_beneath(tmp_path: Path) -> None:
    with wire() as (client, _):
        assert tcp.remote(client) == TcpAddress(*client.getpeername())
