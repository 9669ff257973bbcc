"""The labels of the table beside the images as an expert, and readers beside it.

Its questions are the templates' (`expert.templates`), or one a column where there are none. What a
label says is known as surely as the table is right: it teaches, and where a generator asks one of
the templates' questions, without reasoning of its own, the label tells whether the answer is right.
Rows that measure (drawn at random, or of the test set) are for readers alone, who saw the image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from engine.answers.matching import is_correct, resolve
from engine.config.expert import FromTable
from engine.config.templates import YES_NO, Templates, key_of
from engine.records import Image, Item, Triplet, content_id
from reward_model.experts.default_questions import default_questions
from reward_model.experts.expert import Exemplar
from reward_model.experts.gold import Gold, GoldExpert
from reward_model.experts.label_questions import Asked, LabelQuestions, Labels, labels_of
from reward_model.experts.people import PeopleExpert
from reward_model.verdicts import ACCEPT, INFORMATIVE, REJECT, VERDICT, Answer

READER = "labels"  # as an opinion is signed


def questions_about(
    templates: Templates | None, columns: Sequence[str], training: Mapping[str, int]
) -> LabelQuestions:
    """The templates, or one question a column, with what training images have in these columns.

    `training` are their labels, as `Image.labels`, by how many have them.
    """
    rows = [(labels_of(text), number) for text, number in training.items()]
    if templates is None:
        cells: dict[str, Counter[str]] = defaultdict(Counter)
        for labels, number in rows:
            for column, cell in labels.items():
                cells[column][cell] += number
        templates = {column: default_questions(column, cells[column]) for column in columns}
    return LabelQuestions(templates, rows)


class TableExpert(GoldExpert):
    """Gold answers from labels."""

    def __init__(
        self,
        section: FromTable,
        columns: Sequence[str],
        images: Iterable[Image],
        people: PeopleExpert,
    ) -> None:
        super().__init__()
        self.people = people
        self.labels: dict[str, str] = {}  # by image
        same: dict[str, str] = {}  # one text for all images that have it
        training: Counter[str] = Counter()
        for image in images:
            if image.labels:
                text = same.setdefault(image.labels, image.labels)
                self.labels[image.id] = text
                training[text] += image.split == "train"
                self.meet(image)
        self.questions = questions_about(section.templates, columns, +training)

    def knows(self, image_id: str, source: str) -> bool:
        return image_id in self.labels or self.people.knows(image_id, source)

    def gold(self, image: Image) -> list[Gold]:
        return self.questions.of(labels_of(image.labels), image.id).gold

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        """Rows from labels, then those that readers accepted or corrected."""
        own = super().rows(image, number, as_asked)
        return own + self.people.rows(image, number - len(own))

    def opinions(self, items: Sequence[Item], rows: Mapping[str, Triplet]) -> list[Answer]:
        """What readers answered, and what labels tell of other rows that teach."""
        said = self.people.opinions(items, rows)
        answered = {answer.item_id for answer in said}
        left = [i for i in items if i.kind == VERDICT and i.id not in answered]
        teaches = [item for item in left if item.stream == INFORMATIVE]
        return said + [a for i in teaches if (a := self._answer(i, rows[i.triplet_id]))]

    def _answer(self, item: Item, row: Triplet) -> Answer | None:
        """Whether a row's answer is right by the label; None where the label does not tell."""
        if row.rationale:  # of which a label says nothing
            return None
        asked = self.questions.find(self._labels(row.image_id), row.question)
        told = self._told(asked, row) if asked else None
        if told is None:
            return None
        right, correction = told
        return Answer(
            id=content_id("answer", item.id, READER),
            kind=VERDICT,
            reader=READER,
            at="",
            item_id=item.id,
            triplet_id=row.id,
            verdict=ACCEPT if right else REJECT,
            reasons=() if right else ("wrong finding",),
            correction="" if right else correction,
        )

    def _told(self, asked: Asked, row: Triplet) -> tuple[bool, str] | None:
        """(whether a row's answer is right, the right one), None where that cannot be told."""
        true = [asked.answer] if asked.value else list(asked.right)
        if row.options:
            named = {resolve(word, row.options) for word in true} - {None}
            said = resolve(row.answer, row.options)
            return (said in named, str(*named)) if len(named) == 1 and said else None
        if is_correct(row.answer, asked.answer):
            return True, ""
        pool = YES_NO if asked.value else self.questions.seen[asked.name]
        known = key_of(row.answer) in map(key_of, pool)  # else it may be the same in other words
        return (False, asked.answer) if known and len(true) == 1 else None

    def _labels(self, image_id: str) -> Labels:
        return labels_of(self.labels.get(image_id))
