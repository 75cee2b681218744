"""Where the agent's settings come from."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.config import AgentConfig
from shared.config.boards import read_profiles
from shared.daemon.command_line import SettingsSource

SETTINGS = SettingsSource(
    AgentConfig,
    default_file=Path("/etc/goodspeed/agent.toml"),
    read_profiles=lambda: read_profiles(os.environ),
)
