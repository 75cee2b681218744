"""Certificates for a verifier that has no public name: a private authority, and what it signs.

A second call changes nothing, but for a certificate that is about to expire, or lacks a name: that
is made anew with the same key, so that boards which pinned it go on.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from shared.daemon.first_files import FirstFile
from shared.daemon.tls.certificate import (
    WARNED_SECONDS,
    Certificate,
    check_library,
    read_certificate,
)
from shared.daemon.tls.issuing import Issued, belongs_to, issue, make_authority, new_key
from shared.errors import ConfigError

SERVER_DAYS = 730
# Nothing is sent there (RFC 5737): the kernel says which of its addresses it would send from.
_ELSEWHERE = ("192.0.2.1", 9)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


class TlsFiles(msgspec.Struct, frozen=True):
    """Where all of it lies."""

    authority: Path  # goes to the boards
    authority_key: Path  # stays here, or goes to a safe place: a renewal takes it
    certificate: Path
    key: Path

    @classmethod
    def within(cls, directory: Path) -> TlsFiles:
        """The files of one directory."""
        return cls(
            directory / "ca.crt",
            directory / "ca.key",
            directory / "verifier.crt",
            directory / "verifier.key",
        )


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError for what is neither a host's name nor an address."""
    for name in names:
        if _HOST_NAME.fullmatch(name) is None and not _is_address(name):
            raise ConfigError((f"--name {name}: must be the name of a host, or an address",))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def own_names() -> tuple[str, ...]:
    """By what boards may call this machine: its name, that in mDNS, and its address."""
    host = socket.gethostname().lower()
    names = [host, f"{host.partition('.')[0]}.local", "localhost", "127.0.0.1"]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ELSEWHERE)
        names.append(probe.getsockname()[0])
    return tuple(dict.fromkeys(names))


def private_tls_files(files: TlsFiles, names: Sequence[str], now: float) -> list[FirstFile]:
    """All files as they shall be at `now` (seconds since 1970).

    The order is that of writing: wherever it is cut off, the next call makes what is missing.

    Raises:
        ConfigError: one that is there cannot be used, or `cryptography` is not installed.
    """
    check_library("--private-ca")
    authority = _authority(files, now)
    key = _text(files.key) or new_key()
    certificate = _text(files.certificate)
    known = None if certificate is None else read_certificate(files.certificate)
    if (
        certificate is None
        or known is None
        or not _still_holds(known, names, now)
        or not belongs_to(certificate, authority, key)
    ):
        all_names = tuple(dict.fromkeys((*(known.names if known else ()), *names)))
        certificate = issue(authority, all_names, now, SERVER_DAYS, key=key).certificate
    return [
        FirstFile(files.authority, authority.certificate, mode=0o644, is_shown=False),
        FirstFile(files.authority_key, authority.key, mode=0o600, is_secret=True),
        FirstFile(files.key, key, mode=0o640, is_secret=True, is_for_service=True),
        FirstFile(files.certificate, certificate, mode=0o644, is_shown=False),
    ]


def _authority(files: TlsFiles, now: float) -> Issued:
    certificate, key = _text(files.authority), _text(files.authority_key)
    if certificate is not None and key is not None:
        return Issued(certificate, key)
    return make_authority(f"goodspeed on {socket.gethostname()}"[:64], now, key=key)


def _still_holds(certificate: Certificate, names: Sequence[str], now: float) -> bool:
    return certificate.not_after - now > WARNED_SECONDS and set(names) <= set(certificate.names)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
