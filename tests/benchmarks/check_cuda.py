"""The same rounds on a GPU and on the CPU: equal outcomes, and how long a round takes there.

Needs a GPU, so it is no test of `make test`; by hand: `python -m tests.benchmarks.check_cuda`.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from shared.protocol.messages import AcceptanceMode
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from verifier.rounds.blocks import BlockPool
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.placement import place_target

VOCAB_SIZE = 512
NUM_ROUNDS = 40
NUM_STREAMS = 12
BLOCK_TOKENS = 16
SAMPLINGS = (GREEDY, SamplingParameters(0.8, 0, 0.95), SamplingParameters(1.0, 20))


def main() -> None:
    """Compare outcomes for five architectures, then time SmolLM2-135M's shape."""
    print(torch.cuda.get_device_name(0), torch.__version__)
    shape = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
    }
    _compare("Llama", LlamaForCausalLM(LlamaConfig(**shape)))
    _compare("Qwen3", Qwen3ForCausalLM(Qwen3Config(**shape)))
    layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    gemma = {**shape, "sliding_window": 24, "layer_types": layer_types}
    _compare("Gemma-3", Gemma3ForCausalLM(Gemma3TextConfig(**gemma)))
    capped = {**shape, "sliding_window": 24, "attn_logit_softcapping": 2.0}
    _compare("Gemma-2", Gemma2ForCausalLM(Gemma2Config(**capped)))
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 24}
    _compare("gpt-oss", GptOssForCausalLM(GptOssConfig(**shape, **experts)))
    smollm = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    _time("SmolLM2-135M shape", LlamaForCausalLM(smollm))


def _target(model: torch.nn.Module, device: str, dtype: torch.dtype) -> TorchTarget:
    return place_target(
        model,
        CacheShape(num_blocks=1024, block_tokens=BLOCK_TOKENS, context_tokens=2048),
        device=torch.device(device),
        dtype=dtype,
        model_name="random",
    )


def _compare(name: str, model: torch.nn.Module) -> None:
    model.load_state_dict({k: 4 * v for k, v in model.state_dict().items()})
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    cpu = _target(twin, "cpu", torch.float32)
    gpu = _target(model, "cuda", torch.float32)
    num_items = num_different = 0
    for round_ in _rounds():
        for ours, theirs in zip(cpu.run(round_).items, gpu.run(round_).items, strict=True):
            if ours is None or theirs is None:
                assert ours is theirs
                continue
            num_items += 1
            same = (ours.num_accepted, ours.token_id) == (theirs.num_accepted, theirs.token_id)
            num_different += not same
            if same:
                np.testing.assert_allclose(ours.accept_probs, theirs.accept_probs, atol=1e-4)
    print(f"{name}: {num_items} checks in {NUM_ROUNDS} rounds, {num_different} differ")
    assert num_different <= num_items // 500  # near ties of a float32 sum in another order


def _rounds() -> Iterator[Round]:
    """Prompts in chunks, then drafts of random lengths, modes and rows; streams keep growing."""
    chance = random.Random(5)
    pool = BlockPool(1024, BLOCK_TOKENS)
    lengths = [0] * NUM_STREAMS
    for stream in range(NUM_STREAMS):
        pool.reserve(stream, 1024)
    for _ in range(NUM_ROUNDS):
        items = []
        for stream in chance.sample(range(NUM_STREAMS), chance.randint(1, NUM_STREAMS)):
            item = _item(chance, pool, stream, lengths[stream])
            items.append(item)
            drafted = len(item.draft_check.draft_token_ids) if item.draft_check else 0
            kept = chance.randint(0, drafted)  # the rest is rolled back
            lengths[stream] += len(item.token_ids) - drafted + kept
        yield Round(tuple(items))


def _item(chance: random.Random, pool: BlockPool, stream: int, num_cached: int) -> RoundItem:
    is_prompt = num_cached < 40
    num_own = chance.randint(8, 30) if is_prompt else 1
    num_drafts = 0 if is_prompt else chance.randint(0, 8)
    token_ids = tuple(chance.randrange(VOCAB_SIZE) for _ in range(num_own + num_drafts))
    draft_check = None
    if not is_prompt:
        draft_check = _verify(chance, token_ids[num_own:])
    table = pool.grow(stream, num_cached + len(token_ids))
    return RoundItem(stream, token_ids, num_cached, table, draft_check)


def _verify(chance: random.Random, drafts: tuple[int, ...]) -> DraftCheck:
    sampling = chance.choice(SAMPLINGS)
    mode: AcceptanceMode = "coupled"
    if not sampling.is_greedy and chance.random() < 0.5:
        mode = "rejection"
    rows = tuple(_row(chance, token_id) for token_id in drafts) if mode == "rejection" else ()
    seed = chance.getrandbits(62)
    draws_bonus = mode == "coupled" or not drafts or chance.random() < 0.8
    return DraftCheck(drafts, rows, mode, sampling, seed, chance.randrange(1000), draws_bonus)


def _row(chance: random.Random, token_id: int) -> SparseRow:
    others = chance.sample([i for i in range(VOCAB_SIZE) if i != token_id], 15)
    ids = np.array([token_id, *others], dtype=np.intp)
    probs = np.sort(np.array([chance.random() + 0.01 for _ in ids]))[::-1]
    return quantise(ids, probs / probs.sum(), 32)


def _time(name: str, model: torch.nn.Module) -> None:
    target = _target(model, "cuda", torch.bfloat16)
    print(f"| {name}, bf16 | forward ms | sampling ms |")
    print("|---|---|---|")
    for num_streams, num_query in ((1, 1), (1, 8), (16, 5), (64, 4)):
        items = tuple(
            RoundItem(
                i,
                (7,) * num_query,
                256,
                tuple(range(i * 17, i * 17 + 17)) if num_streams <= 60 else (i % 60,) * 17,
                DraftCheck((7,) * (num_query - 1), (), "coupled", SAMPLINGS[1], i, 0, True),
            )
            for i in range(num_streams)
        )
        outcomes = [target.run(Round(items)) for _ in range(12)][2:]
        forward = 1000 * statistics.median(outcome.forward_seconds for outcome in outcomes)
        sampling = 1000 * statistics.median(outcome.sampling_seconds for outcome in outcomes)
        print(f"| {num_streams} × {num_query} | {forward:.2f} | {sampling:.2f} |")


if __name__ == "__main__":
    started_at = time.monotonic()
    main()
    print(f"{time.monotonic() - started_at:.0f} s")
