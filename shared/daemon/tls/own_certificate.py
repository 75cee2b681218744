"""The certificate and key that a program shows: read together, or refused with one sentence.

This module must never put a key into an error.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from shared.config.secrets import read_secret_file
from shared.errors import ConfigError


def load_own_certificate(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    """Let the context show this certificate, of which it has the key.

    Raises:
        ConfigError: one cannot be read, they do not belong together, or others can read the key.
    """
    key = read_secret_file(key_file)
    if "PRIVATE KEY-----" not in key:
        raise ConfigError((f"{key_file}: holds no private key in PEM",))
    try:
        context.load_cert_chain(certificate_file, key_file, password=_refuse)
    except _Encrypted:
        sentence = "is encrypted, and nothing here can ask for its password"
        raise ConfigError((f"{key_file}: {sentence}",)) from None
    except ssl.SSLError as error:
        raise ConfigError((_sentence(error, certificate_file, key_file),)) from None
    except OSError as error:
        raise ConfigError((f"{certificate_file}: cannot be read: {error.strerror}",)) from None


def load_authorities(context: ssl.SSLContext, path: Path) -> None:
    """Let the context trust what the authorities in this PEM file have signed.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError((f"{path}: holds no certificate in PEM",)) from None
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None


class _Encrypted(Exception):
    pass


def _refuse() -> NoReturn:
    raise _Encrypted


def _sentence(error: ssl.SSLError, certificate_file: Path, key_file: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key_file}: is not the key of the certificate in {certificate_file}"
    text = certificate_file.read_text(encoding="utf-8", errors="replace")
    if "-----BEGIN CERTIFICATE-----" not in text:
        return f"{certificate_file}: holds no certificate in PEM"
    reason = f" ({error.reason})" if error.reason else ""
    return f"{certificate_file} or {key_file}: is damaged{reason}"
