"""Two programs on two hosts, as network namespaces: the link between them is cut, and healed."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import xoscar_sc as xsc
from tests.contract.driving import Program, program
from tests.contract.serving import PROGRAM, server

CLONE_NEWNET = 0x40000000


class Network:
    """Two hosts, each with a cable to a bridge, which is a namespace of its own."""

    def __init__(self) -> None:
        token = secrets.token_hex(3)
        self.names = (f"xsc-a-{token}", f"xsc-b-{token}")
        self._between = f"xsc-m-{token}"
        self.hosts = ("10.213.7.1", "10.213.7.2")
        self.hosts6 = ("fd00:77::1", "fd00:77::2")
        self._made: list[str] = []
        try:
            self._make(token)
        except BaseException:
            self.close()
            raise

    def _make(self, token: str) -> None:
        for name in (self._between, *self.names):
            ip("netns", "add", name)
            self._made.append(name)
        middle = ("-n", self._between)
        ip(*middle, "link", "add", "bridge", "type", "bridge")
        self.heal()
        for name, host, host6 in zip(self.names, self.hosts, self.hosts6, strict=True):
            port, inside = f"x{name[4]}{token}", ("-n", name)
            ip(*middle, "link", "add", port, "type", "veth", "peer", "name", "cable", "netns", name)
            ip(*middle, "link", "set", port, "master", "bridge")
            ip(*middle, "link", "set", port, "up")
            ip(*inside, "addr", "add", f"{host}/24", "dev", "cable")
            ip(*inside, "addr", "add", f"{host6}/64", "dev", "cable", "nodad")
            ip(*inside, "link", "set", "lo", "up")
            ip(*inside, "link", "set", "cable", "up")

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told: the cables stay."""
        ip("-n", self._between, "link", "set", "bridge", "down")

    def heal(self) -> None:
        """All comes through again."""
        ip("-n", self._between, "link", "set", "bridge", "up")

    def close(self) -> None:
        for name in self._made:
            ip("netns", "del", name)

    def enter(self, which: int) -> Callable[[], None]:
        """Makes the process that calls it one of that host's."""
        path = f"/run/netns/{self.names[which]}"

        def enter() -> None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            os.close(descriptor)

        return enter


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def ip(*arguments: str) -> None:
    run("ip", *arguments)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("namespaces are made by root, with ip")
    try:
        made = Network()
    except (subprocess.CalledProcessError, OSError) as exc:
        pytest.skip(f"no namespaces here: {getattr(exc, 'stderr', exc)!r}")
    try:
        yield made
    finally:
        made.close()


CLIENT = """
    import json, sys, time
    from pathlib import Path

    import anyio
    import xoscar_sc as xsc

    address, secret, timeouts = sys.argv[1], sys.argv[2], xsc.Timeouts(**json.loads(sys.argv[3]))


    async def told(word):
        while not Path(word).exists():
            await anyio.sleep(0.01)


    async def hold(ref):
        try:
            print("held", await ref.hold(), flush=True)
        except xsc.ConnectionLost as exc:
            print("lost", flush=True)


    async def main():
        async with xsc.connect(address, xsc.Secret.from_file(secret), timeouts=timeouts) as remote:
            ref = await remote.actor_ref("service-0")
            print(await ref.add(1), flush=True)
            async with anyio.create_task_group() as group:
                group.start_soon(hold, ref)
                await ref.wait_held()
                print("holding", flush=True)
                await told("cut")
                started = time.monotonic()
                print("answer", await retried(ref), flush=True)
                group.cancel_scope.cancel()


    async def retried(ref):
        while True:
            try:
                return await ref.add(2)
            except xsc.ConnectionLost:
                print("once more", flush=True)


    anyio.run(main, backend=sys.argv[4])
"""


@contextmanager
def serving(
    network: Network, tmp_path: Path, host: str, timeouts: dict[str, float]
) -> Iterator[tuple[str, ...]]:
    """A program that serves on the first host; its address, the file of its secret, and the waits, as text."""
    path = tmp_path / "secret"
    xsc.Secret.generate().save(path)
    with server(
        tmp_path,
        pools=1,
        actors=1,
        address=f"{host}:0",
        secret=str(path),
        timeouts=timeouts,
        preexec_fn=network.enter(0),
    ) as (_, address):
        yield address, str(path), json.dumps(timeouts)


def begin(client: Program) -> None:
    client.expect("1")
    client.expect("holding")


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_link_that_is_cut_for_long_ends_what_is_open_and_is_used_again_when_it_is_healed(
    network: Network, tmp_path: Path, version: int, backend: str
) -> None:
    host = network.hosts[0] if version == 4 else f"[{network.hosts6[0]}]"
    timeouts = {"silence": 1.0, "lease": 60.0, "greeting": 2.0}
    with serving(network, tmp_path, host, timeouts) as arguments:
        with program(tmp_path, CLIENT, *arguments, backend, preexec_fn=network.enter(1)) as client:
            begin(client)
            network.cut()
            (tmp_path / "cut").touch()
            assert "lost" in client.lines(2)  # the open call; the later one may have been on its way as well
            network.heal()
            while (line := client.line()) != "answer 2":
                assert line in ("lost", "once more")
            assert client.wait() == 0, client.stderr


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_short_silence_loses_nothing(network: Network, tmp_path: Path, backend: str) -> None:
    timeouts = {"silence": 30.0, "heartbeat": 0.1}
    with serving(network, tmp_path, network.hosts[0], timeouts) as arguments:
        with program(tmp_path, CLIENT, *arguments, backend, preexec_fn=network.enter(1)) as client:
            begin(client)
            network.cut()
            (tmp_path / "cut").touch()
            network.heal()
            client.expect("answer 2")
            assert client.wait() == 0, client.stderr


def test_a_door_to_other_hosts_wants_a_secret(network: Network, tmp_path: Path) -> None:
    options = {"pools": 0, "actors": 0, "address": f"{network.hosts[0]}:0"}
    with program(tmp_path, PROGRAM, json.dumps(options), preexec_fn=network.enter(0)) as refused:
        assert refused.wait() != 0
        assert "can be reached from other hosts" in refused.stderr
