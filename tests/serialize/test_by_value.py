from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.serialize.crossing import ROOT, child
from xoscar_sc.errors import RemoteError
from xoscar_sc.protocol import Failed, decode
from xoscar_sc.serialize import dumps_call, rebuild


def test_a_class_of_this_process_comes_home_as_itself() -> None:
    class Local(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__("local")
            self.code = code

    code = """
        import sys
        from xoscar_sc.protocol import Failed, encode
        from xoscar_sc.serialize import loads_call, record
        (cls,), _ = loads_call(sys.stdin.buffer.read())
        try:
            raise cls(code=4)
        except Exception as exc:
            sys.stdout.buffer.write(encode(Failed(1, record(exc, where="child"))))
    """
    message = decode(child(code, dumps_call((Local,), {})))
    assert isinstance(message, Failed)
    exc = rebuild(message.failure)
    assert type(exc) is Local
    assert exc.code == 4


SCRIPT = """
    import enum, subprocess, sys
    from dataclasses import dataclass
    from xoscar_sc.protocol import decode
    from xoscar_sc.serialize import dumps_call, rebuild

    FACTOR = 3

    class Colour(enum.IntEnum):
        RED = 1

    @dataclass
    class Point:
        x: int
        colour: Colour

    class Refused(Exception):
        def __init__(self, point, *, why):
            super().__init__(f"refused: {why}")
            self.point = point

    def scaled(point):
        return point.x * FACTOR

    def check(point):
        raise Refused(point, why="red")

    CHILD = '''
    import sys
    from xoscar_sc.protocol import Failed, encode
    from xoscar_sc.serialize import loads_call, record
    (point, scaled, check, square), _ = loads_call(sys.stdin.buffer.read())
    assert (type(point).__name__, point.x, point.colour, scaled(point), square(3)) == ("Point", 2, 1, 6, 9)
    try:
        check(point)
    except Exception as exc:
        sys.stdout.buffer.write(encode(Failed(1, record(exc, where="child"))))
    '''

    if __name__ == "__main__":
        body = dumps_call((Point(2, Colour.RED), scaled, check, lambda x: x * x), {})
        out = subprocess.run([sys.executable, "-c", CHILD], input=body, stdout=subprocess.PIPE, check=True).stdout
        exc = rebuild(decode(out).failure)
        assert type(exc) is Refused, exc
        assert type(exc.point) is Point and exc.point == Point(2, Colour.RED), exc.point
        assert type(exc.point.colour) is Colour
        print(exc)
"""


def test_a_script_may_define_its_types_in_main(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    out = subprocess.run(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    assert out == "refused: red\n"


def test_a_type_that_is_missing_here_is_a_remote_error(tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text("class Theirs(Exception):\n    pass\n")
    code = """
        import sys
        sys.path.append(sys.argv[1])
        import only_there
        from xoscar_sc.protocol import Failed, encode
        from xoscar_sc.serialize import record
        try:
            raise only_there.Theirs("x")
        except Exception as exc:
            exc.add_note("own")
            exc.__cause__ = ValueError("why")
            sys.stdout.buffer.write(encode(Failed(1, record(exc, where="child"))))
    """
    message = decode(child(code, b"", str(tmp_path)))
    assert isinstance(message, Failed)
    exc = rebuild(message.failure)
    assert type(exc) is RemoteError
    assert (str(exc), exc.type_name) == ("only_there.Theirs: x", "only_there.Theirs")
    assert "Traceback" in exc.traceback
    assert exc.__notes__ == ["own", exc.traceback]
    assert repr(exc.__cause__) == "ValueError('why')"
