"""What an installed Triptych has beside its modules."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

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


def test_the_packages_say_that_they_are_typed() -> None:
    assert all((ROOT / room / "py.typed").is_file() for room in ROOMS)
    assert "py.typed" in PACKAGED
