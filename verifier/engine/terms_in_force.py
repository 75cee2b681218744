"""What an operator set for devices, as a running planner has it: from the next round on."""

from __future__ import annotations

import logging

from verifier.engine.device_terms import PAUSED, AllTerms
from verifier.engine.service import VerifierService
from verifier.rounds.operators_terms import set_device_terms

logger = logging.getLogger(__name__)


class TermsInForce:
    """Lets a service take over terms; what they do not say stays as its settings had it."""

    def __init__(self, service: VerifierService) -> None:
        self._service = service
        self._first_schedule = service.planner.settings.schedule

    def take_over(self, terms: AllTerms) -> None:
        """Pauses, weights and longest drafts hold from the next round on, SLOs for new streams."""
        schedule, paused = self._first_schedule, self._service.planner.patience.paused
        for name in sorted(terms.paused ^ paused):
            state = "is paused: its streams wait" if name in terms.paused else "goes on"
            logger.info("device %s %s", name, state)
            if name in self._service.devices:
                self._service.devices[name].tell_held(PAUSED if name in terms.paused else "")
        weights = {**schedule.device_weights, **terms.weights}
        caps = {**schedule.device_caps, **terms.caps}
        for planner in self._service.planners:
            set_device_terms(planner, terms.paused, weights, caps, terms.slos)
        self._service.wake()
