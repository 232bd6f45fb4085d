from __future__ import annotations

import array
import errno
import fcntl
import gc
import os
import resource
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import End, hello, one_end, pair, said, tell
from tests.loop.waiting import settle, until
from xoscar_sc.errors import ProtocolError
from xoscar_sc.ipc import lending
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.loop import open_loop
from xoscar_sc.protocol import Dropped, Memory, Placed, Released, encode

KIB = 1 << 10
MIB = 1 << 20
SIZE = 256 * KIB


@pytest.fixture(autouse=True)
def no_descriptor_stays() -> Iterator[None]:
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    assert descriptors() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Keeper(End):
    """Keeps the segments that come, as they are."""

    kept: list[Any]

    def _receive(self, channel: Any, message: Any, segments: Sequence[Any]) -> None:
        self.messages.append((message, []))
        self.kept = [*getattr(self, "kept", []), *segments]

    @property
    def got(self) -> list[bytes]:
        return [bytes(each) for each in self.kept]


class Two:
    """A connection whose right end keeps what it gets."""

    def __init__(self, left: End, right: Keeper) -> None:
        self.left, self.right = left, right
        right.kept = []

    @property
    def lender(self) -> Any:
        return self.left.channel._memories._lender

    @property
    def borrower(self) -> Any:
        return self.right.channel._memories._borrower

    async def send(self, *data: Any) -> None:
        """Send a message, and wait until it has come."""
        count = len(self.right.messages)
        self.left.channel.post(tell(body=b"b"), [memoryview(each) for each in data], "actor")
        await until(lambda: len(self.right.messages) > count)

    async def warm(self, size: int = SIZE) -> None:
        """Let the peer have a free segment for buffers of this size."""
        while not any(each.size >= size for each in self.lender._free.values()):
            await self.send(bytes(size))
            self.right.kept.clear()
            await settle()

    async def all_back(self) -> None:
        await until(lambda: len(self.lender._free) == len(self.lender._segments))


class two_keepers:  # noqa: N801 - a context manager
    def __init__(self, size: int | None = None) -> None:
        self._size = size

    async def __aenter__(self) -> Two:
        self._loop = open_loop()
        loop = await self._loop.__aenter__()
        self._pair = pair(self._size)
        one, other = self._pair.__enter__()
        self.two = Two(End(loop, one, hello("left")), Keeper(loop, other, hello("right")))
        await self.two.left.channel.wait_greeting()
        await self.two.right.channel.wait_greeting()
        return self.two

    async def __aexit__(self, *exc: object) -> None:
        self.two.left.channel.close()
        self.two.right.channel.close()
        self._pair.__exit__(None, None, None)
        await self._loop.__aexit__(*exc)  # type: ignore[arg-type]


def pattern(number: int, size: int = SIZE) -> bytes:
    return bytes([number % 251]) * (size - 1) + b"."


# Lending


@both_drivers
async def test_nothing_is_made_before_the_first_large_message() -> None:
    async with two_keepers() as two:
        before = descriptors()
        for size in (0, 1, 64 * KIB, lending.SMALLEST - 1):
            await two.send(bytes(size))
        assert not two.right.channel._memories.looking
        assert not two.lender._segments
        assert descriptors() == before


@both_drivers
async def test_large_buffers_lie_in_memory_that_is_used_again() -> None:
    async with two_keepers() as two:
        await two.warm()
        for number in range(50):
            await two.send(pattern(number))
            assert two.right.got == [pattern(number)]
            assert len(two.borrower._lent) == 1
            two.right.kept.clear()
            await two.all_back()
        assert len(two.lender._segments) <= 2
        assert two.borrower._segments.keys() == two.lender._segments.keys()


@both_drivers
async def test_what_the_sender_does_afterwards_makes_no_difference() -> None:
    async with two_keepers() as two:
        for number in range(10):
            data = bytearray(pattern(number))
            two.left.channel.post(tell(body=b"b"), [memoryview(data)], "actor")
            data[:] = bytes(len(data))
        await until(lambda: len(two.right.messages) == 10)
        assert two.right.got == [pattern(number) for number in range(10)]


