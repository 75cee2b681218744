"""Rates and losses go as the recipe says, and memory is known before it is taken."""

from __future__ import annotations

import msgspec
import pytest

from shared.errors import ModelError
from verifier.finetune.recipe.draft_shape import parse_shape
from verifier.finetune.recipe.estimates import TargetSize, disk_bytes, plan_memory
from verifier.finetune.recipe.recipe import Recipe

RECIPE = Recipe(parse_shape("256x8x640"))
SMOLLM = TargetSize(vocab_size=49_152, hidden=576, num_parameters=134_515_008, kv_numbers=11_520)


def test_distributions_come_first_and_acceptance_then() -> None:
    assert (1.0, 0.0) == (RECIPE.loss_weights(0.1).kl, RECIPE.loss_weights(0.1).total_variation)
    late = RECIPE.loss_weights(0.9)
    assert late.total_variation > late.kl > 0
    assert RECIPE.utility == late.utility


def test_rates_rise_stay_and_fall_to_nothing() -> None:
    assert 0.0 == RECIPE.rate(0.0) == RECIPE.rate(1.0)
    assert 1.0 == RECIPE.rate(0.3)
    assert 0.0 < RECIPE.rate(0.8) < RECIPE.rate(0.7) < 1.0


def test_all_stages_fit_into_the_minutes() -> None:
    before = RECIPE.asking_seconds + RECIPE.texts_seconds
    assert before + RECIPE.training_seconds(before) <= 600


def test_memory_that_is_small_means_fewer_texts() -> None:
    rich = plan_memory(RECIPE, SMOLLM, 78 << 30, 2, wanted_steps=20_000)
    poor = plan_memory(RECIPE, SMOLLM, 40 << 30, 2, wanted_steps=20_000)
    assert 20_000 == rich.num_steps > poor.num_steps > 256
    assert poor.peak_bytes <= 40 << 30
    assert "hidden states" in str(poor)


def test_memory_that_is_too_small_is_told_with_what_is_needed() -> None:
    with pytest.raises(ModelError, match=r"needs \d+\.\d GiB of memory, and 8.0 are free"):
        plan_memory(RECIPE, SMOLLM, 8 << 30, 2, wanted_steps=20_000)
    small = msgspec.structs.replace(RECIPE, slots=64)
    assert plan_memory(small, SMOLLM, 16 << 30, 2, wanted_steps=20_000).num_steps > 256


def test_the_disk_holds_two_checkpoints_and_the_draft() -> None:
    needed = disk_bytes(RECIPE, SMOLLM, 98_000_000, 10_000_000)
    assert 400e6 < needed < 1e9
