"""Whom a board trusts over wss://, and what it says where it does not: over real sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link.link import Link
from edge_agent.link.unreachable import unreachable
from edge_agent.link.verifier_trust import VerifierTrust, client_context
from edge_agent.link.vocabulary_fetch import fetch_vocabulary
from shared.daemon.tls.certificate import read_certificate
from shared.daemon.tls.server_tls import ServerTls, read_server_tls
from shared.errors import AuthRejected, ConfigError, LinkLost, UntrustedVerifier
from shared.protocol.messages import PROTOCOL_VERSION, Hello
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.network.certificates import Authority

HELLO = Hello(protocol_version=PROTOCOL_VERSION, agent_version="1", draft_model="small")


async def attempt(url: str, trust: VerifierTrust | None) -> str:
    """What becomes of one attempt to connect with a token that nothing knows."""
    link = Link(HELLO, SharedVocabulary(board()), lambda message, size: None, lambda *_: None)
    tls = None if trust is None else client_context(trust)
    async with aiohttp.ClientSession() as session:
        try:
            await link.run(session, url, "gsd_x_y", tls)
        except AuthRejected:
            return "it was let in as far as its token"
        except UntrustedVerifier as error:
            return str(error)
    raise AssertionError("it neither was refused nor let in")


def attempt_at(
    context: ServerTls | None, trust: VerifierTrust | None, address: str = "wss://localhost"
) -> str:
    async def scene() -> str:
        async with running_verifier(scripted_service(), tls=context) as verifier:
            said = await attempt(f"{address}:{verifier.port}", trust)
            return said.replace(f":{verifier.port}", "")

    return asyncio.run(scene())


def shown(files: tuple[Path, Path], client_ca: Path | None = None) -> ServerTls:
    tls = read_server_tls(*files, client_ca)
    assert tls is not None
    return tls


def unchecked(files: tuple[Path, Path]) -> ServerTls:
    """A server that shows what ours would not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return ServerTls(context, read_certificate(files[0]))


LET_IN = "it was let in as far as its token"


def test_a_verifier_of_the_right_authority_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert LET_IN == attempt_at(shown(authority.write()), VerifierTrust(authority.file))


def test_a_key_that_is_pinned_is_trusted_whoever_signed_it_and_whenever(tmp_path: Path) -> None:
    files = Authority(tmp_path).write(names=("elsewhere",), age_days=50, days=10)
    trust = VerifierTrust(pin=read_certificate(files[0]).pin)
    assert LET_IN == attempt_at(unchecked(files), trust)


Case = Callable[[Path], tuple[ServerTls, VerifierTrust | None]]


