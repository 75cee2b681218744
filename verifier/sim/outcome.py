"""What a run came to: a value that is the same, byte for byte, whenever the same run is played."""

from __future__ import annotations

import msgspec
import numpy as np

from shared.speculation.fairness import jain_index, log_utility
from shared.speculation.goodput import FloatArray
from verifier.promises.promises import Promises
from verifier.sim.record import quantile
from verifier.sim.scenario import Scenario
from verifier.sim.world import World


class BoardOutcome(msgspec.Struct, frozen=True):
    """One board's part."""

    name: str
    tokens: int
    tokens_per_second: float  # while it had a stream open
    of_alone: float | None  # times what the target alone gave it
    acceptance: float | None  # of tested tokens
    draft_length: float | None  # tested tokens of a round that tested any of its
    first_token_seconds: float | None  # median
    pause_p50_seconds: float | None  # from verdict to verdict
    pause_p99_seconds: float | None
    in_time: float | None = None  # part of the tokens within their SLO; None: it has none


class Series(msgspec.Struct, frozen=True):
    """What happened in each bin of time."""

    seconds: tuple[float, ...]  # where bins begin
    tokens_per_second: tuple[tuple[float, ...], ...]  # by board
    draft_length: tuple[tuple[float, ...], ...]  # tested tokens per stream and round, by board
    log_goodput: tuple[float | None, ...]  # sum of ln(tokens/s) of boards with a stream open
    jain_index: tuple[float, ...]
    round_seconds: tuple[float, ...]  # mean
    round_tokens: tuple[float, ...]


class Outcome(msgspec.Struct, frozen=True):
    """What `simulate` tells."""

    scenario: str
    policy: str
    seed: int
    seconds: float
    num_rounds: int
    round_seconds: float  # mean
    round_tokens: float
    tokens_per_second: float  # of all boards together
    of_alone_mean: float | None  # geometric mean over boards
    of_alone_least: float | None
    log_goodput: float | None  # sum of ln(tokens/s); None: a board got nothing
    jain_index: float
    boards: tuple[BoardOutcome, ...]
    series: Series


def outcome_of(world: World, alone: World) -> Outcome:
    """The outcome of a world, next to the same one whose target was alone."""
    record, scenario = world.record, world.scenario
    speeds, speeds_alone = _speeds(world), _speeds(alone)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = speeds / speeds_alone
    known = ratios[np.isfinite(ratios)]
    num_rounds = int(record.rounds.sum())
    served = speeds[record.stream_seconds.sum(axis=0) > 0.0].tolist()
    log_goodput = log_utility(served)
    return Outcome(
        scenario=scenario.name,
        policy=scenario.rounds.policy,
        seed=scenario.run.seed,
        seconds=scenario.run.seconds,
        num_rounds=num_rounds,
        round_seconds=float(record.round_seconds.sum()) / max(num_rounds, 1),
        round_tokens=float(record.round_tokens.sum()) / max(num_rounds, 1),
        tokens_per_second=float(record.tokens.sum()) / scenario.run.seconds,
        of_alone_mean=float(np.exp(np.log(known).mean())) if (known > 0.0).any() else None,
        of_alone_least=float(known.min()) if len(known) else None,
        log_goodput=log_goodput if np.isfinite(log_goodput) else None,
        jain_index=jain_index(served),
        boards=tuple(_board(world, i, speeds, ratios) for i in range(len(world.boards))),
        series=_series(scenario, world),
    )


def _speeds(world: World) -> FloatArray:
    """Tokens per second of each board while it had a stream open [num_boards]."""
    open_seconds = world.record.stream_seconds.sum(axis=0)
    num_streams = np.array([board.group.streams for board in world.boards], dtype=np.float64)
    speeds: FloatArray = (
        world.record.tokens.sum(axis=0) * num_streams / np.maximum(open_seconds, 1e-9)
    )
    return speeds


def _board(world: World, i: int, speeds: FloatArray, ratios: FloatArray) -> BoardOutcome:
    record = world.record
    tested = float(record.tested[:, i].sum())
    drafted_rounds = float(record.drafted_rounds[:, i].sum())
    accepted = float(record.accepted[:, i].sum())
    reached = accepted + float(record.rejections[:, i].sum())
    return BoardOutcome(
        name=world.boards[i].name,
        tokens=int(record.tokens[:, i].sum()),
        tokens_per_second=float(speeds[i]),
        of_alone=float(ratios[i]) if np.isfinite(ratios[i]) else None,
        acceptance=accepted / reached if reached else None,
        draft_length=tested / drafted_rounds if drafted_rounds else None,
        first_token_seconds=quantile(record.first_token_seconds[i], 0.5),
        pause_p50_seconds=quantile(record.pauses[i], 0.5),
        pause_p99_seconds=quantile(record.pauses[i], 0.99),
        in_time=_in_time(world.planner.promises, world.boards[i].name),
    )


def _in_time(promises: Promises, board: str) -> float | None:
    counts = promises.counts.get(board)
    return None if counts is None else counts.in_time


def _series(scenario: Scenario, world: World) -> Series:
    record = world.record
    starts = np.arange(record.num_bins) * record.bin_seconds
    lengths = np.minimum(record.bin_seconds, scenario.run.seconds - starts)
    speeds = record.tokens / lengths[:, None]
    is_open = record.stream_seconds > 0.5 * lengths[:, None]
    drafts = record.tested / np.maximum(record.stream_rounds, 1.0)
    num_rounds = np.maximum(record.rounds, 1.0)
    of_open = [row[mask] for row, mask in zip(speeds, is_open, strict=True)]
    return Series(
        seconds=tuple(starts.tolist()),
        tokens_per_second=tuple(map(tuple, speeds.T.tolist())),
        draft_length=tuple(map(tuple, drafts.T.tolist())),
        log_goodput=tuple(
            float(np.log(row).sum()) if len(row) and row.min() > 0.0 else None for row in of_open
        ),
        jain_index=tuple(jain_index(row.tolist()) for row in of_open),
        round_seconds=tuple((record.round_seconds / num_rounds).tolist()),
        round_tokens=tuple((record.round_tokens / num_rounds).tolist()),
    )
