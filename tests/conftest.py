"""Shared by the tests that run the real command on a small run."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engine.hub.export import export
from engine.imaging import ocr
from engine.lineage.opening import writing
from engine.workspace import Workspace
from tests import workers

# A busy machine is no defect, and every machine tries the same cases;
# `--hypothesis-profile=default` looks for new ones.
settings.register_profile("triptych", deadline=None, derandomize=True)
settings.load_profile("triptych")

ROOT = Path(__file__).parents[1]
TRIPTYCH = Path(sys.executable).with_name("triptych")
# A round of everything on few rows: about a minute on two cores.
SMALL = [
    "rounds=1",
    "source.phantoms={MR: 24, ultrasound: 24}",
    "source.size=96",
    "expert.images=10",
    "expert.rows_per_image=3",
    "expert.preference_images=12",
    "expert.pairs=24",
    "generator.tasks=30",
    "generator.samples=4",
    "generator.temperature=1.6",  # so that samples differ, and refinement has pairs
    "generator.batch=12",
    "sft.epochs=1",
    "grpo.steps=2",
    "grpo.share=0.5",
    "grpo.batch=16",
    "grpo.tolerance=1",
    "evaluate.questions=24",
    "reward.epochs=1",
    "reward.refine_pairs=12",
    "reward.expert_pairs=8",
    "cluster.threads=1",
]
# And of the demo: verdicts in every stream, and a promise that a few of them can make; votes, so
# that every stage is in the loop.
ASKED = [
    "verify.pass_rate=true",
    "expert.verdicts={first: 10, random: 14, informative: 8, test: 6}",
    "select.guarantee={precision: 0.2, confidence: 0.5}",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the loop is marked before pytest chooses by marks; the longest come first."""
    workers.mark(items)
    if workers.is_worker():
        items.sort(key=workers.place)


@pytest.fixture(scope="session", autouse=True)
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pytest's own, made before a run has a temporary folder that goes with it."""
    return tmp_path_factory.getbasetemp()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    workers.look_past_imports()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def small(*more: str) -> list[str]:
    """`--set` arguments of the small run of the demo."""
    return sets(*SMALL, *ASKED, *more)


def sets(*values: str) -> list[str]:
    """`--set` arguments."""
    return [word for value in values for word in ("--set", value)]


def triptych(
    *arguments: object, env: dict[str, str] | None = None, timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would; stdout and stderr come back as text."""
    return subprocess.run(
        [str(TRIPTYCH), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


READS, PATHS = ocr.installed, os.environ.get("PYTHONPATH", "")


@pytest.fixture(scope="session", autouse=True)
def _our_own_detector_alone() -> Iterator[None]:
    """RapidOCR takes a second an image, so that only tests with `rapidocr` look with it too.

    Processes that a test starts do not find it (`tests/without_ocr/sitecustomize.py`).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocr, "installed", lambda: False)
        patch.setenv("PYTHONPATH", str(ROOT / "tests" / "without_ocr"), prepend=os.pathsep)
        yield


@pytest.fixture
def rapidocr(monkeypatch: pytest.MonkeyPatch) -> None:
    """RapidOCR looks too, as wherever it is installed."""
    pytest.importorskip("rapidocr")
    monkeypatch.setattr(ocr, "installed", READS)
    monkeypatch.setenv("PYTHONPATH", PATHS)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with every kind of row, made by code and exported; to be read only."""
    from tests.lineage_workspace import made

    return made(tmp_path_factory.mktemp("made") / "w", export=True)


@pytest.fixture
def copy(original: Workspace, tmp_path: Path) -> Workspace:
    """A copy of `original` to write to."""
    shutil.copytree(original.root, tmp_path / "w")
    return Workspace.existing(tmp_path / "w")


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of two rounds whose rows are made by code; to be read only."""
    from tests.round_workspace import fill

    root = tmp_path_factory.mktemp("full") / "w"
    with writing(root, "demo", {"licence": "cc-by-4.0", "name": "demo"}) as workspace:
        fill(workspace)
    return Workspace.existing(root)


@pytest.fixture(scope="session")
def exported(full: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `full`; to be read only."""
    out = tmp_path_factory.mktemp("export") / "dataset"
    export(full, out, "demo")
    return out
