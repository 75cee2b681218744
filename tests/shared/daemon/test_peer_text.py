"""What others say is shown as one line, and drives no terminal."""

from __future__ import annotations

import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.daemon.peer_text import LogFormatter, one_line, terminal_text

FORGED = "model\n<0>12:00:00 ERROR   device kitchen: stolen\x1b[2J\x1b]0;title\x07\u202e\udcff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SmolLM2-135M", "SmolLM2-135M"),
        ("größer 模型", "größer 模型"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J\x9b", r"\x1b[2J\x9b"),
        ("\u2028\u202e\ufeff", r"\u2028\u202e\ufeff"),
        ("\udcff", r"\udcff"),
        ("x" * 300, "x" * 200 + "… (300 characters)"),
        (ValueError("a\nb"), r"a\nb"),
    ],
)
def test_a_line_escapes_what_is_not_printable_and_is_not_long(text: object, shown: str) -> None:
    assert shown == one_line(text)


@given(st.text())
def test_a_line_is_one_printable_line(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * 200 + 40


@given(st.text())
def test_text_for_a_terminal_has_no_other_controls_than_lines_and_tabs(text: str) -> None:
    shown = terminal_text(text)
    assert not {c for c in shown if (ord(c) < 32 or 127 <= ord(c) < 160) and c not in "\n\t"}
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(shown)


def record(message: str, *values: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("x", level, __file__, 1, message, values, None)


def test_no_text_forges_a_record() -> None:
    for for_journal in (False, True):
        formatted = LogFormatter(for_journal=for_journal).format(record("drafting with %s", FORGED))
        assert formatted.isprintable()
        assert "\n" not in formatted


def test_no_text_of_an_error_forges_a_record() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        failed = record("it failed", level=logging.ERROR)
        failed.exc_info = sys.exc_info()
    first, *rest = LogFormatter(for_journal=True).format(failed).split("\n")
    assert "<3>it failed" == first
    assert all(line.startswith("<3>  ") and line.isprintable() for line in rest)
    assert any("<0>12:00:00" in line for line in rest)


def test_a_console_has_the_time_and_a_journal_the_priority() -> None:
    assert LogFormatter(for_journal=False).format(record("on")).endswith(" INFO    on")
    warning = record("on", level=logging.WARNING)
    assert "<4>on" == LogFormatter(for_journal=True).format(warning)
