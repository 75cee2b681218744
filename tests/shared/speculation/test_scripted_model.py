"""The scripted language model is the same everywhere and as different as it is asked to be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.speculation.scripted_model import SCRIPTED_END_ID, ScriptedModel, scripted_token_bytes


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def acceptance(first: ScriptedModel, second: ScriptedModel) -> float:
    """1 − total variation, averaged over contexts."""
    contexts = np.random.default_rng(0).integers(0, first.vocab_size, (200, 2)).tolist()
    return float(
        np.mean(
            [
                np.minimum(
                    probabilities(first.logits(context)), probabilities(second.logits(context))
                ).sum()
                for context in contexts
            ]
        )
    )


def test_the_numbers_are_pinned_bit_for_bit() -> None:
    logits = ScriptedModel(64, seed=7).logits([2, 3])
    assert ["0x1.696ab00000000p+0", "0x1.1fc70c0000000p-1", "-0x1.e1dca80000000p+0"] == [
        float(value).hex() for value in logits[:3]
    ]


def test_a_perturbed_copy_is_pinned_bit_for_bit() -> None:
    logits = ScriptedModel(64, seed=7, disagreement=0.3, disagreement_seed=5).logits([2, 3])
    assert ["0x1.10d71c0000000p-1", "0x1.7b333c0000000p+1", "-0x1.df6f3e0000000p+1"] == [
        float(value).hex() for value in logits[:3]
    ]


def test_logits_depend_on_the_last_tokens_only() -> None:
    model = ScriptedModel(32, seed=1, order=2)
    assert np.array_equal(model.logits([9, 8, 1, 2]), model.logits((1, 2)))
    assert not np.array_equal(model.logits([1, 2]), model.logits([2, 1]))
    assert not np.array_equal(model.logits([2]), model.logits([0, 2]))


def test_a_model_of_order_0_ignores_all_tokens() -> None:
    model = ScriptedModel(32, seed=1, order=0)
    assert np.array_equal(model.logits([1, 2, 3]), model.logits([]))


def test_logits_are_float32_and_cannot_be_changed() -> None:
    logits = ScriptedModel(16, seed=1).logits([])
    assert (np.dtype(np.float32), (16,)) == (logits.dtype, logits.shape)
    with pytest.raises(ValueError, match="read-only"):
        logits[0] = 1.0


def test_sharpness_is_the_deviation_of_the_logits() -> None:
    logits = ScriptedModel(50_000, seed=3, sharpness=4.0).logits([5])
    assert 4.0 == pytest.approx(float(logits.std()), rel=0.02)
    assert 0.0 == pytest.approx(float(logits.mean()), abs=0.05)


def test_disagreement_keeps_the_deviation() -> None:
    logits = ScriptedModel(50_000, seed=3, sharpness=4.0, disagreement=0.5).logits([5])
    assert 4.0 == pytest.approx(float(logits.std()), rel=0.02)


def test_more_disagreement_means_less_acceptance() -> None:
    target = ScriptedModel(64, seed=2)
    rates = [
        acceptance(target, ScriptedModel(64, seed=2, disagreement=disagreement))
        for disagreement in (0.0, 0.05, 0.2, 0.5, 1.0)
    ]
    assert [1.0, 0.95, 0.81, 0.55, 0.09] == pytest.approx(rates, abs=0.03)


def test_two_disagreement_seeds_differ() -> None:
    one, two = (
        ScriptedModel(16, seed=2, disagreement=0.3, disagreement_seed=number) for number in (1, 2)
    )
    assert not np.array_equal(one.logits([1]), two.logits([1]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"vocab_size": 1}, "vocabulary of 1 tokens is smaller than 2"),
        ({"order": -1}, "order -1 is negative"),
        ({"disagreement": 1.5}, "disagreement 1.5 is not between 0 and 1"),
    ],
)
def test_impossible_models_are_refused(arguments: dict[str, float], sentence: str) -> None:
    settings: dict[str, float] = {"vocab_size": 16, "seed": 1, **arguments}
    with pytest.raises(ValueError, match=sentence):
        ScriptedModel(**settings)  # type: ignore[arg-type]


def test_the_vocabulary_is_readable_and_has_no_word_twice() -> None:
    token_bytes = scripted_token_bytes(10_000)
    assert b"<|end|>" == token_bytes[SCRIPTED_END_ID]
    assert (b" ba", b" zu", b" baba") == (token_bytes[1], token_bytes[70], token_bytes[71])
    assert 10_000 == len(set(token_bytes))
