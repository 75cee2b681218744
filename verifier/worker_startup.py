"""From settings to a worker that serves its target, and to a service over several of them."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import msgspec

from shared.config.model_files import default_cache_dir, locate
from shared.config.secrets import read_key_file
from shared.config.sections import changed_keys
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
from verifier.workers.agreement import check_agrees
from verifier.workers.distant_worker import DistantWorker
from verifier.workers.gpu_shares import environments_of, gpus_of, threads_of
from verifier.workers.local_worker import LocalWorker
from verifier.workers.messages import PROOF_BYTES, Facts, Subject
from verifier.workers.orders import WorkerOrder
from verifier.workers.ranks.following import FollowingTarget
from verifier.workers.ranks.rank_processes import RankProcesses
from verifier.workers.remote_target import RemoteTarget, WorkerAddress
from verifier.workers.round_deadline import RoundDeadline
from verifier.workers.weights_fingerprint import weights_fingerprint

logger = logging.getLogger(__name__)

_OF_WORKERS = ("target", "rounds", "log", "state")  # sections
_GPUS_PER_WORKER = "workers.gpus_per_worker"
KEPT_COMMAND = (sys.executable, "-m", "verifier.commands.kept_worker")
RANK_COMMAND = (sys.executable, "-m", "verifier.commands.kept_rank")


def load_worker(config: VerifierConfig, name: str, tell: Tell) -> tuple[TargetModel, Facts]:
    """A worker's target, measured, and what it says of itself.

    With several GPUs this process is the first of as many, and ends when one of them does.

    Raises:
        ModelError: the target cannot be loaded; the sentence says why.
    """
    place, num_ranks = None, config.workers.gpus_per_worker
    if num_ranks > 1:
        order = WorkerOrder(name, "", _settings_of(config))
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
    sources = _Sources(config)
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


@dataclass
class _Agreement:
    """What the first worker had; those after it must have the same."""

    first: Facts | None = None

    def check_of(self, name: str) -> Callable[[RemoteTarget], None]:
        def check(target: RemoteTarget) -> None:
            if self.first is None:
                self.first = target.facts
            check_agrees(name, target.facts, self.first)

        return check


class _Sources:
    """Where the workers of these settings come from, each with the deadline of its rounds."""

    def __init__(self, config: VerifierConfig) -> None:
        section = config.workers
        self._agreement = _Agreement()
        self.deadlines: list[RoundDeadline] = []
        self.local: list[LocalWorker] = []
        self.all: list[WorkerSource] = []
        self._least_seconds = section.round_deadline_seconds
        gpus = gpus_of(os.environ)
        each = section.gpus_per_worker
        environments = environments_of(section.local, each, config.target.device, os.environ, gpus)
        for number, environment in enumerate(environments):
            self._add_local(config, number, environment)
        started_at = time.time_ns() // 1_000_000
        secret = "" if section.secret_file is None else read_key_file(section.secret_file)
        for address in section.addresses:
            where, deadline = _address(address), self._deadline()
            check = self._agreement.check_of(address)
            self.all.append(DistantWorker(where, secret, deadline, check, started_at))

    def _add_local(self, config: VerifierConfig, number: int, environment: dict[str, str]) -> None:
        name = f"worker {number}"
        order = WorkerOrder(name, secrets.token_urlsafe(32), _settings_of(config))
        deadline, check = self._deadline(), self._agreement.check_of(name)
        worker = LocalWorker(order, KEPT_COMMAND, environment, deadline, check)
        self.local.append(worker)
        self.all.append(worker)

    def _deadline(self) -> RoundDeadline:
        self.deadlines.append(RoundDeadline(self._least_seconds))
        return self.deadlines[-1]


def _serve(
    config: VerifierConfig, sources: _Sources, targets: Sequence[RemoteTarget], tell: Tell
) -> VerifierService:
    workers = []
    for number, (source, target) in enumerate(zip(sources.all, targets, strict=True)):
        curve = CostCurve.from_json(target.facts.curve)
        sources.deadlines[number].follow(curve)
        workers.append(Worker(number, source, make_planner(config, target, curve), target))
    first = targets[0]
    tokenizer = _tokenizer(config, first)
    if fingerprint(tokenizer.token_bytes) != first.facts.subject.vocabulary:
        raise ModelError(
            f"target.model = {config.target.model} has another vocabulary here than at the worker "
            f"{sources.all[0].name}"
        )
    defaults = told_defaults(config, first.facts.defaults, tell)
    curve = workers[0].planner.curve
    service = make_service(config, first, tokenizer, curve, defaults, ManyWorkers(workers))
    service.grammars.prepare()
    return service


def _tokenizer(config: VerifierConfig, target: RemoteTarget) -> Tokenizer:
    limit_spinning(os.environ)
    with lean_imports(os.environ):
        from verifier.torch_target.loading.target_tokenizer import load_tokenizer

    path = locate(config.target.model, default_cache_dir(os.environ))
    end_ids = frozenset(target.facts.end_ids)
    return load_tokenizer(path, target.vocab_size, end_ids, target_settings(config).template)


def _settings_of(config: VerifierConfig) -> dict[str, object]:
    """What a local worker must know: how to load, what rounds may hold, where curves are."""
    changed = changed_keys(VerifierConfig(), config)
    known = [
        key for key in changed if key.partition(".")[0] in _OF_WORKERS or key == _GPUS_PER_WORKER
    ]
    settings: dict[str, object] = {}
    for key in known:
        section, _, name = key.partition(".")
        settings[key] = getattr(getattr(config, section), name)
    num_processes = config.workers.local * config.workers.gpus_per_worker
    if config.target.threads == 0 and num_processes > 1:
        settings["target.threads"] = threads_of(num_processes)
    built: dict[str, object] = msgspec.to_builtins(settings, enc_hook=str)
    return built


def _address(text: str) -> WorkerAddress:
    host, _, port = text.rpartition(":")
    return WorkerAddress(host.strip("[]"), int(port))
