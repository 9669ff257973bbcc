"""A user's YAML file, of which whatever is wrong is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from engine.errors import TriptychError


def read_yaml(
    path: Path,
    what: str,
    *,
    unread: str = "",
    broken: str = "",
    loader: type[yaml.BaseLoader] | type[yaml.SafeLoader] = yaml.SafeLoader,
) -> Any:
    """The value in a file that is `what`, such as policy; UTF-8, with or without a byte order mark.

    Raises TriptychError with file, line and problem, and `unread` (what to do where there is no
    such file) or `broken` (where it is no YAML) behind it.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), loader)
    except OSError as error:
        told = f"{what} {path} cannot be read: {error.strerror}"
        raise TriptychError(f"{told}; {unread}" if unread else told) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        told = f"{what} {path} line {line}: no YAML: {error.problem}"
        raise TriptychError(f"{told}; {broken}" if broken else told) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise TriptychError(f"{what} {path}: no YAML: {type(error).__name__}") from None
