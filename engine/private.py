"""What a run makes and knows is its owner's alone: files, the temporary folder, the secret key.

Under umask 077 every file and folder is made readable by its owner only. Temporary files, Ray's
session among them, lie in a folder of this run that goes with it. A secret that came in the
environment is taken out of it, so that no process started later has it.
"""

from __future__ import annotations

import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from engine.errors import TriptychError

KEY = "TRIPTYCH_KEY"
MAKE_KEY = "make one with `(umask 077; openssl rand -hex 32 > FILE)`, away from the workspace"
KEY_BYTES = 16
DIFFERENT = 8  # symbols of a key, and steps from one to the next
RAY = "ray"  # its session's place in the temporary folder
SOCKET_PATH = 107 - 64  # bytes of a socket's path, less what Ray appends to its folder

_held: dict[str, str] = {}


def close_files() -> None:
    """Files and folders made from here on are for their owner alone."""
    os.umask(0o077)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for this run's temporary files, and TMPDIR of all processes that it starts.

    In TMPDIR where that leaves room for the names of Ray's sockets, else in /tmp.
    """
    before, place = os.environ.get("TMPDIR"), tempfile.gettempdir()
    room = len(os.fsencode(place)) + len(f"/triptych-abcdefgh/{RAY}") <= SOCKET_PATH
    with tempfile.TemporaryDirectory(
        prefix="triptych-", dir=place if room else "/tmp", ignore_cleanup_errors=True
    ) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before


def take_key() -> None:
    """Move TRIPTYCH_KEY out of the environment, which other processes would inherit."""
    _held[KEY] = os.environ.pop(KEY, "")


def key_of_environment() -> bytes:
    """TRIPTYCH_KEY, b"" where it was not set. Raises TriptychError in a Ray job.

    There it can only come from the environment of the cluster, which every job can print.
    """
    text = os.environ.get(KEY) or _held.get(KEY, "")
    if text and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise TriptychError(
            f"{KEY} is in the environment of the Ray cluster, where any job can read it: take it "
            "out there, and give source.key_file"
        )
    return _long(text.strip().encode(), KEY) if text else b""


def key_of_file(path: Path, name: str) -> bytes:
    """The secret key in a file, without white space around it.

    Raises TriptychError where others than its owner can open it, or it is short.
    """
    try:
        mode, key = stat.S_IMODE(path.stat().st_mode), path.read_bytes().strip()
    except OSError as error:
        raise TriptychError(f"{name} {path} cannot be read: {error.strerror}") from None
    if _others_reach(path):
        raise TriptychError(
            f"{name} {path} can be read by others (mode {mode:03o}): chmod 600 {path}"
        )
    return _long(key, f"{name} {path}")


def _others_reach(path: Path) -> bool:
    """Whether its group or all can open a file: by its own bits, and a way through the folders."""
    mode, above = path.stat().st_mode, [folder.stat() for folder in path.resolve().parents]
    return any(
        mode & who * 0o7 and all(folder.st_mode & who for folder in above) for who in (0o10, 0o01)
    )


def bearer(name: str) -> tuple[str, dict[str, str]]:
    """The API key in an environment variable and the header that carries it; "" and none without.

    Raises TriptychError, which does not say it, for a key that no header can carry.
    """
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise TriptychError(f"{name} holds a character that no key has: set it again")
    return key, {"Authorization": f"Bearer {key}"} if key else {}


def address_told(url: str) -> str:
    """An address without the password and the query, either of which may be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no address)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def guessable(key: bytes) -> bool:
    """Whether a key has an order that a program which guesses keys would try."""
    steps = {b - a for a, b in pairwise(key)}
    few = min(len(set(key)), len(steps)) < DIFFERENT
    return few or len(zlib.compress(key, 9)) - len(zlib.compress(b"")) < KEY_BYTES


def _long(key: bytes, name: str) -> bytes:
    if len(key) < KEY_BYTES:
        raise TriptychError(f"{name} has fewer than {KEY_BYTES} characters: {MAKE_KEY}")
    return key
