"""Small questions to the ledger: why a row is not in the data, how two runs differ, any SQL."""

from __future__ import annotations

import json
from typing import Any

import duckdb

from engine.errors import TriptychError
from engine.lineage.ledger import Ledger, quoted
from engine.lineage.story import story, where_it_went
from engine.lineage.trace import resolve, trace
from engine.reasons import KIND

# The decision that counts: a triplet's latest.
_LATEST = """
SELECT t.id, t.generator_id, d.keep, d.reason, d.score, d.threshold, d.round FROM {run}triplets t
LEFT JOIN {run}decisions d ON d.triplet_id = t.id
QUALIFY row_number() OVER (PARTITION BY t.id ORDER BY d.sequence DESC NULLS LAST, d.id) = 1
"""
_EXPERTS = "an expert's row, exported without a decision"
_UNUSED = """
SELECT 'refusals' AS kind, image_id AS id FROM refusals
WHERE image_id NOT IN (SELECT id FROM images)
"""


def why_not(ledger: Ledger, row: str) -> dict[str, Any]:
    """Why a triplet, image or file is not in the data: {"id", "kind", "in_data", "why", …}.

    A file is found by its path in the record, an image also where it was not used. A file is in the
    data where one of its images is. A triplet has its "story" (`engine.lineage.story`). Raises
    TriptychError for an unknown row, and for the beginning of several.
    """
    with ledger.reading():
        if file := _file(ledger, row):
            return {"id": row, "kind": "file"} | file
        table, row_id = resolve(ledger, row, _UNUSED)
        if table == "refusals":
            why = "; ".join(
                _refused(r, f"{r['path']}, ") for r in _frames(ledger, "image_id", row_id)
            )
            return {"id": row_id, "kind": "image", "in_data": False, "why": why}
        told = {"id": row_id, "kind": table.removesuffix("s")}
        if table == "tombstones":
            gone = trace(ledger, row_id)
            why = f"withdrawn on {gone['withdrawn']}" + (
                f": {gone['reason']}" if gone["reason"] else ""
            )
            of = {"was": gone["row_table"].removesuffix("s"), "went": where_it_went(gone)}
            return told | {"in_data": False, "why": why} | of
        if table == "images":
            return told | _image(ledger, row_id)
        if table == "triplets":
            return told | _triplet(ledger, row_id) | {"story": story(ledger, row_id)}
    raise TriptychError(f"{row_id} is of {table}: ask about a triplet, an image or a file")


def _frames(ledger: Ledger, column: str, value: str) -> list[dict[str, Any]]:
    """Frames that were not used, with what a person decided, and the image that each is."""
    return ledger.sql(
        "SELECT DISTINCT r.path, r.frame, r.reason, coalesce(v.verdict, r.status) AS status, i.id "
        "FROM refusals r LEFT JOIN images i ON i.id = r.image_id "
        "LEFT JOIN reviews v ON v.image_id = r.image_id AND r.status = 'quarantined' "
        f"WHERE r.{column} = ? ORDER BY ALL",
        [value],
    )


def _refused(frame: dict[str, Any], path: str = "") -> str:
    said = frame["reason"].removeprefix(f"{frame['status']}: ")
    return f"{frame['status']}: {said} ({path}frame {frame['frame']})"


def _file(ledger: Ledger, path: str) -> dict[str, Any] | None:
    """Of a file: whether an image of its is in the data, and why each is or is not."""
    frames = _frames(ledger, "path", path)
    used = ledger.sql("SELECT DISTINCT id FROM images WHERE source = ? ORDER BY id", [path])
    ids = dict.fromkeys(row["id"] for row in [*used, *frames] if row["id"])
    if not frames and not ids:
        return None
    images = {name: _image(ledger, name) for name in ids}
    whys = [f"image {name[:12]}: {told['why']}" for name, told in images.items()]
    whys += [_refused(frame) for frame in frames if not frame["id"]]
    return {"in_data": any(told["in_data"] for told in images.values()), "why": "; ".join(whys)}


def _triplet(ledger: Ledger, row_id: str) -> dict[str, Any]:
    row = ledger.find("triplets", "id", [row_id])[0]
    decisions = ledger.find("decisions", "triplet_id", [row_id])
    if not decisions:
        if row["generator_id"] == "expert":
            return {"in_data": True, "why": _EXPERTS}
        stage = ledger.sql("SELECT stage FROM commits WHERE sequence = ?", [row["sequence"]])
        return {
            "in_data": False,
            "why": f"no stage has decided on it (made by {stage[0]['stage']})"
            + (f"; it did not parse: {row['problem']}" if row["problem"] else ""),
        }
    last = decisions[-1]
    fields = ("reason", "score", "threshold", "round", "rules_id")
    return {"in_data": last["keep"], "why": last["reason"]} | {k: last[k] for k in fields}


