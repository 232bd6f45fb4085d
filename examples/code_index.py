"""Index the names that Python programs use: a parser on every CPU, one index, and no process left.

    python examples/code_index.py                     Python's own library
    python examples/code_index.py --files 500 ~/src   at most 500 files of a directory of yours
    python examples/code_index.py --pools 1           with one process
    python examples/code_index.py --pools 0           the same actors, all in this process
    python examples/code_index.py --no-kill           without a death in the middle

Each parser is an actor in a pool of its own. It gets a few files by one message, and no more than ``IN_HAND`` such
messages at a time. What it finds goes to the index by ``batch``, one message for all of its files; a file that
cannot be parsed is a ``tell``. When half of the files are done, one of the pools is killed: its parser comes back in a
new process, and what it had in hand is parsed again. In the end the same files are parsed once more without any
pools, to see what these have brought, and that nothing was lost or counted twice.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import logging
import os
import signal
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rich.progress
import trio
from rich.console import Console
from rich.table import Table

import xoscar_sc as xsc

FILES_A_MESSAGE = 8
IN_HAND = 2
"""Messages with one parser: one that it works on, and one that is there when it has done so."""
STANDARD_FILES = 1000
"""So many files of Python's own library, which has more, make a demonstration of some seconds."""
SKIPPED_SHOWN = 10

Advance = Callable[[int], None]


# What is done with one file


def names_in(path: str) -> dict[str, int]:
    """The names that a Python file uses, and how often."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file's author is not here to read them
        tree = ast.parse(Path(path).read_bytes(), path)
    names: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names[node.id] += 1
        elif isinstance(node, ast.Attribute):
            names[node.attr] += 1
    return dict(names)


CANNOT_PARSE = (OSError, SyntaxError, ValueError, RecursionError, MemoryError)


def in_short(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{error.msg}, line {error.lineno}" if error.lineno else error.msg
    return f"{type(error).__name__}: {error}".rstrip(": ")


class Tally:
    """All names so far."""

    def __init__(self) -> None:
        self.uses: Counter[str] = Counter()
        self.files: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}

    def add(self, names: dict[str, int]) -> None:
        self.uses.update(names)
        self.files.update(names.keys())

    def found(self) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
        return dict(self.uses), dict(self.files), self.skipped


# The actors


class Index(xsc.Actor):
    """Where everything comes together."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.added: set[str] = set()

    @xsc.extensible
    async def add(self, path: str, names: dict[str, int]) -> None:
        raise NotImplementedError  # a single call is a batch of one

    @add.batch
    async def add_many(self, args_list: list[Any], kwargs_list: list[Any]) -> None:
        for args, kwargs in zip(args_list, kwargs_list, strict=True):
            path, names = self.add.bind(*args, **kwargs)
            if path not in self.added:  # a parser that died may have sent it before
                self.added.add(path)
                self.tally.add(names)

    async def skip(self, path: str, why: str) -> None:
        self.tally.skipped[path] = why

    async def found(self) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
        return self.tally.found()


class Parser(xsc.Actor):
    """Reads files for the index."""

    def __init__(self, index: xsc.ActorRef[Index]) -> None:
        self.index = index

    async def parse(self, paths: list[str]) -> int:
        done = []
        for path in paths:
            await trio.lowlevel.checkpoint()  # here a cancel is heard
            try:
                done.append(self.index.add.delay(path, names_in(path)))
            except CANNOT_PARSE as error:
                await self.index.skip.tell(path, in_short(error))
        await self.index.add.batch(*done)
        return len(paths)


# The two ways to do it


class Run:
    """What came out, and how long it took."""

    def __init__(self, title: str, paths: list[str]) -> None:
        self.title = title
        self.files = len(paths)
        self.seconds = 0.0
        self.overhead = 0.0
        """Seconds for starting and ending processes, a part of the others."""
        self.found: tuple[dict[str, int], dict[str, int], dict[str, str]] = ({}, {}, {})
        self.processes: dict[int, str] = {}
        self.killed: tuple[str, int] | None = None
        """The pool that was killed in the middle, and its process."""


