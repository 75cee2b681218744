"""`goodspeed-verifier finetune`: make a small draft for a target, from nothing but the target."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypedDict, Unpack, get_args

import click
import msgspec

from shared.config.model_files import default_cache_dir, locate
from shared.daemon.command_line import told_when_interrupted
from shared.errors import RequestRefused
from verifier.commands.finetune_telling import telling
from verifier.finetune.board_shape import shape_for_board
from verifier.finetune.order import DraftOrder
from verifier.finetune.recipe.draft_shape import parse_shape
from verifier.finetune.recipe.draft_speed import BOARDS
from verifier.finetune.recipe.presets import PRESETS
from verifier.finetune.recipe.prompt_files import read_prompts
from verifier.finetune.recipe.recipe import FileWeights, Recipe

_DEFAULTS = Recipe(parse_shape("256x8x640"))
_EXAMPLES = """\b
Examples:
  goodspeed-verifier finetune draft.gguf --minutes 10
  goodspeed-verifier finetune draft.gguf --prompts mine.jsonl --held-out others.jsonl
  goodspeed-verifier finetune aligned.gguf --draft small.gguf --lora 16
  goodspeed-agent model judge draft.gguf --texts draft.texts      # where llama.cpp is
"""

# Eight draft tokens in a third of a round of 60 ms: they are there when the next one starts.
_FAST_ENOUGH = 400.0


class _RecipeNumbers(TypedDict):
    """Options that are named as in `Recipe`."""

    minutes: float
    seed: int
    utility: float
    slots: int
    answer_tokens: int
    prompt_tokens: int
    step_tokens: int
    long_prompts: int


_file = click.Path(path_type=Path, dir_okay=False)


def _take_preset(context: click.Context, parameter: click.Parameter, name: str | None) -> None:
    """Options that are not given are the preset's."""
    if name is not None:
        context.default_map = {**(context.default_map or {}), **PRESETS[name]}


