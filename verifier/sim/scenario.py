"""What a simulation plays: boards in groups, their links, the target's rounds, and what happens.

Pure values. This module must never read a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.config.sections import Section
from shared.config.words import must_be
from shared.protocol.messages import AcceptanceMode
from verifier.rounds.settings import RoundsSection

Values = float | tuple[float, ...]

# Draft tokens per second of SmolLM2-135M; where they come from says each profile.
PROFILE_SPEEDS = {"pi4": 39.0, "pi5": 90.0, "jetson-orin-nano": 165.0, "jetson-agx-orin": 165.0}
ProfileName = Literal["pi4", "pi5", "jetson-orin-nano", "jetson-agx-orin"]

_NUMBERS = must_be("a number, or a list of which every board takes one")
_RATES = must_be("a list of numbers from 0 to 1")


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a moment on drafts survive more or less often."""

    at_seconds: float
    acceptance: float


class Stall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A time in which a board computes nothing, though its link is up."""

    from_seconds: float
    to_seconds: float


class ScenarioSection(Section, frozen=True):
    """The run."""

    shows: Annotated[str, Meta(description="what this scenario shows, in a sentence")] = ""
    seconds: Annotated[float, Meta(ge=0.1, le=1e6, description="simulated time")] = 60.0
    seed: Annotated[int, Meta(ge=0, le=(1 << 31) - 1, description="of everything random")] = 1
    bin_seconds: Annotated[
        float, Meta(ge=0.01, le=1e5, description="of one point of the curves over time")
    ] = 1.0


class TargetSection(Section, frozen=True):
    """How long a round takes: a line, perhaps with stairs, or a saved cost curve."""

    fixed_milliseconds: Annotated[
        float, Meta(ge=0.001, le=1e6, description="c0, of a round without tokens")
    ] = 60.0
    token_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e5, description="c1, that every token of a round adds")
    ] = 0.24
    long_round_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 20)] | None,
        Meta(description="from so many on, as where prompts are read, a token adds less or more"),
    ] = None
    long_round_token_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e5, description="what each token beyond those adds")
    ] = 0.0
    stair_tokens: Annotated[
        int,
        Meta(ge=1, le=4096, description="a round costs as much as the next multiple of so many"),
    ] = 1
    jitter: Annotated[
        float, Meta(ge=0.0, le=1.0, description="deviation of the logarithm of a round's time")
    ] = 0.0
    board_slowdown: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="part by which a board that computes lengthens a round"),
    ] = 0.0
    curve: Annotated[
        Path | None, Meta(description="file of `goodspeed-verifier profile` in place of all these")
    ] = None


class BoardGroup(Section, frozen=True):
    """Boards that are alike, or differ by values of lists.

    Of a list each value is taken as often as every other, in an order that the seed draws.
    """

    count: Annotated[int, Meta(ge=1, le=100_000, description="boards")] = 1
    profile: Annotated[
        ProfileName | None, Meta(description="of devices/profiles: says how fast a board drafts")
    ] = None
    draft_tokens_per_second: Annotated[
        Values | None, Meta(extra=_NUMBERS, description="in place of the profile's; 50 without one")
    ] = None
    batch_growth: Annotated[
        float, Meta(ge=0.0, le=1.0, description="time of a further token read in the same step")
    ] = 0.15
    acceptance: Annotated[
        Values, Meta(extra=_NUMBERS, description="how often a draft token survives")
    ] = 0.8
    acceptance_by_position: Annotated[
        tuple[float, ...],
        Meta(extra=_RATES, description="in place of it, by position in the draft"),
    ] = ()
    confidence_rates: Annotated[
        tuple[float, ...],
        Meta(extra=_RATES, description="in place of it, by how sure the draft model is"),
    ] = ()
    confidence_shares: Annotated[
        tuple[float, ...], Meta(extra=_RATES, description="how often it is so sure")
    ] = ()
    confidence_persistence: Annotated[
        float, Meta(ge=0.0, le=0.999, description="chance to stay so sure at the next token")
    ] = 0.0
    trace: Annotated[
        Path | None,
        Meta(
            description="JSON list in place of it: of 0 and 1, which draft tokens were right, "
            "or of pairs with how sure the board was"
        ),
    ] = None
    tells_confidence: Annotated[
        bool, Meta(description="says how sure it is of each draft token, where it knows")
    ] = True
    changes: Annotated[
        tuple[Change, ...],
        Meta(
            extra=must_be("a list such as [{ at_seconds = 30.0, acceptance = 0.5 }]"),
            description="from when on acceptance is another",
        ),
    ] = ()
    stalls: Annotated[
        tuple[Stall, ...],
        Meta(
            extra=must_be("a list such as [{ from_seconds = 20.0, to_seconds = 30.0 }]"),
            description="when the board computes nothing",
        ),
    ] = ()
    round_trip_milliseconds: Annotated[
        Values,
        Meta(extra=_NUMBERS, description="of its link, of a message and its answer"),
    ] = 20.0
    jitter: Annotated[
        float, Meta(ge=0.0, le=3.0, description="deviation of the logarithm of a message's time")
    ] = 0.1
    loss: Annotated[
        float, Meta(ge=0.0, le=0.9, description="chance that a message must be sent again")
    ] = 0.0
    resend_milliseconds: Annotated[
        float, Meta(ge=0.0, le=1e5, description="after which it is sent again")
    ] = 200.0
    kilobits_per_second: Annotated[
        float, Meta(ge=0.0, le=1e9, description="of its link in each direction; 0: no limit")
    ] = 0.0
    mode: Annotated[AcceptanceMode, Meta(description="how drafts are accepted")] = "coupled"
    streams: Annotated[int, Meta(ge=1, le=256, description="at once, of each board")] = 1
    slo_milliseconds: Annotated[
        Annotated[float, Meta(ge=0.0, le=6e5)] | None,
        Meta(description="a token in so many is promised; 0: nothing; none: as rounds has it"),
    ] = None
    prompt_tokens: Annotated[int, Meta(ge=1, le=1 << 17, description="of each stream")] = 1
    output_tokens: Annotated[
        int, Meta(ge=0, le=1 << 20, description="of each stream; 0: it never ends")
    ] = 0
    think_seconds: Annotated[
        float, Meta(ge=0.0, le=1e6, description="from the end of a stream to the next, on average")
    ] = 1.0
    joins_at_seconds: Annotated[float, Meta(ge=0.0, le=1e6, description="when they come")] = 0.0
    join_spread_seconds: Annotated[
        float, Meta(ge=0.0, le=1e6, description="each at any time within this after it")
    ] = 0.05
    leaves_at_seconds: Annotated[
        Annotated[float, Meta(ge=0.0, le=1e6)] | None, Meta(description="when they go; none: never")
    ] = None

    def unfit(self) -> Iterator[tuple[str, str]]:
        """Lists hold numbers of the right size, and of sources of acceptance there is one."""
        rates = "above 0 and below 1"
        if any(not 0.0 < rate < 1.0 for rate in all_of(self.acceptance)):
            yield "acceptance", rates
        if any(not 0.0 < change.acceptance < 1.0 for change in self.changes):
            yield "changes", f"with an acceptance {rates}"
        for name in ("acceptance_by_position", "confidence_rates", "confidence_shares"):
            if any(not 0.0 <= rate <= 1.0 for rate in getattr(self, name)):
                yield name, "from 0 to 1 each"
        if self.draft_tokens_per_second is not None and any(
            speed <= 0.0 for speed in all_of(self.draft_tokens_per_second)
        ):
            yield "draft_tokens_per_second", "above 0"
        if any(milliseconds < 0.0 for milliseconds in all_of(self.round_trip_milliseconds)):
            yield "round_trip_milliseconds", "at least 0"
        if any(stall.from_seconds >= stall.to_seconds for stall in self.stalls):
            yield "stalls", "from an earlier to a later time"
        if len(self.confidence_rates) != len(self.confidence_shares):
            longer = len(self.confidence_rates) > len(self.confidence_shares)
            rates_and_shares = ("confidence_rates", "confidence_shares")
            yield rates_and_shares[not longer], f"as many as {rates_and_shares[longer]}"
        elif self.confidence_shares and not sum(self.confidence_shares) > 0.0:
            yield "confidence_shares", "not all 0"
        if self.leaves_at_seconds is not None and self.leaves_at_seconds <= self.joins_at_seconds:
            yield "leaves_at_seconds", f"after joins_at_seconds = {self.joins_at_seconds:g}"
        sources = (self.acceptance_by_position, self.confidence_rates, self.trace)
        if sum(bool(source) for source in sources) > 1:
            words = "alone, without acceptance_by_position, confidence_rates or trace"
            yield ("trace" if self.trace else "confidence_rates"), words

    @property
    def speeds(self) -> tuple[float, ...]:
        """Draft tokens per second, of which each board takes one."""
        if self.draft_tokens_per_second is not None:
            return all_of(self.draft_tokens_per_second)
        return (50.0 if self.profile is None else PROFILE_SPEEDS[self.profile],)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run depends on."""

    name: str
    run: ScenarioSection
    target: TargetSection
    rounds: RoundsSection
    boards: dict[str, BoardGroup]  # by the name of the group
    traces: dict[Path, tuple[bool, ...]] = {}  # what the files hold
    trace_confidences: dict[Path, bytes] = {}  # as many; 0: it was not told
    curve_json: bytes | None = None  # what `target.curve` holds

    @property
    def num_boards(self) -> int:
        return sum(group.count for group in self.boards.values())


def all_of(values: Values) -> tuple[float, ...]:
    """The values, also of a single one."""
    return values if isinstance(values, tuple) else (values,)
