"""Withdrawal: both tiers against a plain slow reference, then that the data is gone."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import TriptychError
from engine.lineage import chain, redaction
from engine.lineage import ledger as ledger_module
from engine.lineage.ledger import Ledger, columns_of
from engine.lineage.opening import maintaining, writing
from engine.lineage.opinions import readers
from engine.lineage.reach import Reach, reach, reach_reader
from engine.lineage.trace import trace
from engine.lineage.verify import verify
from engine.lineage.withdrawals import withdrawn_ids
from engine.records import (
    ROW_TYPES,
    Image,
    Preference,
    Refusal,
    Review,
    Row,
    Tombstone,
    Triplet,
    Withdrawal,
    to_arrow,
)
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from tests.lineage_history import History, Slow, random_history
from tests.lineage_workspace import CONFIG, cli, commit, make_image
from tests.pictures import PNG


class Memory(Ledger):
    """A ledger of a random history, in memory: the same tables and the same SQL, no files."""

    def __init__(self, history: History) -> None:
        super().__init__(Path(":memory:"))
        self._open = db = duckdb.connect()
        ledger_module.create(db)
        db.begin()
        for row_type in ROW_TYPES:
            self._load_rows(db, row_type, history)
        for sequence, (stage, round, _) in enumerate(history.commits):
            told = json.dumps(
                {"certificates": [{"words": "…"}]} if history.promises(sequence) else {}
            )
            line = [f"{sequence:05d}-{stage}-r{round}", sequence, stage, round, "", 1.0, told, 2]
            db.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)", line)
        ledger_module.complete(db, 0, [t.table for t in ROW_TYPES])
        db.commit()

    @staticmethod
    def _load_rows(db: Any, row_type: type[Row], history: History) -> None:
        found = history.of(row_type)
        if found:
            rows = to_arrow(row_type, [row for _, row in found])
            rows = rows.append_column("sequence", pa.array([s for s, _ in found], pa.int64()))
            names = ", ".join(f'"{n}"' for n in [*columns_of(row_type), "sequence"])
            db.register("arrived", rows)
            db.execute(f"INSERT INTO {row_type.table} SELECT {names} FROM arrived")
            db.unregister("arrived")


def compare(numbers: range) -> tuple[int, int]:
    """Both answers for random histories; how many had a model in the second tier.

    Of an image or its group, and of a reader.
    """
    reached = {"image": 0, "reader": 0}
    for number in numbers:
        rng = random.Random(number)
        history = random_history(rng)
        ledger = Memory(history)
        image = rng.choice([row for _, row in history.of(Image)])
        target = rng.choice([image.id, image.group])
        named = {i.id for _, i in history.of(Image) if target in (i.id, i.group)}
        fast = reach(ledger, target)
        assert set(fast.images) == named, number
        reached["image"] += agrees(fast, history, Slow(history, named))
        if readers(ledger):
            reader = rng.choice(sorted(readers(ledger)))
            fast = reach_reader(ledger, reader)
            reached["reader"] += agrees(fast, history, Slow(history, set(), reader))
    return reached["image"], reached["reader"]


def agrees(fast: Reach, history: History, slow: Slow) -> bool:
    """Compare both answers; whether a model is in the second tier."""
    slow.answer()
    for table in ("triplets", "preferences", "items", "verdicts", "evaluations"):
        assert set(fast.ids[table]) == getattr(slow, table), table
    derived = {m["id"] for m in fast.derived_models}
    influenced = {m["id"] for m in fast.influenced_models}
    assert derived == slow.derived
    assert derived | influenced == slow.tainted
    clean = fast.restart_from["id"] if fast.restart_from else None
    assert clean == slow.clean_ancestor()
    return bool(influenced)


def test_both_tiers_and_the_clean_ancestor_equal_a_slow_reference() -> None:
    assert compare(range(12, 36)) == (3, 6)


@pytest.mark.slow
def test_both_tiers_and_the_clean_ancestor_equal_a_slow_reference_on_1000_histories() -> None:
    assert min(compare(range(1000))) > 100


# A made workspace


def train_image(workspace: Workspace, number: int = 0) -> Image:
    """An image with rows in training; number 4 has a preference that the judge learned from."""
    return [i for i in workspace.read(Image) if i.split == "train"][number]


def test_a_row_of_the_seed_reaches_every_generator_and_policy(original: Workspace) -> None:
    answer = reach(original.ledger(), train_image(original, 0).id)
    assert {m["role"] for m in answer.derived_models} == {"generator", "sft", "policy"}
    # What the generator wrote was in the pairs that the judge learned from.
    assert {m["role"] for m in answer.influenced_models} == {"judge"}
    assert answer.restart_from is not None
    assert answer.restart_from["role"] == "base"
    assert len(answer.datasets) == 1
    stages = {folder.split("-")[1] for folder in answer.repeat}
    rounds = {"generate", "judge", "select", "sft", "grpo", "evaluate"}
    assert stages == {"tune", "compare", "reward"} | rounds


def test_a_preference_taints_the_judge_and_what_its_decisions_let_through(
    original: Workspace,
) -> None:
    pair = original.read(Preference)[2]
    assert not pair.holdout
    answer = reach(original.ledger(), pair.image_id)
    assert "judge" in {m["role"] for m in answer.influenced_models}
    assert answer.influenced_rows["decisions"] == 16 * 2
    assert answer.influenced_rows["judgements"] == 16 * 2


def test_a_dry_run_changes_nothing(copy: Workspace) -> None:
    before = files(copy.root)
    image = train_image(copy)
    told = json.loads(cli("withdraw", image.id[:8], "-w", copy.root, "--dry-run", "--json"))
    assert told["images"] == [image.id]
    assert told["done"] is False
    assert files(copy.root) == before


def files(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def holds(root: Path, needles: list[bytes]) -> list[str]:
    """Files below a folder that hold any of some bytes, inside compressed Parquet too."""
    found = []
    for path in root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += repr(pq.read_table(path).to_pylist()).encode()
                needles = needles + [repr(n).encode() for n in needles if not n.isascii()]
            if any(needle in data for needle in needles):
                found.append(str(path.relative_to(root)))
    return found


def test_what_was_withdrawn_is_gone_and_that_it_was_stays(copy: Workspace) -> None:
    image = train_image(copy, 4)
    group = [i for i in copy.read(Image) if i.group == image.group]
    rows = [t for t in copy.read(Triplet) if t.image_id in {i.id for i in group}]
    for name in ("report", f"phantoms/{Path(image.source).parent}"):
        (copy.root / name).mkdir(parents=True)
    (copy.root / "report" / "index.html").write_text(image.source)
    (copy.root / "phantoms" / image.source).write_bytes(PNG[image.id])
    assert len(holds(copy.root, [PNG[i.id] for i in group])) > 1
    asked = ("--reason", "consent withdrawn", "--by", "data protection office")
    text = cli("withdraw", image.group, "-w", copy.root, *asked)
    done = copy.read(Withdrawal)[0]
    assert (done.subject_kind, done.subject_id, done.images) == ("group", image.group, len(group))
    assert (done.reason, done.requested_by) == ("consent withdrawn", "data protection office")
    assert "tombstones stay" in text
    assert holds(copy.root, [PNG[i.id] for i in group] + [i.source.encode() for i in group]) == []
    assert {i.id for i in group}.isdisjoint(i.id for i in copy.read(Image))
    assert {t.id for t in rows}.isdisjoint(t.id for t in copy.read(Triplet))
    gone = {t.row_id for t in copy.read(Tombstone)}
    assert {i.id for i in group} | {t.id for t in rows} <= gone
    assert verify(copy).problems == []
    assert chain.check(copy) == []
    assert {i.id for i in group} <= withdrawn_ids(copy)
    exported = pq.read_table(copy.root / "dataset" / "data").column("image_id").to_pylist()
    assert {i.id for i in group}.isdisjoint(exported)
    assert exported
    told = trace(copy.ledger(), rows[0].id)
    assert told["kind"] == "tombstone"
    assert told["row_table"] == "triplets"
    assert "withdrawn on" in cli("why-not", rows[0].id, "-w", copy.root)
    with pytest.raises(TriptychError, match="it was withdrawn on"):
        reach(copy.ledger(), image.group)


def test_the_ledger_after_a_withdrawal_is_what_a_rebuild_makes(copy: Workspace) -> None:
    with maintaining(copy.root) as workspace:
        withdraw(workspace, train_image(copy).id)
    names = ["commits", "makers", "uses", *(t.table for t in ROW_TYPES)]
    before = {n: copy.ledger().sql(f"SELECT * FROM {n} ORDER BY ALL") for n in names}
    copy.ledger().rebuild(copy.events)
    assert before == {n: copy.ledger().sql(f"SELECT * FROM {n} ORDER BY ALL") for n in names}


def test_two_withdrawals_one_after_the_other_verify(copy: Workspace) -> None:
    for number in (0, 3):
        with maintaining(copy.root) as workspace:
            withdraw(workspace, train_image(copy, number).id)
    assert verify(copy).problems == []
    assert chain.check(copy) == []
    assert len({t.withdrawal_id for t in copy.read(Tombstone)}) == 2


def test_the_last_image_takes_the_export_with_it(tmp_path: Path) -> None:
    from tests.lineage_workspace import PROMPT, TASK, make_triplet

    with writing(tmp_path, "made", CONFIG) as workspace:
        image = make_image(1, "g")
        commit(workspace, "seed", 0, [image, make_triplet(image, "expert", 0, 0), TASK, PROMPT])
        from engine.hub.publish import publish

        publish(workspace)
        assert (tmp_path / "dataset").is_dir()
        withdraw(workspace, "g")
        assert not (tmp_path / "dataset").exists()
        assert verify(workspace).problems == []


POINTS = ("before the commit", "after the commit", "one shard replaced", "before the ledger")


@pytest.mark.parametrize("point", POINTS)
def test_a_withdrawal_cut_short_is_undone_or_finished_by_the_next_run(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    image = train_image(copy, 4)
    before = files(copy.root / "events")

    def power_cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if point == "before the commit":
            patch.setattr(Workspace, "commit", power_cut)
        elif point == "after the commit":
            patch.setattr(redaction, "_carry_out", power_cut)
        elif point == "one shard replaced":
            real, calls = Path.replace, iter(range(10**6))

            def once(self: Path, target: Path) -> Any:
                if "redacting" in str(self) and "partial" not in self.name and next(calls):
                    raise KeyboardInterrupt
                return real(self, target)

            patch.setattr(Path, "replace", once)
        else:
            patch.setattr(Ledger, "rebuild", power_cut)
        with pytest.raises(KeyboardInterrupt), maintaining(copy.root) as workspace:
            withdraw(workspace, image.id)
    if point != "before the commit":
        assert "withdrawal not finished" in {p["what"] for p in verify(copy).problems}
    with maintaining(copy.root):
        pass
    assert verify(copy).problems == []
    if point == "before the commit":
        assert files(copy.root / "events") == before
    else:
        assert holds(copy.root, [PNG[image.id]]) == []
    assert not (copy.root / "redacting").exists()


def test_a_run_in_the_workspace_refuses_a_withdrawal(copy: Workspace) -> None:
    with maintaining(copy.root):
        with pytest.raises(TriptychError, match="in use by another run"):
            with maintaining(copy.root):
                pass
    assert os.path.exists(copy.root / "ledger.duckdb")


def test_a_patients_refused_pictures_and_reviews_go_and_others_of_the_group_stay(
    tmp_path: Path,
) -> None:
    first, other = (replace(make_image(n, "g"), patient=f"p{n}") for n in (1, 2))
    refusals = [
        Refusal(id=f"r{n}", path="a", frame=0, reason="text", image_id=f"q{n}", patient=f"p{n}")
        for n in (1, 2)
    ]
    reviews = [
        Review(id=f"v{n}", image_id=f"q{n}", verdict="dropped", reason="text", reviewer="R",
               decided="2026-01-01T00:00:00Z")
        for n in (1, 2)
    ]  # fmt: skip
    with writing(tmp_path, "made", CONFIG) as workspace:
        commit(workspace, "ingest", 0, [first, other, *refusals, *reviews])
        withdraw(workspace, "p1")
    assert [i.id for i in workspace.read(Image)] == [other.id]
    assert [r.id for r in workspace.read(Refusal)] == ["r2"]
    assert [r.id for r in workspace.read(Review)] == ["v2"]
    assert (workspace.read(Withdrawal)[0].subject_kind, chain.check(workspace)) == ("patient", [])
    assert withdrawn_ids(workspace) == {first.id}


def refusal(picture: str, patient: str, status: str = "quarantined") -> Refusal:
    return Refusal(
        id=f"{status} {picture} {patient}", path=f"{picture}.dcm", frame=0, reason=status,
        status=status, image_id=picture, patient=patient,
    )  # fmt: skip


@pytest.fixture
def joined(tmp_path: Path) -> Workspace:
    """Two images of pa, one of pb: one group, named pa. A copy of the first was pb's."""
    images = [replace(make_image(n, "pa"), patient=f"p{who}") for n, who in enumerate("aab")]
    copied = refusal(images[0].id, "pb", "duplicate")
    waiting = [refusal(*pair) for pair in (("x", "pa"), ("y", "pb"), ("z", "pc"), ("z", "pd"))]
    with writing(tmp_path, "made", CONFIG) as workspace:
        commit(workspace, "ingest", 0, [*images, copied, *waiting])
    return workspace


