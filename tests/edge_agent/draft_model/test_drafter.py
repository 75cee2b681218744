"""The scripted drafter keeps the contract that every drafter has."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import Drafter, DraftInterrupted, Forward
from edge_agent.draft_model.scripted_drafter import ScriptedDrafter, scripted_drafter
from shared.errors import ModelError, OutOfCache
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes

MODEL = ScriptedModel(vocab_size=16, seed=4, order=3)


def drafter(context_tokens: int = 8) -> ScriptedDrafter:
    return scripted_drafter(MODEL, num_slots=3, context_tokens=context_tokens)


def test_it_has_the_scripted_vocabulary() -> None:
    scripted: Drafter = drafter()
    assert (16, scripted_token_bytes(16), 3, 8) == (
        scripted.vocab_size,
        scripted.token_bytes,
        scripted.num_slots,
        scripted.context_tokens,
    )


def test_logits_follow_the_tokens_of_the_slot() -> None:
    scripted = drafter()
    scripted.forward([Forward(0, (1, 2)), Forward(2, (5,))])
    first, nothing, second = scripted.forward(
        [Forward(2, (6,)), Forward(1, (9,), wants_logits=False), Forward(0, (3,))]
    )
    assert first is not None
    assert second is not None
    assert nothing is None
    assert np.array_equal(MODEL.logits([5, 6]), first)
    assert np.array_equal(MODEL.logits([1, 2, 3]), second)
    assert [3, 1, 2] == [scripted.num_tokens(slot) for slot in range(3)]


def test_the_logits_are_the_callers_to_change() -> None:
    scripted = drafter()
    (logits,) = scripted.forward([Forward(0, (1,))])
    assert logits is not None
    logits[:] = 0.0
    assert MODEL.logits([1]).any()


@given(st.lists(st.integers(0, 15), min_size=1, max_size=8), st.integers(0, 8), st.integers(0, 15))
def test_after_a_truncation_it_is_as_if_the_tokens_had_never_been(
    tokens: list[int], keep: int, last: int
) -> None:
    scripted = drafter(context_tokens=9)
    kept = min(keep, len(tokens))
    scripted.forward([Forward(0, tuple(tokens), wants_logits=False)])
    assert kept == scripted.truncate(0, kept)
    (logits,) = scripted.forward([Forward(0, (last,))])
    assert logits is not None
    assert np.array_equal(MODEL.logits([*tokens[:kept], last]), logits)


def test_a_slot_without_room_refuses_the_whole_batch() -> None:
    scripted = drafter(context_tokens=4)
    scripted.forward([Forward(0, (1, 2, 3))])
    with pytest.raises(OutOfCache, match="5 tokens exceed draft context of 4"):
        scripted.forward([Forward(1, (1,)), Forward(0, (4, 5))])
    assert [3, 0, 0] == [scripted.num_tokens(slot) for slot in range(3)]


@pytest.mark.parametrize("token_id", [-1, 16])
def test_a_token_outside_the_vocabulary_refuses_the_whole_batch(token_id: int) -> None:
    scripted = drafter()
    with pytest.raises(ModelError, match="outside the draft vocabulary of 16"):
        scripted.forward([Forward(1, (1,)), Forward(0, (token_id,))])
    assert [0, 0, 0] == [scripted.num_tokens(slot) for slot in range(3)]


@pytest.mark.parametrize(
    "batch",
    [
        [Forward(0, (1,)), Forward(0, (2,))],
        [Forward(3, (1,))],
        [Forward(-1, (1,))],
        [Forward(0, ())],
    ],
)
def test_a_batch_that_breaks_the_contract_is_a_bug(batch: list[Forward]) -> None:
    with pytest.raises(AssertionError):
        drafter().forward(batch)


def test_a_truncation_never_lengthens() -> None:
    with pytest.raises(AssertionError, match="cannot truncate 0 tokens to 1"):
        drafter().truncate(0, 1)


def test_an_interrupted_forward_appends_nothing() -> None:
    def interrupting(_tokens: tuple[int, ...]) -> NDArray[np.float32]:
        scripted.interrupt()
        return np.zeros(4, np.float32)

    scripted = ScriptedDrafter(interrupting, token_bytes=scripted_token_bytes(4))
    with pytest.raises(DraftInterrupted):
        scripted.forward([Forward(1, (1,), wants_logits=False), Forward(0, (1,))])
    assert [0, 0] == [scripted.num_tokens(0), scripted.num_tokens(1)]


def test_an_interruption_between_two_forwards_does_nothing() -> None:
    scripted = drafter()
    scripted.interrupt()
    scripted.forward([Forward(0, (1,))])
    assert 1 == scripted.num_tokens(0)


def test_an_interruption_ends_the_wait_of_a_slow_board() -> None:
    slow = scripted_drafter(MODEL, seconds_per_token=600.0)
    ended = threading.Event()

    def interrupt_until_it_ends() -> None:  # one that comes before the forward begins does nothing
        while not ended.is_set():
            slow.interrupt()

    thread = threading.Thread(target=interrupt_until_it_ends)
    thread.start()
    try:
        with pytest.raises(DraftInterrupted):
            slow.forward([Forward(0, (1,))])
    finally:
        ended.set()
        thread.join()
    assert 0 == slow.num_tokens(0)


def test_closing_empties_the_slots() -> None:
    scripted = drafter()
    scripted.forward([Forward(0, (1,))])
    scripted.close()
    assert 0 == scripted.num_tokens(0)
