"""All that was said in a workspace, and what it was about: from the ledger and the journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from engine.lineage.ledger import Ledger
from engine.lineage.opinions import SAID
from engine.lineage.withdrawals import WITHDRAWN
from engine.records import Item, Preference, Triplet, Verdict
from reward_model.exchange.recorded import opinions, settled
from reward_model.verdicts import Answer

Kind = TypeVar("Kind", Item, Triplet)


@dataclass(frozen=True)
class Heard:
    """All that was said in a workspace, and what it was about."""

    answers: list[Answer]  # those that count
    items: dict[str, Item]
    rows: dict[str, Triplet]  # of images that are not withdrawn
    patients: dict[str, str]  # `Image.group` by triplet
    settled: set[tuple[str, str, bool]]  # what is answered in the record (`place_of`)


def heard_in(ledger: Ledger, journal: Iterable[Answer] = ()) -> Heard:
    """What was said, `journal` being answers that may not be rows yet."""
    items = {row["id"]: Item.from_dict(row) for row in ledger.sql("SELECT * FROM items")}
    verdicts = [Verdict.from_dict(row) for row in ledger.sql("SELECT * FROM verdicts")]
    pairs = ledger.sql(f"SELECT * FROM preferences p WHERE {SAID}")
    preferences = [Preference.from_dict(row) for row in pairs]
    answers = opinions(journal, verdicts, preferences, items)
    about = {name for a in answers for name in (a.triplet_id, a.other_id) if name}
    about |= {name for i in items.values() for name in (i.triplet_id, i.other_id) if name}
    withdrawn = {row["id"] for row in ledger.sql(WITHDRAWN)}
    found = beginning(ledger, Triplet, "id", about)
    rows = {row.id: row for row in found if row.image_id not in withdrawn}
    groups = ledger.sql(
        'SELECT DISTINCT id, "group" FROM images WHERE id IN (SELECT unnest($1::VARCHAR[]))',
        [sorted({row.image_id for row in rows.values()})],
    )
    by_image = {row["id"]: row["group"] for row in groups}
    patients = {row.id: by_image[row.image_id] for row in rows.values() if row.image_id in by_image}
    left = [a for a in answers if a.triplet_id in rows and (not a.other_id or a.other_id in rows)]
    return Heard(left, items, rows, patients, settled(verdicts, preferences, items))


def beginning(
    ledger: Ledger, row_type: type[Kind], column: str, beginnings: Iterable[str]
) -> list[Kind]:
    """Rows of which a column begins so: a question for each length."""
    lengths: dict[int, list[str]] = defaultdict(list)
    for name in sorted(set(beginnings) - {""}):
        lengths[len(name)].append(name)
    found = []
    for length, names in lengths.items():
        query = f"SELECT * FROM {row_type.table} WHERE substr({column}, 1, $1) IN "
        found += ledger.sql(query + "(SELECT unnest($2::VARCHAR[]))", [length, names])
    return list({row["id"]: row_type.from_dict(row) for row in found}.values())