def left(workspace: Workspace) -> tuple[list[str], list[str]]:
    """Sources of the images and patients of the refusals that are still there."""
    images, refusals = workspace.read(Image), workspace.read(Refusal)
    return [i.source for i in images], [r.patient for r in refusals]


@pytest.mark.parametrize(
    ("words", "images", "refusals"),
    [
        (("pa",), ["MR/0002.dcm"], ["pb", "pc", "pd"]),
        (("pb",), ["MR/0001.dcm"], ["pa", "pc", "pd"]),
        (("pa", "--group"), [], ["pc", "pd"]),
        (("pc",), ["MR/0000.dcm", "MR/0001.dcm", "MR/0002.dcm"], ["pa", "pb", "pb"]),
    ],
)
def test_a_patient_goes_alone_with_every_copy_and_a_group_where_it_is_asked_for(
    joined: Workspace, words: tuple[str, ...], images: list[str], refusals: list[str]
) -> None:
    cli("withdraw", *words, "-w", joined.root)
    assert (left(joined)[0], sorted(left(joined)[1])) == (images, refusals)
    done = joined.read(Withdrawal)[0]
    assert done.subject_kind == ("group" if "--group" in words else "patient")
    assert chain.check(joined) == []
    with pytest.raises(TriptychError, match="it was withdrawn on"):
        reach(joined.ledger(), words[0], group=len(words) > 1)


def test_an_export_that_was_cut_short_goes_with_what_is_withdrawn(copy: Workspace) -> None:
    image = train_image(copy)
    for name in (".dataset.partial", ".dataset.old"):
        shutil.copytree(copy.root / "dataset", copy.root / name)
    shutil.rmtree(copy.root / "dataset")
    cli("withdraw", image.id, "-w", copy.root)
    assert holds(copy.root, [PNG[image.id]]) == []
