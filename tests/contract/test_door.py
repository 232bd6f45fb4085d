"""What programs from outside may do: with a door's settings, by the rules and against them."""

from __future__ import annotations

import os
import pickle
import re
import socket
import stat
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import xoscar_sc as xsc
from tests.contract.driving import both_drivers, next_event, until
from tests.contract.outside import (
    LOOPBACK,
    SECRET,
    Desk,
    Made,
    NotMade,
    Odd,
    OddError,
    Point,
    apart,
    counting,
    descriptors,
    guest,
    hidden,
    server,
    tell,
    touch,
    triple,
)
from tests.ipc.certificates import Authority
from xoscar_sc.protocol import (
    Call,
    Demand,
    Failed,
    Failure,
    Hello,
    Item,
    Placed,
    Reply,
    Started,
    encode,
    frame,
)

pack = msgspec.msgpack.encode

# Opening


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://[::]:0", "192.0.2.1:0", "example.com:7000"])
def test_without_auth_nothing_is_opened_that_others_can_reach(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("no socket may be made"))
    with pytest.raises(xsc.AuthenticationError, match=r"give auth=Secret\(\.\.\.\) or auth=TLS"):
        xsc.open_pool_nursery(address=address)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"address": "unix:///run/x"}, ValueError, "tcp://host:port"),
    ({"address": "nonsense"}, ValueError, "host:port"),
    ({"address": LOOPBACK, "auth": "a text that is long enough"}, TypeError, "auth= is str"),
    ({"address": LOOPBACK, "auth": b"bytes that are long enough"}, TypeError, "auth= is bytes"),
    ({"address": LOOPBACK, "expose": "desk"}, TypeError, r"\['desk'\]"),
    ({"address": LOOPBACK, "expose": [5]}, TypeError, "expose= has 5"),
    ({"address": LOOPBACK, "expose": [dict]}, TypeError, "expose= has"),
    ({"address": LOOPBACK, "pickle": "no"}, TypeError, "pickle= is 'no'"),
    ({"address": LOOPBACK, "advertise": "nonsense"}, ValueError, "host:port"),
    ({"auth": SECRET}, ValueError, "address="),
    ({"expose": ["desk"]}, ValueError, "address="),
    ({"advertise": LOOPBACK}, ValueError, "address="),
]


