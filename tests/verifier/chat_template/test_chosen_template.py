"""The operator's word stands above the model's, and what is wrong with it is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ModelError
from verifier.chat_template.chosen_template import chosen_template
from verifier.target.target_settings import MODELS_OWN_TEMPLATE, TemplateSettings

NAMED = {"tool_use": "tools", "default": "plain"}


def test_without_a_word_the_models_own_is_taken() -> None:
    assert "one" == chosen_template(MODELS_OWN_TEMPLATE, "one")
    assert "plain" == chosen_template(MODELS_OWN_TEMPLATE, NAMED)
    assert "tools" == chosen_template(MODELS_OWN_TEMPLATE, {"tool_use": "tools"})
    assert chosen_template(MODELS_OWN_TEMPLATE, None) is None


def test_the_settings_name_a_file_or_one_of_the_models(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("own", encoding="utf-8")
    assert "own" == chosen_template(TemplateSettings(str(path)), NAMED)
    assert "tools" == chosen_template(TemplateSettings("tool_use"), NAMED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory; it is a file or a name, and the model brings tool_use"),
        (b"\xff", "not UTF-8 text"),
        (b"{% for %}", "Expected an expression"),
    ],
)
def test_a_template_that_cannot_be_used_ends_the_start(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        chosen_template(TemplateSettings(str(path)), NAMED)
