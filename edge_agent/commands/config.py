"""`goodspeed-agent config …`: look at settings."""

from __future__ import annotations

from edge_agent.commands.settings import SETTINGS
from shared.daemon.command_line import config_commands

config = config_commands(SETTINGS)
