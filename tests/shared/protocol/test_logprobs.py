"""Log-probabilities survive the wire, and what is none is an error of the end that sent it."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.logprobs import (
    LEAST_LOGPROB,
    UNKNOWN_LOGPROB,
    TokenLogprobs,
    pack_logprobs,
    packed_bytes,
    unpack_logprobs,
)
from verifier.torch_target.sampling.prompt_logprobs import pack_logprob_rows

VOCAB_SIZE = 1000
logprobs = st.floats(LEAST_LOGPROB, 0, width=32)
pairs = st.tuples(st.integers(0, VOCAB_SIZE - 1), logprobs)


@given(st.integers(0, 20), st.data())
def test_what_was_packed_is_unpacked(num_others: int, data: st.DataObject) -> None:
    of_token = st.builds(
        TokenLogprobs, logprobs | st.none(), st.lists(pairs, max_size=num_others).map(tuple)
    )
    tokens = data.draw(st.lists(of_token, max_size=4))
    packed = pack_logprobs(tokens, num_others)
    assert len(tokens) * packed_bytes(num_others) == len(packed)
    assert tuple(tokens) == unpack_logprobs(packed, len(tokens), num_others, VOCAB_SIZE)


@given(st.integers(0, 20), st.integers(0, 20), st.data())
def test_arrays_are_packed_as_their_tokens_are(
    num_others: int, num_known: int, data: st.DataObject
) -> None:
    num_known = min(num_known, num_others)  # a vocabulary may have no more
    values = logprobs | st.just(-math.inf)
    exactly = st.lists(st.tuples(st.integers(0, 999), values), min_size=num_known)
    rows = data.draw(st.lists(st.tuples(values, exactly.map(lambda row: row[:num_known]))))
    tokens = [TokenLogprobs(own, tuple(row)) for own, row in rows]
    arrays = (
        np.array([own for own, _ in rows], np.float32),
        np.array([[i for i, _ in row] for _, row in rows], np.int64).reshape(len(rows), num_known),
        np.array([[p for _, p in row] for _, row in rows], np.float32).reshape(
            len(rows), num_known
        ),
    )
    packed = pack_logprob_rows(*arrays, num_others)
    assert pack_logprobs(tokens, num_others) == packed


def test_a_token_that_was_ruled_out_has_the_least_one() -> None:
    token = TokenLogprobs(-math.inf, ((3, 0.0), (4, -math.inf)))
    expected = TokenLogprobs(LEAST_LOGPROB, ((3, 0.0), (4, LEAST_LOGPROB)))
    assert (expected,) == unpack_logprobs(pack_logprobs([token], 2), 1, 2, VOCAB_SIZE)


def test_of_a_token_that_was_committed_elsewhere_nothing_is_known() -> None:
    (token,) = unpack_logprobs(pack_logprobs([UNKNOWN_LOGPROB], 2), 1, 2, VOCAB_SIZE)
    assert UNKNOWN_LOGPROB == token


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        (b"", "0 bytes of log-probabilities for 1 tokens of 12"),
        (b"\0" * 24, "24 bytes of log-probabilities for 1 tokens of 12"),
        (struct.pack("<fIf", 0.5, 1, -1.0), "0.5 is no log-probability"),
        (struct.pack("<fIf", -1.0, 1, math.inf), "inf is no log-probability"),
        (struct.pack("<fIf", -1e9, 1, 0.0), "is no log-probability"),
        (struct.pack("<fIf", -1.0, VOCAB_SIZE, -1.0), "a token beyond the vocabulary"),
    ],
)
def test_what_is_none_is_a_fault_of_the_other_end(packed: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        unpack_logprobs(packed, 1, 1, VOCAB_SIZE)
