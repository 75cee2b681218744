"""The torch target reads any mix of streams as it would read each one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from shared.protocol.logprobs import packed_bytes, unpack_logprobs
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.models.tiny_models import VOCAB_SIZE, tiny_gemma3, tiny_llama, tiny_qwen3
from verifier.rounds.blocks import BlockPool
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome, PromptRows, Round, RoundItem
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.layers.packed_linear import PackedLinear, can_pack
from verifier.torch_target.loading.placement import place_target

BLOCK_TOKENS = 4
NUM_BLOCKS = 40
CPU = torch.device("cpu")

# Logits of these models reach 20; the largest difference seen was 2e-5.
TOLERANCE = 2e-4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small take longer when two threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def torch_target(model: PreTrainedModel) -> TorchTarget:
    return place_target(
        model,
        CacheShape(num_blocks=NUM_BLOCKS, block_tokens=BLOCK_TOKENS, context_tokens=256),
        device=CPU,
        dtype=torch.float32,
        model_name="tiny",
    )


def check(drafts: tuple[int, ...] = ()) -> DraftCheck:
    return DraftCheck(drafts, (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)


def read_alone(model: PreTrainedModel, token_ids: list[int]) -> Tensor:
    """Logits [num_tokens, vocab_size] by transformers itself."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([token_ids])).logits[0]
    return logits


class Streams:
    """Streams over one target, each with the tokens that its blocks hold."""

    def __init__(self, make_model: Callable[[], PreTrainedModel]) -> None:
        self.model = make_model()
        self.target = torch_target(make_model())
        self.pool = BlockPool(NUM_BLOCKS, BLOCK_TOKENS)
        self.cached: dict[int, list[int]] = {}
        self.limits: dict[int, int] = {}

    def open(self, stream: int, num_tokens: int) -> None:
        self.pool.reserve(stream, num_tokens)
        self.cached[stream] = []
        self.limits[stream] = num_tokens

    def read(self, parts: dict[int, list[int]], num_drafts: dict[int, int]) -> float:
        """One round over some streams; the largest difference to reading each alone."""
        items = [
            RoundItem(
                stream=stream,
                token_ids=tuple(token_ids),
                num_cached_tokens=len(self.cached[stream]),
                block_table=self.pool.grow(stream, len(self.cached[stream]) + len(token_ids)),
                draft_check=check(tuple(token_ids[len(token_ids) - num_drafts[stream] :])),
            )
            for stream, token_ids in parts.items()
        ]
        with torch.inference_mode():
            logits = self.target.logits(Round(tuple(items)))
        expected = []
        for stream, token_ids in parts.items():
            self.cached[stream] += token_ids
            alone = read_alone(self.model, self.cached[stream])
            expected.append(alone[-num_drafts[stream] - 1 :])
        return float((torch.cat(expected) - logits).abs().max())

    @property
    def num_free_tokens(self) -> int:
        return self.pool.num_free_blocks * BLOCK_TOKENS

    def room(self, stream: int) -> int:
        return self.limits[stream] - len(self.cached[stream])

    def roll_back(self, stream: int, num_tokens: int) -> None:
        del self.cached[stream][num_tokens:]
        self.pool.shrink(stream, num_tokens)

    def close(self, stream: int) -> None:
        self.pool.release(stream)
        del self.cached[stream]


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": tiny_llama,
    "qwen3": tiny_qwen3,
    "gemma3": tiny_gemma3,
}


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=15)
@given(st.randoms(use_true_random=False))
def test_accepting_rolling_back_and_freeing_leaves_every_stream_as_if_alone(
    name: str, random: Random
) -> None:
    streams = Streams(MODELS[name])
    for number in range(12):
        num_tokens = random.randint(8, 40)
        if len(streams.cached) < 4 and num_tokens <= streams.num_free_tokens:
            streams.open(number, num_tokens)
        parts = {
            stream: [random.randrange(VOCAB_SIZE) for _ in range(random.randint(1, room))]
            for stream in streams.cached
            if (room := min(streams.room(stream), 9)) and random.random() < 0.8
        }
        if not parts:
            continue
        num_drafts = {stream: random.randrange(len(part)) for stream, part in parts.items()}
        assert streams.read(parts, num_drafts) < TOLERANCE
        for stream in parts:
            num_rejected = random.randint(0, num_drafts[stream])
            streams.roll_back(stream, len(streams.cached[stream]) - num_rejected)
            if random.random() < 0.2:
                streams.close(stream)


@pytest.mark.parametrize("name", MODELS)
def test_a_long_prompt_in_chunks_is_read_as_one(name: str) -> None:
    streams = Streams(MODELS[name])
    streams.open(0, 150)
    token_ids = [i * i % VOCAB_SIZE for i in range(150)]
    for start, end in ((0, 70), (70, 71), (71, 140), (140, 150)):
        assert streams.read({0: token_ids[start:end]}, {0: min(8, end - start - 1)}) < TOLERANCE


def test_a_round_without_checks_makes_no_logits_and_no_outcomes() -> None:
    target = torch_target(tiny_llama())
    round_ = Round((RoundItem(0, (1, 2, 3), 0, (0,), None),))
    assert (None,) == target.run(round_).items
    with torch.inference_mode():
        assert (0, VOCAB_SIZE) == target.logits(round_).shape


