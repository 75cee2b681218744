"""Whatever happens to the links: clients that stay see one uninterrupted, undisturbed text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest

from edge_agent.drafting.stream import AgentStream
from tests.support.chats.cut_chats import Report, Setting, disturbed_chats
from tests.support.chats.cut_settings import real_setting, scripted_setting
from tests.support.chats.recorders import Client

NUM_SCRIPTED = 30  # three of every kind
NUM_REAL = 8
NUM_WITH_A_FAULT = 10


def report_of(setting: Setting, num_cuts: int, seed: int = 1) -> Report:
    return asyncio.run(disturbed_chats(setting, num_cuts, seed))


@pytest.fixture(autouse=True)
def nothing_fails_behind_the_scenes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What nobody misses may fail unseen; the log tells."""
    yield
    records = caplog.get_records("call")
    assert [] == [record.message for record in records if record.levelno >= logging.ERROR]


def test_no_cut_costs_a_token_or_repeats_one() -> None:
    report = report_of(scripted_setting(), NUM_SCRIPTED)
    assert ([], []) == (report.violations, report.errors)
    assert NUM_SCRIPTED == report.num_cuts
    assert report.num_chats >= 6
    assert report.num_repeated > 0


def test_the_text_of_a_real_model_survives_too() -> None:
    with real_setting(num_prompts=4) as setting:
        report = report_of(setting, NUM_REAL)
    assert ([], []) == (report.violations, report.errors)
    assert NUM_REAL == report.num_cuts


# --- that it would be noticed ---------------------------------------------------------------------


def forget_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    reopen = AgentStream.reopen

    def forgetful(stream: AgentStream, channel: int) -> None:
        del stream.output_ids[-1:]
        reopen(stream, channel)

    monkeypatch.setattr(AgentStream, "reopen", forgetful)


def lose_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Client._read

    def inattentive(client: Client, line: bytes) -> None:
        read(client, line)
        if len(client.pieces) == 20:
            client.pieces.pop()

    monkeypatch.setattr(Client, "_read", inattentive)


@pytest.mark.parametrize("break_it", [forget_a_token, lose_a_piece])
def test_a_token_said_twice_or_lost_would_be_noticed(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    assert [] != report_of(scripted_setting(), NUM_WITH_A_FAULT).violations
