"""Numbered messages, what became of each, and whether the two fit together. Light to import: a pool does so.

Senders and recorders write to files of one directory, a line at a time and each by one write: what was written before
a SIGKILL is there after it. A sender is one task. It notes each message before it sends it and how it ended; a recorder
is one incarnation of an actor, and notes what it executes. :func:`check` reads both sides.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio

import xoscar_sc as xsc

PATIENCE = 50.0
"""Seconds for an actor to come back under its uid."""
UNORDERED = "~"
"""Is in the name of what has no order: a sender to methods without a lock, a recorder without one."""
GONE = (xsc.ActorNotExist, xsc.ActorDied, xsc.PoolDied, xsc.ConnectionLost)


class Own(Exception):
    """A method's own exception."""


class Log:
    """A file that is only appended to."""

    def __init__(self, path: str | Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *fields: Any) -> None:
        os.write(self._fd, json.dumps(fields).encode() + b"\n")

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def log(path: str | Path) -> Iterator[Log]:
    """A file for the length of a block."""
    opened = Log(path)
    try:
        yield opened
    finally:
        opened.close()


class Recording:
    """What every recorder can do."""

    uid: str

    def __init__(self, directory: str) -> None:
        self._token = ("" if isinstance(self, xsc.Actor) else UNORDERED) + secrets.token_hex(4)
        self._log = Log(Path(directory, f"{self.uid}.{self._token}.recorded"))

    def __pre_destroy__(self) -> None:
        self._log.close()

    def note(self, sender: str, number: int, _weight: bytes = b"") -> str:
        """Record, and say which incarnation this is."""
        self._log.write(sender, number)
        return self._token

    async def note_slowly(self, sender: str, number: int, _weight: bytes = b"") -> str:
        """Record, and let others run."""
        self._log.write(sender, number)
        await anyio.sleep(0.001 * (number % 4))
        return self._token

    def fail(self, sender: str, number: int, _weight: bytes = b"") -> str:
        """Record, and raise."""
        self._log.write(sender, number)
        raise Own(sender, number)

    @xsc.thread
    def note_in_thread(self, sender: str, number: int, _weight: bytes = b"") -> str:
        """Record in a thread."""
        self._log.write(sender, number)
        time.sleep(0.001)
        return self._token

    @xsc.no_lock
    async def note_beside(self, sender: str, number: int, _weight: bytes = b"") -> str:
        """Record beside other messages."""
        self._log.write(sender, number)
        await anyio.sleep(0.001)
        return self._token

    async def hand_on(self, sender: str, number: int, uids: list[str]) -> str:
        """Record, and have the next ones record."""
        self._log.write(sender, number)
        if uids:
            try:
                following = await xsc.actor_ref(uid=uids[0])
                await following.hand_on(sender + UNORDERED, number, uids[1:])
            except GONE as exc:
                raise Own(sender, number) from exc
        return self._token


class Recorder(Recording, xsc.Actor):
    """Executes one message at a time."""


class StatelessRecorder(Recording, xsc.StatelessActor):
    """Executes all messages at once."""


# Sending


Way = Callable[["Sender", Any, int], Awaitable[Any]]


