"""What a stage runs in: the workspace, the configuration, the terminal, and the record so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine import VERSION, cluster
from engine.config import Config, build
from engine.config.cluster import Cluster
from engine.errors import TriptychError
from engine.lineage.files import check_hash
from engine.lineage.opening import writing
from engine.lineage.openlineage import Emitter
from engine.lineage.runs import this_run
from engine.pixels import Pixels
from engine.records import (
    Consumption,
    Image,
    Model,
    Preference,
    Row,
    Run,
    Triplet,
    Verdict,
    content_id,
)
from engine.sql import Scan
from engine.vlm.weights import is_commit, known_id, located, outside_model
from engine.workspace import Stage, Workspace
from pipelines.progress import Display
from pipelines.source import check_benchmarks, check_names, check_source


@dataclass
class Context:
    """Given to every stage function."""

    workspace: Workspace
    config: Config
    display: Display = field(default_factory=Display)
    _emitter: Emitter | None = None
    _checked: set[tuple[Path, str | None, int | None]] = field(default_factory=set)
    _run: Run | None = None

    def images(self) -> Iterator[Image]:
        """What is known of every ingested image, read as it is asked for."""
        return self.workspace.stream(Image)

    def shards(
        self, row_type: type[Row], stage: str | None = None, round: int | None = None
    ) -> list[Path]:
        """The committed shards of a type, of one stage and round where named.

        Raises TriptychError where one is not as it was committed.
        """
        found = []
        for commit, path, digest in self.workspace.shards(row_type.table):
            if stage in (None, commit["stage"]) and round in (None, commit["round"]):
                self._check(path, digest)
                found.append(path.absolute())
        return found

    def _check(self, path: Path, digest: str | None) -> None:
        """Compare a shard with its hash, once as long as nobody writes it."""
        state = (path, digest, path.stat().st_mtime_ns if path.is_file() else None)
        if state not in self._checked:
            check_hash(path, digest)
            self._checked.add(state)

    @contextmanager
    def scan(self, *row_types: type[Row]) -> Iterator[Scan]:
        """All committed rows of types, to be asked in SQL."""
        with Scan() as scan:
            for row_type in row_types:
                scan.table(row_type.table, row_type, self.shards(row_type))
            yield scan

    @cached_property
    def pixels(self) -> Pixels:
        """PNG bytes by image id, of the images that are committed."""
        return Pixels(self.workspace.root)

    def rows(self, row_type: type[Row], stage: str | None = None, round: int | None = None) -> Any:
        return self.workspace.read(row_type, stage, round)

    def model(self, role: str) -> Model:
        """The newest model of a role; the base where none was trained.

        Without GRPO (`grpo.steps: 0`) the SFT model is the policy.
        """
        roles = ("sft", "policy") if role == "policy" else (role,)
        trained = [m for m in self.workspace.read(Model) if m.role in roles]
        return trained[-1] if trained else self.base()

    def base(self) -> Model:
        return self.outside("base", self.config.base_model())

    def outside(self, role: str, named: str) -> Model:
        """A model that no stage makes, by the folder, Hub id or server's name that is configured.

        A Hub id stands for the commit that the record has of it, once it has one.
        """
        if role in self._served():
            return outside_model(role, named, endpoint=True)
        if not Path(named).is_dir():
            models = self.workspace.read(Model)
            known = [m for m in models if m.known_by == "commit" and _stands_for(m.path, named)]
            for model in sorted(known, key=lambda m: m.role != role)[:1]:
                return replace(model, role=role, stage=role)
        return outside_model(role, named)

    def _served(self) -> set[str]:
        """The roles of which a server answers, whose weights nobody knows."""
        writer, rubric, blind = (
            self.config.generator.backend,
            self.config.verify.rubric,
            self.config.verify.blind,
        )
        backends = {"generator": writer, "solver": (blind and blind.backend) or writer}
        backends |= {"verifier": rubric.backend} if rubric else {}
        return {role for role, backend in backends.items() if not backend.weights_known}

    def path_of(self, model: Model) -> str:
        """Where a model's weights are: in the workspace, or a folder or Hub id outside.

        Raises TriptychError where they are no longer those of the record.
        """
        inside = self.workspace.root / model.path
        if model.path == f"models/{model.id}":
            if not inside.is_dir() or known_id(inside) != model.id:
                state = "were changed" if inside.is_dir() else "are gone"
                raise TriptychError(
                    f"weights of the {model.role} in {inside} {state}: restore them from a backup"
                )
        return str(inside.resolve()) if inside.is_dir() else model.path

    def outside_models(self) -> list[Model]:
        """Models that no stage makes: the base, and what the configuration names beside it.

        Paths of folders are as configured, so that the record names no machine.
        """
        config, base = self.config, self.base()
        rubric, blind = config.verify.rubric, config.verify.blind
        named = {
            "generator": config.generator.model,
            "solver": blind.model if blind else None,
            "verifier": rubric.model if rubric else None,
            "judge": config.reward.model,
        }
        return [
            replace(base, path=config.model) if base.known_by == "files" else base,
            # A judge that starts from "generator" starts from the tuned one, which a stage makes.
            *(self.outside(role, m) for role, m in named.items() if m and m != "generator"),
        ]

    def run(self) -> Run:
        """This invocation, for the stages that it commits."""
        if self._run is None:
            self._run = this_run(self.config.recorded())
        return self._run

    def add_model(
        self,
        stage: Stage,
        role: str,
        folder: Path,
        parent: Model,
        metrics: str,
        consumed: Iterable[Triplet | Preference | Verdict | Model],
        steps: int | None = None,
        use: tuple[int | None, int | None] = (None, None),
    ) -> Model:
        """Move trained weights into the workspace and record them with what they consumed.

        `steps` is how many the training took; `use` bounds the step of first use
        (`engine.trainer.first_use`).
        """
        model_id, path = self.workspace.add_model(folder)
        model = Model(
            id=model_id,
            role=role,
            stage=stage.name,
            round=stage.round,
            parent_id=parent.id,
            path=str(path.relative_to(self.workspace.root)),
            metrics=metrics,
            step=steps,
        )
        stage.write(Model, [model])
        seen = (
            Consumption(
                id=content_id(model_id, row.id),
                model_id=model_id,
                row_id=row.id,
                row_table=row.table,
                stage=stage.name,
                first_step=use[0],
                by_step=use[1],
            )
            for row in consumed
        )
        stage.write_all(Consumption, seen)
        return model

    def has(self, stage: str, round: int | None = None) -> bool:
        return any(
            c["stage"] == stage and round in (None, c["round"]) for c in self.workspace.commits()
        )

    def require(self, stage: str, needed: list[tuple[str, int]]) -> None:
        """Raise TriptychError where a stage that this one builds on was not run."""
        for name, round in needed:
            if not self.has(name, round):
                where = f" (round {round})" if round else ""
                raise TriptychError(f"{stage} needs {name}{where} first: run `triptych {name}`")

    def _inputs(self, needed: list[tuple[str, int]]) -> list[dict[str, Any]]:
        """The commits that a stage reads; released images are part of ingest."""

        def read(commit: dict[str, Any]) -> bool:
            released = commit["stage"] == "review" and "images" in commit["rows"]
            return (("ingest" if released else commit["stage"]), commit["round"]) in needed

        return [c for c in self.workspace.commits() if read(c)]

    def emitter(self) -> Emitter:
        """Tells of the run's stages in OpenLineage's words; the same one every time."""
        if self._emitter is None:
            url = self.config.lineage.openlineage_url
            self._emitter = Emitter(self.workspace, self.config.name, url, self.display.warn)
        return self._emitter


def _stands_for(path: str, named: str) -> bool:
    """Whether a recorded NAME@COMMIT may be what a configured NAME or NAME@REVISION stands for."""
    (name, commit), (wanted, revision) = located(path), located(named)
    return name == wanted and (revision == commit or not is_commit(revision))


Body = Callable[[Context, Stage], None]


def run_stage(
    context: Context,
    name: str,
    round: int,
    body: Body,
    needs: list[tuple[str, int]],
    settings: Any,
) -> dict[str, Any]:
    """Run a stage, take it up where it was interrupted, or skip it where it is committed.

    The fingerprint is of the code's version, the settings and the commits it builds on.
    """
    context.require(name, needs)
    inputs = context._inputs(needs)
    fingerprint = content_id(
        VERSION,
        name,
        round,
        settings,
        context.config.seed,
        [commit["fingerprint"] for commit in inputs],
    )
    done = context.workspace.committed(fingerprint)
    if done:
        context.display.skipped(name, round, done)
        return done
    stage = context.workspace.begin(name, round, fingerprint)
    resumed = any(not shard.startswith(f"{Run.table}-") for shard in stage.done())
    shown = context.display.stage(name, round, resumed)
    with context.emitter().run(stage, inputs), shown:
        # A stage that was taken up again keeps the runs before: each has a shard of its own.
        stage.write(Run, [context.run()], context.run().id[:8])
        body(context, stage)
        commit = context.workspace.commit(stage)
    context.display.committed(commit)
    return commit


def config_of(root: Path, overrides: list[str] | None = None) -> Config:
    """A workspace's configuration, with overrides; raises TriptychError where there is none."""
    return build(Workspace.existing(root).latest, overrides or [], str(root / "workspace.json"))


@contextmanager
def opened(config: Config, root: Path, where: Cluster | None = None) -> Iterator[Context]:
    """A context with its workspace locked and Ray started, `where` it is not as configured."""
    check_names(config)
    check_benchmarks(config)
    if not (root / "workspace.json").is_file():
        check_source(config, root)
    with writing(root, config.name, config.recorded()) as workspace:
        cluster.start(where or config.cluster)
        try:
            yield Context(workspace, config)
        finally:
            cluster.stop()
