"""What is promised of a round's kept rows, from verdicts on rows that were drawn at random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.config.select import Guarantee
from engine.records import Image, Verdict
from pipelines.context import Context
from pipelines.parts import Part
from pipelines.record import images_of
from pipelines.weighing import Weighing
from reward_model.certificate import Certificate, Opinion, certify, threshold_of
from reward_model.patient_sets import REPORT, set_of
from reward_model.threshold import KEEPS
from reward_model.verdicts import RANDOM, accepted

ALL = ""  # the group of all rows, where there is one promise


def certificates_of(
    context: Context, weighing: Weighing, guarantee: Guarantee
) -> tuple[Certificate, ...]:
    """What can be promised of the round's chosen rows, from the verdicts on those drawn at random.

    Patients of set `report` are left out, so that precision may be measured on them.
    """
    said: dict[str, list[Verdict]] = {}
    for verdict in context.rows(Verdict):
        if verdict.stream == RANDOM and verdict.round == weighing.job.round and not verdict.repeat:
            said.setdefault(verdict.triplet_id, []).append(verdict)
    patients = {i.id: i.group for i in images_of(context, _images(said.values())).values()}
    chosen: dict[str, list[np.ndarray]] = {}
    opinions: list[Opinion] = []
    for path, part in zip(weighing.files.values(), weighing.job.parts):
        rows = pq.read_table(path, columns=["triplet_id", "image_id", "reason", "confidence"])
        keeps = pc.is_in(rows["reason"], pa.array(KEEPS))
        rows = rows.filter(pc.and_(keeps, pc.greater_equal(rows["confidence"], 0.0)))
        group_of = _groups(context, part) if guarantee.by else {}
        groups = np.array([group_of.get(i, ALL) for i in rows["image_id"].to_pylist()], dtype=str)
        sure = rows["confidence"].to_numpy()
        for group in np.unique(groups):
            chosen.setdefault(str(group), []).append(sure[groups == group])
        for place, row in enumerate(rows["triplet_id"].to_pylist()):
            if row in said and set_of(patients[said[row][0].image_id]) != REPORT:
                opinions.append(
                    Opinion(
                        confidence=float(sure[place]),
                        accepted=accepted(said[row]),
                        patient=patients[said[row][0].image_id],
                        group=str(groups[place]),
                        readers=tuple(sorted({verdict.expert for verdict in said[row]})),
                    )
                )
    found = {group: np.concatenate(some) for group, some in sorted(chosen.items())}
    by_group = guarantee.by is not None
    return certify(opinions, found, guarantee.precision, guarantee.confidence, by_group)


def _images(said: Iterable[list[Verdict]]) -> list[str]:
    return [verdicts[0].image_id for verdicts in said]


def _groups(context: Context, part: Part) -> dict[str, str]:
    """The modality of each image between a part's first and last."""
    with context.scan(Image) as scan:
        query = "SELECT id, modality FROM images WHERE id BETWEEN ? AND ?"
        return dict(scan.values(query, [part.first, part.last]))


def thresholds_of(
    context: Context, part: Part, rows: pa.Table, certificates: tuple[Certificate, ...]
) -> np.ndarray:
    """(N,) least confidence of each row of a part that is kept; NaN where nothing is promised."""
    groups = {group for certificate in certificates for group in certificate.groups}
    least = {group: threshold_of(certificates, group) for group in groups}
    group_of = {} if groups <= {ALL} else _groups(context, part)
    found = [least.get(group_of.get(i, ALL)) for i in rows["image_id"].to_pylist()]
    return np.array([np.nan if value is None else value for value in found])


def told_of(
    context: Context, certificates: tuple[Certificate, ...], round: int
) -> dict[str, list[dict[str, Any]]]:
    """Certificates as metrics, with their words, which are said."""
    told = []
    for certificate in certificates:
        words = certificate.in_words(round)
        say = context.display.done if certificate.granted else context.display.warn
        say(f"round {round}: {words}")
        told.append(asdict(certificate) | {"granted": certificate.granted, "words": words})
    return {"certificates": told}