async def in_pools(paths: list[str], pools: int, advance: Advance, *, kill: bool) -> Run:
    run = Run(in_words(pools, "pool"), paths)
    chunks = (paths[at : at + FILES_A_MESSAGE] for at in range(0, len(paths), FILES_A_MESSAGE))
    parsed = 0

    async def feed(parser: xsc.ActorRef[Parser]) -> None:
        nonlocal parsed
        for chunk in chunks:  # whoever is free takes the next one
            while True:
                try:
                    done = await parser.parse(chunk)
                    break
                except xsc.ActorDied:
                    continue  # it comes back, and does it again
            advance(done)
            parsed += done
            if kill and run.killed is None and parsed * 2 >= len(paths):
                victim = list(n.pools.values())[-1]
                run.killed = victim.name, victim.pid
                os.kill(victim.pid, signal.SIGKILL)

    begin = time.perf_counter()
    async with xsc.open_pool_nursery(pools, supervise=xsc.Supervision()) as n:
        index = await n.create_actor(Index, uid="index", strategy=xsc.strategy.MainPool())
        # One in each pool; without pools one that lives here, as the index does.
        parsers = [await n.create_actor(Parser, index) for _ in range(pools or 1)]
        run.processes = processes_under(os.getpid())

        ready = time.perf_counter()
        async with trio.open_nursery() as tasks:
            for parser in parsers:
                for _ in range(IN_HAND):
                    tasks.start_soon(feed, parser)
        run.found = await index.found()
        done = time.perf_counter()

    end = time.perf_counter()
    run.seconds = end - begin
    run.overhead = (ready - begin) + (end - done)
    return run


def in_one_process(paths: list[str], advance: Advance) -> Run:
    run = Run("without actors", paths)
    tally = Tally()
    begin = time.perf_counter()
    for count, path in enumerate(paths, 1):
        try:
            tally.add(names_in(path))
        except CANNOT_PARSE as error:
            tally.skipped[path] = in_short(error)
        if count % FILES_A_MESSAGE == 0 or count == len(paths):
            advance((count - 1) % FILES_A_MESSAGE + 1)
    run.found = tally.found()
    run.seconds = time.perf_counter() - begin
    return run


# Files


def python_files(directory: str) -> Iterator[str]:
    """The Python files under a directory, but not what was installed there or is hidden."""

    def unreadable(error: OSError) -> None:
        print(f"left out {error.filename}: {in_short(error)}")

    for folder, folders, files in os.walk(directory, onerror=unreadable):
        folders[:] = sorted(
            name for name in folders if name not in {"site-packages", "__pycache__"} and name[0] != "."
        )
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix == ".py" and (
                path.is_file() or not path.exists()
            ):  # a link to nothing is an error
                yield str(path)