@both_drivers
async def test_what_is_kept_stays_as_it_is() -> None:
    async with two_keepers() as two:
        await two.warm()
        await two.send(pattern(7))
        kept = two.right.kept.pop()[100:200]
        assert len(two.borrower._lent) == 1
        for number in range(100):
            await two.send(pattern(number), pattern(number + 1, MIB))
            two.right.kept.clear()
        assert bytes(kept) == pattern(7)[100:200]
        del kept
        await two.all_back()


@both_drivers
async def test_the_receiver_may_write_where_it_has_received() -> None:
    async with two_keepers() as two:
        await two.warm()
        data = bytearray(pattern(1))
        await two.send(data)
        two.right.kept[0][:10] = b"0123456789"
        assert data == pattern(1)
        assert two.right.got[0][:10] == b"0123456789"


@both_drivers
async def test_what_is_held_stays_valid_when_the_connection_has_ended() -> None:
    async with two_keepers() as two:
        await two.warm()
        await two.send(pattern(3))
        kept = two.right.kept.pop()
        assert len(two.borrower._lent) == 1
    del two
    gc.collect()
    assert bytes(kept) == pattern(3)
    del kept


@both_drivers
async def test_a_view_may_end_in_any_thread() -> None:
    async with two_keepers() as two:
        await two.warm()
        await two.send(pattern(3))
        assert len(two.borrower._lent) == 1
        thread = threading.Thread(target=two.right.kept.clear)
        thread.start()
        thread.join()
        await two.all_back()


@both_drivers
async def test_parts_in_memory_and_parts_in_the_socket_keep_their_places() -> None:
    async with two_keepers() as two:
        await two.warm()
        parts = [b"small", pattern(1), b"", pattern(2, MIB), bytes(70_000), pattern(3)]
        for _ in range(6):
            await two.send(*parts)
            assert two.right.got == parts
            two.right.kept.clear()
            await two.all_back()


@both_drivers
async def test_messages_of_one_key_keep_their_order() -> None:
    async with two_keepers(4096) as two:
        await two.warm()
        bodies: list[bytes] = []
        before = len(two.right.messages)
        for number in range(60):
            data = [memoryview(pattern(number))] if number % 3 else []
            bodies.append(b"%d" % number)
            two.left.channel.post(tell(body=bodies[-1]), data, "actor")
        await until(lambda: len(two.right.messages) >= 60 + before)
        assert two.right.bodies[before:] == bodies
        assert two.right.got == [pattern(number) for number in range(60) if number % 3]


@both_drivers
async def test_large_bodies_lie_in_memory_too() -> None:
    async with two_keepers() as two:
        await two.warm()
        two.left.channel.post(tell(body=pattern(5)), (), "actor")
        await until(lambda: len(two.right.bodies[-1]) > 1)
        assert len(two.borrower._lent) == 1
        assert two.right.bodies[-1] == pattern(5)
        two.right.messages.clear()
        await two.all_back()


# Limits


@both_drivers
async def test_no_more_is_kept_than_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "WARM", 5 * SIZE)
    async with two_keepers() as two:
        for number in range(40):
            await two.send(pattern(number))
            await settle()
        assert two.right.got == [pattern(number) for number in range(40)]
        assert len(two.lender._segments) == 5
        assert two.lender._size == 5 * SIZE


@both_drivers
async def test_no_more_segments_are_made_than_is_good() -> None:
    async with two_keepers() as two:
        for number in range(100):
            await two.send(pattern(number))
            await settle()
        assert two.right.got == [pattern(number) for number in range(100)]
        assert len(two.borrower._lent) == lending.MOST


@both_drivers
async def test_what_was_used_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "WARM", 2 * MIB)
    async with two_keepers() as two:
        await two.warm(SIZE)
        await two.warm(MIB)
        await two.warm(2 * MIB)
        await settle()
        assert [each.size for each in two.lender._segments.values()] == [2 * MIB]
        await until(lambda: two.borrower._segments.keys() == two.lender._segments.keys())
        await two.send(pattern(1, 2 * MIB))
        assert len(two.borrower._lent) == 1
        await two.send(pattern(2))
        assert two.right.got == [pattern(1, 2 * MIB), pattern(2)]


