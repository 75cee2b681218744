"""Every token of a prompt but the first is scored once, however it is read and lost again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RequestRefused
from shared.protocol.logprobs import TokenLogprobs, pack_logprobs
from verifier.streams.stream_logprobs import StreamLogprobs, check_prompt_logprobs

UNKNOWN = TokenLogprobs(None)


def packed(num_tokens: int, num_others: int) -> bytes:
    return pack_logprobs([TokenLogprobs(-1.0)] * num_tokens, num_others)


@given(st.integers(1, 60), st.integers(0, 20), st.data())
def test_each_token_has_its_row_once(num_prompt: int, num_others: int, data: st.DataObject) -> None:
    logprobs = StreamLogprobs(None, num_others)
    prompt_ids = tuple(range(100, 100 + num_prompt))
    told: list[int] = []
    num_cached = 0
    while num_cached < num_prompt:
        if data.draw(st.integers(0, 3)) == 0:  # its place is lost; some of it may be found again
            num_cached = data.draw(st.integers(0, logprobs.most_cached(num_prompt, num_prompt)))
        num_read = data.draw(st.integers(1, num_prompt - num_cached))
        rows = logprobs.prompt_rows(prompt_ids, num_cached, num_read)
        if rows is not None:
            assert num_others == rows.num_others
            assert rows.next_ids[0] == prompt_ids[num_cached + rows.first + 1]
            assert len(rows.next_ids) + rows.first <= num_read
            told += rows.next_ids
            logprobs.keep_prompt(packed(len(rows.next_ids), num_others))
        num_cached += num_read
    assert list(prompt_ids[1:]) == told
    assert packed(num_prompt - 1, num_others) == logprobs.prompt
    assert num_prompt - 1 == logprobs.most_cached(num_prompt, num_prompt)


def test_of_a_prompt_that_arrives_only_what_is_here_is_scored() -> None:
    logprobs = StreamLogprobs(None, 0)
    first = logprobs.prompt_rows((5, 6, 7), 0, 2)
    assert first is not None
    assert (0, (6, 7)) == (first.first, first.next_ids)


def test_where_none_are_asked_for_nothing_is_kept_and_all_may_be_found() -> None:
    logprobs = StreamLogprobs(None, None)
    assert b"" == logprobs.keep_output([TokenLogprobs(-1.0)])
    logprobs.keep_unknown(3)
    assert (b"", b"") == (logprobs.output, logprobs.prompt)
    assert logprobs.prompt_rows((5, 6, 7), 0, 3) is None
    assert 9 == logprobs.most_cached(10, 10)


def test_those_of_the_output_are_kept_as_they_are_told() -> None:
    logprobs = StreamLogprobs(1, None)
    logprobs.keep_unknown(1)
    told = logprobs.keep_output([TokenLogprobs(-2.0, ((3, -1.0),))])
    assert pack_logprobs([UNKNOWN], 1) + told == logprobs.output


def test_more_than_can_be_told_is_refused_with_what_can() -> None:
    check_prompt_logprobs(1598, 20)
    with pytest.raises(RequestRefused, match="with so many 1598 tokens can be told") as refused:
        check_prompt_logprobs(1599, 20)
    assert "prompt_logprobs" == refused.value.field
