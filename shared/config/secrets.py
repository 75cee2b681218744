"""What a device's token looks like, and how a file with secrets is read.

A token is `gsd_<device>_<secret>`; a device name has no underscore, so the parts stay apart.
This module must never put a secret into an error.
"""

from __future__ import annotations

import hmac
import re
import stat
from pathlib import Path

from shared.errors import ConfigError

DEVICE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"  # host names fit
NUM_SECRET_BYTES = 32
# A key that people choose. One of 16 characters that is no word holds against guessing over a
# network, at the rate that a port allows.
MIN_KEY_CHARACTERS = 16
_SECRET_PATTERN = r"[A-Za-z0-9_-]{43}"  # 32 bytes in URL-safe base64 without padding
TOKEN_PATTERN = rf"^gsd_({DEVICE_PATTERN})_{_SECRET_PATTERN}\Z"


def device_name(token: str) -> str:
    """The device that a token names, which is no secret."""
    parts = re.match(TOKEN_PATTERN, token)
    return parts[1] if parts else ""


def read_secret_file(path: Path) -> str:
    """The text of a file that only its owner and group may touch, without outer white space.

    Raises:
        ConfigError: it is missing, is no text, or others may read or write it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError:
        raise ConfigError((f"{path}: not UTF-8 text",)) from None
    if mode & stat.S_IRWXO:
        permissions = stat.filemode(mode)
        sentence = f"a secret that everyone can reach ({permissions}); chmod 640 mends it"
        raise ConfigError((f"{path}: {sentence}",))
    return text.strip()


def read_key_file(path: Path) -> str:
    """The key in a file that clients must show; like `read_secret_file`, and never a weak one.

    Raises:
        ConfigError: as `read_secret_file`; or it is empty, short, or no header can carry it.
    """
    key = read_secret_file(path)
    problem = _weakness(key)
    if problem is not None:
        sentence = f"{problem}; `openssl rand -hex 32` makes a good one"
        raise ConfigError((f"{path}: {sentence}",))
    return key


def is_one_word(key: str) -> bool:
    """Whether a header can carry it as a bearer's token: visible ASCII, without white space."""
    return bool(key) and all("!" <= character <= "~" for character in key)


def is_same_secret(shown: str, secret: str) -> bool:
    """Whether a peer shows the secret; the time it takes tells nothing, and nothing is no secret.

    `shown` may hold anything that a header can.
    """
    is_equal = hmac.compare_digest(shown.encode(errors="replace"), secret.encode())
    return is_equal and bool(secret)


def _weakness(key: str) -> str | None:
    if not key:
        return "holds no key, so everyone would have it"
    if not is_one_word(key):
        return "a key must be one word of ASCII letters, digits and signs, without white space"
    if len(key) < MIN_KEY_CHARACTERS:
        return f"a key of {len(key)} characters is shorter than {MIN_KEY_CHARACTERS}"
    if len(set(key)) < MIN_KEY_CHARACTERS // 2:
        return f"a key of {len(set(key))} different characters can be guessed"
    return None
