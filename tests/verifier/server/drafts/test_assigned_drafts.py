"""What each board is told to hold, by what its operator assigned and by what it told of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from shared.protocol.messages import MAX_ASSIGNED_DRAFTS
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.engine.device import Device
from verifier.engine.device_terms import AUTOMATIC, AllTerms, DeviceTerms
from verifier.server.drafts.assigned_drafts import AssignedDrafts
from verifier.server.drafts.draft_shelf import DraftShelf
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams


class House:
    """A registry of two judged drafts, and boards of two speeds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = DraftStore(directory / "drafts")
        self.add("large", 1000, 0.95, ("qa",))
        self.add("small", 100, 0.6, ("code",))
        shelf = DraftShelf(lambda path: None, bytes_per_second=1e9, store=self.store)
        self.devices = {
            name: self.device(name, seconds) for name, seconds in (("fast", 0.001), ("slow", 0.05))
        }
        self.assigned = AssignedDrafts(shelf, self.devices, lambda: 0.02)
        self.shelf = shelf

    def add(
        self, name: str, size: int, acceptance: float | None, labels: tuple[str, ...] = ()
    ) -> None:
        path = self.directory / name
        path.write_bytes(name.encode().ljust(size, b"."))

        def describe(_: Path, sha256: str, num_bytes: int) -> KeptDraft:
            return KeptDraft(sha256, num_bytes, "v", acceptance=acceptance, labels=labels)

        self.store.add(name, path, describe)

    def device(self, name: str, token_seconds: float) -> Device:
        made = Device(name, DeviceEstimates(), KeptStreams(1))
        made.draft_bytes = 1000
        made.own_estimates.speed.observe_drafting(1, token_seconds)
        return made

    def names(self, device: str, *drafts: str, labels: tuple[str, ...] = ()) -> list[str]:
        terms = DeviceTerms(drafts=drafts, draft_labels=labels)
        self.assigned.take_over(AllTerms({device: terms}))
        offered = asyncio.run(self.shelf.offered())
        return self.assigned.names_for(self.devices[device], offered)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_suits_hangs_on_the_boards_speed(house: House) -> None:
    assert ["large"] == house.names("fast", AUTOMATIC)
    assert ["small"] == house.names("slow", AUTOMATIC)
    assert ["small"] == house.names("fast", AUTOMATIC, labels=("code",))
    assert [] == house.names("fast", AUTOMATIC, labels=("de",))


def test_nothing_is_assigned_twice_and_what_is_not_there_is_named(house: House) -> None:
    assert ["small"] == house.names("slow", "small", AUTOMATIC)
    assert ["wren", "large"] == house.names("fast", "wren", AUTOMATIC)


def test_candidates_of_what_is_assigned_are_held_as_well(house: House) -> None:
    house.add("small-online-1", 101, None)
    house.store.change(
        "small-online-1",
        lambda kept: msgspec.structs.replace(kept, origin="candidate", made_from="small"),
    )
    assert ["small", "small-online-1"] == house.names("fast", "small")
    assert ["large"] == house.names("fast", "large")
    for number in range(2, 9):
        house.add(f"small-online-{number}", 101 + number, None)
        house.store.change(
            f"small-online-{number}",
            lambda kept: msgspec.structs.replace(kept, origin="candidate", made_from="small"),
        )
    assert MAX_ASSIGNED_DRAFTS == len(house.names("fast", "small"))


def test_offers_say_what_they_are_to_the_board_that_asks(house: House) -> None:
    terms = AllTerms({"slow": DeviceTerms(drafts=("large",))})
    house.assigned.take_over(terms)
    offers = asyncio.run(house.assigned.offers_for(house.devices["slow"]))
    assert [("large", True, False), ("small", False, True)] == [
        (offer.name, offer.is_assigned, offer.suits) for offer in offers
    ]
