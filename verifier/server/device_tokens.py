"""Which devices may connect, and who sees what: a name, the SHA-256 of a token, perhaps a role.

The secret is 32 random bytes, so a plain hash is enough. This module must never keep or show a
token; a file of tokens that leaks lets no device in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

import msgspec

from shared.config.secrets import (
    DEVICE_PATTERN,
    NUM_SECRET_BYTES,
    TOKEN_PATTERN,
    read_secret_file,
)
from shared.errors import ConfigError

Role = Literal["board", "metrics", "dashboard"]
"""What a token opens: a board's connection; /metrics; /dashboard and /metrics."""

_LINE = re.compile(rf"({DEVICE_PATTERN})\s+([0-9a-f]{{64}})(?:\s+(board|metrics|dashboard))?")
_TOKEN = re.compile(TOKEN_PATTERN, re.ASCII)


class Token(msgspec.Struct, frozen=True):
    """What is kept of one."""

    digest: str  # SHA-256 in hex
    role: Role


class TokenRoles(msgspec.Struct, frozen=True):
    """All that a verifier knows, by name."""

    all: Mapping[str, Token] = MappingProxyType({})

    def of(self, role: Role) -> Mapping[str, str]:
        """Name to SHA-256 of those of one role."""
        return {name: token.digest for name, token in self.all.items() if token.role == role}


NO_TOKENS = TokenRoles()


def new_token(device: str, random_bytes: bytes, role: Role = "board") -> tuple[str, str]:
    """The token for its owner, and the line for the verifier's file.

    Raises:
        ConfigError: the device name has characters that a token cannot carry.
    """
    assert len(random_bytes) == NUM_SECRET_BYTES
    if not re.fullmatch(DEVICE_PATTERN, device):
        raise ConfigError(
            (f"device name {device!r} must be 1 to 63 letters, digits, dots and hyphens",)
        )
    secret = base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()
    token = f"gsd_{device}_{secret}"
    return token, _line(device, _digest(token), role)


def parse_tokens(text: str, name: str) -> TokenRoles:
    """All tokens of a file; empty lines and lines that start with # are skipped.

    Raises:
        ConfigError: with every line of the file `name` that is not a name, a hash, perhaps a role.
    """
    tokens: dict[str, Token] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _LINE.fullmatch(line.strip())
        if not entry:
            problems.append(f"{name}:{number}: must be a device name and 64 hex digits")
        elif entry[1] in tokens:
            problems.append(f"{name}:{number}: device {entry[1]} has a token already")
        else:
            tokens[entry[1]] = Token(entry[2], cast(Role, entry[3] or "board"))
    if problems:
        raise ConfigError(tuple(problems))
    return TokenRoles(tokens)


def format_tokens(tokens: TokenRoles) -> str:
    """The text of a file with these tokens; comments that it once had are gone."""
    return "".join(
        f"{_line(name, token.digest, token.role)}\n" for name, token in sorted(tokens.all.items())
    )


def read_token_roles(path: Path) -> TokenRoles:
    """The tokens in a file that only its owner and group may touch.

    Raises:
        ConfigError: it cannot be read, others may touch it, or a line is wrong.
    """
    return parse_tokens(read_secret_file(path), str(path))


def read_tokens(path: Path) -> Mapping[str, str]:
    """Of boards alone: device to SHA-256 in hex; raises as `read_token_roles`."""
    return read_token_roles(path).of("board")


def device_of(token: str, tokens: Mapping[str, str]) -> str | None:
    """The device that this token belongs to, if any; the time it takes tells nothing."""
    parts = _TOKEN.fullmatch(token)
    if not parts:
        return None
    device = parts[1]
    is_right = hmac.compare_digest(_digest(token), tokens.get(device, _digest("")))
    return device if is_right else None


def _line(name: str, digest: str, role: Role) -> str:
    return f"{name} {digest}" if role == "board" else f"{name} {digest} {role}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
