from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.chat.word_wrap import PLAIN, WordWrap

UNDERLINED = ("<", ">")


def screen(written: str) -> list[str]:
    """The lines of a terminal that knows line feeds, cursor left and erase to the end of line."""
    lines = [""]
    for part in re.findall(r"\x1b\[\d+[A-Z]|\x1b\[K|.|\n", written):
        if part == "\n":
            lines.append("")
        elif part.endswith("D") and part.startswith("\x1b"):
            lines[-1] = lines[-1][: -int(part[2:-1])]
        elif part != "\x1b[K":
            lines[-1] += part
    return lines


def placed(pieces: list[str], width: int) -> list[str]:
    wrap = WordWrap()
    return screen("".join(wrap.place(piece, PLAIN, width) for piece in pieces))


def test_a_word_that_does_not_fit_goes_to_the_next_line() -> None:
    assert ["one two ", "three"] == placed(["one two three"], 11)


def test_a_word_in_pieces_is_taken_back_from_the_edge() -> None:
    assert ["one two ", "three"] == placed(["one two", " th", "r", "ee"], 11)


def test_the_styles_of_its_pieces_go_along() -> None:
    wrap = WordWrap()
    written = wrap.place("one th", PLAIN, 8) + wrap.place("ree", UNDERLINED, 8)
    assert "one th\x1b[2D\x1b[K\nth<ree>" == written


def test_spaces_are_never_styled() -> None:
    assert " <a>\n<b> " == WordWrap().place(" a\nb ", UNDERLINED, 80)


def test_a_word_longer_than_a_line_is_left_to_the_terminal() -> None:
    assert ["a " + "x" * 30] == placed(["a " + "x" * 30], 10)


def test_east_asian_text_breaks_between_any_two_characters() -> None:
    assert ["東京", "も雨", "です"] == placed(["東京も雨です"], 6)


@given(st.lists(st.text("ab \n", max_size=8), max_size=12), st.integers(10, 30))
def test_wrapping_adds_line_feeds_and_nothing_else(pieces: list[str], width: int) -> None:
    whole = "".join(pieces)
    assert whole.replace("\n", "") == "".join(placed(pieces, width)).replace("\n", "")


@given(st.lists(st.text("abc", min_size=1, max_size=5), max_size=20), st.integers(10, 30))
def test_words_shorter_than_a_line_stay_whole_and_lines_fit(words: list[str], width: int) -> None:
    pieces = [piece for word in words for piece in (*word, " ")]
    lines = placed(pieces, width)
    assert words == [word for line in lines for word in line.split()]
    assert max(len(line.rstrip()) for line in lines) < width
