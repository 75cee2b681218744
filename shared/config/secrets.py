"""What a device's token looks like, and how a file with secrets is read.

A token is `gsd_<device>_<secret>`; a device name has no underscore, so the parts stay apart.
This module must never put a secret into an error.
"""

from __future__ import annotations

import stat
from pathlib import Path

from shared.errors import ConfigError

DEVICE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"  # host names fit
NUM_SECRET_BYTES = 32
_SECRET_PATTERN = r"[A-Za-z0-9_-]{43}"  # 32 bytes in URL-safe base64 without padding
TOKEN_PATTERN = rf"^gsd_({DEVICE_PATTERN})_{_SECRET_PATTERN}\Z"


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
