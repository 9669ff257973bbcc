"""Items, rows and what was said of them, and how a file of it is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reward_model.exchange import csv
from reward_model.exchange.given import Given
from reward_model.exchange.opinions import Known, Taken, answers_of, key_of, row_of, said
from reward_model.verdicts import Answer
from tests.lineage_workspace import make_image, make_item, make_triplet

IMAGE, OTHER_IMAGE = make_image(0, "g0"), make_image(1, "g1")
ROWS = [make_triplet(IMAGE, "m", n, 0) for n in (0, 1)] + [make_triplet(OTHER_IMAGE, "m", 0, 0)]
ORGAN = {"question": "Which organ is shown?", "options": (), "answer": "liver"}
OPEN = replace(make_triplet(OTHER_IMAGE, "m", 5, 0), **ORGAN)  # type: ignore[arg-type]
ITEMS = [
    make_item(ROWS[0], "random", 1),
    make_item(ROWS[0], "informative", 0, ROWS[1]),
    make_item(OPEN, "test", 0),
]
ITEM = ITEMS[0].id
AT = "2026-11-26T10:00:00.000Z"
KNOWN = Known(ITEMS, [*ROWS, OPEN])


def verdict(**more: Any) -> Answer:
    values = {"id": "", "kind": "verdict", "reader": "R1", "at": AT, "item_id": ITEMS[0].id}
    answer = Answer(**values | {"triplet_id": ROWS[0].id, "verdict": "reject"} | more)
    return replace(answer, id=key_of(answer))


def preference(**more: Any) -> Answer:
    about = {"triplet_id": ROWS[0].id, "other_id": ROWS[1].id, "item_id": ITEMS[1].id}
    return verdict(**{"kind": "preference", "verdict": ""} | about | more)


ANSWERS = [
    verdict(reasons=("wrong side", "not visible"), correction="yes", seconds=4.25),
    verdict(reader="R2", verdict="accept", comment='=1+1\n"quoted"; über, \u201codd\u201d'),
    verdict(reader="R2", verdict="cannot tell", repeat=True, at="2026-11-27T10:00:00.123Z"),
    verdict(item_id="", triplet_id=ROWS[2].id, verdict="accept"),
    preference(preferences={"factuality": "first", "relevance": "cannot tell"}),
    preference(reader="R2", preferences={"factuality": "tie", "reasoning": "both bad"}),
    verdict(item_id=ITEMS[2].id, triplet_id=OPEN.id, correction="the spleen"),
]


def rows_of(answers: list[Answer]) -> list[dict[str, object]]:
    items, rows = {i.id: i for i in ITEMS}, {r.id: r for r in KNOWN.rows}
    return [
        row_of(a, items.get(a.item_id), rows[a.triplet_id], rows.get(a.other_id)) for a in answers
    ]


def taken(
    given: Given, before: list[Answer] | None = None, known: Known = KNOWN, **readers: str
) -> Taken:
    entries, so_far = said(given, readers)
    return answers_of(entries, known, before or [], so_far)


def from_text(text: str, **more: Any) -> Taken:
    return taken(csv.read(text.encode()), **more)
