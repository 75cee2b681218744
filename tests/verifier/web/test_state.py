"""What the dashboard is told: the figures of /metrics, of each device and of all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.generation.generation import GenerationRequest
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.planning import draft, make_stream, play
from tests.support.ends.scripted import board, scripted_service
from verifier.cost_curve.curve import CostCurve
from verifier.engine.device import Device
from verifier.engine.service import VerifierService
from verifier.server.gauges.payoff_gauges import payoff_families
from verifier.web.state import DashboardState, DeviceState, DeviceSums, device_state
from verifier.web.state_reading import encode_state, read_state

NUM_DEVICES = 1000
REQUEST = GenerationRequest(messages=chat("a secret"), sampling=GREEDY, max_tokens=40)
# Of a core: on the machine of 2026-11 it was 15 ms, and the dashboard is made anew after 200 times
# as long.
MOST_SECONDS = 0.1


def open_stream(service: VerifierService, number: int, **request_: Any) -> None:
    device = service.device(f"board-{number:04}")
    stream = make_stream(number, device=device.name, device_estimates=device.estimates, **request_)
    service.planner.add(stream)


def device_named(state: DashboardState, name: str) -> DeviceState:
    (found,) = (device for device in state.devices if device.name == name)
    return found


def test_a_verifier_without_devices_has_a_state() -> None:
    state = read_state(scripted_service(), 7.0)
    assert ([], None, None, 0) == (
        state.devices,
        state.jain_index,
        state.log_goodput,
        state.totals.num_rounds,
    )
    assert 7.0 == state.at_seconds


def test_a_device_that_has_done_nothing_claims_nothing() -> None:
    service = scripted_service()
    device = service.device("new")
    state = device_state(device, DeviceSums(), cache_blocks=0, waiting_seconds=None, idle=None)
    fields = ("goodput_tokens_per_second", "acceptance", "round_trip_seconds", "idle_sentence")
    assert {None} == {getattr(state, field) for field in (*fields, "draft_tokens_per_second")}
    assert ([], [], False) == (state.reached, state.accepted, state.is_connected)


def test_a_device_is_told_of_over_all_of_its_streams() -> None:
    service = scripted_service()
    for number in (1, 2):
        open_stream(service, number)
    other = make_stream(3, device="board-0001", max_output_tokens=100)
    service.planner.add(other)
    other.board_is_ready = True
    play(service.planner, 1.0)
    draft(other, 30, 31, now=1.2)
    next(iter(service.planner.streams.values())).estimates.mode.is_fused = True
    first, second = read_state(service, 2.0).devices
    assert (1, 0) == (first.num_fused, second.num_fused)
    assert (2, other.draft_length, other.window) == (
        first.num_streams,
        first.draft_length,
        first.window,
    )
    assert None is first.idle_sentence
    assert (1, 0, "prompt") == (second.num_streams, second.draft_length, second.idle_cause)
    assert first.cache_blocks > second.cache_blocks > 0


def test_streams_that_wait_for_room_are_told_of_with_their_wait() -> None:
    service = scripted_service(num_blocks=2)
    for number in (1, 2):
        open_stream(service, number, max_output_tokens=20)
    service.planner.start_round(10.0)
    state = read_state(service, 12.5)
    waiting = device_named(state, "board-0002")
    assert (1, 1) == (state.num_running, state.num_waiting)
    assert ("room", 2.5, 0) == (waiting.idle_cause, waiting.waiting_seconds, waiting.cache_blocks)


def test_a_stream_that_is_kept_for_its_board_is_told_of() -> None:
    service = scripted_service()
    open_stream(service, 1)
    play(service.planner, 1.5)
    service.planner.park(next(iter(service.planner.streams.values())))
    (kept,) = read_state(service, 2.0).devices
    assert (0, "away") == (kept.num_streams, kept.idle_cause)


def state_and_metrics() -> tuple[DashboardState, dict[tuple[str, str], float]]:
    """Both of one moment, after two boards have generated."""

    async def scenario() -> tuple[DashboardState, str]:
        service = scripted_service(delay_seconds=lambda _: 0.002)
        async with (
            running_verifier(service, ("kitchen", "garage")) as verifier,
            running_agent(verifier, board(0.1), "kitchen") as kitchen,
            running_agent(verifier, board(0.4), "garage") as garage,
        ):
            await asyncio.gather(*(generate(agent, REQUEST) for agent in (kitchen, garage)))
            return read_state(service, time.monotonic()), service.metrics.page().decode()

    state, page = asyncio.run(scenario())
    samples = {
        (
            sample.name.removeprefix("goodspeed_"),
            "/".join(sorted(sample.labels.values())),
        ): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    return state, samples


def test_every_figure_is_the_one_of_the_metrics() -> None:
    state, metrics = state_and_metrics()
    assert 2 == len(state.devices)
    for device in state.devices:
        name = device.name
        told = {
            "device_up": float(device.is_connected),
            "goodput_tokens_per_second": device.goodput_tokens_per_second,
            "acceptance_estimate": device.acceptance,
            "rtt_seconds": device.round_trip_seconds,
            "device_draft_tokens_per_second": device.draft_tokens_per_second,
        }
        assert told == {metric: pytest.approx(metrics.get((metric, name))) for metric in told}
        for position, count in zip(state.position_names, device.reached, strict=False):
            assert (
                count == metrics["draft_tokens_reached_total", "/".join(sorted((name, position)))]
            )
    totals = state.totals
    assert totals.num_rounds == metrics["batch_tokens_count", ""] > 0
    assert totals.batch_tokens == metrics["batch_tokens_sum", ""]
    assert totals.batch_streams == metrics["batch_streams_sum", ""]
    assert {"plan", "forward", "sample", "settle", "total"} < totals.round_seconds.keys()
    for phase, seconds in totals.round_seconds.items():
        assert pytest.approx(metrics["round_seconds_sum", phase]) == seconds
    names = ("kitchen", "garage")
    assert totals.num_output_tokens == sum(metrics["goodput_tokens_total", n] for n in names)
    assert state.jain_index == pytest.approx(metrics["jain_fairness_index", ""])
    assert state.log_goodput == pytest.approx(metrics["log_goodput", ""])
    assert 0 == state.cache.num_blocks - state.cache.num_free_blocks


def test_each_device_is_compared_with_the_target_alone_and_a_draft_token_has_its_price() -> None:
    service = scripted_service()
    # The target's own, measured in microseconds, may be flat.
    service.planner.curve = CostCurve.from_samples([(1, 64, 0.010), (256, 64, 0.020)])
    for number, device in ((1, "kitchen"), (2, "kitchen"), (3, "garage")):
        estimates = service.device(device).estimates
        service.planner.add(make_stream(number, device=device, device_estimates=estimates))
    for now in (1.0, 1.1, 1.2):
        play(service.planner, now)
    service.planner.follow_up(1.3)
    state, families = read_state(service, 1.4), payoff_families(service.planner, _devices(service))
    metrics = {
        (sample.name, sample.labels.get("device")): sample.value
        for family in families
        for sample in family.samples
    }
    round_seconds = service.planner.draft_plan.round_seconds
    for name, num_streams in (("kitchen", 2), ("garage", 1)):
        ratio = device_named(state, name).of_alone_ratio
        speed = service.device(name).estimates.goodput.tokens_per_second
        assert speed is not None
        assert pytest.approx(speed * round_seconds / num_streams) == ratio
        assert ratio == metrics["goodspeed_device_of_alone_ratio", name]
    price = state.draft_token_price_seconds
    assert price == metrics["goodspeed_draft_token_price_seconds", None] > 0.0


def _devices(service: VerifierService) -> Iterator[Device]:
    return iter(tuple(service.devices.values()))


def test_refusals_are_told_by_reason() -> None:
    service = scripted_service()
    for reason in ("token", "token", "limit"):
        service.metrics.rejected(reason)
    assert {"token": 2.0, "limit": 1.0} == read_state(service, 0.0).totals.rejected


def test_no_prompt_and_no_answer_is_in_it() -> None:
    service = scripted_service()
    open_stream(service, 1, prompt_ids=(61, 62, 63, 61, 62))
    told = msgspec.json.decode(encode_state(service, 0.0))
    lists = {name for device in told["devices"] for name, value in device.items() if value == []}
    assert {"reached", "accepted", "troubles", "held_drafts"} == lists  # these: of names


def test_a_thousand_devices_are_told_of_in_short_time() -> None:
    service = scripted_service(num_blocks=4 * NUM_DEVICES)
    for number in range(NUM_DEVICES):
        open_stream(service, number)
        positions = service.device(f"board-{number:04}").estimates.positions
        for num_accepted in range(9):
            positions.observe(num_accepted, num_accepted % 2)
    play(service.planner, 1.0)
    began_at = time.thread_time()
    body = encode_state(service, 1.0)
    assert time.thread_time() - began_at < MOST_SECONDS
    state = msgspec.json.decode(body, type=DashboardState)
    assert NUM_DEVICES == len(state.devices)
    assert len(body) < 600 * NUM_DEVICES
