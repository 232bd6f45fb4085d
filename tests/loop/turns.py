"""Work for a loop to run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from xoscar_sc.loop import Loop, Scope


class Plain:
    """A turn made of a function: it ends at once, or gives the coroutine that it returns."""

    def __init__(self, function: Callable[[Scope], Coroutine[Any, Any, None] | None]) -> None:
        self.start = function


class Waiting:
    """A turn that waits until it is released."""

    def __init__(self, loop: Loop, log: list[object], name: object) -> None:
        self.slot = loop.slot()
        self.log = log
        self.name = name
        self.scope: Scope | None = None

    def start(self, scope: Scope) -> Coroutine[Any, Any, None]:
        self.scope = scope
        self.log.append(("starts", self.name))
        return self.rest()

    async def rest(self) -> None:
        try:
            await self.slot.wait()
        except BaseException:
            self.log.append(("cancelled", self.name))
            raise
        self.log.append(("ends", self.name))
