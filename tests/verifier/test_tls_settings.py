"""A verifier's certificate as an operator meets it: settings, reload, and what is said."""

from __future__ import annotations

import shutil
import signal
import ssl
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from tests.support.network.certificates import Authority
from tests.support.programs.command import run
from tests.support.programs.program import Program
from tests.verifier.test_cli import REAL, SCRIPTED
from verifier.cli import main


def settings(directory: Path, certificate: Path, key: Path) -> Path:
    tokens = directory / "tokens"
    CliRunner().invoke(main, ["token", "add", "kitchen", "--tokens-file", str(tokens)])
    file = directory / "verifier.toml"
    file.write_text(
        f'[server]\nport = 0\ntokens_file = "{tokens}"\ncertificate_file = "{certificate}"\n'
        f'key_file = "{key}"\n'
    )
    return file


def is_trusted(port: int, authority: Path) -> bool:
    context = ssl.create_default_context(cafile=authority)
    try:
        with urlopen(f"https://127.0.0.1:{port}/healthz", context=context, timeout=10) as answer:
            return bool(answer.status == 200)
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            return False
        raise


def test_a_certificate_is_replaced_at_a_hangup_and_a_wrong_one_is_not_taken(
    tmp_path: Path,
) -> None:
    old, new = Authority(tmp_path), Authority(tmp_path, "successor")
    certificate, key = old.write()
    file = settings(tmp_path, certificate, key)
    arguments = [sys.executable, "-c", SCRIPTED, "run", "--config", str(file)]
    with Program("verifier", arguments, tmp_path / "log") as program:
        port = int(program.line_with("serving").split("wss://127.0.0.1:")[1].split()[0])
        assert is_trusted(port, old.file)
        shutil.copy(new.write("new")[0], certificate)  # its key is still the old one
        program.send(signal.SIGHUP)
        assert f"{key}: is not the key of the certificate in {certificate}" in program.line_with(
            "is not the key"
        )
        program.line_with("settings stay as they were: 1 wrong")
        assert is_trusted(port, old.file)
        shutil.copy(tmp_path / "new.key", key)
        program.send(signal.SIGHUP)
        program.line_with("settings were read again")
        assert is_trusted(port, new.file)
        assert not is_trusted(port, old.file)
        assert 0 == program.end(signal.SIGTERM)[0]


def test_a_certificate_that_expires_soon_is_told_at_the_start(tmp_path: Path) -> None:
    file = settings(tmp_path, *Authority(tmp_path).write(days=3))
    arguments = [sys.executable, "-c", SCRIPTED, "run", "--config", str(file)]
    with Program("verifier", arguments, tmp_path / "log") as program:
        assert "server.crt: the certificate expires in 2 days, on " in program.line_with("expires")


def test_one_that_has_expired_starts_nothing(tmp_path: Path) -> None:
    file = settings(tmp_path, *Authority(tmp_path).write(age_days=9, days=3))
    code, _, errors = run(["-c", REAL, "run", "--config", str(file)])
    assert 78 == code
    assert "server.crt: the certificate has expired on " in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('key_file = "k"', "certificate_file: must be set, since server.key_file is"),
        ('certificate_file = "c"', "key_file: must be set, since server.certificate_file is"),
        ('client_ca_file = "c"', "must be left out as long as server.certificate_file is not set"),
    ],
)
def test_half_of_what_tls_takes_is_a_wrong_setting(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "verifier.toml"
    file.write_text(f"[server]\n{line}\n")
    result = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert 78 == result.exit_code
    assert words in result.stderr
