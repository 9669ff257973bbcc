"""The `triptych` command."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import PEOPLE, PeopleWanted, TriptychError, printable
from engine.private import close_files, take_key
from pipelines.commands.lineage import app as lineage
from pipelines.commands.verdicts import app as verdicts

_FULL = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]

app = typer.Typer(
    help="A synthetic medical VQA data engine: image, question, answer, and where each came from.",
    no_args_is_help=True,
    epilog="`triptych run` runs the stages in this order: ingest, seed, tune, compare, consult, "
    "collect, reward; then each round plan, generate, verify (where it is switched on), judge, "
    "consult, collect, select, compose, sft, grpo, evaluate, refine, renew (where it is too).",
    pretty_exceptions_enable=False,
)
# The panels of `triptych --help`, in the order of the commands below.
RUN, DATA, EXPERTS, MODELS, RECORD = "Run", "Data", "Experts", "Models", "Record"

ConfigFile = Annotated[Path, typer.Argument(help="The configuration, such as configs/demo.yaml.")]
Folder = Annotated[
    Path | None, typer.Option("--workspace", "-w", help="The workspace; default runs/<name>.")
]
Existing = Annotated[Path, typer.Option("--workspace", "-w", help="An existing workspace.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="key=value over the configuration; repeatable.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]


def _version(wanted: bool) -> None:
    if wanted:
        from engine import VERSION
        from engine.lineage.runs import code_id

        print(f"triptych {VERSION}, code {code_id()[:12]}")
        raise typer.Exit


@app.callback()
def options(
    debug: Debug = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which, and end."),
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        os.environ["TRIPTYCH_DEBUG"] = "1"


@app.command(rich_help_panel=RUN)
def init(
    name: Annotated[str, typer.Argument(help="Of the run: NAME.yaml is written here.")],
    images: Annotated[Path, typer.Option(help="The folder of images.")],
    force: Annotated[bool, typer.Option("--force", help="Replace NAME.yaml.")] = False,
) -> None:
    """Write a configuration for a folder of images: it is looked into, and nothing is asked."""
    from pipelines.commands.init import write_configuration
    from pipelines.progress import Display

    write_configuration(name, images, force, Display())


@app.command(rich_help_panel=RUN)
def preflight(
    config_file: ConfigFile,
    workspace: Folder = None,
    overrides: Overrides = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=1, help="GiB of a GPU; else cluster.gpu_memory, this machine's."),
    ] = None,
    host_memory: Annotated[
        float | None,
        typer.Option(min=1, help="GiB of a node; else cluster.host_memory, this machine's."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="What an hour of a GPU costs: money is told in it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """What a run takes, before anything starts: memory, tokens, rows, steps, time, disk, money.

    Exit code 1 where something cannot fit: each with the setting to change.
    """
    from engine.config import load

    config = load(config_file, overrides)
    from pipelines.commands.preflight import check

    if not check(config, workspace, gpu_memory, host_memory, rate, as_json):
        raise typer.Exit(1)


@app.command(rich_help_panel=RUN)
def run(config_file: ConfigFile, workspace: Folder = None, overrides: Overrides = None) -> None:
    """Run the whole loop; run it again after an interruption and it goes on where it stopped."""
    from engine.config import load

    config = load(config_file, overrides)  # before the heavy imports: a typo answers at once
    from pipelines.commands.run import run_all

    run_all(config, workspace)


@app.command(rich_help_panel=RUN)
def submit(
    config_file: ConfigFile,
    address: Annotated[str, typer.Option(help="Ray's dashboard, http://HEAD:8265.")],
    workspace: Folder = None,
    overrides: Overrides = None,
) -> None:
    """Run the loop on a Ray cluster as a Ray job, and follow its output.

    The workspace must be a path that the whole cluster shares.
    """
    from pipelines.commands.submit import submit_run

    raise typer.Exit(submit_run(config_file, address, workspace, overrides or []))


@app.command(rich_help_panel=RUN)
def status(workspace: Existing) -> None:
    """What has been done in a workspace, and what its rounds achieved."""
    from engine.workspace import Workspace
    from pipelines.progress import Display, stages_table, summary

    commits = Workspace.existing(workspace).commits()
    console = Display().console
    console.print(stages_table(commits))
    console.print(summary(commits))


@app.command(rich_help_panel=RUN)
def preview(
    workspace: Existing,
    rows: Annotated[int, typer.Option(help="How many questions to show.", min=1)] = 4,
    html: Annotated[Path | None, typer.Option(help="A page to write, with the images.")] = None,
    overrides: Overrides = None,
) -> None:
    """A handful of triplets before a full run, with or without a judge; nothing is recorded."""
    from engine.cluster import INLINE
    from engine.config.cluster import Cluster
    from pipelines.commands.preview import show
    from pipelines.context import config_of, opened

    here = Cluster(address=INLINE)  # a few rows in this process
    with opened(config_of(workspace, overrides), workspace, here) as context:
        show(context, rows, html)


@app.command(rich_help_panel=RUN)
def prompts(
    file: Annotated[Path, typer.Argument(help="The YAML file to write.")],
    of: Annotated[str, typer.Option(help="Whose words: full, compact or policy.")] = "full",
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Copy the words that models are asked in, or a policy; of a file that is there, check them."""
    from pipelines.commands.prompts import copy_words
    from pipelines.progress import Display

    copy_words(file, of, force, Display())


