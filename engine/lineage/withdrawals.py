"""Which images were withdrawn, by themselves or with their patient or group."""

from __future__ import annotations

from engine.workspace import Workspace

# Image ids, one column `id`: a subquery for whatever must leave withdrawn images out. Those whose
# rows are gone are known by their tombstones; an image that is ingested again stays withdrawn.
WITHDRAWN = """
SELECT subject_id AS id FROM withdrawals WHERE subject_kind = 'image'
UNION SELECT i.id FROM images i
JOIN withdrawals w ON (w.subject_kind = 'group' AND w.subject_id = i."group")
    OR (w.subject_kind = 'patient' AND w.subject_id = i.patient)
UNION SELECT row_id FROM tombstones WHERE row_table = 'images'
"""


def withdrawn_ids(workspace: Workspace) -> set[str]:
    """Ids of the images that were withdrawn."""
    return {row["id"] for row in workspace.ledger().sql(WITHDRAWN)}
