"""`goodspeed-verifier doctor` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.ports import free_port
from verifier.cli import main


def test_the_report_of_a_machine_without_tokens(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    settings = (
        f"target.model={tmp_path / 'tiny.gguf'}",
        "target.device=cpu",
        f"server.port={free_port()}",
        f"server.tokens_file={tmp_path / 'none'}",
    )
    options = [f"--set={setting}" for setting in settings]
    result = CliRunner().invoke(main, ["doctor", "--json", *options])
    assert 2 == result.exit_code
    report = json.loads(result.stdout)
    levels = {f["subject"]: f["level"] for f in report["findings"]}
    assert ("problem", "warning", "ok") == (levels["tokens"], levels["curve"], levels["target"])
    lines = CliRunner().invoke(main, ["doctor", *options]).stdout.splitlines()
    assert len(report["findings"]) + 2 == len(lines)


def test_wrong_settings_end_it_as_everywhere() -> None:
    result = CliRunner().invoke(main, ["doctor", "--set", "server.port=-1"])
    assert 78 == result.exit_code
