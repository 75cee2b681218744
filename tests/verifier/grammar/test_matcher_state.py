"""A stream's place in its grammar: masks against what the grammar itself says of each token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from shared.protocol.grammar import Grammar
from tests.support.models.text_vocabulary import END_IDS, TOKEN_BYTES, VOCAB_SIZE, TextTokenizer
from verifier.grammar import matcher_state
from verifier.grammar.matcher_state import MOST_FORCED_TOKENS, SAVED_ROUNDS, MatcherState
from verifier.grammar.token_table import TokenTable
from verifier.target.token_masks import allowed_tokens

TOKENIZER = TextTokenizer()
TABLE = TokenTable(
    TOKEN_BYTES, VOCAB_SIZE, TOKENIZER.special_ids, TOKENIZER.end_ids, TOKENIZER.encode_text
)
END, STOP = END_IDS


def state_of(lark: str, output: Sequence[int] = ()) -> MatcherState:
    state = MatcherState(partial(TABLE.matcher, lark), VOCAB_SIZE, TOKENIZER.end_ids)
    assert state.consume(output)
    return state


def ids(text: str) -> list[int]:
    return [TOKEN_BYTES.index(character.encode()) for character in text]


def allowed(state: MatcherState, drafts: Sequence[int] = ()) -> list[set[int]]:
    rows = allowed_tokens(state.masks(drafts), VOCAB_SIZE)
    return [set(np.flatnonzero(row).tolist()) for row in rows]


def forced(state: MatcherState) -> list[int]:
    state.masks(())
    state.most_mask_seconds = 0.0  # it may have taken long on a busy machine
    return list(state.advance((), 60.0))


def texts(token_ids: set[int]) -> set[bytes]:
    return {TOKEN_BYTES[i] for i in token_ids}


def test_a_mask_holds_the_tokens_that_some_text_goes_on_with() -> None:
    """By brute force over all texts of a language that has few."""
    language = ["abc, 12", "abc, ab", "bcna", "12"]
    state = state_of("start: " + " | ".join(f'"{text}"' for text in language))
    (row,) = allowed(state)
    expected = {
        i
        for i, piece in enumerate(TOKEN_BYTES)
        if i not in END_IDS and piece and any(text.encode().startswith(piece) for text in language)
    }
    assert expected == row
    assert 2 == sum(TOKEN_BYTES[i] == b"a" for i in row), "both ids of the same bytes"


def test_every_row_is_behind_its_draft_and_the_state_stays() -> None:
    state = state_of("start: /(ab|é)+[0-9]?/")
    drafts = [*ids("ab"), TOKEN_BYTES.index(b"ab"), *ids("7")]
    rows = allowed(state, drafts)
    assert [{b"a", b"ab", b"\xc3", "é".encode()}, {b"b"}] == [texts(row) for row in rows[:2]]
    for row in rows[2:4]:
        assert {END, STOP, *ids("0"), TOKEN_BYTES.index(b"ab")} <= row
    assert {END, STOP} == rows[4]
    assert rows == allowed(state, drafts)
    assert state.consume(drafts)
    assert [{END, STOP}] == allowed(state)
    assert 4 == state.num_consumed


@pytest.mark.parametrize("draft", [TOKEN_BYTES.index(b"x"), STOP, VOCAB_SIZE - 1])
def test_behind_a_draft_that_cannot_go_on_everything_may_come_and_nothing_is_lost(
    draft: int,
) -> None:
    state = state_of("start: /(ab)*/")
    everything = set(range(VOCAB_SIZE))
    before = allowed(state)
    assert [*before, everything, everything] == allowed(state, [draft, *ids("a")])
    assert not state.is_broken
    assert before == allowed(state)


def test_a_text_may_end_only_where_the_grammar_may() -> None:
    state = state_of('start: "ab" "c"?')
    assert [END not in row for row in allowed(state, ids("ab"))] == [True, True, False]


def test_padding_and_special_tokens_never_come() -> None:
    (row,) = allowed(state_of("start: /(.|\\n)*/"))
    assert {b"<|end|>", b"<|stop|>"} == {TOKEN_BYTES[i] for i in row if i in END_IDS}
    assert b"" not in texts(row)


def test_what_is_forced_is_cut_as_the_tokenizer_cuts_it() -> None:
    assert TOKENIZER.encode_text('{"name": ') == forced(state_of('start: "{\\"name\\": " /[0-9]/'))
    assert [] == forced(state_of('start: "a" | "b"'))
    assert MOST_FORCED_TOKENS == len(forced(state_of(f'start: "{"x" * 200}"')))


class SlowClock:
    """Each look at it takes a second, so that an answer takes one."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def rounds_asked(state: MatcherState, clock: SlowClock, num_rounds: int) -> list[bool]:
    asked = []
    for _ in range(num_rounds):
        before = clock.now
        state.advance((), 0.25)
        asked.append(clock.now > before)
    return asked


