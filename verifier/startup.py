"""From settings to a service that is ready to run: loads the target, measures it, wires the parts.

The only place that knows every part of the verifier.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from shared.config.model_files import default_cache_dir, locate
from shared.daemon.files import replace_file
from shared.daemon.resources.cpu_threads import limit_spinning
from shared.daemon.resources.heap import give_back_freed_memory, map_large_pieces
from shared.daemon.strangers import StrangerLimits
from shared.daemon.tls.server_tls import ServerTls
from shared.speculation.model_defaults import PLAIN_DEFAULTS, ModelDefaults
from verifier.config import LimitsSection, VerifierConfig
from verifier.configured_rounds import configured_policy, round_settings
from verifier.cost_curve.curve import CostCurve, CurveSubject
from verifier.cost_curve.files import curve_path, read_curve
from verifier.cost_curve.measurement import (
    QUICK_ON_CPU,
    QUICK_ON_GPU,
    CurveGrid,
    measure_curve,
    warm_up_rounds,
)
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.metrics import Metrics
from verifier.engine.service import VerifierService
from verifier.online.start import Online, start_online
from verifier.policies import AwcPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.settings import RoundsSection
from verifier.server.configured_limits import device_limits, service_limits
from verifier.server.device_tokens import NO_TOKENS, TokenRoles
from verifier.server.drafts.configured_drafts import draft_shelf, draft_store
from verifier.server.gauges.planner_gauges import PlannerGauges
from verifier.server.gauges.worker_gauges import WorkerGauges
from verifier.server.loading_port import LoadingPort
from verifier.server.operator_pages import OperatorAccess
from verifier.server.server import VerifierServer
from verifier.target.rank_place import RankPlace
from verifier.target.target import TargetModel, Tokenizer
from verifier.target.target_settings import TargetSettings, TemplateSettings
from verifier.torch_target.loading.lean_libraries import lean_imports

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class LoadedTarget:
    """A target that is ready, and what its times belong to."""

    target: TargetModel
    tokenizer: Tokenizer
    subject: CurveSubject
    is_on_gpu: bool
    defaults: ModelDefaults = PLAIN_DEFAULTS  # what the model says of itself


def load_service(
    config: VerifierConfig, tell: Tell, advance: Advance = lambda fraction: None
) -> VerifierService:
    """Load the target and measure it; `tell` gets a sentence before each step that takes long.

    `advance` gets how much of that step is done, from 0 to 1, where it is known.

    Raises:
        ModelError: the target cannot be loaded; the sentence says why.
    """
    loaded, curve = load_and_measure(config, tell, advance)
    defaults = told_defaults(config, loaded.defaults, tell)
    service = make_service(config, loaded.target, loaded.tokenizer, curve, defaults)
    service.grammars.prepare()
    return service


def load_and_measure(
    config: VerifierConfig, tell: Tell, advance: Advance, place: RankPlace | None = None
) -> tuple[LoadedTarget, CostCurve]:
    """The target, or rank 0's part of it, warm, and how long its rounds take."""
    loaded = load_configured_target(config, tell, place)
    if loaded.is_on_gpu:
        rounds = warm_up_rounds(loaded.target, config.rounds.max_round_tokens)
        tell(f"warming up with {len(rounds)} rounds")
        for number, round_ in enumerate(rounds, start=1):
            loaded.target.run(round_)
            advance(number / len(rounds))
    curve = _read_or_measure_curve(config, loaded, tell, advance)
    give_back_freed_memory()
    return loaded, curve


def told_defaults(config: VerifierConfig, own: ModelDefaults, tell: Tell) -> ModelDefaults:
    """What holds where a request is silent, by the model's word or the operator's."""
    defaults = own if config.target.generation_defaults == "model" else PLAIN_DEFAULTS
    if defaults != PLAIN_DEFAULTS:
        tell(f"where a request is silent, the model's own sampling holds: {_in_words(defaults)}")
    return defaults


