"""Whether a text depends on the batch on a GPU, with the batch-invariant mode and without.

Every stream is written twice: alone, a token a round, and beside all others with drafts.
By hand, on a GPU: `python -m tests.benchmarks.cuda_invariance`.
"""

from __future__ import annotations

import random

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from shared.speculation.sampling import GREEDY
from tests.benchmarks.cuda_round import SHAPES, llama_shape, round_ms
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.placement import place_target

NUM_STREAMS = 64
NUM_TOKENS = 64
NUM_DRAFTS = 3
PROMPT_TOKENS = (20, 900)  # shortest and longest
BLOCK_TOKENS = 16
STREAM_BLOCKS = 64  # 1,024 tokens


def main() -> None:
    """Compare texts with 4 layers of Llama-3.1-8B's width, then time the whole shape."""
    print(torch.cuda.get_device_name(0), "torch", torch.__version__)
    for dtype in (torch.bfloat16, torch.float32):
        for is_batch_invariant in (True, False):
            changed = _changed_streams(dtype, is_batch_invariant)
            mode = "batch-invariant" if is_batch_invariant else "ordinary"
            print(f"{dtype}, {mode}: {changed} of {NUM_STREAMS} texts depend on the batch")
            assert not (is_batch_invariant and changed)
    print("| n × q, bf16 | batch-invariant step ms | ordinary step ms |")
    print("|---|---|---|")
    steps = [_step_ms(is_batch_invariant) for is_batch_invariant in (True, False)]
    for (num_streams, num_query), ours, ordinary in zip(SHAPES, *steps, strict=True):
        print(f"| {num_streams} × {num_query} | {ours:.2f} | {ordinary:.2f} |")


def _step_ms(is_batch_invariant: bool) -> list[float]:
    target = _target(llama_shape(), torch.bfloat16, is_batch_invariant)
    return [round_ms(target, *shape)[0] for shape in SHAPES]


def _changed_streams(dtype: torch.dtype, is_batch_invariant: bool) -> int:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=4,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=32_000,
        max_position_embeddings=8192,
    )
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.05)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to("cuda")
    target = _target(model, dtype, is_batch_invariant)
    chance = random.Random(1)
    prompts = [
        [chance.randrange(32_000) for _ in range(chance.randint(*PROMPT_TOKENS))]
        for _ in range(NUM_STREAMS)
    ]
    alone = [_written_alone(target, stream, prompt) for stream, prompt in enumerate(prompts)]
    beside = _written_together(target, prompts, alone)
    return sum(ours != theirs for ours, theirs in zip(alone, beside, strict=True))


def _target(model: LlamaForCausalLM, dtype: torch.dtype, is_batch_invariant: bool) -> TorchTarget:
    return place_target(
        model,
        CacheShape(
            num_blocks=NUM_STREAMS * (STREAM_BLOCKS + 2),
            block_tokens=BLOCK_TOKENS,
            context_tokens=2048,
        ),
        device=torch.device("cuda"),
        dtype=dtype,
        model_name="random",
        is_batch_invariant=is_batch_invariant,
    )


def _written_alone(target: TorchTarget, stream: int, prompt: list[int]) -> list[int]:
    text: list[int] = []
    while len(text) < NUM_TOKENS:
        text += _round(target, {stream: (prompt, text, [])})[stream]
    return text


def _written_together(
    target: TorchTarget, prompts: list[list[int]], guesses: list[list[int]]
) -> list[list[int]]:
    """All streams in every round, each with the next tokens of its guess as a draft."""
    texts: list[list[int]] = [[] for _ in prompts]
    while min(map(len, texts)) < NUM_TOKENS:
        parts = {
            stream: (prompt, texts[stream], _draft(guesses[stream], texts[stream]))
            for stream, prompt in enumerate(prompts)
            if len(texts[stream]) < NUM_TOKENS
        }
        for stream, token_ids in _round(target, parts).items():
            texts[stream] += token_ids
    return [text[:NUM_TOKENS] for text in texts]


def _draft(guess: list[int], text: list[int]) -> list[int]:
    return guess[len(text) : len(text) + NUM_DRAFTS] if text else []


def _round(
    target: TorchTarget, parts: dict[int, tuple[list[int], list[int], list[int]]]
) -> dict[int, list[int]]:
    """What a round adds to each stream of prompt, text and draft."""
    items = []
    for stream, (prompt, text, draft) in parts.items():
        num_cached = len(prompt) + len(text) - 1 if text else 0
        token_ids = [*prompt, *text][num_cached:] + draft
        first_block = stream * STREAM_BLOCKS
        table = tuple(range(first_block, first_block + STREAM_BLOCKS))
        draft_check = DraftCheck(tuple(draft), (), "coupled", GREEDY, 0, len(text), True)
        items.append(RoundItem(stream, tuple(token_ids), num_cached, table, draft_check))
    outcome = target.run(Round(tuple(items)))
    added = {}
    for item, made in zip(items, outcome.items, strict=True):
        assert made is not None
        assert made.token_id is not None
        draft = parts[item.stream][2]
        added[item.stream] = [*draft[: made.num_accepted], made.token_id]
    return added


if __name__ == "__main__":
    main()
