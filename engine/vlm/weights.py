"""What a model is known by: the hash of its files, its repository's commit, or a mere name."""

from __future__ import annotations

import re
from pathlib import Path

from engine.errors import TriptychError
from engine.lineage.files import hashes_of, listing_hash
from engine.records import Model, content_id

_COMMIT = re.compile(r"[0-9a-f]{40}")
_known: dict[tuple[tuple[str, int, int, int, int], ...], str] = {}
_PATIENCE = 10.0  # seconds that the Hub has to say which commit a name stands for


def folder_id(folder: Path) -> str:
    """32 hex digits of the SHA-256 over the names and hashes of all files of a model's folder.

    Configuration, chat template, processor and a judge's calibration decide what a model writes as
    much as its weights do. The listing is `sha256sum`'s, in the order of the paths; files that a
    file browser left are not in it.
    """
    return listing_hash(hashes_of(folder))[:32]


def known_id(folder: Path) -> str:
    """`folder_id`, worked out once a process where neither sizes nor times of files changed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    key = tuple((n, s.st_size, s.st_mtime_ns, s.st_dev, s.st_ino) for n, s in stats)
    if key not in _known:  # a folder that was renamed is the same
        _known[key] = folder_id(folder)
    return _known[key]


def outside_model(role: str, model: str, endpoint: bool = False) -> Model:
    """The row of a model that no stage of the workspace made: a folder, a Hub id, an endpoint's.

    A Hub id's path is NAME@COMMIT, which `located` loads again. Raises TriptychError where a name
    is no folder and no commit of it can be found.
    """
    if endpoint:
        path, known_by, model_id = model, "name", content_id("endpoint", model)
    elif Path(model).is_dir():
        path, known_by, model_id = model, "files", known_id(Path(model))
    else:
        path, known_by = pinned(model), "commit"
        model_id = content_id("hub", path)
    return Model(
        id=model_id,
        role=role,
        stage=role,
        round=0,
        parent_id=None,
        path=path,
        metrics="{}",
        known_by=known_by,
    )


def pinned(model: str) -> str:
    """NAME@COMMIT of a Hub id, which may name a branch, tag or commit: NAME@REVISION.

    The local cache is asked first, so that a machine without a network goes on with what it has.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    name, revision = located(model)
    if is_commit(revision):
        return model
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return f"{name}@{Path(cached).parent.name}"
        return f"{name}@{HfApi().model_info(name, revision=revision, timeout=_PATIENCE).sha}"
    except Exception as error:  # the library raises its own, httpx's and the system's
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TriptychError(
            f"no commit is known of model {model}: it is no folder, not in the local Hub cache, "
            f"and the Hub did not say ({why}): give a folder, or NAME@COMMIT"
        ) from None


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a whole commit hash: it names the same files for ever."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def located(model: str) -> tuple[str, str | None]:
    """What a loader is given: (folder or Hub id, revision of the Hub id where it names one)."""
    if Path(model).is_dir():
        return model, None
    name, _, revision = model.partition("@")
    return name, revision or None
