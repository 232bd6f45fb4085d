"""A test that leaks fails, a test that hangs fails, and those after them do not suffer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LEAKS = """
import subprocess
from tests import leaks

leaks.PATIENCE = 0.0

def test_leaves_nothing():
    pass

def test_leaves_a_child():
    subprocess.run(["sh", "-c", "setsid sleep 60 &"])

def test_does_not_suffer_from_it():
    pass
"""

HANGS = """
import time
import trio
import pytest
from tests import conftest

conftest.GRACE = 0.2

async def test_waits_for_ever():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)

async def test_needs_longer_on_a_mock_clock(autojump_clock):
    await trio.sleep(1000)

def test_spins():
    while True:
        pass

async def test_runs_on_trio():
    await trio.sleep(0)

async def test_cannot_be_cancelled():
    while True:
        time.sleep(0.01)
"""


def run(source: str, folder: Path, *options: str) -> str:
    """Run tests in a pytest of their own, with this folder's ``conftest.py``; what it prints."""
    case = folder / "test_case.py"
    case.write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-c",
        "/dev/null",
        "-o",
        "trio_mode=true",
    ]
    done = subprocess.run(
        [*command, *options, str(case)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_a_test_that_leaves_something_fails(tmp_path: Path) -> None:
    output = run(LEAKS, tmp_path)
    assert "3 passed, 1 error" in output, output
    assert "sleep 60" in output


def test_a_test_that_hangs_fails_where_it_hangs(tmp_path: Path) -> None:
    output = run(HANGS, tmp_path, "--timeout", "0.5", "--timeout-method", "signal", "-v")
    verdicts = [
        line.split()[1] for line in output.splitlines() if line.startswith("test_case") or "::test_" in line
    ][:5]
    assert verdicts == ["FAILED", "PASSED", "FAILED", "PASSED", "FAILED"], output
    assert "sleep_forever" in output
