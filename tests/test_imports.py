"""Who imports whom, what is imported late, and that everything public says what it does."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parents[1]
ROOMS = {
    "engine": {"engine"},
    "generators": {"engine", "generators"},
    "reward_model": {"engine", "generators", "reward_model"},
    "pipelines": {"engine", "generators", "reward_model", "pipelines"},
}
OURS = {*ROOMS, "tests", "benchmarks", "tools"}
NAMED_IN = {
    "ray": {
        f"engine/cluster/{name}.py" for name in ("connection", "actors", "training", "submission")
    },
    "trl": {"pipelines/training/sft.py", "pipelines/training/grpo.py"},
    "vllm": {"engine/vlm/vllm.py"},
}
HEAVY = ("torch", "ray", "transformers", "datasets", "trl", "vllm")
FILES = sorted(f for room in ROOMS for f in (ROOT / room).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imported(path: Path) -> frozenset[str]:
    """Top-level names of every import of a file, those inside functions too."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield str(node.module).partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "import_module",
            "__import__",
        ):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value).partition(".")[0]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way_only(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert {name for name in imported(path) if name in OURS} <= ROOMS[room]


@pytest.mark.parametrize("library", NAMED_IN)
def test_a_framework_is_named_in_its_place_only(library: str) -> None:
    assert {name_of(f) for f in FILES if library in imported(f)} == NAMED_IN[library]


def modules_of(path: Path, known: set[str]) -> set[str]:
    """Our modules that a file imports anywhere, inside functions and for typing too."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def test_what_judges_knows_of_generators_the_phantoms_alone() -> None:
    judging = [f for f in FILES if f.relative_to(ROOT).parts[0] == "reward_model"]
    known = {
        str(n.module)
        for f in judging
        for n in ast.walk(tree_of(f))
        if isinstance(n, ast.ImportFrom)
    }
    drawing = {m for m in known if m.partition(".")[0] == "generators"}
    assert drawing
    assert all(m.startswith("generators.phantoms") for m in drawing)


def test_no_module_imports_itself_by_way_of_others() -> None:
    names = {
        path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
    }
    known = set(names.values())
    graph = {name: modules_of(path, known) - {name} for path, name in names.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_no_stage_imports_another_stage() -> None:
    """What two stages do stands in a room or in a module that is no stage's: each reads rows."""
    from pipelines.loop import ONCE, ROUND

    stages = {f"pipelines.{name}" for name in (*ONCE, *ROUND)}
    for stage in sorted(stages):
        path = ROOT.joinpath(*stage.split(".")).with_suffix(".py")
        assert path.is_file()
        assert modules_of(path, stages) == set(), stage


def test_no_training_sees_what_its_stage_runs_in() -> None:
    files = sorted((ROOT / "pipelines" / "training").rglob("*.py"))
    assert files
    known = {"pipelines.context", "pipelines.training_jobs"}
    assert [name_of(path) for path in files if modules_of(path, known)] == []


def undocumented() -> Iterator[str]:
    for path in FILES:
        for node in tree_of(path).body:
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            if isinstance(node, kinds) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    yield f"{name_of(path)}:{node.lineno} {node.name}"


def test_every_public_function_and_class_has_a_docstring() -> None:
    assert list(undocumented()) == []


def test_every_module_says_what_it_is_for() -> None:
    assert [
        name_of(f) for f in FILES if f.stat().st_size and not ast.get_docstring(tree_of(f))
    ] == []


@cache
def commands() -> dict[str, typer.main.TyperCommand]:
    """Every command of the CLI by its words."""
    from pipelines.cli import app

    found, waiting = {}, {"triptych": typer.main.get_command(app)}
    while waiting:
        words, command = waiting.popitem()
        found[words] = command
        waiting |= {f"{words} {k}": c for k, c in getattr(command, "commands", {}).items()}
    return found


@pytest.mark.parametrize("words", commands())
def test_a_command_and_its_parameters_have_help(words: str) -> None:
    command = commands()[words]
    assert command.help
    # An argument's help is kept by typer beside click's own, which has none.
    assert [p.name for p in command.params if not getattr(p, "help", None)] == []


def after(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
    )


HELP = f"""
import sys
from pipelines.cli import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write(" ".join(m for m in {HEAVY} if m in sys.modules))
"""


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["lineage", "trace", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    result = after(HELP, *words)
    assert "Usage" in result.stdout
    assert result.stderr == ""


def test_help_answers_at_once() -> None:
    """Within 0.5 s of processor time: a busy machine does not count against it."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = []
    for _ in range(3):
        before = used()
        subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "--help"],
            capture_output=True,
            check=True,
            cwd=ROOT,
        )
        seconds.append(used() - before)
    assert min(seconds) < (1.5 if os.environ.get("CI") else 0.5)


# Where the kinds are known: their sections, and the room that opens what they name.
KINDS = {
    "engine.config.expert": ("engine/config/", "reward_model/experts/"),
    "engine.config.backend": ("engine/config/", "engine/vlm/"),
}
WITH_KINDS = {"expert", "backend"}


def called(node: ast.AST) -> str:
    """The last name of `a.b.c`, or of a subscript by a text."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return getattr(node, "attr", getattr(node, "id", ""))


def asks_for_a_kind(node: ast.AST) -> bool:
    """Whether an expression is an expert or a backend of the configuration, or the kind of one."""
    if called(node) == "kind" and isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return called(node) in WITH_KINDS


def branches(tree: ast.Module) -> Iterator[int]:
    """Lines that compare or match an expert or a backend, or ask of which class it is."""
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
            if any(isinstance(n, ast.Constant) and n.value is None for n in asked):
                continue
        elif isinstance(node, ast.Match):
            asked = [node.subject]
        elif isinstance(node, ast.Call) and called(node.func) in ("isinstance", "type"):
            asked = node.args[:1]
        if any(map(asks_for_a_kind, asked)):
            yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_outside_its_room_asks_for_a_kind(path: Path) -> None:
    name, tree = name_of(path), tree_of(path)
    if not name.startswith(KINDS["engine.config.expert"] + KINDS["engine.config.backend"]):
        assert list(branches(tree)) == []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in KINDS:
            unions = {"Expert", "Backend", "Verdicts"}
            inside = name.startswith(KINDS[node.module])
            assert inside or {alias.name for alias in node.names} <= unions


@pytest.mark.parametrize(
    "code",
    [
        'config.expert.kind == "none"',
        '"none" != section.expert.kind',
        'backend.kind in ("vllm",)',
        'section["backend"] == "vllm"',
        'section["backend"]["kind"] == "vllm"',
        "isinstance(config.expert, Asked)",
        "match generator.backend:\n    case _: pass",
    ],
)
def test_such_a_branch_is_found(code: str) -> None:
    assert list(branches(ast.parse(code))) == [1]
    assert not list(branches(ast.parse("f.kind == 'broken'; dtype.kind in 'iu'; expert is None")))
