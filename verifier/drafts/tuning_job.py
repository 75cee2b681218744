"""What a verifier asks of the process that tunes a draft on what streams came to, and its answer.

Pure. Texts are token ids, and they are in memory and in a pipe alone.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

# Of a text: what is read, and of that what is learned. Longer ones are cut at the front.
MOST_PROMPT_TOKENS = 384
MOST_ANSWER_TOKENS = 128

SEEN = "seen"
"""The domain of texts from streams; the others are of texts that the target wrote by itself."""


class TunedText(msgspec.Struct, frozen=True, array_like=True):
    """A part of a text around which drafts were wrong."""

    prompt_ids: tuple[int, ...]  # that stand before it
    token_ids: tuple[int, ...]  # the target's, to be learned
    is_greedy: bool = False


class TuningJob(msgspec.Struct, frozen=True):
    """One draft to be tuned."""

    target: Path
    draft: Path  # that it begins from
    out: Path
    replay: Path  # texts of the target's own that are learned again, made if they are not there
    texts: tuple[TunedText, ...]
    seconds: float  # for training, of each thread on the processor
    threads: int = 1
    device: str = "cpu"
    seed: int = 0


class HeldOutPair(msgspec.Struct, frozen=True, array_like=True):
    """One text that nothing was learned from: how often draft tokens are accepted in it."""

    domain: str
    before: float
    after: float


class TuningResult(msgspec.Struct, frozen=True):
    """What came of it; with a fault there is no draft."""

    pairs: tuple[HeldOutPair, ...] = ()
    num_steps: int = 0
    fault: str = ""


def pack_job(job: TuningJob) -> bytes:
    """For the pipe."""
    return msgspec.msgpack.encode(job, enc_hook=str)


def unpack_job(packed: bytes) -> TuningJob:
    """From the pipe."""
    return msgspec.msgpack.decode(packed, type=TuningJob, dec_hook=lambda kind, value: kind(value))
