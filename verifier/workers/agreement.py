"""Whether a worker's target is the one that the others have: streams go from one to the other.

Pure. The same text comes out wherever a stream is only if weights, numbers and vocabulary agree.
"""

from __future__ import annotations

import msgspec

from shared.errors import ModelError
from verifier.workers.messages import Facts, Subject

_WORDS = {
    "model_name": "model",
    "weights": "weights",
    "vocabulary": "vocabulary",
    "dtype": "dtype",
    "quantisation": "quantisation",
    "batch_invariant": "batch_invariant",
}


def check_agrees(name: str, facts: Facts, first: Facts) -> None:
    """A worker that joins has what the first one had.

    Raises:
        ModelError: it has not; the sentence names what differs.
    """
    theirs, ours = _told(facts.subject), _told(first.subject)
    differing = [
        f"{_WORDS[field]} {theirs[field]} instead of {ours[field]}"
        for field in _WORDS
        if getattr(facts.subject, field) != getattr(first.subject, field)
    ]
    if facts.block_tokens != first.block_tokens:
        differing.append(f"target.block_tokens {facts.block_tokens} not {first.block_tokens}")
    if facts.context_tokens < first.context_tokens:
        differing.append(f"target.context_tokens {facts.context_tokens} not {first.context_tokens}")
    if facts.vocab_size != first.vocab_size:
        differing.append(f"{facts.vocab_size} tokens instead of {first.vocab_size}")
    if differing:
        raise ModelError(
            f"the worker {name} has another target than the first one: {', '.join(differing)}"
        )


def _told(subject: Subject) -> dict[str, object]:
    """What can be shown: a fingerprint in hexadecimal digits, and no more than its beginning."""
    told = msgspec.structs.asdict(subject)
    return {**told, "vocabulary": subject.vocabulary[:8].hex(), "weights": subject.weights[:16]}
