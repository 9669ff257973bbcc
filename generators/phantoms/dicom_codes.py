"""Coded concepts (PS3.16) and numbers as DICOM writes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from engine.imaging.anatomy import REGIONS
from generators.phantoms.base import Phantom


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """A code sequence item (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def region_item(phantom: Phantom) -> Dataset:
    """The body part as an item of AnatomicRegionSequence."""
    name = phantom.truth.anatomy
    value = next(code for code, known in REGIONS.items() if known == name and code.isdigit())
    return code_item(value, "SCT", name.capitalize())


def decimal(value: float) -> str:
    """A DS value: at most 16 characters."""
    return f"{value:.8g}"


def uid(*parts: Any) -> UID:
    """A UID under 2.25 (PS3.5 B.2) from the hash of `parts`: the same parts, the same UID."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
