"""Collect: what experts said since the stage before, as rows; where people have not answered yet,
the run ends here and goes on when they have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from engine.answers.matching import is_valid, resolve
from engine.errors import PeopleWanted
from engine.records import Item, Preference, Task, Triplet, Verdict, unique
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.record import expert_of, images_of, triplets_by_id
from reward_model.agreement import agreements, recorded
from reward_model.experts import reads_journal
from reward_model.experts.expert import EXPERT
from reward_model.preferences import derived
from reward_model.threshold import answer_key
from reward_model.verdicts import (
    ACCEPT,
    CANNOT_TELL,
    PREFERENCE,
    RANDOM,
    REASONING_WRONG,
    REJECT,
    TEST,
    Answer,
    preferences_of,
    verdict_of,
    wanted,
)


def collect(context: Context, stage: Stage) -> None:
    """Verdicts and preferences that are in no earlier commit, and the rows that came of them.

    Raises PeopleWanted where an item of this round has too few answers.
    """
    items = {item.id: item for item in context.rows(Item)}
    rows = triplets_by_id(context, _asked_about(items.values()))
    listened = items or reads_journal(context.config)  # an expert knows all images: opened if asked
    answers = expert_of(context).opinions(list(items.values()), rows) if listened else []
    _check_answered(context, [i for i in items.values() if i.round == stage.round], answers)
    given = [i for a in answers if not a.item_id for i in (a.triplet_id, a.other_id) if i]
    rows |= triplets_by_id(context, given)
    images = images_of(context, [row.image_id for row in rows.values()])
    verdicts: list[Verdict] = []
    preferences: list[Preference] = []
    for answer in answers:
        item, row = items.get(answer.item_id), rows.get(answer.triplet_id)
        if row is None or row.image_id not in images or answer.other_id not in {"", *rows}:
            continue  # withdrawn since
        if answer.kind == PREFERENCE:
            preferences += preferences_of(answer, item, rows, images[row.image_id])
        else:
            verdicts.append(verdict_of(answer, item, row))
    before = context.rows(Verdict)
    known = {v.id for v in before} | {p.id for p in context.rows(Preference) if p.item_id}
    verdicts = [v for v in unique(verdicts) if v.id not in known]
    preferences = [p for p in unique(preferences) if p.id not in known]
    stage.write(Verdict, verdicts)
    stage.write(Preference, preferences)
    fresh = {v.triplet_id for v in verdicts}
    gold = gold_rows([v for v in [*before, *verdicts] if v.triplet_id in fresh], items, rows)
    there = triplets_by_id(context, [row.id for row in gold])
    gold = [row for row in gold if row.id not in there]
    stage.write(Triplet, gold)
    tasks = {task.id: task for task in context.rows(Task)}
    stage.write(Task, unique([tasks[row.task_id] for row in gold]))
    stage.metrics = {
        "verdicts": len(verdicts),
        "preferences": len(preferences),
        "gold": len(gold),
        "accepted": sum(v.verdict == ACCEPT for v in verdicts),
        "rejected": sum(v.verdict == REJECT for v in verdicts),
        "readers": len({v.expert for v in verdicts} | {p.expert for p in preferences}),
        "streams": dict(Counter(v.stream for v in verdicts)),
    }
    patients = {
        name: images[row.image_id].group for name, row in rows.items() if row.image_id in images
    }
    if told := recorded(agreements(answers, patients)):
        stage.metrics["agreement"] = told


def _asked_about(items: Iterable[Item]) -> list[str]:
    return [i for item in items for i in (item.triplet_id, item.other_id) if i]


def _check_answered(context: Context, items: list[Item], answers: list[Answer]) -> None:
    """Raise PeopleWanted where an item has fewer answers than it is to have."""
    left = wanted(items, answers)
    if left:
        root = context.workspace.root
        raise PeopleWanted(
            f"{sum(left.values())} answers are wanted of {sum(i.readers for i in items)} about "
            f"{len(items)} rows: give them with `triptych annotate -w {root}`, then give the same "
            "command again"
        )


def gold_rows(
    verdicts: Iterable[Verdict], items: Mapping[str, Item], rows: Mapping[str, Triplet]
) -> list[Triplet]:
    """Rows that are an expert's now: with the right answer, or as they are where accepted.

    `verdicts` are all on a row, and all who could tell have to agree on its answer. Where one of
    them finds the reasoning wrong it is left out. On a question of the test set as many have to
    agree as were to answer it. A row that was drawn at random and accepted stays a generated one,
    which selection decides on.
    """
    said: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if not verdict.repeat and verdict.verdict != CANNOT_TELL:
            said[verdict.triplet_id].append(verdict)
    found = []
    for name, some in said.items():
        least = max(items[v.item_id].readers if v.stream == TEST else 1 for v in some)
        accepted = all(v.verdict == ACCEPT for v in some)
        gold = [_gold(rows[name], verdict) for verdict in some]
        told = [row for row in gold if row is not None]
        agreed = len(told) == len(gold) and len({answer_key(row) for row in told}) == 1
        if agreed and len(told) >= least and not (accepted and some[0].stream == RANDOM):
            found.append(min(told, key=lambda row: bool(row.rationale)))
    return unique(found)


def _gold(row: Triplet, verdict: Verdict) -> Triplet | None:
    """The row that a verdict makes of one; None where it has no right answer."""
    if verdict.verdict == ACCEPT:
        return derived(row, EXPERT)
    if verdict.correction and is_valid(verdict.correction, row.options):
        answer = resolve(verdict.correction, row.options) or verdict.correction
        return derived(row, EXPERT, answer=answer, rationale="")
    if set(verdict.reasons) == {REASONING_WRONG}:
        return derived(row, EXPERT, rationale="")
    return None
