"""Which verifier a new request goes to."""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.sim.many_verifiers.setting import RoutingName
from verifier.sim.many_verifiers.state import Devices, Targets

# Rounds of an answer, as a router may take them: it does not know how long one will be.
USUAL_ROUNDS = 64.0


class Router:
    """Knows how many requests each verifier has, and nothing of their texts."""

    def __init__(self, routing: RoutingName, num_targets: int, seed: int) -> None:
        self._routing = routing
        self._num_targets = num_targets
        self._random = np.random.default_rng([seed, 2])
        self._num_routed = 0

    def route(self, device: int, devices: Devices, targets: Targets) -> int:
        """For one request of a device, that counts from now on."""
        self._num_routed += 1
        match self._routing:
            case "pinned":
                return device % self._num_targets
            case "random":
                return int(self._random.integers(self._num_targets))
            case "round-robin":
                return (self._num_routed - 1) % self._num_targets
            case "jsq":
                return int(open_requests(devices, self._num_targets).argmin())
            case "jsq-2":
                pair = self._random.choice(
                    self._num_targets, size=min(2, self._num_targets), replace=False
                )
                queues = open_requests(devices, self._num_targets)[pair]
                return int(pair[queues.argmin()])
            case "least-price":
                return int(added_delay(devices, targets).argmin())


def open_requests(devices: Devices, num_targets: int) -> FloatArray:
    """Of each verifier [num_targets]."""
    counts = np.bincount(devices.target[devices.is_open], minlength=num_targets)
    return counts.astype(np.float64)


def added_delay(devices: Devices, targets: Targets) -> FloatArray:
    """Seconds that a request more would take, and make all others take [num_targets].

    Of each of its tokens: the round with it, for itself, and for each one there what it adds to
    that round. Once: the prompts before its own.
    """
    num_targets = len(targets)
    counts = open_requests(devices, num_targets)
    is_open = devices.is_open
    backlog = np.bincount(
        devices.target[is_open], weights=devices.prompt_left[is_open], minlength=num_targets
    )
    added = targets.token_seconds * targets.mean_tokens
    rounds = targets.fixed_seconds + added * (counts + 1.0)
    reading = backlog * (targets.prompt_token_seconds + rounds / targets.prompt_tokens_of_round)
    delays: FloatArray = USUAL_ROUNDS * (rounds + added * counts) + reading
    return delays
