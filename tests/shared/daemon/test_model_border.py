"""Whatever a library raises is one sentence behind the border; what is meant for others passes."""

from __future__ import annotations

import pytest

from shared.daemon.model_border import first_line, model_border
from shared.errors import ModelError, OutOfCache


class PanicException(BaseException):
    """As Rust code raises it."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("no such thing\nin seven lines"), "no such thing"),
        (ValueError("a field:\n  is wrong\n"), "a field:  is wrong"),
        (KeyError("added_tokens"), "KeyError: 'added_tokens'"),
        (AssertionError(), "AssertionError"),
        (MemoryError(), "MemoryError"),
        (PanicException("index out of range"), "PanicException: index out of range"),
    ],
)
def test_any_exception_is_one_sentence(error: BaseException, sentence: str) -> None:
    assert sentence == first_line(error)
    with pytest.raises(ModelError) as raised, model_border("cannot load x"):
        raise error
    assert f"cannot load x: {sentence}" == str(raised.value)
    assert error is raised.value.__cause__


@pytest.mark.parametrize("error", [OutOfCache("no room"), KeyboardInterrupt(), SystemExit(3)])
def test_what_is_meant_for_others_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, model_border("cannot load x"):
        raise error
    assert error is raised.value
