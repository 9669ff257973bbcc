"""Golden files: the words that models are prompted with, and the ids of rows.

A changed prompt makes other rows, and a changed id makes a workspace forget what it has done. So
neither changes by accident; where it is meant to change, this writes the golden files again, and
its difference is read before it is committed:

    .venv/bin/python -m tests.test_golden
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config.select import Select
from engine.imaging.ingest import not_used, pixels_id
from engine.lineage.opening import maintaining, writing
from engine.prompts import (
    answer_prompt,
    ask_prompt,
    debate_prompt,
    judge_prompt,
    retry_prompt,
    with_knowledge,
)
from engine.records import (
    ROW_TYPES,
    Assignment,
    Consumption,
    Dataset,
    Item,
    Membership,
    Run,
    Task,
    Tombstone,
    Triplet,
    Withdrawal,
    bytes_id,
    content_id,
)
from engine.workspace import Workspace
from generators.found import found_of
from generators.phantoms import bank
from generators.proposer import ProposerSettings, prompt_of, propose
from generators.verification.votes import counted, questions_of
from pipelines.commands.review import _review
from pipelines.commands.withdraw import withdraw
from pipelines.evaluation.examination import marked
from reward_model.experts.simulated import expert_row
from reward_model.patient_sets import set_of
from reward_model.preferences import derived, preference
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings
from reward_model.swaps import swapped_answers, swapped_questions, swapped_reasoning
from reward_model.threshold import decide
from reward_model.verdicts import Answer, verdict_of
from tests.drawn_workspace import context_of
from tests.generators.test_proposer import Scripted
from tests.lineage_workspace import make_image, make_judgement, make_model

AGAIN = "meant? then write it again: .venv/bin/python -m tests.test_golden"
FOLDER = Path(__file__).parent
PROMPTS, IDS = FOLDER / "golden_prompts.json", FOLDER / "golden_ids.json"
WORDS = ("compact", "full")
SIDE, OPTIONS = "On which side is the cyst?", ("left", "right")
OPEN = "Which finding is shown?"
TRUTH = {"modality": "ultrasound", "anatomy": "breast", "finding": "cyst"}
LESION = {"side": "left", "count": 1, "size": "small"}
EMPTY = "<answer> </answer>"


def prompts() -> dict[str, str]:
    """Every kind of prompt of every set, in full."""
    found = {}
    for words in WORDS:
        for form in bank.ANSWER_FORMATS:
            task = Task.make("MR", "grading", "hard", form, "direct")
            found[f"ask/{words}/{form}"] = ask_prompt(words, task.to_dict())
        for style in bank.PROMPT_STYLES:
            found[f"answer/{words}/{style}/options"] = answer_prompt(words, SIDE, OPTIONS, style)
            found[f"answer/{words}/{style}/open"] = answer_prompt(words, OPEN, (), style)
        told = "ultrasound breast: 1 small cyst left."
        found[f"judge/{words}/options"] = judge_prompt(words, SIDE, OPTIONS, "", "left")
        found[f"judge/{words}/open"] = judge_prompt(words, OPEN, (), "", "cyst")
        found[f"judge/{words}/reasoned"] = judge_prompt(words, SIDE, OPTIONS, told, "left")
    for modality in bank.MODALITIES:
        task = Task.make(modality, "disease", "medium", "choice", "debate")
        found[f"ask/full/{modality}"] = ask_prompt("full", task.to_dict())
    found["answer/full/debate/options"] = answer_prompt("full", SIDE, OPTIONS, "debate")
    for turn, before in {"first": (), "second": ("left.",), "verdict": ("left.", "right.")}.items():
        found[f"debate/full/{turn}"] = debate_prompt("full", turn, SIDE, OPTIONS, *before)
    found["retry/full"] = retry_prompt("full", SIDE, "It is left.", "no answer tag")
    found["knowledge/full"] = with_knowledge("full", SIDE, "Report: a cyst on the left.")
    return found


class Silent(Judge):
    """A judge without weights: every row is worth the same."""

    def __init__(self) -> None:
        self.id = "judge"
        criteria = {"factuality": 1.0}
        self.settings = JudgeSettings(criteria=criteria, prompts="compact", max_pixels=2**20)

    def scores(self, requests: Any, batch: int = 64) -> np.ndarray:
        return np.zeros((len(requests), 3))


def shown() -> Any:
    """An image whose bytes, and so whose id, are the same on every machine."""
    truth = json.dumps(TRUTH | LESION, sort_keys=True)
    return replace(make_image(0, "g0"), id="0123456789abcdef" * 2, truth=truth)


def written() -> list[Triplet]:
    """A generator's rows: two answers, one that does not parse, and a failed question."""
    tasks = [Task.make("MR", "disease", "easy", "choice", style) for style in ("step", "meta")]
    question = f"<question>{SIDE}</question><options>left | right</options>"
    vlm = Scripted([question, "no tag"], [["<answer>left</answer>", "<answer>B</answer>", EMPTY]])
    plan = ProposerSettings("generator", "compact", 3, 0.6, 0.8, 48, 1000, 1)
    return propose(vlm, {shown().id: b"png"}, [(shown().id, task) for task in tasks], plan)


