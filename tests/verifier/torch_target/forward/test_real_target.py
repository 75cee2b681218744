"""SmolLM2 as the target writes what transformers' own `generate` writes, with drafts or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from shared.errors import ModelError
from shared.protocol.logprobs import TokenLogprobs, unpack_logprobs
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.chats.turns import turns
from tests.support.models.drafted_streams import DraftedStreams
from tests.support.models.real_models import real_model
from tests.support.models.target_loading import load_on_cpu
from verifier.target.round import PromptRows, Round, RoundItem
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.gguf_reading import reading_once
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

NUM_TOKENS = 40
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
    return [loaded[1].encode_chat(turns([("user", text)])) for text in PROMPTS]


@pytest.fixture(scope="module")
def model() -> Any:
    """It as transformers has it: with its own attention, cache and loop."""
    path = real_model()
    with reading_once():
        return AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )


@pytest.fixture(scope="module")
def generated(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy outputs by transformers alone."""
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


@pytest.mark.parametrize("max_window", [0, 16])
def test_greedy_text_is_that_of_transformers(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer],
    prompts: list[list[int]],
    generated: list[list[int]],
    max_window: int,
) -> None:
    streams = DraftedStreams(loaded[0], prompts, generated, GREEDY)
    outputs = streams.run(max_window)
    # `generate` stops at the end of the text; streams here go on.
    assert generated == [
        output[: len(expected)] for output, expected in zip(outputs, generated, strict=True)
    ]


def test_sampled_text_does_not_depend_on_the_drafts(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer], prompts: list[list[int]]
) -> None:
    sampling = SamplingParameters(temperature=0.8, top_p=0.95)
    alone = [DraftedStreams(loaded[0], [prompt], [[]], sampling).run(0)[0] for prompt in prompts]
    drafted = DraftedStreams(loaded[0], prompts, alone, sampling)
    assert alone == drafted.run(16)


def test_the_chat_of_the_file_is_that_of_its_makers(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer],
) -> None:
    tokenizer = loaded[1]
    token_ids = tokenizer.encode_chat(turns([("system", "Be brief."), ("user", "Hi 😀")]))
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
    prompt = placed.tokenizer.encode_chat(turns([("user", "What is the capital of France?")]))
    streams = DraftedStreams(placed.target, [prompt], [[]], GREEDY)
    (output,) = streams.run(0)
    assert b"Paris" in b"".join(placed.tokenizer.token_bytes[i] for i in output)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"target\.device is cuda:1, but torch sees no GPU here"):
        load_on_cpu(tmp_path, device="cuda:1")


def test_what_it_thinks_of_a_prompt_is_transformers_own_log_softmax(
    loaded: tuple[TorchTarget, HuggingFaceTokenizer], model: Any, prompts: list[list[int]]
) -> None:
    target, _ = loaded
    prompt, num_others = prompts[1], 5
    with torch.inference_mode():
        expected = model(torch.tensor([prompt])).logits[0].log_softmax(1)
    told: list[TokenLogprobs] = []
    blocks = tuple(range(-(-len(prompt) // target.block_tokens)))
    for start in range(0, len(prompt), 16):
        read = tuple(prompt[start : start + 16])
        next_ids = tuple(prompt[start + 1 : start + 17])
        rows = PromptRows(0, next_ids, num_others)
        (answer,) = target.run(Round((RoundItem(0, read, start, blocks, None, rows),))).items
        assert answer is not None
        told += unpack_logprobs(
            answer.prompt_logprobs, len(next_ids), num_others, target.vocab_size
        )
    assert len(prompt) - 1 == len(told)
    for row, next_id, token in zip(expected, prompt[1:], told, strict=False):
        assert pytest.approx(float(row[next_id]), abs=1e-3) == token.logprob
        assert pytest.approx(row.topk(num_others).values.tolist(), abs=1e-3) == [
            logprob for _, logprob in token.top
        ]
