"""Exceptions to records and back: the same type, arguments and attributes, the same causes, and where it was.

An exception is not pickled as such: ``BaseException.__reduce__`` calls the type with ``args``, which fails for
every type whose ``__init__`` takes something else. It is taken apart, and put together without its own
``__init__``: ``__new__`` and ``__init__`` of its builtin base with ``args``, then the attributes. A type that says
itself how it is pickled is pickled that way. Groups are always taken apart; each member is a record of its own.
"""

from __future__ import annotations

import builtins
import copyreg
import traceback
from collections.abc import Callable
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

from xoscar_sc import errors
from xoscar_sc.errors import RemoteError
from xoscar_sc.protocol import MAX_FRAME, Failure
from xoscar_sc.serialize.plain import dumps_plain
from xoscar_sc.serialize.values import dumps, loads

MAX_DEPTH: Final = 50
"""So deep causes, contexts and members are followed."""
MAX_RECORDS: Final = 1000
"""So many exceptions are recorded with one; the traceback may show more."""
MAX_TRACEBACK: Final = 64 << 10
MAX_TEXT: Final = 8 << 10

# A record travels in one frame. Texts and payloads share this many bytes, the traceback has the rest.
_BUDGET: Final = MAX_FRAME // 2

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_REDUCERS: Final = ("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")
_PLAIN: Final = (BaseException, Exception, object)


def record(exc: BaseException, *, where: str, plain: bool = False) -> Failure:
    """Make a record of ``exc``. Never fails: what cannot be encoded will arrive as :exc:`RemoteError`.

    Args:
        exc: is not changed.
        where: its actor, pool and process, in words; comes before its traceback.
        plain: nothing may be pickled: only Python's own types, and this package's, will arrive as themselves.
    """
    try:
        failure = _Recorder(_plainly if plain else _take_apart).record(exc)
        text = "".join(traceback.format_exception(exc))
    except Exception as error:
        failure = Failure(_type_name(exc), f"<looking at it failed with {type(error).__name__}>")
        text = "".join(traceback.format_tb(object.__getattribute__(exc, "__traceback__")))
    failure.traceback = f"{_clean(where, MAX_TEXT)}\n{_clean(text, MAX_TRACEBACK)}"
    return failure


def rebuild(failure: Failure) -> BaseException:
    """Turn a record into an exception. Never fails: what cannot be rebuilt is a :exc:`RemoteError`.

    The remote traceback is its last note. It has not been raised: its ``__traceback__`` is None.
    """
    try:
        exc = _rebuild(failure, []) or _stand_in(failure, [])
    except Exception:
        exc = _stand_in(failure, [])
    if failure.traceback:
        _set(exc, "__notes__", [*_notes(exc), failure.traceback])
    return exc


class _Recorder:
    """What one :func:`record` has done so far."""

    def __init__(self, take_apart: Callable[[BaseException], bytes]) -> None:
        self._take_apart = take_apart
        self._numbers: dict[int, int] = {}
        self._active: set[int] = set()
        self._count = 0
        self._left = _BUDGET

    def record(self, exc: BaseException) -> Failure:
        self._active.add(id(exc))
        self._left -= 256
        failure = Failure(_clean(_type_name(exc), 1024), "", suppress_context=exc.__suppress_context__)
        payload = self._take_apart(exc)
        if len(payload) <= self._left:
            self._left -= len(payload)
            failure.payload = payload
        failure.text = self._spend(_clean(_message(exc), MAX_TEXT))
        notes = [self._spend(_clean(note, MAX_TEXT + MAX_TRACEBACK)) for note in _notes(exc)]
        failure.notes = tuple([note for note in notes if note])
        if isinstance(exc, BaseExceptionGroup):
            failure.members = self._members(exc)
        failure.cause = self._beneath(exc.__cause__)
        failure.context = self._beneath(exc.__context__)
        self._active.remove(id(exc))
        self._numbers[id(exc)] = self._count
        self._count += 1
        return failure

    def _beneath(self, exc: BaseException | None) -> Failure | None:
        if exc is None or id(exc) in self._active:
            return None
        if id(exc) in self._numbers:
            return Failure("", str(self._numbers[id(exc)]))
        if len(self._active) >= MAX_DEPTH or self._count >= MAX_RECORDS or self._left <= 0:
            return None
        return self.record(exc)

    def _members(self, group: BaseExceptionGroup[Any]) -> tuple[Failure, ...]:
        members = [member for exc in group.exceptions if (member := self._beneath(exc)) is not None]
        missing = len(group.exceptions) - len(members)
        if missing:
            self._count += 1
            members.append(Failure("ExceptionGroup", f"{missing} more members were left out"))
        return tuple(members)

    def _spend(self, text: str) -> str:
        size = len(text.encode())
        if size > self._left:
            return ""
        self._left -= size
        return text


