"""Streams and planners for tests, and rounds whose outcomes the test writes down itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.protocol.draft_path import DraftToken, Extension
from shared.protocol.text import ByteAssembler
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import scripted_token_bytes
from shared.speculation.sparse_row import SparseRow
from tests.support.ends.limits import (
    make_budget_limits,
    make_round_settings,
    make_schedule_settings,
)
from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftPolicy, FixedPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.rounds.prefix_names import PrefixSharing
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest
from verifier.target.round import ItemOutcome, Round, RoundOutcome

END_ID = 0
TOKEN_BYTES = scripted_token_bytes(100)
ROW = SparseRow(np.array([1, 2], dtype=np.uint32), np.array([60000, 5535], dtype=np.uint16))


def make_stream(
    number: int = 1,
    *,
    device: str = "board",
    device_estimates: DeviceEstimates | None = None,
    stop: tuple[str, ...] = (),
    **request: Any,
) -> Stream:
    """A coupled stream with a prompt of 5 tokens that may say 20, unless told otherwise."""
    estimates = device_estimates or DeviceEstimates()
    settled: dict[str, Any] = {
        "prompt_ids": (11, 12, 13, 14, 15),
        "sampling": SamplingParameters() if request.get("mode") == "rejection" else GREEDY,
        "mode": "coupled",
        "seed": 7,
        "max_output_tokens": 20,
        "ends_at_context": False,
        "end_ids": frozenset({END_ID}),
        "draft_length": None,
        "draft_context_tokens": 1000,
    }
    return Stream(
        number=number,
        device=device,
        request=StreamRequest(**(settled | request)),
        text=ByteAssembler(TOKEN_BYTES, frozenset({END_ID}), stop),
        device_estimates=estimates,
        estimates=estimates.open_stream(),
    )


def make_planner(
    *,
    policy: DraftPolicy | None = None,
    num_blocks: int = 100,
    block_tokens: int = 4,
    budget_tokens: int | None = 64,
    max_round_tokens: int = 256,
    max_draft_length: int = 8,
    max_window: int = 20,
    uses_guard: bool = False,
    prefill_chunk_tokens: int = 64,
    draft_timeout_seconds: float = 5.0,
    is_barrier: bool = False,
    prefill_slowdown_limit: float = 1.0,
    device_prefill_slowdown_limit: float = 1.0,
    reserved_output_tokens: int = 256,
    prefix_sharing: PrefixSharing = "device",
    measures_payoff: bool = False,
) -> RoundPlanner:
    """A planner that lets boards draft 4 tokens at a time, unless told otherwise."""
    return RoundPlanner(
        make_round_settings(
            schedule=make_schedule_settings(
                limits=make_budget_limits(
                    max_round_tokens=max_round_tokens, budget_tokens=budget_tokens
                ),
                max_draft_length=max_draft_length,
                max_window=max_window,
                uses_guard=uses_guard,
                measures_payoff=measures_payoff,
            ),
            prefill_chunk_tokens=prefill_chunk_tokens,
            draft_timeout_seconds=draft_timeout_seconds,
            is_barrier=is_barrier,
            prefill_slowdown_limit=prefill_slowdown_limit,
            device_prefill_slowdown_limit=device_prefill_slowdown_limit,
            reserved_output_tokens=reserved_output_tokens,
            prefix_sharing=prefix_sharing,
        ),
        policy or FixedPolicy(4),
        make_curve(),
        BlockPool(num_blocks, block_tokens),
    )


def add(planner: RoundPlanner, *streams: Stream) -> None:
    """Open these streams."""
    for stream in streams:
        planner.add(stream)


def make_curve() -> CostCurve:
    """A round takes 0.1 s, and 1 ms more for every token."""
    return CostCurve.from_samples([(0, 16, 0.1), (100, 16, 0.2)])


def start(planner: RoundPlanner, now: float = 0.0) -> Round:
    """The next round, which must be one."""
    round_ = planner.start_round(now)
    assert round_ is not None
    return round_


def finish(
    planner: RoundPlanner,
    round_: Round,
    made: dict[int, tuple[int, int | None]] | None = None,
    now: float = 0.1,
) -> list[StreamResult]:
    """Settle a round in which the target made (num_accepted, token_id) of each stream.

    A stream that is not in `made` gets token 20 and none of its drafts.
    """
    outcomes = []
    for item in round_.items:
        num_accepted, token_id = (made or {}).get(item.stream, (0, 20))
        accept_probs = (0.5,) * len(item.draft_check.rows) if item.draft_check is not None else ()
        outcome = ItemOutcome(num_accepted, token_id, accept_probs)
        outcomes.append(None if item.draft_check is None else outcome)
    return planner.finish_round(round_, RoundOutcome(tuple(outcomes), 0.08, 0.01), 0.1, now)


def play(planner: RoundPlanner, now: float = 0.0) -> list[StreamResult]:
    """One round in which every stream gets token 20."""
    return finish(planner, start(planner, now), now=now + 0.1)


def served(round_: Round) -> dict[int, int]:
    """Tokens of each stream in a round."""
    return {item.stream: len(item.token_ids) for item in round_.items}


def draft(stream: Stream, *token_ids: int, now: float = 0.0, position: int | None = None) -> None:
    """The board's next draft arrives: in `rejection` a chunk with a row for every token."""
    send(stream, chunk(*token_ids, has_rows=stream.request.mode == "rejection"), now, position)


def send(
    stream: Stream,
    tokens: tuple[DraftToken, ...],
    now: float = 0.0,
    position: int | None = None,
    drafting_seconds: float = 0.0,
) -> None:
    """These tokens arrive, behind the live ones if no position is given."""
    if position is None:
        position = stream.position + len(stream.path.live)
    draft = Extension(stream.path.base, position, tokens)
    stream.receive_draft(draft, drafting_seconds, now)


def chunk(*token_ids: int, has_rows: bool = True) -> tuple[DraftToken, ...]:
    """Draft tokens as one chunk."""
    row = ROW if has_rows else None
    last = len(token_ids) - 1
    return tuple(DraftToken(token_id, row, i == last) for i, token_id in enumerate(token_ids))


def live_ids(stream: Stream) -> list[int]:
    """The draft tokens that are still worth something."""
    return [token.token_id for token in stream.path.live]
