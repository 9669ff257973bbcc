"""What a run takes along to a cluster: our code, and the configuration as it was read here.

A configuration that is read has the prompts, policies, rubrics and question templates of its files
in it, so that one file says all. What is large, or secret, does not travel: it is at the same path
on every node.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from engine import VERSION
from engine.config import Config
from engine.errors import TriptychError
from engine.lineage.runs import ROOMS, ROOT, declared
from engine.private import KEY

CONFIG = "run.yaml"
MOST = 100 * 2**20  # bytes that Ray's dashboard takes


def pack(config: Config, folder: Path) -> None:
    """Put our packages, their requirements by name and the configuration into an empty folder.

    Raises TriptychError where that is more than Ray takes.
    """
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    # An image need not have Triptych installed, and the record names the packages that it needs.
    info = folder / f"triptych-{VERSION}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", "Name: triptych", f"Version: {VERSION}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in declared()]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True, sort_keys=False)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    _check_size(folder)


def _check_size(folder: Path) -> None:
    sizes = {f: f.stat().st_size for f in folder.rglob("*") if f.is_file()}
    if sum(sizes.values()) >= MOST:
        largest = max(sizes, key=lambda f: sizes[f])
        raise TriptychError(
            f"our packages hold {sum(sizes.values()) / 2**20:.0f} MiB, and Ray takes less than "
            f"{MOST / 2**20:.0f}: move away what is no code, such as "
            f"{ROOT / largest.relative_to(folder)}"
        )


def stays(config: Config) -> dict[str, Path]:
    """Folders and files that every node must have at the same path, by the key that names them.

    Raises TriptychError for a path that is not absolute, and where the secret key would have to
    come from the environment, which a job does not take.
    """
    if config.source.path and not (config.source.key_file or config.source.public):
        raise TriptychError(
            f"patients' ids are hashed with a secret key, and no job gets {KEY}: set "
            "source.key_file to a file of mode 600 that the head can read"
        )
    found = {}
    for key, value in _named(config):
        path = Path(value)
        if not path.is_absolute():
            raise TriptychError(
                f"{key} {value} does not travel: give the path at which all nodes have it, such as "
                f"--set {key}=/shared/{path.name}"
            )
        found[key] = path
    return found


def _named(config: Config) -> Iterator[tuple[str, str]]:
    """The keys that name a place on disk: of models those that are a folder here or look like one,
    unless a server of its own knows them."""
    source, generator, verify = config.source, config.generator, config.verify
    for key, place in (("source.path", source.path), ("source.key_file", source.key_file)):
        if place:
            yield key, place
    for name, place in config.select.contamination.benchmarks.items():
        yield f"select.contamination.benchmarks.{name}", place
    models = {"model": config.model, "reward.model": config.reward.model}
    if generator.backend.weights_known:
        models["generator.model"] = generator.model
    if verify.rubric and verify.rubric.backend.weights_known:
        models["verify.rubric.model"] = verify.rubric.model
    if verify.blind and (verify.blind.backend or generator.backend).weights_known:
        models["verify.blind.model"] = verify.blind.model
    for key, model in models.items():
        if model and (model.startswith((".", "/")) or Path(model).is_dir()):
            yield key, model
