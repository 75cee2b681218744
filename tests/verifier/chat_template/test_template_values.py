"""How deep JSON is, whatever stands in its texts, and at what cost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.chat_template.template_values import depth_of, json_depth

VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('[]{}"\\a')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def deepest(value: Any) -> int:
    match value:
        case list():
            return 1 + max(map(deepest, value), default=0)
        case dict():
            return 1 + max(map(deepest, value.values()), default=0)
    return 0


@given(VALUES)
def test_depth_is_that_of_lists_and_objects_alone(value: Any) -> None:
    assert deepest(value) == depth_of(value) == json_depth(json.dumps(value))


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 500_000, '"' + '\\"' * 500_000 + "\\", '"' * 999_999]
)
def test_texts_without_an_end_are_read_once(text: str) -> None:
    began_at = time.thread_time()
    assert 0 == json_depth(text)
    assert time.thread_time() - began_at < 1.0
