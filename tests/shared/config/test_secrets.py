from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.secrets import read_secret_file
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
