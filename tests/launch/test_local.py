"""What every launcher must do, by real processes; started both ways."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.launch.conftest import (
    ENTRY,
    Start,
    children,
    guardian_of,
    is_gone,
    open_launcher,
    open_starter,
    state,
    until,
)
from tests.launch.entries import spec
from xoscar_sc.errors import LaunchError
from xoscar_sc.launch import LocalLauncher, Method, ProcessExit
from xoscar_sc.loop import open_loop

LONG = 20


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('a reason')", 1),
        ("import sys; sys.exit(257)", 1),
        ("import os; os._exit(5)", 5),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", 1),
    ],
)
async def test_an_exit_code_is_reported(start: Start, method: Method, source: str, code: int) -> None:
    pool = await start(method=method)
    await pool.do(source)
    how = await pool.process.wait()
    assert (how.exit_code, how.signal) == (code, None)
    assert how.describe() == f"exited with code {code}"
    assert is_gone(pool.process.pid)


async def test_returning_from_the_entry_is_exit_code_0(start: Start, method: Method) -> None:
    pool = await start(method=method)
    pool.finish()
    assert await pool.process.wait() == ProcessExit(0, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
async def test_a_signal_is_reported(start: Start, method: Method, number: signal.Signals) -> None:
    pool = await start(method=method)
    os.kill(pool.process.pid, number)
    how = await pool.process.wait()
    assert (how.exit_code, how.signal) == (None, number)


async def test_a_segmentation_fault_is_a_crash(start: Start, method: Method) -> None:
    pool = await start(method=method)
    await pool.do("import ctypes; ctypes.string_at(0)")
    assert (await pool.process.wait()).describe() == "crashed by SIGSEGV"


async def test_the_last_lines_of_stderr_are_part_of_an_exit(start: Start, method: Method) -> None:
    pool = await start(method=method)
    await pool.do("import sys\nfor i in range(1000): print('line', i, file=sys.stderr)\n1 / 0")
    lines = (await pool.process.wait()).last_lines
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "line 999" in lines
    assert len(lines) == LONG


async def test_what_is_written_at_the_very_end_is_not_lost(start: Start, method: Method) -> None:
    for _ in range(10):
        pool = await start(method=method)
        await pool.do("import os; os.write(2, b'the end'); os.kill(os.getpid(), 9)")
        assert (await pool.process.wait()).last_lines == ("the end",)


async def test_an_exit_runs_what_an_exit_runs(start: Start, method: Method) -> None:
    pool = await start(method=method)
    await pool.do(
        "import atexit, os, sys, threading\n"
        "atexit.register(os.write, 2, b'atexit\\n')\n"
        "release = threading.Event()\n"
        "threading.Thread(target=lambda: release.wait() and os.write(2, b'thread\\n')).start()\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "sys.stderr = open(2, 'w', buffering=1 << 16, closefd=False)\n"
        "print('flushed', file=sys.stderr)\n"
        "release.set()\n"
        "sys.exit(0)\n"
    )
    assert await pool.process.wait() == ProcessExit(0, None, ("thread", "atexit", "flushed"))


async def test_a_configuration_may_be_large_and_can_be_let_go(start: Start, method: Method) -> None:
    payload = os.urandom(1 << 20) * 50
    pool = await start(payload=payload, method=method)
    await pool.do("import hashlib, resource")
    assert await pool.ask("len(payload)") == len(payload)
    assert await pool.ask("hashlib.sha1(payload).hexdigest()") == hashlib.sha1(payload).hexdigest()
    resident = "int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()"
    before = await pool.ask(resident)
    await pool.do("del payload")
    assert before - await pool.ask(resident) > len(payload) * 0.9


async def test_the_environment_is_exactly_what_was_asked_for(start: Start, method: Method) -> None:
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    env = {"PATH": "/bin", "NEW": "value", "ODD": odd, "XSC_TEST_MARK": os.environ["XSC_TEST_MARK"]}
    pool = await start(method=method, env=env)
    await pool.do("import os, subprocess")
    seen = await pool.ask("dict(os.environ)")
    assert seen.pop("XSC_POOL") == pool.process.pool_id
    assert seen.pop("XSC_TREE")
    seen.pop("LC_CTYPE", None)  # which the interpreter sets, where the locale is C
    assert seen == env
    assert "NEW=value" in await pool.ask("subprocess.check_output('env', text=True, errors='replace')")


async def test_variables_that_are_read_at_load_time_are_in_force_after_an_exec(start: Start) -> None:
    pool = await start(method="exec", env={**os.environ, "PYTHONHASHSEED": "7", "LD_BIND_NOW": "1"})
    command = [sys.executable, "-c", "print(hash('x'))"]
    assert await pool.ask("hash('x')") == int(subprocess.check_output(command, env={"PYTHONHASHSEED": "7"}))


async def test_the_time_zone_is_in_force(start: Start, method: Method) -> None:
    pool = await start(method=method, env={**os.environ, "TZ": "XYZ-5"})
    assert await pool.ask("__import__('time').tzname[0]") == "XYZ"


async def test_the_directory_and_the_import_path_are_what_was_asked_for(
    start: Start, method: Method, tmp_path: Path
) -> None:
    path = (*sys.path, "/nowhere/in/particular")
    pool = await start(method=method, cwd=str(tmp_path), sys_path=path)
    assert await pool.ask("__import__('os').getcwd()") == str(tmp_path)
    assert await pool.ask("__import__('sys').path") == list(path)


async def test_a_process_is_bound_to_its_cpus(start: Start, method: Method) -> None:
    cpu = max(os.sched_getaffinity(0))
    pool = await start(method=method, cpus=(cpu,))
    assert await pool.ask("list(__import__('os').sched_getaffinity(0))") == [cpu]


async def test_a_process_has_its_name(start: Start, method: Method) -> None:
    pool = await start("a-name-that-is-too-long", method=method)
    assert Path(f"/proc/{pool.process.pid}/comm").read_text() == "a-name-that-is-\n"


async def test_a_process_starts_clean(start: Start, method: Method) -> None:
    pool = await start(method=method)
    await pool.do("import os, random, signal, socket, sys, threading")
    assert await pool.ask("[os.getpgrp() == os.getpid(), os.getsid(0)]") == [True, os.getsid(0)]
    assert await pool.ask("os.readlink('/proc/self/fd/0')") == "/dev/null"
    assert await pool.ask(
        "[signal.getsignal(n) for n in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP)]"
    ) == [0, 0, 0]
    assert await pool.ask("signal.getsignal(signal.SIGINT)") == signal.SIG_IGN
    assert await pool.ask("len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))") == 0
    assert await pool.ask("signal.set_wakeup_fd(-1)") == -1
    assert await pool.ask("threading.active_count()") == 1
    assert await pool.ask("threading.current_thread() is threading.main_thread()")
    # stdin, stdout, stderr, the channel, the connection, and the directory that is being listed
    assert await pool.ask("len(os.listdir('/proc/self/fd'))") == 6
    assert await pool.ask("[os.get_inheritable(fd) for fd in (channel.fileno(), guardian.fileno())]") == [
        False,
        False,
    ]
    other = await start(method=method)
    assert await pool.ask("random.random()") != await other.ask("__import__('random').random()")


async def test_kill_ends_a_stopped_process(start: Start, method: Method) -> None:
    pool = await start(method=method)
    await pool.do("import os; os.kill(os.getpid(), __import__('signal').SIGSTOP)")
    await until(lambda: state(pool.process.pid)[0] == "T")
    pool.process.kill()
    pool.process.kill()
    assert (await pool.process.wait()).describe() == "was killed by SIGKILL"
    pool.process.kill()


async def test_any_number_of_tasks_may_wait_at_any_time(start: Start) -> None:
    pool = await start()
    exits: list[ProcessExit] = []

    async def wait() -> None:
        exits.append(await pool.process.wait())

    with trio.move_on_after(0.01) as scope:
        await wait()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        pool.process.kill()
    await wait()
    assert exits == [pool.process.exit] * 6


async def test_how_a_process_ended_is_known_to_the_tree(launcher: LocalLauncher, start: Start) -> None:
    pool = await start()
    found: list[ProcessExit | None] = []

    async def ask() -> None:
        found.append(await launcher.exit_of(pool.process.pool_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert not found
        await pool.do("raise SystemExit(9)")
    await ask()
    assert found == [ProcessExit(9, None)] * 2
    assert await launcher.exit_of("nobody") is None


async def test_twenty_start_at_once(start: Start, method: Method) -> None:
    pools = []

    async def one(number: int) -> None:
        pools.append(await start(f"pool-{number}", method=method))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
    assert len({await pool.ask("__import__('os').getpid()") for pool in pools}) == 20


async def test_two_roots_do_not_meet(start: Start) -> None:
    mine = await start()
    async with open_launcher() as second, open_starter(second) as start_there:
        theirs = await start_there()
        assert guardian_of(mine.process) != guardian_of(theirs.process)
        assert await second.exit_of(mine.process.pool_id) is None
    assert theirs.process.exit is not None
    assert await mine.ask("1") == 1


async def test_closing_the_launcher_ends_everything(start: Start, launcher: LocalLauncher) -> None:
    pool = await start()
    guardian = guardian_of(pool.process)
    with trio.CancelScope() as scope:
        scope.cancel()
        await launcher.aclose()
    assert is_gone(guardian)
    assert pool.process.exit == ProcessExit(None, signal.SIGKILL)
    with pytest.raises(LaunchError, match="closed"):
        await start()


# What cannot be started


async def refused(launcher: LocalLauncher, **changes: Any) -> str:
    """Why a process is not started; nothing is left of it, and the next one is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with pytest.raises(LaunchError) as caught:
            await launcher.start(spec("refused", **changes), theirs)
        assert ours.recv(1) == b""
        assert theirs.fileno() == -1
    async with open_starter(launcher) as start:
        await start()
    return str(caught.value)


