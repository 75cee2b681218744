"""The whole examination of a verifier, by files and ports of this machine."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.doctor.findings import Finding
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import scripted_service
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.ports import free_port
from tests.support.sysfs import write_tree
from verifier.config import ServerSection, StateSection, TargetSection, VerifierConfig
from verifier.cost_curve.curve import CostCurve, CurveSubject
from verifier.doctor.examination import (
    Examination,
    look_at_port,
    planner_finding,
    survey,
)
from verifier.server.device_tokens import new_token


def config(directory: Path, **server: Any) -> VerifierConfig:
    """Settings of a machine that is well, but for its curve."""
    write_tiny_llama(directory / "tiny.gguf")
    tokens = directory / "tokens"
    tokens.touch(0o600)
    tokens.write_text(new_token("kitchen", bytes(32))[1] + "\n")
    target = TargetSection(
        model=str(directory / "tiny.gguf"), device="cpu", context_tokens=256, kv_cache_tokens=4096
    )
    given = {"port": free_port(), "tokens_file": tokens, **server}
    return VerifierConfig(ServerSection(**given), target, state=StateSection(directory))


def examine(
    config: VerifierConfig, loads: bool = False, root: Path = Path("/none")
) -> dict[str, Finding]:
    """What is found, by its subject; each subject is there once."""
    found = list(Examination(config, lambda _: None, loads=loads, root=root).findings())
    assert len(found) == len({finding.subject for finding in found})
    assert all((finding.level == "ok") is (finding.remedy is None) for finding in found)
    assert all("\n" not in finding.sentence for finding in found)
    return {finding.subject: finding for finding in found}


def bad(found: dict[str, Finding]) -> dict[str, str]:
    """Levels of what is not well."""
    return {name: finding.level for name, finding in found.items() if finding.level != "ok"}


def test_a_machine_without_a_curve_has_a_warning(tmp_path: Path) -> None:
    found = examine(config(tmp_path), loads=True)
    assert {"curve": "warning"} == bad(found)
    assert [
        *("port", "certificate", "tokens", "metrics", "state", "planner", "target", "gpu"),
        *("memory", "curve", "load"),
    ] == list(found)


@pytest.mark.parametrize(
    ("file", "words"), [("planner.py", "plain Python"), ("planner.cpython-311.so", "compiled")]
)
def test_a_planner_that_is_compiled_is_told(file: str, words: str) -> None:
    finding = planner_finding(file)
    assert ("ok", True) == (finding.level, words in finding.sentence)


def test_a_curve_of_this_target_is_known(tmp_path: Path) -> None:
    settings = config(tmp_path)
    need = survey(settings)
    subject = CurveSubject(
        model=need.model_name, device=need.hardware, dtype=need.dtype, quantisation="none"
    )
    curve = CostCurve.from_samples([(1, 64, 0.01), (64, 64, 0.02)])
    grid = msgspec.json.decode(curve.to_json())
    path = tmp_path / f"{need.model_name}.curve.json"
    path.write_bytes(msgspec.json.encode(grid | {"subject": subject}))
    assert {} == bad(examine(settings))
    other = msgspec.structs.replace(subject, dtype="bfloat16")
    path.write_bytes(msgspec.json.encode(grid | {"subject": other}))
    assert "bfloat16 instead of float32" in examine(settings)["curve"].sentence
    path.write_bytes(b"not a curve")
    assert "not a cost curve" in examine(settings)["curve"].sentence


def test_the_port_is_served_by_a_verifier(tmp_path: Path) -> None:
    async def examine_beside() -> dict[str, Finding]:
        async with running_verifier(scripted_service()) as verifier:
            return await asyncio.to_thread(examine, config(tmp_path, port=verifier.port))

    found = asyncio.run(examine_beside())
    assert found["port"].sentence.startswith("a verifier serves 127.0.0.1:")
    assert "memory" not in found


def test_the_port_is_taken_by_another_program(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.0)
        found = examine(config(tmp_path, port=other.getsockname()[1]))
    assert "problem" == found["port"].level


def test_a_host_that_is_not_of_this_machine() -> None:
    state, fault = look_at_port("192.0.2.1", 0)
    assert "taken" == state
    assert fault


def test_a_file_of_tokens_that_all_can_read(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings.server.tokens_file.chmod(0o644)
    found = examine(settings)
    assert "problem" == found["tokens"].level
    assert f"chmod 640 {settings.server.tokens_file}" == found["tokens"].remedy


def test_no_file_of_tokens(tmp_path: Path) -> None:
    found = examine(config(tmp_path, tokens_file=tmp_path / "none"))
    assert "problem" == found["tokens"].level


def test_a_weak_key_for_metrics(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text("secret")
    found = examine(config(tmp_path, metrics_token_file=key))
    assert "problem" == found["metrics"].level
    assert "secret" not in found["metrics"].sentence


def test_a_directory_of_state_that_is_not_there(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(config(tmp_path), state=StateSection(tmp_path / "none"))
    assert "problem" == examine(settings)["state"].level


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_target_that_is_cut(kept: float, tmp_path: Path) -> None:
    settings = config(tmp_path)
    path = Path(settings.target.model)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    found = examine(settings)
    assert "problem" == found["target"].level
    assert "memory" not in found


def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    target = TargetSection(model=str(tmp_path / "none.gguf"))
    found = examine(msgspec.structs.replace(config(tmp_path), target=target))
    assert "problem" == found["target"].level


def test_a_driver_of_a_gpu_that_is_not_used(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", {"proc/driver/nvidia/version": "NVRM version: 580\n"})
    assert "warning" == examine(config(tmp_path), root=root)["gpu"].level
