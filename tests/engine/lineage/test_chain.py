"""The hash chain over commits: what is changed, removed, moved or cut off is noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.errors import TriptychError
from engine.lineage.chain import check, file_hash, sign, verify_signature
from engine.lineage.links import links
from engine.lineage.opening import writing
from engine.records import Refusal, content_id, to_arrow
from engine.shards import write_shard
from engine.workspace import Workspace

CONFIG = {"seed": 0, "rounds": 2}


def refusal(number: int) -> Refusal:
    return Refusal(id=content_id(number), path=f"{number}.dcm", frame=0, reason="not an image")


def committed(
    workspace: Workspace, number: int, redactions: list[dict[str, Any]] | None = None
) -> None:
    stage = workspace.begin("stage", number, content_id(number))
    stage.write(Refusal, [refusal(number), refusal(number + 100)])
    stage.redactions = redactions or []
    workspace.commit(stage)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("five") / "w"
    with writing(root, "w", CONFIG) as workspace:
        for number in range(5):
            committed(workspace, number)
    return root


@pytest.fixture
def place(five: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(five, tmp_path / "w")
    return Workspace.existing(tmp_path / "w")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two SSH key pairs, `ours` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "other"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    return folder


def broken(workspace: Workspace, kept_head: str | None = None) -> list[str]:
    return [str(f) for f in check(workspace, kept_head) if f.kind == "broken"]


def event(workspace: Workspace, number: int) -> Path:
    return workspace.events / f"{number:05d}-stage-r{number}"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=1))


def test_an_untouched_record_has_no_findings(place: Workspace) -> None:
    assert check(place) == []
    assert [link.commit["previous"] for link in links(place.events)][1:] == [
        link.hash for link in links(place.events)
    ][:-1]


@pytest.mark.parametrize("number", range(5))
def test_a_changed_shard_is_noticed_in_any_event(place: Workspace, number: int) -> None:
    shard = event(place, number) / "refusals-000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert broken(place) == [f"{event(place, number).name}: refusals-000.parquet was changed"]


def test_any_flipped_bit_of_any_file_is_noticed(place: Workspace) -> None:
    kept, random = place.head, Random(0)
    files = sorted(path for path in place.events.rglob("*") if path.is_file())
    for path in files * 20:
        before = path.read_bytes()
        after = bytearray(before)
        after[random.randrange(len(after))] ^= 1 << random.randrange(8)
        path.write_bytes(after)
        assert broken(place, kept), path
        path.write_bytes(before)
    assert check(place, kept) == []


@pytest.mark.parametrize("number", range(4))
def test_a_changed_commit_is_noticed_by_the_next(place: Workspace, number: int) -> None:
    edit(event(place, number) / "commit.json", metrics={"auc": 0.99})
    assert [f.partition(":")[0] for f in broken(place)] == [event(place, number + 1).name]


@pytest.mark.parametrize("number", range(4))
def test_a_removed_event_is_noticed(place: Workspace, number: int) -> None:
    shutil.rmtree(event(place, number))
    assert any("removed" in finding for finding in broken(place))


def test_a_removed_event_is_noticed_where_the_rest_is_numbered_anew(place: Workspace) -> None:
    shutil.rmtree(event(place, 1))
    for number in (2, 3, 4):
        folder = event(place, number)
        edit(folder / "commit.json", sequence=number - 1)
        folder.rename(place.events / f"{number - 1:05d}-stage-r{number}")
    assert any("does not continue" in finding for finding in broken(place))


def test_exchanged_events_are_noticed(place: Workspace) -> None:
    one, two = event(place, 1), event(place, 2)
    one.rename(place.events / "aside")
    two.rename(one)
    (place.events / "aside").rename(two)
    assert any("moved" in finding for finding in broken(place))


def test_an_added_a_missing_and_an_unreadable_file_are_noticed(place: Workspace) -> None:
    shutil.copy(event(place, 1) / "refusals-000.parquet", event(place, 1) / "refusals-001.parquet")
    (event(place, 2) / "refusals-000.parquet").unlink()
    (event(place, 4) / "commit.json").write_text("{")
    assert broken(place) == [
        "00004-stage-r4: commit.json is cut or no JSON",
        "00004-stage-r4: has no hashes, though an event before it has",
        "00002-stage-r2: refusals-000.parquet is missing",
        "00001-stage-r1: refusals-001.parquet is not of this commit",
    ]


@pytest.mark.parametrize("said", ["[]", "{}", '{"sequence": "1"}', '{"shards": 3}'])
def test_a_commit_of_another_shape_is_a_finding(place: Workspace, said: str) -> None:
    (event(place, 1) / "commit.json").write_text(said)
    assert "00001-stage-r1: commit.json is not a commit's" in broken(place)


def test_a_changed_configuration_is_noticed(place: Workspace) -> None:
    edit(place.root / "workspace.json", config={"seed": 1, "rounds": 2})
    assert [f.partition(":")[0] for f in broken(place)] == ["00000-stage-r0"]


def strip(folder: Path) -> None:
    """Make an event as it was before the chain."""
    path = folder / "commit.json"
    commit = json.loads(path.read_text())
    later = ("shards", "sizes", "previous", "started", "ended")
    path.write_text(json.dumps({k: v for k, v in commit.items() if k not in later}, indent=1))


def test_events_older_than_the_chain_are_unchained_and_what_follows_vouches_for_them(
    tmp_path: Path,
) -> None:
    with writing(tmp_path / "w", "w", CONFIG) as workspace:
        for number in range(2):
            committed(workspace, number)
            strip(event(workspace, number))
        committed(workspace, 2)
    assert [(f.folder, f.kind) for f in check(workspace)] == [
        ("00000-stage-r0", "unchained"),
        ("00001-stage-r1", "unchained"),
    ]
    edit(event(workspace, 1) / "commit.json", metrics={"auc": 0.99})
    assert len(broken(workspace)) == 1


def test_hashes_cannot_be_taken_out_of_a_chained_event(place: Workspace) -> None:
    strip(event(place, 4))
    assert broken(place) == ["00004-stage-r4: has no hashes, though an event before it has"]


def redact(workspace: Workspace, number: int, carry_out: bool = True) -> None:
    """Withdraw the second row of an event, as a later commit says."""
    folder = event(workspace, number)
    shard = folder / "refusals-000.parquet"
    old, kept = file_hash(shard), shard.read_bytes()
    rows = workspace.read(Refusal, round=number)[:1]
    write_shard(folder, "refusals-000", to_arrow(Refusal, rows))
    change = {"folder": folder.name, "shard": shard.name, "old": old, "new": file_hash(shard)}
    committed(workspace, len(links(workspace.events)), [change])
    if not carry_out:
        shard.write_bytes(kept)


def test_a_redaction_is_part_of_the_chain(tmp_path: Path) -> None:
    with writing(tmp_path / "w", "w", CONFIG) as workspace:
        committed(workspace, 0)
        committed(workspace, 1)
        redact(workspace, 0)
        assert check(workspace) == []
        redact(workspace, 1, carry_out=False)
    assert broken(workspace) == [
        "00001-stage-r1: refusals-000.parquet still holds what 00003-stage-r3 withdrew"
    ]


def test_a_deleted_shard_and_a_redaction_of_another_hash(tmp_path: Path) -> None:
    with writing(tmp_path / "w", "w", CONFIG) as workspace:
        committed(workspace, 0)
        shard = event(workspace, 0) / "refusals-000.parquet"
        change = {"folder": "00000-stage-r0", "shard": shard.name, "old": file_hash(shard)}
        shard.unlink()
        committed(workspace, 1, [change | {"new": None}])
        assert check(workspace) == []
        committed(workspace, 2, [change | {"new": "0" * 64}])
    assert any("which had another hash" in finding for finding in broken(workspace))


def test_cutting_off_the_newest_event_is_noticed_by_a_kept_head(place: Workspace) -> None:
    kept = place.head
    assert broken(place, kept) == []
    shutil.rmtree(event(place, 4))
    assert broken(place) == []
    assert any("newest events were removed" in finding for finding in broken(place, kept))


def test_a_signature_vouches_for_what_was_there(place: Workspace, keys: Path) -> None:
    sign(place, keys / "ours")
    said = verify_signature(place, keys / "ours.pub")
    assert said == "5 events up to 00004-stage-r4 are as signed; 0 are newer"
    with writing(place.root, "w", CONFIG) as workspace:
        committed(workspace, 5)
    assert verify_signature(place, keys / "ours.pub").endswith("1 are newer")


def test_a_signature_does_not_claim_what_is_older_than_the_chain(
    place: Workspace, keys: Path
) -> None:
    for number in range(5):
        strip(event(place, number))
    sign(place, keys / "ours")
    said = verify_signature(place, keys / "ours.pub")
    assert said.endswith("; 5 are older than the hash chain, which does not cover them")


def test_a_signature_notices_what_the_chain_alone_cannot(place: Workspace, keys: Path) -> None:
    sign(place, keys / "ours")
    shutil.rmtree(event(place, 4))
    with pytest.raises(TriptychError, match="newest events were removed"):
        verify_signature(place, keys / "ours.pub")
    assert any("newest events were removed" in finding for finding in broken(place))


def test_another_key_a_forged_statement_and_no_signature(place: Workspace, keys: Path) -> None:
    with pytest.raises(TriptychError, match="no signature"):
        verify_signature(place, keys / "ours.pub")
    signature = sign(place, keys / "ours")
    with pytest.raises(TriptychError, match=r"is not .*other.pub's"):
        verify_signature(place, keys / "other.pub")
    edit(signature.with_suffix(""), events=4)
    with pytest.raises(TriptychError, match=r"is not .*ours.pub's"):
        verify_signature(place, keys / "ours.pub")


def test_a_broken_chain_is_not_signed(place: Workspace, keys: Path) -> None:
    edit(event(place, 1) / "commit.json", metrics={"auc": 0.99})
    with pytest.raises(TriptychError, match="not signed: 00002-stage-r2"):
        sign(place, keys / "ours")


def test_the_commands(place: Workspace, keys: Path) -> None:
    from pipelines.cli import app

    runner = CliRunner()
    where = ["-w", str(place.root)]
    whole = runner.invoke(app, ["lineage", "chain", *where])
    assert whole.exit_code == 0, whole.output
    assert place.head in whole.output
    signed = runner.invoke(app, ["lineage", "sign", "--key", str(keys / "ours"), *where])
    assert signed.exit_code == 0, signed.output
    public = str(keys / "ours.pub")
    verified = runner.invoke(app, ["lineage", "verify-signature", "--key", public, *where])
    assert "5 events" in verified.output
    (event(place, 2) / "refusals-000.parquet").unlink()
    damaged = runner.invoke(app, ["lineage", "chain", "--json", *where])
    assert damaged.exit_code == 1
    assert [f["kind"] for f in json.loads(damaged.output)["findings"]] == ["broken"]
