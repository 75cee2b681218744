"""What is read of a certificate, and what an operator is told of its time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from shared.daemon.tls import certificate as certificate_module
from shared.daemon.tls.certificate import Certificate, read_certificate
from shared.errors import ConfigError
from tests.support.network.certificates import DAY, Authority, new_key


def lasting(first_day: float, last_day: float) -> Certificate:
    return Certificate("own.crt", (), first_day * DAY, last_day * DAY, "")


def test_names_and_times_are_those_that_were_issued(tmp_path: Path) -> None:
    file, _ = Authority(tmp_path).write(names=("gpu1.lan", "10.0.0.7"), days=90)
    read = read_certificate(file)
    assert ("gpu1.lan", "10.0.0.7") == read.names
    assert 91 == round((read.not_after - read.not_before) / DAY)
    assert str(file) == read.name


def test_the_pin_is_the_one_that_openssl_and_curl_make(tmp_path: Path) -> None:
    file, _ = Authority(tmp_path).write()
    made = subprocess.run(
        f"openssl x509 -in {file} -pubkey -noout | openssl pkey -pubin -outform der"
        " | openssl dgst -sha256 -binary | openssl enc -base64",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert f"sha256//{made}" == read_certificate(file).pin


def test_a_renewed_certificate_of_the_same_key_has_the_same_pin(tmp_path: Path) -> None:
    authority, key = Authority(tmp_path), new_key()
    first = read_certificate(authority.write("first", key=key)[0])
    second = read_certificate(authority.write("second", key=key, days=400)[0])
    other = read_certificate(authority.write("other")[0])
    assert first.pin == second.pin != other.pin


@pytest.mark.parametrize(
    ("today", "sentence"),
    [
        (50.0, None),
        (79.0, None),
        (79.5, "own.crt: the certificate expires in 20 days, on 1970-04-11"),
        (98.5, "own.crt: the certificate expires in 1 day, on 1970-04-11"),
        (100.5, "own.crt: the certificate has expired on 1970-04-11"),
        (
            5.0,
            "own.crt: the certificate is not valid before 1970-01-11, and this machine's clock "
            "says 1970-01-06",
        ),
    ],
)
def test_an_operator_is_warned_in_time(today: float, sentence: str | None) -> None:
    assert sentence == lasting(10, 100).warning(today * DAY)


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "empty.crt"
    file.write_text("nothing\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}: holds no certificate in PEM")):
        read_certificate(file)


def test_without_the_library_the_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = Authority(tmp_path).write()
    monkeypatch.setattr(certificate_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'goodspeed\[tls\]'"):
        read_certificate(file)
