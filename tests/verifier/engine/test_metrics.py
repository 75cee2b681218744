"""What /metrics shows after real traffic, and that it stays small and says nothing of texts."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from edge_agent.generation.generation import GenerationRequest
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import board, patient_service, scripted_service
from tests.support.ends.waiting import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

COUNTERS = (
    "goodspeed_spec_decode_num_drafts_total",
    "goodspeed_spec_decode_num_draft_tokens_total",
    "goodspeed_spec_decode_num_accepted_tokens_total",
    "goodspeed_goodput_tokens_total",
)
NAMES = {
    *(name.removesuffix("_total") for name in COUNTERS),
    "goodspeed_payoff_lost_seconds",
    "goodspeed_drafts_rest",
    "goodspeed_device_of_alone_ratio",
    "goodspeed_draft_token_price_seconds",
    "goodspeed_round_seconds",
    "goodspeed_round_seconds_estimate",
    "goodspeed_batch_streams",
    "goodspeed_batch_tokens",
    "goodspeed_wire_bytes",
    "goodspeed_rejected_messages",
    "goodspeed_streams_finished",
    "goodspeed_streams_resumed",
    "goodspeed_item_failures",
    "goodspeed_kept_streams",
    "goodspeed_num_requests_running",
    "goodspeed_num_requests_waiting",
    "goodspeed_batch_budget_tokens",
    "goodspeed_kv_cache_usage_ratio",
    *("goodspeed_draft_timeouts", "goodspeed_mode_switches", "goodspeed_device_fused_streams"),
    "goodspeed_preemptions",
    "goodspeed_prefix_cache_query_tokens",
    "goodspeed_prefix_cache_hit_tokens",
    *("goodspeed_jain_fairness_index", "goodspeed_log_goodput"),
    "goodspeed_device_up",
    "goodspeed_acceptance_estimate",
    "goodspeed_device_draft_tokens_per_second",
    *(f"goodspeed_device_{name}" for name in ("celsius", "free_bytes")),
    *(f"goodspeed_device_{name}" for name in ("throttled", "undervoltage")),
    "goodspeed_rtt_seconds",
    "goodspeed_slo_round_stretch_ratio",
    "goodspeed_slo_tokens",
    "goodspeed_slo_waiting_streams",
    "goodspeed_draft_length",
    "goodspeed_device_streams",
    "goodspeed_device_context_tokens",
    *("goodspeed_device_cache_blocks", "goodspeed_device_waiting_seconds"),
    *("goodspeed_device_queued_bytes", "goodspeed_device_loop_seconds"),
    "goodspeed_device_limits_exceeded",
    "goodspeed_idle_connections",
    "goodspeed_connections_sent_away",
    "goodspeed_strangers_refused",
    *(f"process_{name}_bytes" for name in ("resident_memory", "virtual_memory")),
    *("goodspeed_window_rounds", "goodspeed_window_hits", "goodspeed_hidden_seconds"),
    *("goodspeed_late_draft_tokens", "goodspeed_dead_draft_tokens", "goodspeed_punctuality"),
    "goodspeed_goodput_tokens_per_second",
    *("goodspeed_draft_tokens_reached", "goodspeed_draft_tokens_accepted"),
    *("process_cpu_seconds", "process_open_fds", "process_max_fds", "process_start_time_seconds"),
}
NUM_TOKENS = 40


def pages_of_a_day() -> tuple[str, str]:
    """The page while two boards generate, and after one of them has left and one was refused."""

    async def run() -> tuple[str, str]:
        service = patient_service(round_seconds=0.01)
        page = service.metrics.page
        async with (
            running_verifier(service, ("kitchen", "garage", "cellar")) as verifier,
            running_agent(verifier, board(0.1), "kitchen") as kitchen,
        ):
            async with running_agent(verifier, board(0.4), "garage") as garage:
                running = [
                    asyncio.create_task(generate(agent, request(i)))
                    for agent in (kitchen, garage)
                    for i in range(2)
                ]
                await eventually(lambda: len(service.planner.streams) == 4)
                during = page().decode()
                await asyncio.gather(*running)
            async with raw_board(verifier, "cellar") as bad:
                await bad.socket.send_str("text")
                await bad.ended()
            await eventually(lambda: service.devices["garage"].outbox is None)
            return during, page().decode()

    return asyncio.run(run())


def request(i: int) -> GenerationRequest:
    sampling = GREEDY if i else SamplingParameters(1.0)
    return GenerationRequest(
        messages=chat("a secret"), sampling=sampling, max_tokens=NUM_TOKENS, stop=("never",)
    )


def samples(page: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page: str, name: str, **labels: str) -> float:
    return samples(page)[name, frozenset(labels.items())]


def test_the_page_after_a_day() -> None:
    during, after = pages_of_a_day()

    families = list(text_string_to_metric_families(after))
    assert NAMES == {family.name.removesuffix("_created") for family in families}
    assert all(family.documentation for family in families)

    assert 4 == value(during, "goodspeed_num_requests_running")
    for device in ("kitchen", "garage"):
        assert 2 == value(during, "goodspeed_device_streams", device=device)
        assert 0 < value(during, "goodspeed_device_context_tokens", device=device)
        assert 0 <= value(during, "goodspeed_device_queued_bytes", device=device)
        assert 0 == value(during, "goodspeed_device_limits_exceeded_total", device=device)
    assert 0 < value(during, "goodspeed_kv_cache_usage_ratio") < 1
    assert {"kitchen", "garage"} == {
        dict(labels)["device"]
        for name, labels in samples(during)
        if name == "goodspeed_draft_length"
    }

    for device in ("kitchen", "garage"):
        num_drafts, drafted, accepted, output = (
            value(after, name, device=device) for name in COUNTERS
        )
        assert 2 * NUM_TOKENS == output
        assert 0 < num_drafts <= drafted
        assert 0 < accepted <= drafted
        assert 0 < value(after, "goodspeed_acceptance_estimate", device=device) < 1
        assert 0 < value(after, "goodspeed_window_hits_total", device=device)
        assert 0 <= value(after, "goodspeed_punctuality", device=device) <= 1
        assert value(after, "goodspeed_device_draft_tokens_per_second", device=device) > 0
        assert value(after, "goodspeed_rtt_seconds", device=device) >= 0
        # Two streams, up to 17 draft tokens and one more in a round, and rounds of 10 ms at least.
        speed = value(after, "goodspeed_goodput_tokens_per_second", device=device)
        assert 0 < speed < 2 * 18 / 0.01
        for direction in ("sent", "received"):
            wire = "goodspeed_wire_bytes_total"
            assert value(after, wire, device=device, direction=direction) > 2 * NUM_TOKENS
    assert 0.5 <= value(after, "goodspeed_jain_fairness_index") <= 1
    ups = {device: value(after, "goodspeed_device_up", device=device) for device in DEVICES}
    assert {"kitchen": 1, "garage": 0, "cellar": 0} == ups

    assert 4 == value(after, "goodspeed_streams_finished_total", reason="length")
    assert [0, 2] == [
        value(after, "goodspeed_kept_streams", device="kitchen", state=state)
        for state in ("parked", "ended")
    ]
    assert 0 == value(after, "goodspeed_kept_streams", device="garage", state="ended")  # it left
    assert 0 == value(after, "goodspeed_streams_resumed_total")
    assert 1 == value(after, "goodspeed_rejected_messages_total", reason="protocol")
    assert 0 == value(after, "goodspeed_draft_timeouts_total")
    assert 0 == value(after, "goodspeed_num_requests_running")
    assert 0 == value(after, "goodspeed_kv_cache_usage_ratio")
    num_rounds = value(after, "goodspeed_batch_tokens_count")
    for phase in ("plan", "forward", "sample", "settle", "deliver", "total"):
        assert num_rounds == value(after, "goodspeed_round_seconds_count", phase=phase)

    estimates = [
        value(after, "goodspeed_round_seconds_estimate", tokens=tokens)
        for tokens in ("1", "8", "64", "256")
    ]
    assert estimates == sorted(estimates)
    assert 0 < estimates[0]

    labels = {pair for _, pairs in samples(after) for pair in pairs if pair[0] != "le"}
    names = {
        "cause",
        "device",
        "phase",
        "direction",
        "reason",
        "state",
        "tokens",
        "position",
        "mode",
    }
    assert names == {name for name, _ in labels}
    assert set(DEVICES) == {text for name, text in labels if name == "device"}
    assert "secret" not in during + after


DEVICES = ("kitchen", "garage", "cellar")


def test_the_page_shows_how_far_drafts_come_by_position() -> None:
    """A board with the target's own probabilities is accepted nearly as far as it drafts."""
    request = GenerationRequest(
        text="far", max_tokens=200, seed=3, acceptance_mode="rejection", draft_length=4
    )

    async def run(disagreement: float) -> dict[str, tuple[float, float]]:
        service = scripted_service()
        async with (
            running_verifier(service, ("kitchen",)) as verifier,
            running_agent(verifier, board(disagreement), "kitchen") as agent,
        ):
            await generate(agent, request)
            page = service.metrics.page().decode()
        found = {
            dict(labels)["position"]: (
                number,
                value(page, "goodspeed_draft_tokens_accepted_total", **dict(labels)),
            )
            for (name, labels), number in samples(page).items()
            if name == "goodspeed_draft_tokens_reached_total"
        }
        assert {"kitchen"} == {
            dict(labels)["device"] for name, labels in samples(page) if "draft_tokens_r" in name
        }
        return found

    good, poor = asyncio.run(run(0.0)), asyncio.run(run(0.9))
    assert set("0123") == good.keys()
    assert good["0"][1] > 0.9 * good["0"][0]
    assert poor["0"][1] < 0.9 * poor["0"][0]
    for page in (good, poor):
        numbers = [number for position in sorted(page) for number in page[position]]
        assert numbers == sorted(numbers, reverse=True)


def test_far_positions_are_counted_together() -> None:
    service = scripted_service()
    service.device("kitchen").estimates.positions.observe(20, 1)
    page = service.metrics.page().decode()
    bars = {"3": (1, 1), "4-7": (4, 4), "8-15": (8, 8), "16-31": (5, 4)}
    for position, bar in bars.items():
        assert bar == tuple(
            value(page, f"goodspeed_draft_tokens_{end}_total", device="kitchen", position=position)
            for end in ("reached", "accepted")
        )
    assert 'position="32-63"' not in page


def test_tokens_that_nobody_has_are_no_label() -> None:
    service = scripted_service()
    service.metrics.rejected("token")
    page = service.metrics.page().decode()
    assert 1 == value(page, "goodspeed_rejected_messages_total", reason="token")
    assert [] == [pairs for _, pairs in samples(page) if "device" in dict(pairs)]
