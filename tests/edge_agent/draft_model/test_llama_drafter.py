"""llama.cpp behind our interface: a slot is as good as a fresh prefill, always."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import Drafter, DraftInterrupted, Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from edge_agent.draft_model.requantise import requantise
from shared.errors import ModelError, OutOfCache
from tests.support.models.real_models import real_model
from tests.support.models.tiny_gguf import (
    END_ID,
    LONG_ID,
    LONG_TEXT,
    PADDING_ID,
    TINY_VOCAB_SIZE,
    TOOL_ID,
    write_tiny_llama,
    write_tiny_mamba,
)

SLOTS = 3
TINY_CONTEXT = 500
# Keys and values are kept in float16, and a batch of another shape adds up in another order. With
# float32 weights that gave at most 0.05 in 600 comparisons; the logits' deviation is 2.0.
TINY_TOLERANCE = 0.15
# 4-bit weights are multiplied with activations rounded to 8 bits. The order of summation decides
# which way some of them round, and 30 layers amplify it: at most 1.22 in 120 comparisons, with a
# deviation of 3.5, a total variation of at most 0.084, and other argmaxes only where the two
# largest logits were less than 0.08 apart.
REAL_TOLERANCE = 2.0
REAL_TOTAL_VARIATION = 0.2
REAL_CLEAR_MARGIN = 0.5


class TinyModels(NamedTuple):
    llama: Path
    mamba: Path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    directory = tmp_path_factory.mktemp("tiny")
    models = TinyModels(directory / "tiny-llama.gguf", directory / "tiny-mamba.gguf")
    write_tiny_llama(models.llama)
    write_tiny_mamba(models.mamba)
    return models


def open_drafter(path: Path, num_slots: int = SLOTS, context: int = TINY_CONTEXT) -> LlamaDrafter:
    return LlamaDrafter(path, num_slots, context, threads=1, batch_threads=1)


@pytest.fixture(scope="module")
def used(tiny: TinyModels) -> Iterator[LlamaDrafter]:
    drafter = open_drafter(tiny.llama)
    yield drafter
    drafter.close()


@pytest.fixture(scope="module")
def fresh(tiny: TinyModels) -> Iterator[LlamaDrafter]:
    drafter = open_drafter(tiny.llama, num_slots=1)
    yield drafter
    drafter.close()


def prefill(drafter: Drafter, tokens: list[int]) -> NDArray[np.float32]:
    """The logits after `tokens` in an empty slot 0."""
    drafter.truncate(0, 0)
    (logits,) = drafter.forward([Forward(0, tuple(tokens))])
    assert logits is not None
    return logits


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def margin(logits: NDArray[np.float32]) -> float:
    second, first = np.partition(logits, -2)[-2:]
    return float(first - second)


token_lists = st.lists(st.integers(0, TINY_VOCAB_SIZE - 1), min_size=1, max_size=40)
batches = st.dictionaries(st.integers(0, SLOTS - 1), token_lists, min_size=1).map(
    lambda items: [Forward(slot, tuple(tokens)) for slot, tokens in items.items()]
)
cuts = st.tuples(st.integers(0, SLOTS - 1), st.floats(0.0, 1.0))


@settings(max_examples=200, deadline=None)
@given(st.lists(batches | cuts, max_size=8))
def test_logits_equal_a_fresh_prefill_after_any_appends_and_truncations(
    used: LlamaDrafter, fresh: LlamaDrafter, steps: list[list[Forward] | tuple[int, float]]
) -> None:
    held: list[list[int]] = [[] for _ in range(SLOTS)]
    for slot in range(SLOTS):
        used.truncate(slot, 0)
    for step in steps:
        if isinstance(step, tuple):
            slot, share = step
            kept = round(share * len(held[slot]))
            assert kept == used.truncate(slot, kept)
            held[slot] = held[slot][:kept]
            continue
        results = used.forward(step)
        for item, logits in zip(step, results, strict=True):
            held[item.slot] += item.token_ids
            expected = prefill(fresh, held[item.slot])
            assert logits is not None
            assert np.abs(expected - logits).max() <= TINY_TOLERANCE
            assert margin(expected) <= TINY_TOLERANCE or expected.argmax() == logits.argmax()
        assert [len(tokens) for tokens in held] == [used.num_tokens(slot) for slot in range(SLOTS)]


def test_the_tolerance_would_notice_one_wrong_early_token(fresh: LlamaDrafter) -> None:
    tokens = list(range(30))
    right = prefill(fresh, tokens)
    wrong = prefill(fresh, [tokens[0], 99, *tokens[2:]])
    assert np.abs(right - wrong).max() > TINY_TOLERANCE


def test_the_same_steps_give_the_same_bits(used: LlamaDrafter) -> None:
    tokens = list(range(50))
    first = prefill(used, tokens)
    used.forward([Forward(0, (1, 2, 3)), Forward(1, (4,))])
    assert np.array_equal(first, prefill(used, tokens))


def test_a_batch_longer_than_llama_takes_at_once_is_split(
    used: LlamaDrafter, fresh: LlamaDrafter
) -> None:
    generator = np.random.default_rng(5)
    prompts = generator.integers(0, TINY_VOCAB_SIZE, (SLOTS, TINY_CONTEXT)).tolist()
    for slot in range(SLOTS):
        used.truncate(slot, 0)
    results = used.forward([Forward(slot, tuple(prompts[slot])) for slot in range(SLOTS)])
    for prompt, logits in zip(prompts, results, strict=True):
        assert logits is not None
        assert np.abs(prefill(fresh, prompt) - logits).max() <= TINY_TOLERANCE


def test_logits_come_only_where_they_are_wanted(used: LlamaDrafter) -> None:
    used.truncate(0, 0)
    used.truncate(1, 0)
    nothing, logits = used.forward([Forward(0, (1, 2), wants_logits=False), Forward(1, (3,))])
    assert nothing is None
    assert logits is not None
    assert ((TINY_VOCAB_SIZE,), np.dtype(np.float32)) == (logits.shape, logits.dtype)


def test_a_full_slot_refuses_the_batch_and_keeps_its_tokens(used: LlamaDrafter) -> None:
    used.truncate(1, 0)
    prefill(used, [1] * TINY_CONTEXT)
    with pytest.raises(OutOfCache, match=f"501 tokens exceed draft context of {TINY_CONTEXT}"):
        used.forward([Forward(1, (1,)), Forward(0, (2,))])
    assert (TINY_CONTEXT, 0) == (used.num_tokens(0), used.num_tokens(1))


def interrupt_forward(drafter: LlamaDrafter, batch: list[Forward]) -> None:
    """Run a forward while another thread interrupts until it ends."""
    ended = threading.Event()

    def interrupt_until_it_ends() -> None:
        while not ended.is_set():
            drafter.interrupt()

    thread = threading.Thread(target=interrupt_until_it_ends)
    thread.start()
    try:
        with pytest.raises(DraftInterrupted):
            drafter.forward(batch)
    finally:
        ended.set()
        thread.join()


def test_an_interrupted_forward_leaves_the_slots_as_they_were(
    used: LlamaDrafter, fresh: LlamaDrafter
) -> None:
    held = list(range(20))
    prefill(used, held)
    used.truncate(1, 0)
    interrupt_forward(used, [Forward(1, tuple([3] * 450)), Forward(0, tuple([5] * 450))])
    assert (20, 0) == (used.num_tokens(0), used.num_tokens(1))
    (logits,) = used.forward([Forward(0, (7,))])
    assert logits is not None
    assert np.abs(prefill(fresh, [*held, 7]) - logits).max() <= TINY_TOLERANCE


def test_an_interruption_between_two_forwards_does_nothing(used: LlamaDrafter) -> None:
    used.interrupt()
    prefill(used, [1, 2, 3])
    assert 3 == used.num_tokens(0)


def test_a_recurrent_model_says_that_a_part_cannot_be_removed(tiny: TinyModels) -> None:
    drafter = open_drafter(tiny.mamba)
    tokens = list(range(30))
    expected = prefill(drafter, tokens)
    assert 30 == drafter.truncate(0, 30)
    assert 0 == drafter.truncate(0, 29)
    assert 0 == drafter.num_tokens(0)
    assert np.array_equal(expected, prefill(drafter, tokens))
    drafter.close()


def test_an_interrupted_recurrent_slot_is_empty(tiny: TinyModels) -> None:
    drafter = open_drafter(tiny.mamba)
    tokens = list(range(30))
    expected = prefill(drafter, tokens)
    interrupt_forward(drafter, [Forward(0, tuple([3] * 400))])
    assert 0 == drafter.num_tokens(0)
    assert np.array_equal(expected, prefill(drafter, tokens))
    drafter.close()


def test_the_vocabulary_holds_literal_bytes(used: LlamaDrafter) -> None:
    assert TINY_VOCAB_SIZE == used.vocab_size == len(used.token_bytes)
    assert [bytes([byte]) for byte in range(256)] == list(used.token_bytes[:256])
    assert (b"<|im_end|>", b"<tool>", b"", LONG_TEXT.encode(), b" word0") == (
        used.token_bytes[END_ID],
        used.token_bytes[TOOL_ID],
        used.token_bytes[PADDING_ID],
        used.token_bytes[LONG_ID],
        used.token_bytes[LONG_ID + 1],
    )
    assert "tiny-llama" == used.model_name


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    with pytest.raises(ModelError, match=f"cannot read the model file {path}: No such file"):
        open_drafter(path)


def test_another_kind_of_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("not a model")
    with pytest.raises(ModelError, match=f"{path} is not a GGUF file"):
        open_drafter(path)


def test_a_cut_file_is_one_sentence_and_nothing_on_the_terminal(
    tiny: TinyModels, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny.llama.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"cannot load .*cut.gguf: .*corrupted or incomplete"):
        open_drafter(path)
    assert ("", "") == capfd.readouterr()


def test_a_context_is_lowered_to_what_the_model_was_trained_for(
    tiny: TinyModels, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        drafter = open_drafter(tiny.llama, context=513)
    assert 512 == drafter.context_tokens
    drafter.close()
    expected = "draft.context_tokens = 513 is lowered to 512, which the model was trained for"
    assert expected in caplog.messages


def test_more_slots_than_llama_has_are_refused(tiny: TinyModels) -> None:
    with pytest.raises(ModelError, match=r"cannot make 257 slots of 256 tokens .*must be <= 256"):
        open_drafter(tiny.llama, num_slots=257, context=256)


def test_closing_twice_is_fine_and_interrupting_after_it_too(tiny: TinyModels) -> None:
    drafter = open_drafter(tiny.llama)
    drafter.close()
    drafter.close()
    drafter.interrupt()


def test_a_requantised_model_drafts_much_the_same(tiny: TinyModels, tmp_path: Path) -> None:
    done: list[int] = []
    path = tmp_path / "small.gguf"
    requantise(tiny.llama, path, "Q4_0", done.append)
    assert list(range(1, 22)) == done
    assert path.stat().st_size < tiny.llama.stat().st_size
    drafter = open_drafter(path)
    assert drafter.forward([Forward(0, (1, 2, 3))])[0] is not None
    drafter.close()


def test_requantising_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "broken.gguf"
    source.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"cannot requantise .*broken.gguf to Q2_K: "):
        requantise(source, tmp_path / "out.gguf", "Q2_K", lambda _done: None)


def spell(drafter: LlamaDrafter, text: bytes) -> list[int]:
    """Some tokenization of the text: always the longest token that fits."""
    ids = {token: token_id for token_id, token in enumerate(drafter.token_bytes)}
    longest = max(map(len, ids))
    tokens = []
    while text:
        length = next(n for n in range(longest, 0, -1) if text[:n] in ids)
        tokens.append(ids[text[:length]])
        text = text[length:]
    return tokens


def test_the_real_model_in_shared_batches_equals_a_fresh_prefill() -> None:
    used = open_drafter(real_model(), context=256)
    fresh = open_drafter(real_model(), num_slots=1, context=256)
    story = spell(used, b"Once upon a time there was a little bird that lived in a big old tree. ")
    counting = spell(used, b"one, two, three, four, five, six, seven, eight, nine, ten, eleven, ")
    held: list[list[int]] = [[], [], []]
    cuts = {2: (0, 5), 3: (1, 9), 5: (0, 0)}
    for number in range(7):
        if number in cuts:
            slot, kept = cuts[number]
            assert kept == used.truncate(slot, kept)
            held[slot] = held[slot][:kept]
        first, second = number % 3, (number + 1) % 3
        batch = [Forward(first, tuple(story[: 6 + number])), Forward(second, tuple(counting[:9]))]
        for item, logits in zip(batch, used.forward(batch), strict=True):
            held[item.slot] += item.token_ids
            expected = prefill(fresh, held[item.slot])
            assert logits is not None
            assert np.abs(expected - logits).max() <= REAL_TOLERANCE
            distance = np.abs(probabilities(expected) - probabilities(logits)).sum() / 2
            assert distance <= REAL_TOTAL_VARIATION
            assert margin(expected) < REAL_CLEAR_MARGIN or expected.argmax() == logits.argmax()
    used.close()
    fresh.close()


def test_the_real_vocabulary_is_whole() -> None:
    drafter = open_drafter(real_model(), num_slots=1, context=256)
    assert (49_152, 49_152) == (drafter.vocab_size, len(set(drafter.token_bytes)))
    assert (b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>") == drafter.token_bytes[:3]
    text = "Grüße, 世界 🚲".encode()
    assert text == b"".join(drafter.token_bytes[token] for token in spell(drafter, text))
    drafter.close()
