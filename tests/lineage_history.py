"""A random history of a record, and a plain slow answer to a withdrawal."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from engine.records import (
    Consumption,
    Decision,
    Evaluation,
    Item,
    Judgement,
    Model,
    Preference,
    Row,
    Triplet,
    Verdict,
    unique,
)
from tests.lineage_workspace import (
    consumed,
    make_decision,
    make_evaluation,
    make_image,
    make_item,
    make_judgement,
    make_model,
    make_preference,
    make_triplet,
    make_verdict,
)

READERS = ("R1", "R2")


@dataclass
class History:
    """Commits as plain rows: (stage, round, rows) in order."""

    commits: list[tuple[str, int, list[Any]]] = field(default_factory=list)

    def of(self, row_type: type[Row]) -> list[tuple[int, Any]]:
        """(sequence, row) of a type."""
        return [
            (n, row) for n, (_, _, rows) in enumerate(self.commits) for row in rows
            if type(row) is row_type
        ]  # fmt: skip

    def round_of(self, sequence: int) -> int:
        return self.commits[sequence][1]

    def promises(self, sequence: int) -> bool:
        """Whether a selection certified its threshold: every second one."""
        stage = self.commits[sequence][0]
        return stage.startswith("select") and int(stage.removeprefix("select")) % 2 == 0


def random_history(rng: random.Random) -> History:
    """Stages in any order, rows that name any earlier row, checkpoints within a training."""
    images = [
        make_image(n, f"g{n // 2}") if n < 6 else make_image(n, f"g{n}")
        for n in range(rng.randint(4, 10))
    ]
    history = History([("ingest", 0, list(images))])
    triplets: list[Triplet] = []
    preferences: list[Preference] = []
    verdicts: list[Verdict] = []
    models: list[Model] = [make_model("base", "base", None, 0, None)]
    history.commits.append(("base", 0, list(models)))
    for number in range(rng.randint(8, 24)):
        round = rng.randint(0, 1)
        writer = rng.choice(models)
        kind = rng.choice(
            ["generate", "judge", "select", "select", "compare", "collect", "collect", "train",
             "train", "evaluate"]
        )  # fmt: skip
        rows: list[Any] = []
        if kind == "generate":
            for sample in range(rng.randint(1, 4)):
                more: dict[str, Any] = {}
                who = rng.choice([writer.id, "expert"])
                if triplets and rng.random() < 0.3:
                    source = rng.choice([rng.choice(triplets).id, rng.choice(images).id])
                    more, who = {"derived_from": (source,)}, "perturbed"
                rows.append(
                    make_triplet(rng.choice(images), who, sample + 10 * number, round, **more)
                )
            triplets += rows
        elif kind == "judge":
            some = rng.sample(triplets, rng.randint(0, len(triplets)))
            rows = [make_judgement(t, writer) for t in some]
        elif kind == "select":
            some = rng.sample(triplets, rng.randint(0, len(triplets)))
            rows = [make_decision(t, rng.random() < 0.5, round) for t in some]
        elif kind == "compare" and len(triplets) > 1:
            pairs = [rng.sample(triplets, 2) for _ in range(rng.randint(1, 3))]
            rows = unique([make_preference(a, b, rng.random() < 0.3) for a, b in pairs])
            preferences += rows
        elif kind == "collect" and triplets:
            rows = random_opinions(rng, round, triplets)
            triplets += [row for row in rows if isinstance(row, Triplet)]
            preferences += [row for row in rows if isinstance(row, Preference)]
            verdicts += [row for row in rows if isinstance(row, Verdict)]
        elif kind == "evaluate":
            rows = [make_evaluation(rng.choice(images), writer, number)]
        elif kind == "train":
            opinions = [*preferences, *verdicts]
            rows = random_training(rng, number, round, writer, triplets, opinions, models)
            models += [row for row in rows if isinstance(row, Model)]
        if rows:
            history.commits.append((f"{kind}{number}", round, rows))
    return history


def random_opinions(rng: random.Random, round: int, triplets: list[Triplet]) -> list[Any]:
    """Items about some rows, a reader's opinion of each, and what came of it."""
    rows: list[Any] = []
    for row in rng.sample(triplets, rng.randint(1, min(3, len(triplets)))):
        reader = rng.choice(READERS)
        if rng.random() < 0.2:
            other = rng.choice(triplets)
            item = make_item(row, "informative", round, other)
            pair = make_preference(row, other)
            said = {
                "expert": reader,
                "at": "" if round else "2026-11-26T10:00:00Z",
                "item_id": item.id,
            }
            rows += [item, replace(pair, id=f"{pair.id}{reader}{round}", **said)]
            continue
        item = make_item(row, rng.choice(["random", "random", "informative", "test"]), round)
        correction = rng.choice(["", "maybe"])
        word = "reject" if correction else rng.choice(["accept", "reject", "cannot tell"])
        more = {"correction": correction, "repeat": rng.random() < 0.1}
        rows += [item, make_verdict(item, reader, word, **more)]
        if word == "accept" or correction:
            answer = correction or row.answer
            gold = replace(row, generator_id="expert", derived_from=(row.id,), answer=answer)
            rows.append(replace(gold, id=f"gold {row.id} {answer}"))
    return unique(rows)


