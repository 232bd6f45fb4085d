"""Programs as users write them: signals to the root, and classes of ``__main__``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.contract.driving import BOUND, count, is_gone, kill, program, run_program, within

KILLS = count("XSC_CONTRACT_KILLS", 3)

TREE = """
    import ctypes, os, signal, subprocess, sys
    import anyio, trio
    import xoscar_sc as xsc

    SLEEP = [sys.executable, "-S", "-c", "import signal; signal.pause()"]

    def say(word):
        os.write(1, f"{word}\\n".encode())

    def idle():
        say("idle")
        signal.pause()

    async def asleep():
        say("asleep")
        await trio.sleep_forever()

    def spinning():
        say("spinning")
        while True:
            pass

    def in_c():
        say("in_c")
        ctypes.PyDLL(None).sleep(1000)

    async def ignoring():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("ignoring")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async def with_children():
        subprocess.Popen(SLEEP)
        subprocess.Popen(SLEEP, start_new_session=True)
        subprocess.Popen(["sh", "-c", 'setsid "$@" & exit 0', "sh", *SLEEP]).wait()
        say("with_children")
        await trio.sleep_forever()

    async def level(depth, leaves):
        async with xsc.open_pool_nursery() as n:
            if depth > 1:
                await n.run_in_pool(level, depth - 1, leaves)
            for leaf in leaves:
                await n.run_in_pool(leaf)
            say(f"level {depth}")
            await anyio.sleep_forever()
"""

WILD = (
    TREE
    + """
    if __name__ == "__main__":
        anyio.run(level, 3, [asleep, idle, spinning, in_c, ignoring, with_children], backend=sys.argv[1])
"""
)
TAME = (
    TREE
    + """
    if __name__ == "__main__":
        anyio.run(level, 3, [asleep], backend=sys.argv[1])
"""
)
DRIVERS = pytest.mark.parametrize("driver", ["trio", "asyncio"])


@pytest.mark.parametrize("turn", range(KILLS))
def test_no_descendant_outlives_a_killed_root(tmp_path: Path, turn: int) -> None:
    driver = ["trio", "asyncio"][turn % 2]
    with program(tmp_path, WILD, driver) as running:
        running.lines(3 + 3 * 6)
        # A guardian, 2 + 3 * 6 pools, and 3 * 3 processes that they have started: the last may be about to be executed.
        assert within(BOUND, lambda: len(running.descendants()) == 1 + 20 + 9)
        descendants = running.descendants()
        running.signal(signal.SIGKILL)
        running.wait()
        assert within(2.0, lambda: all(map(is_gone, descendants))), [p for p in descendants if not is_gone(p)]
        assert running.descendants() == []


@DRIVERS
def test_sigterm_ends_a_tree_as_a_cancel(tmp_path: Path, driver: str) -> None:
    with program(tmp_path, TAME, driver) as running:
        running.lines(6)
        running.signal(signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM
        assert running.descendants() == []
        assert len(running.stderr.splitlines()) <= 5, running.stderr


@DRIVERS
def test_ctrl_c_ends_a_tree_as_a_cancel(tmp_path: Path, driver: str) -> None:
    with program(tmp_path, TAME, driver) as running:
        running.lines(6)
        running.signal(signal.SIGINT)
        assert running.wait() == -signal.SIGINT
        assert running.descendants() == []
        assert running.stderr.splitlines()[-1] == "KeyboardInterrupt"
        assert "Exception Group" not in running.stderr
        assert len(running.stderr.splitlines()) <= 60, running.stderr


@DRIVERS
def test_ctrl_c_at_the_terminal_reaches_the_root_only(tmp_path: Path, driver: str) -> None:
    with program(tmp_path, TAME, driver, start_new_session=True) as running:
        running.lines(6)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait() == -signal.SIGINT
        assert running.descendants() == []
        assert running.stderr.splitlines()[-1] == "KeyboardInterrupt"


STAGES = """
    import os, signal, sys
    import anyio, trio
    import xoscar_sc as xsc

    def say(word):
        print(word, flush=True)

    class Slow(xsc.Actor):
        def __init__(self, stage=""):
            self.stage = stage
            if stage == "init":
                say("there")
                signal.sigwait([signal.SIGUSR1])

        async def __post_create__(self):
            if self.stage == "post_create":
                say("there")
                await trio.sleep_forever()

        async def __pre_destroy__(self):
            if self.stage == "pre_destroy":
                say("there")
                await trio.sleep_forever()

        async def sleep(self):
            say("there")
            await trio.sleep_forever()

    async def main(stage):
        if stage == "opening":
            say("there")
        async with xsc.open_pool_nursery(pools=2, shutdown=0.5) as n:
            if stage == "idle":
                say("there")
                await anyio.sleep_forever()
            slow = await n.create_actor(Slow, stage)
            if stage == "call":
                await slow.sleep()
            if stage == "starting":
                say("there")
                while True:
                    await n.start_pool()
            if stage == "told":
                await slow.sleep.tell()
            if stage == "blocked":
                say("there")
                signal.pause()

    if __name__ == "__main__":
        anyio.run(main, sys.argv[2], backend=sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "stage", ["opening", "idle", "init", "post_create", "call", "starting", "told", "pre_destroy"]
)
@DRIVERS
def test_a_signal_ends_the_program_at_every_stage(
    tmp_path: Path, driver: str, stage: str, number: signal.Signals
) -> None:
    with program(tmp_path, STAGES, driver, stage) as running:
        running.expect("there")
        running.signal(number)
        code = running.wait()
        assert running.descendants() == []
        if number == signal.SIGINT:
            assert code == -signal.SIGINT, running.stderr
            assert running.stderr.splitlines()[-1] == "KeyboardInterrupt"
        elif stage == "opening":  # it may come before the first nursery is open
            assert code in {143, -signal.SIGTERM}, running.stderr
        else:
            assert code == 143, running.stderr
            assert len(running.stderr.splitlines()) <= 5, running.stderr


