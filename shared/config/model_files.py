"""Where model files are: a name in the cache directory of this user, or a path.

Both sides look here, so that on one machine the verifier's target and the board's draft may be
the same file. This module must never write or fetch anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from shared.errors import ModelError

# devices/systemd/tmpfiles.d makes it.
INSTALLED_MODELS = Path("/var/lib/goodspeed/models")


def default_cache_dir(environment: Mapping[str, str], installed: Path = INSTALLED_MODELS) -> Path:
    """$GOODSPEED_MODEL_DIR, that of the services, $XDG_CACHE_HOME/goodspeed/models, or ~/.cache.

    `installed`: where services look; for all who may write there, as root may.
    """
    if chosen := environment.get("GOODSPEED_MODEL_DIR"):
        return Path(chosen)
    if os.access(installed, os.W_OK):
        return installed
    if cache_home := environment.get("XDG_CACHE_HOME"):
        return Path(cache_home) / "goodspeed" / "models"
    return Path.home() / ".cache" / "goodspeed" / "models"


def cached_path(cache_dir: Path, name: str) -> Path:
    """Where the model of that name is or will be."""
    return cache_dir / f"{name}.gguf"


def locate(name_or_path: str, cache_dir: Path, known: Collection[str] = ()) -> Path:
    """The file or directory of a model: a name in the cache, else a path that exists.

    The name comes first, so that one setting means one model whatever lies in the directory where a
    program is started; a path with a slash in it (`./NAME`) is never a name. `known` are the names
    that can be pulled, if the caller knows them: they are told where there is no such model.

    Raises:
        ModelError: there is neither; the sentence says how to get it.
    """
    path = Path(name_or_path).expanduser()
    if "/" not in name_or_path:
        cached = cached_path(cache_dir, name_or_path)
        if cached.exists():
            return cached
    if path.exists():
        return path
    if "/" in name_or_path:
        raise ModelError(f"there is no model at {name_or_path}")
    if known and name_or_path not in known:
        raise ModelError(f"model {name_or_path} is neither a file nor one of {', '.join(known)}")
    raise ModelError(
        f"model {name_or_path} is neither a file nor in {cache_dir}: {pull_command(name_or_path)}"
    )


def pull_command(name: str) -> str:
    """What a person types to get the model of that name."""
    return f"goodspeed-agent model pull {name}"