@pytest.mark.parametrize(("settings", "error", "text"), WRONG)
def test_a_wrong_setting_of_a_door_is_refused_before_anything_starts(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        xsc.open_pool_nursery(**settings)


@both_drivers
async def test_a_taken_port_is_an_error_of_the_block_and_leaves_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        before = descriptors()
        with pytest.raises(OSError, match="Address already in use"):
            async with xsc.open_pool_nursery(
                address=f"tcp://127.0.0.1:{taken.getsockname()[1]}", auth=SECRET
            ):
                pytest.fail("the block must not be entered")
        assert descriptors() == before


@both_drivers
async def test_where_others_reach_a_door_may_be_another_address() -> None:
    async with xsc.open_pool_nursery(
        0, address="tcp://0.0.0.0:0", advertise="tcp://door.example:0", auth=SECRET
    ) as n:
        assert n.address is not None
        port = int(n.address.removeprefix("tcp://door.example:"))
        async with guest(f"tcp://127.0.0.1:{port}") as g:
            assert g.welcome is not None
            assert g.welcome.address == n.address


@both_drivers
async def test_the_secret_of_a_loopback_door_is_a_file_of_its_users_that_goes_with_it() -> None:
    base = Path(os.environ["XSC_RUNTIME_DIR"])
    async with xsc.open_pool_nursery(0, address=LOOPBACK) as n:
        assert n.address is not None
        (path,) = base.glob("*/*.key")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert n.address.rpartition(":")[2] in path.name
        async with guest(n.address, xsc.Secret.from_file(path)):
            pass
    assert not [*base.glob("*/*.key")]


# The tree's own programs


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_a_program_of_the_same_user_needs_no_secret_on_loopback(pools: int, tmp_path: Path) -> None:
    with server(tmp_path, "own secret", pools) as (_, address):
        async with xsc.connect(address) as remote:
            assert await (await remote.actor_ref("desk")).add(2) == 2


@both_drivers
async def test_a_program_without_the_secret_is_told_so(tmp_path: Path) -> None:
    with server(tmp_path, pools=0) as (running, address):
        for auth, text in [
            (None, "give auth="),
            (xsc.Secret(b"another secret altogether"), "the client does not know the secret"),
            (Authority(tmp_path / "ca").tls(), "TLS"),
        ]:
            with pytest.raises(xsc.AuthenticationError, match=text):
                async with xsc.connect(address, auth):
                    pytest.fail("the block must not be entered")
        for text in ("went away before", "does not know the secret", "TLS"):
            assert text in await anyio.to_thread.run_sync(running.line)


@both_drivers
async def test_programs_with_certificates_meet_and_others_do_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    tls = authority.tls()
    source = """
        import sys
        import anyio
        import xoscar_sc as xsc

        async def main(address, *files):
            tls = xsc.TLS(*files)
            async with xsc.connect(address, tls) as remote:
                desk = await remote.actor_ref("desk")
                data = bytes(range(256)) * 40_000
                print(await desk.add(5), await desk.echo(data) == data)
            for wrong in (None, xsc.Secret.generate()):
                try:
                    async with xsc.connect(address, wrong):
                        pass
                except xsc.AuthenticationError as exc:
                    print("TLS" in str(exc) or "give auth=" in str(exc))

        if __name__ == "__main__":
            anyio.run(main, *sys.argv[1:])
    """
    from tests.contract.driving import run_program

    async with xsc.open_pool_nursery(1, address=LOOPBACK, auth=tls) as n:
        assert n.address is not None
        await n.create_actor(Desk, uid="desk")
        files = [str(each) for each in (*authority.files(), authority.file)]
        address = n.address
        said = await anyio.to_thread.run_sync(lambda: run_program(tmp_path, source, address, *files))
        assert said == "5 True\nTrue\nTrue\n"


# What may be used


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_what_is_not_exposed_looks_as_if_it_did_not_exist(pools: int, tmp_path: Path) -> None:
    with server(tmp_path, "some", pools) as (_, address):
        async with xsc.connect(address, SECRET) as remote:
            desk = await remote.actor_ref("desk")
            assert await desk.add(5) == 5
            assert await remote.find_actor("other") is None
            assert await xsc.find_actor("other") is None
            for use in (remote.wait_for_actor, xsc.wait_for_actor):
                for uid in ("other", "nobody"):
                    with anyio.move_on_after(0.1) as scope:
                        await use(uid)
                    assert scope.cancelled_caught
            texts: list[list[tuple[str, str]]] = []
            for uid in ("other", "nobody"):
                texts.append([])
                there: Any = xsc.ActorRef(desk.address, uid, 0, Desk, traits=desk.__target__().traits)
                assert not await there.is_alive()
                for ask in (
                    lambda there=there: there.add(1),
                    lambda there=there: there.add.batch(there.add.delay(1)),
                    lambda there=there: read(there.numbers(3)),
                    lambda there=there: enter(there.double.open_context(1)),
                    lambda there=there: enter(there.monitor()),
                    lambda there=there: there.destroy(),
                    lambda there=there: there.kill(),
                    lambda uid=uid: remote.actor_ref(uid),
                    lambda uid=uid: xsc.actor_ref(address, uid),
                ):
                    with pytest.raises(xsc.ActorNotExist) as caught:
                        await ask()
                    texts[-1].append((type(caught.value).__name__, str(caught.value).replace(uid, "*")))
            assert texts[0] == texts[1]


async def read(stream: Any) -> list[Any]:
    return [each async for each in stream]


async def enter(block: Any) -> None:
    async with block as entered:
        if isinstance(entered, tuple):
            return
        async for exit_ in entered:
            raise xsc.ActorNotExist(f"ended: {exit_.error}") if exit_.error else AssertionError(exit_)


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_without_expose_all_actors_may_be_called_and_nothing_else_is_done(
    pools: int, tmp_path: Path
) -> None:
    with server(tmp_path, "all", pools) as (_, address):
        async with xsc.connect(address, SECRET) as remote:
            desk = await remote.actor_ref("desk")
            other = await remote.actor_ref("other")
            assert await desk.add(1) == 1
            assert await other.add(1) == 101
            for ask in (
                lambda: remote.create_actor(Made),
                lambda: remote.create_actor(Desk),
                lambda: remote.run(triple, 1),
                lambda: remote.run(os.getpid),
                lambda: enter(remote.open_context(counting, 1)),
                desk.destroy,
                desk.kill,
                desk.stop,
                lambda: desk.stop.batch(desk.stop.delay()),
            ):
                with pytest.raises(xsc.NotExposed):
                    await ask()
            await desk.stop.tell()
            assert await desk.is_alive()
            assert await desk.add(1) == 2


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_what_is_exposed_can_be_made_and_run(pools: int, tmp_path: Path) -> None:
    with server(tmp_path, "some", pools) as (_, address):
        async with xsc.connect(address, SECRET) as remote:
            assert await remote.run(triple, 4) == 12
            async with remote.open_context(counting, 3) as (ctx, first):
                assert first == 3
                async with ctx.open_stream() as stream:
                    assert [each async for each in stream] == [0, 1, 2]
            made = await remote.create_actor(Made, 7, uid="mine")
            assert await made.add(1) == 8
            assert await (await remote.actor_ref("mine")).add(1) == 9
            for ask in (
                lambda: remote.create_actor(NotMade),
                lambda: remote.create_actor(Desk),
                lambda: remote.run(hidden, 1),
                lambda: remote.run("os:getpid"),
                lambda: remote.run("builtins:eval", "1"),
                lambda: enter(remote.open_context(hidden, 1)),
            ):
                with pytest.raises(xsc.NotExposed, match="there is no"):
                    await ask()
            with pytest.raises(xsc.NotExposed, match="for programs from outside to end"):
                await (await remote.actor_ref("desk")).destroy()
            await made.destroy()
            assert not await made.is_alive()
            assert await (await remote.actor_ref("desk")).add(1) == 1


CONTROL: list[tuple[str, tuple[Any, ...]]] = [
    ("create_actor", ("tests.contract.outside:Made", [], {}, None)),
    ("create_actor", ("Made", [], {}, "x")),
    ("create_actor", (5, [], {}, None)),
    ("unmake_actor", ("desk", "")),
    ("end_actor", ("desk", 0, "destroy")),
    ("end_actor", ("desk", 0, "kill")),
    ("end_actor", ("", 0, "kill")),
    ("run", ("os:getpid", [], {})),
    ("run", ("posix:getpid", [], {})),
    ("run", (5, [], {})),
    ("run", ()),
    ("run", ("hidden", [1], {})),
    ("converse", ("counting", [1], {})),
    ("open_gate", ({"address": "tcp://127.0.0.1:0"},)),
    ("stop_pool", (True,)),
    ("stop", ()),
    ("chase", (None, "desk", ["desk", "add", 1], 0)),
    ("deadlocked", ("desk", 1, [])),
    ("reserve", ("new", "unix:///x", "t", [])),
    ("bind", ("desk", "", "unix:///x", 1, None)),
    ("release", ("desk", "")),
    ("release_pool", ("unix:///x",)),
    ("describe", ("", 0)),
    ("watch", ("", 0)),
    ("find", ("", False)),
    ("is_alive", ("", 0)),
    ("_where", ("desk",)),
    ("__init__", (None,)),
    ("_guest", ()),
]


@pytest.mark.parametrize("expose", [None, ["desk"]], ids=["all", "some"])
@pytest.mark.parametrize("plain", [False, True], ids=["pickle", "plain"])
@both_drivers
async def test_nothing_can_be_asked_of_a_pool_by_messages_made_by_hand(
    expose: Any, plain: bool, tmp_path: Path
) -> None:
    async with xsc.open_pool_nursery(2, address=LOOPBACK, auth=SECRET, expose=expose, pickle=not plain) as n:
        assert n.address is not None
        desk = await n.create_actor(Desk, uid="desk", pool="pool-1")
        before = dict(n.pools)
        async with guest(n.address) as g:
            for method, args in CONTROL:
                for more in ({}, {"batch": True}, {"window": 3}, {"dialogue": True}):
                    given = [[list(args), {}]] if more == {"batch": True} else args
                    answer = await g.ask("", method, *given, **more)
                    if method in ("describe", "find", "is_alive") and not more:
                        assert isinstance(answer, Reply)
                        assert answer.body in (b"\xc0", b"\xc2")
                    elif not (isinstance(answer, Reply) and method in ("describe", "find", "is_alive")):
                        assert isinstance(answer, Failed), (method, more, answer)
                await g.say(tell("", method, pack(args)))
            assert await g.ask("desk", "add", 1) == Reply(g.calls, b"\x01")
        assert await desk.add(1) == 2
        assert dict(n.pools) == before
        assert list(n.actors) == ["desk"]
        assert await xsc.find_actor("new") is None


@both_drivers
async def test_what_an_actor_has_of_its_own_is_nothing_for_guests() -> None:
    async with xsc.open_pool_nursery(1, address=LOOPBACK, auth=SECRET) as n:
        assert n.address is not None
        desk = await n.create_actor(Desk, uid="desk", pool="pool-1")
        async with guest(n.address) as g:
            for name in dir(Desk):
                if not name.startswith("_") and hasattr(xsc.Actor, name) and name != "ref":
                    assert isinstance(await g.ask("desk", name), Failed), name
                if name.startswith("_"):
                    answer = await g.ask("desk", name)
                    assert isinstance(answer, Failed)
                    assert answer.failure.type_name == "AttributeError"
        assert await desk.is_alive()


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_no_tell_from_outside_makes_an_actor_fail(pools: int) -> None:
    async with xsc.open_pool_nursery(pools, address=LOOPBACK, auth=SECRET) as n:
        assert n.address is not None
        desk = await n.create_actor(Desk, uid="desk", pool="pool-1" if pools else None)
        events = n.events()
        async with guest(n.address) as g:
            for method, body in [
                ("fail", pack(["value"])),
                ("add", pack([1, 2, 3, 4])),
                ("add", pack(["text"])),
                ("add", b"\xc1"),
                ("add", b""),
                ("nothing", b"\x90"),
                ("numbers", pack([1])),
                ("double", pack([1])),
            ]:
                await g.say(tell("desk", method, body))
                dropped = await next_event(events, xsc.events.MessageDropped)
                assert (dropped.uid, dropped.method) == ("desk", method)
            assert await g.ask("desk", "add", 1) == Reply(g.calls, b"\x01")
        assert await desk.add(1) == 2


# Nothing pickled


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_without_pickle_only_plain_types_cross(pools: int, tmp_path: Path) -> None:
    with server(tmp_path, "plain", pools) as (_, address):
        async with xsc.connect(address, SECRET) as remote:
            desk = await remote.actor_ref("desk")
            values = [1, "text", b"bytes", None, True, 2.5, [1, [2]], {"a": {"b": 1}}, b"x" * 300_000]
            for value in values:
                assert await desk.echo(value) == value
                assert await desk.echo(name=value) == {"name": value}
                await desk.note.tell(value)
            assert await desk.notes() == values
            assert await desk.echo.batch(*map(desk.echo.delay, values)) == values
            assert await desk.echo((1, 2)) == [1, 2]
            assert await desk.echo(Point(3, 4)) == {"x": 3, "y": 4}
            assert await desk.point() == {"x": 1, "y": 2}
            assert await read(desk.numbers(5)) == [0, 1, 2, 3, 4]
            assert await remote.run(triple, 2) == 6
            made = await remote.create_actor(Made, 1)
            assert await made.add(1) == 2
            async with desk.double.open_context([1]) as (ctx, first):
                assert first == [1]
                async with ctx.open_stream() as stream:
                    await stream.send("ab")
                    assert await stream.receive() == "abab"
                    with pytest.raises(xsc.SerializationError):
                        await stream.send(Odd())
                assert await ctx.result() == "done"


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_without_pickle_other_types_are_refused_where_they_are_sent(pools: int, tmp_path: Path) -> None:
    with server(tmp_path, "plain", pools) as (_, address):
        async with xsc.connect(address, SECRET) as remote:
            desk = await remote.actor_ref("desk")
            for use in (
                lambda: desk.echo(Odd()),
                lambda: desk.echo(name=Odd()),
                lambda: desk.note.tell(Odd()),
                lambda: desk.echo.batch(desk.echo.delay(1), desk.echo.delay(Odd())),
                lambda: read(desk.numbers(Odd())),
                lambda: enter(desk.double.open_context(Odd())),
                lambda: remote.run(triple, Odd()),
                lambda: remote.create_actor(Made, Odd()),
            ):
                with pytest.raises(xsc.SerializationError):
                    await use()
            with pytest.raises(xsc.SerializationError):
                await desk.odd()
            with pytest.raises(xsc.SerializationError):
                await read(desk.odds())
            assert await desk.add(1) == 1
            assert remote.connected


@pytest.mark.parametrize("pools", [0, 2])
@pytest.mark.parametrize("kind", ["plain", "all"])
@both_drivers
async def test_without_pickle_exceptions_are_known_ones_or_stand_ins(
    kind: str, pools: int, tmp_path: Path
) -> None:
    with server(tmp_path, kind, pools) as (_, address):
        async with xsc.connect(address, SECRET, pickle=False) as remote:
            desk = await remote.actor_ref("desk")
            with pytest.raises(ValueError, match="no good"):
                await desk.fail("value")
            with pytest.raises(xsc.MailboxFull, match="full"):
                await desk.fail("package")
            with pytest.raises(xsc.RemoteError, match="odd") as caught:
                await desk.fail("own")
            assert not isinstance(caught.value, OddError)
            with pytest.raises(KeyError):
                await desk.fail("none")
            with pytest.raises(xsc.ActorNotExist):
                await remote.actor_ref("nobody")
            with pytest.raises(xsc.NotExposed):
                await remote.run(hidden, 1)
            assert remote.connected


@pytest.mark.parametrize("pools", [0, 2])
@both_drivers
async def test_a_program_that_wants_no_pickles_gets_none_from_one_that_has_them(
    pools: int, tmp_path: Path
) -> None:
    with server(tmp_path, "all", pools) as (_, address):
        async with xsc.connect(address, SECRET, pickle=False) as remote:
            desk = await remote.actor_ref("desk")
            assert await desk.point() == {"x": 1, "y": 2}
            assert await desk.echo([1, (2, 3)]) == [1, [2, 3]]
            with pytest.raises(xsc.SerializationError):
                await desk.odd()
            assert remote.connected
            assert await desk.add(1) == 1


def pickles(data: bytes) -> dict[str, bytes]:
    """A pickle in each message that has a place for one, as the bytes of a conversation."""
    call = Call(1, "desk", 0, "echo", data)
    nested = Failure("X", "", members=(Failure("Y", "", cause=Failure("Z", "", payload=data)),))
    deep = Failure("X", "", payload=data)
    for _ in range(100):
        deep = Failure("X", "", cause=deep)
    said = {
        "a call": call,
        "a batch": Call(1, "desk", 0, "echo", data, batch=True),
        "a stream": Call(1, "desk", 0, "numbers", data, window=5),
        "a dialogue": Call(1, "desk", 0, "double", data, window=5, dialogue=True),
        "a call of a pool": Call(1, "", 0, "find", data),
        "a function": Call(1, "", 0, "run", data),
        "an actor": Call(1, "", 0, "create_actor", data),
        "a call of nobody": Call(1, "nobody", 0, "echo", data),
        "a tell": tell("desk", "note", data),
        "a reply": Reply(1, data),
        "an item": Item(1, data, mine=True),
        "an item back": Item(1, data),
        "a beginning": Started(1, data),
        "types": Started(1, b"\xc0", types=data),
        "an exception": Failed(1, nested),
        "a deep exception": Failed(1, deep),
        "a placed call": Placed((), encode(call)),
    }
    found = {name: frame(encode(message)) for name, message in said.items()}
    for name, empty in {
        "a call": Call(1, "desk", 0, "echo", b""),
        "a tell": tell("desk", "note", b""),
        "a reply": Reply(1, b""),
        "an item": Item(1, b"", mine=True),
        "a beginning": Started(1, b""),
    }.items():
        found[f"{name}, apart"] = apart(empty, data)
        found[f"{name}, apart and more"] = apart(empty, b"\x90", data)
    found["a placed call, apart"] = apart(Placed(((0, 0),), encode(Call(1, "desk", 0, "echo", b""))), data)
    found["a buffer"] = apart(Call(1, "desk", 0, "echo", b"\x91\xc4\x00"), data)
    return found


@both_drivers
async def test_a_pickle_where_none_is_admitted_ends_its_connection_and_is_never_opened(
    tmp_path: Path,
) -> None:
    made = tmp_path / "made by a pickle"
    data = touch(made)
    pickle.loads(data)  # it would
    assert made.exists()
    made.unlink()
    async with xsc.open_pool_nursery(1, address=LOOPBACK, auth=SECRET, pickle=False) as n:
        assert n.address is not None
        await n.create_actor(Desk, uid="desk", pool="pool-1")
        events = n.events()
        async with guest(n.address) as other:
            for number, (kind, said) in enumerate(pickles(data).items(), 1):
                async with guest(n.address) as g:
                    await g.send(said)
                    await g.hear_end()
                refused = await next_event(events, xsc.events.ConnectionRefused)
                assert re.search("pickle|plain messages|placed", refused.reason), (kind, refused)
                assert await other.ask("desk", "add", 1) == Reply(number, pack(number))
        assert not [each for each in events._events if isinstance(each, xsc.events.ConnectionRefused)]
    assert not made.exists()


@both_drivers
async def test_a_pickle_in_a_dialogue_is_never_opened(tmp_path: Path) -> None:
    made = tmp_path / "made by a pickle"
    async with xsc.open_pool_nursery(1, address=LOOPBACK, auth=SECRET, pickle=False) as n:
        assert n.address is not None
        await n.create_actor(Desk, uid="desk", pool="pool-1")
        events = n.events()
        async with guest(n.address) as g:
            opened = g.call("desk", "double", pack([1]), dialogue=True)
            await g.say(opened)
            await g.hear(Started)
            await g.hear(Demand)
            await g.say(Demand(opened.id, 8), Item(opened.id, pack("ab"), mine=True))
            assert (await g.hear(Item)).body == pack("abab")
            await g.say(Item(opened.id, touch(made), mine=True))
            await g.hear_end()
            assert (
                "a pickle came in a Item" in (await next_event(events, xsc.events.ConnectionRefused)).reason
            )
    assert not made.exists()


@both_drivers
async def test_an_answer_with_a_pickle_is_not_opened_by_a_program_that_wants_none(tmp_path: Path) -> None:
    """A program at which ours knocks, and which has the secret, and yet means no good."""
    from xoscar_sc.ipc import admit, tcp
    from xoscar_sc.protocol import Challenge, ServerHandshake, TcpAddress, Welcome

    made = tmp_path / "made by a pickle"
    listening = await tcp.bind(TcpAddress("127.0.0.1", 0))
    listening.setblocking(False)
    address = str(tcp.local(listening))

    async def answer(kind: str) -> None:
        await anyio.wait_readable(listening)
        sock, _ = listening.accept()
        sock.setblocking(False)
        key = SECRET.__key__()
        challenge = Challenge(1, os.urandom(32), "secret", "root", "bad/0")
        await admit(sock, ServerHandshake(key, challenge, Welcome(b"", "bad", "/bad", address, False, 0.0)))
        from tests.contract.outside import Stranger

        peer = Stranger(sock)
        await peer.say(Hello(1, "bad", address, "root", 1))
        call = await peer.hear(Call)
        data = touch(made)
        await peer.say(Reply(call.id, data) if kind == "reply" else Failed(call.id, Failure("X", "", data)))
        await peer.hear_end()
        peer.close()

    for kind in ("reply", "failed"):
        async with anyio.create_task_group() as group:
            group.start_soon(answer, kind)
            async with xsc.connect(address, SECRET, pickle=False) as remote:
                with pytest.raises(xsc.ConnectionLost, match="pickle"):
                    await remote.find_actor("desk")
    listening.close()
    assert not made.exists()


# Secrets


@pytest.mark.parametrize("own", [False, True])
@both_drivers
async def test_no_secret_is_in_a_command_line_or_an_environment(own: bool, tmp_path: Path) -> None:
    with server(tmp_path, "own secret" if own else "all") as (running, address):
        if own:
            port = address.rpartition(":")[2]
            (path,) = Path(os.environ["XSC_RUNTIME_DIR"]).glob(f"*/*-{port}.key")
            key = xsc.Secret.from_file(path).__key__()
        else:
            key = SECRET.__key__()
        async with xsc.connect(address, None if own else SECRET) as remote:
            assert await (await remote.actor_ref("desk")).add(1) == 1
            pids = [running.pid, *running.descendants()]
            assert len(pids) >= 4
            for pid in pids:
                for name in ("cmdline", "environ"):
                    assert key not in Path(f"/proc/{pid}/{name}").read_bytes()


@both_drivers
async def test_what_was_made_for_a_guest_ends_with_it(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(1, address=LOOPBACK, auth=SECRET, expose=[Made]) as n:
        assert n.address is not None
        async with guest(n.address) as g:
            answer = await g.ask("", "create_actor", "tests.contract.outside:Made", [], {}, "mine")
            assert isinstance(answer, Reply), answer
            assert list(n.actors) == ["mine"]
            assert isinstance(await g.ask("mine", "add", 1), Reply)
            await g.ask("", "leave")
            await until(lambda: not n.actors)


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_no_durable_tell_from_outside_ends_an_actor(pools: int, tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools, address=LOOPBACK, auth=SECRET) as n:
        assert n.address is not None
        keep = xsc.Snapshots(tmp_path / "state.db")
        desk = await n.create_actor(Desk, uid="desk", snapshot=keep, pool="pool-1" if pools else None)
        async with guest(n.address) as g:
            await g.say(g.call("desk", "__tell_durable__", pack(["stop", b"\x90", ""])))
            answer = await g.hear(Failed)
            assert answer.failure.type_name == "xoscar_sc.errors.NotExposed"
            await g.say(g.call("desk", "__tell_durable__", pack(["add", pack([5]), ""])))
            await g.hear(Reply)
        assert await desk.add(1) == 6
