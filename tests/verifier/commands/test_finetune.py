"""`goodspeed-verifier finetune` as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.errors import GoodspeedError
from tests.support.models.distilled_drafts import write_chat_target
from verifier.commands.finetune import finetune
from verifier.finetune.order import DraftOrder
from verifier.finetune.recipe.presets import PRESETS


def run(*arguments: object) -> Result:
    return CliRunner().invoke(finetune, [str(argument) for argument in arguments])


def test_a_draft_is_made_and_its_judgement_is_named(tmp_path: Path) -> None:
    target, out = write_chat_target(tmp_path / "target.gguf"), tmp_path / "draft.gguf"
    prompts, held_out = tmp_path / "prompts.txt", tmp_path / "held_out.txt"
    prompts.write_text("hello\nwhat is it\n")
    held_out.write_text("who\n")
    result = run(
        *(out, "--target", target, "--prompts", prompts, "--held-out", held_out, "--device", "cpu"),
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
        (("draft.gguf", "--lora", 4), "name it with --draft"),
        (("draft.gguf", "--board", "pi5", "--shape", "32x1"), "each say a shape"),
        (("draft.gguf", "--draft", "./no.gguf"), "there is no model at ./no.gguf"),
    ],
    ids=["ending", "target", "shape", "prompts", "rank", "two shapes", "draft"],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    target = write_chat_target(tmp_path / "target.gguf")
    result = run("--target", target, *arguments)
    assert isinstance(result.exception, GoodspeedError)
    assert sentence in str(result.exception)


def test_a_board_says_the_shape(tmp_path: Path) -> None:
    target = write_chat_target(tmp_path / "target.gguf")
    held_out = tmp_path / "no.txt"
    arguments = ("draft.gguf", "--target", target, "--board-speed", 90, target)
    result = run(*arguments, "--held-out", held_out)
    assert "for the board: some" in result.output
    assert isinstance(result.exception, GoodspeedError)
    assert "cannot read" in str(result.exception)


def test_a_preset_says_what_is_not_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[DraftOrder] = []
    monkeypatch.setattr("verifier.commands.finetune._make", orders.append)
    target = write_chat_target(tmp_path / "target.gguf")
    for name in PRESETS:
        result = run(tmp_path / "d.gguf", "--target", target, "--minutes", 3, "--preset", name)
        assert 0 == result.exit_code, result.output
    small, large = (order.recipe for order in orders)
    assert ("256x8x640", True, ()) == (str(small.shape), small.shape.is_tied, small.begun)
    assert ("256x12x1536", False) == (str(large.shape), large.shape.is_tied)
    assert (1152, 3000) == (large.prompt_tokens, large.long_prompts)
    assert "Translate" in large.begun
    assert {49_152} == {order.num_questions for order in orders}
    assert 3.0 == small.minutes == large.minutes
