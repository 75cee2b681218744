"""The two programs with a part replaced, for tests and benchmarks that need real processes.

`python -m tests.support.programs.launchers verifier --scripted --round-ms 20 run --set …`: what
stands behind the options is the program's own command line.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import click
import msgspec

import edge_agent.cli
import edge_agent.commands.running_agent
import verifier.cli
import verifier.engine.service
import verifier.startup
from edge_agent.config import AgentConfig
from edge_agent.draft_model.drafter import Drafter
from edge_agent.drafting.round_pace import RoundPace
from shared.protocol.messages import Verdict
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, board
from verifier.config import VerifierConfig
from verifier.cost_curve.curve import CostCurve, CurveSubject
from verifier.cost_curve.measurement import measure_curve
from verifier.policies.rate import RatePolicy
from verifier.rounds.planner import StreamResult
from verifier.startup import LoadedTarget, Tell
from verifier.target.rank_place import RankPlace
from verifier.target.round import Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.target.target import TargetModel

# What the scripted target is believed to take: (tokens, context tokens, seconds).
_SCRIPTED_SAMPLES = [(1, 64, 0.01), (64, 64, 0.012)]


class SlowTarget:
    """Any target whose rounds take a given time at least, as a larger model's would."""

    def __init__(
        self, target: TargetModel, round_seconds: float, token_seconds: float = 0.0
    ) -> None:
        self._target = target
        self._round_seconds = round_seconds
        self._token_seconds = token_seconds  # for each of a round's tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def run(self, round_: Round) -> RoundOutcome:
        started_at = time.monotonic()
        outcome = self._target.run(round_)
        least_seconds = self._round_seconds + self._token_seconds * round_.num_tokens
        rest = started_at + least_seconds - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        forward_seconds = time.monotonic() - started_at - outcome.sampling_seconds
        return msgspec.structs.replace(outcome, forward_seconds=forward_seconds)


_Load = Callable[[VerifierConfig, Tell, RankPlace | None], LoadedTarget]

_arguments = click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
_pass_on = functools.partial(
    click.command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)


@click.group()
def main() -> None:
    """Start a program with a part of it replaced."""


@_pass_on("verifier")
@click.option("--scripted", is_flag=True, help="A target without weights; its text never ends.")
@click.option("--knows-all", is_flag=True, help="All its rows are made first: it grows no more.")
@click.option(
    "--round-ms", type=click.FloatRange(0), default=0, help="What a round takes, at least."
)
@click.option(
    "--token-ms", type=click.FloatRange(0), default=0, help="And that each of its tokens adds."
)
@click.option("--load-seconds", type=click.FloatRange(0), default=0, help="Until it is ready.")
@click.option("--whole-drafts", is_flag=True, help="Coupled drafts of the granted length, too.")
@click.option("--not-told", is_flag=True, help="`rate` asks no board how sure it is of its tokens.")
@_arguments
def _verifier(
    scripted: bool,
    knows_all: bool,
    round_ms: float,
    token_ms: float,
    load_seconds: float,
    whole_drafts: bool,
    not_told: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run `goodspeed-verifier`."""
    load_target = _load_scripted if scripted else verifier.startup.load_configured_target
    if knows_all:
        TARGET.know_all()

    def load(config: VerifierConfig, tell: Tell, place: RankPlace | None) -> LoadedTarget:
        time.sleep(load_seconds)
        return load_target(config, tell, place)

    slowed = _slowed(load, round_ms / 1e3, token_ms / 1e3)
    with (
        patch.object(verifier.startup, "load_configured_target", slowed),
        patch.object(verifier.startup, "measure_curve", _scripted_or(scripted)),
        patch.object(verifier.engine.service, "verdict_of", _whole_or(whole_drafts)),
        patch.object(RatePolicy, "uses_confidence", not not_told),
    ):
        verifier.cli.main(arguments)


@_pass_on("agent")
@click.option("--scripted", is_flag=True, help="A drafter without weights.")
@click.option("--disagreement", type=click.FloatRange(0, 1), default=0.2, show_default=True)
@click.option("--token-ms", type=click.FloatRange(0), default=0, help="What a draft token takes.")
@click.option("--whole-drafts", is_flag=True, help="No part of a draft is sent before its end.")
@_arguments
def _agent(
    scripted: bool,
    disagreement: float,
    token_ms: float,
    whole_drafts: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run `goodspeed-agent`."""

    def load_scripted(config: AgentConfig, token: str) -> Drafter:
        num_slots = config.draft.max_streams
        return board(disagreement, num_slots=num_slots, seconds_per_token=token_ms / 1e3)

    load = load_scripted if scripted else edge_agent.commands.running_agent.load_drafter
    is_last_chance = _never if whole_drafts else RoundPace.is_last_chance
    with (
        patch.object(edge_agent.commands.running_agent, "load_drafter", load),
        patch.object(RoundPace, "is_last_chance", is_last_chance),
    ):
        edge_agent.cli.main(arguments)


main.add_command(_verifier)
main.add_command(_agent)


def _load_scripted(_config: VerifierConfig, _tell: Tell, _place: RankPlace | None) -> LoadedTarget:
    subject = CurveSubject(model="scripted", device="none", dtype="float64", quantisation="none")
    target = ScriptedTarget(TARGET)
    return LoadedTarget(target, ScriptedTokenizer(VOCAB_SIZE), subject, is_on_gpu=False)


def _slowed(load: _Load, round_seconds: float, token_seconds: float) -> _Load:
    def load_slowed(config: VerifierConfig, tell: Tell, place: RankPlace | None) -> LoadedTarget:
        loaded = load(config, tell, place)
        target = SlowTarget(loaded.target, round_seconds, token_seconds)
        return dataclasses.replace(loaded, target=target)

    return load_slowed


def _scripted_or(scripted: bool) -> Callable[..., Any]:
    """A verifier that starts in no time: its curve is known."""
    if not scripted:
        return measure_curve
    return lambda _target, _grid, subject, _advance: CostCurve.from_samples(
        _SCRIPTED_SAMPLES, subject
    )


def _whole_or(whole_drafts: bool) -> Callable[[int, StreamResult], Verdict]:
    """In `coupled` a board sends as it drafts, unless it is told the length of a draft."""
    verdict_of = verifier.engine.service.verdict_of

    def of_whole_drafts(channel: int, result: StreamResult) -> Verdict:
        verdict = verdict_of(channel, result)
        length = result.stream.draft_length if verdict.window else 0
        return msgspec.structs.replace(verdict, draft_length=length)

    return of_whole_drafts if whole_drafts else verdict_of


def _never(_pace: RoundPace, _now: float) -> bool:
    return False


if __name__ == "__main__":
    main()
