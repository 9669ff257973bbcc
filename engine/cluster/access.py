"""Addresses of Ray, and the token that guards one; looked at before Ray is imported."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from engine.errors import TriptychError

ANSWERS_S = 10.0  # within which a running Ray takes a connection
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def check_address(address: str) -> None:
    """Raise TriptychError for an address at which nothing listens, which Ray would try for minutes,
    and for that of Ray's dashboard, which `ray job submit` wants."""
    if address.startswith(("http://", "https://")):
        raise TriptychError(
            f"{address} is the address of Ray's dashboard, for `triptych submit`: set "
            "cluster.address or RAY_ADDRESS to HEAD:6379, or take it out for a Ray of this run"
        )
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        socket.create_connection((parts.hostname or "", parts.port or 6379), ANSWERS_S).close()
    except (OSError, ValueError) as error:  # no port, no such host, nothing there
        raise TriptychError(
            f"no Ray at {address}: {error}: set cluster.address or RAY_ADDRESS to HEAD:6379"
        ) from None


def authenticate() -> None:
    """Join with the token where this machine has one, as `ray start` does; before Ray is imported.

    Ray turns token authentication on for a new head where a token exists, but not for clients.
    RAY_AUTH_MODE, where it is set, decides.
    """
    if has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def has_token() -> bool:
    """Whether Ray finds a token on this machine."""
    return bool(
        os.environ.get("RAY_AUTH_TOKEN")
        or os.environ.get("RAY_AUTH_TOKEN_PATH")
        or (Path.home() / ".ray" / "auth_token").is_file()
    )


def check_dashboard(address: str) -> None:
    """Raise TriptychError for what is no http(s) address, or wants a token and has none."""
    host = None
    if address.startswith(("http://", "https://")):
        with suppress(ValueError):
            host = urlsplit(address).hostname
    if not host:
        raise TriptychError(f"--address {address}: write http://HEAD:8265, Ray's dashboard")
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if host not in _LOOPBACK and not (mode == "token" and has_token()):
        raise TriptychError(
            f"--address {address} is another machine and no token guards it: on the head "
            "`ray get-auth-token --generate`, then RAY_AUTH_MODE=token for `ray start` and here, "
            "with the same token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
