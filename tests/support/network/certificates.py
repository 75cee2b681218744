"""A private authority and certificates of it, in files, right or wrong in one respect."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="the extra `tls`")

from shared.daemon.tls.issuing import Issued, issue, make_authority, new_key

DAY = 86_400.0
LOOPBACK = ("localhost", "127.0.0.1")


class Authority:
    """Signs what a test wants; its files lie in one directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._issued = make_authority(name, time.time())
        self.file = directory / f"{name}.pem"
        self.file.write_text(self._issued.certificate)

    @property
    def key(self) -> str:
        return self._issued.key

    def write(
        self,
        name: str = "server",
        names: tuple[str, ...] = LOOPBACK,
        *,
        age_days: float = 0.0,
        days: int = 90,
        is_client: bool = False,
        key: str | None = None,
    ) -> tuple[Path, Path]:
        """Files with a certificate and its key, which was issued `age_days` ago."""
        now = time.time() - age_days * DAY
        issued = issue(self._issued, names, now, days, is_client=is_client, key=key)
        return self.put(issued, name)

    def put(self, issued: Issued, name: str) -> tuple[Path, Path]:
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        certificate.write_text(issued.certificate)
        key.write_text(issued.key)
        key.chmod(0o600)
        return certificate, key


__all__ = ["DAY", "LOOPBACK", "Authority", "new_key"]
