"""Who gets in: a token for each reader, and no request that another site's page has sent.

On the loopback device a single reader may go without a token. Everywhere else the first link
carries one, and a cookie has it from then on. Tokens are in WORKSPACE/reading/readers.json, which
its owner alone can read; whoever is taken out of the file is out.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import TriptychError
from engine.shards import flush
from reward_model.journal import FOLDER
from reward_model.pseudonyms import PSEUDONYM, pseudonym_problem

NAME = "readers.json"
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
MAX_BODY = 64 << 10  # bytes of a request
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Readers:
    """Who may read, each with their token, and the secret that keys of showings are made with."""

    secret: bytes
    tokens: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Path, names: Iterable[str] = ()) -> Readers:
        """Those of a workspace, and new ones by their names, who get a token each.

        Raises TriptychError for a name that is no pseudonym, or a file that cannot be read.
        """
        path = workspace / FOLDER / NAME
        before: dict[str, Any] = _read(path)
        secret = str(before.get("secret") or secrets.token_hex(32))
        tokens: dict[str, str] = dict(before.get("tokens", {}))
        for name in names:
            tokens.setdefault(pseudonym(name), secrets.token_urlsafe(32))
        now = {"secret": secret, "tokens": tokens}
        if now != before:
            _write(path, now)
        return cls(bytes.fromhex(secret), tokens)


def pseudonym(name: str) -> str:
    """A reader's name as it goes into the record; raises TriptychError for one that cannot."""
    problem = pseudonym_problem(name)
    if problem:
        raise TriptychError(problem)
    return name


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
        bytes.fromhex(found["secret"])
        if all(PSEUDONYM.fullmatch(n) and len(t) >= 32 for n, t in found["tokens"].items()):
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise TriptychError(
        f"{path} cannot be read: restore it, or remove it, and every reader gets a new link"
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, and never to be read by others."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    partial = path.with_name(f".{NAME}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump(content, out, indent=1)
        out.flush()
        os.fsync(handle)
    partial.replace(path)
    flush(path.parent)


@dataclass(frozen=True)
class Access:
    """Who may ask for what. `reader` reads without a token: on the loopback device alone."""

    readers: Readers
    names: frozenset[str] = LOOPBACK  # by which the page may be reached
    reader: str = ""
    secure: bool = False  # over TLS

    @property
    def cookie(self) -> str:
        """The cookie's name: rooms on other ports of the same host have others."""
        return f"triptych-{hmac.new(self.readers.secret, b'cookie', 'sha256').hexdigest()[:8]}"

    def with_token(self, token: str) -> str:
        """Whose token it is, "" where nobody's; it takes as long whoever's it is."""
        found = ""
        for name, known in self.readers.tokens.items():
            if hmac.compare_digest(known.encode(), token.encode(errors="replace")):
                found = name
        return found

    def reader_of(self, headers: Headers) -> str:
        """Who asks, "" where that is nobody we know."""
        if self.reader:
            return self.reader
        try:
            sent = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return self.with_token(sent.value) if sent else ""

    def refusal(self, method: str, headers: Headers) -> str:
        """Why a request is not answered whoever sends it; "" where it is."""
        host = headers.get("host", "")
        if _name(host) not in self.names:
            return "this host name is not the reading room's"
        site = headers.get("sec-fetch-site", "none")
        navigates = headers.get("sec-fetch-mode") == "navigate" and method == "GET"
        if site not in ("same-origin", "none") and not navigates:
            return "another site's page asks"
        if method == "POST":
            origin = headers.get("origin")
            scheme = "https" if self.secure else "http"
            if origin is not None and origin.lower() != f"{scheme}://{host}".lower():
                return "another site's page asks"
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return "only application/json is read"
        return ""


def _name(host: str) -> str:
    """The host of a Host header, without its port; "" where it is none."""
    try:
        found = urlsplit(f"//{host}")
        return (found.hostname or "") if not found.path and "@" not in host else ""
    except ValueError:
        return ""


class Guard:
    """The outermost layer: refuses what `Access.refusal` refuses, and sends the safe headers.

    A body of more than MAX_BODY bytes is not read.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; see `starlette.types.ASGIApp`."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.encode().lower(): value.encode() for name, value in HEADERS.items()}
                kept = [h for h in message["headers"] if h[0].lower() not in names]
                message["headers"] = [*kept, *names.items()]
            await send(message)

        why, status = self.access.refusal(scope["method"], Headers(scope=scope)), 403
        received: list[Message] = []
        if not why and scope["method"] == "POST":
            size, more = 0, True
            while more and size <= MAX_BODY:
                received.append(await receive())
                size += len(received[-1].get("body", b""))
                more = received[-1].get("more_body", False)
            if size > MAX_BODY:
                why, status = f"more than {MAX_BODY >> 10} KiB", 413
        if why:
            await PlainTextResponse(f"refused: {why}\n", status)(scope, receive, guarded)
            return

        async def again() -> Message:
            return received.pop(0) if received else await receive()

        await self.app(scope, again, guarded)
