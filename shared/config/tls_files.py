"""The two settings that TLS takes at least: a certificate and its key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def unpaired(
    certificate_file: Path | None, key_file: Path | None, section: str
) -> Iterator[tuple[str, str]]:
    """The setting that is missing beside the other one, with what it must be."""
    if key_file is None and certificate_file is not None:
        yield "key_file", f"set, since {section}.certificate_file is"
    if certificate_file is None and key_file is not None:
        yield "certificate_file", f"set, since {section}.key_file is"
