"""Greedy text is transformers' own in every architecture that is served; others say why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY
from tests.support.models.architecture_texts import generated, prompts_of
from tests.support.models.architectures import ARCHITECTURES, Architecture
from tests.support.models.drafted_streams import DraftedStreams
from tests.support.models.target_loading import load_on_cpu
from tests.support.models.tiny_checkpoint import tiny_config, tiny_model, write_checkpoint
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.architecture import check_architecture
from verifier.torch_target.loading.placement import place_target

NUM_TOKENS = 24
SERVED = [architecture for architecture in ARCHITECTURES if not architecture.refusal]
REFUSED = [architecture for architecture in ARCHITECTURES if architecture.refusal]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products of so few numbers take threads longer to divide than to compute."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def by_name(architecture: Architecture) -> str:
    return architecture.name


@pytest.mark.parametrize("architecture", SERVED, ids=by_name)
def test_greedy_text_with_drafts_is_that_of_transformers(
    architecture: Architecture, tmp_path: Path
) -> None:
    model = tiny_model(architecture)
    write_checkpoint(model, tmp_path)
    prompts = prompts_of(architecture)
    num_tokens = min(NUM_TOKENS, architecture.context_tokens - max(architecture.prompt_lengths) - 1)
    expected = [generated(model, prompt, num_tokens) for prompt in prompts]
    context_tokens = architecture.context_tokens
    placed = load_on_cpu(tmp_path, context_tokens=context_tokens, kv_cache_tokens=2048)
    for max_window in (0, 8):
        streams = DraftedStreams(placed.target, prompts, expected, GREEDY, num_tokens)
        assert expected == streams.run(max_window)


@pytest.mark.parametrize("architecture", REFUSED, ids=by_name)
def test_a_refused_architecture_says_why(architecture: Architecture) -> None:
    with pytest.raises(ModelError) as raised:
        place(architecture)
    assert architecture.refusal in str(raised.value)


def place(architecture: Architecture) -> None:
    check_architecture(tiny_config(architecture))  # what it does not see shows in a first round
    place_target(
        tiny_model(architecture),
        CacheShape(num_blocks=4, block_tokens=16, context_tokens=64),
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_name="tiny",
    )
