"""What the documents name is there: files, modules, commands."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from tests.test_imports import ROOMS, ROOT, commands

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OURS = (*ROOMS, "tests", "benchmarks", "configs", "examples", "docs", "tools", "deploy")
CODE = [*(f for room in ROOMS for f in (ROOT / room).rglob("*.py"))]
PATH = re.compile(rf"(?<![\w/.-])((?:{'|'.join(OURS)})/[\w./-]*\w/?)(?::([\w.]+\w))?")
MODULE = re.compile(rf"(?<![\w/.])((?:{'|'.join(ROOMS)})(?:\.\w+)+)")


def said_in(page: Path) -> str:
    """A page's text, without what it says is no more."""
    lines = page.read_text(encoding="utf-8").splitlines()
    if page.name == "moves.md":
        lines = [line.split("|", 2)[-1] if line.startswith("| `") else line for line in lines]
    return "\n".join(lines)


@cache
def names_in(path: Path) -> set[str]:
    """What a module defines at its top, methods and fields of its classes too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def is_there(dotted: str) -> bool:
    """Whether a module, or something that a module defines, has this name."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:end])
        files = [f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()]
        if files:
            return set(parts[end:]) <= names_in(files[0])
    return False


def spoken(path: Path) -> str:
    """Comments and docstrings of a module."""
    text = path.read_text(encoding="utf-8")
    nodes = (ast.Module, ast.FunctionDef, ast.ClassDef)
    told = [ast.get_docstring(n) or "" for n in ast.walk(ast.parse(text)) if isinstance(n, nodes)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join([*told, *(t.string for t in tokens if t.type == tokenize.COMMENT)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_functions_that_a_page_names_are_there(page: Path) -> None:
    for name, function in PATH.findall(said_in(page)):
        path = ROOT / name
        if "NAME" in name:
            continue
        assert path.exists() or path.with_suffix(".py").is_file(), name
        if function:
            assert set(function.split(".")) <= names_in(path), f"{name}:{function}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    assert [m for m in MODULE.findall(said_in(page)) if not is_there(m)] == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_that_the_code_speaks_of_are_there(path: Path) -> None:
    """In comments and docstrings: an import of what is not there fails by itself."""
    text = spoken(path)
    assert [m for m in MODULE.findall(text) if not is_there(m)] == []
    assert [name for name, _ in PATH.findall(text) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_names_are_there(page: Path) -> None:
    known = commands().keys()
    for words in re.findall(r"`(triptych(?: lineage)?(?: [a-z][a-z-]+)?)", page.read_text()):
        assert words in known, words


def test_what_moved_is_where_the_table_says() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "moves.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    was = re.compile(r", which was `\w+`")
    split = [
        (re.findall(r"`(\w+)`", was.sub("", row[1])), row[2].strip("`"))
        for row in rows
        if len(row) == 3
    ]
    assert len(split) > 30
    for symbols, module in split:
        assert [s for s in symbols if not is_there(f"{module}.{s}")] == []
