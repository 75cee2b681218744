"""What a certificate says: for whom it is, how long it holds, and the pin of its key.

The package `cryptography` reads it; it is imported only where a certificate is at hand. This module
must never decide whether a certificate is trusted: TLS does.
"""

from __future__ import annotations

import base64
import hashlib
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shared.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

# Renewals by hand take a while to be noticed, and those by programs (certbot) come at 30 days.
WARNED_SECONDS = 21 * 86_400.0


class Certificate(msgspec.Struct, frozen=True):
    """One certificate; times are seconds since 1970."""

    name: str  # where it stands, for sentences
    names: tuple[str, ...]  # hosts and addresses that it is for
    not_before: float
    not_after: float
    pin: str  # SHA-256 of its public key, as curl --pinnedpubkey has it

    def has_expired(self, now: float) -> bool:
        """Whether it is of the past."""
        return now > self.not_after

    def warning(self, now: float) -> str | None:
        """What an operator should know of its time, if there is anything."""
        if self.has_expired(now):
            return f"{self.name}: the certificate has expired on {_day(self.not_after)}"
        if now < self.not_before:
            return (
                f"{self.name}: the certificate is not valid before {_day(self.not_before)}, and "
                f"this machine's clock says {_day(now)}"
            )
        if self.not_after - now < WARNED_SECONDS:
            num_days = int((self.not_after - now) / 86_400)
            days = "1 day" if num_days == 1 else f"{num_days} days"
            return f"{self.name}: the certificate expires in {days}, on {_day(self.not_after)}"
        return None


def read_certificate(path: Path) -> Certificate:
    """The first certificate of a PEM file: a server's own, of which the others give the chain.

    Raises:
        ConfigError: the file cannot be read, holds none, or `cryptography` is not installed.
    """
    check_library(str(path))
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except ValueError:
        raise ConfigError((f"{path}: holds no certificate in PEM",)) from None
    return Certificate(
        name=str(path),
        names=_names(found),
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        pin=_pin(found),
    )


def check_library(where: str) -> None:
    """Make sure that certificates can be read; `where`: what asks for it.

    Raises:
        ConfigError: `cryptography` is not installed.
    """
    if find_spec("cryptography") is None:
        raise ConfigError((f"{where}: takes a package: pip install 'goodspeed[tls]'",))


def pin_of(der: bytes) -> str:
    """The pin of a certificate that a peer has shown, in DER."""
    from cryptography import x509

    return _pin(x509.load_der_x509_certificate(der))


def _pin(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256//{base64.b64encode(hashlib.sha256(key).digest()).decode()}"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography.x509 import ExtensionNotFound, SubjectAlternativeName

    try:
        named = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return ()
    return tuple(str(name.value) for name in named)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
