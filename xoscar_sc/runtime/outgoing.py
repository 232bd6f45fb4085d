"""A pool's way to actors, its own and others': from a reference's method to its value.

To an actor of another pool: the arguments are encoded in the caller's task, the message goes over the channel to that
pool, and the caller waits for the answer. To an actor of this pool nothing is encoded and nothing is copied: the
message goes into its mailbox, or, if the actor is idle and the method cannot wait, is run on the spot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from xoscar_sc.errors import FrameTooLarge, MailboxFull
from xoscar_sc.events import CancelUnconfirmed
from xoscar_sc.ipc import WINDOW, Answer, Channel, Segments
from xoscar_sc.loop import undisturbed
from xoscar_sc.protocol import Call, Failed, Link, Reply, Tell
from xoscar_sc.runtime.cell import Cell
from xoscar_sc.runtime.conversations import LocalOpening, Opening, RemoteOpening
from xoscar_sc.runtime.current import Frame, current_frame, waiting_chain, waiting_frame
from xoscar_sc.runtime.deadlock import Kind, Way
from xoscar_sc.runtime.generators import KINDS
from xoscar_sc.runtime.methods import Method, is_awaitable
from xoscar_sc.runtime.streams import LocalSource, RemoteSource, Source
from xoscar_sc.runtime.work import Arguments, call, run_one_step
from xoscar_sc.runtime.work_local import LocalRest, LocalWork
from xoscar_sc.serialize import (
    dumps,
    dumps_batch,
    dumps_call,
    dumps_plain_batch,
    dumps_plain_call,
    loads,
    loads_batch,
    loads_call,
    rebuild,
)

if TYPE_CHECKING:
    from xoscar_sc.runtime.ref import Target
    from xoscar_sc.runtime.runtime import Runtime


class Outgoing:
    """See the top of this file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    # Calls

    @undisturbed
    async def send(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method, and wait for its value."""
        address = target.address
        runtime = self._runtime
        if address == runtime.address:
            if target.copy:
                return await self._send_copied(target, method, args, kwargs)
            return await self._send_here(target, method, args, kwargs)
        channel = runtime.peers.get(address) or await runtime.peers.connect(address)
        segments: list[memoryview] = []
        body = encoded(channel, args, kwargs, segments)
        left = runtime.loop.seconds_left()
        frame = waiting_frame(runtime.loop)
        chain = () if frame is None else frame.links()
        call = Call(0, target.uid, target.incarnation, method, body, left, chain)
        if frame is None:
            answer, more = await channel.request(call, segments, self._unconfirmed)
        else:
            answer, more = await self._request(frame, address, channel, call, segments)
        if answer.__class__ is Reply:
            return loads(answer.body, more)
        return await self._no_value(answer, method)

    @undisturbed
    async def batch(self, target: Target, method: str, calls: list[Arguments]) -> Any:
        """Call a method many times by one message, and wait for the values."""
        address = target.address
        runtime = self._runtime
        left = runtime.loop.seconds_left()
        if address == runtime.address:
            cell = runtime.taker(target.uid, target.incarnation)
            if target.copy:
                calls = loads_batch(dumps_batch(calls))
            chain = waiting_chain(runtime.loop)
            work = LocalWork(cell, method, calls, runtime.loop.slot(), chain, left, batch=True)
            value = await self._wait_here(work)
            return loads(dumps(value)) if target.copy else value
        channel = runtime.peers.get(address) or await runtime.peers.connect(address)
        segments: list[memoryview] = []
        body = dumps_plain_batch(calls) if channel.plain else dumps_batch(calls, segments)
        frame = waiting_frame(runtime.loop)
        chain = () if frame is None else frame.links()
        call = Call(0, target.uid, target.incarnation, method, body, left, chain, batch=True)
        answer, more = await self._request(frame, address, channel, call, segments)
        if isinstance(answer, Reply):
            return loads(answer.body, more)
        return await self._no_value(answer, method)

    async def _request(
        self,
        frame: Frame | None,
        address: str,
        channel: Channel,
        call: Call,
        segments: list[memoryview],
    ) -> tuple[Answer, Segments]:
        """Make a call that ``frame`` waits for."""
        if frame is None:
            return await channel.request(call, segments, self._unconfirmed)
        way = Way(address, call.uid)
        frame.wait_for(way)
        try:
            return await channel.request(call, segments, self._unconfirmed)
        finally:
            frame.waited(way)

    async def _no_value(self, answer: Answer, method: str) -> Any:
        if isinstance(answer, Failed):
            raise rebuild(answer.failure)
        return await self._deadline_passed(method)

    async def _deadline_passed(self, method: str) -> Any:
        """The callee has seen our deadline pass; ours is bound to be here in a moment."""
        left = self._runtime.loop.seconds_left()
        if left is not None:
            await anyio.sleep(left)
            await anyio.lowlevel.checkpoint()
        raise TimeoutError(f"{method}() was cancelled by the deadline that it was called with")

    def _unconfirmed(self, call: Call, address: str) -> None:
        seconds = self._runtime.timeouts.cancel
        self._runtime.emit(CancelUnconfirmed(call.uid, call.method, address, seconds))

    # Streams

    def _lasting(self, target: Target) -> tuple[tuple[Link, ...], float | None]:
        """What a call takes along that is open for longer: who waits for it, and the seconds that are left."""
        loop = self._runtime.loop
        frame = waiting_frame(loop)
        if frame is None:
            return (), loop.seconds_left()
        frame.wait_for(Way(target.address, target.uid, Kind.STREAM))
        return frame.links(), loop.seconds_left()

    async def open_stream(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Source:
        """Call a generator method; its values come as its caller reads them."""
        address = target.address
        runtime = self._runtime
        chain, left = self._lasting(target)
        if address != runtime.address:
            channel = runtime.peers.get(address) or await runtime.peers.connect(address)
            segments: list[memoryview] = []
            body = encoded(channel, args, kwargs, segments)
            message = Call(0, target.uid, target.incarnation, method, body, left, chain, window=WINDOW)
            flow = channel.stream(message, segments)
            return RemoteSource(channel, message, flow, self._unconfirmed, self._deadline_passed)
        await runtime.loop.breathe()
        cell = runtime.taker(target.uid, target.incarnation)
        if target.copy:
            args, kwargs = loads_call(dumps_call(args, kwargs))
        work = LocalWork(cell, method, (args, kwargs), None, chain, left, batch=False)
        flow = work.feed_into_flow(copy=target.copy)
        cell.accept(work)
        return LocalSource(work, flow, self._withdraw_here, self._deadline_passed, copy=target.copy)

    # Dialogues

    async def open_dialogue(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], peer: str
    ) -> Opening:
        """Call a method that takes part in a dialogue."""
        address = target.address
        runtime = self._runtime
        chain, left = self._lasting(target)
        me = f"{runtime.address} {chain[-1][0]}" if chain else runtime.address
        if address != runtime.address:
            channel = runtime.peers.get(address) or await runtime.peers.connect(address)
            segments: list[memoryview] = []
            body = encoded(channel, args, kwargs, segments)
            message = Call(0, target.uid, target.incarnation, method, body, left, chain, dialogue=True)
            opening = RemoteOpening(channel, message, me, peer, self._unconfirmed)
            channel.talk(message, segments, opening.talk)
            return opening
        await runtime.loop.breathe()
        cell = runtime.taker(target.uid, target.incarnation)
        if target.copy:
            args, kwargs = loads_call(dumps_call(args, kwargs))
        work = LocalWork(cell, method, (args, kwargs), None, chain, left, batch=False)
        here = LocalOpening(work, me, peer, self._withdraw_here, copy=target.copy)
        work.slot, work.conversation = here.talk, here.other
        cell.accept(work)
        return here

    # Tells

    @undisturbed
    async def tell(self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send a message that has no answer."""
        address = target.address
        runtime = self._runtime
        if address == runtime.address:
            await runtime.loop.breathe()
            cell = runtime.taker(target.uid, target.incarnation)
            if target.copy:
                args, kwargs = loads_call(dumps_call(args, kwargs))
            await self._admit_here(cell)
            cell.accept(LocalWork(cell, method, (args, kwargs), None, (), None, batch=False))
            return
        channel = runtime.peers.get(address) or await runtime.peers.connect(address)
        segments: list[memoryview] = []
        body = encoded(channel, args, kwargs, segments)
        await runtime.loop.breathe()
        channel = await self._admit(target)
        if channel.crowded:
            await self._wait_room(channel, target.uid)
            if channel.closed:
                channel = await self._admit(target)  # and hear why
        try:
            channel.post(Tell(target.uid, target.incarnation, method, body), segments, key=target.uid)
        except FrameTooLarge:
            channel.windows.give(target.uid)
            raise

    async def _admit(self, target: Target) -> Channel:
        """The channel to the actor's pool, with a credit for one tell to the actor.

        Calls need none: each holds up its caller.

        Raises:
            MailboxFull: there is none, and the actor does not want its senders to wait.
        """
        peers, address = self._runtime.peers, target.address
        channel = peers.get(address) or await peers.connect(address)
        uid, bound, overflow = target.uid, target.traits.bound, target.traits.overflow
        if channel.windows.take_nowait(uid, bound) or overflow.startswith("drop"):
            return channel
        if overflow == "raise":
            raise MailboxFull(f"the mailbox of {target!r} is full: {bound} messages are on their way to it")
        await self._wait_for(Way(address, uid, Kind.ROOM), partial(channel.windows.take, uid, bound))
        return await self._admit(target) if channel.closed else channel

    async def _wait_for(self, way: Way, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait for room in a mailbox.

        Raises:
            DeadlockError: what makes room waits for us.
        """
        frame = waiting_frame(self._runtime.loop)
        if frame is None or not frame.links():
            await wait()
        else:
            await self._runtime.deadlocks.wait_room(frame, way, wait)

    async def _wait_room(self, channel: Channel, uid: str) -> None:
        """Wait until the connection takes more; without it, it shows when the message is posted."""
        try:
            await channel.wait_room()
        except BaseException:
            channel.windows.give(uid)
            raise

    # In this pool

    async def _admit_here(self, cell: Cell) -> None:
        """Wait for room in a mailbox of this pool, or raise, as the actor wants it."""
        mailbox = cell.mailbox
        if mailbox.full:
            if mailbox.overflow == "raise":
                raise cell.full()
            await self._wait_for(Way(self._runtime.address, cell.uid, Kind.ROOM), cell.wait_room)

    async def _send_copied(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        args, kwargs = loads_call(dumps_call(args, kwargs))
        return loads(dumps(await self._send_here(target, method, args, kwargs)))

    async def _send_here(
        self, target: Target, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        runtime = self._runtime
        await runtime.loop.breathe()
        cell = runtime.taker(target.uid, target.incarnation)
        known = cell.methods.get(method)
        chain = waiting_chain(runtime.loop)
        if known is None or not (known.at_once and cell.free_for(known)):
            left = runtime.loop.seconds_left()
            slot = runtime.loop.slot()
            return await self._wait_here(
                LocalWork(cell, method, (args, kwargs), slot, chain, left, batch=False)
            )
        try:
            value = runtime.loop.fresh_context().run(_call, cell, known, args, kwargs)
        except Exception as exc:
            cell.raised(method, exc)
            raise
        if is_awaitable(value) or value.__class__ in KINDS:
            known.at_once = known.one_step = False
            left = runtime.loop.seconds_left()
            return await self._wait_here(
                LocalRest(cell, method, value, runtime.loop.slot(), chain, left, batch=False)
            )
        return value

    async def _wait_here(self, work: LocalWork) -> Any:
        loop = self._runtime.loop
        slot = work.slot
        assert slot is not None
        frame = waiting_frame(loop)
        way = Way(self._runtime.address, work.cell.uid)
        if frame is not None:
            frame.wait_for(way)
        try:
            work.cell.accept(work)
            await slot.wait()
        except BaseException as exc:  # cancelled, or interrupted: either way the call must not stay open
            await self._withdraw_here(work)
            if not (isinstance(exc, loop.cancelled) and slot.filled and slot.value[0] is False):
                raise
        finally:
            if frame is not None:
                frame.waited(way)
        succeeded, value = slot.value
        if succeeded:
            return value
        if succeeded is None:
            return await self._deadline_passed(work.method)
        raise value

    async def _withdraw_here(self, work: LocalWork) -> None:
        """Cancel a call within this pool, and wait until it has ended, for as long as a cancel may take."""
        work.withdraw()
        try:
            await self._runtime.loop.run_shielded(lambda: self._wait_cancelled(work))
        finally:
            if work.slot is not None and not work.slot.filled:
                here = self._runtime.address
                seconds = self._runtime.timeouts.cancel
                self._runtime.emit(CancelUnconfirmed(work.cell.uid, work.method, here, seconds))

    async def _wait_cancelled(self, work: LocalWork) -> None:
        assert work.slot is not None
        with anyio.move_on_after(self._runtime.timeouts.cancel):
            await work.slot.wait()


def _call(cell: Cell, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method that ends in its first step, whether it is a coroutine function or not."""
    current_frame.set(cell.frame)
    function = getattr(cell.instance, method.name)
    if method.one_step:
        return run_one_step(function, args, kwargs, method.code)
    return call(function, *args, **kwargs)


def encoded(
    channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any], segments: list[memoryview]
) -> bytes:
    """The arguments of a call, as this channel takes them."""
    return dumps_plain_call(args, kwargs) if channel.plain else dumps_call(args, kwargs, segments)
