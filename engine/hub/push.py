"""Publish an export as a dataset on the Hugging Face Hub, or the server that HF_ENDPOINT names.

Every push is one commit with a tag, `v` and the version in croissant.json, whose build part is the
start of the content's hash. Data files that the new version lacks are deleted in the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import TriptychError


@dataclass(frozen=True, slots=True)
class Upload:
    """What a push publishes: sizes are bytes, `content` is the urn of the content's hash."""

    repo: str
    version: str
    content: str
    files: dict[str, int]

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    @property
    def message(self) -> str:
        return f"Version {self.version}\n\n{self.content}"


def url_of(repo: str) -> str:
    """Where a dataset's page is."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{repo}"


def check_name(repo: str) -> None:
    """Raise TriptychError where a repository's name is not OWNER/NAME as the Hub wants it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise TriptychError(f"--push {repo}: {_line(error)}") from None
    if "/" not in repo:
        raise TriptychError(f"--push {repo}: write OWNER/NAME")


def upload_of(folder: Path, repo: str) -> Upload:
    """What pushing an export would publish."""
    said = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    return Upload(repo, said["version"], said["identifier"], sizes)


def push(folder: Path, repo: str, private: bool | None = None) -> tuple[Upload, list[str]]:
    """Upload an export; returns what was published and the tags of other versions on the Hub.

    Makes the repository where there is none; `private` None takes it as it is, and makes it public.
    Raises TriptychError, one line, where the token, the repository or the network does not let it,
    or the repository is seen by others than said.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise TriptychError("no Hub token: set HF_TOKEN, or log in with `hf auth login`")
    what = upload_of(folder, repo)
    api = HfApi()
    with _said_plainly(repo, api.endpoint):
        api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
        if private is not None and api.dataset_info(repo).private is not private:
            is_now, said = ("public", "private") if private else ("private", "public")
            raise TriptychError(f"{repo} is {is_now}: make it {said} first, or say --{is_now}")
        title, _, description = what.message.partition("\n\n")
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type="dataset",
            commit_message=title,
            commit_description=description,
            delete_patterns=["data/*", "*.parquet"],
        )
        api.create_tag(repo, tag=what.tag, repo_type="dataset", exist_ok=True)
        tags = api.list_repo_refs(repo, repo_type="dataset").tags
    return what, [tag.name for tag in tags if tag.name != what.tag]


@contextmanager
def _said_plainly(repo: str, endpoint: str) -> Iterator[None]:
    """The Hub's refusals and the network's failures as one line each."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise TriptychError(_refusal(error, repo, endpoint)) from None
    except (HTTPError, OSError) as error:
        raise TriptychError(f"cannot reach {endpoint}: {_line(error)}") from None
    except (
        RuntimeError,
        ValueError,
    ) as error:  # a file's upload failed, or the server's answer is odd
        raise TriptychError(f"upload to {repo} failed: {_line(error.__cause__ or error)}") from None


def _refusal(error: Any, repo: str, endpoint: str) -> str:
    status = error.response.status_code
    reasons = {
        401: "the token is not valid there: set HF_TOKEN to one that may write",
        403: f"the token may not write to {repo}",
        404: f"there is no {repo}, or the token may not see it",
    }
    return f"{endpoint} refused ({status}): {reasons.get(status, _line(error))}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