class Sender:
    """One task that sends numbered messages to actors, which may be gone at any moment.

    Args:
        directory: for the files.
        name: unique among all senders.
        seed: what it does follows from this and from its name.
        uids: of the recorders.
    """

    def __init__(self, directory: str, name: str, seed: int, uids: list[str]) -> None:
        self.directory = directory
        self.name = name
        self.uids = uids
        self.chance = random.Random(f"{seed} {name}")
        self.numbers = itertools.count()
        self.uid = ""
        self._log: Log
        self._refs: dict[str, Any] = {}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is sent in this block is noted."""
        with log(Path(self.directory, f"{self.name}.sent")) as self._log:
            yield

    async def send(self, ways: dict[str, int], messages: int, until: float) -> None:
        """Send messages, each in one of these ways; a way's number says how often it is taken.

        Args:
            ways: as in :data:`WAYS`.
            messages: so many at most.
            until: not longer than that, by the monotonic clock.
        """
        with self.writing():
            for _ in range(messages):
                if time.monotonic() > until:
                    break
                way = self.chance.choices(list(ways), list(ways.values()))[0]
                self.uid = self.chance.choice(self.uids)
                if self.uid not in self._refs:
                    with anyio.fail_after(PATIENCE):
                        found = await xsc.find_actor(self.uid)
                        self._refs[self.uid] = found or await xsc.wait_for_actor(self.uid)
                await WAYS[way](self, self._refs[self.uid], next(self.numbers))

    def weight(self) -> bytes:
        """Nothing mostly, and now and then so much that it goes in pieces."""
        return b"" if self.chance.random() < 0.8 else bytes(self.chance.randrange(100_000, 300_000))

    async def note(
        self, kind: str, number: int, call: Awaitable[Any], items: int = 1, *, sender: str = ""
    ) -> None:
        """Await a call, and note how it ends."""
        self._log.write("starts", sender or self.name, number, kind, items, self.uid)
        maybe: Any = None
        value: Any = None
        try:
            value = await call
            end = "value"
        except (Own, xsc.RemoteError) as exc:
            end = type(exc).__name__
        except GONE as exc:
            end = type(exc).__name__
            maybe = False if isinstance(exc, xsc.ActorNotExist) else getattr(exc, "maybe_executed", None)
            self._refs.pop(self.uid, None)
        except TimeoutError:  # the callee has seen the deadline pass before the caller
            end = "cancelled"
        except anyio.get_cancelled_exc_class():
            self._log.write("ends", sender or self.name, number, "cancelled", None, None)
            raise
        except Exception as exc:
            self._log.write("ends", sender or self.name, number, f"{type(exc).__name__}: {exc}", None, None)
            raise
        self._log.write("ends", sender or self.name, number, end, maybe, value)


async def by_send(sender: Sender, ref: Any, number: int) -> None:
    method = sender.chance.choice([ref.note, ref.note_slowly, ref.note_in_thread])
    await sender.note("send", number, method(sender.name, number, sender.weight()))


async def by_tell(sender: Sender, ref: Any, number: int) -> None:
    method = sender.chance.choice([ref.note, ref.note_slowly])
    await sender.note("tell", number, method.tell(sender.name, number, sender.weight()))


async def by_batch(sender: Sender, ref: Any, number: int) -> None:
    items = sender.chance.randrange(1, 6)
    numbers = [number, *itertools.islice(sender.numbers, items - 1)]
    method = sender.chance.choice([ref.note, ref.note_slowly])
    calls = [method.delay(sender.name, each, sender.weight()) for each in numbers]
    await sender.note("batch", number, method.batch(*calls), items)


async def by_failing(sender: Sender, ref: Any, number: int) -> None:
    await sender.note("failing", number, ref.fail(sender.name, number, sender.weight()))


async def by_cancelled_send(sender: Sender, ref: Any, number: int) -> None:
    with anyio.move_on_after(sender.chance.choice([0, 0.001, 0.003])):
        await by_send(sender, ref, number)


async def by_cancelled_tell(sender: Sender, ref: Any, number: int) -> None:
    with anyio.move_on_after(sender.chance.choice([0, 0.001])):
        await by_tell(sender, ref, number)


async def by_cancelled_batch(sender: Sender, ref: Any, number: int) -> None:
    with anyio.move_on_after(sender.chance.choice([0, 0.002])):
        await by_batch(sender, ref, number)


async def by_beside(sender: Sender, ref: Any, number: int) -> None:
    name = sender.name + UNORDERED
    await sender.note("beside", number, ref.note_beside(name, number, sender.weight()), sender=name)


async def by_handing_on(sender: Sender, ref: Any, number: int) -> None:
    # Upwards only: two chains that have different orders would wait for each other.
    behind = [uid for uid in sorted(sender.uids) if uid > sender.uid]
    way = sorted(sender.chance.sample(behind, min(2, len(behind))))
    with anyio.move_on_after(sender.chance.choice([0.01, 60])):
        await sender.note("hand on", number, ref.hand_on(sender.name, number, way))


WAYS: dict[str, Way] = {
    "send": by_send,
    "tell": by_tell,
    "batch": by_batch,
    "failing": by_failing,
    "cancelled send": by_cancelled_send,
    "cancelled tell": by_cancelled_tell,
    "cancelled batch": by_cancelled_batch,
    "beside": by_beside,
    "hand on": by_handing_on,
}


async def send_all(
    directory: str, name: str, seed: int, uids: list[str], ways: dict[str, int], messages: int, until: float
) -> None:
    """A sender as a function, for a task or a pool."""
    await Sender(directory, name, seed, uids).send(ways, messages, until)


def note_by_function(directory: str, sender: str, number: int) -> str:
    """Record, as a function that runs in a pool."""
    token = f"{UNORDERED}{os.getpid()}"
    with log(Path(directory, f"function.{token}.recorded")) as file:
        file.write(sender, number)
    return token


class SendingActor(xsc.StatelessActor):
    """A sender as an actor."""

    async def send_all(self, *args: Any) -> None:
        await send_all(*args)


# Checking


class Sent(NamedTuple):
    """A message, from its sender's side."""

    sender: str
    number: int
    kind: str
    items: int
    uid: str
    end: str | None
    """None if the sender has not lived to see it."""
    maybe_executed: bool | None
    value: Any

    @property
    def numbers(self) -> range:
        return range(self.number, self.number + self.items)


