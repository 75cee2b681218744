"""What `--workers`, `--gpus-per-worker` and `--ray` say, as settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from shared.config.sections import Loaded
from shared.errors import ConfigError
from verifier.config import VerifierConfig
from verifier.workers.settings import RAY_PATTERN, WorkersSection


class WorkersWanted(msgspec.Struct, frozen=True):
    """Of a command line; None: as the settings have it."""

    num_workers: int | None = None
    gpus_per_worker: int | None = None
    ray: str | None = None


def with_workers(
    load: Callable[[], Loaded[VerifierConfig]], wanted: WorkersWanted
) -> Loaded[VerifierConfig]:
    """The settings with what is wanted.

    Raises:
        ConfigError: it does not go together.
    """
    loaded = load()
    section = _with_ray(loaded.config.workers, wanted)
    each = section.gpus_per_worker if wanted.gpus_per_worker is None else wanted.gpus_per_worker
    if each > 1 and not section.has_any:
        section = msgspec.structs.replace(section, local=1)  # only a worker has several
    own = msgspec.structs.replace(section, gpus_per_worker=each)
    config = msgspec.structs.replace(loaded.config, workers=own)
    return msgspec.structs.replace(loaded, config=config)


def _with_ray(section: WorkersSection, wanted: WorkersWanted) -> WorkersSection:
    if wanted.ray is None:
        if wanted.num_workers is None:
            return section
        return msgspec.structs.replace(section, local=wanted.num_workers)
    if not re.match(RAY_PATTERN, wanted.ray):
        raise ConfigError((f"--ray {wanted.ray}: must be local, or host:port of Ray's head",))
    count = wanted.num_workers or max(section.on_ray, 1)
    own = msgspec.structs.replace(section, ray=wanted.ray, on_ray=count)
    if problems := tuple(f"workers.{key}: must be {words}" for key, words in own.unfit()):
        raise ConfigError(problems)
    return own
