"""From settings to a worker that serves its target, and to a service over several of them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from shared.config.model_files import default_cache_dir, locate
from shared.daemon.resources.cpu_threads import limit_spinning
from shared.errors import ModelError
from shared.protocol.fingerprint import fingerprint
from verifier.config import VerifierConfig
from verifier.cost_curve.curve import CostCurve
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.service import VerifierService
from verifier.engine.worker import Worker, WorkerSource
from verifier.startup import (
    Advance,
    Tell,
    load_and_measure,
    load_configured_target,
    make_planner,
    make_service,
    target_settings,
    told_defaults,
)
from verifier.target.rank_place import RankPlace
from verifier.target.target import TargetModel, Tokenizer
from verifier.torch_target.loading.lean_libraries import lean_imports
from verifier.worker_sources import WorkerSources, settings_of_workers
from verifier.workers.messages import PROOF_BYTES, Facts, Subject
from verifier.workers.orders import WorkerOrder
from verifier.workers.ranks.following import FollowingTarget
from verifier.workers.ranks.rank_processes import RankProcesses
from verifier.workers.remote_target import RemoteTarget
from verifier.workers.round_deadline import RoundDeadline
from verifier.workers.weights_fingerprint import weights_fingerprint

logger = logging.getLogger(__name__)

RANK_COMMAND = (sys.executable, "-m", "verifier.commands.kept_rank")


def load_worker(config: VerifierConfig, name: str, tell: Tell) -> tuple[TargetModel, Facts]:
    """A worker's target, measured, and what it says of itself.

    With several GPUs this process is the first of as many, and ends when one of them does.

    Raises:
        ModelError: the target cannot be loaded; the sentence says why.
    """
    place, num_ranks = None, config.workers.gpus_per_worker
    if num_ranks > 1:
        order = WorkerOrder(name, "", settings_of_workers(config))
        place = RankProcesses(num_ranks, RANK_COMMAND, order, os.environ).place
    loaded, curve = load_and_measure(config, tell, lambda fraction: None, place)
    target, subject = loaded.target, loaded.subject
    path = locate(config.target.model, default_cache_dir(os.environ))
    facts = Facts(
        proof=bytes(PROOF_BYTES),
        name=name,
        process_id=os.getpid(),
        subject=Subject(
            model_name=subject.model,
            weights=weights_fingerprint(path),
            vocabulary=fingerprint(loaded.tokenizer.token_bytes),
            dtype=subject.dtype,
            quantisation=subject.quantisation,
            batch_invariant=subject.batch_invariant,
        ),
        hardware=subject.device,
        vocab_size=target.vocab_size,
        context_tokens=target.context_tokens,
        num_blocks=target.num_blocks,
        block_tokens=target.block_tokens,
        curve=curve.to_json(),
        end_ids=tuple(sorted(loaded.tokenizer.end_ids)),
        defaults=loaded.defaults,
    )
    return target, facts


def load_rank(config: VerifierConfig, place: RankPlace) -> FollowingTarget:
    """A rank's part of the target of a worker.

    Raises:
        ModelError: it cannot be loaded; the sentence says why.
    """
    target = load_configured_target(config, lambda told: None, place).target
    return cast(FollowingTarget, target)  # what has a place is such a one


def load_service_of_workers(
    config: VerifierConfig, tell: Tell, advance: Advance = lambda fraction: None
) -> VerifierService:
    """Start and reach all workers, and serve with them; `tell` as in `load_service`.

    Raises:
        ConfigError: this machine has no room for them.
        GoodspeedError: one cannot be reached, or has another target; the sentence says why.
    """
    sources = WorkerSources(config)
    try:
        num_workers = len(sources.all)
        tell(f"loading {config.target.model} at {num_workers} workers")
        for local in sources.local:
            local.start()
        done = 0.0
        targets = []
        with ThreadPoolExecutor(num_workers, thread_name_prefix="goodspeed-reach") as threads:
            for target in threads.map(lambda source: source.reach(None), sources.all):
                targets.append(target)
                done += 1
                advance(done / num_workers)
        return _serve(config, sources, targets, tell)
    except BaseException:
        for source in sources.all:
            source.close()
        raise


def _serve(
    config: VerifierConfig, sources: WorkerSources, targets: Sequence[RemoteTarget], tell: Tell
) -> VerifierService:
    workers = [
        _worker(config, number, source, target, sources.deadlines[number])
        for number, (source, target) in enumerate(zip(sources.all, targets, strict=True))
    ]
    first = targets[0]
    tokenizer = _tokenizer(config, first)
    if fingerprint(tokenizer.token_bytes) != first.facts.subject.vocabulary:
        raise ModelError(
            f"target.model = {config.target.model} has another vocabulary here than at the worker "
            f"{sources.all[0].name}"
        )
    defaults = told_defaults(config, first.facts.defaults, tell)
    curve = workers[0].planner.curve

    def make_worker(where: str, number: int) -> Worker:
        source, deadline = sources.another(where, number)
        return _worker(config, number, source, source.reach(None), deadline)

    many = ManyWorkers(workers, make_worker)
    service = make_service(config, first, tokenizer, curve, defaults, many)
    service.grammars.prepare()
    return service


def _worker(
    config: VerifierConfig,
    number: int,
    source: WorkerSource,
    target: RemoteTarget,
    deadline: RoundDeadline,
) -> Worker:
    curve = CostCurve.from_json(target.facts.curve)
    deadline.follow(curve)
    return Worker(number, source, make_planner(config, target, curve), target)


def _tokenizer(config: VerifierConfig, target: RemoteTarget) -> Tokenizer:
    limit_spinning(os.environ)
    with lean_imports(os.environ):
        from verifier.torch_target.loading.target_tokenizer import load_tokenizer

    path = locate(config.target.model, default_cache_dir(os.environ))
    end_ids = frozenset(target.facts.end_ids)
    return load_tokenizer(path, target.vocab_size, end_ids, target_settings(config).template)
