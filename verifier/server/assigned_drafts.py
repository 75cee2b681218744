"""Which drafts of the registry each board should hold, told to it whenever that changes.

An operator assigns them by name, or lets the one be taken that suits the board best. This module
must never decide which of its drafts a board writes faster with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import msgspec

from shared.protocol.draft_offers import DraftOffer
from shared.protocol.messages import AssignedDraft, Assignment
from verifier.drafts.suitability import most_suitable
from verifier.engine.device import Device
from verifier.engine.device_terms import AUTOMATIC, NO_TERMS, USUAL_TERMS, AllTerms
from verifier.server.draft_shelf import DraftShelf, Offered

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
        self._told_missing: frozenset[tuple[str, str]] = frozenset()

    def take_over(self, terms: AllTerms) -> None:
        """What the operator assigned."""
        self._terms = terms
        self._has_news.set()

    def look_again(self) -> None:
        """The registry has changed, or a board came."""
        self._has_news.set()

    async def run(self) -> NoReturn:
        """Tell boards what they do not know yet; ends when cancelled."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            offered = await self._shelf.offered()
            missing = set()
            for device in tuple(self._devices.values()):
                names = self.names_for(device, offered)
                missing |= {(device.name, name) for name in names if name not in offered}
                device.assign(_assignment(names, offered))
            self._tell_missing(frozenset(missing))

    async def offers_for(self, device: Device) -> list[DraftOffer]:
        """All that there are, with what they are to this board; those that it is assigned first."""
        offered = await self._shelf.offered()
        assigned, suits = self.names_for(device, offered), self._most_suitable(device, offered)
        offers = [
            msgspec.structs.replace(one.offer, is_assigned=name in assigned, suits=name == suits)
            for name, one in offered.items()
        ]
        return sorted(offers, key=lambda offer: (not offer.is_assigned, not offer.suits))

    def names_for(self, device: Device, offered: Mapping[str, Offered]) -> list[str]:
        """What it is assigned, also what is not offered; nothing twice."""
        terms = self._terms.by_device.get(device.name, USUAL_TERMS)
        names: dict[str, None] = {}
        for name in terms.drafts:
            chosen: str | None = name
            if name == AUTOMATIC:
                chosen = self._most_suitable(device, offered, terms.draft_labels)
            if chosen is not None:
                names[chosen] = None
        return list(names)

    def _most_suitable(
        self, device: Device, offered: Mapping[str, Offered], labels: Iterable[str] = ()
    ) -> str | None:
        kept = {name: one.kept for name, one in offered.items() if one.kept is not None}
        return most_suitable(kept, device.profile, self._round_seconds(), frozenset(labels))

    def _tell_missing(self, missing: frozenset[tuple[str, str]]) -> None:
        for device, name in sorted(missing - self._told_missing):
            logger.warning("device %s is assigned %s, which is not offered here", device, name)
        self._told_missing = missing


def _assignment(names: Iterable[str], offered: Mapping[str, Offered]) -> Assignment:
    """The first of them takes all new streams."""
    offers = [offered[name].offer for name in names if name in offered]
    drafts = tuple(
        AssignedDraft(offer.name, offer.num_bytes, bytes.fromhex(offer.sha256)) for offer in offers
    )
    return Assignment(drafts, (1,) if drafts else ())