def spread(paths: list[str], count: int | None) -> list[str]:
    """At most ``count`` of the paths, from everywhere among them."""
    if count is None or count >= len(paths):
        return paths
    return [paths[at * len(paths) // count] for at in range(count)]


def read_once(paths: list[str]) -> int:
    """Read all files, so that whoever comes first does not wait for the disk alone; their bytes."""
    size = 0
    for path in paths:
        try:
            size += len(Path(path).read_bytes())
        except OSError:  # the parsers say so
            pass
    return size


# Processes


def processes_under(pid: int) -> dict[int, str]:
    """The descendants of a process: their ids, and when each began, for an id may be given again."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := status_of(entry)):
            table[int(entry.name)] = (int(fields[1]), fields[19])
    found: dict[int, str] = {}
    family = {pid}
    while family:
        family = {child for child, (parent, _) in table.items() if parent in family}
        found.update((child, table[child][1]) for child in family)
    return found


def still_there(processes: dict[int, str]) -> list[int]:
    """Those that are still there, whoever their parent is now."""
    return [
        pid
        for pid, began in processes.items()
        if (fields := status_of(Path(f"/proc/{pid}"))) and fields[19] == began
    ]


def status_of(entry: Path) -> list[str]:
    """A process's state, its parent, ... its beginning; empty if it is gone."""
    try:
        return Path(entry, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


# What is shown


class Bar:
    """Progress: a bar in a terminal, and a line now and then elsewhere."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.plain = not console.is_terminal
        self.progress = rich.progress.Progress(
            rich.progress.TextColumn(f"{title:<24}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            disable=self.plain,
        )
        self.task = self.progress.add_task(title, total=total)

    def __enter__(self) -> Advance:
        self.progress.start()
        self.progress.refresh()
        return self.advance

    def advance(self, files: int) -> None:
        before, self.done = self.done, self.done + files
        self.progress.update(self.task, completed=self.done, refresh=True)
        if self.plain and before * 4 // self.total != self.done * 4 // self.total:
            print(f"{self.title}: {self.done} of {self.total} files", flush=True)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def show_names(console: Console, run: Run) -> None:
    uses, files, _ = run.found
    print(f"The most used of {in_words(len(uses), 'name')}:")
    table = Table(box=None)
    table.add_column("name")
    table.add_column("uses", justify="right")
    table.add_column("in files", justify="right")
    for name, count in sorted(uses.items(), key=lambda item: (-item[1], item[0]))[:12]:
        table.add_row(name, f"{count:,}", f"{files[name]:,}")
    console.print(table)


def show_skipped(skipped: dict[str, str]) -> None:
    for path, why in sorted(skipped.items())[:SKIPPED_SHOWN]:
        print(f"left out {path}: {why}")
    if len(skipped) > SKIPPED_SHOWN:
        print(f"left out {in_words(len(skipped) - SKIPPED_SHOWN, 'more file')}")


def show_times(console: Console, pooled: Run, alone: Run) -> None:
    table = Table(box=None)
    table.add_column("")
    for title in ("seconds", "of them start and end", "files/s"):
        table.add_column(title, justify="right")
    for run in (pooled, alone):
        overhead = f"{run.overhead:.2f}" if run.overhead else ""
        table.add_row(run.title, f"{run.seconds:.2f}", overhead, f"{run.files / run.seconds:,.0f}")
    console.print(table)
    print(f"{alone.seconds / pooled.seconds:.2f} times as fast, start and end included")


def in_words(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def count_of(minimum: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {minimum} or more")
        return int(text)

    return number


def main() -> int:
    cpus = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description="Index the names that Python programs use.")
    parser.add_argument("directory", nargs="?", help="where they are; Python's own library by default")
    parser.add_argument("--files", type=count_of(1), metavar="N", help="at most so many files")
    parser.add_argument(
        "--pools",
        type=count_of(0),
        default=cpus,
        metavar="N",
        help=f"processes; {cpus} by default, one per CPU",
    )
    parser.add_argument("--no-kill", dest="kill", action="store_false", help="let all pools live")
    options = parser.parse_args()
    directory = options.directory or sysconfig.get_path("stdlib")
    limit = options.files or (None if options.directory else STANDARD_FILES)
    if not Path(directory).is_dir():
        parser.error(f"there is no directory {directory}")

    logging.getLogger("xoscar_sc").setLevel(logging.ERROR)  # the death in the middle is told of below
    console = Console(highlight=False)
    print(f"looking for Python files under {directory}", flush=True)
    everything = list(python_files(directory))
    paths = spread(everything, limit)
    if not paths:
        print("there are none")
        return 1
    size = read_once(paths)
    print(f"{len(paths):,} of {in_words(len(everything), 'file')}, {size / 1e6:.1f} MB", flush=True)

    with Bar(console, in_words(options.pools, "pool"), len(paths)) as advance:
        kill = options.kill and options.pools > 0
        pooled = trio.run(functools.partial(in_pools, paths, options.pools, advance, kill=kill))
    left = still_there({**pooled.processes, **processes_under(os.getpid())})
    with Bar(console, "without actors", len(paths)) as advance:
        alone = in_one_process(paths, advance)

    print()
    show_skipped(pooled.found[2])
    print()
    show_names(console, pooled)
    print()
    show_times(console, pooled, alone)
    print()
    count = len(pooled.processes)
    if pooled.killed is not None:
        print("{} (process {}) was killed in the middle, and came back".format(*pooled.killed))
    print(
        f"processes besides this one: {count} while it ran, {', '.join(map(str, left)) or 'none'} afterwards"
    )
    if pooled.found != alone.found:
        print("the two did not find the same: one of them is wrong, or a file was changed meanwhile")
        return 1
    return 1 if left else 0


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file may have any name
    status = 1
    try:
        status = main()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to stop
    except* KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("stopped", file=sys.stderr)
        status = 130
    except* xsc.errors.XoscarError as group:
        for error in group.exceptions:
            print(f"failed: {error}", file=sys.stderr)
    except* BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
