"""Models whose configuration and processor are known here, to be reckoned with offline.

A file a model: its name on the Hub, the commit that it is of, how many weights it has, and of
`config.json` and `preprocessor_config.json` what decides sizes.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def known_models() -> dict[str, dict[str, Any]]:
    """By name {commit, weights, config, processor}."""
    files = [f for f in resources.files(__name__).iterdir() if f.name.endswith(".json")]
    found = [json.loads(file.read_text("utf-8")) for file in files]
    return {model["name"]: model for model in found}
