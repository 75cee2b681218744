"""Which drafts of the registry each board should hold, told to it whenever that changes.

An operator assigns them by name, or lets the one be taken that suits the board best; its streams
then show which of those that it holds is faster (`shared.speculation.draft_choice`). This module
must never touch a stream that runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import msgspec

from shared.protocol.handed_drafts.draft_offers import DraftOffer
from shared.protocol.messages import MAX_ASSIGNED_DRAFTS, AssignedDraft, Assignment
from shared.speculation.draft_choice import OWN
from verifier.drafts.suitability import most_suitable
from verifier.engine.device import Device
from verifier.engine.device_terms import (
    AUTOMATIC,
    NO_TERMS,
    USUAL_TERMS,
    AllTerms,
    DeviceTerms,
)
from verifier.server.drafts.draft_shelf import DraftShelf, Offered
from verifier.streams.stream import Stream

logger = logging.getLogger(__name__)


class AssignedDrafts:
    """Of all devices of a verifier; `run` tells boards."""

    def __init__(
        self,
        shelf: DraftShelf,
        devices: Mapping[str, Device],
        round_seconds: Callable[[], float],
    ) -> None:
        """`round_seconds`: of the target alone, which a board has for drafting."""
        self._shelf = shelf
        self._devices = devices
        self._round_seconds = round_seconds
        self._terms = NO_TERMS
        self._has_news = asyncio.Event()
        self._offered: Mapping[str, Offered] | None = None  # as it was looked at last
        self._automatic: dict[str, str | None] = {}  # by device: speeds change all the time
        self._told: set[tuple[str, str]] = set()  # device and what it lacks; "": it takes none

    def take_over(self, terms: AllTerms) -> None:
        """What the operator assigned."""
        self._terms = terms
        self.look_again()

    def look_again(self) -> None:
        """The registry has changed, or what is assigned from it."""
        self._automatic.clear()
        self._told.clear()
        self._has_news.set()

    def follow(self, device: Device) -> None:
        """A board came, or holds other drafts than before; told at once where it is known what.

        So its streams that go on find the numbers of their drafts known.
        """
        if self._offered is None:
            self._has_news.set()
        else:
            self._assign(device, self._offered)

    def note_end(self, stream: Stream) -> None:
        """A stream has ended; what it came to may decide which draft the next ones take."""
        pace = stream.estimates.draft_pace
        if pace is None:
            return
        device = self._devices[stream.device]
        before = device.choice.turns
        device.choice.observe(pace.draft, pace.tokens_per_second)
        if device.choice.turns != before:
            self._tell_choice(device)
        self.follow(device)

    async def run(self) -> NoReturn:
        """Tell boards what they do not know yet; ends when cancelled."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            self._offered = offered = await self._shelf.offered()
            for device in tuple(self._devices.values()):
                self._assign(device, offered)
                await asyncio.sleep(0)  # there may be thousands

    def _assign(self, device: Device, offered: Mapping[str, Offered]) -> None:
        """Tell a board what it does not know yet."""
        names = self.names_for(device, offered)
        self._tell_missing(device, names, offered)
        offers = [offered[name].offer for name in names if name in offered]
        drafts = tuple(
            AssignedDraft(offer.name, offer.num_bytes, bytes.fromhex(offer.sha256))
            for offer in offers
        )
        places = {draft.sha256: place for place, draft in enumerate(drafts, start=1)}
        device.refused = {sha: why for sha, why in device.refused.items() if sha in places}
        usable = [sha256 for sha256 in places if sha256 not in device.refused]
        device.choice.hold(usable)
        turns = device.choice.turns
        if self._terms_of(device).draft_choice == "first":
            turns = (usable[0] if usable else OWN,)
        told = tuple(0 if sha256 == OWN else places[sha256] for sha256 in turns)
        device.assign(Assignment(drafts, told))

    async def offers_for(self, device: Device) -> list[DraftOffer]:
        """All that there are, with what they are to this board; those that it is assigned first."""
        self._offered = offered = await self._shelf.offered()
        assigned, suits = self.names_for(device, offered), self._most_suitable(device, offered)
        offers = [
            msgspec.structs.replace(one.offer, is_assigned=name in assigned, suits=name == suits)
            for name, one in offered.items()
        ]
        return sorted(offers, key=lambda offer: (not offer.is_assigned, not offer.suits))

    def names_for(self, device: Device, offered: Mapping[str, Offered]) -> list[str]:
        """What it is assigned, also what is not offered; nothing twice.

        Candidates that were made from one of these are tried as well.
        """
        terms = self._terms_of(device)
        names: dict[str, None] = {}
        for name in terms.drafts:
            chosen: str | None = name
            if name == AUTOMATIC:
                chosen = self._automatic_for(device, offered, terms.draft_labels)
            if chosen is not None:
                names[chosen] = None
        candidates = {
            name: None
            for name, one in offered.items()
            if one.kept is not None and one.kept.made_from in names
        }
        return list(names | candidates)[:MAX_ASSIGNED_DRAFTS]

    def _automatic_for(
        self, device: Device, offered: Mapping[str, Offered], labels: Iterable[str]
    ) -> str | None:
        """What was chosen once stays until the registry or the terms change."""
        chosen = self._automatic.get(device.name)
        if chosen not in offered:
            chosen = self._most_suitable(device, offered, labels)
            self._automatic[device.name] = chosen
        return chosen

    def _most_suitable(
        self, device: Device, offered: Mapping[str, Offered], labels: Iterable[str] = ()
    ) -> str | None:
        kept = {name: one.kept for name, one in offered.items() if one.kept is not None}
        return most_suitable(kept, device.profile, self._round_seconds(), frozenset(labels))

    def _terms_of(self, device: Device) -> DeviceTerms:
        return self._terms.by_device.get(device.name, USUAL_TERMS)

    def _tell_choice(self, device: Device) -> None:
        names = {held.draft.sha256: held.draft.name for held in device.held.values()}
        standing = device.choice.standing
        leader = names.get(standing.leader, "its own draft")
        trying = "" if standing.candidate is None else f", tries {names.get(standing.candidate)}"
        logger.info("device %s: new streams take %s%s", device.name, leader, trying)

    def _tell_missing(
        self, device: Device, names: Iterable[str], offered: Mapping[str, Offered]
    ) -> None:
        """Once for each device and draft."""
        lacked = {name for name in names if name not in offered}
        if names and device.outbox is not None and not device.takes_drafts:
            lacked.add("")
        for name in sorted(lacked):
            if (device.name, name) in self._told:
                continue
            self._told.add((device.name, name))
            if name:
                sentence = "device %s is assigned %s, which is not offered here"
                logger.warning(sentence, device.name, name)
            else:
                sentence = "device %s takes no drafts: draft.assigned_megabytes is 0 on the board"
                logger.warning(sentence, device.name)
