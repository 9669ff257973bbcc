"""`triptych lineage …`: questions to the record, and what may be done to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import printable

app = typer.Typer(help="Where rows and checkpoints came from.", no_args_is_help=True)

Existing = Annotated[Path, typer.Option("--workspace", "-w", help="An existing workspace.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
AnyId = Annotated[str, typer.Argument(help="A row's, image's or model's id, or its beginning.")]


def _ledger(folder: Path) -> Any:
    from engine.workspace import Workspace

    return Workspace.existing(folder).ledger()


def _say(text: str) -> None:
    """Print what the record says, so that a terminal shows it and does not obey it."""
    print(printable(text))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))


def _table(rows: list[dict[str, Any]]) -> None:
    """Rows as aligned columns; one line that says so where there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        print("no rows")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(Text("" if v is None else printable(str(v))) for v in row.values()))
    Console().print(table)


@app.command()
def trace(row: AnyId, workspace: Existing, as_json: AsJson = False) -> None:
    """Everything that led to a row, and what became of it."""
    from rich.console import Console

    from engine.lineage import trace as tracing

    found = tracing.trace(_ledger(workspace), row)
    if as_json:
        _print_json(found)
    else:
        Console().print(tracing.render(found))


@app.command("why-not")
def why_not(
    row: Annotated[
        str, typer.Argument(help="A triplet's or image's id, or a file's path in the record.")
    ],
    workspace: Existing,
    as_json: AsJson = False,
) -> None:
    """Why a row, an image or a file is not in the data, and a row's whole story."""
    from engine.lineage import questions
    from engine.lineage.story import lines, went_lines

    found = questions.why_not(_ledger(workspace), row)
    if as_json:
        _print_json(found)
        return
    _say(f"{found['kind']} {found['id']}: {'in' if found['in_data'] else 'not in'} the data")
    for key in ("why", "score", "threshold", "round"):
        if found.get(key) is not None:
            _say(f"  {key:9s} {found[key]}")
    for line in found.get("rows", []):
        _say(f"  {line['rows']:6d}   {line['reason']}")
    told = lines(found["story"]) if "story" in found else went_lines(found.get("went", {}))
    for what, said in told:
        _say(f"  {what:9s} {said}")


