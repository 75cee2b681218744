"""What a request asks of the logits is done as vLLM, transformers and OpenAI describe it."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.processed_logits import processed
from shared.speculation.sampling import GREEDY, PLAIN_SAMPLING, SamplingParameters

Logits = NDArray[np.float32]
LOGITS = np.array([2.0, -1.0, 0.5, 0.0, 3.0, -np.inf], dtype=np.float32)


def made(
    processors: LogitProcessors,
    *,
    prompt: tuple[int, ...] = (),
    output: tuple[int, ...] = (),
    sampling: SamplingParameters = PLAIN_SAMPLING,
    logits: Logits = LOGITS,
) -> list[float]:
    row = processed(logits, processors, sampling, prompt_ids=prompt, output_ids=output, end_ids={3})
    assert np.float32 == row.dtype
    return row.tolist()


def test_nothing_is_asked_by_default() -> None:
    assert not NO_PROCESSORS.changes_logits
    assert LOGITS.tolist() == made(NO_PROCESSORS, prompt=(0, 1), output=(2, 2))


def test_a_frequency_penalty_counts_the_output_alone() -> None:
    row = made(LogitProcessors(frequency_penalty=0.5), prompt=(4, 4), output=(0, 1, 0))
    assert [1.0, -1.5, 0.5, 0.0, 3.0, -math.inf] == row


def test_a_presence_penalty_is_taken_once_and_may_be_a_bonus() -> None:
    row = made(LogitProcessors(presence_penalty=-1.0), prompt=(4,), output=(0, 1, 0))
    assert [3.0, 0.0, 0.5, 0.0, 3.0, -math.inf] == row


def test_a_repetition_penalty_is_that_of_transformers_over_prompt_and_output() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    seen = torch.tensor([[4, 4, 1, 0, 5]])
    row = made(LogitProcessors(repetition_penalty=1.3), prompt=(4, 4), output=(1, 0, 5))
    assert theirs(seen, torch.from_numpy(LOGITS.copy())[None])[0].tolist() == row


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_min_p_is_that_of_transformers_behind_temperature(temperature: float) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    logits = np.random.default_rng(1).normal(size=500).astype(np.float32)
    scaled = torch.from_numpy(logits / np.float32(temperature))[None]
    theirs = transformers.MinPLogitsWarper(min_p=0.1)(None, scaled)[0]
    sampling = SamplingParameters(temperature)
    row = np.array(made(LogitProcessors(min_p=0.1), sampling=sampling, logits=logits))
    assert (np.isfinite(row) == theirs.isfinite().numpy()).all()
    probs = dense_probabilities(row, sampling)
    assert theirs.double().softmax(0).numpy() == pytest.approx(probs, abs=1e-6)


def test_min_p_of_one_keeps_the_likeliest_and_in_greedy_it_is_off() -> None:
    assert [-math.inf] * 4 + [3.0, -math.inf] == made(LogitProcessors(min_p=1.0))
    assert LOGITS.tolist() == made(LogitProcessors(min_p=1.0), sampling=GREEDY)


def test_a_bias_is_added_before_penalties_and_can_bring_a_token_to_the_top() -> None:
    processors = LogitProcessors(logit_bias=((1, 5.0), (4, -100.0)), repetition_penalty=2.0)
    assert [2.0, 2.0, 0.5, 0.0, -97.0, -math.inf] == made(processors, output=(1,))


def test_until_min_tokens_neither_an_end_nor_a_stop_token_can_be_drawn() -> None:
    processors = LogitProcessors(min_tokens=2, stop_token_ids=(0,))
    assert [-math.inf, -1.0, 0.5, -math.inf, 3.0, -math.inf] == made(processors, output=(4,))
    assert LOGITS.tolist() == made(processors, output=(4, 4))


def test_ignore_eos_rules_out_the_models_ends_for_good_and_no_stop_token() -> None:
    processors = LogitProcessors(ignore_eos=True, stop_token_ids=(0,))
    assert [2.0, -1.0, 0.5, -math.inf, 3.0, -math.inf] == made(processors, output=(4,) * 9)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_is_never_hidden(broken: float) -> None:
    """At an end token that is ruled out, below min_p, behind every penalty."""
    logits = LOGITS.copy()
    logits[3] = broken
    processors = LogitProcessors(1.0, 1.0, 2.0, ((3, -100.0),), 1.0, 9, ignore_eos=True)
    row = made(processors, output=(3,), logits=logits)
    assert not math.isfinite(np.max(row))


NUMBERS = ("frequency_penalty", "presence_penalty", "repetition_penalty", "min_p")


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("frequency_penalty", -2.0, -2.01),
        ("frequency_penalty", 2.0, 1e308),
        ("presence_penalty", 2.0, 2.01),
        ("repetition_penalty", 0.01, 0.0),
        ("repetition_penalty", 100.0, -1.0),
        ("min_p", 1.0, 1.01),
        ("min_p", 5e-324, -5e-324),
        ("min_tokens", 1 << 24, -1),
        ("logit_bias", [[0, 100.0]], [[0, 100.1]]),
        ("logit_bias", [[(1 << 24) - 1, -100.0]], [[1 << 24, -100.0]]),
        ("logit_bias", [[i, 1.0] for i in range(1024)], [[i, 1.0] for i in range(1025)]),
        ("logit_bias", [], [[0, math.nan]]),
        ("stop_token_ids", list(range(128)), list(range(129))),
        ("stop_token_ids", [0], [-1]),
        *((field, 1.0, bad) for field in NUMBERS for bad in (math.nan, math.inf, -math.inf)),
    ],
)
def test_every_field_has_its_limits(field: str, allowed: object, refused: object) -> None:
    names = LogitProcessors.__struct_fields__
    place = names.index(field)
    given = list(msgspec.to_builtins(NO_PROCESSORS))
    given[place] = allowed
    msgspec.convert(given, LogitProcessors)
    given[place] = refused
    with pytest.raises(msgspec.ValidationError, match=rf"\$\[{place}\]"):
        msgspec.convert(given, LogitProcessors)
