"""What of a workspace readers see: items with their rows and images, as they are committed now.

A run may go on beside the reading room. Nothing here locks the workspace or writes to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from engine.lineage.files import check_hash
from engine.lineage.links import event_folders
from engine.lineage.withdrawals import WITHDRAWN
from engine.records import Image, Item, Preference, Row, Tombstone, Triplet, Verdict, Withdrawal
from engine.sql import Scan
from engine.workspace import Workspace

WITHDRAWN_READERS = """
SELECT subject_id, count(*) FROM withdrawals WHERE subject_kind = 'reader' GROUP BY subject_id
"""


@dataclass(frozen=True)
class Snapshot:
    """What readers are asked, as the record had it; of withdrawn images nothing is in it."""

    items: dict[str, Item] = field(default_factory=dict)  # in the order in which they are shown
    rows: dict[str, Triplet] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)  # asked about, and their patients' other
    patients: dict[str, list[str]] = field(default_factory=dict)  # ids of images, in order
    withdrawn: dict[str, int] = field(default_factory=dict)  # readers, and how often they were
    collected: frozenset[tuple[str, str, bool]] = frozenset()  # item, reader, repeat: in the record

    def others(self, image_id: str) -> list[str]:
        """The other images of an image's patient."""
        patient = self.images[image_id].patient
        return [other for other in self.patients.get(patient, []) if other != image_id]


class Record:
    """A workspace's record, read again where something was committed since."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._checked: set[tuple[Path, str | None]] = set()
        self._seen: tuple[str, ...] | None = None

    def changed(self) -> bool:
        """Whether there are commits that `read` has not looked at."""
        return self._events() != self._seen

    def read(self) -> Snapshot:
        """What readers are asked.

        Raises TriptychError where a shard is not as it was committed, as while a withdrawal writes.
        """
        events = self._events()
        items = sorted(self.workspace.read(Item), key=lambda item: (item.round, item.place))
        with Scan() as scan:
            for row_type in (Triplet, Image, Withdrawal, Tombstone):
                scan.table(row_type.table, row_type, self._shards(row_type))
            withdrawn = {
                str(reader): int(times) for reader, times in scan.values(WITHDRAWN_READERS)
            }
            gone = {image_id for (image_id,) in scan.values(WITHDRAWN)}
            items = [item for item in items if item.image_id not in gone]
            rows = _triplets(scan, items)
            images = [image for image in _images(scan, items) if image.id not in gone]
        known = {image.id: image for image in images}
        shown = {
            item.id: item
            for item in items
            if item.image_id in known
            and item.triplet_id in rows
            and (not item.other_id or item.other_id in rows)
        }
        patients: dict[str, list[str]] = defaultdict(list)
        for image in images:
            if image.patient:
                patients[image.patient].append(image.id)
        self._seen = events
        return Snapshot(shown, rows, known, dict(patients), withdrawn, self._collected())

    def _events(self) -> tuple[str, ...]:
        return tuple(folder.name for folder in event_folders(self.workspace.events))

    def _shards(self, row_type: type[Row]) -> list[Path]:
        """A table's committed shards, each compared with its hash once."""
        found = []
        for _, path, digest in self.workspace.shards(row_type.table):
            if (path, digest) not in self._checked:
                check_hash(path, digest)
                self._checked.add((path, digest))
            found.append(path.absolute())
        return found

    def _collected(self) -> frozenset[tuple[str, str, bool]]:
        verdicts: Iterable[Verdict] = self.workspace.stream(Verdict)
        pairs: Iterable[Preference] = self.workspace.stream(Preference)
        said = {(v.item_id, v.expert, v.repeat) for v in verdicts}
        return frozenset(said | {(p.item_id, p.expert, p.repeat) for p in pairs if p.item_id})


def _triplets(scan: Scan, items: list[Item]) -> dict[str, Triplet]:
    wanted = list({i for item in items for i in (item.triplet_id, item.other_id) if i})
    query = "SELECT * FROM triplets WHERE id IN (SELECT unnest(?::VARCHAR[]))"
    return {row.id: row for row in scan.rows(Triplet, query, [wanted])}


def _images(scan: Scan, items: list[Item]) -> list[Image]:
    """The images that are asked about and all of their patients, in the order of their files."""
    wanted = list({item.image_id for item in items})
    query = (
        "WITH asked AS (SELECT unnest(?::VARCHAR[]) AS id) SELECT * FROM images WHERE id IN "
        "(FROM asked) OR (patient != '' AND patient IN "
        "(SELECT patient FROM images WHERE id IN (FROM asked))) "
        "ORDER BY source, CAST(json_extract(rendering, '$.frame') AS INTEGER), id"
    )
    return scan.rows(Image, query, [wanted])
