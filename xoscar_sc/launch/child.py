"""From the guardian's fork to the entry, and from there to the end of the process."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, cast

from xoscar_sc.launch import interpreter, system, wire
from xoscar_sc.launch.orphans import POOL_VARIABLE, TREE_VARIABLE

Entry: TypeAlias = Callable[[socket.socket, socket.socket, bytes], int | None]
"""What a process runs: given its channel, its connection to the guardian, and its payload."""

DEFAULT = (signal.SIGCHLD, signal.SIGTERM)
FAILED = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What a fork of the guardian is to become."""

    request: wire.Start
    channel: int
    configuration: int
    guardian: int
    stderr: int
    report: int
    """A pipe that says why the entry cannot be run; closed without a word if it can."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a fork takes over from the guardian."""

    pid: int
    entry: str
    function: Entry
    signals: Mapping[signal.Signals, Any]
    """How signals were handled before the guardian changed it."""
    mark: system.EnvironmentMark


class Forked(BaseException):
    """Raised in a fork of the guardian, to leave the guardian's loop and its tables behind."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job


def load(entry: str) -> Entry:
    """The function that ``"module:function"`` means."""
    module, _, name = entry.partition(":")
    return cast(Entry, getattr(importlib.import_module(module), name))


def run_forked(job: Job, inheritance: Inheritance) -> NoReturn:
    """Become the process that was asked for. Called once in each fork, with no table of the guardian's in reach."""
    try:
        _detach(job, inheritance)
        _settle(job, inheritance)
    except BaseException as exc:  # whatever it is, it must be reported, and must not go on from here
        with contextlib.suppress(OSError):
            os.write(job.report, str(exc).encode(errors="replace")[:4096])
        os._exit(FAILED)
    os.close(job.report)
    run(lambda: inheritance.function, job.channel, job.guardian, job.configuration)


def run_fresh(channel: int, guardian: int, configuration: int, name: str, entry: str) -> NoReturn:
    """The same in a new interpreter; environment, directory, CPUs and signals are as they should be already."""
    for fd in (channel, guardian, configuration):
        os.set_inheritable(fd, False)
    system.set_name(name)
    sys.path[:] = [os.fsdecode(path) for path in wire.read_header(configuration).sys_path]
    run(lambda: load(entry), channel, guardian, configuration)


@contextlib.contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        raise RuntimeError(f"{what}: {exc}") from exc


def _detach(job: Job, inheritance: Inheritance) -> None:
    """Stop being the guardian: a lifeline, a group, signals and descriptors of its own."""
    system.die_with(inheritance.pid)
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number, handler in inheritance.signals.items():
        signal.signal(number, handler)
    for number in DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.dup2(job.stderr, 2)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    keep = {0, 1, 2, job.channel, job.guardian, job.configuration, job.report}
    for fd in {int(name) for name in os.listdir("/proc/self/fd")} - keep:
        with contextlib.suppress(OSError):  # the listing's own is closed already
            os.close(fd)


def _settle(job: Job, inheritance: Inheritance) -> None:
    """Arrange everything as the spec says; for "exec", leave for a new interpreter."""
    request = job.request
    system.set_name(request.name)
    with _doing("reading its configuration"):
        header = wire.read_header(job.configuration)
    if header.cwd:  # else the root's has been removed, and any will do
        with _doing(f"changing to the directory {os.fsdecode(header.cwd)!r}"):
            os.chdir(header.cwd)
    if request.cpus is not None:
        with _doing(f"binding to the CPUs {request.cpus}"):
            os.sched_setaffinity(0, request.cpus)
    header.env[POOL_VARIABLE.encode()] = request.pool_id.encode()
    header.env[TREE_VARIABLE.encode()] = os.environb[TREE_VARIABLE.encode()]
    if request.method == "exec":
        with _doing(f"executing {sys.executable!r}"):
            _execute(job, header.env, inheritance.entry)
    inheritance.mark.set(request.pool_id)
    with _doing("setting its environment"):
        _set_environment(header.env)
    sys.path[:] = [os.fsdecode(path) for path in header.sys_path]
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()  # random does so by itself


def _execute(job: Job, env: Mapping[bytes, bytes], entry: str) -> NoReturn:
    descriptors = (job.channel, job.guardian, job.configuration)
    for fd in descriptors:
        os.set_inheritable(fd, True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by every Python for itself
        signal.signal(number, signal.SIG_DFL)
    command = interpreter.command("child.run_fresh", *descriptors, job.request.name, entry)
    os.execve(command[0], command, env)


def _set_environment(env: Mapping[bytes, bytes]) -> None:
    zone = os.environ.get("TZ")
    for name in os.environb.keys() - env.keys():
        del os.environb[name]
    for key, value in env.items():
        if os.environb.get(key) != value:
            os.environb[key] = value
    if os.environ.get("TZ") != zone:
        time.tzset()


def run(load_entry: Callable[[], Entry], channel: int, guardian: int, configuration: int) -> NoReturn:
    """Run the entry, then do what a program does at its end, but for taking the interpreter apart."""
    code = FAILED
    try:
        # Open to the very end: the guardian kills what was started over a connection that has ended.
        first, second = socket.socket(fileno=channel), socket.socket(fileno=guardian)
        # The payload is in no variable here: the entry can let go of it.
        code = _exit_code(lambda: load_entry()(first, second, wire.read_payload(configuration)))
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:  # there is nobody above to hear of it
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(code)


def _exit_code(call: Callable[[], object]) -> int:
    try:
        result = call()
    except SystemExit as exc:
        result = exc.code
    except BaseException as exc:  # as a program does with what nobody has caught
        while exc.__traceback__ and exc.__traceback__.tb_frame.f_code.co_filename == __file__:
            exc.__traceback__ = exc.__traceback__.tb_next
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return FAILED
    if result is None or isinstance(result, int):
        return (result or 0) & 0xFF
    print(result, file=sys.stderr)  # noqa: T201 - what sys.exit("text") does
    return FAILED