def load_configured_target(
    config: VerifierConfig, tell: Tell, place: RankPlace | None = None
) -> LoadedTarget:
    """The target of the configuration, or a rank's part of it.

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
    """
    section = config.target
    path = locate(section.model, default_cache_dir(os.environ))
    tell(f"loading {section.model}")
    limit_spinning(os.environ)
    map_large_pieces()
    # Torch and transformers take seconds to import; commands that need neither do not wait.
    with lean_imports(os.environ):
        from verifier.torch_target.loading.target_loading import load_target

    placed = load_target(path, target_settings(config), place)
    subject = CurveSubject(
        model=placed.target.model_name,
        device=placed.hardware,
        dtype=placed.dtype,
        quantisation=section.quantisation,
        batch_invariant=section.batch_invariant,
    )
    return LoadedTarget(placed.target, placed.tokenizer, subject, placed.is_on_gpu, placed.defaults)


def target_settings(config: VerifierConfig) -> TargetSettings:
    """What loading must know, from the configuration."""
    section = config.target
    return TargetSettings(
        device=section.device,
        dtype=section.dtype,
        quantisation=section.quantisation,
        batch_invariant=section.batch_invariant,
        threads=section.threads,
        context_tokens=section.context_tokens,
        kv_cache_tokens=section.kv_cache_tokens,
        block_tokens=section.block_tokens,
        max_round_tokens=config.rounds.max_round_tokens,
        memory_fraction=section.memory_fraction,
        template=TemplateSettings(
            section.chat_template, msgspec.to_builtins(section.chat_template_kwargs)
        ),
    )


def _in_words(defaults: ModelDefaults) -> str:
    sampling, processors = defaults.sampling, defaults.processors
    words = [
        f"temperature {sampling.temperature:g}",
        f"top_k {sampling.top_k}",
        f"top_p {sampling.top_p:g}",
    ]
    if processors.min_p:
        words.append(f"min_p {processors.min_p:g}")
    if processors.repetition_penalty != 1:
        words.append(f"repetition_penalty {processors.repetition_penalty:g}")
    return ", ".join(words)


def make_service(
    config: VerifierConfig,
    target: TargetModel,
    tokenizer: Tokenizer,
    curve: CostCurve,
    model_defaults: ModelDefaults = PLAIN_DEFAULTS,
    workers: ManyWorkers | None = None,
) -> VerifierService:
    """Wire planner, policy, cache and metrics around a target, or around several workers'."""
    planner = workers.planners[0] if workers else make_planner(config, target, curve)
    metrics = Metrics()
    context_tokens = min(config.target.context_tokens, target.context_tokens)
    limits = service_limits(config.limits, context_tokens)
    service = VerifierService(
        planner, target, tokenizer, limits, metrics, None, model_defaults, workers
    )
    metrics.watch(PlannerGauges(planner, service.devices, lambda: service.planners))
    if workers is not None:
        metrics.watch(WorkerGauges(workers))
    return service


def make_planner(config: VerifierConfig, target: TargetModel, curve: CostCurve) -> RoundPlanner:
    """A planner for a target with such a curve."""
    return RoundPlanner(
        round_settings(config.rounds),
        configured_policy(config.rounds),
        curve,
        BlockPool(target.num_blocks, target.block_tokens),
    )


def make_server(
    config: VerifierConfig,
    service: VerifierService,
    tokens: TokenRoles,
    metrics_token: str | None = None,
    tls: ServerTls | None = None,
) -> VerifierServer:
    """The port for those who have these tokens, or that of metrics."""
    return VerifierServer(
        service,
        tokens.of("board"),
        heartbeat_seconds=config.server.heartbeat_seconds,
        max_connections=config.server.max_connections,
        device_limits=device_limits(config.limits, service.limits.context_tokens),
        operator_access=operator_access(config, metrics_token, tokens),
        stranger_limits=StrangerLimits.at(config.server.stranger_requests_per_second),
        tls=tls,
        drafts=draft_shelf(config, service.tokenizer),
        keeps_texts=bool(config.online.draft),
        num_doors=config.server.doors,
    )


