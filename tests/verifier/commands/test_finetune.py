"""`goodspeed-verifier finetune` as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.errors import GoodspeedError
from tests.support.models.distilled_drafts import write_chat_target
from verifier.commands.finetune import finetune


def run(*arguments: object) -> Result:
    return CliRunner().invoke(finetune, [str(argument) for argument in arguments])


def test_a_draft_is_made_and_its_judgement_is_named(tmp_path: Path) -> None:
    target, out = write_chat_target(tmp_path / "target.gguf"), tmp_path / "draft.gguf"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("hello\nwhat is it\n")
    result = run(
        *(out, "--target", target, "--prompts", prompts, "--held-out", prompts, "--device", "cpu"),
        *("--minutes", 0.05, "--shape", "32x1", "--slots", 4, "--questions", 4),
        *("--answer-tokens", 6, "--prompt-tokens", 40, "--step-tokens", 64),
        *("--held-out-tokens", 4),
    )
    assert 0 == result.exit_code, result.output
    assert out.exists()
    assert f"goodspeed-agent model judge {out} --texts {tmp_path / 'draft.texts'}" in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("draft.bin",), "must end in .gguf"),
        (("draft.gguf", "--target", "./no.gguf"), "there is no model at ./no.gguf"),
        (("draft.gguf", "--shape", "7x3"), "--shape 7x3"),
        (("draft.gguf", "--prompts", "no.jsonl"), "cannot read no.jsonl"),
    ],
    ids=["ending", "target", "shape", "prompts"],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    target = write_chat_target(tmp_path / "target.gguf")
    result = run("--target", target, *arguments)
    assert isinstance(result.exception, GoodspeedError)
    assert sentence in str(result.exception)