def _rebuild(failure: Failure, made: list[BaseException]) -> BaseException | None:
    """Rebuild a record and all below it; None for a reference to what is not there."""
    if not failure.type_name:
        number = int(failure.text) if failure.text.isdecimal() else len(made)
        return made[number] if number < len(made) else None
    members = [exc for member in failure.members if (exc := _rebuild(member, made)) is not None]
    cause = _rebuild(failure.cause, made) if failure.cause is not None else None
    context = _rebuild(failure.context, made) if failure.context is not None else None
    exc = _put_together(failure, members)
    if failure.notes:
        _set(exc, "__notes__", list(failure.notes))
    _set(exc, "__cause__", cause)
    _set(exc, "__context__", context)
    _set(exc, "__suppress_context__", failure.suppress_context)
    made.append(exc)
    return exc


def _take_apart(exc: BaseException) -> bytes:
    """What :func:`_put_together` needs; empty if that cannot be encoded."""
    cls = type(exc)
    try:
        if isinstance(exc, BaseExceptionGroup):
            return dumps((cls, (exc.message,), _fields(exc), _state(exc)))
        if cls in copyreg.dispatch_table or any(_defines(cls, name) for name in _REDUCERS):
            return dumps(exc)
        return dumps((cls, exc.args, _fields(exc), _state(exc)))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return b""


def _plainly(exc: BaseException) -> bytes:
    """As :func:`_take_apart`, without a pickle; :func:`_recipe` finds the type by its name."""
    cls = type(exc)
    if _well_known(_type_name(exc)) is not cls:
        return b""
    try:
        args = (exc.message,) if isinstance(exc, BaseExceptionGroup) else exc.args
        return dumps_plain((args, _fields(exc), _state(exc)))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return b""


def _well_known(name: str) -> type[BaseException] | None:
    """The type of Python's own, or of this package's, that has this name."""
    module, _, short = name.rpartition(".")
    known = {"": builtins, errors.__name__: errors}.get(module)
    found = getattr(known, short, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _recipe(failure: Failure) -> Any:
    """What a record says of how to rebuild it: an exception, or type, arguments, fields and state."""
    recipe: Any = loads(failure.payload)
    if isinstance(recipe, list):
        args, fields, state = recipe
        return _well_known(failure.type_name), tuple(args), fields, state
    return recipe


def _put_together(failure: Failure, members: list[BaseException]) -> BaseException:
    try:
        recipe = _recipe(failure)
        if isinstance(recipe, BaseException):
            return recipe
        cls, args, fields, state = recipe
        base = cls
        while base.__flags__ & _HEAP_TYPE:
            base = base.__base__
        if issubclass(cls, BaseExceptionGroup):
            args = (*args, members)
        exc = base.__new__(cls, *args)
        base.__init__(exc, *args)
        for name, value in fields.items():
            try:
                _set(exc, name, value)
            except (AttributeError, TypeError):
                pass  # read-only: the base's __init__ has set it from args
        if cls.__setstate__ is not BaseException.__setstate__:
            exc.__setstate__(state)
        else:
            for part in state if isinstance(state, tuple) else (state,):
                for name, value in (part or {}).items():
                    _set(exc, name, value)
        return exc if isinstance(exc, BaseException) else _stand_in(failure, members)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return _stand_in(failure, members)


def _stand_in(failure: Failure, members: list[BaseException]) -> BaseException:
    if members:
        return BaseExceptionGroup(f"{failure.type_name}: {failure.text}", members)
    return RemoteError(failure.text, type_name=failure.type_name, traceback=failure.traceback)


def _set(exc: BaseException, name: str, value: object) -> None:
    # Past the type's own __setattr__: a frozen dataclass may be an exception.
    object.__setattr__(exc, name, value)


def _defines(cls: type, name: str) -> bool:
    """Whether ``cls`` or a base defines this method, other than Python's own types."""
    return any(name in vars(base) for base in cls.__mro__ if base.__module__ != "builtins")


def _state(exc: BaseException) -> Any:
    if _defines(type(exc), "__getstate__"):
        return exc.__getstate__()
    return {name: value for name, value in vars(exc).items() if name != "__notes__"}


def _fields(exc: BaseException) -> dict[str, Any]:
    """What ``exc`` keeps outside of ``args`` and ``__dict__``: the builtin types' own members, and slots."""
    found: dict[str, Any] = {}
    own_state = _defines(type(exc), "__getstate__")
    for cls in type(exc).__mro__:
        builtin = not cls.__flags__ & _HEAP_TYPE
        if cls in _PLAIN or cls is BaseExceptionGroup or (own_state and not builtin):
            continue
        for name, member in vars(cls).items():
            if not isinstance(member, GetSetDescriptorType | MemberDescriptorType) or name[:2] == "__":
                continue
            if hasattr(exc, name):
                value = getattr(exc, name)
                # A builtin's None means not set; AttributeError.obj may be anything, and is seldom wanted.
                if not (builtin and (value is None or (cls is AttributeError and name == "obj"))):
                    found.setdefault(name, value)
    return found


def _type_name(exc: BaseException) -> str:
    cls = type(exc)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(exc: BaseException) -> str:
    try:
        return exc.message if isinstance(exc, BaseExceptionGroup) else str(exc)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<str() failed with {type(error).__name__}>"


def _notes(exc: BaseException) -> list[str]:
    notes = getattr(exc, "__notes__", None)
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list | tuple) else []


def _clean(text: str, limit: int) -> str:
    """``text`` as UTF-8 can express it, without its middle if it is too long."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}\n... {len(text) - limit} characters left out ...\n{text[-limit // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()
