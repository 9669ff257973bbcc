"""What experts said, in a withdrawal: of a patient's images, or by a reader who takes it back.

A reader is withdrawn with their verdicts and preferences and with each expert's row that came of
one of these verdicts: the row as it was where they accepted it, the corrected one where they
corrected it, also where another reader said the same.
"""

from __future__ import annotations

import json

from engine.caveats import promised
from engine.errors import TriptychError
from engine.lineage.ledger import Ledger

CERTIFYING, ACCEPTED, OF_TESTS = "random", "accept", "test"  # `reward_model.verdicts` has them all
SAID = "(p.item_id <> '' OR p.at <> '')"  # of a preference `p`: no rule made it
Stages = set[tuple[int, str]]  # (sequence, table)


def readers(ledger: Ledger) -> set[str]:
    """The pseudonyms under which something was said of an item or a row."""
    found = ledger.sql(
        f"SELECT expert FROM verdicts UNION SELECT p.expert FROM preferences p WHERE {SAID}"
    )
    return {row["expert"] for row in found}


def check_reader(ledger: Ledger, reader: str, answers: int) -> None:
    """Raise TriptychError where nobody answered under a pseudonym, in the record or beside it."""
    known = readers(ledger)
    if answers or reader in known:
        return
    gone = ledger.sql(
        "SELECT w.at FROM withdrawals w WHERE subject_kind = 'reader' AND subject_id = $1", [reader]
    )
    when = f": it was withdrawn on {gone[0]['at']}" if gone else ""
    named = f"; there are {', '.join(sorted(known))}" if known and not gone else ""
    raise TriptychError(f"no reader is called {reader!r}{when}{named}")


def withdrawn_readers(ledger: Ledger) -> dict[str, str]:
    """When each reader was withdrawn who was, last, by pseudonym."""
    found = ledger.sql(
        "SELECT w.subject_id, max(w.at) AS since FROM withdrawals w "
        "WHERE w.subject_kind = 'reader' GROUP BY 1"
    )
    return {row["subject_id"]: row["since"] for row in found}


def said_by(ledger: Ledger, reader: str) -> tuple[list[str], list[str], list[str]]:
    """Ids of a reader's verdicts, of their preferences, and of the rows that came of the verdicts.

    A correction may have been told apart into other words, so each row counts that was made of a
    corrected one.
    """
    verdicts = _ids(ledger, "SELECT DISTINCT id FROM verdicts WHERE expert = $1", reader)
    preferences = _ids(
        ledger, f"SELECT DISTINCT id FROM preferences p WHERE expert = $1 AND {SAID}", reader
    )
    rows = _ids(
        ledger,
        "WITH said AS (SELECT * FROM verdicts WHERE expert = $1) "
        "SELECT DISTINCT g.id FROM said v JOIN derivations d ON d.source = v.triplet_id "
        "JOIN triplets g ON g.id = d.id AND g.generator_id = 'expert' "
        "JOIN triplets t ON t.id = v.triplet_id "
        "WHERE v.correction <> '' OR (v.verdict = $2 AND g.answer = t.answer)",
        reader,
        ACCEPTED,
    )
    return verdicts, preferences, rows


def asked_and_said(
    ledger: Ledger, images: list[str], triplets: list[str]
) -> tuple[list[str], list[str]]:
    """Ids of the items that ask about images or triplets, and of the verdicts on these."""
    items = _ids(
        ledger,
        "SELECT DISTINCT id FROM items WHERE image_id IN (SELECT unnest($1)) "
        "OR triplet_id IN (SELECT unnest($2)) OR other_id IN (SELECT unnest($2))",
        images,
        triplets,
    )
    verdicts = _ids(
        ledger,
        "SELECT DISTINCT id FROM verdicts WHERE image_id IN (SELECT unnest($1)) "
        "OR triplet_id IN (SELECT unnest($2))",
        images,
        triplets,
    )
    return items, verdicts


def answered(ledger: Ledger, images: list[str], triplets: list[str]) -> list[str]:
    """Ids of evaluations on the images, and of those whose question is one of the rows.

    A row that an expert made of another is a question of the test set; others are not.
    """
    made = _ids(
        ledger, "SELECT DISTINCT id FROM derivations WHERE id IN (SELECT unnest($1))", triplets
    )
    rows = ledger.find("triplets", "id", made)
    gold = {
        (r["image_id"], r["question"], r["answer"]) for r in rows if r["generator_id"] == "expert"
    }
    return _ids(
        ledger,
        "WITH gold AS (SELECT unnest($2::VARCHAR[]) AS image_id, "
        "unnest($3::VARCHAR[]) AS question, unnest($4::VARCHAR[]) AS gold) "
        "SELECT DISTINCT id FROM evaluations WHERE image_id IN (SELECT unnest($1)) "
        "UNION SELECT e.id FROM evaluations e JOIN gold USING (image_id, question, gold)",
        images,
        *([key[place] for key in sorted(gold)] for place in range(3)),
    )


def first_heard(ledger: Ledger, verdicts: list[str]) -> int | None:
    """The first stage that committed one of the verdicts which judges learn or are measured by."""
    found = ledger.sql(
        "SELECT min(sequence) AS first FROM verdicts "
        "WHERE stream <> $2 AND NOT repeat AND id IN (SELECT unnest($1))",
        [verdicts, OF_TESTS],
    )
    return None if found[0]["first"] is None else int(found[0]["first"])


def certified(ledger: Ledger, verdicts: list[str]) -> Stages:
    """The stages of selection that certified their threshold by one of the verdicts.

    They are of its round and after it, and the verdict is on a row that was drawn at random.
    """
    said = ledger.sql(
        "SELECT round, min(sequence) AS first FROM verdicts "
        "WHERE stream = $2 AND NOT repeat AND id IN (SELECT unnest($1)) GROUP BY round",
        [verdicts, CERTIFYING],
    )
    first = {row["round"]: row["first"] for row in said}
    stages = ledger.sql(
        "SELECT DISTINCT c.sequence, c.round, c.metrics FROM commits c "
        "JOIN makers m ON m.sequence = c.sequence AND m.row_table = 'decisions'"
    )
    return {
        (stage["sequence"], "decisions")
        for stage in stages
        if first.get(stage["round"], stage["sequence"]) < stage["sequence"]
        and promised(json.loads(stage["metrics"]))
    }


def _ids(ledger: Ledger, query: str, *parameters: object) -> list[str]:
    return sorted(row["id"] for row in ledger.sql(query, list(parameters)))
