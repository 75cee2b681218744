"""What `init` writes besides what both commands' own tests say."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.daemon import first_files
from shared.daemon.first_files import FirstFile, start_command, write_first_files


def test_what_is_for_services_gets_their_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = FirstFile(tmp_path / "tokens", "", mode=0o640, is_for_service=True)
    list(write_first_files([file], is_dry_run=False))
    assert file.is_there
    other_group = os.getgid() + 1
    found = SimpleNamespace(gr_gid=other_group)
    monkeypatch.setattr(first_files.grp, "getgrnam", lambda _: found)
    assert not file.is_there
    changed: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda *arguments: changed.append(arguments))
    list(write_first_files([file], is_dry_run=False))
    assert [(file.path, -1, other_group)] == changed


def test_a_machine_with_the_unit_starts_the_service(tmp_path: Path) -> None:
    settings = Path("/etc/goodspeed/agent.toml")
    by_hand = "goodspeed-agent run --config /etc/goodspeed/agent.toml"
    assert by_hand == start_command("goodspeed-agent", settings, (tmp_path,))
    (tmp_path / "goodspeed-agent.service").touch()
    by_system = "systemctl enable --now goodspeed-agent"
    assert by_system == start_command("goodspeed-agent", settings, (tmp_path,))
