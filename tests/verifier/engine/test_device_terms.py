"""What is kept of devices in a file, right or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from verifier.engine.device_terms import (
    FILE_NAME,
    NO_TERMS,
    AllTerms,
    DeviceTerms,
    pack_terms,
    read_terms,
)

terms = st.builds(
    DeviceTerms,
    st.text(max_size=80),
    st.booleans(),
    st.floats(0.001, 1000),
    st.none() | st.integers(0, 64),
)


@given(by_device=st.dictionaries(st.text("abc", min_size=1), terms))
def test_a_file_comes_back_without_those_of_which_nothing_is_set(
    by_device: dict[str, DeviceTerms], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / FILE_NAME
    path.write_bytes(pack_terms(AllTerms(by_device)))
    usual = DeviceTerms()
    assert {n: t for n, t in by_device.items() if t != usual} == read_terms(path).by_device


def test_where_there_is_no_file_nothing_is_set(tmp_path: Path) -> None:
    assert NO_TERMS == read_terms(tmp_path / FILE_NAME)


def test_only_what_differs_is_handed_on() -> None:
    found = AllTerms(
        {
            "a": DeviceTerms(weight=2.0),
            "b": DeviceTerms(is_paused=True, cap=0),
            "c": DeviceTerms(label="garage"),
        }
    )
    assert (frozenset({"b"}), {"a": 2.0}, {"b": 0}) == (found.paused, found.weights, found.caps)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"weight": 0}}',
        '{"a": {"weight": NaN}}',
        '{"a": {"weight": 1e9}}',
        '{"a": {"cap": -1}}',
        '{"a": {"cap": 65}}',
        '{"a": {"wieght": 2}}',
        '{"a": {"is_paused": "yes"}}',
        "\x00",
    ],
)
def test_a_file_that_is_wrong_is_one_sentence_with_its_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        read_terms(path)
    (sentence,) = raised.value.problems
    assert sentence.startswith(f"{path}: ")
    assert sentence.endswith("; `goodspeed-verifier devices` writes it anew where it is missing")
    assert "jSON" not in sentence
    assert "\n" not in sentence
