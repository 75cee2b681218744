"""What every board of a load test asks for, and how long it takes to draft."""

from __future__ import annotations

from random import Random

import pytest

from edge_agent.fleet.workload import READ_SPEED_UP, FleetLoad, LoadMode

SPECIAL_IDS = frozenset({0, 3})


def test_prompts_are_of_ordinary_tokens_and_differ() -> None:
    random = Random(1)
    load = FleetLoad(prompt_tokens=40)
    prompts = [load.draw_request(random, 5, SPECIAL_IDS).prompt_ids for _ in range(2)]
    assert (40, {1, 2, 4}) == (len(prompts[0]), set(prompts[0]))
    assert prompts[0] != prompts[1]


def test_the_same_seed_asks_the_same() -> None:
    load = FleetLoad()
    first, second = (load.draw_request(Random(3), 64, SPECIAL_IDS) for _ in range(2))
    assert first == second
    assert first.stream_id is not None
    assert first.seed is not None


@pytest.mark.parametrize(
    ("mode", "temperature", "acceptance"),
    [("greedy", 0.0, "coupled"), ("coupled", 0.5, "coupled"), ("rejection", 0.5, "rejection")],
)
def test_the_mode_sets_temperature_and_acceptance(
    mode: LoadMode, temperature: float, acceptance: str
) -> None:
    request = FleetLoad(mode=mode, temperature=0.5).draw_request(Random(1), 64, SPECIAL_IDS)
    assert (temperature, acceptance) == (request.sampling.temperature, request.acceptance_mode)


def test_one_token_takes_what_the_drafting_speed_says() -> None:
    assert 0.02 == FleetLoad(draft_tokens_per_second=50.0).drafting_seconds(1, draws=True)


def test_a_prompt_is_read_faster_than_it_would_be_drafted() -> None:
    load = FleetLoad(draft_tokens_per_second=10.0)
    assert pytest.approx(6.4 / READ_SPEED_UP) == load.drafting_seconds(64, draws=False)
    assert pytest.approx(0.1 + 6.3 / READ_SPEED_UP) == load.drafting_seconds(64, draws=True)


def test_pauses_are_around_their_mean() -> None:
    load, random = FleetLoad(think_seconds=2.0), Random(1)
    pauses = [load.draw_pause_seconds(random) for _ in range(1000)]
    assert 1.0 <= min(pauses) < 1.1
    assert 2.9 < max(pauses) <= 3.0
