"""Where the verifier's settings come from; what suits a GPU it finds out when it starts."""

from __future__ import annotations

from pathlib import Path

from shared.daemon.command_line import SettingsSource
from verifier.config import VerifierConfig

SETTINGS = SettingsSource(VerifierConfig, default_file=Path("/etc/goodspeed/verifier.toml"))