@app.command(rich_help_panel=RUN)
def report(workspace: Existing) -> None:
    """Write report/index.html."""
    from engine.workspace import Workspace
    from pipelines.commands import export as leaving
    from pipelines.progress import Display

    leaving.report(Workspace.existing(workspace), Display())


@app.command(rich_help_panel=DATA)
def ingest(
    source: Annotated[
        Path | None, typer.Argument(help="A configuration, or a folder of images.")
    ] = None,
    workspace: Folder = None,
    overrides: Overrides = None,
    review: Annotated[
        bool, typer.Option("--review", help="Show what is quarantined in the workspace.")
    ] = False,
    release: Annotated[
        list[str] | None,
        typer.Option(help="Release this image (id, `all`, or `clear`); repeatable."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Drop this image (id or `all`); repeatable.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who decides: a pseudonym.")] = "",
) -> None:
    """Make a workspace and read its images into it, or review what was quarantined."""
    from engine.config import build, load

    if review or release or drop:
        if workspace is None:
            raise TriptychError("--review needs the workspace: give --workspace FOLDER")
        from pipelines.commands.ingest import review_images

        review_images(workspace, overrides or [], release or [], drop or [], by)
        return
    if source is None:
        raise TriptychError("ingest what? Give a configuration, or a folder of images")
    if source.is_dir():
        values = {"name": "images", "source": {"path": str(source)}, "expert": {"kind": "none"}}
        config = build(values, overrides or [], str(source))
    else:
        config = load(source, overrides)
    from pipelines.commands.ingest import ingest_images

    ingest_images(config, workspace)


@app.command(rich_help_panel=DATA)
def deidentify(
    folder: Annotated[Path, typer.Argument(help="A folder of DICOM files.")],
    out: Annotated[Path, typer.Argument(help="Where the cleaned files go; must not exist.")],
    key_file: Annotated[
        Path | None, typer.Option(help="The secret key; else TRIPTYCH_KEY.")
    ] = None,
) -> None:
    """Write de-identified copies of DICOM files; what may carry printed text is left out."""
    from pipelines.commands.deidentify import write_cleaned
    from pipelines.progress import Display

    write_cleaned(folder, out, key_file, Display())


def _stage(name: str, workspace: Path, overrides: list[str] | None) -> None:
    """Run one stage in the first round that lacks it."""
    from pipelines import loop
    from pipelines.context import config_of, opened

    with opened(config_of(workspace, overrides), workspace) as context:
        loop.step(context, name, loop.next_round(context, name))


def _add_stage(name: str, panel: str, help: str) -> None:
    def command(workspace: Existing, overrides: Overrides = None) -> None:
        _stage(name, workspace, overrides)

    app.command(name, help=help, rich_help_panel=panel)(command)


for _name, _panel, _help in (
    ("plan", DATA, "Decide what the next round asks for."),
    ("generate", DATA, "Generate a round's triplets."),
    ("verify", DATA, "Measure a round's questions: votes, answers without the image, a rubric."),
    ("judge", DATA, "Score a round's triplets."),
    ("select", DATA, "Keep or reject each triplet, with the reason."),
    ("compose", DATA, "Compose questions of several steps from what is known of images."),
    ("seed", EXPERTS, "The expert's rows on the seed images."),
    ("compare", EXPERTS, "Candidates, and the pairs that the expert makes of them."),
    ("consult", EXPERTS, "Choose what experts are asked."),
    ("collect", EXPERTS, "Take what experts answered into the record."),
    ("tune", MODELS, "Tune the generator on the expert's rows."),
    ("reward", MODELS, "Train the judge on the preferences."),
    ("sft", MODELS, "Fine-tune the policy on what was kept."),
    ("grpo", MODELS, "GRPO of the policy against the composite reward."),
    ("evaluate", MODELS, "Score base and policy on the held-out images."),
    ("refine", MODELS, "Train the judge further on the round's pairs."),
    ("renew", MODELS, "Let the round's policy generate, if held-out rows are no worse by it."),
):
    _add_stage(_name, _panel, _help)


@app.command(rich_help_panel=EXPERTS)
def annotate(
    workspace: Existing,
    reader: Annotated[
        str | None,
        typer.Option(metavar="PSEUDONYM", help="Who reads, on this machine, without a token."),
    ] = None,
    readers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,NAME", help="Who read: each gets a link with a token."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; others than loopback need --readers.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port; default 8473, or a free one.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A host name by which readers reach it; repeatable."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="For TLS: PEM file.")
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The certificate's key: PEM.")
    ] = None,
) -> None:
    """Open the reading room: a local page on which experts give verdicts and preferences."""
    from pipelines.commands.annotate import open_room

    if certificate_key and not certificate:
        raise TriptychError("--certificate-key goes with --certificate")
    tls = (certificate, certificate_key)
    open_room(workspace, reader, readers or [], host, port, name or [], *tls)


