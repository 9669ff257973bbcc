"""Questions to Parquet, where there is some and where there is none."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from engine.records import Triplet, from_arrow, to_arrow
from engine.shards import write_shard
from engine.sql import WRITTEN, Scan
from tests.reward_model.test_select import row


def test_rows_are_written_as_they_were(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "triplets-000", to_arrow(Triplet, [row()]))
    with Scan() as scan:
        scan.table("triplets", Triplet, [shard])
        assert scan.write(tmp_path / "kept" / "k.parquet", Triplet, "SELECT * FROM triplets") == 1
    assert from_arrow(Triplet, pq.read_table(tmp_path / "kept" / "k.parquet")) == [row()]


def test_without_rows_there_is_no_file(tmp_path: Path) -> None:
    with Scan() as scan:
        scan.table("triplets", Triplet, [])
        assert scan.write(tmp_path / "k.parquet", Triplet, "SELECT * FROM triplets") == 0
    assert not (tmp_path / "k.parquet").exists()


def test_a_table_without_shards_has_an_order_too() -> None:
    with Scan() as scan:
        scan.table("triplets", Triplet, [])
        assert scan.rows(Triplet, f"SELECT * FROM triplets ORDER BY {WRITTEN}") == []
