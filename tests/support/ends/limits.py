"""Settings and limits of the verifier's parts: as by default, but for what a test names."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from verifier.config import LimitsSection
from verifier.configured_rounds import round_settings
from verifier.policies import BudgetLimits
from verifier.rounds.planner import RoundSettings
from verifier.rounds.settings import RoundsSection
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.server.configured_limits import device_limits
from verifier.server.device_limits import DeviceLimits

_ROUNDS = round_settings(RoundsSection(measure_payoff=False))
# Scripted verifiers take as many from a device, see `scripted_service`.
_DEVICE = device_limits(LimitsSection(max_streams_per_device=64), stream_tokens=2048)


def make_round_settings(**changes: Any) -> RoundSettings:
    return replace(_ROUNDS, **changes)


def make_schedule_settings(**changes: Any) -> ScheduleSettings:
    return replace(_ROUNDS.schedule, **changes)


def make_budget_limits(**changes: Any) -> BudgetLimits:
    return replace(_ROUNDS.schedule.limits, **changes)


def make_device_limits(**changes: Any) -> DeviceLimits:
    return replace(_DEVICE, **changes)
