"""Rows as Arrow tables and back."""

from __future__ import annotations

import pytest

from engine.records import Found, Triplet, column_table, from_arrow, to_arrow
from tests.reward_model.test_select import row


def test_rows_come_back_as_they_were() -> None:
    rows = [row(0, "left"), row(1, "right", 3)]
    assert from_arrow(Triplet, to_arrow(Triplet, rows)) == rows
    assert from_arrow(Triplet, to_arrow(Triplet, [])) == []


def test_columns_of_no_field_are_ignored_and_defaults_stand_in_for_missing_ones() -> None:
    (one,) = [row()]
    table = to_arrow(Triplet, [one]).drop_columns(["tries", "known"])
    assert from_arrow(Triplet, table.append_column("other", [["x"]])) == [one]


def test_a_missing_column_without_a_default_is_named() -> None:
    with pytest.raises(TypeError, match="Triplet needs a column answer"):
        from_arrow(Triplet, to_arrow(Triplet, [row()]).drop_columns(["answer"]))


def test_columns_that_are_not_given_are_empty() -> None:
    table = column_table(Found, {"id": ["a", "b"], "samples": [3, 4]})
    assert table["samples"].to_pylist() == [3, 4]
    assert table["pass_rate"].to_pylist() == [None, None]
    assert table.schema.equals(to_arrow(Found, []).schema)