@app.command(rich_help_panel=DATA)
def export(
    workspace: Existing,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Publish it as a dataset on the Hub.")
    ] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Who may see it; pictures of yours need the word."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what --push would send, and send nothing.")
    ] = False,
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="TOOL",
            help="Write it for a tool too: llava, llama-factory, verl, easyr1 or trl; repeatable.",
        ),
    ] = None,
) -> None:
    """Write the dataset folder, for datasets.load_dataset; withdrawn images are left out."""
    if push is None and (private is not None or dry_run):
        raise TriptychError("--private, --public and --dry-run go with --push OWNER/NAME")
    from engine.lineage.opening import maintaining
    from pipelines.commands import export as leaving
    from pipelines.progress import Display

    with maintaining(workspace) as place:
        leaving.export(place, Display(), push, private, dry_run, forms or [])


@app.command(rich_help_panel=RECORD)
def card(
    workspace: Existing,
    model: Annotated[str | None, typer.Argument(help="A model's id; else the dataset's.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file instead of the terminal.")] = None,
) -> None:
    """The card of the dataset or of a model, from the ledger alone."""
    from engine.hub.card import card as dataset_card
    from engine.hub.model_card import model_card
    from engine.workspace import Workspace

    place = Workspace.existing(workspace)
    text = model_card(place, model) if model else dataset_card(place, place.config["name"])
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        print(printable(text), end="")


app.add_typer(verdicts, name="verdicts", rich_help_panel=EXPERTS)
app.add_typer(lineage, name="lineage", rich_help_panel=RECORD)


def main() -> None:
    """Entry point: what a person has to resolve is one line and exit code 2, or 3 where experts
    have to answer before a run goes on."""
    close_files()
    take_key()
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # a full disk is told of here, and not after the end
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has enough
        with suppress(OSError):
            sys.stdout.close()
        sys.exit(1)
    except Exception as error:
        told = _told(error)
        if told is None or os.environ.get("TRIPTYCH_DEBUG"):
            raise
        with suppress(OSError):
            sys.stdout.flush()
        print(f"triptych: {told}", file=sys.stderr)
        sys.exit(PEOPLE if isinstance(error, PeopleWanted) else 2)


def _told(error: Exception) -> str | None:
    """The line for a person; None where the error is a defect, which shows its traceback."""
    full = next((why for why in _FULL if why in str(error)), None)  # DuckDB's errors have no number
    if full:
        where = f" ({error})" if isinstance(error, TriptychError) else ""
        return f"{full}: make room, and give the same command again{where}"
    if isinstance(error, TriptychError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return printable(f"{where}{error.strerror or error}")
    return None


if __name__ == "__main__":
    main()
