"""Which verifier a board trusts over wss://, and what certificate the board shows itself."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from shared.daemon.tls.certificate import check_library, pin_of
from shared.daemon.tls.own_certificate import load_authorities, load_own_certificate

WRONG_PIN = "the key is not the pinned one"


class VerifierTrust(msgspec.Struct, frozen=True):
    """What the settings say; with nothing of it, the authorities that this system trusts."""

    ca_file: Path | None = None  # in place of the system's authorities
    pin: str | None = None  # of the verifier's key; without `ca_file` it is enough
    certificate_file: Path | None = None
    key_file: Path | None = None


def client_context(trust: VerifierTrust) -> ssl.SSLContext:
    """TLS as these settings have it, read from their files now.

    Raises:
        ConfigError: a file is wrong, or a pin cannot be checked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.ca_file is not None:
        load_authorities(context, trust.ca_file)
    elif trust.pin is None:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # whose name and signature it has: the key is known
    if trust.pin is not None:
        context.sslobject_class = _pinned(trust.pin)
    if trust.certificate_file is not None and trust.key_file is not None:
        load_own_certificate(context, trust.certificate_file, trust.key_file)
    return context


def _pinned(pin: str) -> type[ssl.SSLObject]:
    """Handshakes that fail, before anything is said, where the key is another one."""
    check_library("verifier.pin")  # which wants it at the first handshake

    class PinnedTls(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = self.getpeercert(binary_form=True)
            if shown is None or pin_of(shown) != pin:
                raise ssl.SSLCertVerificationError(WRONG_PIN)

    return PinnedTls
