"""What experts said, from files into a workspace's journal and from a workspace into files.

The journal may be open in the reading room, and a run may go on, while opinions are brought in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from engine.errors import TriptychError
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.opinions import withdrawn_readers
from engine.lineage.withdrawals import WITHDRAWN
from engine.pixels import Pixels
from engine.records import Item, Preference, Triplet, Verdict
from engine.shards import replace_file
from engine.workspace import Workspace
from pipelines.context import config_of
from reward_model import exchange
from reward_model.agreement import Agreement, Estimate, agreements
from reward_model.exchange import label_studio, trl
from reward_model.exchange.opinions import FULL, Known, Said, Taken, answers_of, row_of, said
from reward_model.exchange.recorded import opinions
from reward_model.experts import reads_journal
from reward_model.journal import Journal
from reward_model.pseudonyms import pseudonym_problem
from reward_model.verdicts import PREFERENCE, VERDICT, Answer, wanted

Kind = TypeVar("Kind", Item, Triplet)


def take_in(root: Path, file: Path, format: str = "", readers: Iterable[str] = ()) -> Taken:
    """Add what a file says to the journal; what came of it, entry by entry.

    `readers` are a pseudonym for those who are not named, or NAME=PSEUDONYM. Raises TriptychError
    where the file cannot be read at all.
    """
    workspace = Workspace.existing(root)
    entries, taken = said(exchange.read(file, format), _named(readers))
    journal, ledger = Journal(root), workspace.ledger()
    with ledger.reading():
        known, heard = _known(ledger, entries), _heard(ledger, journal)
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
    items = _beginning(ledger, Item, "id", names["item_id"])
    wanted = names["triplet_id"] | names["other_id"]
    wanted |= {name for item in items for name in (item.triplet_id, item.other_id)}
    rows = _beginning(ledger, Triplet, "id", wanted)
    rows += _beginning(ledger, Triplet, "image_id", names["image_id"])
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


def _beginning(
    ledger: Ledger, row_type: type[Kind], column: str, beginnings: Iterable[str]
) -> list[Kind]:
    """Rows of which a column begins so: a question for each length."""
    lengths: dict[int, list[str]] = defaultdict(list)
    for name in sorted(set(beginnings) - {""}):
        lengths[len(name)].append(name)
    found = []
    for length, names in lengths.items():
        if (row_type.table, column, length) == ("triplets", "id", FULL):
            found += ledger.find("triplets", "id", names)
            continue
        query = f"SELECT * FROM {row_type.table} WHERE substr({column}, 1, $1) IN "
        found += ledger.sql(query + "(SELECT unnest($2::VARCHAR[]))", [length, names])
    return list({row["id"]: row_type.from_dict(row) for row in found}.values())


@dataclass(frozen=True)
class Heard:
    """All that was said in a workspace, and what it was about."""

    answers: list[Answer]  # those that count
    items: dict[str, Item]
    rows: dict[str, Triplet]  # of images that are not withdrawn
    patients: dict[str, str]  # `Image.group` by triplet


def _heard(ledger: Ledger, journal: Journal) -> Heard:
    items = {row["id"]: Item.from_dict(row) for row in ledger.sql("SELECT * FROM items")}
    verdicts = [Verdict.from_dict(row) for row in ledger.sql("SELECT * FROM verdicts")]
    pairs = ledger.sql("SELECT * FROM preferences p WHERE p.at <> ''")
    preferences = [Preference.from_dict(row) for row in pairs]
    answers = opinions(journal.answers(), verdicts, preferences, items)
    about = {name for a in answers for name in (a.triplet_id, a.other_id) if name}
    about |= {name for i in items.values() for name in (i.triplet_id, i.other_id) if name}
    withdrawn = {row["id"] for row in ledger.sql(WITHDRAWN)}
    found = _beginning(ledger, Triplet, "id", about)
    rows = {row.id: row for row in found if row.image_id not in withdrawn}
    groups = ledger.sql(
        'SELECT DISTINCT id, "group" FROM images WHERE id IN (SELECT unnest($1::VARCHAR[]))',
        [sorted({row.image_id for row in rows.values()})],
    )
    by_image = {row["id"]: row["group"] for row in groups}
    patients = {row.id: by_image[row.image_id] for row in rows.values() if row.image_id in by_image}
    left = [a for a in answers if a.triplet_id in rows and (not a.other_id or a.other_id in rows)]
    return Heard(left, items, rows, patients)


def write_out(root: Path, file: Path, format: str = "") -> list[str]:
    """Write a file of what was said, or of what is to be asked; what to say of it.

    Raises TriptychError where the file is there already or nothing would be in it, and where the
    record is not what was committed.
    """
    name = exchange.out_format(file, format)
    workspace = Workspace.existing(root)
    with agreed(workspace) as ledger:
        heard = _heard(ledger, Journal(root))
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
        heard = _heard(ledger, Journal(root))
    return agreements(heard.answers, heard.patients)


def tables(found: Iterable[Agreement]) -> list[Table]:
    """As tables for the terminal: one of each kind of opinion."""
    made = []
    for agreement in found:
        units = "rows" if agreement.of == "verdict" else "pairs"
        table = Table("", "kappa or alpha", "95 %", "equal", units, "patients", title=agreement.of)
        if agreement.alpha:
            table.add_row("all (Krippendorff's alpha)", *_cells(agreement.alpha), end_section=True)
        for pair in agreement.pairs:
            table.add_row(f"{pair.one} and {pair.two}", *_cells(pair.kappa))
        table.add_section()
        for reader in agreement.readers:
            if reader.rest and len(agreement.readers) > 2:
                table.add_row(f"{reader.name} and most of the rest", *_cells(reader.rest))
        table.add_section()
        for reader in agreement.readers:
            if reader.itself:
                table.add_row(f"{reader.name} and itself", *_cells(reader.itself))
        made.append(table)
    return made


def _cells(found: Estimate) -> tuple[str, ...]:
    value = "–" if found.value is None else f"{found.value:.2f}"
    between = "–" if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
    counted = (str(found.units), str(found.patients))
    return value, between, f"{found.agreed:.0%}", *counted
