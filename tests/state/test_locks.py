"""Locks on bytes of a file: one holder each, until it lets go or dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from xoscar_sc.state.locks import Locks


def test_a_lock_has_one_holder_in_the_same_process_too(tmp_path: Path) -> None:
    one, other = Locks(str(tmp_path / "lock")), Locks(str(tmp_path / "lock"))
    try:
        assert one.take(1, 0)
        assert not other.take(1, 0.05)
        assert other.take(2, 0)
        one.leave(1)
        assert other.take(1, 0)
        one.close()
        one.close()
    finally:
        other.close()


def test_a_lock_is_free_when_its_holder_is_dead(tmp_path: Path) -> None:
    source = (
        "import sys; from xoscar_sc.state.locks import Locks\n"
        "print(Locks(sys.argv[1]).take(7, 0), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", source, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        locks = Locks(str(tmp_path / "lock"))
        assert not locks.take(7, 0)
        holder.kill()
        holder.wait()
        assert locks.take(7, 0)
        locks.close()
