"""A rationale step by step: how it is parted, what rules find, what the judge makes of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts import judge_prompt
from generators.phantoms.base import SIZES, Truth
from generators.phantoms.composer import compose_any
from generators.phantoms.kind import Kind
from generators.phantoms.kinds import KINDS
from generators.phantoms.reporter import rationale
from reward_model.contradictions import ANSWER, EARLIER, Contradiction, contradictions
from reward_model.process import (
    IMAGE,
    Reasoning,
    Reply,
    least_logit,
    prefixes_of,
    reasonings,
    steps_of,
)
from tests.generators.test_clinical_english import SENTENCES, UNSEEN_SENTENCES

YES_NO = ("yes", "no")
SIDES = ("left", "right")
SIDE, MASS = "On which side is the cyst?", "Is there a mass?"


# Steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("It is dark", ("It is dark",)),
        ("MR brain T2: 2 small plaque right. Not sure.",
         ("MR brain T2: 2 small plaque right.", "Not sure.")),
        ("It is bright on T2. So it is fluid.", ("It is bright on T2.", "So it is fluid.")),
        ("The cyst is 1.5 cm wide. It is dark.", ("The cyst is 1.5 cm wide.", "It is dark.")),
        ("It is bright (e.g. on T2. Not on T1) and thin.",
         ("It is bright (e.g. on T2. Not on T1) and thin.",)),
        ("It is approx. 2 cm, i.e. small.", ("It is approx. 2 cm, i.e. small.",)),
        ("1. The lung is dark. 2. The heart is normal.",
         ("1. The lung is dark.", "2. The heart is normal.")),
        ("1) the lung is dark 2) the heart is normal",
         ("1) the lung is dark", "2) the heart is normal")),
        ("Step 1: look.\nStep 2: count", ("Step 1: look.", "Step 2: count")),
        ("- no mass\n- a cyst", ("- no mass", "- a cyst")),
        ("The lung is dark; the heart is normal.",
         ("The lung is dark;", "the heart is normal.")),
        ("The cyst is thin (small; no septa).", ("The cyst is thin (small; no septa).",)),
        ("MR brain T2:\n3 small plaque right.", ("MR brain T2:\n3 small plaque right.",)),
        ("A line that\nis wrapped.", ("A line that\nis wrapped.",)),
        ("First this\n\nThen that", ("First this", "Then that")),
        ("It is a cyst. !", ("It is a cyst. !",)),
        ("?! It is a cyst.", ("?! It is a cyst.",)),
    ],
)  # fmt: skip
def test_a_rationale_is_parted_into_its_steps(text: str, steps: tuple[str, ...]) -> None:
    assert steps_of(text) == steps


texts = st.text(alphabet=st.sampled_from("ab1 .;:\n()!?-e.g T2*\t"), max_size=60) | st.text()


@given(texts)
def test_no_word_is_lost_and_the_last_prefix_is_all(text: str) -> None:
    steps, prefixes = steps_of(text), prefixes_of(text)
    assert "".join("".join(steps).split()) == "".join(text.split())
    assert all(step == step.strip() for step in steps)
    assert len(steps) == len(prefixes)
    if steps:
        assert prefixes[-1] == text.strip()
    for before, after in pairwise(prefixes):
        assert after.startswith(before)
        assert len(after) > len(before)


# What is true has no contradiction


def drawn(kind: Kind, rng: np.random.Generator) -> Truth:
    """A truth of a kind, without its image."""
    finding = str(rng.choice(["none", *kind.findings]))
    told = kind.findings.get(finding, ())
    return Truth(
        kind.modality,
        kind.anatomy,
        finding,
        side=str(rng.choice(SIDES)) if "side" in told else None,
        count=int(rng.integers(1, 5)) if "count" in told else 0,
        size=str(rng.choice(SIZES)) if "size" in told else None,
        attributes={
            name: str(rng.choice(attribute.allowed(finding)))
            for name, attribute in kind.attributes.items()
            if attribute.allowed(finding)
        },
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_no_true_reasoning_of_a_phantom_is_taken_for_a_contradiction(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    for _ in range(400):
        truth = drawn(kind, rng)
        _, asked = compose_any(truth, rng)
        for style in ("step", "meta"):
            steps = steps_of(rationale(truth, style, rng))
            assert contradictions(steps, asked.question, asked.answer, asked.options) == ()


TRUE = (
    (SIDE, "right", "The left costophrenic angle is sharp."),
    (SIDE, "right", "The effusion displaces the mediastinum to the left. So the cyst is right."),
    (SIDE, "left", "The cyst is to the right of the image, which is the patient's left."),
    (SIDE, "left", "At first the cyst seems to be on the right. It is on the left."),
    (SIDE, "right", "The heart is enlarged. It is on the left."),
    (SIDE, "left", "The left kidney has a cyst. The right kidney is normal."),
    (SIDE, "right", "There is no cyst on the left."),
    ("On which side is the effusion?", "right", "The nodule is on the left."),
    ("On which side is the nodule?", "right", "A rib on the left is broken."),
    ("Is the mass on the left or right?", "left", "The mass abuts the left heart border."),
    ("Are the lungs clear?", "yes", "No effusion or mass on the left. There is no nodule."),
    (MASS, "yes", "There is no mass in the left lung. A mass lies in the right hilum."),
    (MASS, "yes", "No mass effect is seen. There is a mass."),
    (MASS, "yes", "No effusion. No calcification. The mass is round."),
    (MASS, "no", "There is a mass effect from the haematoma."),
    (MASS, "no", "If there is a mass, it would be bright."),
    (MASS, "no", "There is a cyst, which is no mass."),
    (MASS, "no", "There might be a mass."),
    ("Is there a mass in the left lung?", "no", "There is a mass in the right lung."),
    ("Is there a large mass?", "no", "There is a small mass."),
    ("Is there an effusion?", "yes", "There is no lesion."),
    ("Is there cardiomegaly?", "yes", "No lesion is seen. The heart is wide."),
    ("How many nodules are there?", "3", "There are 2 nodules on the left and 1 on the right."),
    ("How many nodules are there?", "3", "There are two nodules on the left. There is one nodule "
     "on the right."),
    ("How many nodules are there?", "3", "There are three nodules. Two nodules are calcified."),
    ("How many nodules are there?", "3", "CT chest: 2 nodules left, 1 nodule right."),
    ("How many nodules are in the left lung?", "1", "There are 3 nodules."),
    ("How many ribs are broken?", "2", "There are 12 ribs."),
    ("Is there more than one lesion?", "yes", "There is a lesion on the left. Another is right."),
    ("Is there more than one lesion?", "no", "There are two lungs."),
    ("How large is the mass?", "large", "There is a small effusion. The mass is wide."),
    ("How large is the mass?", "large", "The mass is small compared with the liver."),
    ("Which organ is enlarged?", "spleen", "The organ is larger than the liver."),
    ("What is the diagnosis?", "infarct", "Not tumor. No haemorrhage."),
    ("What is the diagnosis?", "simple cyst", "The lesion is cystic. It is a cyst."),
    ("What abnormality is seen?", "pneumothorax", "No mass. No lesion."),
    ("What imaging modality was used?", "MRI", "The skull is dark. MRI brain: none."),
    ("Is this an axial image?", "yes", "There is no coronal view."),
    ("Where is the lesion?", "left lobe", "The liver is shown. The lesion is in the left lobe."),
    ("Is the trachea midline?", "yes", "There is no shift. The trachea is in the midline."),
    ("Does the image show pneumonia?", "no", "There is an opacity. It was there before."),
    ("Is the heart normal?", "yes", "The answer is yes."),
    ("Is the heart normal?", "no", "If the ratio is below 0.5, the answer is yes. It is 0.6."),
)  # fmt: skip
OPTIONS = {
    "Which organ is enlarged?": ("liver", "spleen"),
    "What is the diagnosis?": ("infarct", "tumor", "simple cyst", "cyst"),
    "Where is the lesion?": ("left lobe", "right lobe", "liver"),
    SIDE: SIDES,
}


@pytest.mark.parametrize(("question", "answer", "text"), TRUE)
def test_no_true_reasoning_in_a_readers_words_is_taken_for_one(
    question: str, answer: str, text: str
) -> None:
    options = OPTIONS.get(question, ())
    assert contradictions(steps_of(text), question, answer, options) == ()


def test_ordinary_sentences_do_not_contradict_each_other() -> None:
    for text in (*SENTENCES, *UNSEEN_SENTENCES):
        for question, answer in (("What is shown?", "a chest"), ("Is the heart normal?", "yes")):
            assert contradictions(steps_of(text), question, answer) == ()


# What is wrong is found, and named


@pytest.mark.parametrize(
    ("question", "options", "answer", "text", "step", "of"),
    [
        (SIDE, SIDES, "right", "It is dark. The cyst is on the left.", 1, ANSWER),
        (SIDE, SIDES, "right", "There is a cyst on the left side.", 0, ANSWER),
        (SIDE, SIDES, "right", "ultrasound breast: 1 small cyst left.", 0, ANSWER),
        (SIDE, (), "on the right", "The lesion is seen. It lies on the left side.", 1, ANSWER),
        (SIDE, SIDES, "right", "ultrasound breast: none.", 0, ANSWER),
        ("Is there a lesion?", YES_NO, "yes", "The lung is dark; there is no lesion.", 1, ANSWER),
        ("Is there a cyst?", YES_NO, "yes", "There is no lesion.", 0, ANSWER),
        (MASS, (), "yes", "No evidence of a mass.", 0, ANSWER),
        (MASS, (), "no", "The image shows a mass.", 0, ANSWER),
        ("Is there a tumor?", YES_NO, "no", "MR brain T1: 2 small tumor left.", 0, ANSWER),
        ("How many cysts are there?", (), "3", "There are two cysts.", 0, ANSWER),
        ("Count the lesions.", ("2", "4"), "4", "MR brain T2: 2 large plaque left.", 0, ANSWER),
        ("Is there more than one cyst?", YES_NO, "no", "I count 2 cysts here.", 0, ANSWER),
        ("How large is the cyst?", SIZES, "large", "The cyst is small.", 0, ANSWER),
        ("Is the cyst larger than small?", YES_NO, "yes", "CT head: small cyst left.", 0, ANSWER),
        ("What is the diagnosis?", ("cyst", "mass"), "mass", "The lesion is a cyst.", 0, ANSWER),
        ("Which finding is shown?", ("cyst", "mass"), "mass", "CT head: 1 cyst left.", 0, ANSWER),
        ("Which finding is shown?", (), "mass", "CT head: none.", 0, ANSWER),
        ("Which imaging modality is this?", (), "X-ray", "CT head: none.", 0, ANSWER),
        ("Is the heart normal?", YES_NO, "no", "It is wide. So the answer is yes.", 1, ANSWER),
        ("Is the heart wide?", (), "no", "There are 2 lesions. So the count is three.", 1, EARLIER),
        ("Is the heart wide?", (), "no", "The cyst is on the left. It is dark. The cyst is on the "
         "right.", 2, EARLIER),
        ("Is the heart wide?", (), "no", "There is no mass. There is a mass.", 1, EARLIER),
        ("Is the heart wide?", (), "no", "The mass is small; the mass is large.", 1, EARLIER),
        ("Is the heart wide?", (), "no", "CT head: 2 small infarct left. Not infarct.", 1, EARLIER),
        ("Is the heart wide?", (), "no", "CT head: 2 small infarct left. CT head: 3 small infarct "
         "left.", 1, EARLIER),
    ],
)  # fmt: skip
def test_a_step_that_contradicts_is_named(
    question: str, options: tuple[str, ...], answer: str, text: str, step: int, of: str
) -> None:
    found = contradictions(steps_of(text), question, answer, options)
    assert (step, of) in [(one.step, one.of) for one in found]


def test_a_contradiction_says_in_words_what_stands_against_what() -> None:
    [found] = contradictions(steps_of("There are two cysts."), "How many cysts are there?", "3")
    assert found.why == "count 2 of cyst, where the answer says count 3 of cyst"
    [found] = contradictions(
        steps_of("There are 2 lesions. So the count is three."), "Is the heart wide?", "no"
    )
    assert found.why == "count 3, where step 1 says count 2"


# The judge's part


class Told:
    """A judge whose reasoning logit after each prefix is as told, and what it was asked."""

    def __init__(self, logits: list[float], reasoning: tuple[float, float] | None) -> None:
        from reward_model.settings import JudgeSettings

        self.settings = JudgeSettings(
            criteria={}, prompts="compact", max_pixels=1, reasoning=reasoning
        )
        self.logits, self.asked = logits, []

    def scores(self, requests: list[Any]) -> np.ndarray:
        self.asked += requests
        return np.array([[9.0, logit, 9.0] for logit in self.logits]).reshape(-1, 3)


def reply(text: str, answer: str = "left") -> Reply:
    return Reply(b"png", SIDE, SIDES, text, answer)


def test_each_prefix_is_scored_and_the_worst_is_the_score() -> None:
    judge: Any = Told([2.0, -1.0, 1.0, 0.0], (2.0, 1.0))
    rows = [reply("It is dark. It is round. It is thin."), reply(""), reply("It is dark.")]
    first, none, last = reasonings(rows, judge)
    parts = ("It is dark.", "It is dark. It is round.", rows[0].rationale)
    words = [judge_prompt("compact", SIDE, SIDES, part, "left") for part in parts]
    assert [request.text for request in judge.asked[:3]] == words
    assert first.sound == pytest.approx([1 / (1 + np.exp(-x)) for x in (5.0, -1.0, 3.0)])
    assert first.score == first.sound[1]
    assert (first.worst, [(c.step, c.of) for c in first.found]) == (1, [(1, IMAGE)])
    assert (none.score, none.worst, none.steps) == (0.0, None, ())
    assert last.score == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert last.found == ()


def test_a_step_that_contradicts_by_rule_makes_it_worth_nothing() -> None:
    judge: Any = Told([5.0, 5.0], (1.0, 0.0))
    [found] = reasonings([reply("It is dark. The cyst is on the right.")], judge)
    assert (found.score, found.worst, found.found[0].of) == (0.0, 1, ANSWER)


def test_a_judge_of_whom_nothing_is_known_has_no_say() -> None:
    judge: Any = Told([], None)
    for scorer in (judge, None):
        sound, wrong = reasonings([reply("It is dark."), reply("There is no cyst.")], scorer)
        assert (sound.score, sound.sound, wrong.score) == (1.0, (), 0.0)
    assert judge.asked == []


def test_a_score_that_is_not_finite_is_not_passed_over() -> None:
    assert np.isnan(Reasoning(("a", "b"), (0.9, float("nan")), ()).score)
    of_image = (Contradiction(0, IMAGE, ""),)
    assert Reasoning(("a", "b"), (0.2, 0.9), of_image).score == 0.2


@given(st.floats(0.01, 0.99), st.floats(0.1, 5), st.floats(-3, 3))
def test_the_logit_that_is_asked_for_has_the_probability(
    chance: float, slope: float, offset: float
) -> None:
    logit = least_logit(chance, (slope, offset))
    assert 1 / (1 + np.exp(-(slope * logit + offset))) == pytest.approx(chance)
    assert least_logit(chance, None) == least_logit(0.0, (slope, offset)) == -np.inf
