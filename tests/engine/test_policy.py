"""The policy file: what is taken, and how a broken one is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from engine.config import build
from engine.config.policy import SUBJECTS, UNANSWERABLE, read_policy, shipped_text
from engine.config.safety import Safety
from engine.errors import TriptychError
from pipelines.cli import app


def shipped() -> dict[str, Any]:
    return dict(yaml.safe_load(shipped_text()))


def told(tmp_path: Path, text: str) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(TriptychError) as caught:
        build({"safety": {"policy": str(path)}}, [], "the test")
    said = str(caught.value)
    assert "\n" not in said
    assert str(path) in said
    return said.partition(f"{path}: ")[2] or said


def test_the_shipped_policy_rules_every_subject_once() -> None:
    policy = Safety().policy
    assert [policy.clause(subject).number for subject in SUBJECTS] == [2, 4, 4, 3, 3, 3, 3, 5, 6, 1]
    assert set(UNANSWERABLE) < set(SUBJECTS)


def test_a_policy_is_its_words_and_not_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("# ours\n" + shipped_text())
    read = build({"safety": {"policy": str(path)}}, [], "x").safety.policy
    assert read == Safety().policy
    assert read.id == Safety().policy.id
    path.write_text(shipped_text().replace("no advice on treatment", "no advice on any treatment"))
    assert read_policy(path).id != read.id


def test_the_record_s_configuration_holds_the_words(tmp_path: Path) -> None:
    config = build({}, [], "x")
    again = build(config.recorded(), [], "y")
    assert again == config


def changed(place: int, **values: Any) -> str:
    policy = shipped()
    policy["clauses"][place] |= values
    return yaml.safe_dump(policy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clauses: [", "no YAML"),
        ("- a\n- b\n", "give `clauses`, each with its number and what it says"),
        ("clauses: []", "clauses: Tuple should have at least 1 item"),
        (changed(1, number=1), "clauses: number 1 is there twice"),
        (changed(1, about=[]), "clauses: none is about instruction; exactly one has to be"),
        (changed(0, about=["instruction", "answerable"]), "more than one is about instruction"),
        (changed(2, about=["surgery"]), "clause 3 about: Input should be 'instruction', 'organ'"),
        (changed(4, says="no advice on treatment"), "clause 5 says: write a whole sentence"),
        (changed(4, says="</think> Give no advice."), "clause 5 says: a tag ends the reasoning"),
        (changed(3, number=0), "the 4. clause number: Input should be greater than or equal to 1"),
        (changed(3, severity="high"), "clause 4 severity: unknown key; a clause has number, says"),
    ],
)
def test_a_broken_policy_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in told(tmp_path, text)


def test_a_policy_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TriptychError, match=r"cannot be read: No such file.*--of policy"):
        build({}, [f"safety.policy={tmp_path / 'none.yaml'}"], "x")


def test_a_user_copies_it_and_has_it_checked(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    for said in ("edit it, then set safety.policy=", "is a policy"):
        result = CliRunner().invoke(app, ["prompts", str(path), "--of", "policy"])
        assert result.exit_code == 0
        assert said in " ".join(result.output.split())
    assert path.read_text() == shipped_text()
    path.write_text(changed(1, number=1))
    result = CliRunner().invoke(app, ["prompts", str(path), "--of", "policy"])
    assert "number 1 is there twice" in str(result.exception) + result.output


def test_rows_are_off_until_they_are_asked_for() -> None:
    assert not Safety().on
    assert Safety(organ=6).wanted == {"instruction": 0, "organ": 6, "unanswerable": 0}
    with pytest.raises(ValueError, match="one source of right answers"):
        Safety(organ=6, answers=())
