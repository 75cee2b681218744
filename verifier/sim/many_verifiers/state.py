"""Where all devices and verifiers are: arrays, one entry for each.

A device has one request at a time. This module must never decide anything.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies import MEMORY_LENGTH
from verifier.sim.many_verifiers.arrivals import NEVER
from verifier.sim.many_verifiers.drawing import NUM_POSITIONS, DrawnDevices
from verifier.sim.many_verifiers.message_times import MESSAGE_BYTES, byte_seconds
from verifier.sim.many_verifiers.parts import Array
from verifier.sim.many_verifiers.setting import ManySetting

# An unknown board, as the verifier takes it.
FIRST_ACCEPTANCE = 0.6
PRIOR_POSITIONS = 2.0
ACCEPTANCE_MEMORY = 0.97
GOODPUT_SMOOTHING = 0.1
STEADY_SMOOTHING = 0.02


class Devices:
    """Arrays [num_devices] of the devices' requests, as their verifiers see them."""

    def __init__(self, setting: ManySetting, drawn: DrawnDevices) -> None:
        count = setting.num_devices
        self.drawn = drawn
        self.draft_token_seconds = drawn.draft_token_seconds
        # From token to token of a draft that is sent as it is written: no faster than the link.
        link_seconds = byte_seconds(setting) * MESSAGE_BYTES["draft"]
        self.arrival_token_seconds = np.maximum(drawn.draft_token_seconds, link_seconds)
        self.target = np.zeros(count, dtype=np.int64)
        self.is_open = np.zeros(count, dtype=np.bool_)
        self.request = np.zeros(count, dtype=np.int64)  # which of its requests is next, or runs
        self.asked_at = drawn.first_asked_at.copy()
        self.free_at = np.zeros(count)  # when the answer before that was whole
        self.arrives_at = np.full(count, NEVER)  # of the request at its verifier
        self.ready_at = np.full(count, NEVER)  # when the next round may take it
        self.position = np.zeros(count, dtype=np.int64)  # in its text
        self.prompt_left = np.zeros(count, dtype=np.int64)
        self.output_left = np.zeros(count, dtype=np.int64)
        self.window = np.zeros(count, dtype=np.int64)
        self.own_length = np.zeros(count, dtype=np.int64)  # that a round should test of it
        self.path_begun_at = np.full(count, NEVER)  # when the board began to draft this path
        self.path_passed = np.zeros(count, dtype=np.int64)  # its tokens before the committed end
        self.path_limit = np.zeros(count, dtype=np.int64)  # tokens that it may have
        self.path_arrived = np.zeros(count, dtype=np.int64)
        self.path_held_until = np.zeros(count)  # nothing of it arrives before: a message was lost
        self.num_right = np.full(count, FIRST_ACCEPTANCE * PRIOR_POSITIONS)
        self.num_seen = np.full(count, PRIOR_POSITIONS)
        self.num_observed = np.zeros(count, dtype=np.int64)
        self.goodput = np.ones(count)
        self.steady_goodput = np.ones(count)
        self.memories = np.zeros((count, MEMORY_LENGTH))  # that a policy keeps with their streams
        self.token_seconds = np.zeros(count)  # from token to token, smoothed; 0: not known
        self.rounds = np.zeros(count, dtype=np.int64)  # of the request
        self.first_token_at = np.full(count, NEVER)
        self.answered_at = np.full(count, NEVER)  # when the latest tokens came

    def arrays(self) -> list[Array]:
        """All that changes."""
        fixed = ("drawn", "draft_token_seconds", "arrival_token_seconds")
        return [value for name, value in vars(self).items() if name not in fixed]

    @property
    def acceptance(self) -> FloatArray:
        """As the verifier believes."""
        rates: FloatArray = np.clip(self.num_right / self.num_seen, 0.01, 0.99)
        return rates

    def runs_ahead(self, which: IntArray) -> IntArray:
        """Right draft tokens in a row from the committed end on."""
        runs: IntArray = self.drawn.runs[which, self.position[which] % NUM_POSITIONS].astype(
            np.int64
        )
        return runs

    @property
    def starts_at(self) -> FloatArray:
        """When their requests are sent that are asked next, or were sent that run."""
        starts: FloatArray = np.maximum(self.asked_at, self.free_at)
        return starts

    def places(self, which: IntArray) -> IntArray:
        """Of their requests among all that were drawn for them."""
        places: IntArray = self.request[which] % self.drawn.prompt_tokens.shape[1]
        return places

    def begin(self, device: int, target: int, arrives_at: float) -> None:
        """A request reaches the verifier that it was routed to."""
        drawn = self.drawn
        request = self.request[device] % drawn.prompt_tokens.shape[1]
        self.target[device] = target
        self.is_open[device] = True
        self.arrives_at[device] = self.ready_at[device] = arrives_at
        self.position[device] = drawn.first_positions[device, request]
        self.prompt_left[device] = drawn.prompt_tokens[device, request]
        self.output_left[device] = drawn.output_tokens[device, request]
        self.path_begun_at[device] = NEVER
        self.path_passed[device] = self.path_limit[device] = self.path_arrived[device] = 0
        self.path_held_until[device] = 0.0
        self.memories[device] = 0.0
        self.rounds[device] = 0
        self.first_token_at[device] = NEVER

    def end(self, which: IntArray, last_at: FloatArray) -> None:
        """Answers are whole at these times; the next request follows when it does."""
        drawn = self.drawn
        if drawn.asked_at.shape[1]:
            self.asked_at[which] = drawn.asked_at[which, self.request[which] + 1]
        else:
            self.asked_at[which] = last_at + drawn.think_seconds[which, self.places(which)]
        self.free_at[which] = last_at
        self.is_open[which] = False
        self.ready_at[which] = NEVER
        self.request[which] += 1

    def observe(self, which: IntArray, num_right: IntArray, num_wrong: IntArray) -> None:
        """Tested positions, older ones fading."""
        seen = num_right + num_wrong
        fades = np.where(seen > 0, ACCEPTANCE_MEMORY, 1.0)
        self.num_right[which] = self.num_right[which] * fades + num_right
        self.num_seen[which] = self.num_seen[which] * fades + seen
        self.num_observed[which] += seen

    def observe_tokens(self, which: IntArray, num_tokens: IntArray) -> None:
        """Output of a round."""
        for name, smoothing in (
            ("goodput", GOODPUT_SMOOTHING),
            ("steady_goodput", STEADY_SMOOTHING),
        ):
            values = getattr(self, name)
            values[which] += smoothing * (num_tokens - values[which])


