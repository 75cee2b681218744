"""What every board of a load test does: how many streams, how long, how fast it drafts.

Pure values. This module must never know a connection or a clock.
"""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

from edge_agent.drafting.settings import PREFILL_CHUNK_TOKENS, DraftSettings
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import MAX_63_BITS, AcceptanceMode
from shared.speculation.sampling import SamplingParameters

LoadMode = Literal["greedy", "coupled", "rejection"]

# Prompt and output ids go into one Open when a stream is taken up again.
MAX_STREAM_TOKENS = 32_768
# Boards read a prompt this many times as fast as they draft: Pi 5 and Jetson Nano do 5 to 8.
READ_SPEED_UP = 8.0


class FleetLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The load of one board; all of them do the same with other random numbers."""

    num_streams: int = 1  # open at once
    draft_tokens_per_second: float = 50.0
    mode: LoadMode = "greedy"
    temperature: float = 0.8  # of `coupled` and `rejection`
    prompt_tokens: int = 32
    output_tokens: int = 64
    think_seconds: float = 1.0  # on average, between the end of a stream and the next Open
    delay_seconds: float = 0.0  # added to every message, in each direction
    seed: int = 1

    @property
    def context_tokens(self) -> int:
        """What the board's draft model can hold of one stream."""
        return self.prompt_tokens + self.output_tokens

    @property
    def sampling(self) -> SamplingParameters:
        return SamplingParameters(temperature=0.0 if self.mode == "greedy" else self.temperature)

    @property
    def acceptance_mode(self) -> AcceptanceMode:
        return "rejection" if self.mode == "rejection" else "coupled"

    @property
    def draft_settings(self) -> DraftSettings:
        return DraftSettings(
            row_entries=32,
            confidence_stop=0.0,
            prefill_chunk_tokens=PREFILL_CHUNK_TOKENS,
            context_tokens=self.context_tokens,
        )

    def drafting_seconds(self, num_read_tokens: int, *, draws: bool) -> float:
        """How long a board takes to read some tokens and perhaps to draft one after them.

        The newest token is read in the pass that drafts, as in every language model.
        """
        drafts = float(draws)
        reads = max(num_read_tokens - drafts, 0.0) / READ_SPEED_UP
        return (reads + drafts) / self.draft_tokens_per_second

    def draw_request(
        self, random: Random, vocab_size: int, special_ids: frozenset[int]
    ) -> GenerationRequest:
        """A stream with a prompt of its own, of ordinary tokens."""
        prompt = [
            _ordinary(random.randrange(vocab_size), special_ids, vocab_size)
            for _ in range(self.prompt_tokens)
        ]
        return GenerationRequest(
            stream_id=random.randint(0, MAX_63_BITS),
            prompt_ids=tuple(prompt),
            sampling=self.sampling,
            seed=random.randint(0, MAX_63_BITS),
            max_tokens=self.output_tokens,
            acceptance_mode=self.acceptance_mode,
        )

    def draw_pause_seconds(self, random: Random) -> float:
        """Seconds until a person asks again."""
        return self.think_seconds * random.uniform(0.5, 1.5)


def _ordinary(token_id: int, special_ids: frozenset[int], vocab_size: int) -> int:
    while token_id in special_ids:
        token_id = (token_id + 1) % vocab_size
    return token_id
