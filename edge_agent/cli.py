"""`goodspeed-agent`: run the agent, chat, examine the board, get models, settings."""

from __future__ import annotations

import click

from shared.daemon.command_line import CommandModules

_FIRST_STEPS = """\b
First steps:
  goodspeed-agent init --verifier ws://HOST:8443 --token -   # settings, token, what is next
  goodspeed-agent model pull
  goodspeed-agent run
  goodspeed-agent chat
  goodspeed-agent doctor                       # is the board well, and does it pay?
  goodspeed-agent run --set draft.model= …     # without a model: n-grams draft alone
  goodspeed-agent config init > agent.toml     # every setting explained
"""


@click.group(
    cls=CommandModules,
    package="edge_agent.commands",
    names=("chat", "config", "doctor", "fleet", "init", "model", "run"),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_FIRST_STEPS,
)
@click.version_option(package_name="goodspeed")
def main() -> None:
    """Draft on this board, let a verifier check, serve chats and an OpenAI API."""
