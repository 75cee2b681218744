"""What a round asks of the target model and what it answers: frozen values, and the interface.

The planner makes a `Round`, an engine thread gives it to a `TargetModel`, the planner settles the
outcome.  This module must never import torch, so that planner, simulator and tests run without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from shared.messages import AcceptanceMode
from shared.sampling import SamplingParameters
from shared.sparse_rows import SparseRow

NON_FINITE_LOGITS = "the target model gave logits that are not finite"


class Verify(msgspec.Struct, frozen=True):
    """What to check at the end of an item's tokens, and how to draw there."""

    draft_token_ids: tuple[int, ...]  # the last tokens of the item; may be empty
    rows: tuple[SparseRow, ...]  # one for each draft token in `rejection`, else empty
    mode: AcceptanceMode  # greedy is `coupled` with temperature 0
    sampling: SamplingParameters
    seed: int
    position: int  # output position of the first draft token
    draws_bonus: bool  # False: a chunk was cut in `rejection`; draw nothing after it

    @property
    def is_tested(self) -> bool:
        """Drafts are put to the test; others are compared with the target's own tokens."""
        return self.mode == "rejection" and not self.sampling.is_greedy

    @property
    def num_logit_rows(self) -> int:
        """Rows of logits that the check needs: its drafts', and one for the token after them."""
        return len(self.draft_token_ids) + (self.mode == "coupled" or self.draws_bonus)


class RoundItem(msgspec.Struct, frozen=True):
    """One stream's part of a round: tokens to append to its cache, then a check or none.

    The cache holds `num_cached_tokens`; `token_ids` follow them (prompt, committed tokens, drafts).
    Without `verify` the item is a part of a prompt and no logits are made.
    """

    stream: int
    token_ids: tuple[int, ...]
    num_cached_tokens: int
    block_table: tuple[int, ...]  # blocks that hold num_cached_tokens + len(token_ids) tokens
    verify: Verify | None

    @property
    def context_tokens(self) -> int:
        """Tokens that the item's last query sees."""
        return self.num_cached_tokens + len(self.token_ids)


class Round(msgspec.Struct, frozen=True):
    """One forward pass over the parts of many streams (a ragged batch)."""

    items: tuple[RoundItem, ...]

    @property
    def num_tokens(self) -> int:
        return sum(len(item.token_ids) for item in self.items)

    @property
    def num_draft_tokens(self) -> int:
        return sum(len(item.verify.draft_token_ids) for item in self.items if item.verify)

    @property
    def context_tokens(self) -> int:
        return sum(item.context_tokens for item in self.items)


class ItemOutcome(msgspec.Struct, frozen=True):
    """What the target made of one item with `verify`."""

    num_accepted: int
    token_id: (
        int | None
    )  # recovered, bonus or drawn alone; None only when a bonus was not to be drawn
    accept_probs: tuple[
        float, ...
    ] = ()  # min(1, target/draft) of every draft token, in `rejection`
    failure: str | None = None  # the stream must end: one sentence (non-finite logits)


class RoundOutcome(msgspec.Struct, frozen=True):
    """Answers to a round: one entry for each item, None for items without `verify`."""

    items: tuple[ItemOutcome | None, ...]
    forward_seconds: float  # the model alone
    sampling_seconds: float


class TargetModel(Protocol):
    """The target behind one interface.  One thread uses it."""

    @property
    def model_name(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def context_tokens(self) -> int:
        """The longest sequence that the model can read."""
        ...

    @property
    def num_blocks(self) -> int:
        """Blocks in the key/value cache."""
        ...

    @property
    def block_tokens(self) -> int:
        """Tokens that one block holds."""
        ...

    def verify(self, round_: Round) -> RoundOutcome:
        """Run one round; blocks of the tables are written, nothing is kept about streams."""
        ...


class Tokenizer(Protocol):
    """The target's tokenizer and chat template; only the verifier has one."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The literal bytes of every id; special tokens too."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that print nothing."""
        ...

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end an output."""
        ...

    def encode_text(self, text: str) -> list[int]: ...

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of (role, content) turns and the opening of the assistant's next one.

        Raises:
            RequestRefused: the model has no chat template, or the template refuses the turns.
        """
        ...
