"""Drafts over HTTP: their list for a board, and their bytes; only devices may ask."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from shared.protocol.handed_drafts.draft_offers import OFFERS_PATH, pack_offers
from verifier.engine.service import VerifierService
from verifier.server.drafts.assigned_drafts import AssignedDrafts
from verifier.server.drafts.draft_shelf import DraftShelf


class DraftPages:
    """Of one port; without a shelf there is nothing to be had."""

    def __init__(
        self,
        shelf: DraftShelf | None,
        service: VerifierService,
        charge_device: Callable[[web.Request, str], str],
    ) -> None:
        """`charge_device` gives the device that asks, or refuses it."""
        self._shelf = shelf
        self._service = service
        self._charge_device = charge_device
        self.assigned: AssignedDrafts | None = None
        if shelf is not None:
            devices, planner = service.devices, service.planner
            self.assigned = AssignedDrafts(shelf, devices, lambda: planner.seconds_of_lone_round)
            service.metrics.watch_end = self.assigned.note_end

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Both pages."""
        router.add_get(OFFERS_PATH, self._offers)
        router.add_get(f"{OFFERS_PATH}/{{name}}", self._draft)

    async def _offers(self, request: web.Request) -> web.Response:
        """What boards may have, with what it is to the one that asks."""
        name = self._charge_device(request, "drafts need")
        if self.assigned is None:
            raise _nothing()
        offers = await self.assigned.offers_for(self._service.device(name))
        return web.Response(body=pack_offers(offers), content_type="application/json")

    async def _draft(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        self._charge_device(request, "drafts need")
        if self._shelf is None:
            raise _nothing()
        return await self._shelf.send(request, request.match_info["name"])


def _nothing() -> web.HTTPNotFound:
    sentence = "this verifier offers no drafts (state.directory, drafts.directory)"
    return web.HTTPNotFound(text=f"{sentence}\n")
