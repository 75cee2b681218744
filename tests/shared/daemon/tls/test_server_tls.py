"""What a port takes as its certificate, and the one sentence where it does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.daemon.tls.server_tls import ServerTls, Shown, read_server_tls
from shared.errors import ConfigError
from tests.support.network.certificates import Authority

Spoil = Callable[[Path, Path, Authority], object]


def encrypt(key: Path) -> None:
    command = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-passout", "pass:secret"]
    key.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)


def give_another_key(certificate: Path, key: Path, authority: Authority) -> None:
    key.write_text(authority.write("other")[1].read_text())


WRONG: dict[str, tuple[Spoil, str]] = {
    "no certificate": (lambda c, k, a: c.unlink(), "server.crt: cannot be read: No such file"),
    "no key": (lambda c, k, a: k.unlink(), "server.key: cannot be read: No such file"),
    "empty certificate": (lambda c, k, a: c.write_text(""), "server.crt: holds no certificate"),
    "empty key": (lambda c, k, a: k.write_text(""), "server.key: holds no private key in PEM"),
    "the two exchanged": (lambda c, k, a: c.write_text(k.read_text()), "server.crt: holds no cert"),
    "cut certificate": (lambda c, k, a: c.write_text(c.read_text()[:200]), "server.crt"),
    "cut key": (lambda c, k, a: k.write_text(k.read_text()[:60]), "server.key"),
    "another key": (give_another_key, "server.key: is not the key of the certificate in "),
    "a key with a password": (lambda c, k, a: encrypt(k), "server.key: is encrypted, and nothing"),
    "a key for all": (lambda c, k, a: k.chmod(0o644), "server.key: a secret that everyone can"),
    "bytes": (lambda c, k, a: c.write_bytes(b"\xff\xfe\x00"), "server.crt: holds no certificate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence_that_names_the_file(case: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.write()
    spoil, words = WRONG[case]
    spoil(certificate, key, authority)
    with pytest.raises(ConfigError) as raised:
        read_server_tls(certificate, key)
    (sentence,) = raised.value.problems
    assert words in sentence
    assert "\n" not in sentence


def test_a_certificate_that_has_expired_is_refused_by_its_date(tmp_path: Path) -> None:
    files = Authority(tmp_path).write(age_days=30, days=10)
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 20 * 86_400))
    with pytest.raises(ConfigError, match=f"has expired on {day}: get a new one"):
        read_server_tls(*files)


def test_one_that_is_not_valid_yet_is_taken_for_time_mends_that(tmp_path: Path) -> None:
    tls = read_server_tls(*Authority(tmp_path).write(age_days=-30))
    assert tls is not None
    assert "is not valid before" in (tls.certificate.warning(time.time()) or "")


def test_authorities_of_clients_must_be_some(tmp_path: Path) -> None:
    files = Authority(tmp_path).write()
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ConfigError, match=r"empty\.pem: holds no certificate in PEM"):
        read_server_tls(*files, empty)
    with pytest.raises(ConfigError, match=r"none\.pem: cannot be read"):
        read_server_tls(*files, tmp_path / "none.pem")


def test_plain_text_does_not_become_tls_while_it_is_served(tmp_path: Path) -> None:
    shown: list[ServerTls] = []
    tls = read_server_tls(*Authority(tmp_path).write())
    assert Shown(None).take_over(None, shown.append)
    assert not Shown(None).take_over(tls, shown.append)
    assert not Shown(tls).take_over(None, shown.append)
    assert [] == shown


def test_another_certificate_takes_the_place_of_the_first(tmp_path: Path) -> None:
    authority, told = Authority(tmp_path), list[ServerTls]()
    first, second = (read_server_tls(*authority.write(name)) for name in ("one", "two"))
    shown = Shown(first)
    assert shown.take_over(second, told.append)
    assert [second] == told
    assert shown.certificate == told[0].certificate
