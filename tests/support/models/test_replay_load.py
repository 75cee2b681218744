"""A replay load goes through the verifier's own engine and comes out as scripted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from shared.speculation.goodput import expected_tokens
from shared.speculation.sampling import SamplingParameters
from tests.support.models.replay_load import ReplayFigures, ReplayFleet, ReplayLoad
from tests.support.models.replay_target import AcceptanceScript, ReplayTarget
from tests.support.models.tiny_models import tiny_llama
from verifier.cost_curve.curve import CostCurve
from verifier.rounds.settings import RoundsSection
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.placement import place_target

NUM_STREAMS = 8
CONTEXT_TOKENS = 24
OUTPUT_TOKENS = 200
BLOCK_TOKENS = 16
BLOCKS_OF_STREAM = 15  # for prompt and output
# A flat curve: on a GPU a round of this size costs about the same with drafts and without.
CURVE = CostCurve.from_samples([(1, 16, 0.01), (512, 16, 0.0101)]).to_json()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small take longer when two threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def play(
    acceptance_rate: float = 0.8, *, rounds: RoundsSection | None = None, **load: object
) -> tuple[ReplayFigures, ReplayFleet]:
    target = place_target(
        tiny_llama(),
        CacheShape(
            num_blocks=NUM_STREAMS * BLOCKS_OF_STREAM, block_tokens=BLOCK_TOKENS, context_tokens=256
        ),
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_name="tiny",
    )
    replayed = ReplayTarget(target, AcceptanceScript(acceptance_rate, 1 + OUTPUT_TOKENS))
    fleet = ReplayFleet(
        replayed, rounds or RoundsSection(measure_payoff=False), CostCurve.from_json(CURVE)
    )
    setting = ReplayLoad(NUM_STREAMS, CONTEXT_TOKENS, OUTPUT_TOKENS, **load)  # type: ignore[arg-type]
    return fleet.play(setting), fleet


def standard_error(rate: float, draft_length: int, num_turns: int) -> float:
    """Of the mean tokens of a turn."""
    probs = [rate**k * (1 - rate) for k in range(draft_length)] + [rate**draft_length]
    mean = sum(prob * (k + 1) for k, prob in enumerate(probs))
    variance = sum(prob * (k + 1 - mean) ** 2 for k, prob in enumerate(probs))
    return math.sqrt(variance / num_turns)


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
@pytest.mark.parametrize(("rate", "draft_length"), [(0.8, 1), (0.8, 4), (0.5, 3), (0.9, 8)])
def test_a_fixed_length_gives_as_many_tokens_per_turn_as_the_formula(
    mode: str, rate: float, draft_length: int
) -> None:
    """(1 - a^(S+1)) / (1 - a) over the turns that test a whole draft."""
    rounds = RoundsSection(budget_tokens=NUM_STREAMS * draft_length, measure_payoff=False)
    sampling = SamplingParameters(0.8, 0, 0.95)
    figures, _ = play(rate, rounds=rounds, mode=mode, sampling=sampling, draft_length=draft_length)
    whole = [accepted + 1 for drafted, accepted in figures.turns if drafted == draft_length]
    assert len(whole) > 0.9 * len(figures.turns)
    assert not [drafted for drafted, _ in figures.turns if drafted > draft_length]
    expected = expected_tokens(rate, draft_length)
    tolerance = 4 * standard_error(rate, draft_length, len(whole))
    assert sum(whole) / len(whole) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("policy", ["goodspeed", "greedy", "fixed"])
def test_what_the_scheduler_grants_is_accepted_at_the_scripted_rate(policy: str) -> None:
    figures, _ = play(rounds=RoundsSection(policy=policy, measure_payoff=False))  # type: ignore[arg-type]
    num_reached = sum(min(accepted + 1, drafted) for drafted, accepted in figures.turns)
    tolerance = 4 * math.sqrt(0.8 * 0.2 / num_reached)
    assert figures.acceptance_rate == pytest.approx(0.8, abs=tolerance)
    assert figures.draft_length > 3
    assert figures.tokens_per_turn > 2.5


def test_the_scheduler_learns_the_scripted_rate() -> None:
    """Tokens that were drafted behind the tested ones are right at that rate too."""
    _, fleet = play(0.8)
    rates = [board.acceptance.rate for board in fleet.boards]
    assert sum(rates) / len(rates) == pytest.approx(0.8, abs=0.06)


def test_without_a_window_the_target_decodes_alone() -> None:
    figures, _ = play(rounds=RoundsSection(max_window=0))
    assert {(0, 0)} == set(figures.turns)
    assert OUTPUT_TOKENS == len(figures.reports)
    assert 1.0 == figures.tokens_per_turn
    assert figures.acceptance_rate is None


def test_every_stream_says_all_its_tokens_and_gives_its_blocks_back() -> None:
    figures, fleet = play()
    assert NUM_STREAMS * OUTPUT_TOKENS == figures.num_tokens
    assert NUM_STREAMS == len(figures.stream_seconds)
    assert figures.num_tokens_of_all <= figures.num_tokens
    assert figures.seconds_of_all <= figures.seconds
    assert {} == fleet.planner.streams
    fleet.planner.blocks.check_integrity()


def test_a_second_load_starts_with_what_the_boards_have_shown() -> None:
    figures, fleet = play()
    again = fleet.play(ReplayLoad(NUM_STREAMS, CONTEXT_TOKENS, OUTPUT_TOKENS))
    assert len(again.reports) <= len(figures.reports)
    assert again.num_tokens == figures.num_tokens