@pytest.mark.parametrize("name", ["memfd_create", "posix_fallocate", "ftruncate"])
@both_drivers
async def test_without_memory_the_socket_is_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    async with two_keepers() as two:
        monkeypatch.setattr(os, name, fail)
        for number in range(10):
            await two.send(pattern(number))
            await settle()
        assert two.right.got == [pattern(number) for number in range(10)]
        assert not two.borrower._lent
        assert two.left.lost == two.right.lost == []
        monkeypatch.undo()
        monkeypatch.setattr(two.lender, "_pause", 0)
        await two.warm()


@both_drivers
async def test_a_peer_without_descriptors_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    offer = Outbox.offer

    def offer_in_vain(outbox: Outbox, message: bytes, descriptor: int) -> bool:
        done = offer(outbox, message, descriptor)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        return done

    async with two_keepers() as two:
        monkeypatch.setattr(Outbox, "offer", offer_in_vain)
        try:
            for number in range(5):
                await two.send(pattern(number))
                await settle()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert two.right.got == [pattern(number) for number in range(5)]
        assert two.left.lost == two.right.lost == []
        assert not two.lender._segments
        assert not two.borrower._segments
        assert two.lender._pause


@both_drivers
async def test_a_full_socket_is_not_waited_for() -> None:
    async with two_keepers(4096) as two:
        await two.warm()
        for number in range(30):
            two.left.channel.post(tell(body=b"b"), [memoryview(pattern(number))], f"actor {number}")
        await until(lambda: len(two.right.kept) == 30)
        assert sorted(two.right.got) == sorted(pattern(number) for number in range(30))


# What a peer may not do


def memory(size: int, *, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def send(sock: socket.socket, data: bytes, *fds: int) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)
    for fd in fds:
        os.close(fd)


async def opened(end: End, sock: socket.socket) -> None:
    send(sock, said(Memory(0, 0)))
    await until(lambda: end.channel._memories.looking)


async def given(end: End, sock: socket.socket, id: int = 1) -> None:
    await opened(end, sock)
    send(sock, said(Memory(id, SIZE)), memory(SIZE))
    await until(lambda: id in end.channel._memories._borrower._segments)


def placed(*places: tuple[int, int], message: Any = None) -> Placed:
    return Placed(places, encode(tell(body=b"x") if message is None else message))


async def refused(end: End, text: str) -> None:
    await until(lambda: end.lost)
    assert isinstance(end.lost[0], ProtocolError)
    assert text in str(end.lost[0])


@both_drivers
async def test_memory_that_comes_before_it_is_asked_for_has_no_descriptor() -> None:
    async with one_end() as (_, end, other):
        send(other, said(Memory(1, SIZE)), memory(SIZE))
        await refused(end, "no descriptor has come")


@pytest.mark.parametrize(
    ("size", "real", "seals", "text"),
    [
        (SIZE, SIZE - 1, fcntl.F_SEAL_SHRINK, f"it has {SIZE - 1}"),
        (SIZE, SIZE, fcntl.F_SEAL_GROW, "may lose them"),
        (0, SIZE, fcntl.F_SEAL_SHRINK, "not admitted"),
        (2 * lending.LARGEST, 2 * lending.LARGEST, fcntl.F_SEAL_SHRINK, "not admitted"),
        (2**62, SIZE, fcntl.F_SEAL_SHRINK, "not admitted"),
    ],
)
@both_drivers
async def test_memory_of_a_wrong_size_is_refused(size: int, real: int, seals: int, text: str) -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        send(other, said(Memory(1, size)), memory(real, seals=seals))
        await refused(end, text)


@both_drivers
async def test_what_is_no_memory_is_refused() -> None:
    for path, text in (("/dev/null", "is no memory"), ("/proc/self/status", "is no memory")):
        async with one_end() as (_, end, other):
            await opened(end, other)
            send(other, said(Memory(1, SIZE)), os.open(path, os.O_RDONLY))
            await refused(end, text)


@both_drivers
async def test_memory_without_a_descriptor_is_refused() -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        send(other, said(Memory(1, SIZE)))
        await refused(end, "no descriptor has come")


