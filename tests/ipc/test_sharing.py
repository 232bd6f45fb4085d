"""What a peer may do with memory that is shared by many, and what it may not."""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.driving import both_drivers
from tests.ipc.talking import End, one_end, said, tell
from tests.ipc.test_memory import SIZE, memory, opened, pattern, refused, send, two_keepers
from tests.loop.waiting import settle, until
from xoscar_sc.ipc import share, sharing
from xoscar_sc.ipc.outbox import Outbox
from xoscar_sc.ipc.shared import table
from xoscar_sc.protocol import SHARED, Dropped, Memory, Placed, Released, encode


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not len(table())


def given(two: Any) -> dict[Any, Any]:
    known: dict[Any, Any] = two.left.channel._memories.giver._given
    return known


def taken(end: End) -> dict[int, Any]:
    known: dict[int, Any] = end.channel._memories._borrower._shared._taken
    return known


@both_drivers
async def test_the_first_part_of_a_piece_waits_for_it_and_keeps_its_place() -> None:
    async with two_keepers() as two:
        data = share(pattern(1))
        for number in range(10):
            part = pattern(number) if number % 2 else data
            two.left.channel.post(tell(body=b"%d" % number), [memoryview(part)], "actor")
            two.left.channel.post(tell(body=b"s%d" % number), (), "actor")
        two.left.channel.post(tell("other", b"other"), (), "other")
        await until(lambda: len(two.right.messages) == 21)
        mine = [each for each in two.right.bodies if each != b"other"]
        assert mine == [b"%s%d" % (kind, number) for number in range(10) for kind in (b"", b"s")]
        assert two.right.got == [pattern(number if number % 2 else 1) for number in range(10)]
        assert two.right.bodies[0] == b"other"  # nobody else waits
        two.right.kept.clear()


@both_drivers
async def test_a_piece_that_its_owner_has_let_go_of_is_forgotten_after_its_last_message() -> None:
    async with two_keepers(4096) as two:
        data = share(pattern(1))
        # Both ends are in one process here: a piece that the right one keeps mapped would be kept for the left one.
        next(iter(table()._pieces.values())).made = False
        await two.send(data)
        large = bytes(5 << 20)
        two.left.channel.post(tell(body=b"first"), [memoryview(large)], "actor")
        two.left.channel.post(tell(body=b"behind"), [memoryview(data)], "actor")  # it waits for the large one
        two.right.kept.clear()
        del data
        await until(lambda: not given(two))
        assert len(taken(two.right)) == 1
        await until(lambda: len(two.right.messages) == 3)
        assert two.right.got[-1] == pattern(1)
        await until(lambda: not taken(two.right))
        two.right.kept.clear()


