"""Structs of ``__main__`` arrive as what they are, though no other process can import them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SENDS = '''
import sys

import msgspec

from xoscar_sc.errors import SerializationError
from xoscar_sc.serialize import dumps

EXTRA = 5


class Base(msgspec.Struct, kw_only=True, tag=True):
    a: int = 3


class Wish(Base, rename="camel", frozen=True):
    """What is wanted."""

    some_symbols: list[str]
    other: dict[str, int] = msgspec.field(default_factory=dict)
    renamed: int = msgspec.field(default=4, name="zz")

    def total(self):
        return len(self.some_symbols) + self.a + EXTRA

    @classmethod
    def make(cls):
        return cls(some_symbols=["made"])

    @property
    def first(self):
        return self.some_symbols[0]

    def __post_init__(self):
        if not self.a:
            raise ValueError("a is 0")


class Point(msgspec.Struct, array_like=True, order=True):
    x: int
    y: int = 0


class Line(msgspec.Struct):
    ends: tuple[Point, Point]


class Tree(msgspec.Struct):
    child: "Tree | None" = None


wish = Wish(some_symbols=["q"], other={"a": 1})
try:
    dumps(Tree())
except SerializationError as exc:
    print(f"a class that names itself: {type(exc).__name__}", file=sys.stderr)
sys.stdout.buffer.write(dumps((wish, Wish, Base, [Wish, Line, Point], Line((Point(1), Point(2, 3))))))
'''

RECEIVES = """
import sys

import msgspec

from xoscar_sc.serialize import loads

data = sys.stdin.buffer.read()
wish, Wish, Base, (again, Line, Point), line = loads(data)
assert type(wish) is Wish is again
assert Wish.__bases__ == (Base,)
assert (Wish.__name__, Wish.__module__, Wish.__doc__) == ("Wish", "__main__", "What is wanted.")
assert (wish.some_symbols, wish.other, wish.renamed, wish.a) == (["q"], {"a": 1}, 4, 3)
assert (wish.total(), wish.first, Wish.make().some_symbols) == (9, "q", ["made"])
assert Wish(some_symbols=[]).other is not Wish(some_symbols=[]).other
written = b'{"type":"Wish","someSymbols":["q"],"other":{"a":1},"zz":4,"a":3}'
assert msgspec.json.encode(wish) == written
assert msgspec.json.decode(written, type=Wish) == wish
for wrong in (lambda: Wish(some_symbols=[], a=0), lambda: setattr(wish, "a", 1)):
    try:
        wrong()
    except (ValueError, AttributeError):
        pass
    else:
        raise AssertionError
assert type(line) is Line and msgspec.json.encode(line) == b'{"ends":[[1,0],[2,3]]}'
assert Point(1) < Point(2)
assert type(loads(data)[0]) is Wish  # once more is the same class
print("as it was")
"""


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[bytes]:
    path: Path = tmp_path_factory.mktemp("structs") / "sends.py"
    path.write_text(SENDS)
    return subprocess.run([sys.executable, str(path)], capture_output=True, check=True, timeout=60)


def test_a_struct_by_value_is_the_same_over_there(sent: subprocess.CompletedProcess[bytes]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RECEIVES],
        input=sent.stdout,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == b"as it was\n", done.stderr.decode()


def test_one_that_names_itself_is_refused_with_a_clear_error(
    sent: subprocess.CompletedProcess[bytes],
) -> None:
    assert sent.stderr.decode() == "a class that names itself: SerializationError\n"
