"""The rules of the house that a reader of the source can check.

Floors are held by ``lint-imports``; here are doors, sizes and state. A folder's door is its ``__init__.py``: whoever
is outside imports what the door exports, and nothing from behind it. Imports inside functions and under
``TYPE_CHECKING`` count, and so does a string that names a module, for it may be loaded by it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "xoscar_sc"
FILE_LINES = 420
FUNCTION_LINES = 70
MUTABLE = {
    "Counter", "OrderedDict", "WeakKeyDictionary", "WeakSet", "WeakValueDictionary", "count", "defaultdict", "deque",
    "dict", "list", "set",
}  # fmt: skip


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(
    tree: ast.Module, name: str, path: Path, known: dict[str, Path]
) -> Iterator[tuple[int, str, str]]:
    """Each import as (line, module, name imported from it or nothing)."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from ((node.lineno, source, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and node.value in known and "." in str(node.value):
            yield node.lineno, str(node.value), ""


def exports(tree: ast.Module) -> set[str]:
    """The names in a module's ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def behind_doors(package: Path) -> list[str]:
    """Imports that go past a room's door, or come in through the front door."""
    root, known, found = package.name, modules(package), []
    trees = {name: ast.parse(path.read_text()) for name, path in known.items()}
    for name, path in known.items():
        room = name.split(".")[1:2]
        for line, source, attribute in imported(trees[name], name, path, known):
            parts = source.split(".")
            where = f"{path.relative_to(package.parent)}:{line}"
            if parts[0] != root:
                continue
            if len(parts) == 1:
                if f"{root}.{attribute}" not in known and name != root:
                    found.append(
                        f"{where}: {root} itself is for users; import {attribute or 'it'} from its room"
                    )
            elif parts[1:2] != room:
                inner = f"{source}.{attribute}" in known and attribute not in exports(
                    trees.get(source, ast.parse(""))
                )
                if len(parts) > 2 or inner:
                    found.append(
                        f"{where}: {source} {attribute}".rstrip() + f" is behind the door of {parts[1]}"
                    )
    return found


def too_long(package: Path) -> list[str]:
    """Files and functions that have probably two owners; a function's docstring does not count."""
    found = []
    for path in modules(package).values():
        text = path.read_text()
        if (lines := len(text.splitlines())) > FILE_LINES:
            found.append(f"{path.relative_to(package.parent)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                if lines > FUNCTION_LINES:
                    found.append(
                        f"{path.relative_to(package.parent)}:{node.lineno}: {node.name} has {lines} lines"
                    )
    return found


def is_mutable(value: ast.expr | None) -> bool:
    """Whether an expression makes a container that can change."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in MUTABLE
    return isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)


def is_empty(value: ast.expr | None) -> bool:
    """Whether an expression makes a container with nothing in it: it is there to be filled."""
    if isinstance(value, ast.Call):
        return not value.args and not value.keywords
    return (
        not getattr(value, "keys", None)
        and not getattr(value, "elts", None)
        and not hasattr(value, "generators")
    )


def shared_state(package: Path) -> list[str]:
    """Module-level containers that are filled at run time, and functions that rebind a module's names."""
    found = []
    for path in modules(package).values():
        tree = ast.parse(path.read_text())
        where = path.relative_to(package.parent)
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                found.append(f"{where}:{node.lineno}: global {', '.join(node.names)}")
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                names = [ast.unparse(target) for target in statement.targets]
            elif isinstance(statement, ast.AnnAssign):
                names = [ast.unparse(statement.target)]
            else:
                continue
            constant = all(name.isupper() or name.startswith("__") for name in names)
            if is_mutable(statement.value) and (is_empty(statement.value) or not constant):
                found.append(f"{where}:{statement.lineno}: {', '.join(names)} is state of the module")
    return found


def test_a_room_is_entered_through_its_door() -> None:
    assert behind_doors(PACKAGE) == []


def test_files_and_functions_have_one_owner_each() -> None:
    assert too_long(PACKAGE) == []


def test_no_module_has_state() -> None:
    assert shared_state(PACKAGE) == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    package = tmp_path / "house"
    for room in ("attic", "cellar"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text(
            "from house.cellar.wine import Wine\n__all__ = ['Wine', 'open']\n"
        )
    (package / "__init__.py").write_text("from house.cellar import Wine\n")
    (package / "cellar" / "wine.py").write_text("class Wine: ...\n")
    (package / "cellar" / "open.py").write_text(
        "from house.cellar.wine import Wine\nfrom .wine import Wine\n"
    )
    (package / "attic" / "__init__.py").write_text("")
    return package


@pytest.mark.parametrize(
    "source",
    [
        "from house.cellar.wine import Wine",
        "from house.cellar import wine",
        "import house.cellar.wine",
        "from ..cellar.wine import Wine",
        "def later():\n    from house.cellar.wine import Wine",
        "if TYPE_CHECKING:\n    from house.cellar.wine import Wine",
        "LAZY = 'house.cellar.wine'",
        "import house",
        "from house import Wine",
        "from .. import Wine",
    ],
)
def test_an_import_past_the_door_is_found(house: Path, source: str) -> None:
    (house / "attic" / "box.py").write_text(source)
    assert len(behind_doors(house)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from house.cellar import Wine",
        "from ..cellar import Wine",
        "from house.cellar import open",
        "from house import cellar",
        "import house.cellar",
        "from house.attic.trunk import key",
        "from .trunk import key",
        "import os.path",
        '"""A text about house.cellar.wine."""',
    ],
)
def test_an_import_through_the_door_is_not(house: Path, source: str) -> None:
    (house / "attic" / "box.py").write_text(source)
    assert behind_doors(house) == []


def test_a_long_function_is_found_and_a_long_docstring_is_not(house: Path) -> None:
    (house / "long.py").write_text("def f():\n" + "    x = 1\n" * FUNCTION_LINES)
    (house / "text.py").write_text('def f():\n    """\n' + "    text\n" * FUNCTION_LINES + '    """\n')
    (house / "file.py").write_text("x = 1\n" * (FILE_LINES + 1))
    assert too_long(house) == ["house/file.py: 421 lines", "house/long.py:1: f has 71 lines"]


@pytest.mark.parametrize(
    "source",
    [
        "cache = {'a': 1}",
        "CACHE: dict[str, int] = {}",
        "IDS = itertools.count()",
        "def f():\n    global x\n    x = 1",
    ],
)
def test_state_of_a_module_is_found(house: Path, source: str) -> None:
    (house / "state.py").write_text(source)
    assert len(shared_state(house)) == 1


@pytest.mark.parametrize(
    "source", ["TABLE = {'a': 1}", "__all__ = ['a']", "LIMIT = 3", "current = ContextVar('current')"]
)
def test_a_constant_is_not_state(house: Path, source: str) -> None:
    (house / "state.py").write_text(source)
    assert shared_state(house) == []
