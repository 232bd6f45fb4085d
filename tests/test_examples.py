"""Every program in ``examples/`` runs, says what it should, and leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

SAYS = {
    "smallest": ["15", "[17, 19]"],
    "under_asyncio": ["15", "[17, 19]"],
    "infected_echo": [
        "asyncio is ready",
        "1000 of 1000 came back as they were",
        "the pool has ended",
    ],
    "function": ["two processes were busy: True"],
    "self_destruct": [
        *[f"worker-{number} is at work" for number in range(4)],
        "4 processes; the root is about to fail",
        "self-destruct: 0 processes are left",
    ],
    "primes": [
        "112272535095293 is prime",
        "112582705942171 is prime",
        "112272535095297 is not prime",
        "115280095190773 is prime",
        "115797848077099 is prime",
        "1099726899285419 is not prime",
    ],
    "ping_pong": ["it starts with 11", *["ping, pong"] * 3, "it ends with 3 times"],
    "image_pipeline": [
        *[rf"re:image {number}: noise 0\.06\d\d, blurred 0\.00\d\d" for number in range(5)],
        "83 MB of images went through three processes; they are what they should be: True",
    ],
    "fan_out": [
        "first:  [100, 101, 102, 103, 104]",
        "second: [100, 101, 102, 103, 104]",
        "who reads only now has the last: [104]",
    ],
    "durable_counter": [
        "killed when 15 ticks had been accepted",
        "killed when 30 ticks had been accepted",
        "the next process knows of all of them: True",
        "in the end there are 40",
    ],
    "discovery": [
        "a database: None",
        "now there is one: database",
        "the shop is open",
        "tea: 5",
    ],
    "many_streams": [
        "quick 1: 4950",
        "quick 2: 19900",
        "quick 3: 44850",
        "slow: has not been read; it begins with 0",
    ],
    "quotes": [
        "there are quotes of salt, silk, tea",
        "1: tea at 10.5",
        "2: salt at 10.5",
        "3: tea at 11.5",
        "4: salt at 11.0",
        "now it is silk",
        "the service says: nothing more is wanted",
        "readers: 0",
    ],
    "streams": [
        "the first is 20.0",
        "another process shows [20.0, 20.5, 21.0, 21.5]",
        "readers: 1",
        "readers after the block: 0",
    ],
    "nested": [
        r"re:1 in pool-\d, process \d+",
        *[
            rf"re:{'  ' * path.count('.')}{re.escape(path)} in pool-\d, process \d+"
            for path in ("1.1", "1.1.1", "1.1.2", "1.2", "1.2.1", "1.2.2")
        ],
        "7 actors, each in a process of its own: all have ended",
    ],
    "service_tree": [
        "tea is number 1",
        "milk is number 2",
        "the store's process is killed",
        "coffee is number 1",
        "bomb one",
        "  the call may have been executed: True",
        "bomb two",
        "  the call may have been executed: True",
        "sugar is number 2",
        "storage is up, restarts: 0",
        "  store is up, restarts: 1",
        "  index is up, restarts: 1",
        "front is up, restarts: 0",
        "  counter is up, restarts: 1",
        "    clerk is up, restarts: 0",
        "disk restarted, store restarted, clerk restarted, counter gave up, counter restarted",
    ],
    "failures": [
        "an exception of our own: 3 more of tea; 'tea', 3",
        "  its own note: ask again on Monday",
        "  one more says where: True",
        "an error of the system: errno 2, /no/such/file",
        "from a group: the first",
        "from the same group: the second",
        "the shop is still open: True",
        "a killed pool: signal 9",
        "nobody waits for a tell ...",
        "... so its error is the nursery's: 1 more of milk",
    ],
}
"""What each program prints, line by line; a line that begins with ``re:`` is a pattern."""

UNORDERED = {"self_destruct": 4}
"""So many of its first lines come in any order."""


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def run(name: str, *arguments: str) -> tuple[int, str, str]:
    """Run an example: its status, and what it wrote."""
    with start(name, *arguments) as process:
        try:
            out, err = process.communicate(timeout=60)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


def agrees(line: str, expected: str) -> bool:
    if expected.startswith("re:"):
        return re.fullmatch(expected[3:], line) is not None
    return line == expected


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SAYS, "code_index"}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_what_it_should(name: str) -> None:
    status, out, err = run(name)
    assert (status, err) == (0, "")
    lines, first = out.splitlines(), UNORDERED.get(name, 0)
    lines[:first] = sorted(lines[:first])
    assert len(lines) == len(SAYS[name]), out
    for line, expected in zip(lines, SAYS[name], strict=True):
        assert agrees(line, expected)


# The index


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A directory with three Python files that can be parsed, and some that cannot."""
    (tmp_path / "package").mkdir()
    (tmp_path / "one.py").write_text("apple = pear.apple\n")
    (tmp_path / "package" / "two.py").write_text("apple = 1\n")
    (tmp_path / "package" / "three.py").write_text("'\\d'\nplum\n")
    (tmp_path / "half.py").write_text("x = (\n")
    (tmp_path / "zero.py").write_bytes(b"x = 1\0\n")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "gone.py").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "read.me").write_text("no Python")
    return tmp_path


@pytest.mark.parametrize("pools", [0, 1, 3])
def test_the_index_counts_names_and_goes_on_after_files_it_cannot_parse(sources: Path, pools: int) -> None:
    status, out, err = run("code_index", "--pools", str(pools), str(sources))
    assert (status, err) == (0, "")
    assert "7 of 7 files" in out
    table = [tuple(line.split()) for line in out.splitlines()]
    assert ("apple", "3", "2") in table
    assert ("plum", "1", "1") in table
    left_out = {line.split(":")[0] for line in out.splitlines() if line.startswith("left out")}
    assert left_out == {
        f"left out {sources / name}" for name in ("half.py", "zero.py", "latin.py", "gone.py")
    }
    assert "No such file" in out
    assert ("was killed in the middle, and came back" in out) == (pools > 0)
    assert f"processes besides this one: {pools + 1 if pools else 0} while it ran, none afterwards" in out


def test_the_index_takes_a_part_of_the_standard_library() -> None:
    status, out, err = run("code_index", "--files", "40", "--pools", "2")
    assert (status, err) == (0, "")
    assert "40 of " in out
    assert "2 pools: 40 of 40 files" in out
    assert "was killed in the middle, and came back" in out
    assert "times as fast" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/no/such/directory"], "there is no directory /no/such/directory"),
        (["--pools", "-1"], "'-1' is not a number of 0 or more"),
        (["--files", "0"], "'0' is not a number of 1 or more"),
    ],
)
def test_a_wrong_argument_of_the_index_is_a_line_and_status_2(arguments: list[str], says: str) -> None:
    status, out, err = run("code_index", *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("marker", ["looking for", "files, ", "2 pools: 2", "without actors: 2"])
def test_ctrl_c_stops_the_index_with_one_word(marker: str) -> None:
    with start("code_index", "--files", "400", "--pools", "2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while marker not in (line := process.stdout.readline()):
                assert line
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=20) == 130
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.stderr.read() == "stopped\n"
