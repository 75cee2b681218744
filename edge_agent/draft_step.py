"""What passes between a stream and those who work for it: settings, one step, one verdict.

Pure values.  This module must never know where a step is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.draw import DrawSpec, draw_token, path_seed
from shared.errors import RemoteProtocolError
from shared.messages import AcceptanceMode, Draft, Verdict
from shared.path import DraftToken, Extension, Path
from shared.sampling import SamplingParameters
from shared.sparse_rows import pack_rows
from shared.token_ids import count_token_ids, pack_token_ids


class DraftSettings(msgspec.Struct, frozen=True):
    """What the operator of a board sets about drafting."""

    row_entries: int
    confidence_stop: float
    prefill_chunk_tokens: int
    context_tokens: int
    ngram_tokens: int = 0  # the longest n-gram that is looked up; 0: the model drafts alone
    has_model: bool = True  # False: n-grams alone


class DraftStep(msgspec.Struct, frozen=True):
    """Tokens to feed to the draft model, and a draw after the last of them or none."""

    num_kept_tokens: int  # the slot is rolled back to these first
    token_ids: tuple[int, ...]
    spec: DrawSpec | None
    version: int

    def draw(self, logits: NDArray[np.float32] | None) -> DraftToken | None:
        """The drawn token; runs in the drafting thread."""
        return draw_token(self.spec, logits) if self.spec and logits is not None else None


class Committed(msgspec.Struct, frozen=True):
    """What a verdict committed."""

    token_ids: tuple[int, ...]
    num_accepted: int  # the first ones were drafted here
    num_tested: int  # the accepted ones, and the one that differed
    num_dead: int  # draft tokens that a difference made worthless
    num_survived: int  # draft tokens equal to what was committed there


def extension(base: int, position: int, tokens: Sequence[DraftToken]) -> Extension:
    """Tokens that are sent together as the path sees them: the last one ends the chunk."""
    last = len(tokens) - 1
    ending = [msgspec.structs.replace(t, ends_chunk=i == last) for i, t in enumerate(tokens)]
    return Extension(base, position, tuple(ending))


def draft_message(channel: int, draft: Extension, drafting_seconds: float) -> Draft:
    """The same as it is sent."""
    rows = tuple(token.row for token in draft.tokens if token.row is not None)
    return Draft(
        channel=channel,
        base=draft.base,
        offset=draft.position - draft.base,
        tokens=pack_token_ids([token.token_id for token in draft.tokens]),
        drafting_milliseconds=round(drafting_seconds * 1e3),
        rows=pack_rows(rows) if rows else b"",
    )


def accepted_ids(message: Verdict, position: int, path: Path) -> tuple[int, ...]:
    """The tokens of a path that a verdict accepts, when `position` tokens are committed.

    Raises:
        RemoteProtocolError: it is for another position, accepts what was not sent, or grants a
            window where nothing may be drafted.
    """
    if message.position != position:
        raise RemoteProtocolError(f"verdict at {message.position}, not at {position}")
    num_live = len(path.live)
    if message.num_accepted > num_live:
        raise RemoteProtocolError(
            f"verdict accepts {message.num_accepted} tokens of {num_live} sent"
        )
    after = position + message.num_accepted + count_token_ids(message.tokens)
    if message.window and after < path.base:
        raise RemoteProtocolError(f"verdict grants a window at {after}, before base {path.base}")
    return tuple(token.token_id for token in path.live[: message.num_accepted])


def committed(
    token_ids: tuple[int, ...], num_accepted: int, before: Path, after: Path
) -> Committed:
    """What these tokens did to the path that was sent."""
    num_dead = 0
    num_survived = min(len(before.live), len(token_ids))
    if after.base > before.base:
        num_survived = after.base - 1 - before.position
        num_dead = len(before.live) - num_survived
    num_tested = num_accepted + int(num_dead > 0)
    return Committed(token_ids, num_accepted, num_tested, num_dead, num_survived)


def draw_spec(
    mode: AcceptanceMode,
    sampling: SamplingParameters,
    settings: DraftSettings,
    seed: int,
    base: int,
    position: int,
    *,
    is_guess: bool,
) -> DrawSpec:
    """How the token at a position of the path that began at `base` is to be drawn."""
    is_shared = mode == "coupled" or is_guess  # the verifier draws with this noise, too
    return DrawSpec(
        mode=mode,
        sampling=sampling,
        seed=seed if is_shared else path_seed(seed, base),
        position=position,
        is_guess=is_guess,
        row_entries=settings.row_entries,
        confidence_stop=0.0 if is_guess else settings.confidence_stop,
    )


def tokens_between(
    prompt_ids: tuple[int, ...],
    output_ids: Sequence[int],
    drafted_ids: Sequence[int],
    start: int,
    end: int,
) -> tuple[int, ...]:
    """Tokens `start` to `end` of prompt, committed and drafted ones in a row."""
    num_settled = len(prompt_ids) + len(output_ids)
    if start >= num_settled:  # mostly; a long prompt need not be copied for it
        return tuple(drafted_ids[start - num_settled : end - num_settled])
    return (*prompt_ids, *output_ids, *drafted_ids)[start:end]