@click.command(epilog=_EXAMPLES)
@click.argument("out", metavar="OUT.gguf", type=_file)
@click.option(
    "--target",
    default="smollm2-135m-instruct",
    show_default=True,
    help="The target's GGUF file, or its name in the model cache.",
)
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    is_eager=True,
    expose_value=False,
    callback=_take_preset,
    help="Make a draft as one was made that is known; other options go before its own.",
)
@click.option(
    "--prompts",
    "prompt_files",
    type=_file,
    multiple=True,
    help="Prompts beside those that the target asks itself: .jsonl, or one a line.",
)
@click.option(
    "--held-out",
    "held_out_files",
    type=_file,
    multiple=True,
    help="Prompts that nothing is learned from; writes OUT.texts, to judge drafts by.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.05, max=10_000),
    default=_DEFAULTS.minutes,
    show_default=True,
    help="For everything: texts, training, the file.",
)
@click.option(
    "--shape",
    help=f"WIDTHxLAYERS[xFFN] of a new draft, {_DEFAULTS.shape} by default; what it costs a board "
    "goes with its weights.",
)
@click.option(
    "--untied",
    is_flag=True,
    help="A new draft reads by another embedding than it writes by: that costs a board memory, "
    "no time.",
)
@click.option(
    "--board",
    type=click.Choice(sorted(BOARDS)),
    help="In place of --shape: the largest draft that this board runs fast enough.",
)
@click.option(
    "--board-speed",
    type=(click.FloatRange(0.1, 1e6), str),
    metavar="TOKENS/S MODEL",
    help="The same for a board that `goodspeed-agent doctor` measured with MODEL, a GGUF file.",
)
@click.option(
    "--tokens-per-second",
    type=click.FloatRange(0.1, 1e6),
    default=_FAST_ENOUGH,
    show_default=True,
    help="What is fast enough for the board.",
)
@click.option(
    "--draft",
    help="A draft that is there, to be aligned in place of a new one: its file, or its name.",
)
@click.option(
    "--lora",
    "lora_rank",
    type=click.IntRange(0, 4096),
    default=0,
    help="With --draft: the rank of what learns beside its matrices, merged in the end; 0: all.",
)
@click.option(
    "--weights",
    type=click.Choice(get_args(FileWeights)),
    default=_DEFAULTS.weights,
    show_default=True,
    help="Of the file; training rounds as it does. 4 bits that lose too much become 8.",
)
@click.option(
    "--twin", "keeps_twin", is_flag=True, help="Beside a file of 4 bits write its twin of 8."
)
@click.option(
    "--utility",
    type=click.FloatRange(0, 1),
    default=_DEFAULTS.utility,
    show_default=True,
    help="How much positions count by how they lengthen rounds.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 31) - 1),
    default=0,
    show_default=True,
    help="Of all that is drawn by chance.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--slots",
    type=click.IntRange(1, 1 << 16),
    default=_DEFAULTS.slots,
    show_default=True,
    help="Texts that the target writes at once.",
)
@click.option(
    "--answer-tokens",
    type=click.IntRange(4, 1 << 14),
    default=_DEFAULTS.answer_tokens,
    show_default=True,
    help="Of a text, at most.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(4, 1 << 16),
    default=_DEFAULTS.prompt_tokens,
    show_default=True,
    help="Longer ones are left out.",
)
@click.option(
    "--step-tokens",
    type=click.IntRange(32, 1 << 20),
    default=_DEFAULTS.step_tokens,
    show_default=True,
    help="That a step of the training reads.",
)
@click.option(
    "--questions",
    type=click.IntRange(0, 1 << 20),
    default=16_384,
    show_default=True,
    help="That the target asks itself.",
)
@click.option(
    "--ask",
    "begun",
    multiple=True,
    metavar="WORDS",
    help="What half of these begin with, such as 'Translate'; several take turns.",
)
@click.option(
    "--long-prompts",
    type=click.IntRange(0, 1 << 20),
    default=0,
    show_default=True,
    help="Made of several others each, up to --prompt-tokens long: drafts learn to look far back.",
)
@click.option(
    "--held-out-tokens",
    type=click.IntRange(1, 1 << 12),
    default=128,
    show_default=True,
    help="Of a held-out text, at most.",
)
def finetune(
    out: Path,
    target: str,
    prompt_files: tuple[Path, ...],
    held_out_files: tuple[Path, ...],
    shape: str | None,
    untied: bool,
    board: str | None,
    board_speed: tuple[float, str] | None,
    tokens_per_second: float,
    draft: str | None,
    lora_rank: int,
    weights: FileWeights,
    keeps_twin: bool,
    device: str,
    questions: int,
    begun: tuple[str, ...],
    held_out_tokens: int,
    **numbers: Unpack[_RecipeNumbers],
) -> None:
    """Make a small draft model for a target, in the file OUT.gguf.

    The target writes texts: on questions that it asks itself, and on prompts from files. A draft
    that is far smaller learns its distributions, so that as many draft tokens as possible are
    accepted. It has the target's vocabulary, and llama.cpp runs it.

    A run that was interrupted goes on when it is started again with the same options.
    """
    if out.suffix != ".gguf":
        raise RequestRefused(f"{out} must end in .gguf")
    if draft is not None and untied:
        raise RequestRefused("--untied is of a new draft; one that is there stays as it is")
    if draft is None and lora_rank:
        raise RequestRefused("--lora changes a draft that is there; name it with --draft")
    if sum(choice is not None for choice in (shape, draft, board, board_speed)) > 1:
        raise RequestRefused(
            "--shape, --board, --board-speed and --draft each say a shape; give one"
        )
    cache_dir = default_cache_dir(os.environ)
    target_file = locate(target, cache_dir)
    chosen = _DEFAULTS.shape if shape is None else parse_shape(shape)
    measured = board_speed and (board_speed[0], locate(board_speed[1], cache_dir))
    if wanted_board := board or measured:
        fitting = shape_for_board(wanted_board, target_file, weights, tokens_per_second)
        click.echo(str(fitting), err=True)
        chosen = fitting.shape
    if untied:
        chosen = msgspec.structs.replace(chosen, is_tied=False)
    recipe = Recipe(shape=chosen, weights=weights, begun=begun, **numbers)
    order = DraftOrder(
        target=target_file,
        out=out,
        recipe=recipe if draft is None else recipe.aligning(lora_rank),
        draft=None if draft is None else locate(draft, cache_dir),
        keeps_twin=keeps_twin,
        device=device,
        prompts=read_prompts(prompt_files),
        held_out=read_prompts(held_out_files),
        held_out_tokens=held_out_tokens,
        num_questions=questions,
    )
    with told_when_interrupted(f"stopped; the same command goes on from {order.work_dir}"):
        _make(order)


def _make(order: DraftOrder) -> None:
    started = time.monotonic()
    with telling() as tell:
        tell.stage("loading PyTorch")
        # Torch takes seconds to import; other commands do not wait for it.
        from verifier.finetune.making import make_draft

        make_draft(order, tell, lambda: time.monotonic() - started)
    seconds = time.monotonic() - started
    click.echo(f"{order.out} {order.out.stat().st_size / 1e6:.1f} MB, made in {seconds:.0f} s")
    if order.texts_path.exists():
        click.echo(f"goodspeed-agent model judge {order.out} --texts {order.texts_path}")
