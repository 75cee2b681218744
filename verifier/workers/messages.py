"""What a verifier and a worker say to each other: MessagePack arrays with a limit on every field.

Numbers of many streams travel as one array of bytes (little-endian), tables of blocks as runs.
This module must never open a socket.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.protocol.logprobs import MAX_PROMPT_LOGPROB_BYTES
from shared.protocol.messages import MAX_63_BITS, AcceptanceMode
from shared.speculation.logit_processors import MAX_LOGPROBS, LogitProcessors
from shared.speculation.model_defaults import ModelDefaults
from shared.speculation.sampling import SamplingParameters
from verifier.target.round import ItemFailure

# Raised whenever a verifier and a worker of two versions would not understand each other.
VERSION = 3
NONCE_BYTES = PROOF_BYTES = 32
MAX_ITEMS = 1 << 16
# Of one frame: 64 streams with rows of 64 entries take 0.4 MB, masks of as many 50 MB.
MAX_FRAME_BYTES = 256 << 20
# From a peer that has not shown the secret.
MAX_STRANGER_BYTES = 1024

_Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Proof = Annotated[bytes, Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]
_Text = Annotated[str, Meta(max_length=500)]
_Count = Annotated[int, Meta(ge=0, le=1 << 30)]
_Id = Annotated[int, Meta(ge=0, lt=1 << 24)]
_Seconds = Annotated[float, Meta(ge=0.0, le=1e6)]
_Packed = Annotated[bytes, Meta(max_length=MAX_FRAME_BYTES)]


class _Message(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    pass


class Challenge(_Message, frozen=True, tag=1):
    """The worker's first word."""

    version: _Count
    nonce: _Nonce


class Proof(_Message, frozen=True, tag=2):
    """The verifier's answer: it has the secret, and wants to see that the worker has it.

    Of two verifiers the one that was started later has the worker, however often both connect.
    """

    version: _Count
    nonce: _Nonce
    proof: _Proof
    started_at: Annotated[int, Meta(ge=0, le=MAX_63_BITS)]  # milliseconds since 1970


class Subject(_Message, frozen=True):
    """What is computed, and in which numbers: all workers of one verifier must have the same."""

    model_name: _Text
    weights: _Text  # a fingerprint of them
    vocabulary: Annotated[bytes, Meta(max_length=1 << 16)]  # as in the boards' handshake
    dtype: _Text
    quantisation: _Text
    batch_invariant: bool


class Facts(_Message, frozen=True, tag=3):
    """The worker has the secret, too, and this is its target."""

    proof: _Proof
    name: _Text
    process_id: _Count
    subject: Subject
    hardware: _Text
    vocab_size: Annotated[int, Meta(ge=1, lt=1 << 24)]
    context_tokens: Annotated[int, Meta(ge=1, le=1 << 30)]
    num_blocks: Annotated[int, Meta(ge=1, le=1 << 30)]
    block_tokens: Annotated[int, Meta(ge=1, le=1 << 20)]
    curve: Annotated[bytes, Meta(max_length=4 << 20)]  # how long its rounds take, as JSON
    end_ids: Annotated[tuple[_Id, ...], Meta(max_length=1024)]
    defaults: ModelDefaults


class WireSeen(_Message, frozen=True):
    """The `SeenTokens` of a stream's check, beside what its check before had.

    Of tokens that were known then counts may have changed; others are new, behind them.
    """

    num_known: _Count
    new_ids: _Packed  # <u4
    changed: _Packed  # <u4, places among those known
    counts: _Packed  # <f4, of those that changed and then of the new ones
    draft_places: _Packed  # <u4, of each draft


class WireCheck(_Message, frozen=True):
    """A `DraftCheck`; its drafts are the item's last tokens, its rows stand with all others."""

    num_drafts: _Count
    mode: AcceptanceMode
    sampling: SamplingParameters
    seed: Annotated[int, Meta(ge=0, le=MAX_63_BITS)]
    position: _Count
    draws_bonus: bool
    num_rows: _Count = 0
    has_masks: bool = False
    num_forced: _Count = 0
    num_logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    processors: LogitProcessors | None = None
    end_ids: Annotated[tuple[_Id, ...], Meta(max_length=1024)] = ()
    seen: WireSeen | None = None  # where penalties count


class WirePromptRows(_Message, frozen=True):
    """The `PromptRows` of an item."""

    item: _Count
    first: _Count
    next_ids: _Packed  # <u4
    num_others: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]


class WireRound(_Message, frozen=True, tag=4):
    """A `Round`, column by column."""

    streams: _Packed  # <u8 [num_items]
    num_tokens: _Packed  # <u4 [num_items]
    num_cached_tokens: _Packed  # <u4 [num_items]
    token_ids: _Packed  # <u4, of all items
    num_runs: _Packed  # <u4 [num_items]
    runs: _Packed  # <u4, first block and number of blocks, of all items
    checks: Annotated[tuple[WireCheck | None, ...], Meta(max_length=MAX_ITEMS)]
    num_row_entries: _Packed = b""  # <u2, of every draft token with a row
    row_token_ids: _Packed = b""  # <u4
    row_weights: _Packed = b""  # <u2
    prompt_rows: Annotated[tuple[WirePromptRows, ...], Meta(max_length=MAX_ITEMS)] = ()


_Logprob = tuple[float | None, Annotated[tuple[tuple[_Id, float], ...], Meta(max_length=64)]]


class WireAnswer(_Message, frozen=True):
    """An `ItemOutcome`."""

    num_accepted: _Count
    token_id: _Id | None = None
    accept_probs: Annotated[tuple[float, ...], Meta(max_length=1024)] = ()
    failure: ItemFailure | None = None
    logprobs: Annotated[tuple[_Logprob, ...], Meta(max_length=1025)] = ()
    prompt_logprobs: Annotated[bytes, Meta(max_length=MAX_PROMPT_LOGPROB_BYTES)] = b""


class WireOutcome(_Message, frozen=True, tag=5):
    """A `RoundOutcome`."""

    answers: Annotated[tuple[WireAnswer | None, ...], Meta(max_length=MAX_ITEMS)]
    forward_seconds: _Seconds
    sampling_seconds: _Seconds
    row_seconds: Annotated[tuple[_Seconds | None, ...], Meta(max_length=MAX_ITEMS)] = ()
    scoring_seconds: _Seconds = 0.0


class Failed(_Message, frozen=True, tag=6):
    """The target failed in the round as a whole; parts of it may be run, but by a lost device."""

    cause: Literal["memory", "device", "exception"]
    sentence: _Text


class MasksWanted(_Message, frozen=True, tag=7):
    """The worker is about to draw: which tokens do the grammars of the round allow?"""


class Masks(_Message, frozen=True, tag=8):
    """Of each check with a grammar: masks <u4 [num_rows, num_words]; None: there never are any."""

    num_words: Annotated[int, Meta(ge=0, le=1 << 20)]
    of_checks: Annotated[tuple[_Packed | None, ...], Meta(max_length=MAX_ITEMS)]


class Leave(_Message, frozen=True, tag=9):
    """The worker is to end; its keeper or its unit starts another."""


class Taken(_Message, frozen=True, tag=10):
    """The worker serves a verifier that was started later."""


ToWorker = Proof | WireRound | Masks | Leave
ToVerifier = Challenge | Facts | WireOutcome | Failed | MasksWanted | Taken
