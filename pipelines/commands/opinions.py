"""What experts said, from files into a workspace's journal and from a workspace into files.

The journal may be open in the reading room, and a run may go on, while opinions are brought in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.table import Table

from engine.errors import TriptychError
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.opinions import withdrawn_readers
from engine.lineage.withdrawals import WITHDRAWN
from engine.pixels import Pixels
from engine.records import Item, Triplet
from engine.shards import replace_file
from engine.workspace import Workspace
from pipelines.context import config_of
from pipelines.heard import Heard, beginning, heard_in
from reward_model import exchange
from reward_model.agreement import HEAD, Agreement, agreements, lines_of
from reward_model.exchange import label_studio, trl
from reward_model.exchange.opinions import Known, Said, Taken, answers_of, row_of, said
from reward_model.experts import reads_journal
from reward_model.journal import Journal
from reward_model.pseudonyms import pseudonym_problem
from reward_model.verdicts import PREFERENCE, VERDICT, wanted


def take_in(root: Path, file: Path, format: str = "", readers: Iterable[str] = ()) -> Taken:
    """Add what a file says to the journal; what came of it, entry by entry.

    `readers` are a pseudonym for those who are not named, or NAME=PSEUDONYM. Raises TriptychError
    where the file cannot be read at all.
    """
    workspace = Workspace.existing(root)
    entries, taken = said(exchange.read(file, format), _named(readers))
    journal, ledger = Journal(root), workspace.ledger()
    with ledger.reading():
        known, heard = _known(ledger, entries), heard_in(ledger, journal.answers())
        known.settled = heard.settled
    answers_of(entries, known, [*journal.answers(), *heard.answers], taken)
    journal.append(taken.answers)
    config = config_of(root)
    if taken.answers and not reads_journal(config):
        taken.notes.append(
            "the configuration's expert does not look into the journal: expert.kind people does"
        )
    return taken


def _named(readers: Iterable[str]) -> dict[str, str]:
    """Pseudonyms by what a file calls their readers. Raises TriptychError."""
    found: dict[str, str] = {}
    for words in readers:
        theirs, _, ours = words.rpartition("=")
        problem = pseudonym_problem(ours)
        if problem or theirs in found:
            told = problem or f"{theirs or 'who is not named'} has two pseudonyms"
            raise TriptychError(f"--reader {words}: {told}")
        found[theirs] = ours
    return found


def _known(ledger: Ledger, entries: Iterable[Said]) -> Known:
    """What the entries may be about."""
    names: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for column in ("item_id", "triplet_id", "other_id"):
            names[column].add(entry.names[column])
        if not entry.names["item_id"] and not entry.names["triplet_id"]:
            names["image_id"].add(entry.names["image_id"])
    items = beginning(ledger, Item, "id", names["item_id"])
    wanted = names["triplet_id"] | names["other_id"]
    wanted |= {name for item in items for name in (item.triplet_id, item.other_id)}
    rows = beginning(ledger, Triplet, "id", wanted)
    rows += beginning(ledger, Triplet, "image_id", names["image_id"])
    withdrawn = {row["id"] for row in ledger.sql(WITHDRAWN)}
    gone = ledger.sql(
        "SELECT row_id FROM tombstones WHERE row_table IN ('items', 'triplets', 'images')"
    )
    return Known(
        [item for item in items if item.image_id not in withdrawn],
        [row for row in rows if row.image_id not in withdrawn],
        {row["row_id"] for row in gone}
        | {r.id for r in rows if r.image_id in withdrawn}
        | withdrawn,
        withdrawn_readers(ledger),
    )


def write_out(root: Path, file: Path, format: str = "") -> list[str]:
    """Write a file of what was said, or of what is to be asked; what to say of it.

    Raises TriptychError where the file is there already or nothing would be in it, and where the
    record is not what was committed.
    """
    name = exchange.out_format(file, format)
    workspace = Workspace.existing(root)
    with agreed(workspace) as ledger:
        heard = heard_in(ledger, Journal(root).answers())
    if name == "label-studio":
        return _write_tasks(root, file, heard)
    if name == "trl":
        return _write_pairs(root, file, heard)
    if not heard.answers:
        raise TriptychError(f"nothing was said in {root} yet: there is nothing to write")
    rows = [
        row_of(a, heard.items.get(a.item_id), heard.rows[a.triplet_id], heard.rows.get(a.other_id))
        for a in heard.answers
    ]
    _write(file, exchange.OURS[name](rows))
    verdicts = sum(a.kind == VERDICT for a in heard.answers)
    readers = len({a.reader for a in heard.answers})
    pairs = len(rows) - verdicts
    return [f"{verdicts} verdicts and {pairs} preferences of {readers} readers in {file}"]


def _write(file: Path, data: bytes) -> None:
    _check_free(file)
    replace_file(file, data)


def _check_free(file: Path) -> None:
    if file.exists():
        raise TriptychError(f"{file} is there already: give another name, or remove it")
    if not file.parent.is_dir():
        raise TriptychError(f"there is no folder {file.parent}")


def _write_tasks(root: Path, file: Path, heard: Heard) -> list[str]:
    """What still has to be answered as Label Studio's tasks, each kind with its configuration."""
    items = {n: item for n, item in heard.items.items() if _is_there(item, heard.rows)}
    left = wanted(items.values(), heard.answers)
    waiting = sorted((items[name] for name in left), key=lambda item: (item.round, item.place))
    if not waiting:
        raise TriptychError(f"nothing is to be asked in {root}: each item has its answers")
    verdicts, preferences = label_studio.tasks(waiting, heard.rows, Pixels(root))
    beside = file.with_name(f"{file.stem}-preferences{file.suffix}")
    kinds = [(VERDICT, verdicts, file)] if verdicts else []
    if preferences:
        kinds.append((PREFERENCE, preferences, beside if verdicts else file))
    for _, _, path in kinds:
        _check_free(path)
        _check_free(path.with_suffix(".xml"))
    told = []
    for kind, tasks, path in kinds:
        project = path.with_suffix(".xml")
        _write(project, label_studio.config(kind).encode())
        _write(path, json.dumps(tasks, ensure_ascii=False).encode())
        told.append(f"{len(tasks)} {kind}s to ask in {path}; labelling configuration {project}")
    return told


def _is_there(item: Item, rows: Mapping[str, Triplet]) -> bool:
    return item.triplet_id in rows and (not item.other_id or item.other_id in rows)


def _write_pairs(root: Path, file: Path, heard: Heard) -> list[str]:
    config = config_of(root)
    words, style = config.generator.prompts, config.evaluate.style
    data, count, undecided = trl.write(heard.answers, heard.rows, Pixels(root), words, style)
    if not count:
        raise TriptychError(f"nobody in {root} found one of two rows better: nothing to train on")
    _write(file, data)
    left = f"; {undecided} without a better one are left out" if undecided else ""
    return [f"{count} preferences in {file}{left}"]


def agreement_of(root: Path) -> list[Agreement]:
    """How far the readers of a workspace agree: of verdicts, and of each criterion."""
    ledger = Workspace.existing(root).ledger()
    with ledger.reading():
        heard = heard_in(ledger, Journal(root).answers())
    return agreements(heard.answers, heard.patients)


def tables(found: Iterable[Agreement]) -> list[Table]:
    """As tables for the terminal: one of each kind of opinion."""
    made = []
    for agreement in found:
        table = Table(*HEAD, title=agreement.of)
        for line in lines_of(agreement):
            table.add_row(*line)
        made.append(table)
    return made
