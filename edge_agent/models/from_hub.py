"""Pulling a GGUF file from a hub such as huggingface.co, with the hub's own client.

`hf:owner/repo/file.gguf`, with `@revision` behind it for another than the newest. HF_ENDPOINT and
HF_TOKEN are the client's. Nothing of a file is trusted but what its sha256 says.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.models.arrival import arriving_path, finish, forget_old_parts
from edge_agent.models.cache import check_free_space, recorded_sha256, sha256_of, work_dir
from edge_agent.models.progress import PullProgress
from shared.config.model_files import cached_path
from shared.daemon.peer_text import one_line
from shared.errors import ModelError

_REFERENCE = re.compile(
    r"hf:(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+)/(?P<file>[\w./+-]+\.gguf)(@(?P<revision>[\w./-]+))?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubFile(msgspec.Struct, frozen=True):
    """One file of a repository."""

    repo: str
    file: str
    revision: str = "main"

    @property
    def name(self) -> str:
        """Under which name it is in the cache."""
        return Path(self.file).stem

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf:{self.repo}/{self.file}{revision}"


def parse_hub_file(reference: str) -> HubFile:
    """The file that `hf:…` means.

    Raises:
        ModelError: it is written otherwise.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None or ".." in match["file"]:
        raise ModelError(f"{reference}: must be hf:OWNER/REPO/FILE.gguf, perhaps with @REVISION")
    repo = f"{match['owner']}/{match['repo']}"
    return HubFile(repo, match["file"], match["revision"] or "main")


def pull_from_hub(
    file: HubFile,
    cache_dir: Path,
    progress: PullProgress,
    *,
    name: str | None = None,
    sha256: str | None = None,
) -> Path:
    """The checked file, goes on where an earlier pull ended.

    `name`: another than that of the file; `sha256`: what it must be, else the hub's word counts.

    Raises:
        ModelError: the client is not installed, the hub cannot be reached or has no such file, or
            its bytes are wrong.
    """
    name = name or file.name
    path = cached_path(cache_dir, name)
    with work_dir(cache_dir, lambda: progress.begin_stage("waiting for another pull to end")):
        forget_old_parts(cache_dir)
        told_sha256, num_bytes = _ask(file)
        expected = sha256 or told_sha256
        if expected is None:
            raise ModelError(f"the hub tells no sha256 of {file}")
        if recorded_sha256(path) == expected and path.is_file():
            progress.begin_stage("verifying sha256", num_bytes)
            if sha256_of(path, progress.update) == expected:
                return path
        arriving = arriving_path(cache_dir, expected)
        have = arriving.stat().st_size if arriving.exists() else 0
        check_free_space(cache_dir, max(0, num_bytes - have))
        progress.begin_stage(f"downloading {file}", num_bytes)
        _download(file, arriving, num_bytes, progress)
        return finish(arriving, cache_dir, name, expected, progress)


def _ask(file: HubFile) -> tuple[str | None, int]:
    """The sha256 and the size that the hub tells."""
    hub = _client()
    address = hub.hf_hub_url(file.repo, file.file, revision=file.revision)
    try:
        metadata = hub.get_hf_file_metadata(address)
    except Exception as error:  # its errors have no common class but this
        raise _refusal(file, error) from error
    etag = metadata.etag or ""
    return etag if _SHA256.fullmatch(etag) else None, int(metadata.size or 0)


def _download(file: HubFile, arriving: Path, num_bytes: int, progress: PullProgress) -> None:
    """Add what is missing of a file; what has come stays there whatever happens."""
    hub = _client()
    # Not `hf_hub_download`: it begins anew after each end (2.4).
    from huggingface_hub.file_download import http_get

    bar: Any = hub.utils.tqdm

    class Told(bar):  # type: ignore[misc]
        """Tells our own display, and draws nothing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self._num_bytes = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._num_bytes += int(n or 0)
            progress.update(self._num_bytes)
            return True

    arriving.touch()
    try:
        with arriving.open("r+b") as part:
            http_get(
                hub.hf_hub_url(file.repo, file.file, revision=file.revision),
                part,
                resume_size=part.seek(0, os.SEEK_END),
                headers=hub.utils.build_hf_headers(),
                expected_size=num_bytes,
                tqdm_class=Told,
            )
    except Exception as error:  # as above
        raise _refusal(file, error) from error


def _refusal(file: HubFile, error: Exception) -> ModelError:
    return ModelError(f"cannot pull {file}: {one_line(str(error) or type(error).__name__)}")


def _client() -> Any:
    """The hub's client; its import takes half a second."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelError("hf: needs huggingface-hub: pip install 'goodspeed[hub]'") from error
    return huggingface_hub
