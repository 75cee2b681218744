"""A simulated board computes what the agent's streams want, also when verdicts overtake it.

Draws that it plays at one go are what they would be one by one, to the bit.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.messages import Draft, Opened, Ready, Verdict
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters
from verifier.policies import PolicyName
from verifier.rounds.settings import RoundsSection
from verifier.sim import board as board_module
from verifier.sim.acceptance import IndependentAcceptance
from verifier.sim.board import BoardSpec, SimBoard
from verifier.sim.clock import HeapClock
from verifier.sim.outcome import outcome_of
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.text import PROMPT_ID, StreamText
from verifier.sim.world import play

TOKEN_SECONDS = 0.01
POLICIES: tuple[PolicyName, ...] = ("rate", "goodspeed", "fixed")


def test_a_draw_ends_whose_window_a_verdict_took() -> None:
    """In `rejection` the path then begins one ahead of what is committed: behind the draw."""
    clock, sent = HeapClock(), list[Draft | Ready]()
    spec = BoardSpec(token_seconds=TOKEN_SECONDS, batch_growth=0.0, round_trip_seconds=0.0)
    board = SimBoard(clock, spec, sent.append)
    text = StreamText(1, IndependentAcceptance((0.5,), (), Random(1)))
    board.open(1, text, SamplingParameters(), drafts=True)
    board.receive(Opened(1, pack_token_ids((PROMPT_ID,)), 1, "rejection"))
    clock.run(5 * TOKEN_SECONDS)
    first, second = (pack_token_ids((text.target_token(i),)) for i in (0, 1))
    board.receive(Verdict(1, 0, 0, first, window=4, draft_length=4))
    clock.run(clock.now + 0.5 * TOKEN_SECONDS)  # it draws the token behind the first one
    board.receive(Verdict(1, 1, 0, second))
    clock.run(clock.now + 5 * TOKEN_SECONDS)
    assert not [message for message in sent if isinstance(message, Draft)]


def fleet(seed: int, policy: PolicyName, speed: float, slowdown: float) -> Scenario:
    """Boards that draft ahead, doubt or not, change, stand still, and ask again."""
    boards = BoardGroup(
        count=3,
        acceptance=(0.6, 0.9),
        draft_tokens_per_second=(speed, 2.0 * speed),
        round_trip_milliseconds=(5.0, 80.0),
        output_tokens=40,
        think_seconds=0.2,
    )
    unsure = {"confidence_rates": (0.4, 0.9), "confidence_shares": (0.5, 0.5)}
    return Scenario(
        name="silent",
        run=ScenarioSection(seconds=4.0, seed=seed),
        target=TargetSection(
            fixed_milliseconds=50.0, token_milliseconds=0.5, board_slowdown=slowdown
        ),
        rounds=RoundsSection(policy=policy, measure_payoff=False),
        boards={
            "plain": boards,
            "unsure": msgspec.structs.replace(boards, **unsure),
            "many": msgspec.structs.replace(boards, streams=2),
        },
    )


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(1, 10_000),
    policy=st.sampled_from(POLICIES),
    speed=st.floats(20.0, 400.0),
    slowdown=st.sampled_from((0.0, 0.2)),
)
def test_a_run_of_draws_is_its_draws(
    seed: int, policy: PolicyName, speed: float, slowdown: float
) -> None:
    """All figures are the same bytes; otherwise a fleet would hang on how it is played."""
    scenario = fleet(seed, policy, speed, slowdown)
    at_one_go = play(scenario)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board_module, "num_silent_draws", lambda *_: 0)
        one_by_one = play(scenario)
    alone = play(scenario, drafts=False)
    figures = [msgspec.json.encode(outcome_of(world, alone)) for world in (one_by_one, at_one_go)]
    assert figures[0] == figures[1]


def test_runs_are_longer_than_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing is gained, and the test above shows nothing."""
    forecast, lengths = board_module.num_silent_draws, list[int]()

    def noted(*arguments: object) -> int:
        lengths.append(forecast(*arguments))  # type: ignore[arg-type]
        return lengths[-1]

    monkeypatch.setattr(board_module, "num_silent_draws", noted)
    play(fleet(1, "rate", 100.0, 0.0))
    assert sum(lengths) > len(lengths)
