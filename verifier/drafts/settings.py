"""What an operator sets about drafts: those for boards, and those made of their streams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shared.config.sections import Section
from shared.config.words import must_be
from shared.protocol.handed_drafts.draft_offers import OFFER_NAME


class DraftsSection(Section, frozen=True):
    """Draft models for boards that reach no hub: `goodspeed-agent model pull` asks here."""

    directory: Annotated[
        Path | None,
        Meta(description="GGUF files; those with the target's vocabulary are offered; none: none"),
    ] = None
    bytes_per_second: Annotated[
        int,
        Meta(ge=1 << 16, le=1 << 40, description="all downloads together, at most"),
    ] = 20_000_000


class OnlineSection(Section, frozen=True):
    """Better drafts by what streams teach: off unless a draft is named. See docs/online.md."""

    draft: Annotated[
        str,
        Meta(
            pattern=rf"^({OFFER_NAME})?\Z",
            extra=must_be("the name of a draft in the registry, or empty"),
            description="of the registry, to be tuned on texts of streams, which are kept in "
            "memory for that; empty: off, nothing is kept",
        ),
    ] = ""
    most_tokens: Annotated[
        int, Meta(ge=1024, le=1 << 26, description="of texts that are kept, prompts included")
    ] = 1_000_000
    hours: Annotated[
        float, Meta(ge=0.01, le=24.0 * 90, description="how long they are kept at most")
    ] = 24.0
    least_wrong: Annotated[
        int,
        Meta(
            ge=16, le=1 << 24, description="new places where drafts were wrong, until it is tuned"
        ),
    ] = 2000
    minutes: Annotated[
        float, Meta(ge=0.01, le=600.0, description="of the processor's time for each training")
    ] = 20.0
    threads: Annotated[int, Meta(ge=1, le=256, description="of that training")] = 1
    device: Annotated[
        str,
        Meta(
            pattern=r"^(cpu|cuda(:\d{1,3})?)\Z",
            extra=must_be("cpu, cuda or cuda:N"),
            description="that it is on: cpu, cuda or cuda:N, which then needs memory beside the "
            "target's",
        ),
    ] = "cpu"