class History:
    """What the files of a directory tell."""

    def __init__(self, directory: Path) -> None:
        self.sent: list[Sent] = []
        self.wrong: list[str] = []
        self.recorded: dict[str, list[tuple[str, int]]] = {}
        """What each incarnation has executed, in order."""
        for path in sorted(directory.glob("*.sent")):
            self._read_sent(path)
        for path in sorted(directory.glob("*.recorded")):
            token = path.name.split(".")[-2]
            self.recorded[token] = [tuple(json.loads(line)) for line in path.read_text().splitlines()]
        self.where: dict[tuple[str, int], list[str]] = defaultdict(list)
        for token, messages in self.recorded.items():
            for message in messages:
                self.where[message].append(token)

    def _read_sent(self, path: Path) -> None:
        open_ones: dict[tuple[str, int], tuple[Any, ...]] = {}
        for line in path.read_text().splitlines():
            what, sender, number, *rest = json.loads(line)
            if what == "starts":
                open_ones[sender, number] = tuple(rest)
            elif (sender, number) in open_ones:
                self.sent.append(Sent(sender, number, *open_ones.pop((sender, number)), *rest))
            else:
                self.wrong.append(f"{sender} {number} ended twice")
        for (sender, number), started in open_ones.items():
            self.sent.append(Sent(sender, number, *started, None, None, None))

    def ends(self) -> Counter[str]:
        """How messages have ended."""
        return Counter(str(each.end) for each in self.sent)

    def check(self, *, may_be_cut_off: Callable[[str], bool]) -> list[str]:
        """What must not be.

        Args:
            may_be_cut_off: whether the sender of this name may have been killed.
        """
        allowed = {"value", "Own", "cancelled", *(each.__name__ for each in GONE)}
        for token, messages in self.recorded.items():
            last: dict[str, int] = {}
            for sender, number in messages:
                if UNORDERED not in sender + token and number <= last.get(sender, -1):
                    self.wrong.append(f"{token} has executed {sender} {number} after {last[sender]}")
                last[sender] = number
        for (sender, number), tokens in self.where.items():
            if len(tokens) > 1:
                self.wrong.append(f"{sender} {number} was executed {len(tokens)} times, by {tokens}")
        for each in self.sent:
            if each.end is None and not may_be_cut_off(each.sender):
                self.wrong.append(f"{each} has not ended")
            elif each.end is not None and each.end not in allowed:
                self.wrong.append(f"{each} ended in no way that there is")
            self._check_execution(each)
        self._check_losses()
        return self.wrong

    def _check_execution(self, sent: Sent) -> None:
        executed = [number for number in sent.numbers if (sent.sender, number) in self.where]
        if executed != list(sent.numbers)[: len(executed)]:
            self.wrong.append(f"{sent} was executed in part, and not from its beginning: {executed}")
        if sent.kind == "tell":
            if sent.end == "cancelled" and executed:
                self.wrong.append(f"{sent} was not sent, and was executed")
        elif sent.end == "value":
            tokens = sent.value if sent.kind == "batch" else [sent.value]
            if [self.where.get((sent.sender, number)) for number in sent.numbers] != [[at] for at in tokens]:
                self.wrong.append(f"{sent} has a value, and was executed as {executed}")
        elif sent.end == "Own" and len(executed) != sent.items:
            self.wrong.append(f"{sent} has raised, and was executed as {executed}")
        if sent.maybe_executed is False and executed:
            self.wrong.append(f"{sent} was certainly not executed, and was: {executed}")

    def _check_losses(self) -> None:
        """Between two answers of one incarnation, what it was told has been executed."""
        told: dict[tuple[str, str], list[Sent]] = defaultdict(list)
        before: dict[tuple[str, str], str] = {}
        for each in self.sent:
            way = (each.sender, each.uid)
            if each.kind == "tell" and each.end == "value":
                told[way].append(each)
            elif each.kind in {"send", "batch"} and each.end == "value":
                token = each.value[0] if each.kind == "batch" else each.value
                if before.get(way) == token:
                    for tell in told[way]:
                        if self.where.get((tell.sender, tell.number)) != [token]:
                            self.wrong.append(f"{tell} was lost between two answers of {token}")
                before[way] = token
                told[way].clear()
