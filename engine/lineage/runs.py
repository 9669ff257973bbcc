"""What ran: code, packages and configuration of one invocation, and nothing of the machine."""

from __future__ import annotations

import hashlib
import platform
import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from engine import VERSION
from engine.records import Run, canonical, content_id

ROOT = Path(__file__).parents[2]
ROOMS = ("engine", "generators", "reward_model", "pipelines")


@cache
def code_id() -> str:
    """32 hex digits over Triptych's own Python sources, prompts, templates and the reading room's
    script: what readers answer depends on how it is shown to them."""
    digest = hashlib.sha256()
    files = [p for room in ROOMS for p in (ROOT / room).rglob("*") if _is_source(p)]
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def _is_source(path: Path) -> bool:
    return path.suffix in (".py", ".yaml", ".jinja", ".js", ".css") and path.is_file()


def packages() -> dict[str, str]:
    """Installed versions of what Triptych declares as dependencies."""
    names = sorted({re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in declared()})
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def declared() -> list[str]:
    """Requirements, those of extras too; of a checkout that is not installed, its project's."""
    try:
        return requires("triptych") or []
    except PackageNotFoundError:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return sum(project["optional-dependencies"].values(), project["dependencies"])


def this_run(config: dict[str, Any]) -> Run:
    """The row of this invocation, started now."""
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    parts = {
        "started": started,
        "config": canonical(config),
        "version": VERSION,
        "code": code_id(),
        "python": platform.python_version(),
        "packages": canonical(packages()),
    }
    return Run(id=content_id("run", parts), **parts)
