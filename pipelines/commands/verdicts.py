"""`triptych verdicts …`: what experts said, into a workspace and out of it, and how they agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="What experts said: bring it in, take it out, see how far they agree.",
    no_args_is_help=True,
)

SHOWN = 100  # lines about what was refused

Existing = Annotated[Path, typer.Option("--workspace", "-w", help="An existing workspace.")]


@app.command("import")
def bring_in(
    file: Annotated[Path, typer.Argument(help="CSV, JSON Lines, Parquet, or a tool's export.")],
    workspace: Existing,
    format: Annotated[
        str,
        typer.Option(help="csv, jsonl, parquet, label-studio or argilla; else the file tells."),
    ] = "",
    reader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PSEUDONYM",
            help="Who says what names no reader; or the pseudonym of one whom the file calls "
            "NAME. Repeatable.",
        ),
    ] = None,
) -> None:
    """Take verdicts and preferences from a file; exit code 1 where some were refused."""
    from pipelines.commands.opinions import take_in
    from pipelines.progress import Display

    taken = take_in(workspace, file, format, reader or [])
    display = Display()
    for line in taken.refused[:SHOWN]:
        display.say(line)
    if len(taken.refused) > SHOWN:
        display.say(f"and {len(taken.refused) - SHOWN} more: mend these, and give the file again")
    for line in taken.notes:
        display.warn(line)
    numbers = f"{len(taken.answers)} taken, {taken.known} known already, "
    say = display.warn if taken.refused else display.done
    say(f"{numbers}{len(taken.refused)} refused")
    if taken.answers:
        display.say(f"`triptych run` makes rows of them in {workspace}")
    if taken.refused:
        raise typer.Exit(1)


@app.command("export")
def take_out(
    file: Annotated[Path, typer.Argument(help="The file; must not exist.")],
    workspace: Existing,
    format: Annotated[
        str,
        typer.Option(
            help="csv, jsonl, parquet; label-studio: what is to be asked; trl: preferences to "
            "train on. Else the file's name tells."
        ),
    ] = "",
) -> None:
    """Write verdicts and preferences to a file, or for another tool what is to be asked."""
    from pipelines.commands.opinions import write_out
    from pipelines.progress import Display

    display = Display()
    for line in write_out(workspace, file, format):
        display.done(line)


@app.command()
def agreement(
    workspace: Existing,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """How far readers agree with each other, with the rest, and with themselves."""
    from dataclasses import asdict

    from pipelines.commands.opinions import agreement_of, tables
    from pipelines.progress import Display

    found = agreement_of(workspace)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    display = Display()
    if not found:
        display.say("no two readers answered the same question, and no reader one twice")
    for table in tables(found):
        display.console.print(table)
