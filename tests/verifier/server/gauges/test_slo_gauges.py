"""What a scrape tells of promises."""

from __future__ import annotations

from tests.support.ends.planning import add, make_planner, make_stream, play
from verifier.promises.slo_settings import SloSettings
from verifier.rounds.planner import RoundPlanner
from verifier.server.gauges.slo_gauges import slo_families


def playing(slo_seconds: float, num_devices: int) -> RoundPlanner:
    """A planner after three rounds, each 0.1 s long."""
    planner = make_planner()
    planner.promises.settings = SloSettings(token_seconds=slo_seconds)
    add(planner, *[make_stream(i, device=f"b{i}", prompt_ids=(11,)) for i in range(num_devices)])
    for i in range(3):
        play(planner, 0.1 * i)
    return planner


def test_tokens_in_time_and_late_are_told_of_each_device_over_all_workers() -> None:
    planners = [playing(0.105, 5), playing(0.05, 1)]
    families = list(slo_families([planner.promises for planner in planners]))
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert 1.0 == told["goodspeed_slo_waiting_streams",]
    assert told["goodspeed_slo_round_stretch_ratio",] >= 1.0
    assert (2.0, 2.0) == (
        told["goodspeed_slo_tokens_total", "b0", "in_time"],
        told["goodspeed_slo_tokens_total", "b0", "late"],
    )
    assert 0.0 == told["goodspeed_slo_tokens_total", "b1", "late"]
