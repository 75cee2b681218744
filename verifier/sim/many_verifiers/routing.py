"""Which verifier a new request goes to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.cost_curve.curve import CostCurve
from verifier.placement.price import Offer, cheapest
from verifier.sim.many_verifiers.setting import ManySetting, TargetKind
from verifier.sim.many_verifiers.state import Devices, Targets

# Rounds of an answer, as a router may take them: it does not know how long one will be.
USUAL_ROUNDS = 64.0
# Two points of a round's line.
LINE_TOKENS = (1, 1025)
ENDLESS = 1 << 40


class Loads(NamedTuple):
    """What each verifier has to do; both [num_targets]."""

    num_requests: FloatArray
    prompt_tokens: FloatArray  # of these, that are not read yet

    def add(self, target: int, num_prompt_tokens: int) -> None:
        """Another request."""
        self.num_requests[target] += 1.0
        self.prompt_tokens[target] += num_prompt_tokens


class Router:
    """Knows how many requests each verifier has, and nothing of their texts."""

    def __init__(self, setting: ManySetting, seed: int) -> None:
        self._routing = setting.routing
        self._num_targets = len(setting.targets)
        curves = {kind: curve_of(kind) for kind in set(setting.targets)}
        self._curves = [curves[kind] for kind in setting.targets]
        self._random = np.random.default_rng([seed, 2])
        self._num_routed = 0

    def route(self, device: int, loads: Loads, devices: Devices, targets: Targets) -> int:
        """For one request of a device."""
        self._num_routed += 1
        match self._routing:
            case "pinned":
                return device % self._num_targets
            case "random":
                return int(self._random.integers(self._num_targets))
            case "round-robin":
                return (self._num_routed - 1) % self._num_targets
            case "jsq":
                return int(loads.num_requests.argmin())
            case "jsq-2":
                pair = self._random.choice(
                    self._num_targets, size=min(2, self._num_targets), replace=False
                )
                return int(pair[loads.num_requests[pair].argmin()])
            case "least-price":
                return int(added_delay(loads, targets).argmin())
            case "placement":
                return self._placed(device, loads, devices)

    def _placed(self, device: int, loads: Loads, devices: Devices) -> int:
        """Where a verifier over many workers would serve it, if no cache is ever full."""
        counts = loads.num_requests.astype(np.int64).tolist()
        offers = [
            Offer(worker, curve, count, 0, num_cached_tokens=0, num_free_tokens=ENDLESS)
            for worker, (curve, count) in enumerate(zip(self._curves, counts, strict=True))
        ]
        prompts = devices.drawn.prompt_tokens
        place = devices.request[device] % prompts.shape[1]
        offer = cheapest(offers, int(prompts[device, place]))
        assert offer is not None, "there are verifiers"
        return offer.worker


def curve_of(kind: TargetKind) -> CostCurve:
    """As a verifier would have measured it: its curve does not tell prompts from other tokens."""
    line = [kind.fixed_seconds + kind.token_seconds * count for count in LINE_TOKENS]
    return CostCurve.from_samples(
        [(count, 1, seconds) for count, seconds in zip(LINE_TOKENS, line, strict=True)]
    )


def loads_of(devices: Devices, targets: Targets) -> Loads:
    """As they are now."""
    counts = np.bincount(devices.target[devices.is_open], minlength=len(targets))
    return Loads(counts.astype(np.float64), targets.prompt_backlog.copy())


def prompt_backlog(devices: Devices, num_targets: int) -> FloatArray:
    """Tokens of prompts that each verifier has not read yet [num_targets]."""
    is_open = devices.is_open
    target, prompt_left = devices.target[is_open], devices.prompt_left[is_open]
    backlog = np.bincount(target, weights=prompt_left, minlength=num_targets)
    return backlog.astype(np.float64)


def added_delay(loads: Loads, targets: Targets) -> FloatArray:
    """Seconds that a request more would take, and make all others take [num_targets].

    Of each of its tokens: the round with it, for itself, and for each one there what it adds to
    that round. Once: the prompts before its own.
    """
    counts, backlog = loads
    added = targets.token_seconds * targets.mean_tokens
    rounds = targets.fixed_seconds + added * (counts + 1.0)
    reading = backlog * (targets.prompt_token_seconds + rounds / targets.prompt_tokens_of_round)
    delays: FloatArray = USUAL_ROUNDS * (rounds + added * counts) + reading
    return delays
