"""What the processes of these tests run."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import trio

from xoscar_sc.launch import LocalLauncher, ProcessSpec
from xoscar_sc.loop import open_loop


def spec(name: str, payload: bytes = b"", **changes: Any) -> ProcessSpec:
    """A spec like this process itself, under a new pool id."""
    settings: dict[str, Any] = {
        "name": name,
        "pool_id": f"{name}-{os.urandom(6).hex()}",
        "payload": payload,
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "sys_path": tuple(sys.path),
    }
    return ProcessSpec(**{**settings, **changes})


def main(channel: socket.socket, guardian: socket.socket, payload: bytes) -> int:
    """Obey: every packet is Python source. The end of the channel ends the process."""
    scope = {"channel": channel, "guardian": guardian, "payload": payload}
    scope["say"] = lambda value: channel.send(json.dumps(value).encode())
    del payload
    channel.send(b"ready")
    while source := channel.recv(65536):
        exec(source, scope)
    return 0


def tree(channel: socket.socket, guardian: socket.socket, payload: bytes) -> NoReturn:
    """Start the pools that the payload lists, and behave as it says; never end by oneself."""
    plan = json.loads(payload)
    if plan["pools"]:
        trio.run(grow, guardian, plan)
    behave(plan["behaviour"])


async def grow(guardian: socket.socket, plan: dict[str, Any]) -> None:
    async with open_loop() as loop:
        _channels = await start_pools(LocalLauncher.attach(loop, guardian), plan["pools"])
        behave(plan["behaviour"])


async def start_pools(launcher: LocalLauncher, plans: list[dict[str, Any]]) -> list[socket.socket]:
    """Start a pool for each plan; the ends of the channels must be kept."""
    channels = []
    for plan in plans:
        ours, theirs = socket.socketpair()
        channels.append(ours)
        await launcher.start(spec(plan["behaviour"], json.dumps(plan).encode()), theirs)
    return channels


SLEEP = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


def ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def start_threads() -> None:
    for _ in range(3):
        threading.Thread(target=signal.sigwait, args=({signal.SIGUSR2},)).start()


def spin() -> NoReturn:
    while True:
        pass


def daemon() -> int:
    """Leave a daemon behind as daemons do: fork, setsid, fork; its pid."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.close(writing)
            while True:
                signal.pause()
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        pid = int(file.read(100))
    os.wait()
    return pid


PREPARE: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.Popen(SLEEP),
    "setsid": lambda: subprocess.Popen(SLEEP, start_new_session=True),
    "daemon": daemon,
    "ignore": ignore_signals,
    "threads": start_threads,
}
REMAIN: dict[str, Callable[[], object]] = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "gil": lambda: ctypes.PyDLL(None).sleep(1000),
    "spin": spin,
}


def behave(how: str) -> NoReturn:
    """Do something that is not easily ended, and say so on stdout when it begins."""
    _kept = PREPARE.get(how, int)()
    os.write(1, f"{how}\n".encode())
    REMAIN.get(how, int)()
    while True:
        signal.pause()


def root(plans: str, directory: str = "", fork: bool = False) -> None:
    """The program of a root: start a pool for each plan, say so, and wait."""

    async def main() -> None:
        async with open_loop() as loop:
            launcher = await LocalLauncher.open(loop, directory=directory, entry="tests.launch.entries:tree")
            _channels = await start_pools(launcher, json.loads(plans))
            if fork and os.fork() == 0:
                behave("fork")
            os.write(1, b"root\n")
            await trio.sleep_forever()

    trio.run(main)
