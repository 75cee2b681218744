"""`goodspeed-verifier init --private-ca`, and what a board does with what it prints."""

from __future__ import annotations

import re
import ssl
import stat
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import edge_agent.cli
from edge_agent.config import AgentConfig
from edge_agent.link.verifier_trust import VerifierTrust, client_context
from shared.config.layers import read_config_files
from shared.config.sections import load_config
from shared.daemon.tls.certificate import read_certificate
from tests.support.network.certificates import DAY
from verifier.cli import main
from verifier.commands.private_authority import TlsFiles, private_tls_files

TOKEN = f"gsd_kitchen_{'x' * 43}"
NAMES = ("gpu1", "10.0.0.7")


def init(etc: Path, *options: str) -> Result:
    result = CliRunner().invoke(main, ["init", "--directory", str(etc), *options])
    assert 0 == result.exit_code, result.output
    return result


def write(files: TlsFiles, now: float, *names: str) -> None:
    for file in private_tls_files(files, names or NAMES, now):
        file.path.write_text(file.content)


def has_signed(files: TlsFiles) -> bool:
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", files.authority, files.certificate]
    return subprocess.run(verify, capture_output=True, check=False).returncode == 0


def test_openssl_takes_what_was_made_and_keys_are_out_of_reach(tmp_path: Path) -> None:
    told = init(tmp_path, "--private-ca", "--name", "gpu1.example.org").stdout
    files = TlsFiles.within(tmp_path / "tls")
    assert has_signed(files)
    assert "gpu1.example.org" in read_certificate(files.certificate).names
    assert 0o600 == stat.S_IMODE(files.authority_key.stat().st_mode)
    assert 0o640 == stat.S_IMODE(files.key.stat().st_mode)
    assert f"copy {files.authority} to each board" in told
    assert f"--pin {read_certificate(files.certificate).pin}" in told


def test_the_settings_that_it_writes_are_taken_and_a_second_call_changes_nothing(
    tmp_path: Path,
) -> None:
    init(tmp_path, "--private-ca")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert 6 == init(tmp_path, "--private-ca").stdout.count("is there already")
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    check = ["config", "check", "--config", str(tmp_path / "verifier.toml")]
    assert 0 == CliRunner().invoke(main, check).exit_code


def test_no_secret_is_shown_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    told = init(tmp_path / "etc", "--private-ca", "--dry-run").stdout
    assert "BEGIN" not in told
    assert not (tmp_path / "etc").exists()


def test_a_certificate_that_is_about_to_expire_is_made_anew_with_the_same_key(
    tmp_path: Path,
) -> None:
    files, now = TlsFiles.within(tmp_path), time.time()
    write(files, now - 720 * DAY)
    old, key = read_certificate(files.certificate), files.key.read_text()
    write(files, now)
    renewed = read_certificate(files.certificate)
    assert renewed.not_after > old.not_after + 700 * DAY
    assert (old.pin, key) == (renewed.pin, files.key.read_text())
    assert has_signed(files)


def test_another_name_is_added_to_those_that_are_there(tmp_path: Path) -> None:
    files, now = TlsFiles.within(tmp_path), time.time()
    write(files, now)
    write(files, now, "10.0.0.8")
    assert {*NAMES, "10.0.0.8"} == {*read_certificate(files.certificate).names}


@pytest.mark.parametrize("missing", ["authority", "authority_key", "certificate", "key"])
def test_whatever_file_is_lost_the_next_call_makes_a_whole_set(
    missing: str, tmp_path: Path
) -> None:
    files, now = TlsFiles.within(tmp_path), time.time()
    write(files, now)
    getattr(files, missing).unlink()
    write(files, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    assert has_signed(files)


def test_a_board_takes_the_command_that_was_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = init(tmp_path / "server", "--private-ca").stdout
    (command,) = re.findall(r"and there: goodspeed-agent (init .*)", told)
    monkeypatch.chdir(tmp_path / "server" / "tls")
    board = tmp_path / "board"
    arguments = [*command.split(), "--directory", str(board)]
    result = CliRunner().invoke(edge_agent.cli.main, arguments, input=f"{TOKEN}\n")
    assert 0 == result.exit_code, result.output
    files = read_config_files(board / "agent.toml")
    section = load_config(AgentConfig, files).config.verifier
    assert board / "ca.crt" == section.ca_file
    assert client_context(VerifierTrust(section.ca_file)).get_ca_certs()


def test_a_pin_is_taken_or_named(tmp_path: Path) -> None:
    told = init(tmp_path / "server", "--private-ca").stdout
    (pin,) = re.findall(r"--pin (\S+)", told)
    fixed = ["init", "--verifier", "wss://gpu1:8443", "--token", "-"]

    def init_board(pinned: str) -> Result:
        arguments = [*fixed, "--directory", str(tmp_path / "board"), "--pin", pinned]
        return CliRunner().invoke(edge_agent.cli.main, arguments, input=f"{TOKEN}\n")

    assert 0 == init_board(pin).exit_code
    refused = init_board(pin[:-3])
    assert 78 == refused.exit_code
    assert "verifier.pin" in refused.stderr
    assert "must be sha256// and the hash" in refused.stderr


def test_names_without_an_authority_are_refused(tmp_path: Path) -> None:
    arguments = ["init", "--directory", str(tmp_path), "--name", "gpu1"]
    result = CliRunner().invoke(main, arguments)
    assert 78 == result.exit_code
    assert "--name: takes --private-ca" in result.stderr


@pytest.mark.parametrize(
    "name", ["a b", "", "münchen.example", "https://gpu1", "gpu1:8443", "a..b"]
)
def test_a_name_that_no_host_has_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    arguments = ["init", "--directory", str(tmp_path), "--private-ca", "--name", name]
    result = CliRunner().invoke(main, arguments)
    assert 78 == result.exit_code
    assert f"--name {name}: must be the name of a host, or an address" in result.stderr
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["*.example.org", "gpu_1.lan", "10.0.0.7", "fd00::7"])
def test_names_and_addresses_of_hosts_are_taken(tmp_path: Path, name: str) -> None:
    init(tmp_path, "--private-ca", "--name", name)
    assert name in read_certificate(tmp_path / "tls/verifier.crt").names


def test_a_file_that_is_no_authority_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.crt"
    wrong.write_text("nothing")
    fixed = ["init", "--verifier", "wss://gpu1:8443", "--token", "-", "--ca", str(wrong)]
    arguments = [*fixed, "--directory", str(tmp_path / "board")]
    result = CliRunner().invoke(edge_agent.cli.main, arguments, input=f"{TOKEN}\n")
    assert 78 == result.exit_code
    assert f"{wrong}: holds no certificate in PEM" in result.stderr
    assert not (tmp_path / "board").exists()
