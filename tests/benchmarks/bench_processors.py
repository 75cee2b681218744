"""What penalties cost in a round: `python -m tests.benchmarks.bench_processors`.

Whole rounds of 16 streams with 4 drafts each over a vocabulary of 128,256, alike but for what the
streams ask; the forms take turns, so that what else the machine does falls on all. On a CPU the
model is so small that most of a round is its head and its sampling; with `--device cuda` it has the
shape of Llama-3.1-8B.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.sampling import SamplingParameters
from tests.support.models.processed_rows import Written, processed_check
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.placement import place_target
from verifier.torch_target.sampling.row_processing import process_rows

VOCAB_SIZE = 128_256
BLOCK_TOKENS = 16
SAMPLED = SamplingParameters(0.8)
PENALTIES = LogitProcessors(frequency_penalty=0.5, presence_penalty=0.5, repetition_penalty=1.1)
FORMS = {
    "nothing": NO_PROCESSORS,
    "frequency and presence": LogitProcessors(frequency_penalty=0.5, presence_penalty=0.5),
    "all three penalties": PENALTIES,
    "logit_bias of 300": LogitProcessors(logit_bias=tuple((7 * i, 1.0) for i in range(300))),
    "min_p": LogitProcessors(min_p=0.05),
    "nothing, again": NO_PROCESSORS,
}


def main() -> None:
    """Print milliseconds of a round, and by how much that is more than without processors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--drafts", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=1000, help="tokens")
    parser.add_argument("--output", type=int, default=500, help="tokens written before")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(2)
    num_tokens = options.prompt + options.output + options.drafts + 1
    target = _target(options.device, options.streams * -(-num_tokens // BLOCK_TOKENS))
    rounds = {
        form: _round(options.streams, options.drafts, options.prompt, options.output, processors)
        for form, processors in FORMS.items()
    }
    whole: dict[str, list[float]] = {form: [] for form in FORMS}
    alone: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(options.turns + 1):
        for form, round_ in rounds.items():
            some = _seconds(lambda round_=round_: target.run(round_))  # type: ignore[misc]
            of_rows = _processing_seconds(target, round_)
            if turn:  # the first one warms up
                whole[form].append(some)
                alone[form].append(of_rows)
    base = statistics.median(whole["nothing"])
    print(f"{options.streams} streams × {options.drafts} drafts, {VOCAB_SIZE:,} ids, ms of a round")
    for form in FORMS:
        middle = statistics.median(alone[form])
        print(
            f"{form:24} {_told(whole[form])}, processing {_told(alone[form])}, {middle / base:.2%}"
        )


def _told(seconds: list[float]) -> str:
    spread = f"{min(seconds) * 1e3:.2f} to {max(seconds) * 1e3:.2f}"
    return f"{1e3 * statistics.median(seconds):8.2f} ({spread})"


def _seconds(work: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at


def _processing_seconds(target: TorchTarget, round_: Round) -> float:
    """Of the rows alone, once the logits are there; on a GPU it waits for itself."""
    checks = [item.draft_check for item in round_.items if item.draft_check is not None]
    logits = target.logits(round_).clone()

    def work() -> None:
        with torch.inference_mode():
            if logits.is_cuda:
                _process_on_gpu(logits, checks)
                torch.cuda.synchronize()
            else:
                process_rows(logits, checks)

    if logits.is_cuda:
        torch.cuda.synchronize()
    return _seconds(work)


def _process_on_gpu(logits: Tensor, checks: Sequence[DraftCheck]) -> None:
    from verifier.torch_target.sampling.gpu_verification import processed_on_gpu  # needs Triton

    processed_on_gpu(logits, checks)


def _target(device: str, num_blocks: int) -> TorchTarget:
    is_small = device == "cpu"
    config = LlamaConfig(
        hidden_size=576 if is_small else 4096,
        intermediate_size=1536 if is_small else 14336,
        num_hidden_layers=2 if is_small else 32,
        num_attention_heads=9 if is_small else 32,
        num_key_value_heads=3 if is_small else 8,
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=8192,
        tie_word_embeddings=is_small,
    )
    dtype = torch.float32 if is_small else torch.bfloat16
    with torch.device(device):
        model = LlamaForCausalLM(config).to(dtype)
    shape = CacheShape(num_blocks=num_blocks, block_tokens=BLOCK_TOKENS, context_tokens=8192)
    return place_target(model, shape, device=torch.device(device), dtype=dtype, model_name="random")


def _round(
    num_streams: int, num_drafts: int, num_prompt: int, num_output: int, asked: LogitProcessors
) -> Round:
    """Every token of a prompt is another one; of an output every second."""
    num_cached = num_prompt + num_output
    num_blocks = -(-(num_cached + num_drafts + 1) // BLOCK_TOKENS)
    written = Written(range(num_prompt), [500 + i // 2 for i in range(num_output)])
    items = []
    for i in range(num_streams):
        drafts = tuple(1000 * j + i for j in range(num_drafts))
        check = DraftCheck(drafts, (), "coupled", SAMPLED, i, num_output, draws_bonus=True)
        check = msgspec.structs.replace(processed_check(check, asked, written), position=num_output)
        blocks = tuple(range(i * num_blocks, (i + 1) * num_blocks))
        items.append(RoundItem(i, (7, *drafts), num_cached, blocks, check))
    return Round(tuple(items))


if __name__ == "__main__":
    main()
