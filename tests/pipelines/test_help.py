"""`triptych --help` as somebody new reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict

from typer.testing import CliRunner

from engine import VERSION
from engine.lineage.runs import code_id
from pipelines import loop
from pipelines.cli import app
from tests.test_imports import ROOT, after, commands

PANELS = {"Run", "Data", "Experts", "Models", "Record"}


def test_every_command_stands_in_a_panel_and_no_panel_is_empty() -> None:
    panels = defaultdict(list)
    for words, command in commands().items():
        if words.count(" ") == 1:
            panels[command.rich_help_panel].append(words)
    assert panels.keys() == PANELS
    assert "triptych run" in panels["Run"]
    assert "triptych lineage" in panels["Record"]


def test_the_help_names_the_stages_in_the_order_in_which_they_run() -> None:
    said = str(app.info.epilog).replace(",", " ").replace(";", " ").replace(".", " ").split()
    stages = [*loop.ONCE, *loop.ROUND]
    assert [word for word in said if word in stages] == stages


def test_every_stage_is_a_command() -> None:
    assert {f"triptych {stage}" for stage in (*loop.ONCE, *loop.ROUND)} <= commands().keys()


def test_a_shell_completes_commands() -> None:
    """As bash asks for the completion of `triptych se`."""
    asked = {"_TRIPTYCH_COMPLETE": "complete_bash", "COMP_WORDS": "triptych se", "COMP_CWORD": "1"}
    told = subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import app; app(prog_name='triptych')"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | asked,
    )
    assert set(told.stdout.split()) == {"seed", "select"}


def test_a_mistake_in_the_configuration_is_told_before_anything_heavy_is_loaded() -> None:
    code = (
        "import sys; from pipelines.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('pipelines.loop' in sys.modules)"
    )
    for words in (["run"], ["ingest"], ["submit", "--address", "http://head:8265"]):
        told = after(code, *words, "no.yaml")
        assert "no configuration file no.yaml" in told.stderr
        assert told.stdout.strip() == "False"


def test_the_loop_is_there_without_what_a_worker_computes_with() -> None:
    """Two seconds of each command; and where there is a Ray, its driver needs none of it."""
    heavy = ("torch", "transformers", "scipy.stats", "ray")
    told = after(f"import sys, pipelines.loop; print([m for m in {heavy} if m in sys.modules])")
    assert told.stdout.strip() == "[]", told.stderr


def test_the_version_is_that_of_the_record() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert told.output == f"triptych {VERSION}, code {code_id()[:12]}\n"
