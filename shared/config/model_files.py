"""Where model files are: a path, or a name in the cache directory of this user.

Both sides look here, so that on one machine the verifier's target and the board's draft may be
the same file.  This module must never write or fetch anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from shared.errors import ModelError


def default_cache_dir(environment: Mapping[str, str]) -> Path:
    """$GOODSPEED_MODEL_DIR, $XDG_CACHE_HOME/goodspeed/models or that in ~/.cache."""
    if chosen := environment.get("GOODSPEED_MODEL_DIR"):
        return Path(chosen)
    if cache_home := environment.get("XDG_CACHE_HOME"):
        return Path(cache_home) / "goodspeed" / "models"
    return Path.home() / ".cache" / "goodspeed" / "models"


def cached_path(cache_dir: Path, name: str) -> Path:
    """Where the model of that name is or will be."""
    return cache_dir / f"{name}.gguf"


def resolve_model(name_or_path: str) -> Path:
    """The file (or directory) of a model: a path that exists, else a name in the cache.

    Raises:
        ModelError: there is neither; the sentence says how to get it.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    cached = cached_path(default_cache_dir(os.environ), name_or_path)
    if cached.exists():
        return cached
    if "/" in name_or_path:
        raise ModelError(f"there is no model at {name_or_path}")
    raise ModelError(
        f"model {name_or_path} is not here; get it with `goodspeed-agent model pull {name_or_path}`"
    )
