"""How another interpreter like this one is started."""

from __future__ import annotations

import subprocess
import sys


def command(function: str, *args: str | int) -> list[str]:
    """A command line that calls a function of this room in a fresh interpreter, with our flags and our ``sys.path``.

    Args:
        function: ``"module.function"``, where the module is one of this room's.
        args: what to call it with.
    """
    module, _, name = f"{__package__}.{function}".rpartition(".")
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    call = f"{name}({', '.join(map(repr, args))})"
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import {name}; {call}"
    return [sys.executable, *flags, "-c", code]
