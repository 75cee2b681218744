"""What is kept of texts is bounded in tokens and in time, and goes with its device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verifier.drafts.tuning_job import MOST_ANSWER_TOKENS, MOST_PROMPT_TOKENS
from verifier.online.text_memory import BEFORE, BEHIND, TextMemory

PROMPT = tuple(range(100, 110))
OUTPUT = tuple(range(200, 260))


def memory(most_tokens: int = 10_000, seconds: float = 60.0) -> TextMemory:
    return TextMemory(most_tokens, seconds)


def test_what_is_around_a_wrong_draft_is_kept_with_all_that_stands_before_it() -> None:
    kept = memory()
    kept.add("kitchen", PROMPT, OUTPUT, [20, 22], 0.0, is_greedy=True)
    (text,) = kept.texts()
    assert PROMPT + OUTPUT[: 20 - BEFORE] == text.prompt_ids
    assert OUTPUT[20 - BEFORE : 22 + BEHIND + 1] == text.token_ids
    assert text.is_greedy
    assert (2, len(text.prompt_ids) + len(text.token_ids)) == (kept.num_wrong, kept.num_tokens)


def test_a_text_whose_drafts_were_right_leaves_nothing() -> None:
    kept = memory()
    kept.add("kitchen", PROMPT, OUTPUT, [], 0.0, is_greedy=True)
    kept.add("kitchen", PROMPT, OUTPUT, [500], 0.0, is_greedy=True)
    assert (0, 0, 0) == (len(kept), kept.num_tokens, kept.num_wrong)


def test_what_is_too_old_is_forgotten() -> None:
    kept = memory(seconds=60.0)
    for at in (0.0, 50.0):
        kept.add("kitchen", PROMPT, OUTPUT, [3], at, is_greedy=False)
    kept.forget_old(61.0)
    assert 1 == len(kept)
    kept.forget_old(111.0)
    assert (0, 0, 0) == (len(kept), kept.num_tokens, kept.num_wrong)


def test_a_device_is_forgotten_with_all_that_came_from_it() -> None:
    kept = memory()
    for device in ("kitchen", "garage", "kitchen"):
        kept.add(device, PROMPT, OUTPUT, [3], 0.0, is_greedy=False)
    kept.forget_devices({"kitchen"})
    assert (1, 1) == (len(kept), kept.num_wrong)
    kept.forget_devices({"garage"})
    assert (0, 0, 0) == (len(kept), kept.num_tokens, kept.num_wrong)


texts = st.tuples(
    st.sampled_from(["kitchen", "garage"]),
    st.integers(1, 600),
    st.integers(1, 400),
    st.lists(st.integers(0, 500), max_size=5),
    st.floats(0, 50),
)


@given(st.lists(texts, max_size=30), st.integers(100, 3000))
def test_it_never_holds_more_than_it_may(
    added: list[tuple[str, int, int, list[int], float]], most_tokens: int
) -> None:
    kept, now = memory(most_tokens, seconds=60.0), 0.0
    for device, num_prompt, num_output, wrong, later in added:
        now += later
        kept.add(device, range(num_prompt), range(num_output), wrong, now, is_greedy=False)
        held = kept.texts()
        assert kept.num_tokens == sum(len(one.prompt_ids) + len(one.token_ids) for one in held)
        assert kept.num_tokens <= most_tokens
        for one in held:
            assert 1 <= len(one.prompt_ids) <= MOST_PROMPT_TOKENS
            assert 1 <= len(one.token_ids) <= MOST_ANSWER_TOKENS
