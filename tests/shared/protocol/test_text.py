"""Text comes out piece by piece, never too early, and is what the whole byte string says."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.text import ByteAssembler, TextAssembler

SPECIAL_ID = 0


def pieces_of(tokens: Sequence[bytes], stop: Sequence[str] = ()) -> list[str]:
    """What comes out for each token, and last what `close` gives."""
    assembler = TextAssembler(tokens, frozenset(), stop)
    pieces = [assembler.push(token_id) for token_id in range(len(tokens))]
    return [*pieces, assembler.close()]


def whole_text(content: bytes, stop: Sequence[str]) -> tuple[str, int, bool]:
    """Text, its bytes and whether a stop string ended it, read off the whole byte string."""
    stops = [stop_string.encode() for stop_string in stop]
    for end in range(len(content) + 1):
        complete = [len(s) for s in stops if content[:end].endswith(s)]
        if complete:
            start = end - max(complete)
            return content[:start].decode(errors="replace"), start, True
    return content.decode(errors="replace"), len(content), False


# Few letters, so that stop strings begin often; bytes of characters of every length; broken ones.
token_bytes = st.lists(
    st.sampled_from(
        [b"a", b"b", b"ab", b"ba", b"aab", b"", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80"]
    )
    | st.text("abé😀", max_size=3).map(str.encode)
    | st.binary(max_size=3),
    max_size=25,
)
stop_strings = st.lists(st.text("abé😀", min_size=1, max_size=4), max_size=3)


# --- characters -------------------------------------------------------------------------------


def test_ascii_comes_out_at_once() -> None:
    assert ["Hel", "lo", ""] == pieces_of([b"Hel", b"lo"])


def test_a_character_comes_out_with_its_last_byte() -> None:
    first, second, third, fourth = "😀".encode()[:1], b"\x9f", b"\x98", b"\x80!"
    assert ["", "", "", "😀!", ""] == pieces_of([first, second, third, fourth])


def test_what_is_whole_does_not_wait_for_an_unfinished_character() -> None:
    assert ["caf", "é", ""] == pieces_of([b"caf\xc3", b"\xa9"])


def test_an_unfinished_character_at_the_end_is_replaced() -> None:
    assert ["a", "\ufffd"] == pieces_of([b"a\xf0\x9f\x98"])


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert ["a\ufffdb", "\ufffdc", ""] == pieces_of([b"a\xffb", b"\x80c"])


def test_special_ids_print_nothing_and_hide_no_stop_string() -> None:
    assembler = TextAssembler([b"<end>", b"S", b"TOP"], frozenset({SPECIAL_ID}), ["STOP"])
    assert ["", "", ""] == [assembler.push(token_id) for token_id in (1, SPECIAL_ID, 2)]
    assert assembler.is_stopped


def test_padding_beyond_the_known_vocabulary_prints_nothing() -> None:
    assembler = TextAssembler([b"a"], frozenset(), ["stop"])
    assert ["a", "", "a"] == [assembler.push(token_id) for token_id in (0, 7, 0)]


# --- stop strings -----------------------------------------------------------------------------


def test_text_ends_before_a_stop_string_inside_a_token() -> None:
    assert ["one ", "", ""] == pieces_of([b"one STOP two", b"three"], ["STOP"])


def test_a_stop_string_is_found_over_token_borders() -> None:
    assert ["one ", "", "", "", ""] == pieces_of([b"one S", b"T", b"OP", b"!"], ["STOP"])


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    assert ["one ", "", "STEP", ""] == pieces_of([b"one S", b"T", b"EP"], ["STOP"])


def test_what_was_held_back_comes_out_at_the_end() -> None:
    assert ["one ", "STO"] == pieces_of([b"one STO"], ["STOP"])


def test_only_the_longest_possible_beginning_is_held_back() -> None:
    assert ["aab", "aa"] == pieces_of([b"aabaa"], ["aac"])


def test_a_beginning_inside_another_beginning_is_seen() -> None:
    assert ["a", "", ""] == pieces_of([b"aaab", b"c"], ["aabc"])


def test_the_stop_string_that_is_complete_first_counts() -> None:
    assert ["a", "", ""] == pieces_of([b"abc", b"d"], ["abcd", "bc"])


def test_token_borders_do_not_decide_which_stop_string_counts() -> None:
    assert "a" == "".join(pieces_of([b"abcd"], ["abcd", "bc"]))
    assert "a" == "".join(pieces_of([b"a", b"b", b"c", b"d"], ["abcd", "bc"]))


def test_of_stop_strings_that_are_complete_at_once_the_longest_counts() -> None:
    assert ["", "", ""] == pieces_of([b"ab", b"c"], ["c", "bc", "abc"])


def test_a_stop_string_after_an_unfinished_character_leaves_a_replacement() -> None:
    assert ["", "", "\ufffd"] == pieces_of([b"\xf0\x9f", b"STOP"], ["STOP"])


def test_a_stop_string_may_hold_characters_of_many_bytes() -> None:
    heart = "❤".encode()
    assert ["I ", "", "", ""] == pieces_of([b"I " + heart[:1], heart[1:2], heart[2:]], ["❤"])


def test_nothing_comes_after_a_stop_string() -> None:
    assembler = TextAssembler([b"a", b"."], frozenset(), ["."])
    assert ["a", "", "", ""] == [assembler.push(token_id) for token_id in (0, 1, 0, 1)]
    assert (1, True) == (assembler.num_bytes, assembler.is_stopped)


@settings(max_examples=400)
@given(token_bytes, stop_strings)
def test_the_pieces_are_the_text_of_the_whole_byte_string(
    tokens: list[bytes], stop: list[str]
) -> None:
    assembler = TextAssembler(tokens, frozenset(), stop)
    text = "".join([assembler.push(token_id) for token_id in range(len(tokens))])
    text += assembler.close()
    expected = whole_text(b"".join(tokens), stop)
    assert expected == (text, assembler.num_bytes, assembler.is_stopped)


@settings(max_examples=400)
@given(token_bytes, stop_strings)
def test_nothing_comes_out_that_a_later_token_could_take_back(
    tokens: list[bytes], stop: list[str]
) -> None:
    assembler = TextAssembler(tokens, frozenset(), stop)
    given_out = ""
    for token_id in range(len(tokens)):
        given_out += assembler.push(token_id)
        so_far = b"".join(tokens[: token_id + 1])
        for ending in (b"", *(s.encode()[i:] for s in stop for i in range(1, len(s.encode())))):
            assert whole_text(so_far + ending, stop)[0].startswith(given_out)


@given(token_bytes, stop_strings)
def test_only_beginnings_of_stop_strings_and_of_characters_are_held_back(
    tokens: list[bytes], stop: list[str]
) -> None:
    assembler = TextAssembler(tokens, frozenset(), stop)
    beginnings = {s.encode()[:length] for s in stop for length in range(1, len(s.encode()))}
    given_out = ""
    for token_id in range(len(tokens)):
        given_out += assembler.push(token_id)
        if assembler.is_stopped:
            break
        so_far = b"".join(tokens[: token_id + 1])
        num_uncertain = max((len(b) for b in beginnings if so_far.endswith(b)), default=0)
        certain = so_far[: len(so_far) - num_uncertain]
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        assert decoder.decode(certain) == given_out


# --- the other end says how much counts -------------------------------------------------------


@settings(max_examples=400)
@given(token_bytes, stop_strings, st.sampled_from(["stop", "length"]))
def test_both_ends_make_the_same_text_when_one_is_told_the_bytes(
    tokens: list[bytes], stop: list[str], reason: str
) -> None:
    verifier = TextAssembler(tokens, frozenset(), stop)
    agent = TextAssembler(tokens, frozenset(), stop)
    verifier_text = agent_text = ""
    for token_id in range(len(tokens)):
        verifier_text += verifier.push(token_id)
        agent_text += agent.push(token_id)
        if reason == "stop" and verifier.is_stopped:
            break
    num_bytes = verifier.num_bytes
    assert verifier_text + verifier.close() == agent_text + agent.cut(num_bytes)
    assert (num_bytes, True) == (agent.num_bytes, agent.is_stopped)


@settings(max_examples=400)
@given(token_bytes, stop_strings)
def test_a_text_that_is_cut_off_is_that_of_its_whole_characters(
    tokens: list[bytes], stop: list[str]
) -> None:
    verifier = ByteAssembler(tokens, frozenset(), stop)
    agent = TextAssembler(tokens, frozenset(), stop)
    text = ""
    for token_id in range(len(tokens)):
        verifier.push(token_id)
        text += agent.push(token_id)
    num_bytes = verifier.num_whole_bytes
    assert num_bytes == agent.num_whole_bytes
    _, num_all, is_stopped = whole_text(b"".join(tokens), stop)
    content = b"".join(tokens)[:num_all]
    # As Python decodes what may go on: a last character that is not complete is left out.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    expected = decoder.decode(content, final=is_stopped)
    assert (expected, num_bytes) == (text + agent.cut(num_bytes), verifier.num_whole_bytes)
    assert content[:num_bytes].decode(errors="replace") == expected


@given(token_bytes, st.lists(st.lists(st.integers(0, 30), max_size=40), max_size=6), st.booleans())
def test_tokens_that_are_counted_together_count_as_one_by_one(
    tokens: list[bytes], parts: list[list[int]], is_pushed_last: bool
) -> None:
    pushed = ByteAssembler(tokens, frozenset({SPECIAL_ID}))
    counted = ByteAssembler(tokens, frozenset({SPECIAL_ID}))
    for part in parts:
        for token_id in part:
            pushed.push(token_id)
        counted.count(part)
    if is_pushed_last:
        assert pushed.push(1) == counted.push(1)
    assert pushed.num_whole_bytes == counted.num_whole_bytes
    assert pushed.num_bytes == counted.num_bytes == counted.num_bytes_out


@pytest.mark.parametrize(
    ("num_bytes", "rest"), [(0, ""), (4, ""), (5, "S"), (6, "ST"), (7, "ST"), (99, "ST")]
)
def test_cut_gives_out_no_more_than_was_said_and_is_there(num_bytes: int, rest: str) -> None:
    assembler = TextAssembler([b"one ST"], frozenset(), ["STOP"])
    assert "one " == assembler.push(0)
    assert rest == assembler.cut(num_bytes)


def test_a_character_that_a_limit_cuts_in_two_is_left_out() -> None:
    assembler = TextAssembler([b"a\xffb\xf0\x9f", b"\x98"], frozenset())
    assert ("a\ufffdb", "") == (assembler.push(0), assembler.push(1))
    assert (6, 3) == (assembler.num_bytes, assembler.num_whole_bytes)
    assert "" == assembler.cut(3)


def test_bytes_of_a_character_that_count_are_replaced() -> None:
    assembler = TextAssembler([b"a\xf0\x9f\x98"], frozenset())
    assert "a" == assembler.push(0)
    assert "\ufffd" == assembler.cut(4)


def test_cut_through_a_character_leaves_a_replacement() -> None:
    assembler = TextAssembler([b"a\xc3"], frozenset(), ["\u00e9!"])
    assert "a" == assembler.push(0)
    assert "\ufffd" == assembler.cut(2)


def test_cut_after_a_stop_string_adds_nothing() -> None:
    assembler = TextAssembler([b"one STOP"], frozenset(), ["STOP"])
    assert ("one ", "") == (assembler.push(0), assembler.cut(4))


def test_nothing_comes_after_a_cut() -> None:
    assembler = TextAssembler([b"a"], frozenset())
    assert ("a", "", "", "") == (
        assembler.push(0),
        assembler.cut(1),
        assembler.push(0),
        assembler.close(),
    )
