"""Where workers come from: processes of this machine, Ray, and addresses of others."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from shared.config.secrets import read_key_file, read_secret_file
from shared.config.sections import changed_keys
from shared.errors import ConfigError
from verifier.config import VerifierConfig
from verifier.engine.worker import WorkerSource
from verifier.workers.agreement import check_agrees
from verifier.workers.distant_worker import DistantWorker
from verifier.workers.gpu_shares import environments_of, gpus_of, threads_of
from verifier.workers.local_worker import LocalWorker
from verifier.workers.messages import Facts
from verifier.workers.on_ray.keeper import Keeper, check_ray_is_installed
from verifier.workers.on_ray.messages import KeeperOrder, RayPlace, worker_name
from verifier.workers.on_ray.placed_worker import PlacedWorker
from verifier.workers.orders import WorkerOrder
from verifier.workers.remote_target import RemoteTarget, WorkerAddress
from verifier.workers.round_deadline import RoundDeadline
from verifier.workers.settings import ON_RAY

_OF_WORKERS = ("target", "rounds", "log", "state")  # sections
_GPUS_PER_WORKER = "workers.gpus_per_worker"
KEPT_MODULE = "verifier.commands.kept_worker"
KEPT_COMMAND = (sys.executable, "-m", KEPT_MODULE)


Found = tuple[WorkerSource, RoundDeadline]


class WorkerSources:
    """Where the workers of these settings come from, each with the deadline of its rounds."""

    def __init__(self, config: VerifierConfig) -> None:
        """Nothing is started yet.

        Raises:
            ConfigError: there is no room for them, or what keeps them is not installed.
        """
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
            self._keep(self._local(config, number, environment))
        self._started_at = time.time_ns() // 1_000_000
        self._secret = "" if section.secret_file is None else read_key_file(section.secret_file)
        self._keeper: Keeper | None = None
        if section.on_ray:
            numbers = range(len(self.all), len(self.all) + section.on_ray)
            own = self._secret if section.is_on_other_hosts else secrets.token_urlsafe(32)
            self._keeper = Keeper(_keeper_order(config, own, numbers))
            for number in numbers:
                self._keep(self._placed(self._keeper, number))
        for address in section.addresses:
            self._keep(self._distant(address))

    def another(self, where: str, number: int) -> Found:
        """One that joins later, at an address or at Ray.

        Raises:
            ConfigError: the settings do not let it join.
        """
        if where != ON_RAY:
            if not self._secret:
                raise ConfigError(("workers.secret_file: not set, so no worker can be let in",))
            return self._distant(where)
        if self._keeper is None:
            raise ConfigError(("workers.on_ray: 0, so there is no Ray to place a worker",))
        self._keeper.add(number)
        return self._placed(self._keeper, number)

    def _keep(self, found: Found) -> None:
        source, deadline = found
        self.all.append(source)
        self.deadlines.append(deadline)

    def _local(self, config: VerifierConfig, number: int, environment: dict[str, str]) -> Found:
        name = worker_name(number)
        order = WorkerOrder(name, secrets.token_urlsafe(32), settings_of_workers(config))
        deadline, check = self._deadline(), self._agreement.check_of(name)
        worker = LocalWorker(order, KEPT_COMMAND, environment, deadline, check)
        self.local.append(worker)
        return worker, deadline

    def _placed(self, keeper: Keeper, number: int) -> Found:
        deadline, check = self._deadline(), self._agreement.check_of(worker_name(number))
        return PlacedWorker(number, keeper, deadline, check, self._started_at), deadline

    def _distant(self, address: str) -> Found:
        deadline, check = self._deadline(), self._agreement.check_of(address)
        known = self._secret, deadline, check, self._started_at
        return DistantWorker(_address(address), *known), deadline

    def _deadline(self) -> RoundDeadline:
        return RoundDeadline(self._least_seconds)


def release_workers(config: VerifierConfig) -> None:
    """End all workers of the settings' namespace that outlived their verifier.

    Raises:
        ConfigError: the settings name no Ray of other hosts.
        GoodspeedError: there is no way in.
    """
    if not config.workers.is_on_other_hosts:
        raise ConfigError(("workers.ray: must be host:port of the Ray that has them",))
    keeper = Keeper(_keeper_order(config, "", ()))
    try:
        keeper.end_others()
    finally:
        keeper.close()


def settings_of_workers(config: VerifierConfig) -> dict[str, object]:
    """What a worker that is started must know: how to load, what rounds may hold, where curves are.

    Those on other hosts measure their own.
    """
    section = config.workers
    changed = changed_keys(VerifierConfig(), config)
    known = [
        key for key in changed if key.partition(".")[0] in _OF_WORKERS or key == _GPUS_PER_WORKER
    ]
    if section.is_on_other_hosts:
        known = [key for key in known if not key.startswith("state.")]
    settings: dict[str, object] = {}
    for key in known:
        of, _, name = key.partition(".")
        settings[key] = getattr(getattr(config, of), name)
    num_here = section.local + (0 if section.is_on_other_hosts else section.on_ray)
    num_processes = num_here * section.gpus_per_worker
    if config.target.threads == 0 and num_processes > 1:
        settings["target.threads"] = threads_of(num_processes)
    built: dict[str, object] = msgspec.to_builtins(settings, enc_hook=str)
    return built


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


def _keeper_order(config: VerifierConfig, secret: str, numbers: Sequence[int]) -> KeeperOrder:
    """Raises ConfigError: Ray is not installed, or cannot do that."""
    section, device = config.workers, config.target.device
    check_ray_is_installed()
    if device not in ("auto", "cpu", "cuda"):
        sentence = f"workers on Ray cannot share target.device = {device}"
        raise ConfigError((f"{sentence}; set target.device = auto",))
    is_local, token_file = not section.is_on_other_hosts, section.ray_token_file
    if not is_local:
        assert token_file is not None, "it was checked"
        read_secret_file(token_file)
    return KeeperOrder(
        ray=RayPlace("" if is_local else section.ray, "" if is_local else str(token_file)),
        is_local=is_local,
        namespace=section.ray_namespace,
        numbers=tuple(numbers),
        gpus_per_worker=section.gpus_per_worker,
        device=device,
        worker=WorkerOrder("", secret, settings_of_workers(config)),
        worker_module=KEPT_MODULE,
    )


def _address(text: str) -> WorkerAddress:
    host, _, port = text.rpartition(":")
    return WorkerAddress(host.strip("[]"), int(port))
