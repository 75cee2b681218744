"""A world of many verifiers as a scenario says it: sections of settings, and the world of them.

Pure values. This module must never read a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.config.sections import Section
from verifier.policies import policy_named
from verifier.sim.many_verifiers.ahead import AheadArm, PolicyDecider
from verifier.sim.many_verifiers.arms import Arm, WaitingArm
from verifier.sim.many_verifiers.setting import ManySetting, RoutingName, TargetKind
from verifier.sim.many_verifiers.windows import StaticWindows

Range = tuple[float, float]
CountRange = tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]


class RunSection(Section, frozen=True):
    """The run."""

    shows: Annotated[str, Meta(description="what this scenario shows, in a sentence")] = ""
    seconds: Annotated[float, Meta(ge=0.1, le=1e5, description="simulated time")] = 60.0
    warm_up_seconds: Annotated[
        float, Meta(ge=0.0, le=1e5, description="before this nothing is counted")
    ] = 5.0
    seed: Annotated[int, Meta(ge=0, le=(1 << 31) - 1, description="of everything random")] = 1
    bin_seconds: Annotated[
        float, Meta(ge=0.1, le=1e5, description="of one point of the figures over time")
    ] = 1.0

    def unfit(self) -> Iterator[tuple[str, str]]:
        """There is something to count."""
        if self.warm_up_seconds >= self.seconds:
            yield "warm_up_seconds", f"less than scenario.seconds = {self.seconds:g}"


class VerifiersSection(Section, frozen=True):
    """Verifiers, and how they plan rounds."""

    count: Annotated[int, Meta(ge=1, le=10_000, description="verifiers")] = 20
    fixed_milliseconds: Annotated[
        float, Meta(ge=0.1, le=1e5, description="c0 of the quickest, of a round without tokens")
    ] = 40.0
    token_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e4, description="c1, that each token adds")
    ] = 0.16
    prompt_token_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e4, description="that each token of a prompt adds")
    ] = 0.1
    slowness: Annotated[
        tuple[Annotated[float, Meta(ge=0.1, le=100.0)], ...],
        Meta(min_length=1, description="times that, dealt out over the verifiers"),
    ] = (1.0,)
    routing: Annotated[RoutingName, Meta(description="where a new request goes")] = "placement"
    policy: Annotated[
        Literal["rate", "goodspeed", "awc", "greedy", "fixed", "threshold", "none"],
        Meta(description="who may draft how much; none: the targets alone"),
    ] = "rate"
    slowdown_limit: Annotated[
        float, Meta(ge=0.0, le=10.0, description="by how much drafts may lengthen a round")
    ] = 0.05
    max_batch: Annotated[int, Meta(ge=1, le=4096, description="streams in one round")] = 256


class DevicesSection(Section, frozen=True):
    """Devices, their drafts and their links."""

    count: Annotated[int, Meta(ge=1, le=1_000_000, description="devices")] = 600
    draft_tokens_per_second: Annotated[
        tuple[Annotated[float, Meta(ge=0.1, le=1e5)], ...],
        Meta(min_length=1, description="dealt out over the devices"),
    ] = (25.0, 40.0, 60.0)
    acceptance: Annotated[
        Range, Meta(description="how often a draft token survives: devices lie evenly between")
    ] = (0.6, 0.9)
    trace: Annotated[
        Path | None, Meta(description="recorded draft tokens, in place of acceptance")
    ] = None
    round_trip_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e5, description="there and back")
    ] = 10.0
    jitter: Annotated[
        float, Meta(ge=0.0, le=2.0, description="deviation of the logarithm of a message's time")
    ] = 0.1

    loss: Annotated[
        float, Meta(ge=0.0, le=0.9, description="chance that a message must be sent again")
    ] = 0.0
    resend_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e5, description="after which it is sent again")
    ] = 200.0
    kilobits_per_second: Annotated[
        float, Meta(ge=0.0, le=1e9, description="of a link in each direction; 0: no limit")
    ] = 0.0

    def unfit(self) -> Iterator[tuple[str, str]]:
        """Rates are rates."""
        least, most = self.acceptance
        if not 0.0 <= least <= most < 1.0:
            yield "acceptance", "two rates from 0 to below 1, the lower one first"


class RequestsSection(Section, frozen=True):
    """What devices ask; each pair of numbers is a range."""

    prompt_tokens: Annotated[CountRange, Meta(description="of a request")] = (60, 160)
    output_tokens: Annotated[CountRange, Meta(description="of its answer")] = (80, 240)
    think_seconds: Annotated[Range, Meta(description="from an answer to the next request")] = (
        *(0.5, 1.5),
    )

    per_second: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1e6,
            description="of all devices together, in a Poisson process in place of think_seconds",
        ),
    ] = 0.0
    trace: Annotated[
        Path | None,
        Meta(
            description="JSON list of [seconds, prompt tokens, output tokens] of requests in the "
            "order of time, in place of all these"
        ),
    ] = None

    def unfit(self) -> Iterator[tuple[str, str]]:
        """Ranges run upwards, and arrivals have one source."""
        if self.trace is not None and self.per_second:
            yield "per_second", "0 beside requests.trace"
        for key in ("prompt_tokens", "output_tokens", "think_seconds"):
            least, most = getattr(self, key)
            if not 0 <= least <= most:
                yield key, "two numbers from 0 on, the lower one first"


class ManyScenario(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run depends on, but for recorded tokens."""

    scenario: RunSection = RunSection()
    verifiers: VerifiersSection = VerifiersSection()
    devices: DevicesSection = DevicesSection()
    requests: RequestsSection = RequestsSection()

    @property
    def setting(self) -> ManySetting:
        """The world."""
        run, verifiers, devices = self.scenario, self.verifiers, self.devices
        quickest = TargetKind(
            "quickest",
            1e-3 * verifiers.fixed_milliseconds,
            1e-3 * verifiers.token_milliseconds,
            1e-3 * verifiers.prompt_token_milliseconds,
        )
        kinds = [quickest.slower(f"{times:g} times", times) for times in verifiers.slowness]
        return ManySetting(
            targets=tuple(kinds[i % len(kinds)] for i in range(verifiers.count)),
            num_devices=devices.count,
            draft_tokens_per_second=devices.draft_tokens_per_second,
            acceptance=devices.acceptance,
            round_trip_seconds=1e-3 * devices.round_trip_milliseconds,
            jitter=devices.jitter,
            loss=devices.loss,
            resend_seconds=1e-3 * devices.resend_milliseconds,
            bytes_per_second=125.0 * devices.kilobits_per_second,
            prompt_tokens=self.requests.prompt_tokens,
            output_tokens=self.requests.output_tokens,
            think_seconds=self.requests.think_seconds,
            requests_per_second=self.requests.per_second,
            seconds=run.seconds,
            warm_up_seconds=run.warm_up_seconds,
            bin_seconds=run.bin_seconds,
            routing=verifiers.routing,
            max_batch=verifiers.max_batch,
        )

    def arm(self) -> Arm:
        """How its streams draft."""
        verifiers = self.verifiers
        if verifiers.policy == "none":
            return WaitingArm(self.setting, StaticWindows(0))
        policies = [policy_named(verifiers.policy) for _ in range(verifiers.count)]
        return AheadArm(PolicyDecider(self.setting, policies, verifiers.slowdown_limit))
