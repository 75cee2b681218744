"""A draft model drafts what the target has, and reads what only that has as another id."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.draft_model.drafter import Drafter, Forward
from edge_agent.draft_model.scripted_drafter import scripted_drafter
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes

MODEL = ScriptedModel(vocab_size=16, seed=4, order=3)


def shared() -> SharedVocabulary:
    return SharedVocabulary(scripted_drafter(MODEL, num_slots=3, context_tokens=8))


def logits_of(drafter: Drafter, *token_ids: int) -> np.ndarray:
    drafter.truncate(0, 0)
    [logits] = drafter.forward([Forward(0, token_ids)])
    assert logits is not None
    return logits


def test_as_long_as_nothing_else_is_known_it_is_the_draft_model() -> None:
    drafter = shared()
    plain: Drafter = scripted_drafter(MODEL, num_slots=3, context_tokens=8)
    for name in ("model_name", "vocab_size", "context_tokens", "num_slots", "token_bytes"):
        assert getattr(plain, name) == getattr(drafter, name)
    assert np.array_equal(MODEL.logits([1, 2]), logits_of(drafter, 1, 2))
    assert 2 == drafter.num_tokens(0)
    assert (16, 0) == (drafter.num_shared, drafter.num_lacked)


@pytest.mark.parametrize("padding", [0, 1, 20])
def test_ids_that_the_target_lacks_are_never_likely(padding: int) -> None:
    drafter = shared()
    drafter.take_vocabulary(scripted_token_bytes(12) + (b"",) * padding)
    logits = logits_of(drafter, 1, 2)
    assert np.array_equal(MODEL.logits([1, 2])[:12], logits[:12])
    assert (-np.inf == logits[12:]).all()
    assert (12, 4) == (drafter.num_shared, drafter.num_lacked)
    drafter.take_vocabulary(drafter.own_token_bytes)
    assert np.array_equal(MODEL.logits([1, 2]), logits_of(drafter, 1, 2))


def test_ids_that_only_the_target_has_are_read_as_the_last_one() -> None:
    drafter = shared()
    drafter.take_vocabulary(scripted_token_bytes(40))
    assert scripted_token_bytes(40) == drafter.token_bytes
    assert np.array_equal(MODEL.logits([1, 15, 2]), logits_of(drafter, 1, 39, 2))
    assert (16, 0) == (drafter.num_shared, drafter.num_lacked)
    assert [None] == drafter.forward([Forward(1, (30,), wants_logits=False)])
    assert 1 == drafter.num_tokens(1)
