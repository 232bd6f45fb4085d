from __future__ import annotations

import enum

import pytest

from tests.serialize import users
from tests.serialize.crossing import child, cross, raised
from xoscar_sc import errors
from xoscar_sc.errors import RemoteError
from xoscar_sc.protocol import Failed, decode
from xoscar_sc.serialize import rebuild


class Case(enum.Enum):
    """What a child raises (an expression), and what must be true of ``e`` here."""

    def __init__(self, source: str, *claims: str) -> None:
        self.source = source
        self.claims = claims

    VALUE = "ValueError('a', 2)", "type(e) is ValueError", "e.args == ('a', 2)"
    KEY = "KeyError(('a', 1))", "type(e) is KeyError", "e.args == (('a', 1),)"
    STOP = "StopIteration(5)", "type(e) is StopIteration", "e.value == 5"
    NO_FILE = (
        "FileNotFoundError(2, 'none', '/x', None, '/y')",
        "type(e) is FileNotFoundError",
        "(e.errno, e.strerror, e.filename, e.filename2) == (2, 'none', '/x', '/y')",
        "str(e) == \"[Errno 2] none: '/x' -> '/y'\"",
    )
    OS_PLAIN = "OSError('text')", "type(e) is OSError", "e.args == ('text',)", "e.errno is None"
    OS_LATE = "vary(OSError(), errno=9, filename='f')", "(e.errno, e.filename) == (9, 'f')"
    OS_BLOCKED = "BlockingIOError(11, 'full', 3)", "type(e) is BlockingIOError", "e.characters_written == 3"
    OS_OWN = (
        "users.OwnOSError('/p')",
        "type(e) is users.OwnOSError",
        "(e.errno, e.filename, e.path) == (5, '/p', '/p')",
    )
    UNICODE = (
        "b'\\xff'.decode()",
        "type(e) is UnicodeDecodeError",
        "(e.encoding, e.object, e.start, e.end) == ('utf-8', b'\\xff', 0, 1)",
        "'invalid start byte' in str(e)",
    )
    SYNTAX = (
        "compile('a b', 'f.py', 'exec')",
        "type(e) is SyntaxError",
        "(e.filename, e.lineno) == ('f.py', 1)",
    )
    IMPORT = "__import__('no_such_module')", "type(e) is ModuleNotFoundError", "e.name == 'no_such_module'"
    ATTRIBUTE = "object().gone", "type(e) is AttributeError", "e.name == 'gone'", "e.obj is None"
    NAME = "undefined_name", "type(e) is NameError", "e.name == 'undefined_name'"
    EXIT = "sys.exit(3)", "type(e) is SystemExit", "e.code == 3"
    INTERRUPT = "KeyboardInterrupt()", "type(e) is KeyboardInterrupt", "e.args == ()"
    SEVERAL = (
        "users.Several('x', 3)",
        "type(e) is users.Several",
        "(e.name, e.count, e.args) == ('x', 3, ('x x 3',))",
    )
    KEYWORDS = (
        "users.KeywordOnly(host='h', port=1)",
        "type(e) is users.KeywordOnly",
        "(str(e), e.host, e.port) == ('cannot reach h:1', 'h', 1)",
    )
    SILENT = "users.SilentInit(4)", "type(e) is users.SilentInit", "(e.value, e.args) == (4, (4,))"
    NEW = "users.OwnNew(4)", "type(e) is users.OwnNew", "e.code == 4"
    SLOTS = (
        "users.Slots(1)",
        "type(e) is users.Slots",
        "(e.one, e.two) == (1, None)",
        "not hasattr(e, 'empty')",
        "e.args == ('slots',)",
    )
    FROZEN = "users.Frozen(4)", "type(e) is users.Frozen", "e.code == 4", "len(e.__notes__) == 1"
    REDUCES = "users.Reduces('l')", "type(e) is users.Reduces", "e.lock_name == 'l'", "e.lock is not None"
    STATE = "users.HasState(4)", "type(e) is users.HasState", "e.value == 4", "e.lock is not None"
    LOCK = (
        "users.HoldsLock()",
        "type(e) is RemoteError",
        "e.type_name == 'tests.serialize.users.HoldsLock'",
        "e.text == 'holds a lock'",
        "'child\\nTraceback' in e.traceback",
    )
    BAD_STR = "users.BadStr(1)", "type(e) is users.BadStr", "e.args == (1,)"
    EXITS = "users.Exits()", "type(e) is RemoteError", "e.type_name.endswith('Exits')"
    NOT_ONE = "users.NoException()", "type(e) is RemoteError"
    ARGUMENT = "ValueError(users.Unpicklable())", "type(e) is RemoteError", "e.type_name == 'ValueError'"
    LOCAL = (
        "local()",
        "type(e).__name__ == 'Local'",
        "isinstance(e, LookupError)",
        "(str(e), e.code) == ('local', 7)",
        "e.twice() == 14",
    )
    OF_MAIN = (
        "OfMain('m')",
        "type(e).__name__ == 'OfMain'",
        "type(e).__module__ == '__main__'",
        "str(e) == 'm'",
    )
    POOL_DIED = (
        "errors.PoolDied('gone', pool='p', pid=3, exit_code=-9, last_lines=('a', 'b'), maybe_executed=False)",
        "type(e) is errors.PoolDied",
        "(str(e), e.pool, e.pid, e.exit_code, e.signal) == ('gone', 'p', 3, -9, None)",
        "(e.last_lines, e.maybe_executed) == (('a', 'b'), False)",
    )
    REMOTE = (
        "RemoteError('text', type_name='m.T', traceback='tb')",
        "type(e) is RemoteError",
        "(str(e), e.text, e.type_name, e.traceback) == ('m.T: text', 'text', 'm.T', 'tb')",
    )
    GROUP = (
        "ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [KeyError(2)])])",
        "type(e) is ExceptionGroup",
        "e.message == 'g'",
        "[type(one) for one in e.exceptions] == [ValueError, ExceptionGroup]",
        "e.exceptions[1].exceptions[0].args == (2,)",
        "not hasattr(e.exceptions[0], '__notes__')",
    )
    BASE_GROUP = (
        "BaseExceptionGroup('g', [ValueError(1), SystemExit(2)])",
        "type(e) is BaseExceptionGroup",
        "e.exceptions[1].code == 2",
    )
    OWN_GROUP = (
        "vary(users.Batch('j', [ValueError(1)]), extra=5)",
        "type(e) is users.Batch",
        "(e.message, e.job, e.extra) == ('job j', 'j', 5)",
        "type(e.exceptions[0]) is ValueError",
    )
    MIXED_GROUP = (
        "ExceptionGroup('g', [users.HoldsLock(), ValueError(1)])",
        "type(e) is ExceptionGroup",
        "[type(one) for one in e.exceptions] == [RemoteError, ValueError]",
    )
    LOST_GROUP = (
        "vary(users.Batch('j', [ValueError(1)]), lock=threading.Lock())",
        "type(e) is ExceptionGroup",
        "e.message == 'tests.serialize.users.Batch: job j'",
        "e.exceptions[0].args == (1,)",
    )
    CAUSE = (
        "chain()",
        "type(e) is KeyError",
        "type(e.__cause__) is users.Several",
        "e.__context__ is e.__cause__",
        "e.__suppress_context__ is True",
        "e.__cause__.count == 1",
        "type(e.__cause__.__context__) is ZeroDivisionError",
        "e.__cause__.__suppress_context__ is False",
    )
    FROM_NONE = (
        "from_none()",
        "e.__cause__ is None",
        "e.__suppress_context__",
        "type(e.__context__) is ValueError",
    )
    CYCLE = (
        "cycle()",
        "type(e) is ValueError",
        "type(e.__context__) is KeyError",
        "e.__context__.__context__ is None",
    )
    NOTES = (
        "noted(ValueError(1), 'first', 'second', '\\udcff')",
        "e.__notes__[:3] == ['first', 'second', '\\\\udcff']",
        "len(e.__notes__) == 4",
    )
    SURROGATE = "ValueError('\\udcff')", "e.args == ('\\udcff',)"


