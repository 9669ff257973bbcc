"""Where images come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.config.section import Section, Share, check_shares, is_address


class Source(Section):
    """Where images come from: a folder, or phantoms drawn into the workspace where path is null."""

    path: str | None = None
    phantoms: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={"MR": 300, "ultrasound": 300},
        description="how many of each kind to draw",
    )
    twins: int = Field(
        0, ge=0, description="of each kind, how many are drawn again with one thing changed"
    )
    draw: bool = Field(
        False,
        description="draw a phantom for a quota that no image can fill; beside real images too, "
        "where it is marked and for training alone",
    )
    segmentations: bool = Field(False, description="write the phantoms' masks as DICOM SEG too")
    size: int = Field(128, ge=48, description="side of a drawn phantom in pixels")
    difficulty: float = Field(0.3, ge=0, le=1)
    frames: str = Field("middle", pattern=r"^(middle|all|every:[1-9]\d*)$")
    split: dict[Literal["train", "val", "test"], Share] = Field(
        default={"train": 0.6, "val": 0.1, "test": 0.3}
    )
    key_file: str | None = Field(None, description="secret of the hashes; else TRIPTYCH_KEY")
    public: bool = Field(
        False, description="published images: no key, file names kept, nothing quarantined"
    )
    paths: Literal["hash", "keep"] = Field(
        "hash", description="file names in rows and reports: keyed hashes, or as they are"
    )
    include: list[Literal["black", "constant", "tiny", "aspect", "nan"]] = Field(
        default=[], description="flags with which an image is used all the same"
    )
    table: str | None = Field(
        None, description="CSV, TSV or JSONL in the folder; null: labels.csv, .tsv or .jsonl"
    )
    labels: list[str] = Field(default=[], description="columns of the table to keep as labels")
    limit: int | None = Field(None, ge=1, description="use at most so many files")

    @model_validator(mode="after")
    def _can_be_read(self) -> Source:
        if self.path is not None and is_address(self.path):
            raise ValueError(
                f"path {self.path} is an address: mount the bucket, or copy it, and give the folder"
            )
        if self.table is not None and Path(self.table).is_absolute():
            raise ValueError("table must be a name inside the folder")
        check_shares("split", self.split)
        reserved = {"path", "patient", "split", "modality", "anatomy", "report"} & set(self.labels)
        if reserved:
            raise ValueError(f"labels: {sorted(reserved)[0]} is read anyway and is no label")
        return self

    @property
    def keeps_paths(self) -> bool:
        """Whether file names say nothing of a patient: phantoms, published or named so."""
        return self.path is None or self.public or self.paths == "keep"
