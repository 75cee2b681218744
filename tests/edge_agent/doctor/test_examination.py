"""The whole examination of a board, over a real socket with a scripted target and drafter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig, ApiSection, DraftSection, VerifierSection
from edge_agent.doctor.examination import Budget, Examination
from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.llama_build import read_build
from edge_agent.startup import load_drafter
from shared.doctor.findings import Finding
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.ports import free_port
from tests.support.programs.this_machine import needs_own_processor
from tests.support.sysfs import pi_5, write_tree

SHORT = Budget(each_speed=0.02, all_speeds=1.0, trial=4.0, num_round_trips=2)
STRANGER = f"gsd_stranger_{'A' * 43}"


def config(directory: Path, url: str, token: str | None) -> AgentConfig:
    path = directory / "tiny.gguf"
    write_tiny_llama(path)
    return AgentConfig(
        verifier=VerifierSection(url=url, token=token),
        draft=DraftSection(model=str(path), ngram_tokens=0),
        api=ApiSection(port=free_port()),
    )


def load_scripted(config: AgentConfig, _token: str) -> Drafter:
    return board(num_slots=config.draft.max_streams)


def examine(
    config: AgentConfig,
    root: Path = Path("/none"),
    load: Callable[[AgentConfig, str], Drafter] = load_scripted,
) -> dict[str, Finding]:
    """What is found, by its subject; each subject is there once."""
    examination = Examination(config, lambda _: None, SHORT, root, load)
    found = list(examination.findings())
    assert len(found) == len({finding.subject for finding in found})
    assert all((finding.level == "ok") is (finding.remedy is None) for finding in found)
    assert all("\n" not in finding.sentence for finding in found)
    return {finding.subject: finding for finding in found}


def examine_at_verifier(
    directory: Path,
    token: str | None = None,
    round_seconds: float = 0.01,
    with_token: bool = True,
) -> dict[str, Finding]:
    async def at_verifier() -> dict[str, Finding]:
        service = scripted_service(delay_seconds=lambda _: round_seconds)
        async with running_verifier(service) as verifier:
            own = (token or verifier.tokens["board"]) if with_token else None
            settings = config(directory, verifier.url, own)
            return await asyncio.to_thread(examine, settings)

    return asyncio.run(at_verifier())


@needs_own_processor
def test_a_board_that_is_well_and_pays(tmp_path: Path) -> None:
    found = examine_at_verifier(tmp_path)
    assert [
        *("processor", "llama.cpp", "clock", "model", "memory", "threads", "quantisation"),
        *("supply", "heat", "transport", "network", "verifier", "pays"),
    ] == list(found)
    assert "this board pays" in found["pays"].sentence
    problems = [finding for finding in found.values() if finding.level == "problem"]
    assert [] == problems


def test_a_board_without_a_model_is_tried_with_n_grams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", str(tmp_path))  # where the vocabulary is kept

    async def without_model() -> dict[str, Finding]:
        async with running_verifier(scripted_service()) as verifier:
            settings = config(tmp_path, verifier.url, verifier.tokens["board"])
            ngrams = msgspec.structs.replace(settings, draft=DraftSection(model=""))
            return await asyncio.to_thread(examine, ngrams, load=load_drafter)

    found = asyncio.run(without_model())
    assert "n-grams alone" in found["model"].sentence
    assert not {"memory", "threads"} & found.keys()
    assert "tokens/s with drafts" in found["pays"].sentence


def test_a_token_that_the_verifier_does_not_know(tmp_path: Path) -> None:
    found = examine_at_verifier(tmp_path, token=STRANGER)
    assert "problem" == found["token"].level
    assert "pays" not in found


def test_no_token_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    found = examine_at_verifier(tmp_path, with_token=False)
    assert "problem" == found["token"].level
    assert "verifier.token_file: must be set" in found["token"].sentence


def test_no_verifier(tmp_path: Path) -> None:
    found = examine(config(tmp_path, "ws://127.0.0.1:1", STRANGER))
    assert "problem" == found["verifier"].level
    assert "network" not in found
    assert "threads" in found


def test_the_model_is_cut(tmp_path: Path) -> None:
    settings = config(tmp_path, "ws://127.0.0.1:1", STRANGER)
    path = Path(settings.draft.model)
    path.write_bytes(path.read_bytes()[:-1])
    found = examine(settings)
    assert "problem" == found["model"].level
    assert "threads" not in found
    assert "memory" not in found


def test_a_build_for_another_processor_never_drafts(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", pi_5() | {"proc/cpuinfo": "Features : fp asimd\n"})
    if "AVX2" not in read_build().features:
        pytest.skip("llama.cpp was built for Arm here, which the fake board is")
    found = examine(config(tmp_path, "ws://127.0.0.1:1", STRANGER), root)
    assert "problem" == found["llama.cpp"].level
    assert "threads" not in found


def test_sensors_are_read_where_the_board_has_them(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", pi_5("50005", celsius=84) | {"proc/cpuinfo": ""})
    found = examine(config(tmp_path, "ws://127.0.0.1:1", STRANGER), root)
    assert "problem" == found["supply"].level
    assert "slowed down right now at 84 °C" in found["heat"].sentence
    assert "governor ondemand" in found["processor"].sentence


def test_beside_a_running_agent_nothing_is_measured(tmp_path: Path) -> None:
    async def beside_agent() -> dict[str, Finding]:
        async with running_verifier(scripted_service()) as verifier:
            settings = config(tmp_path, verifier.url, verifier.tokens["board"])
            # The verifier's own port answers as an agent's does.
            beside = msgspec.structs.replace(settings, api=ApiSection(port=verifier.port))
            return await asyncio.to_thread(examine, beside)

    found = asyncio.run(beside_agent())
    assert "warning" == found["agent"].level
    assert {"network", "transport", "heat"} < found.keys()
    assert not {"threads", "pays", "verifier"} & found.keys()