CHILD = """
    import sys, threading
    from tests.serialize import users
    from xoscar_sc import errors
    from xoscar_sc.errors import RemoteError
    from xoscar_sc.protocol import Failed, encode
    from xoscar_sc.serialize import record

    class OfMain(Exception):
        pass

    def local():
        class Local(LookupError):
            def __init__(self, code):
                super().__init__("local")
                self.code = code
            def twice(self):
                return self.code * 2
        raise Local(7)

    def vary(exc, **attributes):
        for name, value in attributes.items():
            setattr(exc, name, value)
        return exc

    def noted(exc, *notes):
        for note in notes:
            exc.add_note(note)
        return exc

    def chain():
        try:
            try:
                1 / 0
            except ZeroDivisionError:
                raise users.Several("deep", 1)
        except users.Several as exc:
            raise KeyError("top") from exc

    def from_none():
        try:
            raise ValueError
        except ValueError:
            raise KeyError from None

    def cycle():
        a, b = ValueError("a"), KeyError("b")
        a.__context__, b.__context__ = b, a
        return a

    for source in sys.stdin.read().split("\\0"):
        try:
            value = eval(source)
            raise value
        except BaseException as exc:
            body = encode(Failed(1, record(exc, where="in the child")))
        sys.stdout.buffer.write(len(body).to_bytes(4, "little") + body)
"""


@pytest.fixture(scope="module")
def of_child() -> dict[Case, bytes]:
    """The record of each case, as a child has sent it."""
    stream = child(CHILD, "\0".join(case.source for case in Case).encode())
    found = {}
    for case in Case:
        n = int.from_bytes(stream[:4], "little")
        found[case], stream = stream[4 : 4 + n], stream[4 + n :]
    return found


@pytest.mark.parametrize("case", Case, ids=lambda case: case.name.lower())
def test_an_exception_of_another_process_is_itself_here(case: Case, of_child: dict[Case, bytes]) -> None:
    message = decode(of_child[case])
    assert isinstance(message, Failed)
    e = rebuild(message.failure)
    names = {"e": e, "users": users, "errors": errors, "RemoteError": RemoteError}
    for claim in case.claims:
        assert eval(claim, names), f"{claim}: {e!r}, {vars(e)}"
    assert e.__traceback__ is None
    assert e.__notes__[-1].startswith("in the child\n")
    assert 'File "<string>", line ' in e.__notes__[-1]
    assert sum("in the child\n" in note for note in e.__notes__) == 1
    # What has come can be sent on.
    again = cross(e, "in the middle")
    assert type(again) is type(e)
    assert again.__notes__[:-1] == e.__notes__
    assert again.__notes__[-1].startswith("in the middle\n")


def test_notes_of_two_crossings_stand_in_order() -> None:
    exc = raised(lambda: 1 // 0)
    exc.add_note("own")
    first = cross(exc, "first hop")
    second = cross(raised(lambda: (_ for _ in ()).throw(first)), "second hop")
    assert [note.split("\n")[0] for note in second.__notes__] == ["own", "first hop", "second hop"]
    assert exc.__notes__ == ["own"]