@DRIVERS
def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, driver: str) -> None:
    source = """
        import os, sys
        import anyio, trio
        import xoscar_sc as xsc

        async def stubborn():
            try:
                os.write(1, b"there\\n")
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    os.write(1, b"cancelled\\n")
                    await trio.sleep_forever()

        async def main():
            async with xsc.open_pool_nursery(pools=1, shutdown=1000.0) as n:
                n.start_soon(stubborn)
                await anyio.sleep_forever()

        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
    """
    with program(tmp_path, source, driver) as running:
        running.expect("there")
        running.signal(signal.SIGINT)
        running.expect("cancelled")
        running.signal(signal.SIGINT)
        assert running.wait() == -signal.SIGINT
        assert running.descendants() == []


@DRIVERS
def test_a_programs_own_sigterm_handler_is_respected(tmp_path: Path, driver: str) -> None:
    source = """
        import signal, sys
        import anyio
        import xoscar_sc as xsc

        async def main():
            done = anyio.Event()
            signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
            async with xsc.open_pool_nursery(pools=1) as n:
                print("there", flush=True)
                while await n.run(len, "x"):
                    await anyio.sleep(0.01)

        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
    """
    with program(tmp_path, source, driver) as running:
        running.expect("there")
        running.signal(signal.SIGTERM)
        running.expect("mine")
        running.signal(signal.SIGINT)
        assert running.wait() == -signal.SIGINT


def test_a_killed_guardian_ends_the_tree_as_an_error(tmp_path: Path) -> None:
    with program(tmp_path, TAME, "trio") as running:
        running.lines(6)
        guardian = next(
            pid for pid in running.descendants() if "xsc-guardian" in Path(f"/proc/{pid}/comm").read_text()
        )
        kill(guardian)
        assert running.wait() == 1
        assert "PoolDied" in running.stderr
        assert within(2.0, lambda: running.descendants() == [])


def test_a_killed_pool_in_the_middle_of_a_tree_takes_its_own_with_it(tmp_path: Path) -> None:
    source = """
        import os
        import anyio, trio
        import xoscar_sc as xsc

        async def level(depth):
            os.write(1, f"{os.getpid()}\\n".encode())
            if depth == 0:
                await trio.sleep_forever()
            async with xsc.open_pool_nursery(pools=1) as n:
                await n.run(level, depth - 1)

        async def main():
            try:
                await level(3)
            except xsc.PoolDied as exc:
                print("died", exc.pid, exc.signal, flush=True)

        if __name__ == "__main__":
            trio.run(main)
    """
    with program(tmp_path, source) as running:
        pids = [int(line) for line in running.lines(4)]
        assert pids[0] == running.pid
        kill(pids[1])
        assert within(2.0, lambda: all(map(is_gone, pids[1:])))
        running.expect(f"died {pids[1]} 9")
        assert running.wait() == 0


# Scripts


