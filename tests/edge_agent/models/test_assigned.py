"""Assigned drafts are fetched whole into a place of their own, and the oldest make room."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.models.arrival import arriving_path
from edge_agent.models.assigned import FOLDER, get_assigned
from shared.errors import LinkLost, ModelError
from shared.protocol.handed_drafts.draft_offers import DraftOffer
from tests.edge_agent.models.test_from_verifier import CONTENT, OFFER, SHA256, Verifier, serving

ROOM = 10_000_000


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    with serving(Verifier()) as served:
        yield served


def get(verifier: Verifier, cache_dir: Path, offer: DraftOffer = OFFER, room: int = ROOM) -> Path:
    return asyncio.run(get_assigned(verifier.client, offer, cache_dir, room))


def test_it_is_fetched_once_and_never_mixed_with_pulled_models(
    verifier: Verifier, tmp_path: Path
) -> None:
    (tmp_path / "wren.gguf").write_bytes(b"GGUF of the operator")
    path = get(verifier, tmp_path)
    assert (CONTENT, "wren") == (path.read_bytes(), path.stem)
    assert tmp_path / FOLDER / SHA256 == path.parent
    assert path == get(verifier, tmp_path)
    assert [0] == verifier.starts
    assert b"GGUF of the operator" == (tmp_path / "wren.gguf").read_bytes()


@pytest.mark.parametrize("cut_at", [0, 4, 65_536, len(CONTENT) - 1])
def test_a_cut_is_gone_on_with(verifier: Verifier, tmp_path: Path, cut_at: int) -> None:
    verifier.cut_at = cut_at
    with pytest.raises(LinkLost):
        get(verifier, tmp_path)
    part = arriving_path(tmp_path / FOLDER / SHA256, SHA256)
    assert CONTENT[:cut_at] == part.read_bytes()
    assert [] == list(tmp_path.rglob("*.gguf"))
    verifier.cut_at = None
    assert CONTENT == get(verifier, tmp_path).read_bytes()
    assert [0, cut_at] == verifier.starts


def test_foreign_bytes_never_take_a_whole_ones_place(verifier: Verifier, tmp_path: Path) -> None:
    path = get(verifier, tmp_path)
    verifier.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    other = DraftOffer("wren", len(CONTENT), hashlib.sha256(b"another").hexdigest())
    with pytest.raises(ModelError, match="wren has the sha256"):
        get(verifier, tmp_path, other)
    assert CONTENT == path.read_bytes()
    assert [path] == list(tmp_path.rglob("*.gguf"))


def test_a_file_that_was_damaged_since_is_fetched_again(verifier: Verifier, tmp_path: Path) -> None:
    path = get(verifier, tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert CONTENT == get(verifier, tmp_path).read_bytes()
    assert [0, 0] == verifier.starts


def test_what_was_used_longest_ago_makes_room(verifier: Verifier, tmp_path: Path) -> None:
    for age, name in enumerate(("newer", "older"), start=1):
        directory = tmp_path / FOLDER / (name[0] * 64)
        directory.mkdir(parents=True)
        (directory / f"{name}.gguf").write_bytes(b"x" * 600_000)
        os.utime(directory / f"{name}.gguf", (1e9 - age, 1e9 - age))
    get(verifier, tmp_path, room=len(CONTENT) + 700_000)
    names = {path.stem for path in tmp_path.rglob("*.gguf")}
    assert {"wren", "newer"} == names


def test_more_than_the_room_is_not_taken_at_all(verifier: Verifier, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 1\.0 MB, more than draft\.assigned_megabytes = 1"):
        get(verifier, tmp_path, room=1_000_000)
    assert [] == verifier.starts


def test_two_agents_with_one_cache_fetch_it_once(
    verifier: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.models.assigned._WAIT_SECONDS", 0.01)

    async def both() -> list[Path]:
        made = (get_assigned(verifier.client, OFFER, tmp_path, ROOM) for _ in range(2))
        return await asyncio.gather(*made)

    first, second = asyncio.run(both())
    assert first == second
    assert [0] == verifier.starts


def test_a_folder_of_another_user_is_one_sentence(verifier: Verifier, tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_bytes(b"a file in its place")
    with pytest.raises(ModelError, match="cannot keep wren in"):
        get(verifier, tmp_path)