def _image(ledger: Ledger, row_id: str) -> dict[str, Any]:
    image = ledger.sql("SELECT split FROM images WHERE id = ? LIMIT 1", [row_id])[0]
    reasons = ledger.sql(
        f"SELECT coalesce({KIND}, if(generator_id = 'expert', $2, 'no decision')) AS why, "
        "coalesce(keep, generator_id = 'expert') AS keep, count(*) AS rows FROM "
        f"({_LATEST.format(run='')}) WHERE id IN (SELECT id FROM triplets WHERE image_id = $1) "
        "GROUP BY ALL ORDER BY rows DESC, why",
        [row_id, _EXPERTS],
    )
    reasons = [{"reason": r["why"], "keep": r["keep"], "rows": r["rows"]} for r in reasons]
    kept = sum(r["rows"] for r in reasons if r["keep"])
    if not reasons:
        why = f"no question was asked about it (split {image['split']})"
    else:
        why = f"{kept} of {sum(r['rows'] for r in reasons)} rows about it were kept"
    return {"in_data": kept > 0, "why": why, "split": image["split"], "rows": reasons}


def diff(one: Ledger, two: Ledger) -> dict[str, Any]:
    """How a second run's rows, decisions and metrics differ from a first one's.

    {"added", "dropped": ids of triplets; "changed": decisions and why; "metrics": by stage}
    """
    with one.reading() as db:
        db.execute(f"ATTACH '{quoted(two.path)}' AS other (READ_ONLY)")
        try:
            return {
                "added": _only(one, "other.", "main."),
                "dropped": _only(one, "main.", "other."),
                "changed": _changed(one),
                "metrics": _metrics(one),
            }
        finally:
            db.execute("DETACH other")


def _only(ledger: Ledger, there: str, not_there: str) -> list[str]:
    rows = ledger.sql(
        f"SELECT DISTINCT id FROM {there}triplets "
        f"ANTI JOIN {not_there}triplets o USING (id) ORDER BY id"
    )
    return [row["id"] for row in rows]


def _changed(ledger: Ledger) -> list[dict[str, Any]]:
    return ledger.sql(
        f"SELECT a.id, a.keep AS kept_before, b.keep AS kept_after, a.reason AS why_before, "
        "b.reason AS why_after, a.score AS score_before, b.score AS score_after, "
        "a.threshold AS threshold_before, b.threshold AS threshold_after "
        f"FROM ({_LATEST.format(run='main.')}) a "
        f"JOIN ({_LATEST.format(run='other.')}) b USING (id) "
        "WHERE a.keep IS DISTINCT FROM b.keep OR a.reason IS DISTINCT FROM b.reason ORDER BY id"
    )


def _metrics(ledger: Ledger) -> list[dict[str, Any]]:
    """Numbers of each stage that differ; a stage's last commit counts."""

    def numbers(run: str) -> dict[tuple[str, int, str], float]:
        rows = ledger.sql(f"SELECT stage, round, metrics FROM {run}commits ORDER BY sequence")
        return {
            (row["stage"], row["round"], key): value
            for row in rows
            for key, value in _flat(json.loads(row["metrics"]))
        }

    before, after = numbers("main."), numbers("other.")
    return [
        {
            "stage": key[0],
            "round": key[1],
            "metric": key[2],
            "before": before.get(key),
            "after": after.get(key),
        }
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, name: str = "") -> list[tuple[str, float]]:
    """Numbers of nested dictionaries by their dotted names; lists are left out."""
    if isinstance(value, dict):
        pairs = [(f"{name}.{k}" if name else str(k), v) for k, v in value.items()]
        return [found for k, v in pairs for found in _flat(v, k)]
    return [(name, value)] if isinstance(value, int | float) else []


def ask(ledger: Ledger, query: str) -> list[dict[str, Any]]:
    """Rows of one SELECT; the file is open to be read only, and nothing else is reached from it.

    Raises TriptychError where it is something else or several, and with DuckDB's complaint in one
    line.
    """
    with ledger.alone() as db:
        try:
            statements = db.extract_statements(query)
            if [s.type for s in statements] != [duckdb.StatementType.SELECT]:
                kinds = ", ".join(s.type.name for s in statements) or "nothing"
                raise TriptychError(
                    f"the ledger cannot answer that: it takes one SELECT, and this is {kinds}"
                )
            cursor = db.execute(statements[0])
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            lines = str(error).split("LINE 1:")[0]
            raise TriptychError(f"the ledger cannot answer that: {lines}") from None