def expired(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    authority = Authority(directory)
    return unchecked(authority.write(age_days=50, days=10)), VerifierTrust(authority.file)


def not_yet_valid(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    authority = Authority(directory)
    return shown(authority.write(age_days=-50)), VerifierTrust(authority.file)


def other_name(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    authority = Authority(directory)
    return shown(authority.write(names=("gpu1.lan",))), VerifierTrust(authority.file)


def other_authority(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    stranger = Authority(directory, "stranger")
    return shown(Authority(directory).write()), VerifierTrust(stranger.file)


def unknown_authority(directory: Path) -> tuple[ServerTls, None]:
    return shown(Authority(directory).write()), None


def self_signed(directory: Path) -> tuple[ServerTls, None]:
    authority = Authority(directory)
    key = directory / "authority.key"
    key.write_text(authority.key)
    return unchecked((authority.file, key)), None


def other_key(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    authority = Authority(directory)
    pin = read_certificate(authority.write("other")[0]).pin
    return shown(authority.write()), VerifierTrust(authority.file, pin)


def without_own(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    authority = Authority(directory)
    return shown(authority.write(), authority.file), VerifierTrust(authority.file)


def own_of_other_authority(directory: Path) -> tuple[ServerTls, VerifierTrust]:
    authority, stranger = Authority(directory), Authority(directory, "stranger")
    own = stranger.write("board", ("kitchen",), is_client=True)
    return shown(authority.write(), authority.file), VerifierTrust(authority.file, None, *own)


REFUSED: dict[str, tuple[Case, str]] = {
    "expired": (expired, "shows a certificate that has expired (this board's clock says 20"),
    "not yet valid": (not_yet_valid, "is not valid yet: this board's clock says 20"),
    "other name": (other_name, "that is not for localhost: verifier.url must have its name"),
    "other authority": (other_authority, "does not trust: set verifier.ca_file to that auth"),
    "unknown authority": (unknown_authority, "does not trust: set verifier.ca_file to that auth"),
    "self-signed": (self_signed, "shows a self-signed certificate: set verifier.ca_file to it"),
    "other key": (other_key, "has another key than verifier.pin: it is another machine, or got"),
    "without own": (without_own, "it wants a certificate of this board that its authorities have"),
    "own of another": (
        own_of_other_authority,
        "it wants a certificate of this board that its authorities have",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_verifier_that_is_not_trusted_is_refused_with_the_way_out(
    case: str, tmp_path: Path
) -> None:
    make, words = REFUSED[case]
    said = attempt_at(*make(tmp_path))
    assert words in said
    assert "\n" not in said


def test_a_board_with_the_right_certificate_is_let_in_by_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.write("board", ("kitchen",), is_client=True)
    trust = VerifierTrust(authority.file, None, *own)
    assert LET_IN == attempt_at(shown(authority.write(), authority.file), trust)


def test_plain_text_to_a_port_with_tls_is_told_to_use_it(tmp_path: Path) -> None:
    context = shown(Authority(tmp_path).write())
    said = attempt_at(context, None, "ws://localhost")
    assert "cannot reach the verifier at ws://localhost: it speaks TLS: set verifier.url = " in said
    assert said.endswith("wss://localhost")


def test_tls_to_a_port_in_plain_text_is_told_not_to() -> None:
    said = attempt_at(None, None)
    assert "what listens there speaks no TLS: set verifier.url = ws://…" in said


@pytest.mark.parametrize(
    ("behind", "sentence"),
    [
        (ConnectionResetError(), "the connection ended before anything was said"),
        (OSError(errno.EHOSTUNREACH, "no words of ours"), "No route to host"),
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), "nothing listens there"),
    ],
)
def test_what_the_client_library_would_say_is_said_plainly(behind: OSError, sentence: str) -> None:
    where: Any = SimpleNamespace(host="gpu1.lan", port=8443, ssl=True)
    error = aiohttp.ClientConnectorError(where, behind)
    told = asyncio.run(unreachable(error, "wss://gpu1.lan:8443", 10.0))
    assert str(told).startswith(f"cannot reach the verifier at wss://gpu1.lan:8443: {sentence}")


def test_a_port_that_hangs_up_on_all_is_no_fault_of_tls() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def scene() -> str:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0, family=socket.AF_INET)
        async with server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(LinkLost) as raised:
                await fetch_vocabulary(url, "gsd_x_y", b"")
            assert not isinstance(raised.value, UntrustedVerifier)
            return str(raised.value)

    assert asyncio.run(scene()).startswith("cannot reach the verifier at ws://127.0.0.1:")


def test_the_vocabulary_comes_over_tls_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def scene() -> bytes:
        context = shown(authority.write())
        async with running_verifier(scripted_service(), tls=context) as verifier:
            url, tls = f"wss://localhost:{verifier.port}", VerifierTrust(authority.file)
            with pytest.raises(UntrustedVerifier, match=r"set verifier\.ca_file"):
                await fetch_vocabulary(url, verifier.tokens["board"], b"")
            return await fetch_vocabulary(url, verifier.tokens["board"], b"", client_context(tls))

    assert asyncio.run(scene())


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
def test_a_file_that_is_missing_is_a_wrong_setting(name: str, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).write(is_client=True)
    files = {"ca_file": certificate, "certificate_file": certificate, "key_file": key}
    with pytest.raises(ConfigError, match=r"none: cannot be read: No such file"):
        client_context(VerifierTrust(**(files | {name: tmp_path / "none"})))