async def test_a_directory_that_is_not_there(launcher: LocalLauncher, method: Method) -> None:
    assert "'/nowhere'" in await refused(launcher, cwd="/nowhere", method=method)


async def test_cpus_that_are_not_there(launcher: LocalLauncher, method: Method) -> None:
    assert "binding to the CPUs (9999,)" in await refused(launcher, cpus=(9999,), method=method)


async def test_an_environment_that_cannot_be(launcher: LocalLauncher, method: Method) -> None:
    assert "null byte" in await refused(launcher, env={"A": "nul\0"}, method=method)


async def test_an_environment_that_is_too_large_to_execute(launcher: LocalLauncher) -> None:
    env = {**os.environ, **{f"V{i}": "x" * 100_000 for i in range(100)}}
    assert "Argument list too long" in await refused(launcher, env=env, method="exec")


@pytest.mark.parametrize("pool_id", ["", "a blank", "x" * 101, "é", "new\nline", "\ud800"])
async def test_a_pool_id_that_cannot_be(launcher: LocalLauncher, pool_id: str) -> None:
    await refused(launcher, pool_id=pool_id)


async def test_a_pool_id_that_is_in_use(launcher: LocalLauncher, start: Start) -> None:
    pool = await start()
    assert "in use" in await refused(launcher, pool_id=pool.process.pool_id)
    assert await pool.ask("1") == 1