def make_online(config: VerifierConfig, service: VerifierService) -> Online | None:
    """What makes drafts of what streams teach; None: nothing is kept. Raises as `start_online`."""
    if not config.online.draft:
        return None
    # Only here: gguf takes a while to import.
    from verifier.server.drafts.described_draft import described_draft

    target = locate(config.target.model, default_cache_dir(os.environ))
    return start_online(config, service, draft_store(config), target, described_draft)


def make_loading_port(
    config: VerifierConfig,
    tokens: Mapping[str, str],
    percent: Callable[[], int | None],
    tls: ServerTls | None = None,
) -> LoadingPort:
    """The port while there is no service."""
    return LoadingPort(
        tokens,
        percent,
        max_connections=config.server.max_connections,
        stranger_limits=StrangerLimits.at(config.server.stranger_requests_per_second),
        tls=None if tls is None else tls.context,
    )


def operator_access(
    config: VerifierConfig, metrics_token: str | None, tokens: TokenRoles = NO_TOKENS
) -> OperatorAccess:
    """Who may see metrics."""
    return OperatorAccess(
        token=metrics_token, on_loopback=config.server.metrics_on_loopback, roles=tokens
    )


def replace_limits(service: VerifierService, server: VerifierServer, limits: LimitsSection) -> None:
    """Let a running verifier take over what each device may consume.

    Streams that run keep what they have; boards hear of another number of streams when they
    connect the next time.
    """
    context_tokens = service.limits.context_tokens
    service.limits = service_limits(limits, context_tokens)
    server.replace_limits(device_limits(limits, context_tokens))


def replace_policies(service: VerifierService, rounds: RoundsSection) -> None:
    """`replace_policy` at all workers, and at those that join later."""
    for planner in service.planners:
        replace_policy(planner, rounds)
    if service.workers is not None:
        service.workers.agree = lambda planner: replace_policy(planner, rounds)


def replace_policy(planner: RoundPlanner, rounds: RoundsSection) -> None:
    """Let a running planner take over the policy, and what may change with it.

    A policy that is in force already goes on with what it has learnt; `awc` learns nothing here,
    and may have other weights.
    """
    wanted = configured_policy(rounds)
    goes_on = type(wanted) is type(planner.policy) and not isinstance(wanted, AwcPolicy)
    policy = planner.policy if goes_on else wanted
    before, after = planner.settings.schedule, round_settings(rounds).schedule
    schedule = msgspec.structs.replace(
        before,
        limits=msgspec.structs.replace(before.limits, slowdown_limit=after.limits.slowdown_limit),
        uses_guard=after.uses_guard,
        measures_payoff=after.measures_payoff,
    )
    planner.replace_policy(policy, schedule)


def save_curve(config: VerifierConfig, service: VerifierService) -> None:
    """Keep what the running rounds taught about the target's speed, where that can be written."""
    if config.state.directory is None:
        return
    path = curve_path(config.state.directory, service.target.model_name)
    try:
        replace_file(path, service.planner.curve.to_json(), mode=0o644)
    except OSError as error:
        sentence = "the target's speed is not kept, so the next start measures it: %s: %s"
        logger.warning(sentence, error.filename or path, error.strerror)


def _read_or_measure_curve(
    config: VerifierConfig, loaded: LoadedTarget, tell: Tell, advance: Advance
) -> CostCurve:
    """The saved curve of this target, or a new one of a few seconds."""
    directory = config.state.directory
    if directory is not None:
        saved = read_curve(curve_path(directory, loaded.subject.model), loaded.subject)
        if saved is not None:
            return saved
    size = QUICK_ON_GPU if loaded.is_on_gpu else QUICK_ON_CPU
    grid = CurveGrid.of(loaded.target, config.rounds.max_round_tokens, size)
    tell(
        f"measuring {grid.num_rounds} rounds of the target; "
        "`goodspeed-verifier profile` measures more of them, once"
    )
    done = itertools.count(1)
    return measure_curve(
        loaded.target, grid, loaded.subject, lambda: advance(next(done) / grid.num_rounds)
    )
