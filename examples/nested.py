"""Three levels of processes: an actor may open a nursery of its own, and what it opens ends before it does."""

import trio

import xoscar_sc as xsc

DEPTH = 3
BRANCHES = 2


class Node(xsc.Actor):
    def __init__(self, path: str, depth: int) -> None:
        self.path = path
        self.depth = depth

    async def __post_create__(self) -> None:
        """Open a nursery that lives as long as this actor, and fill it."""
        self.children: list[xsc.ActorRef[Node]] = []
        if self.depth > 1:
            n = await self.exit_stack.enter_async_context(xsc.open_pool_nursery(pools=BRANCHES))
            for number in range(1, BRANCHES + 1):
                child = await n.create_actor(Node, f"{self.path}.{number}", self.depth - 1)
                self.children.append(child)

    async def describe(self) -> list[str]:
        """Who this is, and everybody below."""
        pool = xsc.current_pool()
        lines = [f"{'  ' * self.path.count('.')}{self.path} in {pool.name}, process {pool.pid}"]
        for child in self.children:
            lines += await child.describe()
        return lines


async def main() -> None:
    async with xsc.open_pool_nursery() as n:
        root = await n.create_actor(Node, "1", DEPTH)
        lines = await root.describe()
    print("\n".join(lines))
    print(f"{len(lines)} actors, each in a process of its own: all have ended")


if __name__ == "__main__":
    trio.run(main)
