"""Coded concepts (PS3.16) and numbers as DICOM writes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from generators.phantoms.base import Phantom

REGIONS = {  # PS3.16 CID 4, SNOMED CT
    "head": ("69536005", "Head"),
    "brain": ("12738006", "Brain"),
    "chest": ("51185008", "Chest"),
    "breast": ("76752008", "Breast"),
    "abdomen": ("818981001", "Abdomen"),
    "eye": ("81745001", "Eye"),
    "skin": ("39937001", "Skin"),
    "colon": ("71854001", "Colon"),
}


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """A code sequence item (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def region_item(phantom: Phantom) -> Dataset:
    """The body part as an item of AnatomicRegionSequence."""
    value, meaning = REGIONS[phantom.truth.anatomy]
    return code_item(value, "SCT", meaning)


def decimal(value: float) -> str:
    """A DS value: at most 16 characters."""
    return f"{value:.8g}"


def uid(*parts: Any) -> UID:
    """A UID under 2.25 (PS3.5 B.2) from the hash of `parts`: the same parts, the same UID."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