def test_a_stream_that_spent_its_share_of_rounds_is_not_asked_until_it_has_some_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, clock = state_of("start: /[ab]*/"), SlowClock()
    assert () == state.advance((), 0.25), "what a step may take is not known before a mask"
    state.masks(())
    monkeypatch.setattr(matcher_state, "time", clock)
    state.most_mask_seconds = 0.0
    expected = [True, False, True, False, False, False, True, False]
    assert expected == rounds_asked(state, clock, 8)
    state.most_mask_seconds = 1.0
    assert not any(rounds_asked(state, clock, 10 * SAVED_ROUNDS))
    state.most_mask_seconds = 0.0
    num_asked = sum(rounds_asked(state, clock, 100))
    assert abs(0.25 * (SAVED_ROUNDS + 100) - num_asked) <= 1, "not all is saved for ever"


def test_an_answer_that_saves_rounds_spends_less(monkeypatch: pytest.MonkeyPatch) -> None:
    state, clock = state_of(f'start: "{"name" * 50}"'), SlowClock()
    state.masks(())
    state.most_mask_seconds = 0.0
    monkeypatch.setattr(matcher_state, "time", clock)
    assert all(rounds_asked(state, clock, 20)), "of 32 tokens it takes a 33rd of a second for each"


ENDLESS = 'start: "!"? /[ab]/ loop\nloop: "ab1" loop'


def test_a_forced_text_without_end_goes_on_one_token_at_a_time() -> None:
    state, output = state_of(ENDLESS), ids("b")
    assert allowed(state_of('start: "!"? /[ab]/ /(ab1){50}/')) == allowed(state)
    assert state.consume(output)
    for number in range(200):
        expected = [b"ab1", b"b1a", b"1ab"][number % 3]
        (row,) = allowed(state)
        pieces = {piece for piece in TOKEN_BYTES if piece and (expected * 9).startswith(piece)}
        assert pieces == texts(row), "any cut of the text may come"
        assert [] == forced(state)
        assert state.consume(ids(expected[:1].decode()))
    assert not state.is_broken


@pytest.mark.parametrize("asks", [False, True])
def test_where_a_forced_text_has_no_end_masks_hang_on_the_output_alone(asks: bool) -> None:
    """Not on drafts, nor on whether a round asked what is forced, nor on where a stream began."""
    text = ids("!bab1ab1ab1ab1")
    alone = [allowed(state_of(ENDLESS, text[:number]))[0] for number in range(len(text))]
    state = state_of(ENDLESS)
    for number in range(len(text)):
        for num_drafts in range(len(text) - number):
            rows = allowed(state, text[number : number + num_drafts])
            assert alone[number : number + len(rows)] == rows
            assert rows, "there is always the one behind the output"
        if asks:
            state.advance(text[state.num_consumed : number + 1], 60.0)
        assert state.consume(text[state.num_consumed : number + 1])


def test_a_token_outside_the_grammar_breaks_it_for_good() -> None:
    state = state_of("start: /(ab)*/")
    assert not state.consume(ids("b"))
    assert state.is_broken
    assert not state.consume(ids("a"))


def test_an_ambiguous_grammar_breaks_at_its_limit_before_it_takes_long() -> None:
    state = state_of("start: s\ns: s s | /a/ | s s s")
    for _ in range(2000):
        state.masks(())
        if not state.consume(ids("a")):
            break
    assert state.is_broken


def test_masks_that_take_too_long_are_left_out_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher_state, "JOB_SECONDS", -1.0)
    state = state_of("start: /(ab)*/")
    assert 1 == len(state.masks(ids("abab")))
    monkeypatch.setattr(matcher_state, "JOB_SECONDS", 60.0)
    assert 5 == len(state.masks(ids("abab")))


def test_random_outputs_satisfy_a_schema() -> None:
    """The grammar is followed by tokens at random, as no model would choose them."""
    draws = np.random.default_rng(3)
    grammar = Grammar("regex", "(na|me|é|\\w\\d){2,4}")
    for _ in range(20):
        state, output = state_of(f"start: /{grammar.text}/"), b""
        while True:
            (row,) = allowed(state)
            token_id = int(draws.choice(sorted(row)))
            if token_id in END_IDS:
                break
            output += TOKEN_BYTES[token_id]
            assert state.consume((token_id,))
        assert re.fullmatch(grammar.text, output.decode())


@pytest.mark.parametrize("text", ["é" * 500, "a" * 499 + "é" + "b" * 100, "ab" * 50_000])
def test_of_a_long_text_that_is_forced_the_beginning_is_cut_as_in_the_whole(
    text: str,
) -> None:
    state = state_of(f'start: "{text}"')
    whole, output = TOKENIZER.encode_text(text[:200]), list[int]()
    while len(output) < 150:
        part = forced(state)
        assert part, "nothing was forced"
        assert [{part[0]}] == allowed(state)
        assert state.consume(part)
        output += part
    assert whole[:90] == output[:90]
