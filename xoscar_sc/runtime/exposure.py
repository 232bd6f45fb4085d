"""What programs from outside may use, as values: what is not here looks to them as if it did not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from xoscar_sc.errors import NotExposed
from xoscar_sc.runtime.actor import StatelessActor
from xoscar_sc.runtime.ref import ActorRef


def name_of(thing: Callable[..., Any] | str) -> str:
    """What a class or a function is called between programs: ``module:name``."""
    if isinstance(thing, str):
        return thing
    return f"{thing.__module__}:{thing.__qualname__}"


class Exposure:
    """What programs from outside may use.

    Args:
        things: uids or references of actors, actor classes, and functions; None for all actors and nothing else.

    Raises:
        TypeError: one is something else.
        ValueError: two classes, or two functions, have one name.
    """

    def __init__(self, things: Iterable[object] | None) -> None:
        self._all = things is None
        self._uids: set[str] = set()
        self._classes: dict[str, type[Any]] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        if isinstance(things, str):
            raise TypeError(f"expose= is {things!r}; it is a list: [{things!r}]")
        for thing in things or ():
            self._add(thing)

    def _add(self, thing: object) -> None:
        if isinstance(thing, str):
            self._uids.add(thing)
        elif isinstance(thing, ActorRef):
            self._uids.add(thing.uid)
        elif isinstance(thing, type) and issubclass(thing, StatelessActor):
            _put(self._classes, thing)
        elif callable(thing) and not isinstance(thing, type) and hasattr(thing, "__qualname__"):
            _put(self._functions, thing)
        else:
            raise TypeError(
                f"expose= has {thing!r}; it has uids, references, actor classes and functions with a name"
            )

    @property
    def classes(self) -> bool:
        """Whether there are classes among them."""
        return bool(self._classes)

    def admits(self, uid: str) -> bool:
        """Whether an actor of the tree may be called."""
        return self._all or uid in self._uids

    def cls(self, name: str) -> type[Any]:
        """The actor class of this name.

        Raises:
            NotExposed: there is none.
        """
        found: type[Any] = _find(self._classes, name, "actor class")
        return found

    def function(self, name: str) -> Callable[..., Any]:
        """The function of this name.

        Raises:
            NotExposed: there is none.
        """
        found: Callable[..., Any] = _find(self._functions, name, "function")
        return found


def _put(table: dict[str, Any], thing: Any) -> None:
    name = name_of(thing)
    if table.setdefault(name, thing) is not thing:
        raise ValueError(f"expose= has two things that are called {name!r}")


def _find(table: dict[str, Any], name: str, what: str) -> Any:
    found = table.get(name)
    if found is None:
        # A program's own main module is called otherwise in another program.
        short = name.rpartition(":")[2]
        same = [each for key, each in table.items() if key.rpartition(":")[2] == short]
        if len(same) != 1:
            raise NotExposed(f"there is no {what} {name!r} here")
        found = same[0]
    return found
