"""SmolLM2 as the target writes what transformers' own `generate` writes, with drafts or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.models.real_models import real_model
from tests.support.models.target_loading import load_on_cpu
from verifier.rounds.blocks import BlockPool
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.gguf_reading import reading_once
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

NUM_TOKENS = 40
CHUNK_TOKENS = 11  # prompts are read in chunks, beside other streams' drafts
PROMPTS = (
    "Write one sentence about the sea.",
    "List three uses of a paper clip, and say for each of them how well it works.",
    "What is 12 times 7?",
)


@pytest.fixture(scope="module")
def loaded() -> tuple[TorchTarget, HuggingFaceTokenizer]:
    placed = load_on_cpu(real_model(), kv_cache_tokens=2048)
    return placed.target, placed.tokenizer


@pytest.fixture(scope="module")
def prompts(loaded: tuple[TorchTarget, HuggingFaceTokenizer]) -> list[list[int]]:
    return [loaded[1].encode_chat([("user", text)]) for text in PROMPTS]


@pytest.fixture(scope="module")
def generated(prompts: list[list[int]]) -> list[list[int]]:
    """Greedy outputs by transformers alone: its own attention, cache and loop."""
    path = real_model()
    with reading_once():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
    outputs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NUM_TOKENS,
        )
        outputs.append(output[0, len(prompt) :].tolist())
    return outputs


class DraftedStreams:
    """Streams verified in one batch, with drafts cut from outputs and spoilt here and there."""

    def __init__(
        self,
        target: TorchTarget,
        prompts: list[list[int]],
        outputs: list[list[int]],
        sampling: SamplingParameters,
    ) -> None:
        self.target = target
        self.pool = BlockPool(target.num_blocks, target.block_tokens)
        self.prompts = prompts
        self.outputs = outputs
        self.sampling = sampling
        self.committed: list[list[int]] = [[] for _ in prompts]
        self.num_cached = [0] * len(prompts)
        # Every second block is somebody else's, so that the last stream's table is no run.
        others = range(100, 100 + target.num_blocks // 2)
        for other in others:
            self.pool.reserve(other, target.block_tokens)
        for other in others[::2]:
            self.pool.release(other)
        for stream, prompt in enumerate(prompts):
            size = len(prompt) + 2 * NUM_TOKENS
            self.pool.reserve(stream, size if stream else 200 * target.block_tokens // 4)

    def run(self, max_window: int) -> None:
        """Rounds until every stream has its tokens."""
        number = 0
        while unfinished := [i for i, out in enumerate(self.committed) if len(out) < NUM_TOKENS]:
            items = [
                self._item(stream, (number * 5 + stream * 7) % (max_window + 1))
                for stream in unfinished
            ]
            for item, outcome in zip(
                items, self.target.run(Round(tuple(items))).items, strict=True
            ):
                stream = item.stream
                if item.draft_check is None or outcome is None:
                    self.num_cached[stream] += len(item.token_ids)
                    continue
                assert outcome.token_id is not None
                accepted = item.draft_check.draft_token_ids[: outcome.num_accepted]
                self.committed[stream] += [*accepted, outcome.token_id]
                num_tokens = len(self.prompts[stream]) + len(self.committed[stream])
                self.num_cached[stream] = num_tokens - 1
                self.pool.shrink(stream, num_tokens - 1)
            number += 1

    def _item(self, stream: int, window: int) -> RoundItem:
        tokens = self.prompts[stream] + self.committed[stream]
        num_cached, position = self.num_cached[stream], len(self.committed[stream])
        pending = tokens[num_cached:]
        draft_check = None
        if len(pending) > CHUNK_TOKENS:
            pending = pending[:CHUNK_TOKENS]
        else:
            drafts = self.outputs[stream][position : position + window]
            spoilt = [
                (token + 1) % 49152 if i == (position + stream) % 6 else token
                for i, token in enumerate(drafts)
            ]
            draft_check = DraftCheck(
                tuple(spoilt), (), "coupled", self.sampling, 77, position, True
            )
            pending = pending + spoilt
        return RoundItem(
            stream=stream,
            token_ids=tuple(pending),
            num_cached_tokens=num_cached,
            block_table=self.pool.grow(stream, num_cached + len(pending)),
            draft_check=draft_check,
        )


def outputs_of(streams: DraftedStreams, max_window: int) -> list[list[int]]:
    streams.run(max_window)
    return [output[:NUM_TOKENS] for output in streams.committed]


@pytest.mark.parametrize("max_window", [0, 16])
def test_greedy_text_is_that_of_transformers(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer],
    prompts: list[list[int]],
    generated: list[list[int]],
    max_window: int,
) -> None:
    streams = DraftedStreams(loaded[0], prompts, generated, GREEDY)
    outputs = outputs_of(streams, max_window)
    # `generate` stops at the end of the text; streams here go on.
    assert generated == [
        output[: len(expected)] for output, expected in zip(outputs, generated, strict=True)
    ]


def test_sampled_text_does_not_depend_on_the_drafts(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer], prompts: list[list[int]]
) -> None:
    sampling = SamplingParameters(temperature=0.8, top_p=0.95)
    alone = [
        outputs_of(DraftedStreams(loaded[0], [prompt], [[]], sampling), 0)[0] for prompt in prompts
    ]
    drafted = DraftedStreams(loaded[0], prompts, alone, sampling)
    assert alone == outputs_of(drafted, 16)


def test_the_chat_of_the_file_is_that_of_its_makers(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer],
) -> None:
    tokenizer = loaded[1]
    token_ids = tokenizer.encode_chat([("system", "Be brief."), ("user", "Hi 😀")])
    text = b"".join(tokenizer.token_bytes[i] for i in token_ids).decode()
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi 😀<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert expected == text
    assert frozenset(range(17)) == tokenizer.special_ids
    assert 2 in tokenizer.end_ids


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "nothing.gguf"
    with pytest.raises(ModelError) as raised:
        load_on_cpu(path)
    assert f"there is no target model at {path}" == str(raised.value)


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"broken\.gguf is cut: it ends within its head"):
        load_on_cpu(path)


def test_a_cache_smaller_than_a_round_is_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"room for 256 tokens, less than one round of .* = 512"):
        load_on_cpu(real_model(), context_tokens=128, kv_cache_tokens=256, max_round_tokens=512)


def test_weights_in_8_bits_write_sensible_text() -> None:
    pytest.importorskip("torchao")
    placed = load_on_cpu(real_model(), quantisation="int8", kv_cache_tokens=2048)
    prompt = placed.tokenizer.encode_chat([("user", "What is the capital of France?")])
    streams = DraftedStreams(placed.target, [prompt], [[]], GREEDY)
    (output,) = outputs_of(streams, 0)
    assert b"Paris" in b"".join(placed.tokenizer.token_bytes[i] for i in output)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"target\.device is cuda:1, but torch sees no GPU here"):
        load_on_cpu(tmp_path, device="cuda:1")
