"""A fleet of scripted boards against a verifier over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

import edge_agent.fleet.fleet
from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.scripted_drafter import ScriptedDrafter, scripted_drafter
from edge_agent.fleet.draft_source import Guess, echo_guess, scripted_guess
from edge_agent.fleet.fleet import Fleet
from edge_agent.fleet.tally import FleetReport, FleetTally
from edge_agent.fleet.workload import FleetLoad, LoadMode
from edge_agent.generation.generation import GenerationRequest
from shared.errors import AuthRejected, HandshakeRejected, LinkLost
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.loopback import Verifier, round_settings, running_verifier
from tests.support.ends.scripted import MODEL_SEED, VOCAB_SIZE, scripted_service
from tests.support.ends.waiting import eventually
from verifier.engine.service import VerifierService

NUM_BOARDS = 5
LONG_SECONDS = 60.0
UNKNOWN_TOKEN = f"gsd_stranger_{'A' * 43}"


@pytest.fixture(autouse=True)
def watched_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.fleet.fleet, "WATCH_SECONDS", 0.01)


def load(**settings: object) -> FleetLoad:
    chosen = {
        "draft_tokens_per_second": 1000.0,
        "prompt_tokens": 8,
        "output_tokens": 12,
        "think_seconds": 0.01,
    }
    return FleetLoad(**(chosen | settings))  # type: ignore[arg-type]


def scripted_boards(disagreement: float = 0.1) -> tuple[Drafter, Guess]:
    model = ScriptedModel(VOCAB_SIZE, MODEL_SEED, disagreement=disagreement)
    return scripted_drafter(model), scripted_guess(model)


def service() -> VerifierService:
    return scripted_service(delay_seconds=lambda _: 0.002)


async def measured(
    fleet: Fleet, is_enough: Callable[[FleetTally], bool], ramp_up_seconds: float = 0.0
) -> FleetReport:
    """The report of a fleet that is stopped when it has done enough."""
    stop = asyncio.Event()

    def watch(tally: FleetTally, now: float) -> None:
        if is_enough(tally):
            stop.set()

    return await fleet.run(ramp_up_seconds, LONG_SECONDS, stop, watch)


def tokens_of(verifier: Verifier) -> list[str]:
    return list(verifier.tokens.values())


def names(num_boards: int = NUM_BOARDS) -> list[str]:
    return [f"load-{i}" for i in range(num_boards)]


@pytest.mark.parametrize("mode", ["greedy", "coupled", "rejection"])
@pytest.mark.parametrize("delay_seconds", [0.0, 0.002])
def test_boards_keep_streams_going_in_every_mode(mode: LoadMode, delay_seconds: float) -> None:
    async def run() -> tuple[FleetReport, int]:
        # Rounds wait for boards that have caught up: a busy machine would make all drafts late.
        waiting = round_settings(is_barrier=True)
        verifying = scripted_service(settings=waiting, delay_seconds=lambda _: 0.002)
        asked = load(mode=mode, delay_seconds=delay_seconds, num_streams=2)
        async with running_verifier(verifying, names()) as verifier:
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), asked)
            report = await measured(
                fleet,
                lambda tally: tally.num_streams_finished >= 40 and tally.counts.accepted_tokens > 9,
            )
            await eventually(lambda: not verifying.planner.streams)  # all said Goodbye
            blocks = verifying.planner.blocks
            return report, blocks.num_blocks - blocks.num_free_blocks

    report, num_used_blocks = asyncio.run(run())
    assert {} == report.errors
    assert (NUM_BOARDS, NUM_BOARDS, 0) == (
        report.num_boards,
        report.num_connected,
        num_used_blocks,
    )
    assert report.output_tokens >= report.num_streams_finished >= 40
    assert report.accepted_tokens > 0
    assert report.acceptance is not None
    assert 0.5 < report.acceptance <= 1.0
    assert report.jain_fairness > 0.8
    for latency in (report.first_token, report.verdict, report.pause):
        assert latency.p50 is not None
        assert latency.p99 is not None
        assert 2 * delay_seconds <= latency.p99
    assert report.first_token.p50 is not None
    assert report.first_token.p50 >= 2 * delay_seconds


@pytest.mark.parametrize("mode", ["greedy", "rejection"])
def test_boards_without_a_model_guess_and_are_mostly_wrong(mode: LoadMode) -> None:
    async def run() -> FleetReport:
        async with running_verifier(service(), names()) as verifier:
            drafter, _ = scripted_boards()
            guess = echo_guess(Random(1))
            fleet = Fleet(verifier.url, tokens_of(verifier), drafter, guess, load(mode=mode))
            return await measured(fleet, lambda tally: tally.counts.rejections > 50)

    report = asyncio.run(run())
    assert {} == report.errors
    assert report.acceptance is not None
    assert report.acceptance < 0.5


def test_it_ends_when_its_time_is_over() -> None:
    async def run() -> FleetReport:
        async with running_verifier(service(), names()) as verifier:
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), load())
            return await fleet.run(0.05, 0.2, asyncio.Event(), lambda tally, now: None)

    report = asyncio.run(run())
    assert {} == report.errors
    assert report.seconds >= 0.2


def test_stopped_while_it_connects_it_reports_what_it_has() -> None:
    async def run() -> FleetReport:
        async with running_verifier(service(), names()) as verifier:
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), load())
            return await measured(fleet, lambda tally: tally.output_tokens > 0, ramp_up_seconds=1e6)

    report = asyncio.run(run())
    assert (1, {}) == (report.num_connected, report.errors)
    assert report.output_tokens > 0


def test_where_nobody_listens_there_is_one_sentence() -> None:
    fleet = Fleet("ws://127.0.0.1:1", [UNKNOWN_TOKEN], *scripted_boards(), load())
    with pytest.raises(LinkLost, match="cannot reach the verifier at ws:"):
        asyncio.run(measured(fleet, lambda tally: False))


def test_a_first_board_without_a_token_ends_it() -> None:
    async def run() -> None:
        async with running_verifier(service(), names()) as verifier:
            fleet = Fleet(verifier.url, [UNKNOWN_TOKEN], *scripted_boards(), load())
            await measured(fleet, lambda tally: False)

    with pytest.raises(AuthRejected, match="does not accept"):
        asyncio.run(run())


def test_another_vocabulary_ends_it() -> None:
    async def run() -> None:
        async with running_verifier(service(), names()) as verifier:
            drafter, guess = scripted_boards()
            assert isinstance(drafter, ScriptedDrafter)
            drafter.token_bytes = (*drafter.token_bytes[:-1], b"other")
            fleet = Fleet(verifier.url, tokens_of(verifier), drafter, guess, load())
            await measured(fleet, lambda tally: False)

    with pytest.raises(HandshakeRejected, match="another vocabulary"):
        asyncio.run(run())


def test_a_board_that_is_refused_later_is_counted_and_the_others_go_on() -> None:
    async def run() -> FleetReport:
        async with running_verifier(service(), names(2)) as verifier:
            tokens = [*tokens_of(verifier), UNKNOWN_TOKEN]
            fleet = Fleet(verifier.url, tokens, *scripted_boards(), load())
            return await measured(
                fleet, lambda tally: tally.num_streams_finished > 4 and bool(tally.errors)
            )

    report = asyncio.run(run())
    assert 2 == report.num_connected
    assert {"the verifier does not accept this device's token": 1} == report.errors


def test_a_refused_stream_is_counted_by_its_sentence() -> None:
    async def run() -> FleetReport:
        verifying = scripted_service(context_tokens=64)
        async with running_verifier(verifying, names(1)) as verifier:
            asked = load(prompt_tokens=100)
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), asked)
            return await measured(fleet, lambda tally: sum(tally.errors.values()) > 2)

    report = asyncio.run(run())
    assert ["prompt of 100 tokens exceeds 63 (target.context_tokens - 1)"] == list(report.errors)
    assert (1, 0) == (report.num_connected, report.num_streams_finished)


def test_when_the_verifier_comes_back_the_boards_take_their_streams_up_again() -> None:
    async def run() -> FleetReport:
        stop = asyncio.Event()
        seen: list[FleetTally] = []
        asked = load(output_tokens=4000)  # longer than the test
        async with running_verifier(service(), names()) as verifier:
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), asked)
            running = asyncio.create_task(
                fleet.run(0.0, LONG_SECONDS, stop, lambda tally, now: seen.append(tally))
            )
            await eventually(lambda: bool(seen) and min(seen[-1].tokens_of_board) > 5)
        await eventually(lambda: seen[-1].num_connected == 0)
        before = list(seen[-1].tokens_of_board)
        async with running_verifier(service(), names(), verifier.port):
            tally = seen[-1]
            await eventually(
                lambda: all(
                    now > then for now, then in zip(tally.tokens_of_board, before, strict=True)
                )
            )
            stop.set()
            return await running

    report = asyncio.run(run())
    assert (NUM_BOARDS, 0) == (report.num_connected, report.num_streams_finished)
    assert NUM_BOARDS <= sum(report.errors.values())
    # A stream that was begun anew would have waited for a first token once more.
    assert NUM_BOARDS == report.first_token.num_samples


def test_it_ends_when_the_verifier_refuses_every_board() -> None:
    async def run() -> FleetReport:
        seen: list[FleetTally] = []
        async with running_verifier(service(), names(2)) as verifier:
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), load())
            never = asyncio.Event()
            running = asyncio.create_task(
                fleet.run(0.0, LONG_SECONDS, never, lambda tally, now: seen.append(tally))
            )
            await eventually(lambda: bool(seen) and min(seen[-1].tokens_of_board) > 0)
        async with running_verifier(service(), ("another",), verifier.port):
            return await running

    report = asyncio.run(run())
    assert report.seconds < LONG_SECONDS
    assert (0, 2) == (
        report.num_connected,
        report.errors["the verifier does not accept this device's token"],
    )


class BrokenLoad(FleetLoad):
    """Fails in a way that nobody foresaw."""

    def draw_request(
        self, random: Random, vocab_size: int, special_ids: frozenset[int]
    ) -> GenerationRequest:
        raise ZeroDivisionError


def test_a_bug_in_a_board_ends_it_and_is_not_hidden() -> None:
    async def run() -> None:
        async with running_verifier(service(), names(2)) as verifier:
            fleet = Fleet(verifier.url, tokens_of(verifier), *scripted_boards(), BrokenLoad())
            await measured(fleet, lambda tally: False)

    with pytest.RaisesGroup(ZeroDivisionError):
        asyncio.run(run())
