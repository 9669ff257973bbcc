"""Labels beside the images as an expert: what templates make of real tables' cells."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import Config, build, load
from engine.config import templates as templates_module
from engine.config.templates import Template, read_templates
from engine.errors import TriptychError
from engine.records import Image, Item, Triplet, canonical
from reward_model.experts import label_problems, open_expert
from reward_model.experts.default_questions import default_questions, words_of
from reward_model.experts.label_questions import LabelQuestions
from reward_model.experts.table import TableExpert
from reward_model.patient_sets import is_frozen
from reward_model.verdicts import Answer
from tests.drawn_workspace import answered
from tests.lineage_workspace import make_image

YES_NO = ("yes", "no")
TEMPLATES = """
# CheXpert's way of writing
finding:
  - question: What is the main finding?
    options: seen
    offered: 3
    answers: { No Finding: , "?": }
  - question: Is there any {value}?
    nothing: [No Finding]
side:
  - question: On which side is the {finding}?
    paraphrases: ["Where is the {finding}: left or right?"]
    options: [left, right]
    answers: { L: left, R: right }
    when: { finding: [Mass, Nodule] }
size_mm:
  - question: How large is it?
    unit: mm
    question_type: grading
"""


def labelled(number: int, split: str = "train", **cells: str) -> Image:
    """An image of a patient of its own with the cells of its row."""
    image = make_image(number, f"g{number}", split)
    return replace(image, source=f"{number}.png", labels=canonical(cells) if cells else None)


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    path = tmp_path / "questions.yaml"
    path.write_text(TEMPLATES)
    return path


def config_of(folder: Path, columns: list[str], *overrides: str, **expert: Any) -> Config:
    values: dict[str, Any] = {"expert": {"kind": "table", **expert}}
    values["source"] = {"path": str(folder), "public": True, "labels": columns}
    return build(values, list(overrides), "the test")


def opened(config: Config, images: list[Image], **more: Any) -> TableExpert:
    expert = open_expert(config, images, **more)
    assert isinstance(expert, TableExpert)
    return expert


COLUMNS = ["finding", "side", "size_mm"]
IMAGES = [
    labelled(0, finding="Mass", side="L", size_mm="12"),
    labelled(1, finding="Nodule", side="R", size_mm="7.0"),
    labelled(2, finding="No Finding"),
    labelled(3, finding="Edema", side="L"),
    labelled(4, finding="Fracture"),
    labelled(5),
    labelled(6, "test", finding="Cyst"),
]


@pytest.fixture
def expert(templates: Path) -> TableExpert:
    return opened(config_of(templates.parent, COLUMNS, templates=str(templates)), IMAGES)


def said(expert: TableExpert, image: Image) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {t.question: (t.answer, t.options) for t, _ in expert.rows(image, 99)}


def test_a_cell_is_asked_about_in_the_templates_words(expert: TableExpert) -> None:
    rows = said(expert, IMAGES[0])
    answer, options = rows.pop("What is the main finding?")
    assert answer == "Mass"
    assert len(options) == 3
    assert {"Mass"} < set(options) <= {"Mass", "Nodule", "Edema", "Fracture"}
    assert rows.pop("How large is it?") == ("12 mm", ())
    assert rows.pop("Is there any Mass?") == ("yes", YES_NO)
    side = next(q for q in rows if "left or right" in q or q.startswith("On which side"))
    assert side in ("On which side is the Mass?", "Where is the Mass: left or right?")
    assert rows.pop(side) == ("left", ("left", "right"))
    ((denied, no),) = rows.items()
    assert no == ("no", YES_NO)
    assert denied in {f"Is there any {word}?" for word in ("Nodule", "Edema", "Fracture")}


def test_an_empty_cell_gives_no_row_and_no_finding_denies_the_others(expert: TableExpert) -> None:
    assert said(expert, IMAGES[5]) == {}
    assert [expert.knows(i.id, i.source) for i in (IMAGES[5], IMAGES[2])] == [False, True]
    ((question, answer),) = said(expert, IMAGES[2]).items()
    assert question.startswith("Is there any ")
    assert answer == ("no", YES_NO)


def test_a_condition_on_another_column_holds(expert: TableExpert) -> None:
    assert not any("side" in question for question in said(expert, IMAGES[3]))


def test_only_training_images_values_are_offered(templates: Path) -> None:
    images = [*IMAGES, *(labelled(n, "val", finding="Pneumonia") for n in range(10, 20))]
    config = config_of(templates.parent, COLUMNS, templates=str(templates))
    expert = opened(config, images)
    offered = {o for i in images for _, options in said(expert, i).values() for o in options}
    asked = {question for i in images[:6] for question in said(expert, i)}
    assert offered - set(YES_NO) - {"left", "right"} == {
        "Mass",
        "Nodule",
        "Edema",
        "Fracture",
        "Cyst",  # each on its own image alone
        "Pneumonia",
    }
    shown = [said(expert, i)["What is the main finding?"][1] for i in images[:2]]
    assert not any({"Cyst", "Pneumonia"} & {*options} for options in shown)
    assert not any("Pneumonia" in question or "Cyst" in question for question in asked)


def test_rows_are_the_same_again_and_fewer_are_the_first_of_more(expert: TableExpert) -> None:
    for image in IMAGES:
        every = expert.rows(image, 99)
        assert [expert.rows(image, n) for n in range(len(every))] == [
            every[:n] for n in range(len(every))
        ]


def test_questions_of_every_column_come_first_on_some_image(templates: Path) -> None:
    images = [labelled(n, finding="Mass", side="L", size_mm="3") for n in range(60)]
    config = config_of(templates.parent, COLUMNS, templates=str(templates))
    first = Counter(opened(config, images).rows(i, 1)[0][0].question.split()[0] for i in images)
    assert first.keys() >= {"How", "Is"}
    assert max(first.values()) < 50


def test_the_words_of_a_question_about_a_value_do_not_tell_its_answer(tmp_path: Path) -> None:
    """Who answers by how often a value is there is right little more often than a coin."""
    often = {"a mass": 30, "a cyst": 60, "an edema": 90, "a nodule": 150, "a fracture": 210}
    images = [
        labelled(n, finding=word)
        for n, word in enumerate(w for w, number in often.items() for _ in range(number))
    ]
    path = tmp_path / "t.yaml"
    path.write_text('finding: [{question: "Does it show {value}?"}]')
    expert = opened(config_of(tmp_path, ["finding"], templates=str(path)), images)
    counts: dict[str, Counter[str]] = {}
    for image in images:
        for question, (answer, _) in said(expert, image).items():
            counts.setdefault(question, Counter())[answer] += 1
    assert {q: c["yes"] for q, c in counts.items()} == {
        f"Does it show {word}?": number for word, number in often.items()
    }
    blind = sum(max(c.values()) for c in counts.values()) / sum(c.total() for c in counts.values())
    assert blind < 0.54, counts


def test_one_image_more_changes_few_questions_of_the_others(tmp_path: Path) -> None:
    words = ["mass", "cyst", "edema", "nodule", "fracture", "effusion"]
    images = [labelled(n, finding=words[n % 6]) for n in range(120)]
    config = config_of(tmp_path, ["finding"])
    one, more = (opened(config, some) for some in (images[1:], images))
    same = [said(one, image) == said(more, image) for image in images[1:]]
    assert sum(same) > 0.9 * len(same)


def test_spellings_of_one_value_are_one_option(tmp_path: Path) -> None:
    cells = ["Mass", "mass", "MASS", "cyst", "Cyst"] * 2
    images = [labelled(n, finding=cell) for n, cell in enumerate(cells)]
    expert = opened(config_of(tmp_path, ["finding"]), images)
    for image in images:
        _, options = said(expert, image)["What is the finding?"]
        assert {o.lower() for o in options} == {"mass", "cyst"}
        assert len(options) == 2


def test_a_cell_of_several_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "labels:\n"
        "  - question: Which of these is shown?\n    options: seen\n    separator: '|'\n"
        "  - question: Is there any {value}?\n    separator: '|'\n"
        "  - question: Which findings are shown?\n    separator: '|'\n"
    )
    images = [
        labelled(0, labels="Mass|Edema"),
        labelled(1, labels="Edema"),
        labelled(2, labels="Nodule| Mass "),
        labelled(3, labels="Cyst"),
    ]
    expert = opened(config_of(tmp_path, ["labels"], templates=str(path)), images)
    rows = said(expert, images[0])
    answer, options = rows["Which of these is shown?"]
    assert answer in ("Mass", "Edema")
    assert set(options) & {"Mass", "Edema"} == {answer}  # one right option
    assert rows["Which findings are shown?"] == ("Mass, Edema", ())
    assert sorted(a for q, (a, _) in rows.items() if q.startswith("Is there")) == ["no", "yes"]


def test_pairs_set_a_row_against_what_its_column_says_of_another_image(templates: Path) -> None:
    cells = [("Mass", "L", "12"), ("Nodule", "R", "7.0"), ("Edema", "", ""), ("No Finding", "", "")]
    images = [
        labelled(n, finding=finding, side=side, size_mm=size)
        for n in range(40)
        for finding, side, size in [cells[n % 4]]
    ]
    expert = opened(config_of(templates.parent, COLUMNS, templates=str(templates)), images)
    rows = [row for i in images for row, _ in expert.rows(i, 99)]
    made, pairs = expert.pairs(rows, 200, 3)
    known = {row.id: row for row in made}
    patients = {i.id: i.group for i in images}
    wrong: dict[str, set[str]] = {}
    for pair in pairs:
        good, bad = known[pair.chosen_id], known[pair.rejected_id]
        assert good.image_id == bad.image_id == pair.image_id
        assert pair.holdout == is_frozen(patients[pair.image_id])
        assert pair.criterion == "factuality"  # all images are of one kind
        assert (good.question, good.options) == (bad.question, bad.options)
        assert good.answer != bad.answer
        assert not bad.options or bad.answer in bad.options
        wrong.setdefault(bad.question, set()).add(bad.answer)
    assert wrong["How large is it?"] == {"12 mm", "7 mm"}
    assert wrong["What is the main finding?"] >= {"Mass", "Nodule"}


ASKS = "finding:\n  - question: What is it?\n"
ITEM = {"round": 1, "place": 0, "readers": 1}


def told(expert: TableExpert, row: Triplet, stream: str = "informative") -> Answer | None:
    item = Item.make(row, None, stream, **ITEM)
    answers = expert.opinions([item], {row.id: row})
    return answers[0] if answers else None


def test_a_label_tells_whether_a_templates_question_is_answered_rightly(
    expert: TableExpert,
) -> None:
    right = answered(IMAGES[0], "is there any mass", "yes")
    wrong = answered(IMAGES[0], "Is there any nodule?", "yes")
    size = answered(IMAGES[0], "How large is it?", "7 mm", ())
    choice = answered(IMAGES[0], "What is the main finding?", "Edema", ("Edema", "Mass"))
    verdicts = [told(expert, row) for row in (right, wrong, size, choice)]
    assert [v and (v.verdict, v.correction) for v in verdicts] == [
        ("accept", ""),
        ("reject", "no"),
        ("reject", "12 mm"),
        ("reject", "Mass"),
    ]


@pytest.mark.parametrize(
    ("change", "stream"),
    [
        ({"question": "Is there any pneumonia?"}, "informative"),  # nobody looked for it
        ({"question": "What is shown?"}, "informative"),
        ({"rationale": "It is bright."}, "informative"),  # a label says nothing of reasoning
        ({"answer": "perhaps", "options": ()}, "informative"),
        ({}, "random"),  # what measures is for readers
        ({}, "test"),
    ],
)
def test_where_a_label_does_not_tell_it_says_nothing(
    expert: TableExpert, change: dict[str, Any], stream: str
) -> None:
    row = replace(answered(IMAGES[0], "Is there any mass?", "yes"), **change)
    assert told(expert, row, stream) is None


def test_other_words_for_the_right_answer_are_not_called_wrong(expert: TableExpert) -> None:
    row = answered(IMAGES[0], "How large is it?", "about a centimetre", ())
    assert told(expert, row) is None
    row = answered(IMAGES[0], "What is the main finding?", "tumour", ("tumour", "cyst"))
    assert told(expert, row) is None


@pytest.mark.parametrize(
    ("column", "cell", "kept"),
    [
        ("side", "L", True),  # the template says what it stands for
        ("side", "J", False),
        ("size_mm", "3.5 mm", True),
        ("size_mm", "4711 mm", False),
        ("finding", "?", True),
        ("finding", "Smith", False),
        ("other", "L", False),
    ],
)
def test_a_cell_that_a_template_names_is_known_to_be_harmless(
    templates: Path, column: str, cell: str, kept: bool
) -> None:
    config = config_of(templates.parent, COLUMNS, templates=str(templates))
    assert config.expert.names(column, cell) == kept


def test_a_bad_cell_is_a_row_with_a_problem_and_the_others_are_used(templates: Path) -> None:
    config = config_of(templates.parent, COLUMNS, templates=str(templates))
    images = [*IMAGES, labelled(8, finding="Mass", side="both", size_mm="3")]
    labels = [(i.source, i.split, i.labels) for i in images if i.labels]
    wrong, unasked = label_problems(config, labels)
    assert wrong.keys() == {"8.png"}
    assert wrong["8.png"] == ["side: 'both' is none of the options"]
    assert unasked == []
    expert = opened(config, images)
    assert "Is there any Mass?" in said(expert, images[-1])


def test_a_unit_is_said_once_and_after_a_number(tmp_path: Path) -> None:
    questions = LabelQuestions({"size": [Template(question="How large is it?", unit="cm")]})
    cells = ("3", "3 cm", "3cm", "30 mm", "small")
    told = [questions.of({"size": cell}, "x").gold[0].answer for cell in cells]
    assert told == ["3 cm", "3 cm", "3cm", "30 mm", "small"]


def test_columns_that_contradict_each_other_are_not_asked(tmp_path: Path) -> None:
    one = [Template(question="Is there any mass?", options=["yes", "no"])]
    questions = LabelQuestions({"mass": one, "lesion": one})
    told = questions.of({"mass": "yes", "lesion": "no"}, "x")
    assert told.gold == []
    assert told.problems == ["mass and lesion: contradict each other"]
    assert len(questions.of({"mass": "yes", "lesion": "yes"}, "x").gold) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("finding: What is it?", "finding: give a list of questions"),
        (f"{ASKS}    option: seen", "finding, question 1, option: unknown key"),
        ("finding:\n  - options: seen", "finding, question 1, question: Field required"),
        (f"{ASKS}    options: [left]", "give two or more"),
        (f"{ASKS}    options: [left, Left]", "repeated options"),
        (f"{ASKS}    question_type: guess", "finding, question 1, question_type: "),
        ("finding:\n  - question: Any {value}?\n    options: seen", "leave out options"),
        (f"{ASKS}    paraphrases: ['']", "cannot be asked"),
        (f"{ASKS}{ASKS}", "finding stands twice"),
        (f"{ASKS}    options: [", "line 3: no YAML"),
        ("finding: \0", "no YAML"),
        ("- finding", "give `COLUMN:` lines"),
        ("", "give `COLUMN:` lines"),
    ],
)
def test_bad_templates_are_one_line_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(TriptychError) as refused:
        config_of(tmp_path, ["finding"], templates=str(path))
    assert "mine.yaml" in str(refused.value)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_templates_and_columns_that_do_not_fit_are_one_line(templates: Path) -> None:
    for columns, told in (
        ([], "name the table's columns as source.labels"),
        (["finding", "side"], "asks about size_mm, which is none of source.labels"),
    ):
        with pytest.raises(TriptychError, match=told):
            config_of(templates.parent, columns, templates=str(templates))
    with pytest.raises(TriptychError, match=r"nowhere\.yaml cannot be read"):
        config_of(templates.parent, COLUMNS, templates="nowhere.yaml")
    with pytest.raises(TriptychError, match=r"set source\.path"):
        build({"expert": "table", "source": {"labels": ["a"]}}, [], "the test")


def test_yes_without_quotes_in_the_configuration_itself_is_one_line(write: Write) -> None:
    path = write(
        "ours.yaml",
        "source: {path: x, labels: [a]}\nexpert:\n  kind: table\n  templates:\n    a:\n"
        "      - question: Is it?\n        options: [yes, no]\n",
    )
    with pytest.raises(TriptychError, match=r"expert\.templates: yes, no, .* need quotes here"):
        load(path)


def test_the_record_has_the_questions_and_needs_no_file(templates: Path) -> None:
    config = config_of(templates.parent, COLUMNS, templates=str(templates))
    recorded = json.loads(canonical(config.kept()))
    templates.unlink()
    again = build(recorded, [], "workspace.json")
    assert again.expert == config.expert
    assert canonical(again.kept()) == canonical(config.kept())


DOCS = Path(__file__).parents[2] / "docs" / "your-data.md"
EXAMPLES = {
    "docs": DOCS.read_text()
    .split("**Labels as answers**")[1]
    .split("```yaml\n")[1]
    .split("```")[0],
    "module": textwrap.dedent(str(templates_module.__doc__).split("\n\n")[1]),
}


@pytest.mark.parametrize("where", EXAMPLES)
def test_the_examples_of_templates_are_some(tmp_path: Path, where: str) -> None:
    (tmp_path / "t.yaml").write_text(EXAMPLES[where])
    assert list(read_templates(tmp_path / "t.yaml")) in (["side", "finding"], ["finding", "side"])


def test_words_in_a_file_are_text_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(
        "effusion:\r\n  - question: Is there any épanchement?\r\n    options: [yes, no]\r\n"
        "    answers: {1: yes, 0: no, -1: }\r\n".encode()
    )
    (template,) = read_templates(path)["effusion"]
    assert template.options == ["yes", "no"]
    assert template.answers == {"1": "yes", "0": "no", "-1": ""}


CASES: list[tuple[str, list[str], list[tuple[str, object]]]] = [
    ("pleural_effusion", ["1", "0", "-1", "1", "0"], [("Is there any pleural effusion?", YES_NO)]),
    ("pleural_effusion", ["1.0", "0.0"], [("Is there any pleural effusion?", YES_NO)]),
    ("Cardiomegaly", ["1"], [("Is there any cardiomegaly?", YES_NO)]),
    ("isMalignant", ["True", "False"], [("Is it malignant?", YES_NO)]),
    ("side", ["left", "right"] * 3, [("On which side is it?", "seen")]),
    ("laterality", ["L", "R", "B"], [("On which side is it?", "seen")]),
    ("eye", ["OD", "OS"], [("Which eye is it?", "seen")]),
    ("severity", ["0", "1", "1"], [("What is the severity?", "seen")]),
    ("size_mm", ["3.5", "12", "4"], [("What is the size in mm?", None)]),
    ("width", ["3 cm", "4 cm"], [("What is the width in cm?", None)]),
    ("width", ["3 cm", "40 mm"], [("What is the width?", None)]),
    ("birads", ["1", "2", "4", "2", "1", "5"], [("What is the birads?", "seen")]),
    (
        "finding",
        ["mass", "cyst", "normal"] * 2,
        [("What is the finding?", "seen"), ("Is there any {value}?", None)],
    ),
    (
        "Finding Labels",
        ["Mass|Edema", "No Finding", "Edema"],
        [("Which of these is shown?", "seen"), ("Is there any {value}?", None)],
    ),
    ("comment", ["a large mass", "two small cysts", "clear"], [("What is the comment?", None)]),
    ("empty", ["", "  "], []),
]


@pytest.mark.parametrize(("column", "cells", "expected"), CASES, ids=lambda c: str(c)[:20])
def test_a_column_without_templates_gets_sensible_questions(
    column: str, cells: list[str], expected: list[tuple[str, object]]
) -> None:
    made = default_questions(column, Counter(cells))
    found = [
        (t.question, tuple(t.options) if isinstance(t.options, list) else t.options) for t in made
    ]
    assert found == expected


def test_words_of_a_columns_name() -> None:
    assert [words_of(c) for c in ("pleuralEffusion_mm", "CT_findings", "side ", "mm")] == [
        "pleural effusion",
        "CT findings",
        "side",
        "mm",
    ]


def test_without_templates_every_column_is_asked_about(tmp_path: Path) -> None:
    images = [
        labelled(n, effusion=str(n % 2), side=("left", "right")[n % 2], size_mm=str(n))
        for n in range(8)
    ]
    expert = opened(config_of(tmp_path, ["effusion", "side", "size_mm"]), images)
    assert said(expert, images[3]) | {"On which side is it?": ()} == {
        "Is there any effusion?": ("yes", YES_NO),
        "On which side is it?": (),
        "What is the size in mm?": ("3 mm", ()),
    }
    answer, options = said(expert, images[3])["On which side is it?"]
    assert (answer, sorted(options)) == ("right", ["left", "right"])


def test_readers_beside_the_table_are_asked_too(tmp_path: Path) -> None:
    config = config_of(tmp_path, ["a"], verdicts={"random": 20})
    assert config.expert.verdicts.random == 20  # type: ignore[union-attr]
    image = labelled(0, a="faint")
    row = answered(image, "What is it?", "a mass", ())
    task = open_expert(config, [image]).rows(image, 1)[0][1]
    expert = opened(config, [image], workspace=tmp_path, gold=[(row, task)])
    assert [t.id for t, _ in expert.rows(image, 9)][-1] == row.id
    item = Item.make(row, None, "random", **ITEM)
    answer = Answer(
        id="1", kind="verdict", reader="r1", at="", item_id=item.id, triplet_id=row.id,
        verdict="accept",
    )  # fmt: skip
    expert.people.journal.append([answer])
    assert expert.opinions([item], {row.id: row}) == [answer]


Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return written


def test_a_configuration_file_names_the_templates_file(write: Write) -> None:
    templates = write("q.yaml", TEMPLATES)
    path = write(
        "ours.yaml",
        f"source: {{path: x, labels: [finding, side, size_mm]}}\n"
        f"expert: {{kind: table, templates: {templates}}}\n",
    )
    section = load(path).expert
    assert section.columns == {"finding", "side", "size_mm"}