@pytest.mark.parametrize("name", MODELS)
def test_a_prompts_own_tokens_are_scored_beside_what_others_draw(name: str) -> None:
    model = MODELS[name]()
    prompt = [i * i % VOCAB_SIZE for i in range(30)]
    expected = read_alone(model, prompt).log_softmax(1)
    alone = int(read_alone(model, [4])[-1].argmax())
    target = torch_target(MODELS[name]())
    others = {21: 3, 30: 3}  # behind so many of its tokens, beside each
    table = tuple(range(-(-30 // BLOCK_TOKENS)))
    num_cached, told = 0, []
    for end, num_others in others.items():
        is_last = end == len(prompt)
        next_ids = tuple(prompt[num_cached + 1 : end + 1])
        rows = PromptRows(0, next_ids, num_others)
        read = tuple(prompt[num_cached:end])
        items = (
            RoundItem(1, (4,), 0, (40,), check()),
            RoundItem(0, read, num_cached, table, check() if is_last else None, rows),
        )
        outcome = target.run(Round(items))
        own, prompted = outcome.items
        assert ItemOutcome(0, alone) == own
        assert prompted is not None
        drawn = int(expected[-1].argmax()) if is_last else None
        assert (drawn, None) == (prompted.token_id, prompted.failure)
        told += unpack_logprobs(prompted.prompt_logprobs, len(next_ids), num_others, VOCAB_SIZE)
        assert 0.0 < outcome.scoring_seconds
        num_cached = end
    assert len(prompt) - 1 == len(told)
    for row, next_id, token in zip(expected, prompt[1:], told, strict=False):
        assert pytest.approx(float(row[next_id]), abs=TOLERANCE) == token.logprob
        assert pytest.approx(row.topk(3).values.tolist(), abs=TOLERANCE) == [
            logprob for _, logprob in token.top
        ]
        assert all(
            pytest.approx(float(row[other]), abs=TOLERANCE) == logprob
            for other, logprob in token.top
        )


def test_a_prompt_whose_rows_are_broken_fails_alone() -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.model.embed_tokens.weight[5] = torch.nan
    target = torch_target(model)
    items = (
        RoundItem(0, (5, 6), 0, (0,), None, PromptRows(0, (6, 7), 1)),
        RoundItem(1, (1, 2), 0, (1,), None, PromptRows(0, (2, 3), 1)),
    )
    broken, sound = target.run(Round(items)).items
    assert broken is not None
    assert (ItemFailure.NON_FINITE_LOGITS, b"") == (broken.failure, broken.prompt_logprobs)
    assert sound is not None
    assert (None, 2 * packed_bytes(1)) == (sound.failure, len(sound.prompt_logprobs))


def test_outcomes_stand_with_the_items_that_asked() -> None:
    target = torch_target(tiny_llama())
    first, second = (int(read_alone(tiny_llama(), ids)[-1].argmax()) for ids in ([1, 2, 3], [4]))
    wrong = (first + 1) % VOCAB_SIZE
    items = (
        RoundItem(0, (1, 2, 3, wrong), 0, (3,), check((wrong,))),
        RoundItem(1, (9, 9, 9), 0, (1,), None),
        RoundItem(2, (4,), 0, (2,), check()),
    )
    outcomes = target.run(Round(items)).items
    assert (ItemOutcome(0, first), None, ItemOutcome(0, second)) == outcomes


def test_a_round_says_what_a_row_of_each_item_took_to_sample() -> None:
    flat = msgspec.structs.replace(check(), sampling=SamplingParameters(100.0, 0, 0.99999))
    items = (
        RoundItem(0, (1, 2), 0, (0,), check()),
        RoundItem(1, (9, 9, 9), 0, (1,), None),
        RoundItem(2, (4,), 0, (2,), flat),
    )
    outcome = torch_target(tiny_llama()).run(Round(items))
    greedy, unsampled, sampled = outcome.row_seconds
    assert (0.0, None) == (greedy, unsampled)
    assert sampled is not None
    assert 0.0 < sampled <= outcome.sampling_seconds


def test_a_broken_stream_fails_alone() -> None:
    model = tiny_llama()
    expected = int(read_alone(model, [1, 2])[-1].argmax())
    with torch.no_grad():
        model.model.embed_tokens.weight[5] = torch.nan
    target = torch_target(model)
    items = (RoundItem(0, (5,), 0, (0,), check()), RoundItem(1, (1, 2), 0, (1,), check()))
    broken, sound = target.run(Round(items)).items
    assert broken is not None
    assert ItemFailure.NON_FINITE_LOGITS == broken.failure
    assert ItemOutcome(0, expected) == sound


def test_running_a_round_again_in_parts_changes_nothing() -> None:
    """The next round reads the same keys and values as if the first had run once."""
    prompt = RoundItem(0, (1, 2, 3, 4, 5), 0, (3, 2), None)
    drafted = RoundItem(1, (9, 8, 7), 0, (1,), check((8, 7)))
    following = Round(
        (RoundItem(0, (6,), 5, (3, 2), check()), RoundItem(1, (6,), 3, (1,), check()))
    )
    once, again = torch_target(tiny_llama()), torch_target(tiny_llama())
    expected = once.run(Round((prompt, drafted))).items
    again.run(Round((prompt, drafted)))
    parts = [again.run(Round((item,))).items[0] for item in (prompt, drafted)]
    assert expected == tuple(parts)
    torch.testing.assert_close(once.logits(following), again.logits(following))


@pytest.mark.skipif(not can_pack(torch.float32), reason="torch without oneDNN")
def test_weights_are_packed_and_give_the_same_logits() -> None:
    packed, unpacked = tiny_llama(), tiny_llama()
    round_ = Round((RoundItem(0, (1, 2, 3, 4), 0, (0,), check((3, 4))),))
    logits = torch_target(packed).logits(round_)
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    expected = read_alone(unpacked, [1, 2, 3, 4])[1:]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
