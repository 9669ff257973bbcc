"""Labels put into questions: templates (`engine.config.templates`) and an image's cells make gold.

What else may be offered or said comes from training images alone: their values, as often as they
are there. Which wording, which value and which options an image gets is drawn by its id, word by
word, so that an image that is new or withdrawn changes few of another's questions.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import log

from engine.answers.gold import gold_problem
from engine.answers.spelling import normalise_question
from engine.config.templates import ANY, PLACE, VALUE, YES_NO, Templates, key_of
from engine.question_types import UNKNOWN, found_type
from engine.records import content_id
from reward_model.experts.gold import Gold

Turn = Callable[[str], float]
Labels = Mapping[str, str]  # an image's cells by column, none empty
Name = tuple[str, int]  # a template: its column, and which of the column's it is
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that a template has for an image, in one of its wordings.

    `right` are the values that the cell has, in words. `value` is the one that the question is
    about, where it is about one, and is answered by whether it is among the right ones.
    """

    name: Name
    question: str
    right: tuple[str, ...]
    value: str = ""

    @property
    def answer(self) -> str:
        """The answer where no options are given."""
        if self.value:
            return YES_NO[key_of(self.value) not in map(key_of, self.right)]
        return ", ".join(self.right)


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of an image, and which cells say nothing that can be used, and why."""

    gold: list[Gold] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def labels_of(text: str | None) -> dict[str, str]:
    """The cells of `Image.labels`."""
    return dict(json.loads(text)) if text else {}


class LabelQuestions:
    """Templates, and what they can be answered with.

    `training` are the labels of training images, with how many have them.
    """

    def __init__(self, templates: Templates, training: Iterable[tuple[Labels, int]] = ()) -> None:
        self.templates = {(c, n): t for c, asked in templates.items() for n, t in enumerate(asked)}
        self._nothing = {n: set(map(key_of, t.nothing)) for n, t in self.templates.items()}
        self._mapped = {
            name: dict.fromkeys(self._nothing[name], "")
            | {key_of(cell): words.strip() for cell, words in template.answers.items()}
            for name, template in self.templates.items()
        }
        self.seen: dict[Name, Counter[str]] = defaultdict(Counter)  # words by how often
        self._rows: Counter[Name] = Counter()
        for labels, number in training:
            for name, template in self.templates.items():
                right = self._right(name, labels)
                words = right or ()
                self._rows[name] += number * (right is not None)
                whole = template.options is None and not template.asks_presence
                for word in (", ".join(words),) if whole and words else words:
                    self.seen[name][word] += number
        for name, counts in self.seen.items():
            self.seen[name] = _one_spelling(counts)

    def _parts(self, column: str, cell: str) -> list[str]:
        """The values of a cell, as they are written."""
        marks = [t.separator for (c, _), t in self.templates.items() if c == column and t.separator]
        parts = cell.split(marks[0]) if marks else [cell]
        return [part for part in map(str.strip, parts) if part]

    def _words(self, name: Name, cell: str) -> tuple[str, ...]:
        """What a cell says in words, each once; none of a value that is not asked about."""
        mapped, unit = self._mapped[name], self.templates[name].unit
        found: dict[str, str] = {}
        for part in self._parts(name[0], cell):
            word = mapped.get(key_of(part), plain(part))
            if unit and _NUMBER.fullmatch(word):
                word = f"{word} {unit}"
            if word:
                found.setdefault(key_of(word), word)
        return tuple(found.values())

    def _right(self, name: Name, labels: Labels) -> tuple[str, ...] | None:
        """What an image's cell says; None where the template does not ask about the image."""
        template, cell = self.templates[name], labels.get(name[0], "")
        if not all(self._holds(*condition, labels) for condition in template.when.items()):
            return None
        words = self._words(name, cell)
        if words or not template.asks_presence:
            return words or None
        nothing = self._nothing[name] & set(map(key_of, self._parts(name[0], cell)))
        return () if nothing else None

    def _holds(self, column: str, values: list[str], labels: Labels) -> bool:
        """Whether a column says one of some values, or anything."""
        said = set(map(key_of, self._parts(column, labels.get(column, ""))))
        return bool(said and (ANY in values or said & set(map(key_of, values))))

    def asked(self, labels: Labels) -> dict[Name, list[Asked]]:
        """By template all that it may ask about an image: each wording, each value."""
        return {
            name: found for name in self.templates if (found := list(self._asked(name, labels)))
        }

    def _asked(self, name: Name, labels: Labels) -> Iterable[Asked]:
        right = self._right(name, labels)
        if right is None:
            return
        for words in self.templates[name].wordings:
            others = set(PLACE.findall(words)) - {VALUE}
            places = {other: self._said(other, labels) for other in others}
            if not all(places.values()):
                continue
            if VALUE not in PLACE.findall(words):
                yield Asked(name, _filled(words, places), right)
                continue
            for value in dict.fromkeys((*right, *sorted(self.seen[name]))):
                yield Asked(name, _filled(words, places | {VALUE: value}), right, value)

    def _said(self, column: str, labels: Labels) -> str:
        """What a column says, as its first template has it in words."""
        cell = labels.get(column, "").strip()
        name = (column, 0)
        words = self._words(name, cell) if name in self.templates and cell else (plain(cell),)
        return " and ".join(filter(None, words))

    def of(self, labels: Labels, image_id: str) -> Told:
        """What is known of an image. Each template asks once, with `{value}` at most twice."""
        found: list[tuple[str, Gold]] = []
        problems: list[str] = []
        for name, asked in self.asked(labels).items():
            turn = partial(_turn, image_id, *name)
            for one in self._drawn(asked, turn):
                gold = self._gold(one, turn)
                if isinstance(gold, str):
                    problems.append(f"{name[0]}: {gold}")
                elif gold:
                    found.append((name[0], gold))
        agreed, against = _agreeing(found)
        agreed.sort(key=lambda gold: _turn(image_id, gold.question))
        return Told(agreed, problems + against)

    def _drawn(self, asked: list[Asked], turn: Turn) -> list[Asked]:
        """One of a template's questions; of those about a value one to say yes to, one no."""
        whole = [one for one in asked if not one.value]
        yes = [one for one in asked if one.value and one.answer == YES_NO[0]]
        no = [one for one in asked if one.value and one.answer == YES_NO[1]]
        first = [min(some, key=lambda one: turn(one.question)) for some in (whole, yes) if some]
        # A value is denied about as often as it is met with, or its name would tell the answer:
        # of exponential waits the shortest is that of a value with odds in proportion to its rate.
        wait = [-log(turn(one.question)) / self._odds(one) for one in no]
        return first + ([no[wait.index(min(wait))]] if no else [])

    def _odds(self, one: Asked) -> float:
        """The odds that a training image has the value."""
        there = self.seen[one.name][one.value]
        return there / max(self._rows[one.name] - there, 1)

    def _gold(self, one: Asked, turn: Turn) -> Gold | str | None:
        """A question with its answer, or why the cell gives none.

        None where nothing is wrong with the cell: training images have no other value to offer.
        """
        template, answer = self.templates[one.name], one.answer
        options: tuple[str, ...] = ()
        if one.value:
            options = YES_NO
        elif template.options is not None:
            answer, options = self._offered(one, turn)
            if isinstance(template.options, list):
                if not answer:
                    return f"{one.right[0]!r} is none of the options"
                if len(options) < 2:
                    return "all options are right"
            elif len(options) < 2:
                return None
        return _checked(one.question, options, answer, template.question_type)

    def _offered(self, one: Asked, turn: Turn) -> tuple[str, tuple[str, ...]]:
        """The answer, "" where no option is, and the options, of which no other is right."""
        template, right = self.templates[one.name], set(map(key_of, one.right))
        if isinstance(template.options, list):
            true = [option for option in template.options if key_of(option) in right]
            answer = min(true, key=turn, default="")
            wrong = [option for option in template.options if key_of(option) not in right]
            return answer, tuple(o for o in template.options if o == answer or o in wrong)
        answer = min(one.right, key=turn)
        wrong = [word for word in self.seen[one.name] if key_of(word) not in right]
        shown = [answer, *sorted(wrong, key=turn)[: template.offered - 1]]
        return answer, tuple(sorted(shown, key=lambda word: turn(f"place of {word}")))

    def unasked(self) -> list[str]:
        """Columns with a question that cannot be asked: no two values to choose from."""
        return sorted(
            {
                column
                for (column, n), template in self.templates.items()
                if template.options == "seen" and len(self.seen[column, n]) < 2
            }
        )

    def find(self, labels: Labels, question: str) -> Asked | None:
        """Which of the templates' questions about an image this is; None where it is none."""
        wanted = normalise_question(question)
        every = (one for asked in self.asked(labels).values() for one in asked)
        return next((one for one in every if normalise_question(one.question) == wanted), None)


