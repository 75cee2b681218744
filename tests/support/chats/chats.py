"""One question of a test: as a request to an agent, and as a body for its API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import chat


@dataclass(frozen=True)
class Chat:
    """One question, known by its prompt."""

    prompt: str
    sampling: SamplingParameters
    seed: int
    max_tokens: int
    mode: AcceptanceMode = "coupled"

    @property
    def request(self) -> GenerationRequest:
        return GenerationRequest(
            messages=chat(self.prompt),
            sampling=self.sampling,
            seed=self.seed,
            max_tokens=self.max_tokens,
            acceptance_mode=self.mode,
        )

    @property
    def without_drafts(self) -> GenerationRequest:
        return msgspec.structs.replace(self.request, draft_length=0)

    @property
    def body(self) -> dict[str, Any]:
        """The same for the API."""
        return {
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "top_k": self.sampling.top_k,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "goodspeed": {"acceptance_mode": self.mode},
        }
