"""The tokens of a board: which it shows its verifier, and which its clients show it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edge_agent.config import AgentConfig, ApiSection
from shared.config.secrets import TOKEN_PATTERN, read_key_file, read_secret_file
from shared.errors import ConfigError


def read_device_token(config: AgentConfig) -> str:
    """The device's token, from the settings or the file that they name.

    Raises:
        ConfigError: there is none, or the file does not hold one.
    """
    section = config.verifier
    if section.token is not None:
        return section.token
    path = _credential("token") or section.token_file
    if path is None:
        raise ConfigError(
            ("verifier.token_file: must be set; `goodspeed-verifier token add` makes a token",)
        )
    token = read_secret_file(path)
    if not re.match(TOKEN_PATTERN, token):
        raise ConfigError(
            (f"{path}: must hold a token as `goodspeed-verifier token add` prints it",)
        )
    return token


def read_api_token(section: ApiSection) -> str | None:
    """What clients of this board must show; None: nothing.

    Raises:
        ConfigError: the file holds no key that keeps strangers out.
    """
    return None if section.token_file is None else read_key_file(section.token_file)


def _credential(name: str) -> Path | None:
    """A credential that systemd hands over (LoadCredential=)."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None