@both_drivers
async def test_who_declines_a_piece_gets_a_copy_and_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def adopt(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no")

    async with two_keepers() as two:
        data = share(pattern(1))
        with monkeypatch.context() as patch:
            patch.setattr(table(), "adopt", adopt)
            for _ in range(3):
                await two.send(data)
        assert two.right.got == [pattern(1)] * 3
        assert not given(two)
        two.left.channel._memories.giver._pause = 0
        await two.send(data)
        assert [each.ready for each in given(two).values()] == [True]
        two.right.kept.clear()


@both_drivers
async def test_a_socket_that_takes_no_descriptor_now_gets_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_keepers() as two:
        data = share(pattern(1))
        monkeypatch.setattr(Outbox, "offer", lambda *_: False)
        await two.send(data)
        assert two.right.got == [pattern(1)]
        assert not taken(two.right)


@both_drivers
async def test_what_can_be_changed_is_as_it_was_when_it_was_sent_beside_a_piece_that_is_on_its_way() -> None:
    async with two_keepers() as two:
        data, other = share(pattern(1)), bytearray(pattern(2))
        two.left.channel.post(tell(body=b"x"), [memoryview(data), memoryview(other)], "actor")
        other[:] = bytes(len(other))
        await until(lambda: len(two.right.messages) == 1)
        assert two.right.got == [pattern(1), pattern(2)]
        two.right.kept.clear()


@both_drivers
async def test_a_connection_that_ends_meanwhile_keeps_nothing() -> None:
    async with two_keepers() as two:
        data = share(pattern(1))
        two.left.channel.post(tell(body=b"x"), [memoryview(data)], "actor")
        two.right.channel.close()
        await until(lambda: two.left.lost)
        await settle()


@both_drivers
async def test_no_more_pieces_are_given_than_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST", 3)
    async with two_keepers() as two:
        pieces = [share(pattern(number)) for number in range(8)]
        for each in pieces:
            await two.send(each)
        assert two.right.got == [pattern(number) for number in range(8)]
        assert len(given(two)) == len(taken(two.right)) == 3
        await two.send(*pieces)
        assert two.right.got[8:] == [pattern(number) for number in range(8)]
        two.right.kept.clear()


# What a peer may not do

PIECE = SHARED + 1


def placed(length: int, offset: int = 0, id: int = PIECE) -> Placed:
    return Placed(((id, length),), encode(tell(body=b"x")), (offset,) if offset else ())


async def shared(end: End, sock: socket.socket, id: int = PIECE, *, passed: bool = False) -> None:
    await opened(end, sock)
    send(sock, said(Memory(id, SIZE, passed)), memory(SIZE))
    await until(lambda: id in taken(end))


@pytest.mark.parametrize("passed", [False, True])
@both_drivers
async def test_parts_of_a_piece_may_be_named_in_any_order_and_often(passed: bool) -> None:
    async with one_end() as (_, end, other):
        await shared(end, other, passed=passed)
        for offset, length in ((0, SIZE), (5, 10), (SIZE - 1, 1), (0, SIZE), (SIZE, 0)):
            send(other, said(placed(length, offset)))
        send(other, said(Dropped(PIECE, 6)))
        await until(lambda: len(end.messages) == 5)
        assert taken(end)
        send(other, said(placed(1)))
        await until(lambda: len(end.messages) == 6)
        assert not taken(end)
        assert end.lost == []


@pytest.mark.parametrize(
    "wrong",
    [
        placed(SIZE + 1),
        placed(SIZE, 1),
        placed(1, SIZE),
        placed(1, 2**63 - 1),
        placed(1, 0, PIECE + 1),
        Placed(((PIECE, 1),), encode(tell(body=b"x")), (0, 0)),
        Dropped(PIECE + 1, 0),
        Memory(PIECE, SIZE),
        Released((PIECE,)),
        Released((PIECE,), declined=True),
    ],
    ids=repr,
)
@both_drivers
async def test_what_makes_no_sense_ends_the_connection(wrong: Any) -> None:
    async with one_end() as (_, end, other):
        await shared(end, other)
        fds = [memory(SIZE)] if isinstance(wrong, Memory) else []
        send(other, said(wrong), *fds)
        await refused(
            end, "memory" if not (isinstance(wrong, Placed) and wrong.offsets == (0, 0)) else "offset"
        )


@both_drivers
async def test_a_piece_that_was_used_more_often_than_is_said_ends_the_connection() -> None:
    async with one_end() as (_, end, other):
        await shared(end, other)
        send(other, said(placed(1)) + said(placed(1)) + said(Dropped(PIECE, 1)))
        await refused(end, "used more often")


@both_drivers
async def test_a_piece_of_a_wrong_size_is_refused() -> None:
    for size, real in ((0, SIZE), (SIZE, SIZE - 1), (2**62, SIZE)):
        async with one_end() as (_, end, other):
            await opened(end, other)
            send(other, said(Memory(PIECE, size)), memory(real))
            await refused(end, "not admitted" if not size else "it has")


@both_drivers
async def test_a_lent_segment_is_named_at_its_beginning_only() -> None:
    async with one_end() as (_, end, other):
        await opened(end, other)
        send(other, said(Memory(1, SIZE)), memory(SIZE))
        send(other, said(placed(1, 1, id=1)))
        await refused(end, "where they cannot be")


@both_drivers
async def test_no_more_pieces_are_admitted_than_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST", 2)
    async with one_end() as (_, end, other):
        await opened(end, other)
        for number in range(5):
            send(other, said(Memory(PIECE + number, SIZE)), memory(SIZE))
            await settle()
        await refused(end, "not admitted")
