"""Both programs as an operator runs them: a private authority, a token revoked and renewed."""

from __future__ import annotations

import signal
import ssl
import sys
from pathlib import Path
from urllib.request import urlopen

from click.testing import CliRunner

import edge_agent.cli
import verifier.cli
from tests.support.network.certificates import DAY
from tests.support.programs.ports import free_port
from tests.support.programs.program import Program
from verifier.commands.private_authority import SERVER_DAYS

LAUNCH = [sys.executable, "-m", "tests.support.programs.launchers"]


def set_up(directory: Path, port: int) -> tuple[Path, Path]:
    """Settings of a verifier with a private authority, and of a board that trusts it."""
    server, board = directory / "server", directory / "board"
    for arguments in (
        ["init", "--private-ca", "--host", "127.0.0.1", "--directory", str(server)],
        ["token", "add", "kitchen", "--tokens-file", str(server / "credentials/tokens")],
    ):
        made = CliRunner().invoke(verifier.cli.main, arguments)
        assert 0 == made.exit_code, made.output
    settings = server / "verifier.toml"
    text = settings.read_text().replace('"/var/lib/goodspeed"', f'"{directory}/state"')
    settings.write_text(text.replace("[server]\n", f"[server]\nport = {port}\n"))
    fixed = ["init", "--verifier", f"wss://localhost:{port}", "--directory", str(board)]
    trust = ["--ca", str(server / "tls/ca.crt"), "--token", "-"]
    joined = CliRunner().invoke(edge_agent.cli.main, [*fixed, *trust], input=made.stdout)
    assert 0 == joined.exit_code, joined.output
    return settings, board / "agent.toml"


def test_a_board_connects_over_tls_loses_its_token_and_comes_back_with_another(
    tmp_path: Path,
) -> None:
    port, api_port = free_port(), free_port()
    server_settings, board_settings = set_up(tmp_path, port)
    server = server_settings.parent
    own = server / "tls"
    run_verifier = [*LAUNCH, "verifier", "--scripted", "run", "--config", str(server_settings)]
    api = (
        f"api.port={api_port}",
        f"api.certificate_file={own / 'verifier.crt'}",
        f"api.key_file={own / 'verifier.key'}",
    )
    options = [word for setting in api for word in ("--set", setting)]
    run_agent = [*LAUNCH, "agent", "--scripted", "run", "--config", str(board_settings), *options]
    tokens = ["--tokens-file", str(server / "credentials/tokens")]
    with (
        Program("verifier", run_verifier, tmp_path / "verifier.log") as verifying,
        Program("agent", run_agent, tmp_path / "agent.log") as agent,
    ):
        verifying.line_with(f"wss://127.0.0.1:{port}")
        agent.line_with(f"https://127.0.0.1:{api_port}")
        agent.line_with("connected to scripted at wss://localhost")
        context = ssl.create_default_context(cafile=own / "ca.crt")
        with urlopen(f"https://localhost:{api_port}/healthz", context=context) as answer:
            assert b"verifier_connected" in answer.read()
        revoked = CliRunner().invoke(verifier.cli.main, ["token", "revoke", "kitchen", *tokens])
        assert 0 == revoked.exit_code
        agent.line_with("this device's token was revoked at the verifier")
        made = CliRunner().invoke(verifier.cli.main, ["token", "add", "kitchen", *tokens])
        (board_settings.parent / "credentials/token").write_text(made.stdout)
        agent.send(signal.SIGHUP)
        agent.line_with("settings were read again")
        agent.line_with("connected to scripted at wss://localhost")
        assert 0 == agent.end(signal.SIGTERM)[0]
        assert 0 == verifying.end(signal.SIGTERM)[0]


def test_a_reload_of_a_board_with_a_wrong_certificate_changes_nothing(tmp_path: Path) -> None:
    port = free_port()
    server_settings, board_settings = set_up(tmp_path, port)
    run_verifier = [*LAUNCH, "verifier", "--scripted", "run", "--config", str(server_settings)]
    options = ["--set", f"api.port={free_port()}"]
    run_agent = [*LAUNCH, "agent", "--scripted", "run", "--config", str(board_settings), *options]
    authority = board_settings.parent / "ca.crt"
    with (
        Program("verifier", run_verifier, tmp_path / "verifier.log") as verifying,
        Program("agent", run_agent, tmp_path / "agent.log") as agent,
    ):
        verifying.line_with("serving")
        agent.line_with("connected to scripted")
        whole = authority.read_text()
        authority.write_text("nothing")
        agent.send(signal.SIGHUP)
        agent.line_with(f"{authority}: holds no certificate in PEM")
        agent.line_with("settings stay as they were: 1 wrong")
        authority.write_text(whole)
        agent.send(signal.SIGHUP)
        agent.line_with("settings were read again")
        assert agent.is_running


def test_a_private_certificate_holds_for_as_long_as_it_says(tmp_path: Path) -> None:
    set_up(tmp_path, free_port())
    context = ssl.create_default_context(cafile=tmp_path / "server/tls/ca.crt")
    (authority,) = context.get_ca_certs()
    lasts = ssl.cert_time_to_seconds(str(authority["notAfter"]))
    assert lasts - ssl.cert_time_to_seconds(str(authority["notBefore"])) > SERVER_DAYS * DAY