def random_training(
    rng: random.Random,
    number: int,
    round: int,
    parent: Model,
    triplets: list[Triplet],
    opinions: list[Any],
    models: list[Model],
) -> list[Any]:
    """One training's checkpoints and the rows it saw, each from some step on."""
    role = rng.choice(["sft", "judge"])
    pool: list[Any] = [*(triplets if role == "sft" else opinions)]
    if role == "sft" and rng.random() < 0.3:
        pool.append(rng.choice(models))
    seen = rng.sample(pool, rng.randint(0, len(pool)))
    last = rng.choice([None, 30])
    final = make_model(f"m{number}", role, parent.id, round, last)
    early = [
        make_model(f"m{number}at{step}", role, parent.id, round, step)
        for step in rng.sample((10, 20), rng.randint(0, 2))
    ]
    used = [c for row in seen for c in consumed(final, [row], rng.choice([None, 1, 5, 15, 25]))]
    return [*early, final, *used]


@dataclass
class Slow:
    """A withdrawal's answer by sets and loops over plain rows, one rule after the other."""

    history: History
    images: set[str]
    reader: str = ""
    triplets: set[str] = field(default_factory=set)
    preferences: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    verdicts: set[str] = field(default_factory=set)
    evaluations: set[str] = field(default_factory=set)
    derived: set[str] = field(default_factory=set)
    tainted: set[str] = field(default_factory=set)

    def answer(self) -> Slow:
        while self._grow_tier_1():
            pass
        self.tainted = set(self.derived)
        while self._grow_tier_2():
            pass
        return self

    def _saw(self, sequence: int, model: Model, rows: set[str]) -> bool:
        return any(
            at == sequence
            and use.row_id in rows
            and (model.step is None or (use.first_step or 0) <= model.step)
            for at, use in self.history.of(Consumption)
        )

    def _grow_tier_1(self) -> bool:
        before = self._sizes()
        rows = {t.id: t for _, t in self.history.of(Triplet)}
        for t in rows.values():
            if t.image_id in self.images or set(t.derived_from) & (self.triplets | self.images):
                self.triplets.add(t.id)
            if any(self._came_of(t, rows, v) for _, v in self.history.of(Verdict)):
                self.triplets.add(t.id)
        for _, p in self.history.of(Preference):
            said = (p.item_id or p.at) and p.expert == self.reader
            if p.image_id in self.images or {p.chosen_id, p.rejected_id} & self.triplets or said:
                self.preferences.add(p.id)
        for _, i in self.history.of(Item):
            if i.image_id in self.images or {i.triplet_id, i.other_id} & self.triplets:
                self.items.add(i.id)
        for _, v in self.history.of(Verdict):
            if (
                v.image_id in self.images
                or v.triplet_id in self.triplets
                or v.expert == self.reader
            ):
                self.verdicts.add(v.id)
        for _, e in self.history.of(Evaluation):
            gold = [rows[i] for i in self.triplets if rows[i].generator_id == "expert"]
            asked = {(t.image_id, t.question, t.answer) for t in gold}
            if e.image_id in self.images or (e.image_id, e.question, e.gold) in asked:
                self.evaluations.add(e.id)
        for sequence, m in self.history.of(Model):
            if m.parent_id in self.derived or self._saw(sequence, m, self.triplets):
                self.derived.add(m.id)
        return before != self._sizes()

    def _sizes(self) -> tuple[int, ...]:
        sets = (self.triplets, self.preferences, self.items, self.verdicts, self.derived)
        return (*map(len, sets), len(self.evaluations))

    def _came_of(self, row: Triplet, rows: dict[str, Triplet], verdict: Verdict) -> bool:
        """Whether an expert's row was made of one by a verdict of the reader."""
        if verdict.expert != self.reader or row.generator_id != "expert":
            return False
        if verdict.triplet_id not in row.derived_from:
            return False
        same = row.answer == rows[verdict.triplet_id].answer
        return bool(verdict.correction) or (verdict.verdict == "accept" and same)

    def after_a_tainted_judge(self, sequence: int) -> bool:
        """Whether a tainted judge judged in the round of a stage before it."""
        number = self.history.round_of(sequence)
        return any(
            j.judge_id in self.tainted and at < sequence and self.history.round_of(at) == number
            for at, j in self.history.of(Judgement)
        )

    def written(self) -> set[str]:
        """Triplets that a tainted model wrote, and what was made from these."""
        rows = {t.id for _, t in self.history.of(Triplet) if t.generator_id in self.tainted}
        while True:
            more = {t.id for _, t in self.history.of(Triplet) if set(t.derived_from) & rows} - rows
            if not more:
                return rows
            rows |= more

    def _reaches(self, sequence: int, model: Model) -> bool:
        written = self.written()
        said = {row.id: (at, row) for t in (Preference, Verdict) for at, row in self.history.of(t)}
        tier_1 = self.preferences | self.verdicts
        for at, use in self.history.of(Consumption):
            if at != sequence or (model.step is not None and (use.first_step or 0) > model.step):
                continue
            if use.row_table == "models" and use.row_id in self.tainted:
                return True
            rows = {use.row_id}
            if use.row_table in ("preferences", "verdicts"):
                made_at, row = said[use.row_id]
                if use.row_id in tier_1 or self.after_a_tainted_judge(made_at):
                    return True
                two = isinstance(row, Preference)
                rows = {row.chosen_id, row.rejected_id} if two else {row.triplet_id}
            if rows & written or self._decided(rows, sequence):
                return True
        heard = [at for at, p in self.history.of(Preference) if p.holdout and p.id in tier_1]
        heard += [
            at
            for at, v in self.history.of(Verdict)
            if v.id in tier_1 and v.stream != "test" and not v.repeat
        ]
        return model.role == "judge" and any(at <= sequence for at in heard)

    def _certified(self, sequence: int) -> bool:
        """Whether a random verdict of tier 1 certified the threshold of a stage of its round."""
        return self.history.promises(sequence) and any(
            v.id in self.verdicts and v.stream == "random" and not v.repeat and at < sequence
            and v.round == self.history.round_of(sequence)
            for at, v in self.history.of(Verdict)
        )  # fmt: skip

    def _decided(self, rows: set[str], before: int) -> bool:
        """Whether a decision on any of the rows, or their sources, rests on a tainted judge."""
        sources = {t.id: set(t.derived_from) for _, t in self.history.of(Triplet)}
        while True:
            more = {s for row in rows for s in sources.get(row, set())} - rows
            if not more:
                break
            rows = rows | more
        return any(
            d.triplet_id in rows
            and at < before
            and (self.after_a_tainted_judge(at) or self._certified(at))
            for at, d in self.history.of(Decision)
        )

    def _grow_tier_2(self) -> bool:
        before = len(self.tainted)
        for sequence, m in self.history.of(Model):
            if m.parent_id in self.tainted or self._reaches(sequence, m):
                self.tainted.add(m.id)
        return len(self.tainted) != before

    def clean_ancestor(self) -> str | None:
        """The newest model that is in neither tier and that a tainted one descends from."""
        known = {m.id: (s, m) for s, m in reversed(self.history.of(Model))}
        found = []
        for name in self.tainted:
            while name in self.tainted:
                name = known[name][1].parent_id
            if name is not None:
                sequence, m = known[name]
                found.append((sequence, float("inf") if m.step is None else m.step, name))
        return max(found)[2] if found else None
