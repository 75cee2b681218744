"""Commands that set what holds for one device, and the file where that is kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.daemon.files import replace_file
from shared.errors import ConfigError
from verifier.commands.settings import SETTINGS, state_directory
from verifier.config import VerifierConfig
from verifier.engine.device_terms import (
    FILE_NAME,
    NO_TERMS,
    USUAL_TERMS,
    AllTerms,
    DeviceTerms,
    pack_terms,
    read_terms,
)
from verifier.server.device_tokens import read_tokens


def device_setter(command: Callable[..., DeviceTerms]) -> Callable[..., None]:
    """Make a command that changes one device's terms of one that gives the changed ones."""

    @click.argument("device")
    @settings_options(SETTINGS)
    @functools.wraps(command)
    def change(loaded: Loaded[VerifierConfig], device: str, **options: Any) -> None:
        config = loaded.config
        change_terms(config, device, lambda terms: command(terms, **options))

    return change


def change_terms(
    config: VerifierConfig, device: str, change: Callable[[DeviceTerms], DeviceTerms]
) -> None:
    """Keep other terms for a device; the running verifier takes them over within a second.

    Raises:
        ConfigError: there is no such device, nowhere to keep them, or the settings exclude them.
    """
    if device not in read_tokens(config.server.tokens_file):
        raise ConfigError((f"{config.server.tokens_file}: no device {device}",))
    path, terms = _file(config), known_terms(config)
    known = terms.by_device.get(device, USUAL_TERMS)
    changed = change(known)
    promised = changed.slo_token_seconds
    if config.rounds.barrier and promised and promised != known.slo_token_seconds:
        sentence = "no token can be promised in rounds that wait for every board"
        raise ConfigError((f"rounds.barrier: {sentence}; set it to false",))
    all_terms = AllTerms({**terms.by_device, device: changed})
    replace_file(path, pack_terms(all_terms), mode=0o644, keeps_owner=True)


def known_terms(config: VerifierConfig) -> AllTerms:
    """What holds now."""
    return NO_TERMS if config.state.directory is None else read_terms(_file(config))


def _file(config: VerifierConfig) -> Path:
    return state_directory(config, "what holds for devices is kept there") / FILE_NAME
