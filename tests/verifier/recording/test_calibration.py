"""Worlds that are known are found again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.errors import ConfigError
from tests.support.ends.recordings import known_lines, rounds_of
from verifier.recording.calibration import FittedBoard, calibrate, fit_target
from verifier.recording.recording_file import Recording, read_recording


def recorded(tmp_path: Path, **world: float) -> Recording:
    path = tmp_path / "r.jsonl"
    path.write_bytes(msgspec.json.Encoder().encode_lines(known_lines(**world)))  # type: ignore[arg-type]
    return read_recording(path)


def boards(recording: Recording) -> dict[str, FittedBoard]:
    return {board.device: board for board in calibrate(recording).boards}


def test_the_line_of_rounds_is_found(tmp_path: Path) -> None:
    target = fit_target(rounds_of(known_lines(num_rounds=4000)))
    assert 0.05 == pytest.approx(target.fixed_seconds, rel=0.02)
    assert 0.002 == pytest.approx(target.token_seconds, rel=0.1)
    assert 0.1 == pytest.approx(target.jitter, rel=0.1)


def test_rounds_that_are_alike_have_no_slope() -> None:
    rounds = [
        msgspec.structs.replace(round_, num_tokens=4, total_seconds=0.05)
        for round_ in rounds_of(known_lines())
    ]
    target = fit_target(rounds)
    assert (0.05, 0.0, 0.0) == (pytest.approx(target.fixed_seconds), target.token_seconds, 0.0)


def test_rounds_that_grow_with_their_tokens_alone_have_hardly_a_fixed_part() -> None:
    rounds = [
        msgspec.structs.replace(round_, total_seconds=1e-3 * round_.num_tokens**2)
        for round_ in rounds_of(known_lines())
    ]
    target = fit_target(rounds)
    assert target.fixed_seconds > 0.0
    assert target.token_seconds > 0.0


def test_tokens_of_prompts_have_a_price_of_their_own() -> None:
    rounds = rounds_of(known_lines(jitter=0.0))
    most = max(round_.num_tokens for round_ in rounds)
    with_prompts = [
        msgspec.structs.replace(
            round_,
            num_tokens=most + 40,
            chunk_tokens=40,
            total_seconds=0.05 + 0.002 * most + 0.0004 * 40,
        )
        for round_ in rounds[:5]
    ]
    target = fit_target(rounds, with_prompts)
    assert most == target.long_round_tokens
    assert 0.0004 == pytest.approx(target.long_token_seconds)
    assert 0.002 == pytest.approx(target.token_seconds)


def test_where_no_prompt_is_longer_no_price_of_long_rounds_is_known() -> None:
    rounds = rounds_of(known_lines())
    target = fit_target(rounds, rounds[:5])
    assert (None, 0.0) == (target.long_round_tokens, target.long_token_seconds)


def test_the_mean_of_rounds_is_met(tmp_path: Path) -> None:
    rounds = rounds_of(known_lines(jitter=0.3))
    target = fit_target(rounds)
    fitted = sum(target.fixed_seconds + target.token_seconds * r.num_tokens for r in rounds)
    mean_of_jitter = pytest.approx(sum(r.total_seconds for r in rounds) / fitted, rel=0.03)
    assert 2.718281828 ** (target.jitter**2 / 2) == mean_of_jitter


def test_a_board_that_drafts(tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    near = boards(recording)["near"]
    parts = [part for round_ in recording.rounds for part in round_.parts if part.stream == 1]
    differing = sum(part.num_accepted < part.num_tested for part in parts)
    assert sum(part.num_accepted for part in parts) + differing == near.num_tested
    assert near.num_tokens == len(near.trace.bits)
    assert 0.75 == pytest.approx(sum(near.trace.bits) / len(near.trace.bits), abs=0.05)
    assert (100.0, 0.02) == (near.draft_tokens_per_second, near.round_trip_seconds)
    assert ("coupled", 1, 12, 0) == (
        *(near.mode, near.num_streams, near.prompt_tokens, near.output_tokens),
    )
    assert near.leaves_at_seconds is None
    assert sum(part.num_accepted + 1 for part in parts) == near.num_tokens
    assert recording.seconds == pytest.approx(near.open_seconds)


def test_a_board_that_comes_and_goes(tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    idle = boards(recording)["idle"]
    rounds = recording.rounds
    assert (0, None, None) == (
        *(idle.num_tested, idle.draft_tokens_per_second, idle.round_trip_seconds),
    )
    assert (50, 100) == (idle.output_tokens, idle.num_tokens)
    assert rounds[99].at_seconds == idle.joins_at_seconds
    assert rounds[199].at_seconds - rounds[149].at_seconds == pytest.approx(idle.think_seconds)
    assert rounds[249].at_seconds == idle.leaves_at_seconds


def test_too_little_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^19 rounds without a prompt were recorded; 20 are"):
        calibrate(recorded(tmp_path, num_rounds=19))
