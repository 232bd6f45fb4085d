from __future__ import annotations

import signal

import pytest

from xoscar_sc.launch import ProcessExit, choose_method


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (ProcessExit(0, None), "exited with code 0"),
        (ProcessExit(3, None), "exited with code 3"),
        (ProcessExit(None, signal.SIGKILL), "was killed by SIGKILL"),
        (ProcessExit(None, signal.SIGTERM), "was killed by SIGTERM"),
        (ProcessExit(None, signal.SIGSEGV), "crashed by SIGSEGV"),
        (ProcessExit(None, signal.SIGABRT), "crashed by SIGABRT"),
        (ProcessExit(None, 40), "was killed by signal 40"),
        (ProcessExit(None, None), "ended, and how is not known"),
    ],
)
def test_an_exit_describes_itself(how: ProcessExit, text: str) -> None:
    assert how.describe() == text


BEFORE = {"PATH": "/bin", "LANG": "C", "LD_LIBRARY_PATH": "/lib", "XSC_POOL": "a"}


@pytest.mark.parametrize(
    "change", [{}, {"PATH": "/usr/bin"}, {"CUDA_VISIBLE_DEVICES": "0"}, {"XSC_POOL": "b"}, {"TZ": "X"}]
)
def test_a_fork_will_do(change: dict[str, str]) -> None:
    assert choose_method(BEFORE, {**BEFORE, **change}) == "fork"


@pytest.mark.parametrize(
    "change",
    [
        {"LD_LIBRARY_PATH": "/other"},
        {"LD_PRELOAD": "x.so"},
        {"PYTHONHASHSEED": "1"},
        {"MALLOC_ARENA_MAX": "1"},
        {"GLIBC_TUNABLES": "x"},
        {"LC_ALL": "de_DE.UTF-8"},
        {"LANG": "de_DE.UTF-8"},
    ],
)
def test_only_an_exec_will_do(change: dict[str, str]) -> None:
    assert choose_method(BEFORE, {**BEFORE, **change}) == "exec"


@pytest.mark.parametrize("name", ["LD_LIBRARY_PATH", "LANG"])
def test_a_variable_that_goes_away_is_a_difference(name: str) -> None:
    assert choose_method(BEFORE, {key: value for key, value in BEFORE.items() if key != name}) == "exec"
