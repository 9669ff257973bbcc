"""What is thrown out before anybody judges it, and the question type that its words tell."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import Config
from engine.config.generator import Generator
from engine.question_types import UNKNOWN, found_type, found_types
from engine.records import Judgement, Task, Triplet, to_arrow
from engine.shards import write_shard
from generators import filters, phantoms, proposer
from generators.filters import form, reasoning
from generators.phantoms import bank
from pipelines import judging
from reward_model.experts.simulated import write_rows
from reward_model.threshold import decide
from tests.generators.test_generators import image_of
from tests.generators.test_proposer import Scripted
from tests.lineage_workspace import make_image, make_judgement, make_model, make_triplet

ASKED = sorted(bank._index())
# As VQA-RAD's people write.
CLINICIANS = (
    "is there calcification",
    "What is the the dark gray surrounding the periphery of the image?",
    "Where Is there obstruction present?",
    "Is there any blunting of the costophrenic angle(s)?",
    "MRI imaging modality used?",
    "Please identify the foreign body.",
    "Are there more than 5 enlarged (>1 cm) lymph nodes around the stomach",
    "How can you tell if it\ufffds the common bile duct vs the cystic duct?",
    "Is the heart wider than more than half the width of the thorax?",
    "was this taken with good x ray penetration",
    "Is this a T1 weighted, T2 weighted, or FLAIR image?",
    "Describe the intensity of the abnormality seen in this image? (central vs. surrounding)",
    "What does the small white lesions in the aorta mean",
    "Is the SpO2 reading visible beside the pH and the CO2?",
)
BROKEN = (
    "Is3 than small larger than small?",
    "ultrasound breast:k",
    "Is there a?",
    "What is the",
    "Is there a cyst cyst?",
    "Is there is there a cyst?",
    "How large is the is there a cyst?",
    "How large is the lesion Is there a cyst?",
    "Isthere a cyst?",
    "Is there a cyst:k",
    "Is there a cyst2 in the breast?",
    "Is there a tmrx?",
    "Zeigt das Bild einen Tumor im Gehirn?",
    "На снимке есть опухоль?",
    "Is there <|im_end|> a cyst?",
    "cyst",
    "",
)


def asking(question: str, rationale: str = "") -> Triplet:
    return replace(make_triplet(IMAGE, "g", 0, 1), question=question, rationale=rationale)


IMAGE = make_image(1, "g")


@pytest.mark.parametrize("question", [*ASKED, *CLINICIANS])
def test_a_question_of_the_bank_or_of_a_clinician_passes(question: str) -> None:
    assert form.reason(asking(question)) is None


@pytest.mark.parametrize("question", BROKEN)
def test_a_question_that_is_none_is_out(question: str) -> None:
    assert str(form.reason(asking(question))).startswith("question: ")


def test_no_row_that_an_expert_writes_is_out() -> None:
    for kind in bank.SUBJECTS:
        for number in range(8):
            image = image_of(phantoms.draw(kind, number, 64).truth, number)
            for row, _ in write_rows(image, 6, ["direct", "step", "meta"], number, True):
                assert filters.reason(row) is None, (row.question, row.rationale)


@pytest.mark.parametrize(
    "text",
    [
        "ultrasound breast:k",
        "MR brain T1:head small infarct left.",
        "MR brain T2:\ufffd3 small tumor left.",
        "ultrasound breast: .",
        "MR brain",
        "MR brain T1: 1 small tumor",
        "MR brain T1: 1 small small tumor left.",
        "MR brain T1: 1s1 small3 tumor left.",
        "I see a cyst. I see a cyst and I see a cyst and I see a cyst and I see a cyst and.",
        "The lesion is the is left.",
        "The lesion is left.<|im_end|>",
        "The mass is larger than.",
    ],
)
def test_reasoning_that_is_no_sentence_is_out(text: str) -> None:
    assert str(reasoning.reason(asking("Is there a cyst?", text))).startswith("reasoning: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MR brain FLAIR: none. Not sure.",
        "Dermoscopy skin hair yes: medium nevus, irregular border, 2 colours, globules, benign.",
        "The image is a non-contrast axial CT of the head. A hyperdense focus (about 2 cm) lies in "
        "the left basal ganglia, which is typical of a hypertensive bleed; a calcified meningioma "
        "is less likely, since it would be extra-axial.",
        "First, I look at the lungs, which are clear, so there is no effusion",
    ],
)
def test_reasoning_in_sentences_passes(text: str) -> None:
    assert reasoning.reason(asking("Is there a cyst?", text)) is None


def words(change: Callable[[list[str], random.Random], list[str]]) -> Callable[..., str]:
    return lambda text, rng: " ".join(change(text.split(), rng))


def twice(text: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(text))
    return [*text[: at + 1], *text[at:]]


def numbered(text: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(text) - 1)
    return [*text[:at], text[at] + str(rng.randrange(1, 9)), *text[at + 1 :]]


CORRUPTIONS = {  # and the share that the filter must find, a little below what was measured
    "shuffled": (words(lambda w, rng: rng.sample(w, len(w))), 0.75),
    "a word twice": (words(twice), 0.7),
    "a number run into a word": (words(numbered), 0.8),
    "a colon and a letter": (words(lambda w, rng: [*w[:-1], w[-1].strip("?.") + ":k"]), 0.95),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corrupted_questions_are_found(kind: str) -> None:
    corrupt, share = CORRUPTIONS[kind]
    rng = random.Random(2026)
    made = {corrupt(question, rng) for question in ASKED for _ in range(3)} - set(ASKED)
    found = [question for question in made if form.reason(asking(question))]
    assert len(found) >= share * len(made)


BROKEN = "Is3 than small larger than small?"


def test_a_row_that_a_filter_refuses_is_rejected_with_the_reason_and_has_no_say() -> None:
    good = [replace(make_triplet(IMAGE, "g", n, 1), rationale="") for n in range(2)]
    bad = [replace(row, id=f"bad{n}", question=BROKEN) for n, row in enumerate(good)]
    mute = replace(good[0], id="mute", rationale="ultrasound breast:k")
    rows = [filters.marked(row) for row in (*good, *bad, mute)]
    model = make_model("judge", "judge", None, 0, 1)
    opinions = {row.id: make_judgement(row, model) for row in rows}
    decisions = decide(rows, opinions, Config().select, 1)
    reasons = {d.triplet_id: (d.keep, d.reason) for d in decisions}
    for row in bad:
        assert reasons[row.id] == (False, "form: question: a number run into a word")
    assert reasons["mute"] == (False, "form: reasoning: no end of a sentence")
    assert sum(keep for keep, _ in reasons.values()) == 1


def test_a_row_is_in_the_record_with_what_a_filter_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task.make("MR", "disease", "easy", "open", "direct")
    asked = [f"<question>{q}</question>" for q in (BROKEN, "Which finding is shown?")]
    vlm = Scripted(asked, [["<answer>cyst</answer>"]] * 2)
    monkeypatch.setattr(proposer, "open_vlm", lambda *_, **__: vlm)
    monkeypatch.setattr(proposer, "Pixels", lambda _: {"i": b"", "j": b""})
    plan = proposer.ProposerSettings("g", "compact", 1, 1.0, 1.0, 9, 0, 1)
    work = proposer.make_proposer(proposer.Proposing(tmp_path, "m", Generator(), plan, 1, 784))
    rows = work("00000", [{"image_id": i, "task": task.to_dict()} for i in "ij"])[Triplet]
    assert [row.problem for row in rows] == ["question: a number run into a word", None]
    assert rows[0].question == BROKEN


@pytest.mark.parametrize("question", ASKED)
def test_the_type_found_is_the_banks_own(question: str) -> None:
    kind = bank.kind_of(question)
    assert kind is not None
    assert found_type(question) == bank.TEMPLATES[kind[0]][0]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what imaging modality was used", "modality"),
        ("Is this a CT?", "modality"),
        ("Is this an axial plane?", "anatomy"),
        ("Which organ system is imaged?", "anatomy"),
        ("Is there a fracture on the left 5th rib?", "disease"),
        ("What is the diagnosis?", "disease"),
        ("Is the heart larger than normal?", "grading"),
        ("Where is the mass?", "attribute"),
        ("How many kidneys are in the image?", "attribute"),
        ("Why?", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_free_text_has_the_type_that_it_asks_about(question: str, kind: str) -> None:
    assert found_type(question) == kind


def test_the_types_of_many_questions_are_those_of_each() -> None:
    odd = [
        "  Is\tthere a \x1c mass\x0b",
        "How  LARGE?",
        "Où est la lésion? side",
        "massé",
        "\u212aidney",
    ]
    spaces = [
        "what\u00a0kind of image",
        "what\x1fkind of image",
        "mass\n",
        "\n",
        "is there a mass_",
    ]
    questions = [*ASKED, *odd, *spaces, *("".join(word) for word in zip(ASKED, reversed(ASKED)))]
    found = found_types(pa.array(questions)).to_pylist()
    assert found == [found_type(question) for question in questions]
    assert found_types(pa.array([], pa.string())).to_pylist() == []


def test_an_export_says_the_type_asked_for_and_the_type_found(exported: Path) -> None:
    rows = [r for f in (exported / "data").glob("*.parquet") for r in pq.read_table(f).to_pylist()]
    assert rows
    assert {(r["question"], r["found_question_type"]) for r in rows} == {
        ("Is there a <tumor>?", "disease"),
        ("Which finding is shown?", "disease"),
    }
    assert {r["asked_question_type"] for r in rows} > {"disease"}


def test_only_rows_without_a_problem_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_triplet(IMAGE, "g", 0, 1)
    bad = filters.marked(replace(good, id="bad", question=BROKEN))
    asked: list[str] = []

    class Asked:
        def __init__(self, *_: object) -> None: ...

        def judge(self, triplets: list[Triplet], pixels: object) -> list[Judgement]:
            asked.extend(t.id for t in triplets)
            return []

    monkeypatch.setattr(judging, "Judge", Asked)
    path = write_shard(tmp_path, "triplets-00000", to_arrow(Triplet, [good, bad]))
    work = judging.make_judge(judging.Judging(tmp_path, "m", "judge", 1))
    assert work("00000", [{"path": path.name, "sha256": None}]) == {Judgement: []}
    assert asked == [good.id]