@app.command()
def withdraw(
    workspace: Existing,
    target: Annotated[
        str | None, typer.Argument(help="An image's, patient's or group's id, or its beginning.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="A reader's pseudonym, in the place of an id.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it reaches, and change nothing.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    by: Annotated[str, typer.Option(help="Who asked for it, for the record.")] = "",
    group: Annotated[
        bool, typer.Option("--group", help="The id is a group's: take all of its patients.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw an image, a patient, a group or a reader, with every row that derives from it."""
    from engine.errors import TriptychError
    from engine.lineage.opening import maintaining
    from engine.lineage.reach import summary
    from engine.workspace import Workspace
    from pipelines.commands import withdraw as withdrawal

    if (target is None) == (reader is None) or (reader is not None and group):
        raise TriptychError("withdraw what? Give an id (with --group or not), or --reader alone")
    if dry_run:
        place = Workspace.existing(workspace)
        if reader is not None:
            answer = withdrawal.reached_by_reader(place, place.ledger(), reader)
        else:
            answer = withdrawal.reached_by(place, place.ledger(), str(target), group)
    else:
        with maintaining(workspace) as place:
            if reader is not None:
                answer = withdrawal.withdraw_reader(place, reader, reason, by)
            else:
                answer = withdrawal.withdraw(place, str(target), reason, by, group)
    if as_json:
        _print_json(answer.to_dict() | {"done": not dry_run})
    else:
        _say(summary(answer))
        print("nothing was changed" if dry_run else "the rows are gone; tombstones stay")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="A workspace.")],
    after: Annotated[Path, typer.Argument(help="Another workspace.")],
    as_json: AsJson = False,
) -> None:
    """Rows added and dropped, decisions that changed and why, metrics that changed."""
    from engine.lineage import questions

    found = questions.diff(_ledger(before), _ledger(after))
    if as_json:
        _print_json(found)
        return
    print(f"{len(found['added'])} rows added, {len(found['dropped'])} dropped")
    print(f"{len(found['changed'])} decisions changed")
    if found["changed"]:
        _table([{k: r[k] for k in ("id", "why_before", "why_after")} for r in found["changed"]])
    print(f"{len(found['metrics'])} metrics changed")
    if found["metrics"]:
        _table(found["metrics"])


@app.command()
def reproduce(
    row: Annotated[str, typer.Argument(help="An image's, triplet's or dataset's id.")],
    workspace: Existing,
    as_json: AsJson = False,
) -> None:
    """Make a row or an export again from its lineage, and compare bytes."""
    from engine.workspace import Workspace
    from pipelines.commands.reproduce import reproduce as again

    found = again(Workspace.existing(workspace), row)
    if as_json:
        _print_json(found)
    else:
        _say(f"{found['kind']} {found['id']}: {'equal' if found['equal'] else 'NOT equal'}")
        _say(f"  {found['detail']}")
    if not found["equal"]:
        raise typer.Exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, as DuckDB has it; it cannot write.")],
    workspace: Existing,
    as_json: AsJson = False,
) -> None:
    """Ask the ledger anything; docs/lineage-schema.md says what is in it."""
    from engine.lineage import questions

    rows = questions.ask(_ledger(workspace), query)
    _print_json(rows) if as_json else _table(rows)


@app.command()
def verify(workspace: Existing, as_json: AsJson = False) -> None:
    """Check every hash, every reference and every file; exit code 1 where something is wrong."""
    from engine.lineage import verify as verifying
    from engine.workspace import Workspace

    report = verifying.verify(Workspace.existing(workspace))
    if as_json:
        _print_json(report.to_dict())
    else:
        for problem in report.problems:
            detail = f": {problem['detail']}" if problem["detail"] else ""
            _say(f"{problem['what']} at {problem['where']}{detail}")
        print(
            f"{report.commits} stages, {report.shards} shards, {report.rows} rows in "
            f"{report.seconds:.1f} s: {len(report.problems) or 'no'} problems"
        )
        if report.unchained:
            print(f"{report.unchained} stages are older than the hash chain")
    if report.problems:
        raise typer.Exit(1)


@app.command()
def graph(
    row: AnyId,
    workspace: Existing,
    out: Annotated[Path | None, typer.Option(help="The file; default ID.svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw what a row came from and what came of it, as SVG."""
    from engine.lineage import graph as drawing

    found = drawing.neighbourhood(_ledger(workspace), row)
    if as_json:
        _print_json(found.to_dict())
        return
    path = out or Path(f"{found.centre[:12]}.svg")
    path.write_text(drawing.svg(found), encoding="utf-8")
    print(path)


@app.command()
def rebuild(workspace: Existing) -> None:
    """Make ledger.duckdb again from the Parquet record, whose every hash is checked first."""
    from engine.lineage import repair
    from engine.lineage.opening import maintaining

    with maintaining(workspace) as place:
        repair.mend(place, thorough=True)
        print(f"{place.ledger().rebuild(place.events)} stages in {place.root}/ledger.duckdb")


@app.command()
def prov(
    workspace: Existing,
    row: Annotated[str | None, typer.Argument(help="A row's id; without it, all rows.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file instead of the terminal.")] = None,
) -> None:
    """The record, or what one row goes back to, as W3C PROV-JSON."""
    from engine.lineage import prov as standard
    from engine.workspace import Workspace

    text = standard.write(Workspace.existing(workspace), row)
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


@app.command()
def chain(
    workspace: Existing,
    head: Annotated[str | None, typer.Option(help="A head noted earlier, to look for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the record's hash chain; exit code 1 where something was changed or removed."""
    from engine.lineage import chain
    from engine.workspace import Workspace

    place = Workspace.existing(workspace)
    findings = chain.check(place, head)
    if as_json:
        shown = [{"folder": f.folder, "kind": f.kind, "what": f.what} for f in findings]
        _print_json({"head": place.head, "findings": shown})
    else:
        _say("".join(f"{f.kind:9} {f}\n" for f in findings) + f"head {place.head}")
    if any(f.kind == "broken" for f in findings):
        raise typer.Exit(1)


@app.command()
def sign(
    workspace: Existing,
    key: Annotated[Path, typer.Option(help="An SSH private key.")],
) -> None:
    """Sign the head of the record's hash chain with an SSH key."""
    from engine.lineage import chain
    from engine.workspace import Workspace

    print(chain.sign(Workspace.existing(workspace), key))


@app.command("verify-signature")
def verify_signature(
    workspace: Existing,
    key: Annotated[Path, typer.Option(help="The signer's SSH public key.")],
) -> None:
    """Check the newest signature, and that the record is as it was signed."""
    from engine.lineage import chain
    from engine.workspace import Workspace

    print(chain.verify_signature(Workspace.existing(workspace), key))


@app.command()
def schema() -> None:
    """Print docs/lineage-schema.md: every table and column of the ledger."""
    from engine.lineage.schema import render

    print(render(), end="")
