"""Making certificates: a private authority, and what it signs for servers and clients.

The keys are on the curve P-256, which every TLS of the last ten years knows. `now` is an argument,
in seconds since 1970. This module must never write a file.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import CertificateBuilder, GeneralName, KeyUsage, Name

AUTHORITY_DAYS = 3650
# Clocks of boards may be some hours behind.
_BEFOREHAND = datetime.timedelta(days=1)


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


def new_key() -> str:
    """A private key in PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def make_authority(
    name: str, now: float, days: int = AUTHORITY_DAYS, *, key: str | None = None
) -> Issued:
    """An authority that signs for itself; it goes to those who are to trust it."""
    from cryptography import x509

    key_text = key or new_key()
    signer = _read_key(key_text)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, signer, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
    )
    return Issued(_signed(builder, signer), key_text)


def issue(
    authority: Issued,
    names: Sequence[str],
    now: float,
    days: int,
    *,
    key: str | None = None,
    is_client: bool = False,
) -> Issued:
    """A certificate for these hosts and addresses, signed by the authority.

    `key`: of an earlier one, so that pins stay right.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    key_text = key or new_key()
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0][:64])])
    signer = _read_key(authority.key)
    builder = (
        _builder(subject, issuer.subject, _read_key(key_text), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([Usage.CLIENT_AUTH if is_client else Usage.SERVER_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return Issued(_signed(builder, signer), key_text)


def belongs_to(certificate: str, authority: Issued, key: str) -> bool:
    """Whether the authority has signed the certificate, and the key is that of the certificate."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    found = x509.load_pem_x509_certificate(certificate.encode())
    try:
        found.verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.certificate.encode())
        )
    except (InvalidSignature, ValueError, TypeError):
        return False
    return bool(found.public_key() == _read_key(key).public_key())


def _builder(
    subject: Name, issuer: Name, key: EllipticCurvePrivateKey, now: float, days: int
) -> CertificateBuilder:
    from cryptography import x509

    begin = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BEFOREHAND)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, is_authority: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: CertificateBuilder, key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    pem: bytes = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return pem.decode()


def _read_key(text: str) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(text.encode(), password=None)
    return cast("EllipticCurvePrivateKey", key)


def _name(name: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
