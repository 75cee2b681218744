"""Files of other weights have another fingerprint, whichever part of them differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.workers.weights_fingerprint import weights_fingerprint

CONTENT = bytes(range(256)) * 512


def test_the_same_file_elsewhere_has_the_same_one(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.gguf").write_bytes(CONTENT)
    names = [weights_fingerprint(tmp_path / where / "model.gguf") for where in ("here", "there")]
    assert names[0] == names[1]


@pytest.mark.parametrize("place", [0, 70_000, len(CONTENT) - 1])
def test_one_byte_makes_another_one(tmp_path: Path, place: int) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    before = weights_fingerprint(path)
    changed = bytearray(CONTENT)
    changed[place] ^= 1
    path.write_bytes(changed)
    assert before != weights_fingerprint(path)


def test_all_parts_of_a_model_count(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2))
    first.write_bytes(CONTENT)
    second.write_bytes(CONTENT)
    before = weights_fingerprint(first)
    second.write_bytes(CONTENT[1:])
    assert before != weights_fingerprint(first)
    directory = tmp_path / "safetensors"
    directory.mkdir()
    (directory / "a.safetensors").write_bytes(CONTENT)
    of_one = weights_fingerprint(directory)
    (directory / "b.safetensors").write_bytes(CONTENT)
    assert of_one != weights_fingerprint(directory)


def test_a_model_of_a_hub_goes_by_its_name() -> None:
    assert "hub owner/model" == weights_fingerprint(Path("owner/model"))
