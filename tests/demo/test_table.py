from __future__ import annotations

import io

from rich.console import Console

from tests.demo.figures import BoardFigures, PassFigures
from tests.demo.table import (
    Setting,
    board_sheet,
    exactness_sentence,
    gain_sentence,
    markdown,
    pass_sheet,
    terminal_table,
    total_sentence,
)


def board(tokens_per_second: float = 10.0, acceptance: float | None = 0.951) -> BoardFigures:
    return BoardFigures(
        acceptance=acceptance,
        draft_length=None if acceptance is None else 7.96,
        tokens_per_round=3.456,
        tokens_per_second=tokens_per_second,
        wire_bytes_per_token=88.6,
        first_token_seconds=0.314,
    )


def totals(tokens_per_second: float, seconds_per_round: float = 0.1) -> PassFigures:
    return PassFigures(
        tokens_per_second=tokens_per_second,
        jain_index=0.98765,
        log_goodput=7.001,
        seconds_per_round=seconds_per_round,
        tokens_per_round=24.0,
    )


ROWS = [
    ("off", "board-a", "Q4_1", board(acceptance=None)),
    ("rejection", "board-a", "Q4_1", board()),
]
PASSES = {"off": totals(40.0), "rejection": totals(30.0, 0.3)}


def test_a_board_without_drafts_has_no_acceptance() -> None:
    assert (
        ("off", "board-a", "Q4_1", "–", "–", "3.46", "10.0", "89", "0.31 s"),
        ("rejection", "board-a", "Q4_1", "95 %", "8.0", "3.46", "10.0", "89", "0.31 s"),
    ) == board_sheet(ROWS).rows


def test_all_boards_together_have_a_row_for_each_pass() -> None:
    assert (
        ("off", "40.0", "0.988", "7.00", "100 ms", "24.0"),
        ("rejection", "30.0", "0.988", "7.00", "300 ms", "24.0"),
    ) == pass_sheet(PASSES).rows


def test_markdown_aligns_figures_to_the_right() -> None:
    assert (
        "| speculation | tokens/s | Jain index | Σ log goodput | one round | tokens in it |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| off | 40.0 | 0.988 | 7.00 | 100 ms | 24.0 |\n"
        "\n"
        "One sentence.\n"
    ) == markdown([pass_sheet({"off": totals(40.0)})], ["One sentence."])


def test_the_tables_fit_into_80_columns_whole() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    for sheet in (board_sheet(ROWS), pass_sheet(PASSES)):
        console.print(terminal_table(sheet))
        for cell in (*sheet.rows[0], *sheet.rows[1]):
            assert cell in out.getvalue()
    assert "…" not in out.getvalue()
    assert 80 >= max(map(len, out.getvalue().splitlines()))


def test_a_loss_is_named_with_both_totals_and_its_reason() -> None:
    assert (
        "Together: 30.0 (rejection) tokens/s, against 40.0 with speculation off. Less in "
        "rejection, because all boards share 2 cores with the verifier: what drafting takes is "
        "missing there. A round took 100 ms with speculation off and 300 ms (rejection) with "
        "drafts. Boards that are machines of their own take nothing from it."
    ) == total_sentence(PASSES, 2)


def test_only_what_is_less_is_called_less() -> None:
    sentence = total_sentence(PASSES | {"coupled": totals(50.0, 0.2)}, 2)
    assert "30.0 (rejection) and 50.0 (coupled) tokens/s" in sentence
    assert "Less in rejection, because" in sentence


def test_a_gain_needs_no_reason() -> None:
    assert (
        "Together: 50.0 (rejection) and 40.0 (coupled) tokens/s, against 40.0 with speculation "
        "off. Speculation pays even with all programs on one machine."
    ) == total_sentence(
        {"off": totals(40.0), "rejection": totals(50.0), "coupled": totals(40.0)}, 8
    )


def test_the_gain_of_one_board_names_both_speeds() -> None:
    assert (
        "One board alone, greedy, Q4_1: 15.0 tokens/s with speculation, 10.0 without it on the "
        "same verifier, 1.50 times as fast (95 % accepted, 3.46 tokens/round); 3 of 3 answers are "
        "the same letter for letter."
    ) == gain_sentence("Q4_1", board(10.0, None), board(15.0), 3, 3)


def test_a_board_whose_drafts_never_came_in_time_gained_nothing() -> None:
    assert (
        "One board alone, greedy, Q4_1: no draft came in time, as other programs kept the cores "
        "busy; no gain was measured."
    ) == gain_sentence("Q4_1", board(10.0, None), board(11.0, None), 3, 3)


def test_exactness_counts_answers() -> None:
    assert (
        "9 of 9 answers in coupled are the same letter for letter as with speculation off and the "
        "same seed."
    ) == exactness_sentence("off", "coupled", 9, 9)


def test_the_setting_names_machine_and_date() -> None:
    setting = Setting("AMD EPYC", 2, 0.31, "2026-11-22", None)
    assert (
        "Real weights, real processes and sockets, one machine: AMD EPYC, 2 cores for all of them "
        "(load average before the start: 0.3), 2026-11-22."
    ) == setting.sentence()


def test_the_setting_names_the_commit_where_there_is_one() -> None:
    assert Setting("x", 2, 0.0, "2026-11-22", "abc123").sentence().endswith("commit abc123.")