class Targets:
    """Arrays [num_targets] of the verifiers."""

    def __init__(self, setting: ManySetting) -> None:
        kinds = setting.targets
        self.fixed_seconds = np.array([kind.fixed_seconds for kind in kinds])
        self.token_seconds = np.array([kind.token_seconds for kind in kinds])
        self.prompt_token_seconds = np.array([kind.prompt_token_seconds for kind in kinds])
        self.prompt_tokens_of_round = setting.prompt_tokens_of_round
        self.now = np.zeros(len(kinds))
        self.busy_seconds = np.zeros(len(kinds))
        self.num_rounds = np.zeros(len(kinds), dtype=np.int64)
        self.mean_seconds = self.fixed_seconds.copy()  # of a round, smoothed
        self.mean_tokens = np.ones(len(kinds))  # that a stream has in a round, smoothed
        self.mean_waiting = np.zeros(len(kinds))  # streams that were ready for a round, smoothed
        self.prompt_backlog = np.zeros(len(kinds))  # tokens of prompts that are not read yet

    def arrays(self) -> list[Array]:
        """All that changes."""
        return [
            *(self.now, self.busy_seconds, self.num_rounds, self.mean_seconds),
            *(self.mean_tokens, self.mean_waiting, self.prompt_backlog),
        ]

    def __len__(self) -> int:
        return len(self.now)
