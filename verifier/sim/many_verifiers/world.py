"""Many verifiers and their devices, played through a setting: a pure function of that and a seed.

All verifiers whose time has come run a round together, in arrays; between rounds they meet only at
routing, at the end of slices of time shorter than any round. The same rules as in
`verifier.sim.world`, where every message is an object; a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.arms import Arm, Verdicts
from verifier.sim.many_verifiers.drawing import DrawnDevices, draw_devices
from verifier.sim.many_verifiers.message_times import MessageKind, MessageTimes, Trip
from verifier.sim.many_verifiers.outcome import ManyOutcome, Tally, outcome_of
from verifier.sim.many_verifiers.parts import WHOLE, Exchange, News, Part, Rows, alone
from verifier.sim.many_verifiers.round_plan import RoundPlan, next_event, plan_rounds
from verifier.sim.many_verifiers.routing import Router, loads_of, prompt_backlog
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import GOODPUT_SMOOTHING, Devices, Targets

# Requests are routed so often, in parts of the shortest round.
SLICES_OF_ROUND = 2
TOKEN_SECONDS_SMOOTHING = 0.2


class ManyWorld:
    """Mutable state of one run."""

    def __init__(
        self,
        setting: ManySetting,
        seed: int,
        arm: Arm,
        drawn: DrawnDevices | None = None,
        part: Part = WHOLE,
        exchange: Exchange = alone,
    ) -> None:
        """One of the parts that the world is played in; all of them get the same outcome.

        Args:
            setting: the world.
            seed: of everything.
            arm: what keeps nothing of a device but in `Devices`, if there are several parts.
            drawn: in place of what the seed draws, for replayed texts.
            part: which verifiers this process plays.
            exchange: how it hears of the others.
        """
        self.setting = setting
        self.devices = Devices(setting, drawn or draw_devices(setting, seed))
        self.targets = Targets(setting)
        self.tally = Tally(setting)
        self._arm = arm
        self._router = Router(setting, seed)
        self._messages = MessageTimes(setting, seed)
        self._part = part
        self._owned = part.owns(len(setting.targets))
        self._exchange = exchange
        self._kept_of_devices = [*self.devices.arrays(), *self.tally.device_arrays()]
        self._ended: list[IntArray] = []  # devices whose requests ended in this slice

    def play(self, advance: Callable[[float], None] = lambda part: None) -> ManyOutcome:
        """To the end; `advance` gets the part that is done."""
        setting = self.setting
        shortest = min(kind.fixed_seconds for kind in setting.targets)
        num_slices = int(np.ceil(setting.seconds * SLICES_OF_ROUND / shortest))
        for number in range(1, num_slices + 1):
            until = setting.seconds * number / num_slices
            self._meet()
            self._route(until)
            while (active := self._owned & (self.targets.now < until)).any():
                self._step(active, until)
            advance(number / num_slices)
        is_open = self.devices.is_open
        self._ended.append(np.flatnonzero(is_open & self._owned[self.devices.target]))
        self._meet()
        which = np.flatnonzero(is_open)
        ends = np.full(len(which), setting.seconds)
        self.tally.count_open(which, self.devices.starts_at[which], ends)
        return outcome_of([*self._exchange(self.tally)], setting, self.targets)

    def _meet(self) -> None:
        """Hear of the requests that ended at other parts' verifiers, and of these."""
        devices, targets = self.devices, self.targets
        targets.prompt_backlog[:] = prompt_backlog(devices, len(targets))
        if self._part == WHOLE:
            return
        ended = np.concatenate([np.empty(0, dtype=np.int64), *self._ended])
        self._ended.clear()
        news = News(
            Rows.of(self._kept_of_devices, ended),
            Rows.of(targets.arrays(), np.flatnonzero(self._owned)),
        )
        for heard in self._exchange(news):
            heard.devices.put(self._kept_of_devices)
            heard.targets.put(targets.arrays())

    def _route(self, until: float) -> None:
        """Requests that are asked within this slice, in their order."""
        devices = self.devices
        starts_at = devices.starts_at
        asking = np.flatnonzero(~devices.is_open & (starts_at < until))
        asking = asking[np.argsort(starts_at[asking], kind="stable")]
        loads = loads_of(devices, self.targets)
        num_tokens = devices.drawn.prompt_tokens[asking, devices.places(asking)]
        ways = self._trips("request", asking, num_tokens - 1).seconds
        arrivals = starts_at[asking] + ways
        for device, arrives_at in zip(asking.tolist(), arrivals.tolist(), strict=True):
            target = self._router.route(device, loads, devices, self.targets)
            devices.begin(device, target, arrives_at)
            loads.add(target, devices.prompt_left[device])

    def _step(self, active: np.typing.NDArray[np.bool_], until: float) -> None:
        """A round of each of these verifiers; one that has nothing to do waits."""
        devices, targets = self.devices, self.targets
        plan = plan_rounds(self.setting, devices, targets, active)
        tested = self._arm.tested(devices, targets, plan.decoding)
        tested = np.minimum(tested, np.maximum(devices.output_left[plan.decoding] - 1, 0))
        seconds = self._round_seconds(plan, tested)
        runs = active & (seconds > 0.0)
        idles = active & ~runs
        events = next_event(devices, len(targets))
        targets.now[idles] = np.clip(events[idles], targets.now[idles], until)
        targets.now[runs] += seconds[runs]
        targets.busy_seconds[runs] += seconds[runs]
        self.tally.count_busy(np.flatnonzero(runs), targets.now[runs], seconds[runs])
        targets.num_rounds[runs] += 1
        targets.mean_seconds[runs] += GOODPUT_SMOOTHING * (
            seconds[runs] - targets.mean_seconds[runs]
        )
        targets.mean_waiting[runs] += GOODPUT_SMOOTHING * (
            plan.num_waiting[runs] - targets.mean_waiting[runs]
        )
        self._finish_reading(plan)
        self._finish_decoding(plan, tested, seconds)

    def _round_seconds(self, plan: RoundPlan, tested: IntArray) -> FloatArray:
        """Of each verifier; 0: it runs none [num_targets]."""
        devices, targets = self.devices, self.targets
        count = len(targets)
        of_target = devices.target[plan.decoding]
        if self.setting.is_padded:
            longest = np.zeros(count)
            np.maximum.at(longest, of_target, tested + 1.0)
            paid: FloatArray = longest[of_target]
        else:
            paid = tested.astype(np.float64) + 1.0
        tokens = _sums(of_target, paid, count)
        read = _sums(devices.target[plan.reading], plan.prompt_tokens, count)
        reading = targets.prompt_token_seconds * read
        seconds = targets.fixed_seconds + targets.token_seconds * tokens + reading
        return np.where((tokens > 0.0) | (read > 0.0), seconds, 0.0)

    def _finish_reading(self, plan: RoundPlan) -> None:
        devices = self.devices
        devices.prompt_left[plan.reading] -= plan.prompt_tokens
        ends = self.targets.now[devices.target[plan.reading]]
        devices.ready_at[plan.reading] = ends
        # The last pass over the prompt gives the first token; windows begin at 0: it is decoded
        # in the next round, which costs all arms the same.
        devices.window[plan.reading] = 0
        devices.answered_at[plan.reading] = ends

    def _finish_decoding(self, plan: RoundPlan, tested: IntArray, seconds: FloatArray) -> None:
        devices, which = self.devices, plan.decoding
        if not len(which):
            return
        of_target = devices.target[which]
        runs = devices.runs_ahead(which)
        num_right = np.minimum(tested, runs)
        up = self._trips("draft", which)
        verdicts = Verdicts(
            which=which,
            ended_at=self.targets.now[of_target],
            round_seconds=seconds[of_target],
            num_tested=tested,
            num_right=num_right,
            runs=runs,
            down_seconds=self._trips("verdict", which).seconds,
            up_seconds=up.seconds,
            up_resent_seconds=up.resent_seconds,
        )
        self._arm.observes(devices, verdicts)
        self._count(verdicts)
        self._arm.settle(devices, self.targets, verdicts)
        devices.position[which] += num_right + 1
        devices.output_left[which] -= num_right + 1
        self._close(verdicts)

    def _count(self, verdicts: Verdicts) -> None:
        """Estimates and sums."""
        devices, which = self.devices, verdicts.which
        num_tokens = verdicts.num_right + 1
        devices.observe_tokens(which, num_tokens)
        devices.rounds[which] += 1
        arrives_at = verdicts.ended_at + verdicts.down_seconds
        is_first = devices.rounds[which] == 1
        devices.first_token_at[which[is_first]] = arrives_at[is_first]
        pauses = (verdicts.ended_at - devices.answered_at[which]) / num_tokens
        known = devices.token_seconds[which]
        smoothed = known + TOKEN_SECONDS_SMOOTHING * (pauses - known)
        devices.token_seconds[which] = np.where(known > 0.0, smoothed, pauses)
        devices.answered_at[which] = verdicts.ended_at
        mean_tokens = self.targets.mean_tokens
        of_target = devices.target[which]
        counts = np.bincount(of_target, minlength=len(mean_tokens))
        sums = np.bincount(of_target, weights=verdicts.num_tested + 1.0, minlength=len(mean_tokens))
        has = counts > 0
        mean_tokens[has] += GOODPUT_SMOOTHING * (sums[has] / counts[has] - mean_tokens[has])
        self.tally.count_round(
            which, verdicts.ended_at, num_tokens, verdicts.num_tested, verdicts.num_right
        )

    def _close(self, verdicts: Verdicts) -> None:
        """Requests whose output is whole; the next one follows after a while."""
        devices = self.devices
        is_done = devices.output_left[verdicts.which] <= 0
        which = verdicts.which[is_done]
        if not len(which):
            return
        last_at = (verdicts.ended_at + verdicts.down_seconds)[is_done]
        self.tally.count_finished(
            devices.asked_at[which],
            devices.first_token_at[which],
            last_at,
            devices.drawn.output_tokens[which, devices.places(which)],
        )
        self.tally.count_open(which, devices.starts_at[which], verdicts.ended_at[is_done])
        if self._part != WHOLE:
            self._ended.append(which)
        devices.end(which, last_at)

    def _trips(
        self, kind: MessageKind, which: IntArray, num_further_tokens: IntArray | int = 0
    ) -> Trip:
        """Of one message of each device."""
        requests, rounds = self.devices.request[which], self.devices.rounds[which]
        return self._messages.trips(kind, which, requests, rounds, num_further_tokens)


def _sums(groups: IntArray, values: FloatArray | IntArray, count: int) -> FloatArray:
    """Of each group [count]."""
    sums: FloatArray = np.bincount(groups, weights=values, minlength=count).astype(np.float64)
    return sums
