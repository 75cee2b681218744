"""What an operator sets about rounds: who drafts how much, and when a round starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from shared.config.sections import Section
from shared.protocol.messages import MAX_DRAFT_TOKENS
from verifier.policies import PolicyName
from verifier.rounds.prefix_names import PrefixSharing

MAX_STREAM_TOKENS = 1 << 20  # prompt and output, or the prompt alone


class RoundsSection(Section, frozen=True):
    """How rounds are planned: who drafts how much, and when a round starts."""

    policy: Annotated[
        PolicyName,
        Meta(description="who gets the draft tokens of a round; goodspeed and rate are fair"),
    ] = "rate"
    awc_weights: Annotated[
        Path | None,
        Meta(description="file of `train-awc --drafting ahead` for awc; none: what ships"),
    ] = None
    awc_waiting_weights: Annotated[
        Path | None,
        Meta(description="file of `train-awc` for awc's streams that wait for their draft"),
    ] = None
    budget_tokens: Annotated[
        Annotated[int, Meta(ge=0)] | Literal["auto"],
        Meta(description="draft tokens in one round; auto: as slowdown_limit allows"),
    ] = "auto"
    slowdown_limit: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="by how much drafts may lengthen a round; 0.05: 5 %"),
    ] = 0.05
    max_round_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 20,
            description="tokens in one round: drafts, one for each stream, and prompts",
        ),
    ] = 1024
    max_draft_length: Annotated[
        int, Meta(ge=0, le=64, description="draft tokens of one stream in one round")
    ] = 16
    max_window: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_DRAFT_TOKENS,
            description="how far a board may draft beyond the committed tokens; 0: no drafts",
        ),
    ] = 64
    prefill_chunk_tokens: Annotated[
        int, Meta(ge=1, le=1 << 20, description="prompt tokens in one round, over all streams")
    ] = 512
    prefill_slowdown_limit: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="by how much prompts may lengthen a round of others; 1.0: twice as long",
        ),
    ] = 1.0
    device_prefill_slowdown_limit: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="the same for what one or two devices have in it, but for a round in 400",
        ),
    ] = 0.15
    reserved_output_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_STREAM_TOKENS,
            description="cache that a stream takes ahead for its output, again whenever it is full",
        ),
    ] = 256
    prefix_sharing: Annotated[
        PrefixSharing,
        Meta(description="whose cached prompts a new one may begin with; all: timing tells"),
    ] = "device"
    draft_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=600.0,
            description="longest wait for a board that owes a sampled draft, whatever it says",
        ),
    ] = 10.0
    barrier: Annotated[
        bool, Meta(description="start a round only when every granted draft is there, as the paper")
    ] = False
    slo_token_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=600.0,
            description="promised for each token; a stream that would break it waits; 0: nothing",
        ),
    ] = 0.0
    slo_percentile: Annotated[
        float,
        Meta(ge=50.0, le=99.9, description="of a stream's tokens that come in time, as promised"),
    ] = 95.0
    guard: Annotated[
        bool,
        Meta(description="let the target go on alone where drafts do not pay"),
    ] = True
    measure_payoff: Annotated[
        bool,
        Meta(description="with guard: measure rounds without drafts too, and rest if faster"),
    ] = True

    def unfit(self) -> Iterator[tuple[str, str]]:
        """What goes into a round must fit into it."""
        limit = f"at most rounds.max_round_tokens = {self.max_round_tokens}"
        if self.budget_tokens != "auto" and self.budget_tokens > self.max_round_tokens:
            yield "budget_tokens", limit
        if self.prefill_chunk_tokens > self.max_round_tokens:
            yield "prefill_chunk_tokens", limit
        if self.slo_token_seconds and self.barrier:
            yield "slo_token_seconds", "0 with rounds.barrier, whose rounds wait for every board"
