"""Where the verifier's settings come from; what suits a GPU it finds out when it starts."""

from __future__ import annotations

from pathlib import Path

from shared.daemon.command_line import SettingsSource
from shared.errors import ConfigError
from verifier.config import VerifierConfig

SETTINGS = SettingsSource(VerifierConfig, default_file=Path("/etc/goodspeed/verifier.toml"))


def state_directory(config: VerifierConfig, what_is_there: str) -> Path:
    """Where a running verifier keeps what it is told; `what_is_there` is what the command wants.

    Raises:
        ConfigError: the settings name none.
    """
    if config.state.directory is None:
        raise ConfigError((f"state.directory: must be set; {what_is_there}",))
    return config.state.directory
