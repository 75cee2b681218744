from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.secrets import DEVICE_PATTERN
from shared.errors import ConfigError
from verifier.server.device_tokens import (
    Role,
    Token,
    TokenRoles,
    device_of,
    format_tokens,
    new_token,
    parse_tokens,
    read_tokens,
)

RANDOM_BYTES = bytes(range(32))
TOKEN = "gsd_pi5-kitchen_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()

devices = st.from_regex(DEVICE_PATTERN, fullmatch=True)
secrets = st.binary(min_size=32, max_size=32)


def test_a_new_token_names_its_device_and_the_line_holds_its_hash_only() -> None:
    assert (TOKEN, f"pi5-kitchen {DIGEST}") == new_token("pi5-kitchen", RANDOM_BYTES)


@pytest.mark.parametrize("device", ["", "a_b", "-a", "a b", "a\n", "ü", "a" * 64])
def test_a_device_name_that_a_token_cannot_carry_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="must be 1 to 63 letters, digits, dots and hyphens"):
        new_token(device, RANDOM_BYTES)


@given(devices, secrets)
def test_a_token_opens_the_door_of_its_device(device: str, random_bytes: bytes) -> None:
    token, line = new_token(device, random_bytes)
    assert device == device_of(token, parse_tokens(line, "tokens").of("board"))


@given(devices, secrets, secrets)
def test_the_token_of_another_secret_opens_nothing(device: str, one: bytes, other: bytes) -> None:
    token, _ = new_token(device, one)
    _, line = new_token(device, other)
    assert (device if one == other else None) == device_of(
        token, parse_tokens(line, "tokens").of("board")
    )


@given(st.text())
def test_no_text_that_is_not_the_token_opens_anything(token: str) -> None:
    assert None is device_of(token, {"pi5-kitchen": DIGEST})


@pytest.mark.parametrize("token", [TOKEN.upper(), TOKEN[:-1], f"{TOKEN}\n", f" {TOKEN}", ""])
def test_a_token_that_is_nearly_right_opens_nothing(token: str) -> None:
    assert None is device_of(token, {"pi5-kitchen": DIGEST})


def test_the_token_of_a_device_that_was_revoked_opens_nothing() -> None:
    assert None is device_of(TOKEN, {})


digests = secrets.map(lambda secret: hashlib.sha256(secret).hexdigest())
roles = st.sampled_from(get_args(Role))


@given(st.dictionaries(devices, st.builds(Token, digests, roles)))
def test_a_file_comes_back_as_it_was_written(tokens: dict[str, Token]) -> None:
    assert TokenRoles(tokens) == parse_tokens(format_tokens(TokenRoles(tokens)), "tokens")


def test_a_token_opens_what_its_role_says_alone() -> None:
    text = f"pi5 {DIGEST}\ngrafana {DIGEST} dashboard\nprometheus {DIGEST} metrics\n"
    tokens = parse_tokens(text, "tokens")
    names = [set(tokens.of(role)) for role in get_args(Role)]
    assert [{"pi5"}, {"prometheus"}, {"grafana"}] == names
    with pytest.raises(ConfigError, match="tokens:1: must be"):
        parse_tokens(f"pi5 {DIGEST} root\n", "tokens")


def test_comments_and_empty_lines_are_skipped() -> None:
    text = f"# boards\n\n  pi5-kitchen\t{DIGEST}  \n"
    assert {"pi5-kitchen": DIGEST} == parse_tokens(text, "tokens").of("board")


def test_every_wrong_line_is_named_and_none_is_shown() -> None:
    text = f"pi5-kitchen {DIGEST}\n{TOKEN}\npi4 abc\npi5-kitchen {DIGEST}\n"
    with pytest.raises(ConfigError) as caught:
        parse_tokens(text, "tokens")
    expected = (
        "tokens:2: must be a device name and 64 hex digits",
        "tokens:3: must be a device name and 64 hex digits",
        "tokens:4: device pi5-kitchen has a token already",
    )
    assert expected == caught.value.problems


def test_a_file_of_tokens_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"pi5-kitchen {DIGEST}\n")
    path.chmod(0o600)
    assert {"pi5-kitchen": DIGEST} == read_tokens(path)


def test_a_file_of_tokens_that_everyone_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"pi5-kitchen {DIGEST}\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="a secret that everyone can reach"):
        read_tokens(path)
