"""From settings to a service that is ready to run: loads the target, measures it, wires the parts.

The only place that knows every part of the verifier.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from shared.cpu_threads import limit_spinning
from shared.errors import ModelError
from shared.model_files import resolve_model
from verifier.blocks import BlockPool
from verifier.budget import BudgetLimits
from verifier.config import RoundsSection, VerifierConfig
from verifier.cost_curve import CostCurve
from verifier.metrics import Metrics
from verifier.policies import policy_named
from verifier.rounds import RoundPlanner, RoundSettings
from verifier.scheduling import ScheduleSettings
from verifier.service import ServiceLimits, VerifierService
from verifier.target import TargetModel, Tokenizer

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]


def load_service(config: VerifierConfig, tell: Tell) -> VerifierService:
    """Load the target and measure it; `tell` gets a sentence before each step that takes long.

    Raises:
        ModelError: the target cannot be loaded; the sentence says why.
    """
    path = resolve_model(config.target.model)
    limit_spinning(os.environ)
    # Torch and transformers take seconds to import; commands that need neither do not wait.
    from verifier.model_loading import load_target

    tell(f"loading {config.target.model}")
    target, tokenizer = load_target(
        path,
        device=config.target.device,
        dtype=config.target.dtype,
        threads=config.target.threads,
        context_tokens=config.target.context_tokens,
        kv_cache_tokens=config.target.kv_cache_tokens,
        block_tokens=config.target.block_tokens,
    )
    curve = _curve(config, target, tell)
    return make_service(config, target, tokenizer, curve)


def make_service(
    config: VerifierConfig, target: TargetModel, tokenizer: Tokenizer, curve: CostCurve
) -> VerifierService:
    """Wire planner, policy, cache and metrics around a target."""
    planner = RoundPlanner(
        round_settings(config.rounds),
        policy_named(config.rounds.policy),
        curve,
        BlockPool(target.num_blocks, target.block_tokens),
    )
    metrics = Metrics()
    limits = ServiceLimits(
        context_tokens=min(config.target.context_tokens, target.context_tokens),
        max_prompt_tokens=config.limits.max_prompt_tokens,
        max_tokens=config.limits.max_tokens,
        max_streams_per_device=config.limits.max_streams_per_device,
    )
    service = VerifierService(planner, target, tokenizer, limits, metrics)
    metrics.watch(planner, service.devices)
    return service


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
        ),
        prefill_chunk_tokens=rounds.prefill_chunk_tokens,
        draft_timeout_seconds=rounds.draft_timeout_seconds,
        is_barrier=rounds.barrier,
    )


def save_curve(config: VerifierConfig, service: VerifierService) -> None:
    """Keep what the running rounds taught about the target's speed."""
    path = _curve_path(config, service.target)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(service.planner.curve.to_json())
        fresh.replace(path)


def _curve(config: VerifierConfig, target: TargetModel, tell: Tell) -> CostCurve:
    """The saved curve of this target, or a new one."""
    from verifier.curve_measurement import measure_curve

    path = _curve_path(config, target)
    if path is not None and path.exists():
        try:
            return CostCurve.from_json(path.read_bytes())
        except ModelError as error:
            logger.warning("%s: %s; measuring again", path, error)
    tell("measuring the rounds of the target")
    return CostCurve.from_samples(measure_curve(target, config.rounds.max_round_tokens))


def _curve_path(config: VerifierConfig, target: TargetModel) -> Path | None:
    directory = config.state.directory
    return None if directory is None else directory / f"{target.model_name}.curve.json"
