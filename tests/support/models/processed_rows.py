"""Legal logit processors, most of them at their edges, and checks that ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from hypothesis import strategies as st

from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from verifier.streams.token_census import TokenCensus
from verifier.target.processing import Processing
from verifier.target.round import DraftCheck

END_IDS = frozenset({0, 3})
EDGE_PENALTIES = (0.0, 0.0, -2.0, 2.0, 0.5, 5e-324)
EDGE_FACTORS = (1.0, 1.0, 0.01, 100.0, 1.3, 0.7)
EDGE_MIN_P = (0.0, 0.0, 5e-324, 0.05, 0.5, 1.0)
EDGE_BIASES = (-100.0, 100.0, 0.0, -1.5)
MOST_WRITTEN = 12
SMALLEST_VOCABULARY = 5


class Written(NamedTuple):
    """What stands before a check."""

    prompt_ids: Sequence[int] = ()
    output_ids: Sequence[int] = ()

    @classmethod
    def random(cls, vocab_size: int, random: np.random.Generator) -> Written:
        """Few tokens, so that some come often."""
        ids = random.integers(0, min(vocab_size, 8), size=(2, MOST_WRITTEN)).tolist()
        return cls(*(some[: int(random.integers(MOST_WRITTEN))] for some in ids))


def processed_check(check: DraftCheck, processors: LogitProcessors, written: Written) -> DraftCheck:
    """The check of a stream that asks for processors and has written this."""
    if not processors.changes_logits:
        return check
    census = TokenCensus()
    if processors.repetition_penalty != 1:
        census.read(written.prompt_ids)
    for token_id in written.output_ids:
        census.write(token_id)
    return msgspec.structs.replace(
        check,
        position=len(written.output_ids),
        processing=Processing.of(processors, END_IDS),
        seen=census.seen(check.draft_token_ids) if processors.has_penalties else None,
    )


def random_processors(random: np.random.Generator) -> LogitProcessors:
    """Any legal ones, none of them half of the time."""

    def one_of(edges: Sequence[float], low: float, high: float) -> float:
        return float(random.choice(edges) if random.random() < 0.7 else random.uniform(low, high))

    if random.random() < 0.5:
        return NO_PROCESSORS
    biased = random.permutation(SMALLEST_VOCABULARY)[: int(random.integers(4))].tolist()
    return LogitProcessors(
        frequency_penalty=one_of(EDGE_PENALTIES, -2, 2),
        presence_penalty=one_of(EDGE_PENALTIES, -2, 2),
        repetition_penalty=one_of(EDGE_FACTORS, 0.01, 100),
        logit_bias=tuple((token_id, one_of(EDGE_BIASES, -100, 100)) for token_id in biased),
        min_p=one_of(EDGE_MIN_P, 0, 1),
        min_tokens=int(random.choice([0, 0, 1, 5, 1 << 24])),
        ignore_eos=bool(random.random() < 0.3),
        stop_token_ids=(int(random.integers(SMALLEST_VOCABULARY)),) * int(random.integers(2)),
    )


_token_ids = st.integers(0, SMALLEST_VOCABULARY - 1)
legal_processors = st.just(NO_PROCESSORS) | st.builds(
    LogitProcessors,
    frequency_penalty=st.sampled_from(EDGE_PENALTIES) | st.floats(-2, 2),
    presence_penalty=st.sampled_from(EDGE_PENALTIES) | st.floats(-2, 2),
    repetition_penalty=st.sampled_from(EDGE_FACTORS) | st.floats(0.01, 100),
    logit_bias=st.dictionaries(
        _token_ids, st.sampled_from(EDGE_BIASES) | st.floats(-100, 100), max_size=3
    ).map(lambda biases: tuple(biases.items())),
    min_p=st.sampled_from(EDGE_MIN_P) | st.floats(0, 1),
    min_tokens=st.sampled_from([0, 0, 1, 5, 1 << 24]),
    ignore_eos=st.booleans(),
    stop_token_ids=st.lists(_token_ids, max_size=2).map(tuple),
)
