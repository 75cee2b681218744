"""Candidates are made of what was kept, judged, and put into the registry or not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support.ends.waiting import eventually
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.drafts.tuning_job import SEEN, HeldOutPair, TuningJob, TuningResult
from verifier.engine.device import Device
from verifier.online import online_drafts
from verifier.online.online_drafts import KEPT_CANDIDATES, OnlineDrafts, OnlinePlan
from verifier.online.text_memory import TextMemory
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams


def describe(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
    return KeptDraft(sha256, num_bytes, "v")


def result(gain: float) -> TuningResult:
    domains = [SEEN, "self"] * 6
    noise = [0.01, 0.01, -0.01, -0.01] * 3
    return TuningResult(
        tuple(
            HeldOutPair(domain, 0.5, 0.5 + gain + more)
            for domain, more in zip(domains, noise, strict=True)
        ),
        10,
    )


class House:
    """A registry with a draft, and a process that is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = DraftStore(directory / "drafts")
        (directory / "wren").write_bytes(b"GGUF wren")
        self.base = self.store.add("wren", directory / "wren", describe)
        self.memory = TextMemory(100_000, 3600.0)
        self.devices: dict[str, Device] = {}
        self.gains: list[float] = []
        self.fault = ""
        self.jobs: list[TuningJob] = []
        plan = OnlinePlan(
            "wren", directory / "target.gguf", directory / "online", 1.0, 20, 1, "cpu"
        )
        self.drafts = OnlineDrafts(
            *(plan, self.memory, self.store, self.devices, describe, self.run_job), lambda: 0.0
        )

    async def run_job(self, job: TuningJob) -> TuningResult:
        self.jobs.append(job)
        if self.fault:
            return TuningResult(fault=self.fault)
        job.out.write_bytes(b"GGUF candidate %d" % len(self.jobs))
        return result(self.gains.pop(0))

    def learn(self, number: int) -> None:
        for _ in range(number):
            self.memory.add("kitchen", (1, 2), range(30), [9], 0.0, is_greedy=True)

    def names(self) -> list[str]:
        return sorted(self.store.catalogue().by_name)

    def tune(self, *gains: float) -> list[str | None]:
        self.gains = list(gains)

        async def all_of_them() -> Sequence[str | None]:
            return [await self.drafts.tune_once() for _ in gains]

        return list(asyncio.run(all_of_them()))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_better_draft_goes_into_the_registry_as_a_candidate(house: House) -> None:
    house.learn(3)
    assert ["wren-online-1"] == house.tune(0.1)
    kept = house.store.catalogue().by_name["wren-online-1"]
    assert ("candidate", "wren") == (kept.origin, kept.made_from)
    (job,) = house.jobs
    assert house.memory.texts() == job.texts
    assert house.store.path_of(house.base) == job.draft
    assert not job.out.exists()


def test_a_planted_bad_candidate_is_refused_and_leaves_no_file(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert [None] == house.tune(-0.2)
    assert ["wren"] == house.names()
    assert "is not offered: it is accepted less in the domain" in caplog.text
    assert not house.jobs[0].out.exists()


def test_a_process_that_fails_is_one_line(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    house.fault = "its process ended with code -9"
    assert [None] == house.tune(0.1)
    assert "is not offered: its process ended with code -9" in caplog.text
    assert ["wren"] == house.names()


def test_old_candidates_go_unless_a_board_leads_with_them(house: House) -> None:
    assert 4 == len(house.tune(0.1, 0.1, 0.1, 0.1))
    newest = [f"wren-online-{number}" for number in range(5 - KEPT_CANDIDATES, 5)]
    assert ["wren", *newest] == house.names()
    lead_with(house, newest[0])
    house.tune(0.1, 0.1, 0.1)
    assert newest[0] in house.names()


def lead_with(house: House, name: str) -> None:
    """A board whose streams proved that draft to be the best."""
    device = Device("kitchen", DeviceEstimates(), KeptStreams(1))
    sha256 = bytes.fromhex(house.store.catalogue().by_name[name].sha256)
    device.choice.hold((sha256,))
    for _ in range(10):
        device.choice.observe(sha256, 20.0)
        device.choice.observe(b"", 10.0)
    assert sha256 == device.choice.standing.leader
    house.devices["kitchen"] = device


def test_the_next_one_begins_from_what_boards_lead_with(house: House) -> None:
    house.tune(0.1)
    lead_with(house, "wren-online-1")
    candidate = house.store.catalogue().by_name["wren-online-1"]
    house.tune(0.1)
    assert house.store.path_of(candidate) == house.jobs[-1].draft


def test_without_the_draft_nothing_is_made(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.store.remove("wren")
    assert [None] == house.tune(0.1)
    assert "online.draft wren is not in the registry" in caplog.text
    assert [] == house.jobs


def has_jobs(house: House, number: int) -> bool:
    return len(house.jobs) >= number


def test_it_waits_for_enough_and_longer_after_each_that_came_to_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_drafts, "CHECK_SECONDS", 0.001)
    house.gains = [-0.2, 0.1]

    async def scenario() -> None:
        task = asyncio.create_task(house.drafts.run())
        for expected in (0, 1, 1, 1, 2):
            house.learn(15)
            await asyncio.sleep(0.05)
            await eventually(partial(has_jobs, house, expected))
            assert expected == len(house.jobs)
        await eventually(lambda: len(house.names()) == 2)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
    assert ["wren", "wren-online-1"] == house.names()
