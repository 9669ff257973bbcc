"""A workspace that readers answered in: rows of the record, and the same answers in its journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.hub.publish import publish
from engine.lineage.opening import writing
from engine.records import Item
from engine.workspace import Workspace
from reward_model.journal import Journal
from reward_model.preferences import derived
from reward_model.verdicts import FIRST, Answer, preferences_of, verdict_of
from tests.lineage_workspace import (
    PROMPT,
    TASK,
    commit,
    consumed,
    make_decision,
    make_evaluation,
    make_image,
    make_item,
    make_judgement,
    make_model,
    make_triplet,
)

CONFIG = {"name": "made", "seed": 0, "expert": {"kind": "people"}}
AT = "2026-11-26T10:00:00.000Z"


def verdict(item: Item, reader: str, word: str = "accept", **more: Any) -> Answer:
    return Answer(
        id=f"{reader} {item.id[:6]}", kind="verdict", reader=reader, at=AT, item_id=item.id,
        triplet_id=item.triplet_id, verdict=word, **more,
    )  # fmt: skip


def read_workspace(root: Path) -> Workspace:
    """Readers R1 and R2 on three patients, 0 and 1 in training and 2 for the test; a round after
    them, with a random verdict of R4. An answer of R3 is in the journal alone.
    """
    images = [
        replace(make_image(n, f"g{n}", ("train", "train", "test")[n]), patient=f"p{n}")
        for n in range(3)
    ]
    base = make_model("base", "base", None, 0, None)
    rows = [make_triplet(i, base.id, n, 0) for i in images for n in (0, 1)]
    items = [
        make_item(rows[0], "informative", 0),
        make_item(rows[2], "informative", 0),
        make_item(rows[4], "test", 0),
        make_item(rows[0], "informative", 0, rows[1]),
    ]
    answers = [
        verdict(items[0], "R1", "reject", correction="yes", comment="Mrs Miller's own scan"),
        verdict(items[1], "R2"),
        verdict(items[2], "R1", "reject", correction="yes"),
        replace(
            verdict(items[3], "R2", ""), kind="preference", other_id=rows[1].id,
            preferences={"factuality": FIRST}, comment="both name the patient",
        ),
    ]  # fmt: skip
    by_id, asked = {row.id: row for row in rows}, {item.id: item for item in items}
    verdicts = [verdict_of(a, asked[a.item_id], by_id[a.triplet_id]) for a in answers[:3]]
    pairs = preferences_of(answers[3], items[3], by_id, images[0])
    gold = [derived(rows[0], "expert", answer="yes"), derived(rows[2], "expert")]
    gold.append(derived(rows[4], "expert", answer="yes"))
    judge, sft = make_model("judge", "judge", base.id, 0, 5), make_model("s", "sft", base.id, 1, 9)
    later = [make_triplet(i, base.id, n, 1) for i in images[:2] for n in (2, 3)]
    drawn = make_item(later[2], "random", 1)
    said = verdict(drawn, "R4", "cannot tell")
    with writing(root, "made", CONFIG) as workspace:
        commit(workspace, "ingest", 0, [*images, base])
        commit(workspace, "compare", 0, [*rows, PROMPT, TASK])
        commit(workspace, "consult", 0, [*items])
        commit(workspace, "collect", 0, [*verdicts, *pairs, *gold])
        learned = [v for v in verdicts if v.stream == "informative"] + pairs
        commit(workspace, "reward", 0, [judge, *consumed(judge, learned)])
        commit(workspace, "generate", 1, [*later])
        commit(workspace, "judge", 1, [make_judgement(t, judge) for t in later])
        commit(workspace, "consult", 1, [drawn])
        commit(workspace, "collect", 1, [verdict_of(said, drawn, later[2])])
        commit(
            workspace,
            "select",
            1,
            [make_decision(t, True, 1) for t in later],
            certificates=[{"words": "…"}],
        )
        commit(workspace, "sft", 1, [sft, *consumed(sft, [gold[0], *later])])
        test = replace(make_evaluation(images[2], sft, 1), gold="yes")
        commit(workspace, "evaluate", 1, [test])
        publish(workspace)
    Journal(workspace.root).append([*answers, said, verdict(items[1], "R3")])
    return Workspace.existing(workspace.root)
