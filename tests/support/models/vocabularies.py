"""The vocabularies and chat templates that llama.cpp ships for its own tests, from its binding.

Together they are 77 MB, or 13 MB at best when packed, which is too much for this repository. pip
brings them once into the cache directory of this user, from wherever it gets packages.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from shared.config.model_files import default_cache_dir

PACKAGE = "llama-cpp-python"
_VOCABULARIES = ("vendor/llama.cpp/models/ggml-vocab-", ".gguf")  # of its sources: prefix, suffix
_TEMPLATES = ("vendor/llama.cpp/models/templates/", ".jinja")
_PIP_DOWNLOAD = (
    *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-binary=:all:"),
    *("--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check"),
)


def shipped_vocabulary(name: str) -> Path:
    """The GGUF file `ggml-vocab-NAME.gguf` of the llama.cpp that boards run here, or a failure."""
    directory = _directory()
    if not directory.exists():
        _download(directory, *_VOCABULARIES)
    path = directory / f"{name}.gguf"
    if not path.exists():
        pytest.fail(f"{PACKAGE} {_version()} ships no vocabulary {name}: {shipped_names()}")
    return path


def shipped_names() -> list[str]:
    """The names of all vocabularies that are shipped; `shipped_vocabulary` brings them first."""
    return sorted(path.stem for path in _directory().glob("*.gguf"))


def shipped_template(name: str) -> str:
    """The chat template `NAME.jinja`, as the makers of a model wrote it, or a failure."""
    directory = default_cache_dir(os.environ) / f"templates-{_version()}"
    if not directory.exists():
        _download(directory, *_TEMPLATES)
    path = directory / f"{name}.jinja"
    if not path.exists():
        pytest.fail(f"{PACKAGE} {_version()} ships no template {name}")
    return path.read_text(encoding="utf-8")


def _version() -> str:
    return importlib.metadata.version(PACKAGE)


def _directory() -> Path:
    return default_cache_dir(os.environ) / f"vocabularies-{_version()}"


def _download(directory: Path, prefix: str, suffix: str) -> None:
    requirement = f"{PACKAGE}=={_version()}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        done = subprocess.run(
            [*_PIP_DOWNLOAD, "--dest", temporary, requirement], capture_output=True, text=True
        )
        sources = list(Path(temporary).glob("*.tar.gz"))
        if done.returncode != 0 or len(sources) != 1:
            lines = done.stderr.strip().splitlines() or ["it gave no reason"]
            pytest.fail(f"pip cannot download the sources of {requirement}: {lines[-1]}")
        unpacked = Path(temporary) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(sources[0]) as archive:
            for member in archive:
                _, _, inner = member.name.partition("/")
                if inner.startswith(prefix) and inner.endswith(suffix):
                    content = archive.extractfile(member)
                    assert content is not None
                    (unpacked / inner.removeprefix(prefix)).write_bytes(content.read())
        try:
            unpacked.rename(directory)
        except OSError:
            if not directory.is_dir():  # another process of the tests was faster
                raise
