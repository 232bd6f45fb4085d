"""Images pass through three processes, and are copied by none.

A camera makes images, a filter blurs them, and a third process looks at both. What ``share`` gives is sent by saying
where it lies, so the cost of a step does not grow with the size of the image.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt
import trio

import xoscar_sc as xsc

Image = npt.NDArray[np.float64]

COUNT, HEIGHT, WIDTH = 5, 1080, 1920
RADIUS = 8


def synthesise(number: int) -> Image:
    """Stripes, and noise on them."""
    noise = np.random.default_rng(number).random((HEIGHT, WIDTH))
    return 0.5 + 0.4 * np.sin(np.arange(WIDTH) / (50 + 10 * number)) + 0.2 * (noise - 0.5)


def blurred(image: Image) -> Image:
    """Each pixel as the mean of those around it."""
    width = 2 * RADIUS + 1
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (RADIUS + 1, RADIUS)
        sums = np.cumsum(np.pad(image, padding, mode="edge"), axis=axis)
        ends = np.take(sums, range(width, sums.shape[axis]), axis)
        image = (ends - np.take(sums, range(sums.shape[axis] - width), axis)) / width
    return image


class Camera(xsc.Actor):
    async def images(self, count: int) -> AsyncIterator[Image]:
        for number in range(count):
            yield xsc.share(synthesise(number))


class Filter(xsc.Actor):
    def blur(self, image: Image) -> Image:
        return xsc.share(blurred(image))


class Statistics(xsc.Actor):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def compare(self, image: Image, smooth: Image) -> None:
        # What many share is only read: nobody has to ask whose it is.
        assert not image.flags.writeable
        assert not smooth.flags.writeable
        noise = np.abs(np.diff(image, axis=0)).mean(), np.abs(np.diff(smooth, axis=0)).mean()
        self.lines.append(f"image {len(self.lines)}: noise {noise[0]:.4f}, blurred {noise[1]:.4f}")

    def report(self) -> list[str]:
        return self.lines


async def main() -> None:
    async with xsc.open_pool_nursery(pools=3) as n:
        camera = await n.create_actor(Camera, pool="pool-1")
        blur = await n.create_actor(Filter, pool="pool-2")
        statistics = await n.create_actor(Statistics, pool="pool-3")
        same = True
        async for image in camera.images(COUNT):
            smooth = await blur.blur(image)
            await statistics.compare.tell(image, smooth)
            same = same and np.array_equal(smooth[:32], blurred(image[: 32 + RADIUS])[:32])
        for line in await statistics.report():
            print(line)
        megabytes = COUNT * image.nbytes / 1e6
        print(
            f"{megabytes:.0f} MB of images went through three processes; they are what they should be: {same}"
        )


if __name__ == "__main__":
    trio.run(main)