@lru_cache(maxsize=1 << 14)  # the images of a table are asked the same few questions
def _checked(question: str, options: tuple[str, ...], answer: str, kind: str | None) -> Gold | str:
    """Texts as gold, or why they cannot be."""
    kind = kind or found_type(question)
    kind = "attribute" if kind == UNKNOWN else kind
    return gold_problem(question, options, answer) or Gold(question, options, answer, kind)


def _turn(image_id: str, *what: object) -> float:
    """A number in (0, 1) that an image draws for something, whatever else there is to draw from."""
    return (int(content_id("labels", image_id, *what)[:13], 16) + 0.5) / 16**13


def plain(cell: str) -> str:
    """A cell as words: no underscores, 2.0 as 2."""
    whole = _WHOLE.fullmatch(cell.strip())
    return whole[1] if whole else " ".join(cell.replace("_", " ").split())


def _one_spelling(counts: Counter[str]) -> Counter[str]:
    """Words that say the same under the one that is there most often."""
    first: dict[str, str] = {}
    found: Counter[str] = Counter()
    for word, number in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        found[first.setdefault(key_of(word), word)] += number
    return found


def _filled(words: str, places: Mapping[str, str]) -> str:
    return PLACE.sub(lambda found: places[found[1]], words)


def _agreeing(found: list[tuple[str, Gold]]) -> tuple[list[Gold], list[str]]:
    """Each question once, none that two columns answer differently, and which these are."""
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    once: dict[str, Gold] = {}
    for column, gold in found:
        asked = normalise_question(gold.question)
        answers[asked].setdefault(key_of(gold.answer), column)
        once.setdefault(asked, gold)
    against = [asked for asked, said in answers.items() if len(said) > 1]
    columns = [" and ".join(dict.fromkeys(answers[asked].values())) for asked in against]
    agreed = [gold for asked, gold in once.items() if asked not in against]
    return agreed, [f"{named}: contradict each other" for named in columns]