@pytest.mark.parametrize("count", [2, 3, 4, 9])
@both_drivers
async def test_more_descriptors_than_one_are_refused(count: int) -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        send(other, said(Memory(1, SIZE)), *(memory(SIZE) for _ in range(count)))
        await refused(end, "more descriptors")


@both_drivers
async def test_a_descriptor_with_another_message_is_refused() -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        send(other, said(tell()), memory(SIZE))
        await refused(end, "that takes none")


@both_drivers
async def test_a_descriptor_with_a_part_of_another_message_is_refused_when_the_rest_has_come() -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        data = said(tell())
        send(other, data[:5], memory(SIZE))
        await settle()
        assert end.lost == []
        send(other, data[5:] + said(tell())[:3])
        await refused(end, "that takes none")


@both_drivers
async def test_descriptors_in_parts_of_a_message_are_not_gathered() -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        for byte in said(tell())[:6]:
            send(other, bytes([byte]), memory(SIZE))
        await refused(end, "more descriptors")


@both_drivers
async def test_a_message_with_a_descriptor_may_come_in_parts() -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        data = said(tell(), Memory(1, SIZE))
        at = len(said(tell()))
        send(other, data[: at + 3], memory(SIZE))
        await settle()
        send(other, data[at + 3 :])
        send(other, said(Memory(2, SIZE)), memory(SIZE))
        await until(lambda: len(end.channel._memories._borrower._segments) == 2)
        assert end.lost == []


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([Memory(0, 0)], "where none can come"),
        ([placed((2, 10))], "where they cannot be"),
        ([placed((1, 0))], "where they cannot be"),
        ([placed((1, SIZE + 1))], "where they cannot be"),
        ([placed((1, 2**62), (1, 2**62))], "are admitted"),
        ([placed((1, 10), (1, 10))], "where they cannot be"),
        ([placed((1, 10)), placed((1, 10))], "where they cannot be"),
        ([placed((1, 10), (0, 0))], "0 came with"),
        ([placed((1, 10), message=hello())], "Hello was placed"),
        ([placed((1, 10), message=Placed((), b""))], "Placed was placed"),
        ([placed((1, 10), message=Memory(3, 3))], "Memory was placed"),
        ([Placed(((1, 10),), b"nonsense")], "no message"),
        ([Released((1,))], "had not been lent"),
        ([Released((0,))], "had not been lent"),
        ([Dropped(2)], "unknown or in use"),
        ([placed((1, 10)), Dropped(1)], "unknown or in use"),
    ],
)
@both_drivers
async def test_nonsense_about_memory_ends_the_connection(messages: list[Any], text: str) -> None:
    async with open_loop() as loop:
        with pair() as (one, other):
            end = Keeper(loop, one, hello("end"))
            end.kept = []
            other.recv(1000)
            other.send(said(hello()))
            await end.channel.wait_greeting()
            await given(end, other)
            send(other, said(*messages))
            await refused(end, text)
            end.channel.close()


@both_drivers
async def test_memory_of_one_id_comes_once_and_there_is_a_bound() -> None:
    async with one_end() as (_, end, other):
        await given(end, other)
        send(other, said(Memory(1, SIZE)), memory(SIZE))
        await refused(end, "not admitted")
    async with one_end() as (_, end, other):
        await opened(end, other)
        for id in range(1, lending.MOST + 2):
            send(other, said(Memory(id, SIZE)), memory(SIZE))
            await settle()
        await refused(end, "not admitted")


@both_drivers
async def test_nothing_about_memory_is_said_before_the_greeting() -> None:
    async with one_end(greet=False) as (_, end, other):
        other.send(said(Memory(0, 0)))
        await refused(end, "not legal")


@both_drivers
async def test_a_peer_that_does_not_look_for_descriptors_gets_none() -> None:
    async with one_end() as (_, end, _other):
        for _ in range(3):
            end.channel.post(tell(body=b"b"), [memoryview(pattern(1))])
        await settle()
        assert not end.channel._memories._lender._segments


def test_what_is_lent_cannot_become_shorter() -> None:
    owned = lending._Owned(1, SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(owned._fd, SIZE - 1)
    owned.close()
