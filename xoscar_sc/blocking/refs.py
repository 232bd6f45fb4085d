"""What sync code holds of actors, pools and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from xoscar_sc.runtime import ActorMethod, ActorRef, Delayed, ResultStream
from xoscar_sc.supervise import Pool

if TYPE_CHECKING:
    from xoscar_sc.blocking.nursery import BlockingNursery

T = TypeVar("T")


def in_async(value: Any) -> Any:
    """An argument as async code has it."""
    return value.__actor_ref__ if isinstance(value, BlockingRef) else value


def options_in_async(options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments as async code has them."""
    return {
        name: each.pool if isinstance(each, BlockingPool) else in_async(each)
        for name, each in options.items()
    }


class BlockingPool:
    """A pool, for sync code."""

    def __init__(self, nursery: BlockingNursery, pool: Pool) -> None:
        self._nursery = nursery
        self.pool = pool
        self.name = pool.name
        self.address = pool.address
        self.pid = pool.pid

    def create_actor(self, cls: type[T], /, *args: Any, **options: Any) -> BlockingRef[T]:
        """See :meth:`Pool.create_actor`."""
        return self._nursery.create_actor(cls, *args, pool=self, **options)

    def run(self, fn: Callable[..., T], /, *args: Any) -> T:
        """See :meth:`Pool.run`."""
        return self._nursery.run(fn, *args, pool=self)

    def stop(self) -> None:
        """See :meth:`Pool.stop`."""
        self._nursery.call(self.pool.stop)


class BlockingRef(Generic[T]):
    """A reference to an actor, whose methods wait for their values. As an argument it is the reference itself."""

    def __init__(self, nursery: BlockingNursery, ref: ActorRef[T]) -> None:
        self.__actor_ref__ = ref
        self._nursery = nursery

    @property
    def uid(self) -> str:
        """The actor's name, unique in the tree."""
        return self.__actor_ref__.uid

    @property
    def address(self) -> str:
        """The address of the actor's pool."""
        return self.__actor_ref__.address

    def destroy(self) -> None:
        """See :meth:`ActorRef.destroy`."""
        self._nursery.call(self.__actor_ref__.destroy)

    def kill(self) -> None:
        """See :meth:`ActorRef.kill`."""
        self._nursery.call(self.__actor_ref__.kill)

    def is_alive(self) -> bool:
        """See :meth:`ActorRef.is_alive`."""
        return bool(self._nursery.call(self.__actor_ref__.is_alive))

    def __getattr__(self, name: str) -> BlockingMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        return BlockingMethod(self._nursery, getattr(self.__actor_ref__, name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockingRef) and self.__actor_ref__ == other.__actor_ref__

    def __hash__(self) -> int:
        return hash(self.__actor_ref__)

    def __reduce__(self) -> Any:
        return self.__actor_ref__.__reduce__()

    def __repr__(self) -> str:
        return f"Blocking{self.__actor_ref__!r}"


class BlockingMethod:
    """A method of an actor: calling it waits for its value. A generator method gives a :class:`BlockingStream`."""

    def __init__(self, nursery: BlockingNursery, method: ActorMethod) -> None:
        self._nursery = nursery
        self._method = method

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        nursery = self._nursery

        async def call() -> Any:
            value: Any = self._method(*map(in_async, args), **options_in_async(kwargs))
            return value if isinstance(value, ResultStream) else await value

        return nursery.wrap(nursery.call(call))

    send = __call__

    def tell(self, /, *args: Any, **kwargs: Any) -> None:
        """Call it, and wait for nothing but that the message is on its way; see :class:`TellMethod`."""

        async def call() -> None:
            await self._method.tell(*map(in_async, args), **options_in_async(kwargs))

        self._nursery.call(call)

    def delay(self, /, *args: Any, **kwargs: Any) -> Delayed:
        """Prepare a call for :meth:`batch`."""
        return self._method.delay(*map(in_async, args), **options_in_async(kwargs))

    def batch(self, /, *delayed: Delayed) -> list[Any]:
        """See :meth:`ActorMethod.batch`."""
        values: list[Any] = self._nursery.call(self._method.batch, *delayed)
        return [self._nursery.wrap(value) for value in values]


class BlockingStream(Iterator[Any]):
    """What a generator method yields. ``with ref.method() as stream`` closes the generator when the block is left."""

    def __init__(self, nursery: BlockingNursery, stream: ResultStream[Any]) -> None:
        self._nursery = nursery
        self._stream = stream

    def __next__(self) -> Any:
        found, value = self._nursery.call(self._next)
        if not found:
            raise StopIteration
        return self._nursery.wrap(value)

    async def _next(self) -> tuple[bool, Any]:
        try:
            return True, await self._stream.__anext__()
        except StopAsyncIteration:
            return False, None

    def close(self) -> None:
        """Close the generator, and wait until it has ended."""
        self._nursery.call(self._stream.aclose)

    def __enter__(self) -> Self:
        self._nursery.call(self._stream.__aenter__)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
