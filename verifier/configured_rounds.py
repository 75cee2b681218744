"""The planner's settings and policy from the configuration, for the server and the simulator."""

from __future__ import annotations

from shared.errors import ConfigError
from verifier.policies import AwcPolicy, BudgetLimits, DraftPolicy, policy_named
from verifier.policies.awc import AwcWeights
from verifier.policies.awc_weights import SHIPPED, SHIPPED_WAITING, read_weights
from verifier.promises.slo_settings import SloSettings
from verifier.rounds.round_settings import RoundSettings
from verifier.rounds.settings import RoundsSection
from verifier.scheduling.schedule_settings import ScheduleSettings


def configured_policy(rounds: RoundsSection) -> DraftPolicy:
    """A new policy, the one that is set.

    Raises:
        ConfigError: with every problem of the files of weights that are set for it.
    """
    if rounds.policy != "awc":
        return policy_named(rounds.policy)
    files = {
        "rounds.awc_weights": rounds.awc_weights or SHIPPED,
        "rounds.awc_waiting_weights": rounds.awc_waiting_weights or SHIPPED_WAITING,
    }
    networks: list[AwcWeights] = []
    problems: list[str] = []
    for key, file in files.items():
        try:
            networks.append(read_weights(file)[0])
        except ConfigError as error:
            problems += [f"{key}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(tuple(problems))
    ahead, waiting = networks
    return AwcPolicy(ahead, waiting)


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
        slo=SloSettings(token_seconds=rounds.slo_token_seconds, percentile=rounds.slo_percentile),
    )
