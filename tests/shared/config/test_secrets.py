from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.secrets import is_same_secret, read_key_file, read_secret_file
from shared.errors import ConfigError


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_a_file_of_owner_and_group_is_read_without_outer_white_space(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "token"
    path.write_text("gsd_a_b\n")
    path.chmod(mode)
    assert "gsd_a_b" == read_secret_file(path)


@pytest.mark.parametrize(("mode", "permissions"), [(0o644, "-rw-r--r--"), (0o602, "-rw-----w-")])
def test_a_file_that_others_can_touch_is_refused(
    tmp_path: Path, mode: int, permissions: str
) -> None:
    path = tmp_path / "token"
    path.write_text("gsd_a_b\n")
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_secret_file(path)
    sentence = f"a secret that everyone can reach ({permissions}); chmod 640 mends it"
    assert (f"{path}: {sentence}",) == caught.value.problems


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match="token: cannot be read: No such file"):
        read_secret_file(path)


def test_a_file_that_is_not_text_is_named_but_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_secret_file(path)
    assert (f"{path}: not UTF-8 text",) == caught.value.problems


KEY = "cupboard-7f3a-lamp"


def key_file(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    return path


def test_a_key_is_one_word_without_outer_white_space(tmp_path: Path) -> None:
    assert KEY == read_key_file(key_file(tmp_path, f" {KEY}\n\n"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "holds no key, so everyone would have it"),
        (" \n\t\n", "holds no key, so everyone would have it"),
        ("secret", "a key of 6 characters is shorter than 16"),
        ("x" * 40, "a key of 1 different characters can be guessed"),
        (f"{KEY} {KEY}", "a key must be one word"),
        (f"{KEY}\n{KEY}", "a key must be one word"),
        (f"{KEY}ü", "a key must be one word"),
        (f"{KEY}\x00", "a key must be one word"),
        (f"\ufeff{KEY}", "a key must be one word"),
    ],
)
def test_a_weak_key_is_refused_by_file_and_what_to_do_and_never_shown(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = key_file(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read_key_file(path)
    (sentence,) = caught.value.problems
    assert sentence.startswith(f"{path}: {problem}")
    assert "openssl rand -hex 32" in sentence
    assert KEY not in sentence


@pytest.mark.parametrize(
    ("shown", "secret", "is_same"),
    [
        (KEY, KEY, True),
        (f"{KEY} ", KEY, False),
        ("", KEY, False),
        ("", "", False),
        ("\udcff", KEY, False),
    ],
)
def test_a_secret_is_shown_or_not(shown: str, secret: str, is_same: bool) -> None:
    assert is_same is is_same_secret(shown, secret)
