"""What a scrape tells of whether drafts pay."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import add, make_planner, make_stream, play
from verifier.engine.device import Device
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.round_facts import RoundFacts
from verifier.server.gauges.payoff_gauges import payoff_families
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams

NONE: frozenset[str] = frozenset()


def playing() -> tuple[RoundPlanner, Device]:
    """A planner after two rounds of a device's two streams."""
    device = Device("kitchen", DeviceEstimates(), KeptStreams(4))
    planner = make_planner()
    streams = [
        make_stream(number, device=device.name, device_estimates=device.estimates)
        for number in (1, 2)
    ]
    add(planner, *streams)
    play(planner, 1.0)
    play(planner, 1.1)
    planner.follow_up(1.2)
    return planner, device


def measure(planner: RoundPlanner, gain: float) -> None:
    """Let it find out how many times as fast its rounds are with drafts."""
    devices = frozenset({"kitchen"})
    while planner.payoff.drafts_over_none is None:
        drafts = planner.payoff.arm is Arm.DRAFTS
        seconds = 0.1 / gain if drafts else 0.1
        facts = (seconds, 2, 2, devices, devices if drafts else NONE, False, True, True)
        planner.payoff.observe(RoundFacts(*facts))


def values(planner: RoundPlanner, device: Device) -> dict[str, float]:
    families = payoff_families(planner, iter([device]))
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_nothing_is_said_of_what_was_not_measured() -> None:
    told = values(*playing())
    assert "goodspeed_drafts_over_none_ratio" not in told
    assert (0.0, 0.0) == (
        told["goodspeed_drafts_rest"],
        told["goodspeed_payoff_lost_seconds_total"],
    )
    assert told["goodspeed_draft_token_price_seconds"] > 0.0


def test_boards_that_rest_and_what_is_known_of_drafts() -> None:
    planner, device = playing()
    measure(planner, 0.5)
    told = values(planner, device)
    assert 1.0 == told["goodspeed_drafts_rest"]
    assert pytest.approx(0.5) == told["goodspeed_drafts_over_none_ratio"]
    assert told["goodspeed_payoff_lost_seconds_total"] > 0.0


def test_a_device_is_compared_with_what_the_target_alone_gives_its_streams() -> None:
    planner, device = playing()
    measure(planner, 0.5)  # each of two streams gets 10 tokens/s alone
    speed = device.estimates.goodput.tokens_per_second
    assert speed is not None
    told = values(planner, device)
    assert pytest.approx(speed / 20.0) == told["goodspeed_device_of_alone_ratio"]


def test_a_device_without_a_stream_is_not_compared() -> None:
    planner, device = playing()
    for stream in list(planner.streams.values()):
        planner.discard(stream)
    assert "goodspeed_device_of_alone_ratio" not in values(planner, device)
