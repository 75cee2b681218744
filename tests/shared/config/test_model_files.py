"""Where model files are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.model_files import cached_path, default_cache_dir, resolve_model
from shared.errors import ModelError


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GOODSPEED_MODEL_DIR": "/m", "XDG_CACHE_HOME": "/x"}, Path("/m")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/goodspeed/models")),
        (
            {"GOODSPEED_MODEL_DIR": "", "XDG_CACHE_HOME": ""},
            Path.home() / ".cache/goodspeed/models",
        ),
        ({}, Path.home() / ".cache/goodspeed/models"),
    ],
)
def test_the_directory_follows_the_environment(environment: dict[str, str], expected: Path) -> None:
    assert expected == default_cache_dir(environment)


def test_a_path_that_exists_is_taken_before_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", str(tmp_path / "models"))
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF")
    assert path == resolve_model(str(path))


def test_a_name_is_looked_up_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", str(tmp_path))
    cached_path(tmp_path, "wren").write_bytes(b"GGUF")
    assert tmp_path / "wren.gguf" == resolve_model("wren")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("wren", "model wren is not here; get it with `goodspeed-agent model pull wren`"),
        ("/nowhere/wren.gguf", "there is no model at /nowhere/wren.gguf"),
    ],
)
def test_a_missing_model_is_one_sentence(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", str(tmp_path))
    with pytest.raises(ModelError) as raised:
        resolve_model(name)
    assert sentence == str(raised.value)
