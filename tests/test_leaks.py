"""The watch over the tests sees what it should, and nothing else."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from tests import leaks

NOW = 0.0


def test_a_child_is_seen_while_it_lives() -> None:
    before = leaks.look()
    with subprocess.Popen(["sleep", "60"]) as child:
        found = list(leaks.left_behind(before, NOW).values())
        child.kill()
    assert found == [f"process {child.pid}: sleep 60"]
    assert not leaks.left_behind(before)


def test_a_child_that_nobody_waited_for_is_seen() -> None:
    before = leaks.processes()
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (found,) = [text for key, text in leaks.processes().items() if key not in before]
    assert "nobody waited" in found
    child.wait()
    assert not leaks.left_behind(before | leaks.look())


def test_an_orphan_is_found_by_its_mark() -> None:
    before = leaks.look()
    subprocess.run(["sh", "-c", "setsid sleep 60 & setsid sleep 60 &"], check=True)
    left = leaks.left_behind(before, patience=0.2)
    assert len(left) == 2
    leaks.kill(left)
    assert not leaks.left_behind(before)


def test_a_zombie_of_somebody_else_is_dead() -> None:
    before = leaks.look()
    careless = "import os, time; print(os.fork() or os._exit(0), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", careless], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            zombie = Path(f"/proc/{int(child.stdout.readline())}/stat")
            while zombie.read_text().split()[2] != "Z":
                os.sched_yield()
            found = [identity for kind, identity in leaks.left_behind(before, NOW) if kind == "process"]
            assert [identity.split()[0] for identity in found] == [str(child.pid)]
        finally:
            child.kill()


def test_a_descriptor_is_seen_until_it_is_closed() -> None:
    before = leaks.look()
    fd = os.memfd_create("left")
    assert [key[0] for key in leaks.left_behind(before, NOW)] == ["descriptor"]
    os.close(fd)
    assert not leaks.left_behind(before, NOW)


def test_a_descriptor_that_took_the_place_of_another_is_seen() -> None:
    fd = os.memfd_create("one")
    before = leaks.look()
    other = os.memfd_create("two")
    os.dup2(other, fd)
    os.close(other)
    assert len(leaks.left_behind(before, NOW)) == 1
    os.close(fd)


def test_a_thread_is_seen_until_it_ends() -> None:
    before = leaks.look()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left")
    thread.start()
    assert list(leaks.left_behind(before, NOW).values()) == ["thread 'left'"]
    end.set()
    assert not leaks.left_behind(before)
    thread.join()


def test_an_idle_worker_of_trio_is_no_leak() -> None:
    before = leaks.look()
    trio.run(trio.to_thread.run_sync, str)
    assert any(thread.name.startswith(leaks.IDLE_WORKERS) for thread in threading.enumerate())
    assert not leaks.left_behind(before, NOW)


@pytest.mark.parametrize("folder", ["/dev/shm", "runtime"])
def test_a_file_is_seen_until_it_is_removed(folder: str) -> None:
    before = leaks.look()
    path = (
        Path(os.environ[leaks.RUNTIME_DIR] if folder == "runtime" else folder)
        / f"left-{secrets.token_hex(4)}"
    )
    path.touch()
    assert list(leaks.left_behind(before, NOW)) == [("file", str(path))]
    path.unlink()
    assert not leaks.left_behind(before, NOW)


def test_what_goes_away_by_itself_is_waited_for() -> None:
    before = leaks.look()
    timer = threading.Timer(0.05, lambda: None)
    timer.start()
    assert not leaks.left_behind(before)
    timer.join()


def test_the_runtime_directory_is_short_and_private() -> None:
    path = Path(os.environ[leaks.RUNTIME_DIR])
    assert path.stat().st_mode & 0o777 == 0o700
    assert len(str(path)) < 30