async def test_no_descriptors_left_here(launcher: LocalLauncher) -> None:
    await refused(launcher, cwd="/nowhere")  # so that the guardian is there
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours, theirs = socket.socketpair()
    resource.setrlimit(resource.RLIMIT_NOFILE, (theirs.fileno() + 1, hard))
    try:
        with ours, pytest.raises(LaunchError, match="Too many open files"):
            await launcher.start(spec("one-too-many"), theirs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Cancellation


@pytest.mark.parametrize("checkpoints", range(4))
async def test_a_cancelled_start_leaves_no_process(method: Method, checkpoints: int) -> None:
    async with open_launcher() as launcher:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(launcher.start, spec("cancelled", method=method), theirs)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert theirs.fileno() == -1
        async with open_starter(launcher) as start:
            pool = await start()
            assert children(guardian_of(pool.process)) == [pool.process.pid]


async def test_a_start_cancelled_at_any_moment_leaves_no_process(
    launcher: LocalLauncher, start: Start, method: Method
) -> None:
    first = await start()
    guardian = guardian_of(first.process)
    cancelled = 0
    for step in range(40):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, trio.move_on_after(step * 0.0002) as scope:
            process = await launcher.start(spec("cancelled", method=method), theirs)
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        cancelled += scope.cancelled_caught
        assert children(guardian) == [first.process.pid]
    assert cancelled > 0


def test_it_serves_asyncio_as_well() -> None:
    async def main() -> None:
        async with open_loop() as loop:
            launcher = await LocalLauncher.open(loop, entry=ENTRY)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours:
                process = await launcher.start(spec("one"), theirs)
                ours.send(b"raise SystemExit(4)")
                assert (await process.wait()).exit_code == 4
            cancelled = 0
            for step in range(20):
                ours, theirs = socket.socketpair()
                with ours:
                    task = asyncio.create_task(launcher.start(spec("cancelled"), theirs))
                    await asyncio.sleep(step * 0.0002)
                    task.cancel()
                    task.cancel()
                    try:
                        process = await task
                    except asyncio.CancelledError:
                        cancelled += 1
                    else:
                        process.kill()
                        await process.wait()
            assert cancelled
            await launcher.aclose()

    asyncio.run(main())
