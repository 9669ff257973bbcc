"""The reading room of a workspace, opened for one reader on this machine or for several.

    triptych annotate -w WORKSPACE --reader PSEUDONYM             here alone, without a token
    triptych annotate -w WORKSPACE --readers ANNA,BEN             a link with a token for each
    triptych annotate -w WORKSPACE --readers ANNA --host 0.0.0.0 --name ws1.hospital.example

A run may go on beside it: what it commits is seen, and it finds the answers in the journal.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path
from threading import Lock

from engine.config import Config
from engine.errors import TriptychError
from engine.imaging.ingest import Rules, frame_of, list_files
from engine.records import Image, Item
from engine.workspace import Workspace
from pipelines.commands.review import same_rules
from pipelines.context import config_of
from pipelines.progress import Display
from pipelines.source import source_folder
from reward_model.experts import asked_of
from reward_model.reading_room.access import LOOPBACK, Access, Readers, pseudonym
from reward_model.reading_room.room import Room

PORT = 8473  # where it is free, else any
READER = "reader"
ANY = ("0.0.0.0", "::")  # all of a machine's addresses


def open_room(
    root: Path,
    reader: str | None,
    readers: list[str],
    host: str,
    port: int | None,
    names: list[str],
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Serve the reading room until it is interrupted.

    Raises TriptychError where nothing was ever asked, nobody is named for a host that others
    reach, or the address cannot be listened on.
    """
    display, workspace = Display(), Workspace.existing(root)
    config = config_of(root)
    verdicts = asked_of(config).verdicts
    if not workspace.read(Item):
        raise TriptychError(_nothing(workspace))
    access = access_of(root, reader, readers, host, names, bool(certificate))
    originals = _originals(config, workspace, display)
    guarantee = config.select.guarantee
    room = Room(root, access.readers.secret, verdicts.repeats, guarantee, originals)
    room.open()
    listening = _listen(host, port)
    _greet(display, room, access, place_of(access, host, names, listening.getsockname()[1]))
    try:
        _serve(room, access, listening, certificate, key)
    finally:
        room.pictures.close()
    display.say("The reading room is closed; every answer is in the workspace.")


def access_of(
    root: Path, reader: str | None, readers: list[str], host: str, names: list[str], tls: bool
) -> Access:
    """Who gets in; raises TriptychError where others could, and nobody is named."""
    given = [name for words in readers for name in words.split(",") if name]
    loopback = _is_loopback(host)
    if reader is not None and (given or not loopback):
        raise TriptychError(
            "--reader reads without a token, on this machine alone: give --readers NAME,NAME, and "
            "each gets a link of their own"
        )
    known = Readers.of(root, given)
    if not loopback and not known.tokens:
        raise TriptychError(
            f"--host {host} can be reached from other machines: name the readers (--readers "
            "NAME,NAME), and each gets a link of their own"
        )
    alone = loopback and not given
    reached = [*names, *([] if loopback else _own_names(host))]
    return Access(
        known,
        frozenset({name.lower().strip("[]") for name in reached} | LOOPBACK),
        pseudonym(reader or READER) if alone else "",
        tls,
    )


def _nothing(workspace: Workspace) -> str:
    if workspace.commits():
        return (
            f"nobody was asked anything in {workspace.root} yet: give `triptych run CONFIG`, which "
            "proposes questions and says when people are needed"
        )
    return f"{workspace.root} is empty: give `triptych run CONFIG` first"


class Originals:
    """Where the files are that images came from, by `Image.source`; for several threads."""

    def __init__(self, folder: Path, rules: Rules) -> None:
        self._folder, self._rules = folder, rules
        self._files: dict[str, Path] | None = None
        self._lock = Lock()

    def __call__(self, image: Image) -> tuple[Path, int] | None:
        """An image's file and which frame of it; None where the file is not there."""
        with self._lock:
            if self._files is None:  # a listing takes a while, and most rooms need none
                self._files = {
                    self._rules.name(path.relative_to(self._folder).as_posix()): path
                    for path in list_files(self._folder)
                }
        path = self._files.get(image.source)
        return (path, frame_of(image)) if path is not None else None


def _originals(config: Config, workspace: Workspace, display: Display) -> Originals | None:
    """The source, where it and its key are at hand; else it is told why not."""
    try:
        rules = same_rules(config, workspace)
        return Originals(source_folder(config, workspace.root), rules)
    except TriptychError as error:
        display.say(f"Windows other than the stored one cannot be drawn: {error}")
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_names(host: str) -> list[str]:
    """By which names a host is reached; of all of a machine's addresses its own names."""
    if host not in ANY:
        return [host]
    found = [socket.gethostname(), socket.getfqdn()]
    with suppress(OSError):
        found += socket.gethostbyname_ex(socket.gethostname())[2]
    return found


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens; without a wish at PORT, or at any port where that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wishes = [PORT, 0] if port is None else [port]
    for wish in wishes:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, wish))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            if wish == wishes[-1]:
                raise TriptychError(
                    f"cannot listen at {host}, port {wish} ({error.strerror}): give another --host "
                    "or --port"
                ) from None
    raise AssertionError("there is a wish")


def place_of(access: Access, host: str, names: list[str], port: int) -> str:
    """The page's URL, under the first name that was given."""
    name = [*names, socket.gethostname() if host in ANY else host][0]
    scheme = "https" if access.secure else "http"
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}/"


def _greet(display: Display, room: Room, access: Access, url: str) -> None:
    wanted = room.queue.wanted()
    if wanted:
        display.say(f"Answers wanted: {wanted}.")
    else:
        display.say("Nothing is waiting: give `triptych run CONFIG` again, and it goes on.")
    most = room.queue.readers_wanted()
    if most > (1 if access.reader else len(access.readers.tokens)):
        display.warn(
            f"Some questions want {most} different readers: open the room for each of them "
            "(--reader NAME, one after the other, or --readers NAME,NAME)."
        )
    if access.reader:
        display.say(f"Reading room for {access.reader}: {url}")
    else:
        for reader, token in access.readers.tokens.items():
            display.console.print(
                f"{reader}: {url}enter?token={token}", soft_wrap=True, markup=False
            )
        if access.names > LOOPBACK and not access.secure:
            display.warn(
                "Images leave this machine unencrypted: give --certificate and --certificate-key, "
                "or put a proxy with TLS before it."
            )
    display.say("Every answer is on disk at once. Ctrl+C closes the room.")


def _serve(
    room: Room,
    access: Access,
    listening: socket.socket,
    certificate: Path | None,
    key: Path | None,
) -> None:
    import uvicorn

    from reward_model.reading_room.server import create_app

    settings = uvicorn.Config(
        create_app(room, access),
        log_level="warning",
        access_log=False,  # links have tokens
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=5,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listening])
