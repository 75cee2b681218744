"""A right history has no violations, and every way to spoil one is found and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any, TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.chats.history import Committed, StreamHistory, TakenUp, Undisturbed, violations

RIGHT = Undisturbed((5, 6, 7, 8), "abcd")
HISTORY = StreamHistory(
    stream="7",
    verdicts=(Committed(0, (5,)), Committed(1, (6, 7)), TakenUp(1), Committed(1, (6, 7, 8))),
    agent_ids=(5, 6, 7, 8),
    agent_pieces=("a", "bc", "d"),
    client_pieces=("a", "bc", "d"),
)

Part = TypeVar("Part")
Verdicts = tuple[TakenUp | Committed, ...]


def without(parts: Sequence[Part], i: int) -> tuple[Part, ...]:
    return (*parts[:i], *parts[i + 1 :])


def swapped(parts: Sequence[Part], i: int, j: int) -> tuple[Part, ...]:
    new = list(parts)
    new[i], new[j] = new[j], new[i]
    return tuple(new)


def spoilt(parts: Sequence[Part], other: Part) -> Iterator[tuple[Part, ...]]:
    """One part dropped, duplicated (anywhere later), swapped with another, changed or added."""
    for i, part in enumerate(parts):
        yield without(parts, i)
        yield (*parts[:i], other, *parts[i + 1 :])
        for j in range(i, len(parts)):
            yield (*parts[: j + 1], part, *parts[j + 1 :])
    for i, j in combinations(range(len(parts)), 2):
        yield swapped(parts, i, j)
    yield (*parts, other)


def splits(token_ids: tuple[int, ...], start: int = 0) -> Iterator[tuple[Committed, ...]]:
    """Every way to commit the tokens from `start` on in verdicts of at least one token."""
    if start == len(token_ids):
        yield ()
    for end in range(start + 1, len(token_ids) + 1):
        for rest in splits(token_ids, end):
            yield (Committed(start, token_ids[start:end]), *rest)


def small_runs() -> Iterator[Verdicts]:
    """Every split of three tokens, undisturbed, and taken up again once wherever it can be."""
    for first in splits((5, 6, 7)):
        yield first
        for num_before in range(len(first) + 1):
            before = first[:num_before]
            end = before[-1].position + len(before[-1].token_ids) if before else 0
            for position in range(end + 1):
                for rest in splits((5, 6, 7), position):
                    yield (*before, TakenUp(position), *rest)


def is_said_anew(verdicts: Verdicts, i: int) -> bool:
    """Whether the stream was taken up again just after this verdict, at its start or before."""
    after = verdicts[i + 1] if i + 1 < len(verdicts) else None
    return isinstance(after, TakenUp) and after.position <= verdicts[i].position


def of_verdicts(verdicts: Verdicts) -> list[str]:
    history = StreamHistory("7", verdicts, (5, 6, 7), ("abc",), ("abc",))
    return violations(history, Undisturbed((5, 6, 7), "abc"))


def test_a_right_history_has_no_violations() -> None:
    assert [] == violations(HISTORY, RIGHT)


def test_an_empty_output_is_right() -> None:
    empty = StreamHistory("7", (Committed(0, ()),), (), (), ())
    assert [] == violations(empty, Undisturbed((), ""))


def test_every_small_run_that_is_taken_up_again_is_right() -> None:
    runs = list(small_runs())
    assert len(runs) > 50
    assert [[]] * len(runs) == [of_verdicts(verdicts) for verdicts in runs]


def test_every_verdict_that_is_dropped_is_found_unless_it_was_said_anew() -> None:
    for verdicts in small_runs():
        for i, verdict in enumerate(verdicts):
            if isinstance(verdict, Committed):
                is_found = of_verdicts(without(verdicts, i)) != []
                assert is_found != is_said_anew(verdicts, i), (verdicts, i)


def test_every_verdict_that_comes_twice_is_found() -> None:
    for verdicts in small_runs():
        for i, verdict in enumerate(verdicts):
            if isinstance(verdict, Committed):
                assert of_verdicts((*verdicts[: i + 1], verdict, *verdicts[i + 1 :]))


def test_every_swap_of_verdicts_is_found() -> None:
    for verdicts in small_runs():
        for i, j in combinations(range(len(verdicts)), 2):
            new = swapped(verdicts, i, j)
            if new != verdicts:
                assert of_verdicts(new), (verdicts, i, j)


def test_every_changed_token_and_position_of_a_verdict_is_found() -> None:
    for verdicts in small_runs():
        for i, verdict in enumerate(verdicts):
            if isinstance(verdict, TakenUp):
                continue
            changed = [Committed(verdict.position + by, verdict.token_ids) for by in (-1, 1)]
            if not is_said_anew(verdicts, i):
                changed += [Committed(verdict.position, verdict.token_ids[1:])]
            changed += [Committed(verdict.position, (*verdict.token_ids, 9))]
            changed += [
                Committed(
                    verdict.position, (*verdict.token_ids[:k], 9, *verdict.token_ids[k + 1 :])
                )
                for k in range(len(verdict.token_ids))
            ]
            for new in changed:
                assert of_verdicts((*verdicts[:i], new, *verdicts[i + 1 :])), (verdicts, new)


def test_a_repetition_without_taking_up_is_found() -> None:
    for verdicts in small_runs():
        at = next((i for i, v in enumerate(verdicts) if isinstance(v, TakenUp)), None)
        if at is not None:
            end = sum(len(v.token_ids) for v in verdicts[:at] if isinstance(v, Committed))
            goes_back = verdicts[at].position < end
            assert goes_back == bool(of_verdicts(without(verdicts, at)))


def test_every_spoilt_record_of_tokens_is_found() -> None:
    for ids in product((5, 6), repeat=4):
        right = replace(HISTORY, verdicts=(Committed(0, ids),), agent_ids=ids)
        for new in spoilt(ids, 9):
            history = replace(right, agent_ids=new)
            assert (new == ids) == ([] == violations(history, Undisturbed(ids, "abcd")))


def test_every_spoilt_piece_is_found_on_either_side() -> None:
    for pieces in product(("a", "aa", "b"), repeat=3):
        right = replace(HISTORY, agent_pieces=pieces, client_pieces=pieces)
        undisturbed = Undisturbed(RIGHT.token_ids, "".join(pieces))
        for new in spoilt(pieces, "é"):
            by_agent = violations(replace(right, agent_pieces=new), undisturbed)
            by_client = violations(replace(right, client_pieces=new), undisturbed)
            assert (new == pieces) == ([] == by_agent) == ([] == by_client)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"verdicts": (*HISTORY.verdicts[:2], Committed(4, ()))},
            "a verdict at position 4 leaves a gap after 3",
        ),
        (
            {"verdicts": without(HISTORY.verdicts, 2)},
            "a verdict at position 1 repeats what was said up to 3",
        ),
        (
            {"verdicts": (Committed(0, (5,)), TakenUp(2), Committed(2, (7, 8)))},
            "it was taken up at position 2, but the verifier had said only what is before 1",
        ),
        (
            {"verdicts": (*HISTORY.verdicts[:3], TakenUp(0), Committed(0, (5, 6, 7, 8)))},
            "it was taken up at position 0, after the agent had committed 1",
        ),
        (
            {"verdicts": (*HISTORY.verdicts[:3], Committed(1, (6, 9, 8)))},
            "the verdict at position 1 has token 9 at position 2, not 7",
        ),
        (
            {"verdicts": (*HISTORY.verdicts, Committed(4, (9,)))},
            "the verdict at position 4 goes on to 5, but the output ends at 4",
        ),
        ({"verdicts": HISTORY.verdicts[:2]}, "the verdicts end at position 3 of 4"),
        ({"agent_ids": (5, 6)}, "the agent's tokens end at position 2 of 4"),
        (
            {"agent_ids": (5, 6, 7, 8, 9)},
            "the agent has token 9 at position 4, where the output has ended",
        ),
        ({"agent_ids": (5, 7, 6, 8)}, "the agent has token 7 at position 1, not 6"),
    ],
)
def test_the_sentence_names_stream_position_and_what_differs(
    change: dict[str, Any], sentence: str
) -> None:
    assert [f"stream 7: {sentence}"] == violations(replace(HISTORY, **change), RIGHT)


@pytest.mark.parametrize(
    ("pieces", "in_text", "in_pieces"),
    [
        (("a", "bc"), "text ends at character 3 of 4, before 'd'", "2 pieces of 3"),
        (
            ("a", "bc", "d", "d"),
            "text has 'd' at character 4, where the output has ended",
            "'d' as piece 3, after the last one sent",
        ),
        (("a", "d", "bc"), "text has 'dbc' at character 1, not 'bcd'", "'d' as piece 1, not 'bc'"),
    ],
)
def test_the_clients_sentences_name_character_and_piece(
    pieces: tuple[str, ...], in_text: str, in_pieces: str
) -> None:
    assert [
        f"stream 7: the client's {in_text}",
        f"stream 7: the client has received {in_pieces}",
    ] == violations(replace(HISTORY, client_pieces=pieces), RIGHT)


def test_pieces_that_are_cut_elsewhere_are_named_even_if_the_text_is_right() -> None:
    history = replace(HISTORY, client_pieces=("ab", "cd"))
    assert ["stream 7: the client has received 'ab' as piece 0, not 'a'"] == violations(
        history, RIGHT
    )


@st.composite
def right_histories(draw: st.DrawFn) -> tuple[StreamHistory, Undisturbed]:
    """A run with any number of interruptions, verdicts of any length and repeating tokens."""
    ids = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=12)))
    verdicts: list[TakenUp | Committed] = []
    position = taken_up_at = 0
    num_interruptions = draw(st.integers(0, 4))
    while position < len(ids):
        end = draw(st.integers(position + 1, len(ids)))
        verdicts.append(Committed(position, ids[position:end]))
        position = end
        if num_interruptions and draw(st.booleans()):
            num_interruptions -= 1
            position = taken_up_at = draw(st.integers(taken_up_at, position))
            verdicts.append(TakenUp(position))
    pieces = tuple(draw(st.lists(st.text("abé", min_size=1, max_size=3), max_size=8)))
    history = StreamHistory("7", tuple(verdicts), ids, pieces, pieces)
    return history, Undisturbed(ids, "".join(pieces))


@given(right_histories())
def test_any_right_history_has_no_violations(case: tuple[StreamHistory, Undisturbed]) -> None:
    assert [] == violations(*case)


@given(
    right_histories(), st.sampled_from(["agent_ids", "agent_pieces", "client_pieces"]), st.data()
)
def test_any_single_mutation_of_a_record_is_found(
    case: tuple[StreamHistory, Undisturbed], field: str, data: st.DataObject
) -> None:
    history, undisturbed = case
    parts = getattr(history, field)
    new = data.draw(st.sampled_from(list(spoilt(parts, 9 if field == "agent_ids" else "z"))))
    assume(new != parts)
    assert violations(replace(history, **{field: new}), undisturbed)


@given(right_histories(), st.data())
def test_any_single_mutation_of_a_verdict_is_found(
    case: tuple[StreamHistory, Undisturbed], data: st.DataObject
) -> None:
    history, undisturbed = case
    verdicts = history.verdicts
    places = [i for i, verdict in enumerate(verdicts) if isinstance(verdict, Committed)]
    i = data.draw(st.sampled_from(places))
    verdict = verdicts[i]
    assert isinstance(verdict, Committed)
    at = data.draw(st.integers(0, len(verdict.token_ids) - 1))
    wrong = Committed(verdict.position, (*verdict.token_ids[:at], 9, *verdict.token_ids[at + 1 :]))
    mutations: list[Verdicts] = [
        (*verdicts[: i + 1], verdict, *verdicts[i + 1 :]),
        (*verdicts[:i], wrong, *verdicts[i + 1 :]),
    ]
    if not is_said_anew(verdicts, i):
        mutations.append(without(verdicts, i))
    if i + 1 < len(verdicts):
        mutations.append(swapped(verdicts, i, i + 1))
    for new in mutations:
        assert violations(replace(history, verdicts=new), undisturbed), new
