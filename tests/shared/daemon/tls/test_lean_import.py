"""aiohttp's own contexts trust none; those that are made later trust the system's as ever."""

from __future__ import annotations

from pathlib import Path

from tests.support.network.certificates import Authority
from tests.support.programs.command import run

SCRIPT = """
import os, ssl
os.environ["SSL_CERT_FILE"], os.environ["SSL_CERT_DIR"] = {file!r}, "/nowhere"
from shared.daemon.tls.lean_import import import_aiohttp_leanly
import_aiohttp_leanly()
from aiohttp import connector
made = connector._SSL_CONTEXT_VERIFIED, ssl.create_default_context()
print(*(context.cert_store_stats()["x509_ca"] for context in made), made[0].verify_mode.name)
"""


def test_only_what_aiohttp_makes_at_its_import_trusts_none(tmp_path: Path) -> None:
    script = SCRIPT.format(file=str(Authority(tmp_path).file))
    assert (0, "0 1 CERT_REQUIRED\n", "") == run(["-c", script])
