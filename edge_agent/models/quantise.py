"""Smaller forms of a model that is here, for a board that is slower or has less memory."""

from __future__ import annotations

from pathlib import Path

from edge_agent.models.cache import check_free_space, install, sha256_of, work_dir
from edge_agent.models.progress import PullProgress
from shared.config.model_files import cached_path
from shared.errors import ModelError


def quantise(
    source: Path, file_type: str, name: str, cache_dir: Path, progress: PullProgress
) -> Path:
    """Make the model `name` of another; what was there of that name stays until it is whole.

    Raises:
        ModelError: llama.cpp cannot read the source, or there is no room.
    """
    # Only here: llama.cpp takes a second to load.
    from edge_agent.draft_model.llama_outline import read_outline
    from edge_agent.draft_model.requantise import requantise

    title = f"quantising to {file_type}"
    try:
        with work_dir(
            cache_dir, lambda: progress.begin_stage("waiting for a pull to end")
        ) as directory:
            check_free_space(cache_dir, source.stat().st_size)
            finished = directory / f"{name}.gguf"
            requantise(
                *(source, finished, file_type, progress.update),
                on_total=lambda num_tensors: progress.begin_stage(title, num_tensors),
            )
            read_outline(finished)  # no checksum is known of it yet: it must at least be whole
            path = cached_path(cache_dir, name)
            install(finished, path, sha256_of(finished))
            return path
    except OSError as error:  # a full disk, a directory of another user
        raise ModelError(f"cannot keep {name} in {cache_dir}: {error.strerror}") from error
