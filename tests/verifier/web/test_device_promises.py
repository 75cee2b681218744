"""What the dashboard says of promises: over all workers, one line for a device."""

from __future__ import annotations

from tests.support.ends.planning import add, make_planner, make_stream, play
from tests.support.ends.scripted import scripted_service
from verifier.promises.promises import SloCounts
from verifier.promises.slo_settings import SloSettings
from verifier.web.device_promises import DevicePromise, DevicePromises
from verifier.web.state_reading import read_state


def test_a_device_without_an_slo_is_promised_nothing() -> None:
    assert DevicePromises([make_planner().promises]).of("kitchen") is None


def test_tokens_of_all_workers_are_summed_up() -> None:
    planners = [make_planner(), make_planner()]
    for planner, counts in zip(planners, (SloCounts(3, 1), SloCounts(5, 1)), strict=True):
        planner.promises.settings = SloSettings(by_device={"kitchen": 0.2})
        planner.promises.counts["kitchen"] = counts
    all_promises = DevicePromises([planner.promises for planner in planners])
    assert DevicePromise(0.2, 0.8, None) == all_promises.of("kitchen")
    assert all_promises.of("garage") is None
    assert SloCounts(3, 1) == planners[0].promises.counts["kitchen"]


def test_the_state_says_why_a_stream_waits_for_its_promise() -> None:
    service = scripted_service()
    device = service.device("kitchen")
    planner = service.planner
    planner.promises.settings = SloSettings(token_seconds=1e-6)
    add(planner, make_stream(1, device="kitchen", device_estimates=device.estimates))
    play(planner, 1.0)
    (state,) = read_state(service, 2.0).devices
    assert state.promise is not None
    assert 1e-6 == state.promise.token_seconds
    assert "is promised to none" in (state.promise.sentence or "")
