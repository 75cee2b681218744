"""What a port needs to speak TLS: its certificate and key, and whose clients it lets in.

A new one is read as a whole before it takes the place of the old one.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.daemon.tls.certificate import Certificate, read_certificate
from shared.daemon.tls.own_certificate import load_authorities, load_own_certificate
from shared.errors import ConfigError


class ServerTls(msgspec.Struct, frozen=True):
    """TLS of one port."""

    context: ssl.SSLContext
    certificate: Certificate


class Shown:
    """What a port shows now."""

    def __init__(self, tls: ServerTls | None) -> None:
        self.tls = tls

    @property
    def certificate(self) -> Certificate | None:
        """None: plain text."""
        return None if self.tls is None else self.tls.certificate

    @property
    def context(self) -> ssl.SSLContext | None:
        """None: plain text."""
        return None if self.tls is None else self.tls.context

    def take_over(self, tls: ServerTls | None, show: Callable[[ServerTls], None]) -> bool:
        """Show another certificate; False: plain text does not become TLS, nor TLS plain text."""
        if tls is None or self.tls is None:
            return tls is self.tls
        show(tls)
        self.tls = tls
        return True


def read_server_tls(
    certificate_file: Path | None,
    key_file: Path | None,
    client_ca_file: Path | None = None,
    *,
    now: float | None = None,
) -> ServerTls | None:
    """TLS as the settings have it; None: plain text. `now`: seconds since 1970.

    With `client_ca_file` none gets in whose certificate no authority of that file has signed.
    A certificate that is not valid yet is taken: time mends that, and so does a clock that is set.

    Raises:
        ConfigError: a file is wrong, or the certificate has expired.
    """
    if certificate_file is None or key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_own_certificate(context, certificate_file, key_file)
    if client_ca_file is not None:
        load_authorities(context, client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    certificate = read_certificate(certificate_file)
    now = time.time() if now is None else now
    if certificate.has_expired(now):
        raise ConfigError((f"{certificate.warning(now)}: get a new one",))
    return ServerTls(context, certificate)
