"""How fast a stream was written while its board drafted; for comparing drafts."""

from __future__ import annotations

from dataclasses import dataclass

# Shorter streams say little, and most of them is the first tokens of an answer.
LEAST_TOKENS = 16


@dataclass(slots=True)
class DraftPace:
    """Of rounds in which it was allowed drafts, waiting included; those that read prompts aside."""

    draft: bytes  # the checksum of the one that its board used
    num_tokens: int = 0
    seconds: float = 0.0

    def observe(self, num_tokens: int, seconds: float) -> None:
        """A round gave the stream so many tokens, perhaps none."""
        self.num_tokens += num_tokens
        self.seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        """0: too little was seen."""
        is_enough = self.num_tokens >= LEAST_TOKENS and self.seconds > 0.0
        return self.num_tokens / self.seconds if is_enough else 0.0