def test_classes_and_functions_of_a_script_work(tmp_path: Path) -> None:
    source = """
        import os, sys
        import anyio
        import xoscar_sc as xsc

        FACTOR = 3

        class Mine(Exception):
            pass

        class Base(xsc.Actor):
            def value(self):
                return self.uid

        class Multiplier(Base):
            def __init__(self, by):
                super().__init__()
                self.by = by

            def times(self, number):
                return number * self.by * FACTOR

            def fail(self):
                raise Mine("mine")

            async def make(self, cls):
                async with xsc.open_pool_nursery(pools=1) as n:
                    ref = await n.create_actor(cls, 5)
                    return await ref.times(1)

        def double(number):
            return number * 2

        async def main():
            offset = 100
            async with xsc.open_pool_nursery(pools=2) as n:
                ref = await n.create_actor(Multiplier, 2, uid="m")
                assert await ref.times(7) == 42
                assert await ref.value() == "m"
                try:
                    await ref.fail()
                except Mine as exc:
                    assert str(exc) == "mine"
                else:
                    assert False
                assert await ref.make(Multiplier) == 15
                assert await n.run(double, 4) == 8
                assert await n.run(lambda x: x + offset, 4) == 104

                def closure(x):
                    return double(x) + offset

                async def async_closure(x):
                    await anyio.sleep(0)
                    return closure(x)

                assert await n.run(closure, 4) == 108
                assert await n.run(async_closure, 4) == 108
                assert await (await n.run_in_pool(lambda: os.getpid())).result() != os.getpid()

                class Local(xsc.Actor):
                    def offset(self):
                        return offset

                local = await n.create_actor(Local)
                assert await local.offset() == 100
            print("good")

        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
    """
    for driver in ("trio", "asyncio"):
        assert run_program(tmp_path, source, driver) == "good\n"


def test_asyncio_run_and_trio_run_work_as_anyio_does(tmp_path: Path) -> None:
    source = """
        import asyncio, sys
        import trio
        import xoscar_sc as xsc

        class Counter(xsc.Actor):
            def __init__(self, start):
                self.value = start

            async def add(self, n):
                self.value += n
                return self.value

        async def main():
            async with xsc.open_pool_nursery() as n:
                counter = await n.create_actor(Counter, 10, uid="counter")
                print(await counter.add(5))

        if __name__ == "__main__":
            trio.run(main)
            asyncio.run(main())
            trio.run(main)
    """
    assert run_program(tmp_path, source) == "15\n15\n15\n"


def test_native_asyncio_cancellation_and_time_outs_leave_nothing(tmp_path: Path) -> None:
    source = """
        import asyncio
        import trio
        import xoscar_sc as xsc

        class Sleeper(xsc.Actor):
            async def sleep(self):
                print("sleeps", flush=True)
                await trio.sleep_forever()

        async def block():
            async with xsc.open_pool_nursery(pools=2) as n:
                sleeper = await n.create_actor(Sleeper)
                await sleeper.sleep()

        async def main():
            try:
                async with asyncio.timeout(0.5):
                    await block()
            except TimeoutError:
                print("timed out", flush=True)
            task = asyncio.create_task(block())
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                print("cancelled", flush=True)

        if __name__ == "__main__":
            asyncio.run(main())
    """
    with program(tmp_path, source) as running:
        output = running.rest()
        assert running.wait() == 0, running.stderr
        assert [line for line in output.splitlines() if line != "sleeps"] == ["timed out", "cancelled"]
        assert running.descendants() == []


def test_uvloop_drives_a_tree(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    source = """
        import asyncio, os, signal
        import uvloop
        import xoscar_sc as xsc

        async def main():
            async with xsc.open_pool_nursery(pools=2) as n:
                assert await n.run(os.getpid) != os.getpid()
            try:
                async with xsc.open_pool_nursery(pools=1) as n:
                    os.kill(n.pools["pool-1"].pid, signal.SIGKILL)
                    await asyncio.sleep(1000)
            except xsc.PoolDied as exc:
                print(exc.signal)

        if __name__ == "__main__":
            uvloop.run(main())
    """
    assert run_program(tmp_path, source) == "9\n"


def test_user_threads_and_a_changed_directory_do_not_matter(tmp_path: Path) -> None:
    source = """
        import os, tempfile
        import trio
        import xoscar_sc as xsc

        async def main():
            gone = tempfile.mkdtemp()
            os.chdir(gone)
            async with xsc.open_pool_nursery(pools=1) as n:
                assert await n.run(os.getcwd) == os.getcwd()
                os.rmdir(gone)
                pool = await n.start_pool()
                assert await pool.run(os.getpid) == pool.pid
            print("good")

        if __name__ == "__main__":
            trio.run(main)
    """
    assert run_program(tmp_path, source) == "good\n"
