"""Every program in the documentation runs, and every test that the documentation names exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STARTS = ("trio.run(", "anyio.run(", "asyncio.run(", "blocking.open_pool_nursery(")
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def programs() -> list[object]:
    """Each complete program, with the page and the line where it begins."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in PROGRAM.finditer(text):
            if any(start in match[1] for start in STARTS):
                line = text.count("\n", 0, match.start(1)) + 1
                found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def named_tests() -> list[object]:
    """Each test that a page names, as its file and its function."""
    names = [match.groups() for page in PAGES for match in NAMED_TEST.finditer(page.read_text())]
    return [pytest.param(*name, id=name[1]) for name in names]


@pytest.mark.parametrize("source", programs())
def test_a_program_of_the_documentation_runs(source: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(("file", "function"), named_tests())
def test_a_test_that_the_documentation_names_exists(file: str, function: str) -> None:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    assert (ROOT / file).exists(), f"no file {file}"
    tree = ast.parse((ROOT / file).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_each_of_the_first_fifteen_promises_is_held_by_a_test_of_its_name() -> None:
    rows = re.findall(r"^\| (\d+) \| \*\*.*$", (ROOT / "docs/semantics.md").read_text(), re.MULTILINE)
    lines = re.findall(r"^\| \d+ \| \*\*.*$", (ROOT / "docs/semantics.md").read_text(), re.MULTILINE)
    assert {int(number) for number in rows} >= set(range(1, 16))
    for line in lines:
        assert NAMED_TEST.search(line), line
