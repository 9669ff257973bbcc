"""What an installed Triptych has beside its modules."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from engine.lineage import runs

ROOT = Path(__file__).parents[1]
ROOMS = ("engine", "generators", "reward_model", "pipelines")
PACKAGED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
    "package-data"
]["*"]


def test_every_file_beside_the_modules_is_packaged() -> None:
    files = [f for room in ROOMS for f in (ROOT / room).rglob("*") if f.is_file()]
    beside = [f for f in files if f.suffix != ".py" and "__pycache__" not in f.parts]
    assert beside
    assert [f.name for f in beside if not any(fnmatch(f.name, p) for p in PACKAGED)] == []


def test_what_readers_are_shown_counts_as_code() -> None:
    shown = [f for f in (ROOT / "reward_model" / "reading_room").rglob("*.*") if f.is_file()]
    left_out = {f.suffix for f in shown if not runs._is_source(f)}
    assert {".js", ".css", ".jinja"} <= {f.suffix for f in shown}
    assert left_out <= {".svg", ".pyc"}


def test_the_packages_say_that_they_are_typed() -> None:
    assert all((ROOT / room / "py.typed").is_file() for room in ROOMS)
    assert "py.typed" in PACKAGED


NOT_INSTALLED = """
from importlib import metadata
from_name = metadata.Distribution.from_name

def of_others(name):
    if name == "triptych":
        raise metadata.PackageNotFoundError(name)
    return from_name(name)

metadata.Distribution.from_name = of_others
import engine
import engine.hub.croissant, engine.lineage.openlineage, engine.lineage.prov, pipelines.context
from engine.lineage.runs import this_run
run = this_run({})
assert run.version == engine.VERSION
assert '"torch"' in run.packages and '"pytest"' in run.packages, run.packages
"""


def test_a_checkout_that_is_not_installed_knows_its_version_and_its_packages() -> None:
    said = subprocess.run([sys.executable, "-c", NOT_INSTALLED], cwd=ROOT, stderr=subprocess.PIPE)
    assert said.returncode == 0, said.stderr.decode()
