"""`goodspeed-verifier`: run the server, examine it, measure the target, make drafts, tokens."""

from __future__ import annotations

import click

from shared.daemon.command_line import FriendlyGroup, config_commands
from verifier.commands.devices import devices
from verifier.commands.doctor import doctor
from verifier.commands.drafts import drafts
from verifier.commands.finetune import finetune
from verifier.commands.init import init
from verifier.commands.profile import profile
from verifier.commands.run import run
from verifier.commands.settings import SETTINGS
from verifier.commands.simulation.calibrate import calibrate
from verifier.commands.simulation.reproduce import reproduce
from verifier.commands.simulation.simulate import simulate
from verifier.commands.simulation.train_awc import train_awc
from verifier.commands.token import token
from verifier.commands.worker import worker
from verifier.commands.workers import workers

_FIRST_STEPS = """\b
First steps:
  goodspeed-verifier init                           # settings, a file of tokens, what is next
  goodspeed-verifier token add kitchen              # prints the board's token
  goodspeed-verifier run
  goodspeed-verifier devices ls                     # who is there, and how it goes
  goodspeed-verifier doctor                         # is this machine ready?
  goodspeed-verifier run --workers 4                # on four GPUs (docs/workers.md)
  goodspeed-verifier profile                        # how fast the target is here
  goodspeed-verifier run --record evening.jsonl     # for `calibrate`: what would be better here?
  goodspeed-verifier finetune draft.gguf            # a small draft for the target
  goodspeed-verifier drafts add draft.gguf          # for boards; `drafts assign` says for which
  goodspeed-verifier config init > verifier.toml    # every setting explained
"""


@click.group(
    cls=FriendlyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_FIRST_STEPS,
)
@click.version_option(package_name="goodspeed")
def main() -> None:
    """Check the draft tokens of many boards with one target model."""


main.add_command(init)
main.add_command(run)
main.add_command(doctor)
main.add_command(profile)
main.add_command(simulate)
main.add_command(calibrate)
main.add_command(finetune)
main.add_command(reproduce)
main.add_command(train_awc)
main.add_command(token)
main.add_command(devices)
main.add_command(drafts)
main.add_command(worker)
main.add_command(workers)
main.add_command(config_commands(SETTINGS))
