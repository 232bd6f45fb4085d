"""A counter that survives the SIGKILL of its whole program: each tick is counted once, whenever that comes.

The program runs itself, kills that process in the middle, twice, and lets it end the third time.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import trio

import xoscar_sc as xsc

TICKS = 40


class Counter(xsc.Actor):
    def __init__(self) -> None:
        self.value = 0

    def __snapshot__(self) -> int:
        return self.value

    def __restore__(self, state: int) -> None:
        self.value = state

    def tick(self) -> None:
        self.value += 1

    def read(self) -> int:
        return self.value


async def count(path: Path) -> None:
    async with xsc.open_pool_nursery(pools=1) as n:
        counter = await n.create_actor(Counter, uid="counter", snapshot=xsc.Snapshots(path, every=10))
        print(await counter.read(), flush=True)
        for number in range(1, TICKS + 1):
            # Those that an earlier process has told already are known by their id.
            await counter.tick.tell.durable(id=f"tick {number}")
            print(number, flush=True)
        print(await counter.read(), flush=True)


def run(path: Path, kill_after: int | None) -> list[int]:
    """Count in a process of its own, which is killed when it has said so many; all that it said."""
    with subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(int(line))
            if len(said) > 1 and said[-1] == kill_after:
                process.kill()
                break
    return said


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "counter.db")
        for kill_after in (15, 30):
            run(path, kill_after)
            print(f"killed when {kill_after} ticks had been accepted")
        begins, *_, ends = run(path, None)
        print(f"the next process knows of all of them: {begins >= 30}")
        print(f"in the end there are {ends}")


if __name__ == "__main__":
    if sys.argv[1:]:
        trio.run(count, Path(sys.argv[1]))
    else:
        main()