def trained(folder: Path) -> dict[str, str]:
    """The ids of weights and of what they consumed."""
    weights = folder / "weights"
    weights.mkdir()
    (weights / "a.safetensors").write_bytes(b"some")
    (weights / "b.safetensors").write_bytes(b"weights")
    with writing(folder / "w", "made", {"name": "made"}) as workspace:
        stage = workspace.begin("sft", 1, "fingerprint")
        base = make_model("base", "base", None, 0, None)
        model = context_of(workspace).add_model(stage, "sft", weights, base, "{}", [written()[0]])
        workspace.commit(stage)
        (use,) = workspace.read(Consumption)
    return {"models": model.id, "consumption": use.id}


def ids() -> dict[str, str]:
    """The id of a row of each type that holds no time and no version; of fixed inputs."""
    image, rows = shown(), written()
    rng = np.random.default_rng(0)
    qa = bank.QA("side", SIDE, OPTIONS, "left")
    expert, _ = expert_row(image, qa, "step", 7, 2)
    task = Task.make("MR", "grading", "hard", "choice", "meta")
    first = rows[0]
    thought = replace(first, rationale="ultrasound breast: 1 small cyst left.")
    other = replace(first, id="other", image_id="another", question=OPEN, options=(), answer="none")
    choice = {r.id: make_judgement(r, make_model("judge", "judge", None, 0, 1)) for r in rows}
    policy = replace(make_model("p", "policy", None, 1, 1), id="policy")
    item = Item.make(first, None, "random", 1, 3, 2)
    answer = Answer(id="answer", kind="verdict", reader="r1", at="", verdict="accept")
    flagged = not_used(image, 3, "flagged", "black")
    [(answers, _)] = swapped_answers(
        [first, replace(other, question=first.question, options=OPTIONS, answer="right")],
        lambda row: 0,
        rng,
    )
    [(put, _)] = swapped_questions([first, other], lambda row: 0, lambda row: row.image_id, rng)
    [(reasons, _)] = swapped_reasoning(
        [thought, replace(thought, id="z", image_id="another", rationale="none.")],
        lambda row: 0,
        rng,
        lambda one, another: True,
    )
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 6)
    found = {
        "images/grey": pixels_id(pixels),
        "images/colour": pixels_id(np.stack([pixels] * 3, axis=-1)),
        "images/turned": pixels_id(pixels.T.copy()),
        "prompts/compact": prompt_of("compact", task).id,
        "prompts/full": prompt_of("full", task).id,
        "tasks": task.id,
        "assignments": Assignment.make(image.id, task.id, 2, 5).id,
        **{f"triplets/generated/{n}": row.id for n, row in enumerate(rows)},
        "triplets/expert": expert.id,
        "triplets/perturbed": derived(first, "perturbed", answer="right").id,
        "triplets/implied": derived(thought, "implied", rationale="").id,
        "triplets/incoherent": reasons.rejected.id,
        "triplets/irrelevant": put.rejected.id,
        "triplets/swapped": answers.rejected.id,
        "preferences": preference(first, other, "relevance", "irrelevant", "r1", True).id,
        "items/verdict": item.id,
        "items/preference": Item.make(first, other, "informative", 2, 0, 1).id,
        "verdicts": verdict_of(answer, item, first).id,
        "verifications": counted(questions_of(rows), 1)[0].id,
        "judgements": Silent().judge(rows[:1], {image.id: b"png"})[0].id,
        "found": found_of(rows, {})[0].id,
        "decisions": decide(rows, choice, Select(), 1)[0].id,
        "evaluations": marked(
            first, "disease", image, policy, "sft", 1, "<answer>left</answer>"
        ).id,
        "refusals": flagged.id,
        "reviews": _review(flagged, "released", "reader", "2026-01-01T00:00:00Z").id,
        "question_key/options": first.question_key,
        "question_key/open": other.question_key,
        "patient sets": "".join(set_of(str(n))[0] for n in range(64)),
        "content_id/nothing": content_id(),
        "content_id/kinds": content_id("a", 1, 1.5, None, True, ("b", ["c"]), {"z": 1, "a": 2}),
        "content_id/letters": content_id("Größe 5 µm ≥ 3 – 脳"),
        "content_id/broken letters": content_id("\ud800"),
        "bytes_id": bytes_id(b"bytes"),
    }
    with tempfile.TemporaryDirectory() as folder:
        return found | trained(Path(folder))


