"""Each wrong argument is an error of its own type at the call that was wrong, and nothing is left of it."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import xoscar_sc as xsc
from tests.contract.actors import Echo
from tests.contract.driving import both_drivers, run_program
from tests.leaks import look

OPEN: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pools": -1}, ValueError, "pools is -1"),
    ({"pools": 1.5}, TypeError, "pools is 1.5"),
    ({"pools": True}, TypeError, "pools is True"),
    ({"pools": "two"}, TypeError, "pools is 'two'"),
    ({"pools": ["one"]}, TypeError, "no PoolSpec"),
    ({"pools": 2, "labels": ["a"]}, ValueError, "labels="),
    ({"labels": ["a"]}, ValueError, "labels="),
    ({"env": {"A": 1}}, TypeError, "env= has 'A': 1"),
    ({"env": {1: "A"}}, TypeError, "env= has 1"),
    ({"env": {"A=B": "C"}}, ValueError, "A=B"),
    ({"env": {"A": "\0"}}, ValueError, "env="),
    ({"env": ["A"]}, TypeError, "env= is list"),
    ({"shutdown": -1}, ValueError, "shutdown= is -1"),
    ({"shutdown": "soon"}, TypeError, "shutdown= is 'soon'"),
    ({"shutdown": float("nan")}, ValueError, "shutdown= is nan"),
    ({"name": 5}, TypeError, "name= is 5"),
    ({"launcher": "nothing"}, ValueError, "launcher= is 'nothing'"),
    ({"timeouts": 5}, TypeError, "timeouts= is 5"),
    ({"poolz": 2}, TypeError, "poolz"),
]


@pytest.mark.parametrize(("settings", "error", "text"), OPEN)
def test_a_wrong_setting_of_a_nursery_is_refused_before_anything_starts(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        xsc.open_pool_nursery(**settings)


@both_drivers
async def test_a_wrong_setting_of_a_pool_is_refused(tmp_path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        before = look()
        for settings, error, text in [
            ({"name": "pool-1"}, ValueError, "pool-1"),
            ({"name": ""}, ValueError, "name="),
            ({"name": 5}, TypeError, "name= is 5"),
            ({"label": 5}, TypeError, "label"),
            ({"cpus": (10**6,)}, ValueError, "cpus="),
            ({"cpus": ()}, ValueError, "cpus="),
            ({"env": {"A": 1}}, TypeError, "env="),
            ({"nothing": 1}, TypeError, "nothing"),
        ]:
            with pytest.raises(error, match=text):
                await n.start_pool(**settings)  # type: ignore[arg-type]
        assert look().keys() == before.keys()
        assert list(n.pools) == ["pool-1"]
        with pytest.raises(ValueError, match="grace"):
            await n.pools["pool-1"].stop(grace=-1)
        assert await n.run(os.getpid) == n.pools["pool-1"].pid


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_an_actor_that_cannot_be_is_refused(pools: int) -> None:
    lock = threading.Lock()

    class Holding(xsc.Actor):
        def holds(self) -> bool:
            return lock.locked()

    async with xsc.open_pool_nursery(pools=pools) as n:
        await n.create_actor(Echo, uid="taken")
        cases: list[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception]]] = [
            (dict, (), {}, TypeError),
            (Echo(), (), {}, TypeError),
            ("Echo", (), {}, TypeError),
            (None, (), {}, TypeError),
            (Echo, (), {"uid": "taken"}, xsc.ActorAlreadyExist),
            (Echo, (), {"uid": ""}, ValueError),
            (Echo, (), {"uid": 5}, TypeError),
            (Echo, (), {"uid": "x" * 1000}, ValueError),
            (Echo, (), {"pool": "no such pool"}, xsc.PoolNotExist),
            (Echo, (), {"address": "unix:///no/such.sock"}, xsc.PoolNotExist),
            (Echo, (), {"strategy": xsc.strategy.RandomLabel("none")}, xsc.NoIdleSlot),
            (Echo, (), {"strategy": xsc.strategy.ProcessIndex(9)}, xsc.NoIdleSlot),
            (Echo, (), {"strategy": xsc.strategy.MainPool(), "pool": "pool-1"}, TypeError),
            (Echo, (), {"no_such_parameter": 1}, TypeError),
        ]
        if pools:
            cases.append((Holding, (), {}, xsc.SerializationError))
        for cls, args, kwargs, error in cases:
            with pytest.raises(error):
                await n.create_actor(cls, *args, **kwargs)
        assert list(n.actors) == ["taken"]
        assert await n.actors["taken"].echo(1) == 1


@both_drivers
async def test_what_cannot_be_called_is_refused() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        with pytest.raises(TypeError, match="cannot be called"):
            await n.run(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cannot be called"):
            n.start_soon(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cannot be called"):
            await n.run_in_pool("function")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cannot be called"):
            await n.pools["pool-1"].run([])  # type: ignore[arg-type]
        with pytest.raises(xsc.PoolNotExist):
            await n.run(os.getpid, pool="none")
        with pytest.raises(xsc.PoolNotExist):
            n.start_soon(os.getpid, pool="none")
        assert list(n.pools) == ["pool-1"]


@both_drivers
async def test_a_nursery_that_has_been_left_takes_nothing() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo)
    for use in (n.start_pool, lambda: n.create_actor(Echo), lambda: n.run(os.getpid)):
        with pytest.raises(xsc.XoscarError):
            await use()
    with pytest.raises(xsc.XoscarError):
        n.start_soon(os.getpid)
    with pytest.raises(xsc.XoscarError, match="no pool nursery is open"):
        await echo.echo(1)
    async with xsc.open_pool_nursery(pools=1):
        with pytest.raises(xsc.XoscarError):
            await echo.echo(1)


@both_drivers
async def test_a_private_or_unknown_name_of_an_actor_is_refused() -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        echo = await n.create_actor(Echo, uid="echo")
        for name in ("no_such_method", "_cell", "__init__x"):
            with pytest.raises(AttributeError):
                getattr(echo, name)
        unknown = await xsc.actor_ref(echo.address, "echo")
        with pytest.raises(AttributeError, match="no_such_method"):
            await unknown.no_such_method()
        with pytest.raises((ValueError, xsc.XoscarError)):
            await xsc.actor_ref("nonsense", "echo")


class Takes(xsc.Actor):
    """Takes certain arguments, and counts what has come."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        return self.calls

    def one(self, value: int, *, name: str = "") -> None:
        self.calls += 1

    @xsc.idempotent()
    def again(self, value: int) -> None:
        self.calls += 1

    async def stream(self, value: int) -> AsyncIterator[int]:
        self.calls += 1
        yield value


