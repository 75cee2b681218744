"""A file of a hub becomes a model whole and checked, or not at all; a cut one is gone on with.

The client reads HF_ENDPOINT at its import, so each pull is a process of its own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_agent.models.arrival import arriving_path
from edge_agent.models.cache import recorded_sha256
from edge_agent.models.from_hub import HubFile, parse_hub_file
from edge_agent.models.presets import PRESETS, HubModel
from shared.errors import ModelError
from tests.support.network.hub import Hub, serving
from tests.support.programs.command import AGENT, ROOT, environment

PATH = "birds/wrens/small/wren-q4.gguf"
REFERENCE = f"hf:{PATH}"
CONTENT = b"GGUF" + os.urandom(3_000_000)


@pytest.fixture
def hub() -> Iterator[Hub]:
    if find_spec("huggingface_hub") is None:
        pytest.skip("the extra `hub` is not installed")
    with serving(Hub({PATH: CONTENT})) as served:
        yield served


def pull(hub: Hub, cache_dir: Path, reference: str = REFERENCE) -> tuple[int, str]:
    """Exit code and what was said on standard error."""
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache_dir / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GOODSPEED_MODEL_DIR": str(cache_dir / "models"),
    }
    ended = subprocess.run(
        [*AGENT, "model", "pull", reference],
        cwd=ROOT,
        env=environment(own),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_a_reference_names_repository_file_and_revision() -> None:
    assert HubFile("a/b", "c/d-Q4_0.gguf", "v1") == parse_hub_file("hf:a/b/c/d-Q4_0.gguf@v1")
    assert "main" == parse_hub_file("hf:a/b/c.gguf").revision
    assert "hf:a/b/c.gguf" == str(parse_hub_file("hf:a/b/c.gguf"))
    for wrong in ("hf:a/b", "hf:a/b/c.bin", "hf:a/b/../c.gguf", "hf:a/b/c.gguf@"):
        with pytest.raises(ModelError, match="must be hf:OWNER/REPO/FILE"):
            parse_hub_file(wrong)


def test_known_names_are_files_of_a_hub_at_one_checksum() -> None:
    known = [preset for preset in PRESETS.values() if isinstance(preset, HubModel)]
    assert {"qwen3-0.6b", "llama-3.2-1b-instruct", "gemma-3-270m-it"} == {p.name for p in known}
    for preset in known:
        parse_hub_file(preset.reference)
        assert 64 == len(preset.sha256)


def test_a_file_is_pulled_with_the_checksum_that_the_hub_tells(hub: Hub, tmp_path: Path) -> None:
    code, said = pull(hub, tmp_path)
    assert 0 == code, said
    path = tmp_path / "models/wren-q4.gguf"
    assert CONTENT == path.read_bytes()
    assert hashlib.sha256(CONTENT).hexdigest() == recorded_sha256(path)
    assert "Traceback" not in said
    assert 0 == pull(hub, tmp_path)[0]
    assert 1 == len(hub.ranges), "what is here and whole is not downloaded again"


@pytest.mark.parametrize("num_bytes", [0, 3, 1_000_000, len(CONTENT) - 1])
def test_a_cut_download_leaves_no_model_and_is_gone_on_with(
    hub: Hub, tmp_path: Path, num_bytes: int
) -> None:
    """As after a power cut: a part is there, and no process."""
    models = tmp_path / "models"
    models.mkdir()
    arriving_path(models, hub.sha256(PATH)).write_bytes(CONTENT[:num_bytes])
    code, said = pull(hub, tmp_path)
    assert 0 == code, said
    assert CONTENT == (models / "wren-q4.gguf").read_bytes()
    assert [f"bytes={num_bytes}-" if num_bytes else None] == hub.ranges
    assert [] == list(models.glob(".arriving-*"))


def test_a_hub_that_ends_early_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    """The client keeps whole pieces of 10 MiB."""
    hub.files[PATH] = CONTENT * 8
    hub.cut_after = 11 << 20
    code, said = pull(hub, tmp_path)
    path = tmp_path / "models/wren-q4.gguf"
    # The client itself goes on a few times.
    assert (2 == code) == (not path.exists()), said
    assert "Traceback" not in said
    hub.cut_after = None
    assert 0 == pull(hub, tmp_path)[0]
    assert CONTENT * 8 == path.read_bytes()
    assert any(wanted is not None for wanted in hub.ranges)


def test_a_part_that_is_of_something_else_is_refused_and_forgotten(
    hub: Hub, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    arriving_path(models, hub.sha256(PATH)).write_bytes(b"x" * 1000)
    code, said = pull(hub, tmp_path)
    assert 2 == code
    assert "has the sha256" in said
    assert 0 == pull(hub, tmp_path)[0]
    assert CONTENT == (models / "wren-q4.gguf").read_bytes()


def test_other_bytes_than_the_hub_tells_never_replace_a_model(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "models/wren-q4.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF of before")
    hub.told_sha256 = "0" * 64
    code, said = pull(hub, tmp_path)
    assert 2 == code
    assert "wren-q4 has the sha256" in said
    assert b"GGUF of before" == path.read_bytes()


@pytest.mark.parametrize(
    ("reference", "words"),
    [("hf:birds/wrens/none.gguf", "cannot pull hf:birds/wrens/none.gguf: "), ("hf:x", "must be")],
)
def test_what_is_not_there_is_one_sentence(
    hub: Hub, tmp_path: Path, reference: str, words: str
) -> None:
    code, said = pull(hub, tmp_path, reference)
    assert 2 == code
    assert words in said
    assert "Traceback" not in said


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_agent.models import from_hub

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install 'goodspeed\[hub\]'"):
        from_hub._client()
