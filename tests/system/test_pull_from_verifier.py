"""A board without a hub gets its draft from its verifier, by both programs as people run them."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.command import AGENT, ROOT, environment
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram


class Board:
    """A machine with its own cache."""

    def __init__(self, verifier: ServingProgram, token_file: Path, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self._settings = {
            "GOODSPEED_MODEL_DIR": str(cache_dir),
            "GOODSPEED__VERIFIER__URL": f"ws://127.0.0.1:{verifier.port}",
            "GOODSPEED__VERIFIER__TOKEN_FILE": str(token_file),
        }

    def model(self, *arguments: str) -> tuple[int, str, str]:
        ended = subprocess.run(
            [*AGENT, "model", *arguments],
            cwd=ROOT,
            env=environment(self._settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def verifier_and_board(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServingProgram, Board]]:
    directory = tmp_path_factory.mktemp("pull")
    target, drafts = directory / "target.gguf", directory / "drafts"
    drafts.mkdir()
    write_tiny_llama(target)
    write_tiny_llama(drafts / "little.gguf", seed=1)
    whole = (drafts / "little.gguf").read_bytes()
    (drafts / "cut.gguf").write_bytes(whole[:-1])
    with Programs(directory) as programs:
        token_file = programs.token_file("board")
        settings = {
            "target.model": str(target),
            "target.context_tokens": 128,
            "target.kv_cache_tokens": 2048,
            "drafts.directory": str(drafts),
        }
        verifier = programs.verifier(settings=settings)
        verifier.start()
        verifier.wait_until_ready()
        yield verifier, Board(verifier, token_file, directory / "cache")


def test_what_the_verifier_offers_is_listed_and_pulled(
    verifier_and_board: tuple[ServingProgram, Board],
) -> None:
    verifier, board = verifier_and_board
    code, listed, _ = board.model("ls")
    assert 0 == code
    assert ["little licence not told at the verifier (0 MB)"] == [
        " ".join(line.split()) for line in listed.splitlines() if "verifier" in line
    ]
    code, told, said = board.model("pull", "little")
    assert 0 == code, said
    assert str(board.cache_dir / "little.gguf") in told
    assert "verifying sha256" in said
    assert 0 == board.model("verify", "little")[0]
    assert any("cut.gguf is not offered to boards" in line for line in verifier.lines)


def test_what_the_verifier_does_not_have_is_one_sentence(
    verifier_and_board: tuple[ServingProgram, Board],
) -> None:
    _, board = verifier_and_board
    code, _, said = board.model("pull", "cut")
    assert 2 == code
    assert said.startswith("error: model cut is neither a file nor one of ")


def test_a_stranger_learns_nothing(verifier_and_board: tuple[ServingProgram, Board]) -> None:
    verifier, _ = verifier_and_board
    for path in ("/v1/drafts", "/v1/drafts/little"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{verifier.url}{path}", timeout=10)
        with refusal.value as answer:
            assert 401 == answer.code
            assert b"little" not in answer.read()