@cache
def found(path: Path) -> dict[str, str]:
    return prompts() if path == PROMPTS else ids()


def write() -> None:
    for path in (PROMPTS, IDS):
        path.write_text(json.dumps(found(path), indent=1, ensure_ascii=False) + "\n")


def golden(path: Path) -> dict[str, str]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.mark.parametrize("name", golden(PROMPTS))
def test_a_prompt_says_what_it_always_said(name: str) -> None:
    assert found(PROMPTS).get(name) == golden(PROMPTS)[name], AGAIN


@pytest.mark.parametrize("name", golden(IDS))
def test_a_row_has_the_id_it_always_had(name: str) -> None:
    assert found(IDS).get(name) == golden(IDS)[name], AGAIN


@pytest.mark.parametrize("path", [PROMPTS, IDS])
def test_everything_that_has_a_golden_value_is_in_its_file(path: Path) -> None:
    assert found(path).keys() == golden(path).keys(), AGAIN


def test_golden_prompts_hold_every_set_and_style() -> None:
    sets = {p.stem for p in (FOLDER.parent / "engine" / "prompts").glob("*.yaml")}
    assert sets == set(WORDS)
    of_each, of_full = 3 + 2 * 3 + 3, len(bank.MODALITIES) + 1 + 3 + 2
    assert len(set(prompts().values())) == len(prompts()) == len(WORDS) * of_each + of_full


TIMED = {Run, Dataset, Membership, Withdrawal, Tombstone}  # of times, versions or whole files


def test_every_row_type_has_a_golden_id_or_one_that_is_made_again_here() -> None:
    made = {name.partition("/")[0] for name in golden(IDS)}
    assert {t.table for t in ROW_TYPES} - made == {t.table for t in TIMED}


def test_an_id_that_holds_a_time_or_a_version_is_the_hash_of_its_rows_fields(
    copy: Workspace,
) -> None:
    for run in copy.read(Run):
        fields = {k: v for k, v in run.to_dict().items() if k != "id"}
        assert run.id == content_id("run", fields)
    (dataset,) = copy.read(Dataset)
    assert dataset.id == content_id("dataset", dataset.name, json.loads(dataset.files))
    members = copy.read(Membership)
    assert members
    for member in members:
        assert member.id == content_id("member", dataset.id, member.triplet_id)
    chosen = members[0].triplet_id
    image = next(t.image_id for t in copy.read(Triplet) if t.id == chosen)
    with maintaining(copy.root) as workspace:
        withdraw(workspace, image)
    (withdrawal,) = copy.read(Withdrawal)
    assert withdrawal.id == content_id("withdrawal", image, (image,), withdrawal.at)
    stones = copy.read(Tombstone)
    assert {s.row_table for s in stones} >= {"images", "triplets"}
    for stone in stones:
        assert stone.id == content_id("tombstone", withdrawal.id, stone.row_table, stone.row_id)


if __name__ == "__main__":
    write()
