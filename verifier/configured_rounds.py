"""The planner's settings from the configuration's, for the server and for the simulator."""

from __future__ import annotations

from verifier.config import RoundsSection
from verifier.policies import BudgetLimits
from verifier.rounds.round_settings import RoundSettings
from verifier.scheduling.schedule import ScheduleSettings


def round_settings(rounds: RoundsSection) -> RoundSettings:
    """The planner's settings from the configuration's."""
    return RoundSettings(
        schedule=ScheduleSettings(
            limits=BudgetLimits(
                max_round_tokens=rounds.max_round_tokens,
                budget_tokens=None if rounds.budget_tokens == "auto" else rounds.budget_tokens,
                slowdown_limit=rounds.slowdown_limit,
            ),
            max_draft_length=rounds.max_draft_length,
            max_window=rounds.max_window,
            uses_guard=rounds.guard,
            measures_payoff=rounds.measure_payoff and rounds.guard and not rounds.barrier,
            device_weights={},  # `goodspeed-verifier devices` sets them
            device_caps={},
        ),
        prefill_chunk_tokens=rounds.prefill_chunk_tokens,
        prefill_slowdown_limit=rounds.prefill_slowdown_limit,
        device_prefill_slowdown_limit=rounds.device_prefill_slowdown_limit,
        reserved_output_tokens=rounds.reserved_output_tokens,
        prefix_sharing=rounds.prefix_sharing,
        draft_timeout_seconds=rounds.draft_timeout_seconds,
        is_barrier=rounds.barrier,
    )
