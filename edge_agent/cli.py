"""`goodspeed-agent`: run the agent, chat, examine the board, get models, settings."""

from __future__ import annotations

import click

from edge_agent.commands.chat import chat
from edge_agent.commands.doctor import doctor
from edge_agent.commands.fleet import fleet
from edge_agent.commands.init import init
from edge_agent.commands.model import model
from edge_agent.commands.run import run
from edge_agent.commands.settings import SETTINGS
from shared.daemon.command_line import FriendlyGroup, config_commands

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
    cls=FriendlyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_FIRST_STEPS,
)
@click.version_option(package_name="goodspeed")
def main() -> None:
    """Draft on this board, let a verifier check, serve chats and an OpenAI API."""


main.add_command(init)
main.add_command(run)
main.add_command(chat)
main.add_command(doctor)
main.add_command(fleet)
main.add_command(model)
main.add_command(config_commands(SETTINGS))
