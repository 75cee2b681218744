"""One round of the target: its items, what to check of each, and what became of them.

Frozen values, made by the planner, run by a `TargetModel`, settled by the planner.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from shared.protocol.logprobs import TokenLogprobs
from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import SamplingParameters
from shared.speculation.sparse_row import SparseRow
from verifier.target.processing import Processing, SeenTokens
from verifier.target.token_masks import TokenMasks


class ItemFailure(StrEnum):
    """Why a stream's part of a round failed, as the sentence that its client reads."""

    NON_FINITE_LOGITS = "the target model gave logits that are not finite"
    OUT_OF_MEMORY = "the target model ran out of memory"
    EXCEPTION = "the target model failed"  # the log has the traceback
    DEVICE_LOST = "the target model lost its device"
    WORKER_LOST = "the target model was lost in every round with this stream"
    GRAMMAR = (
        "the grammar needs more time or memory than a stream may use, or leads nowhere: simplify it"
    )


class DraftCheck(msgspec.Struct, frozen=True, gc=False):
    """What to check at the end of an item's tokens, and how to draw there."""

    draft_token_ids: tuple[int, ...]  # the last tokens of the item; may be empty
    rows: tuple[SparseRow, ...]  # one for each draft token in `rejection`, else empty
    mode: AcceptanceMode  # greedy is `coupled` with temperature 0
    sampling: SamplingParameters
    seed: int
    position: int  # output position of the first draft token
    draws_bonus: bool  # False: a chunk was cut in `rejection`; draw nothing after it
    processing: Processing | None = None  # None: the target's rows are sampled as they are
    seen: SeenTokens | None = None  # where penalties count what was written before
    num_logprobs: int | None = None  # of other tokens beside each own; None: not even its own
    masks: TokenMasks | None = None  # of its rows; None: no grammar, all tokens may come
    num_forced: int = 0  # the last ones of the drafts: the verifier's own, of a grammar

    @property
    def is_tested(self) -> bool:
        """Drafts are put to the test; others are compared with the target's own tokens."""
        return self.mode == "rejection" and not self.sampling.is_greedy

    @property
    def num_logit_rows(self) -> int:
        """Rows of logits that the check needs: its drafts', and one for the token after them."""
        return len(self.draft_token_ids) + (self.mode == "coupled" or self.draws_bonus)


class PromptRows(msgspec.Struct, frozen=True):
    """Rows of a part of a prompt, where its own log-probabilities are asked: of what follows each.

    They are made beside those of checks, and nothing is drawn from them.
    """

    first: int  # tokens of the item before the first of these rows
    next_ids: tuple[int, ...]  # the prompt's token behind each of the rows
    num_others: int  # that are told with each


class RoundItem(msgspec.Struct, frozen=True, gc=False):
    """One stream's part of a round: tokens to append to its cache, then a check or none.

    The cache holds `num_cached_tokens`; `token_ids` follow them (prompt, committed tokens, drafts).
    Without `draft_check` the item is a part of a prompt, and no logits are made but `prompt_rows`.
    """

    stream: int
    token_ids: tuple[int, ...]
    num_cached_tokens: int
    block_table: tuple[int, ...]  # blocks that hold num_cached_tokens + len(token_ids) tokens
    draft_check: DraftCheck | None
    prompt_rows: PromptRows | None = None

    @property
    def context_tokens(self) -> int:
        """Tokens that the item's last query sees."""
        return self.num_cached_tokens + len(self.token_ids)


class Round(msgspec.Struct, frozen=True):
    """One forward pass over the parts of many streams (a ragged batch)."""

    items: tuple[RoundItem, ...]

    @property
    def num_tokens(self) -> int:
        return sum([len(item.token_ids) for item in self.items])

    @property
    def context_tokens(self) -> int:
        return self.num_tokens + sum([item.num_cached_tokens for item in self.items])

    @property
    def num_prompt_rows(self) -> int:
        """Rows of logits beside those of checks."""
        return sum([len(item.prompt_rows.next_ids) for item in self.items if item.prompt_rows])


class ItemOutcome(msgspec.Struct, frozen=True, gc=False):
    """What the target made of one item: of its `draft_check` and its prompt, or that it failed.

    Of a check without an accepted token or one of its own: masks were late, it is to be made again.
    """

    num_accepted: int
    token_id: int | None  # recovered, bonus or drawn alone; None: it was not to be drawn
    accept_probs: tuple[
        float, ...
    ] = ()  # min(1, target/draft) of every draft token, in `rejection`
    failure: ItemFailure | None = None  # the stream must end
    logprobs: tuple[TokenLogprobs, ...] = ()  # of the accepted ones and the token, where asked
    forced_ids: tuple[int, ...] = ()  # behind them, as a grammar forces the text; to be tested
    prompt_logprobs: bytes = b""  # packed, of the tokens behind its prompt rows

    @property
    def is_late(self) -> bool:
        """Whether nothing could be drawn."""
        return self.token_id is None and not self.num_accepted and self.failure is None


def with_prompt(outcome: ItemOutcome | None, prompt_logprobs: bytes | ItemFailure) -> ItemOutcome:
    """The outcome of an item's check, if it has one, with that of its prompt rows."""
    outcome = outcome or ItemOutcome(0, None)
    if isinstance(prompt_logprobs, ItemFailure):
        return ItemOutcome(0, None, failure=outcome.failure or prompt_logprobs)
    return msgspec.structs.replace(outcome, prompt_logprobs=prompt_logprobs)


class RoundOutcome(msgspec.Struct, frozen=True):
    """Answers to a round: one entry for each item, None for one that has nothing to tell."""

    items: tuple[ItemOutcome | None, ...]
    forward_seconds: float  # the model alone
    sampling_seconds: float
    num_reruns: int = 0  # parts of it that were run again, after it had failed as a whole
    row_seconds: tuple[
        float | None, ...
    ] = ()  # for sampling a row of each item, None without one; empty where all cost the same
    scoring_seconds: float = 0.0  # for all prompt rows together, once their logits were there