WRONG_CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1, 2), {}),
    ((1,), {"other": 2}),
    ((1,), {"value": 1}),
    ((), {"name": "a"}),
]


@pytest.mark.parametrize(("args", "kwargs"), WRONG_CALLS)
@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_arguments_that_do_not_fit_are_refused_where_they_are_given(
    pools: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        takes = await n.create_actor(Takes, uid="takes")
        for method in (takes.one, takes.again, takes.stream):
            for use in (method, method.send, method.tell, method.delay):
                with pytest.raises(TypeError, match="argument"):
                    use(*args, **kwargs)  # it is not even awaited
        found = await xsc.find_actor("takes")
        assert found is not None
        for call in (found.one, found.again):
            with pytest.raises(TypeError, match="argument"):
                await call(*args, **kwargs)
        with pytest.raises(TypeError, match="argument"):
            async for _ in found.stream(*args, **kwargs):
                pass
        assert await takes.count() == 0


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_a_batch_that_makes_no_sense_is_refused(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        takes = await n.create_actor(Takes, uid="takes")
        found = await xsc.find_actor("takes")
        assert found is not None
        for method in (takes.one, found.one, takes.again, takes.stream):
            with pytest.raises(ValueError, match="has no calls"):
                await method.batch()
        with pytest.raises(TypeError, match="takes what delay"):
            await takes.one.batch(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="cannot hold a call of again"):
            await takes.one.batch(takes.again.delay(1))
        assert await takes.count() == 0


@pytest.mark.parametrize("pools", [0, 1])
@both_drivers
async def test_a_stream_and_a_value_are_not_the_same(pools: int) -> None:
    async with xsc.open_pool_nursery(pools=pools) as n:
        takes = await n.create_actor(Takes, uid="takes")
        call = takes.count()
        with pytest.raises(TypeError):
            async for _ in call:  # type: ignore[attr-defined]
                pass
        assert await call == 0
        with pytest.raises(TypeError):
            async with takes.count.delay():  # type: ignore[attr-defined]
                pass
        unknown = xsc.ActorRef(takes.address, "takes")
        with pytest.raises(TypeError, match=r"stream\(\) yields int"):
            await unknown.stream(1)


# The world


@both_drivers
async def test_a_runtime_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("XSC_RUNTIME_DIR", str(theirs))
    with pytest.raises(xsc.RuntimeDirError, match="belongs to user 12345"):
        async with xsc.open_pool_nursery(pools=1):
            pytest.fail("the block must not be entered")
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "open to others", "under a file", "too long"])
@both_drivers
async def test_a_runtime_directory_that_cannot_be_used_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "place"
    error: Any = xsc.RuntimeDirError
    if kind == "file":
        path.write_text("")
    elif kind == "link":
        path.symlink_to(tmp_path)
    elif kind == "open to others":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "under a file":
        path.write_text("")
        path = path / "below"
    else:
        path = tmp_path / ("long" * 50)
    monkeypatch.setenv("XSC_RUNTIME_DIR", str(path))
    async with xsc.open_pool_nursery() as n:
        with pytest.raises(error):
            await n.start_pool()
        with pytest.raises(error):
            await n.create_actor(Echo)
        assert not n.pools
    assert not path.is_dir() or kind == "link" or list(path.iterdir()) == []


EXHAUSTED = """
    import os, resource, sys
    import anyio
    import xoscar_sc as xsc

    async def main():
        async with xsc.open_pool_nursery(pools=1) as n:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 1, hard))
            held = []
            try:
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            try:
                await n.start_pool()
            except xsc.LaunchError as exc:
                print(type(exc).__name__, "Too many open files" in str(exc), flush=True)
            assert await n.run(os.getpid) == n.pools["pool-1"].pid
            for fd in held:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            pool = await n.start_pool()
            assert await pool.run(os.getpid) == pool.pid
        print("good")

    if __name__ == "__main__":
        anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_out_of_descriptors_fails_one_start_and_the_tree_goes_on(tmp_path: Path, driver: str) -> None:
    assert run_program(tmp_path, EXHAUSTED, driver) == "LaunchError True\ngood\n"


@pytest.mark.parametrize("driver", ["trio", "asyncio"])
def test_out_of_descriptors_at_the_first_pool_is_a_clear_error(tmp_path: Path, driver: str) -> None:
    source = """
        import os, resource, sys
        import anyio
        import xoscar_sc as xsc

        async def main():
            async with xsc.open_pool_nursery() as n:
                held = []
                resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
                try:
                    while True:
                        held.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    pass
                for room in range(12):
                    try:
                        await n.start_pool()
                    except (xsc.LaunchError, xsc.RuntimeDirError):
                        pass
                    else:
                        break
                    os.close(held.pop())
                else:
                    raise SystemExit("no pool was started at all")
                print("good")

        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
    """
    assert run_program(tmp_path, source, driver) == "good\n"
