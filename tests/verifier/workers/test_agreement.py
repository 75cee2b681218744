"""Workers whose targets differ are refused by name of what differs."""

from __future__ import annotations

import msgspec
import pytest

from shared.errors import ModelError
from tests.support.ends.scripted import TARGET
from tests.support.ends.workers import scripted_facts
from verifier.target.scripted_target import ScriptedTarget
from verifier.workers.agreement import check_agrees

FACTS = scripted_facts(ScriptedTarget(TARGET))


def test_another_cache_size_and_a_longer_context_are_no_difference() -> None:
    other = msgspec.structs.replace(FACTS, num_blocks=7, context_tokens=10**6, hardware="faster")
    check_agrees("b", other, FACTS)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("weights", "of another training run", "weights of another train instead of scripted"),
        ("vocabulary", b"12345678", "vocabulary 3132333435363738 instead of"),
        ("dtype", "bfloat16", "dtype bfloat16 instead of float64"),
        ("quantisation", "int4", "quantisation int4 instead of none"),
        ("batch_invariant", False, "batch_invariant False instead of True"),
        ("model_name", "llama", "model llama instead of scripted"),
    ],
)
def test_another_target_is_named(field: str, value: object, named: str) -> None:
    subject = msgspec.structs.replace(FACTS.subject, **{field: value})
    other = msgspec.structs.replace(FACTS, subject=subject)
    with pytest.raises(ModelError, match="the worker b has another target than the first one") as e:
        check_agrees("b", other, FACTS)
    assert named in str(e.value)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("block_tokens", 32, "target.block_tokens 32 not 16"),
        ("context_tokens", 100, "target.context_tokens 100 not 4096"),
        ("vocab_size", 65, "65 tokens instead of 64"),
    ],
)
def test_another_shape_is_named(field: str, value: int, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        check_agrees("b", msgspec.structs.replace(FACTS, **{field: value}), FACTS)
