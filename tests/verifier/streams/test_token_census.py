"""Counts that grow with a stream are those of its tokens."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from verifier.streams.token_census import TokenCensus
from verifier.target.processing import SeenTokens

token_ids = st.lists(st.integers(0, 600) | st.integers(0, 9), max_size=700)


def counted(seen: SeenTokens) -> dict[int, float]:
    assert len(set(seen.token_ids.tolist())) == len(seen.token_ids)
    return dict(zip(seen.token_ids.tolist(), seen.num_written.tolist(), strict=True))


@given(token_ids, token_ids, st.lists(st.integers(0, 20), max_size=5))
def test_they_are_those_of_the_tokens(
    prompt: list[int], output: list[int], drafts: list[int]
) -> None:
    census = TokenCensus()
    census.read(prompt)
    for token_id in output:
        census.write(token_id)
    counts = Counter(output)
    seen = census.seen(drafts)
    assert {token_id: counts[token_id] for token_id in {*prompt, *output}} == counted(seen)
    token_ids = seen.with_drafts(drafts).tolist()
    assert drafts == [token_ids[place] for place in seen.draft_places.tolist()]
    assert len(set(token_ids)) == len(token_ids)


def test_what_was_handed_out_stays_as_it_was() -> None:
    census = TokenCensus()
    for token_id in range(256):
        census.write(token_id)
    seen = census.seen(())
    for token_id in range(1000):
        census.write(token_id)
    assert dict.fromkeys(range(256), 1) == counted(seen)


def test_a_prompt_of_many_parts_is_read_whole() -> None:
    census = TokenCensus()
    census.read(range(10_000))
    assert dict.fromkeys(range(10_000), 0) == counted(census.seen(()))
